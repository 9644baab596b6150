"""Many results as a matrix: protocols down, hazards across."""

from collections.abc import Sequence
from dataclasses import dataclass

from hvo.check.check import Result, Verdict

_WORST: tuple[Verdict, ...] = ("unsafe", "unfinished", "safe")


@dataclass(frozen=True)
class Matrix:
    """`rows` are (protocol, machine), `columns` hazards; a cell has the results of one row in one
    column, and is missing where there are none."""

    rows: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    cells: dict[tuple[tuple[str, str], str], tuple[Result, ...]]

    def verdict(self, row: tuple[str, str], column: str) -> Verdict | None:
        """The worst of a cell's verdicts; None for a missing cell."""
        found = {result.verdict for result in self.cells.get((row, column), ())}
        return next((verdict for verdict in _WORST if verdict in found), None)


def matrix_of(results: Sequence[Result]) -> Matrix:
    """The matrix of `results`: kernels' protocols by era and then the proposals, hazards by their
    numbers.
    """
    cells: dict[tuple[tuple[str, str], str], tuple[Result, ...]] = {}
    for result in results:
        key = ((result.case.protocol, result.case.hardware.name), result.case.hazard)
        cells[key] = (*cells.get(key, ()), result)
    rows = tuple(dict.fromkeys(row for row, _ in cells))
    columns = sorted({column for _, column in cells}, key=_by_number)
    return Matrix(tuple(sorted(rows, key=_order)), tuple(columns), cells)


def _order(row: tuple[str, str]) -> tuple[bool, str, str]:
    return row[0].startswith("proposal-"), *row


def _by_number(hazard: str) -> tuple[bool, str]:
    return not hazard[1:3].isdigit(), hazard
