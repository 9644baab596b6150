"""What `hvo check --litmus` prints: herd's own form, so that results can be compared line by
line.
"""

from collections.abc import Sequence

from hvo.litmus.run import LitmusResult


def litmus_text(results: Sequence[LitmusResult]) -> str:
    """The results one after the other, an empty line after each."""
    return "".join(f"{_one(result)}\n\n" for result in results)


def _one(result: LitmusResult) -> str:
    lines = [f"Test {result.test} {result.kind}", *_outcomes(result)]
    lines += [f"Flag {flag}" for flag in result.flags]
    lines.append(f"Condition {result.condition}")
    if result.observation is not None:
        lines.append(
            f"Observation {result.test} {result.observation} {result.positive} {result.negative}"
        )
    return "\n".join(lines)


def _outcomes(result: LitmusResult) -> list[str]:
    if result.outcomes is None:
        return [f"outcomes: unsupported ({result.reason})"]
    agreeing, others = (
        (result.negative, result.positive)
        if result.kind == "Forbidden"
        else (result.positive, result.negative)
    )
    verdict = "Ok" if result.valid else "No"
    return [
        f"States {len(result.outcomes)}",
        *result.outcomes,
        verdict,
        "Witnesses",
        f"Positive: {agreeing} Negative: {others}",
    ]
