"""Parts of documentation pages that the checker makes: `python -m hvo.report.check_pages
docs/arm64.md docs/h19.md` renews them in place.

A part stands between `<!-- made: WORDS -->` and `<!-- end -->`; the words say what it is:
`proposals` is the table of proposals for arm64, `run HAZARD PROTOCOL MACHINE` the shortest run to
the worst that this protocol does there, without steps that change no entry, and `run-from NUMBER
...` its last steps, all of them from that one on.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from hvo.check.check import Result, check
from hvo.check.model.hardware import parse_hardware
from hvo.check.proposals.compare import compare_all
from hvo.check.search.explore import Options
from hvo.check.select import asked
from hvo.check.trace.token import TraceStep
from hvo.errors import HvoError
from hvo.report.check_proposals import markdown

_PART = re.compile(r"(<!-- made: (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def renewed(page: str) -> str:
    """The page with its parts made anew."""
    return _PART.sub(lambda found: found[1] + _part(found[2].split()) + found[3], page)


def _part(words: list[str]) -> str:
    match words:
        case ["proposals"]:
            return markdown(compare_all(Options()))
        case ["run", hazard, protocol, machine]:
            return _fenced(_changes(_run(hazard, protocol, machine)))
        case ["run-from", number, hazard, protocol, machine] if number.isdigit():
            return _fenced(_from(_run(hazard, protocol, machine), int(number)))
        case _:
            raise HvoError(
                f"a page asks for {' '.join(words)!r}: expected proposals, or run HAZARD PROTOCOL"
                " MACHINE"
            )


def _fenced(lines: Iterator[str]) -> str:
    return "```\n" + "".join(f"{line}\n" for line in lines) + "```\n"


def _run(hazard: str, protocol: str, machine: str) -> Result:
    """The first scenario of the hazard in which something is violated."""
    results = (check(case) for case in asked([protocol], parse_hardware(machine), [hazard], None))
    result = next((result for result in results if result.findings), None)
    if result is None:
        raise HvoError(
            f"a page asks for a run of {protocol} on {machine} to {hazard}, and there is none"
        )
    return result


def _from(result: Result, first: int) -> Iterator[str]:
    for number, step in enumerate(result.trace[first - 1 :], first):
        yield from _step(number, step, list(step.changes))
    yield from _ending(result)


def _changes(result: Result) -> Iterator[str]:
    left_out = 0
    for number, step in enumerate(result.trace, 1):
        told = [change for change in step.changes if "TLBs dropped" not in change]
        if told or step.violated or "Invalidat" in step.text or number == len(result.trace):
            yield from _gap(left_out)
            left_out = 0
            yield from _step(number, step, told)
        else:
            left_out += 1
    yield from _ending(result)


def _ending(result: Result) -> Iterator[str]:
    """What is violated in the end only."""
    first = result.findings[0]
    if not any(rule == first.property for step in result.trace for rule, _ in step.violated):
        yield f"     ! in the end {first.property}: {first.message}"


def _gap(steps: int) -> Iterator[str]:
    if steps:
        yield f"     ... {steps} step{'s' if steps > 1 else ''} without a change of entries"


def _step(number: int, step: TraceStep, told: list[str]) -> Iterator[str]:
    yield f"{number:4} CPU {step.cpu + 1} {step.letter}  {step.text}"
    yield from (f"       {change}" for change in told)
    yield from (f"     ! {rule}: {message}" for rule, message in step.violated)


def main() -> None:
    """Renew the pages named on the command line."""
    for path in map(Path, sys.argv[1:]):
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
