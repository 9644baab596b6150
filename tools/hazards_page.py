"""`docs/hazards.md`: the story of every hazard, made of `hvo.vmemmap.hazards` and of the rows of the
checker's benchmark.
"""

from hvo.check.scenarios.case import Case
from hvo.check.scenarios.hazards import CASES
from hvo.vmemmap.era import FIXES
from hvo.vmemmap.hazards.commit import Commit
from hvo.vmemmap.hazards.hazard import Hazard
from hvo.vmemmap.hazards.registry import HAZARDS

_COMMIT = "https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/commit/?id="
_HEAD = """# Hazards

Made by `make reference` of `src/hvo/vmemmap/hazards`. A hazard is a defect of vmemmap optimisation: in a released kernel, in one under
development, or in a protocol that somebody may write. H01 to H19 come from the history of Linux and from the proposals for arm64, H20 to
H29 from changed and ported protocols. `hvo check --list` prints this table, `hvo check --list --json` all of the page.

The command of a hazard searches it in protocols that have it and in protocols that do not; the table below each story says what it prints.
A protocol is a kernel era with named [fixes](#fixes) added (`+`) or left out (`-`).

| id | hazard | since | fixed by | property |
|---|---|---|---|---|
"""
_FIXES = """
## Fixes

The names that a protocol variant adds or leaves out.

| name | what it does | hazard | commit |
|---|---|---|---|
"""


def hazards_page() -> str:
    """The page, in Markdown."""
    rows = "".join(map(_row, HAZARDS))
    fixes = "".join(
        f"| `{fix.name}` | {fix.sentence} | {(fix.hazard and _link(fix.hazard)) or ''} |"
        f" {_commit(fix.commit) if fix.commit else ''} |\n"
        for fix in FIXES.values()
    )
    return _HEAD + rows + "".join(map(_section, HAZARDS)) + _FIXES + fixes


def _row(hazard: Hazard) -> str:
    fixed = hazard.fixed_by.short() if hazard.fixed_by else "none"
    return (
        f"| {_link(hazard.id)} | {hazard.title} | {hazard.since} | {fixed} |"
        f" {_property(hazard)} |\n"
    )


def _section(hazard: Hazard) -> str:
    facts = [
        f"* since: {hazard.since}",
        f"* fixed by: {_commit(hazard.fixed_by) if hazard.fixed_by else 'none'}",
        f"* property: {_property(hazard)}",
    ]
    note = f"\n{hazard.note}\n" if hazard.note else ""
    return (
        f'\n## <a id="{hazard.id.lower()}"></a>{hazard.id}: {hazard.title}\n\n{hazard.story}\n\n'
        + "".join(f"{fact}\n" for fact in facts)
        + note
        + _results(hazard)
    )


def _results(hazard: Hazard) -> str:
    """The command and what it finds; nothing if there is none."""
    command = hazard.command()
    if command is None:
        return ""
    rows = "".join(_result(case) for case in CASES if case.hazard == hazard.id)
    return (
        f"\n```\n{command}\n```\n\n| protocol | machine | scenario | verdict |\n|---|---|---|---|\n"
        + rows
    )


def _result(case: Case) -> str:
    verdict = f"unsafe: {case.expected}" if case.expected else "safe"
    return f"| `{case.protocol}` | {case.hardware.name} | {case.scenario.name} | {verdict} |\n"


def _link(number: str) -> str:
    return f"[{number}](#{number.lower()})"


def _property(hazard: Hazard) -> str:
    found = hazard.property
    return f"[`{found}`](properties.md#{found})" if found else "none"


def _commit(commit: Commit) -> str:
    if commit.hash is None:
        return f'"{commit.subject}" in {commit.version}'
    return f'[`{commit.hash}`]({_COMMIT}{commit.hash}) ("{commit.subject}") in {commit.version}'
