"""How two sets of golden records differ, and whether somebody said why.

A list of changes is a TOML file with two kinds of entries:

    [[renamed]]               # text in the names of jobs
    old = "two optimisers"
    new = "two actors"
    why = "the name of the scenario"

    [[change]]
    job = "check/file/i6_*"   # pattern of names, after the renaming
    field = "verdict"         # pattern of fields; "*", which is all of them, if absent
    old = "safe"              # a value; "*": any; "absent": not there
    new = "unsafe"            # the same; "<" and ">": a number below or above the old one
    why = "store buffers exist"
"""

import json
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

Records: TypeAlias = dict[str, dict[str, Any]]
"""What was found, by the name of the job."""
ABSENT = "absent"
_SHOWN = 160
"""Characters of a value that are shown."""


class Difference(NamedTuple):
    """A value that is not as before; `field` is "job" for a job that is only on one side."""

    job: str
    field: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.job}: {self.field}: {_shown(self.old)} -> {_shown(self.new)}"


class Change(NamedTuple):
    """Explains differences."""

    job: str
    field: str
    old: Any
    new: Any
    why: str

    def explains(self, found: Difference) -> bool:
        """Whether that is the difference it speaks of."""
        return (
            fnmatchcase(found.job, self.job)
            and fnmatchcase(found.field, self.field)
            and self.old in ("*", found.old)
            and self._is_new(found)
        )

    def _is_new(self, found: Difference) -> bool:
        if self.new in ("<", ">") and isinstance(found.new, int) and isinstance(found.old, int):
            return found.new < found.old if self.new == "<" else found.new > found.old
        return self.new in ("*", found.new)


class Renamed(NamedTuple):
    """Text in names of jobs that is another now."""

    old: str
    new: str
    why: str


class Changes(NamedTuple):
    """The list."""

    renamed: list[Renamed]
    changes: list[Change]


def read_changes(path: Path) -> Changes:
    """The list in a file; raises ValueError for an entry that does not say all it must."""
    read = tomllib.loads(path.read_text()) if path.exists() else {}
    try:
        renamed = [Renamed(**entry) for entry in read.pop("renamed", [])]
        changes = [Change(**({"field": "*"} | entry)) for entry in read.pop("change", [])]
    except TypeError as error:
        raise ValueError(f"{path}: an entry is not as tools/records_compare.py says") from error
    if read:
        raise ValueError(f"{path}: {next(iter(read))!r} is neither 'renamed' nor 'change'")
    for entry in (*renamed, *changes):
        if not entry.why:
            raise ValueError(f"{path}: no reason is given for {entry}")
    return Changes(renamed, changes)


def compare(old: Records, new: Records, changes: Changes, *, part: bool = False) -> list[str]:
    """What is wrong, a line each: differences that nothing explains, and (unless `part`, when only
    jobs of `new` are compared) explanations that explain nothing.
    """
    unused: set[tuple[Any, ...]] = set(map(_key, (*changes.renamed, *changes.changes)))
    before: Records = {}
    for name, record in old.items():
        for entry in changes.renamed:
            if entry.old in name:
                name = name.replace(entry.old, entry.new)
                unused.discard(_key(entry))
        before[name] = record
    if part:
        before = {name: record for name, record in before.items() if name in new}
    wrong: list[str] = []
    for found in differences(before, new):
        reasons = [change for change in changes.changes if change.explains(found)]
        unused -= set(map(_key, reasons))
        if not reasons:
            wrong.append(f"unexplained: {found}")
    if not part:
        wrong += [
            f"explains nothing: {entry}"
            for entry in (*changes.renamed, *changes.changes)
            if _key(entry) in unused
        ]
    return wrong


def _key(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    """Entries may have lists as values."""
    return tuple(map(repr, entry))


def differences(old: Records, new: Records) -> Iterator[Difference]:
    """All differences, sorted by job."""
    for job in sorted(old.keys() | new.keys()):
        if job not in new:
            yield Difference(job, "job", "present", ABSENT)
        elif job not in old:
            yield Difference(job, "job", ABSENT, "present")
        else:
            before, now = dict(_fields("", old[job])), dict(_fields("", new[job]))
            for field in sorted(before.keys() | now.keys()):
                was, is_now = before.get(field, ABSENT), now.get(field, ABSENT)
                if was != is_now:
                    yield Difference(job, field, was, is_now)


def _fields(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value by its dotted name; a list of plain values is one value."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _fields(f"{prefix}.{key}".lstrip("."), each)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for number, each in enumerate(value):
            yield from _fields(f"{prefix}.{number}", each)
    else:
        yield prefix, value


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
