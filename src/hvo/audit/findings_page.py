"""`docs/findings.md`, made of the rules: `python -m hvo.audit.findings_page > docs/findings.md`."""

from hvo.audit.rules import RULES

_HEAD = """# Findings of `hvo audit`

Made by `python -m hvo.audit.findings_page` of `src/hvo/audit/rules.py`. A finding has the `id` of its rule. It names the frame (of a HugeTLB
page: its head), the virtual address, the entry and the expected value. An *error* means that the vmemmap is inconsistent or memory is lost; a
*warning* means neither.

| id | severity | rule |
|---|---|---|
"""


def findings_page() -> str:
    """The page, in Markdown."""
    table = "".join(
        f"| [`{rule.id}`](#{rule.id}) | {rule.severity} | {rule.sentence} |\n"
        for rule in RULES.values()
    )
    parts = (
        f"\n## {rule.id}\n\n{rule.sentence}\n\n* breaks it: {rule.bad}\n* does not: {rule.good}\n"
        for rule in RULES.values()
    )
    return _HEAD + table + "".join(parts)


if __name__ == "__main__":
    print(findings_page(), end="")
