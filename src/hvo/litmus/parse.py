"""Reads herd's litmus format, AArch64 with the VMSA variant, into a `Test`; what it does not
understand is an error that names the line.
"""

import re
from pathlib import Path

from hvo.errors import HvoError
from hvo.litmus.condition import (
    Condition,
    Equal,
    Fault,
    Faulted,
    Location,
    Proposition,
    Unreadable,
    atoms,
    parse_proposition,
)
from hvo.litmus.initial import read_initial, read_place, read_value
from hvo.litmus.instructions import ACCEPTED, Branch, Nothing, decode
from hvo.litmus.program import Step, Test
from hvo.litmus.source import Source
from hvo.litmus.values import Address


def read_test(path: Path) -> Test:
    """The test in a file; raises `HvoError` when it cannot be read or says something that is not
    understood.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise HvoError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or error}; expected a litmus"
            " test"
        ) from error
    return parse(text, str(path))


def parse(text: str, file: str) -> Test:
    """The litmus test that `text` is; `file` is named in errors."""
    source = Source(text, file)
    test = _header(source)
    read_initial(source, test)
    _code(source, test)
    _final(source, test)
    return test


def _header(source: Source) -> Test:
    lines = source.lines
    first = next((at for at, line in enumerate(lines) if line.strip()), 0)
    match = re.fullmatch(r"\s*AArch64\s+(\S+)\s*", lines[first] if lines else "")
    if match is None:
        raise source.error(
            first, lines[first] if lines else "", "'AArch64' and the name of the test"
        )
    test = Test(match[1], source.file)
    for source.at in range(first + 1, len(lines)):
        line = lines[source.at].strip()
        if line.startswith("{"):
            return test
        _metadata(source, test, line)
    raise source.error(len(lines) - 1, "the end", "'{' and the initial state")


def _metadata(source: Source, test: Test, line: str) -> None:
    name, equals, value = line.partition("=")
    if line and not line.startswith('"') and (not equals or not re.fullmatch(r"\w+", name.strip())):
        raise source.error(source.at, line, "KEY=VALUE, a text in quotes, or '{'")
    words = [word for word in re.split(r"[\s,]+", value.strip()) if word]
    match name.strip():
        case "Variant" | "variant" | "Variants":
            test.variants = frozenset(words)
        case "TTHM":
            test.hardware = _tthm(source, value)
        case "EL0":
            test.user = frozenset(int(word[1:]) for word in words if re.fullmatch(r"P\d+", word))
        case _:
            pass  # Generator, Prefetch, Com, Orig, Cycle and others say where the test comes from


def _tthm(source: Source, value: str) -> dict[int | None, frozenset[str]]:
    found: dict[int | None, frozenset[str]] = {}
    thread: int | None = None
    for match in re.finditer(r"(?:P(\d+)\s*:)?\s*([A-Za-z]+)|[^\s,;+]", value):
        word = (match[2] or "").upper()
        if word not in ("HA", "HD", "SW"):
            raise source.error(source.at, value, "TTHM=HA, HD or SW, for one thread P0:HA")
        thread = int(match[1]) if match[1] else thread
        found[thread] = found.get(thread, frozenset()) | {word}
    return found


def _code(source: Source, test: Test) -> None:
    rows = list(_rows(source))
    if not rows:
        raise source.error(source.at - 1, "no code", "a table of threads, P0 | P1 ;")
    line, names = rows[0]
    for number, name in enumerate(names):
        if name != f"P{number}":
            raise source.error(
                line, name, f"P{number}, as the head of a column; fault handlers are not read"
            )
    cells: list[list[tuple[int, str]]] = [[] for _ in names]
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise source.error(line, " | ".join(row), f"{len(names)} columns")
        for column, cell in zip(cells, row, strict=True):
            column.append((line, cell))
    test.threads = [_thread(source, column) for column in cells]


def _rows(source: Source) -> "list[tuple[int, list[str]]]":
    rows: list[tuple[int, list[str]]] = []
    while source.at < len(source.lines):
        line = source.lines[source.at].strip()
        if re.match(r"(~?\s*exists|forall|locations|filter)\b", line):
            break
        if line:
            if not line.endswith(";"):
                raise source.error(
                    source.at,
                    line,
                    "a row of instructions, one a thread, with | between and ; at the end",
                )
            rows.append((source.at, [cell.strip() for cell in line[:-1].split("|")]))
        source.at += 1
    return rows


def _thread(source: Source, column: list[tuple[int, str]]) -> list[Step]:
    steps: list[Step] = []
    labels: list[str] = []
    lines: list[int] = []
    for line, cell in column:
        while match := re.match(r"(\w+)\s*:\s*(.*)", cell):
            labels.append(match[1])
            cell = match[2]
        if not cell:
            continue
        instruction = decode(cell)
        if instruction is None:
            raise source.error(line, cell, ACCEPTED)
        steps.append(Step(instruction, tuple(labels)))
        lines.append(line)
        labels = []
    _check_targets(source, [*steps, Step(Nothing(""), tuple(labels))], lines)
    return steps if not labels else [*steps, Step(Nothing(""), tuple(labels))]


def _check_targets(source: Source, steps: list[Step], lines: list[int]) -> None:
    """Refuse a branch whose label is not further down; `lines` are those of the steps but the
    last.
    """
    for at, line in enumerate(lines):
        branch = steps[at].instruction
        if isinstance(branch, Branch) and not any(
            branch.target in later.labels for later in steps[at + 1 :]
        ):
            raise source.error(line, branch.text, "a branch forward, to a label further down")


def _final(source: Source, test: Test) -> None:
    text = "\n".join(source.lines[source.at :]).strip()
    try:
        if match := re.match(r"locations\s*\[(.*?)\]\s*(?=~?\s*exists|forall|$)", text, re.DOTALL):
            test.shown = tuple(
                _shown(source, test, part.strip()) for part in match[1].split(";") if part.strip()
            )
            text = text[match.end() :]
        if match and not text:
            _check_threads(source, test, test.condition.proposition)
            return
        match = re.match(r"(~?\s*exists|forall)\b\s*(.*)", text, re.DOTALL)
        if match is None:
            raise source.error(
                source.at,
                text or "the end",
                "exists, ~exists or forall with a condition, after locations [...] at most",
            )
        proposition = parse_proposition(
            match[2].strip().rstrip(";"), lambda atom: _atom(source, test, atom)
        )
    except Unreadable as unreadable:
        raise source.error(
            source.at,
            str(unreadable),
            "conditions as 0:X0=1, [x]=1 or fault(P0:L0,x), and /\\, \\/, ~",
        ) from None
    _check_threads(source, test, proposition)
    test.condition = Condition("".join(match[1].split()), proposition)


def _check_threads(source: Source, test: Test, proposition: Proposition) -> None:
    """Refuse a condition about a thread that the test does not have."""
    asked: list[Location | Fault] = [
        atom.fault if isinstance(atom, Faulted) else atom.location for atom in atoms(proposition)
    ]
    for location in (*asked, *test.shown):
        thread = (
            location.thread
            if isinstance(location, Fault)
            else -1
            if isinstance(location, Address)
            else location[0]
        )
        if thread >= len(test.threads):
            raise source.error(
                source.at,
                f"thread {thread}",
                f"one of the {len(test.threads)} threads of the test, P0 and on",
            )


def _shown(source: Source, test: Test, text: str) -> Location | Fault:
    found = _atom(source, test, text) if re.match(r"[Ff]ault\b", text) else None
    return found.fault if isinstance(found, Faulted) else _location(text)


def _location(text: str) -> Location:
    if match := re.fullmatch(r"P?(\d+):([XWxw]\d+)", text):
        return int(match[1]), "X" + match[2][1:]
    if match := re.fullmatch(r"\[?\s*((?:PTE|PA)\(\s*\w+\s*\)|\w+)\s*\]?", text):
        return read_place(match[1])
    raise Unreadable(text)


def _atom(source: Source, test: Test, text: str) -> Proposition:
    if match := re.fullmatch(
        r"[Ff]ault\s*\(\s*P?(\d+)\s*(?::\s*(\w+))?\s*(?:,\s*(\w+))?\s*(?:,\s*(?:D-)?MMU:(\w+))?\s*\)",
        text,
    ):
        return Faulted(Fault(int(match[1]), match[2], match[3], match[4]))
    left, equals, right = text.partition("=")
    if not equals:
        raise Unreadable(text)
    location = _location(left.strip())
    own = location.name if isinstance(location, Address) and location.kind == "PTE" else None
    return Equal(location, read_value(source, test, right, source.at, own))
