"""`docs/findings.md`, made of the rules: `python -m hvo.audit.findings_page > docs/findings.md`."""

from hvo.audit.rules import RULES

_HEAD = """# What `hvo audit` finds

Made by `python -m hvo.audit.findings_page` of the rules in `src/hvo/audit/rules.py`. Each finding has the `id` of its rule and names the
frame (of a HugeTLB page: its head's), the virtual address, the entry found there and what was expected. An *error* means that the vmemmap
is unsound or memory is lost, a *warning* that it is sound, but that somebody should know.

| id | severity | what must hold |
|---|---|---|
"""


def findings_page() -> str:
    """The page, in Markdown."""
    table = "".join(
        f"| [`{rule.id}`](#{rule.id}) | {rule.severity} | {rule.sentence} |\n"
        for rule in RULES.values()
    )
    parts = (
        f"\n## {rule.id}\n\n{rule.sentence}\n\n* bad: {rule.bad}\n* good: {rule.good}\n"
        for rule in RULES.values()
    )
    return _HEAD + table + "".join(parts)


if __name__ == "__main__":
    print(findings_page(), end="")
