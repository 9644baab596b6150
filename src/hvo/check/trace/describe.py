"""Steps, entries and differences between states in words, as runs are shown."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from hvo.check.model.geometry import BASE, PAGE, PMD_FRAME
from hvo.check.model.state import FREE, FREED_TO_BUDDY, LEVEL1, STATUS, TABLE, Model, State
from hvo.mmu.break_before_make import attributes_differ
from hvo.steps.base import Step
from hvo.steps.entries import StoreTableEntry


def describe(model: Model, done: Step[object]) -> str:
    """A step in a few words: its name, and its fields with addresses as vmemmap pages and entries
    as what they say.
    """
    fields = [(name, getattr(done, name)) for name in _fields(type(done))]
    entry = "level" in dict(fields) or isinstance(done, StoreTableEntry)
    level = dict(fields).get("level", 0)
    named = [("entry" if entry and name == "value" else name, value) for name, value in fields]
    shown = [text for name, value in named if (text := _shown(model, name, value, level))]
    return " ".join([type(done).__name__, *shown])


def _fields(kind: type) -> list[str]:
    return [
        name
        for base in reversed(kind.__mro__)
        for name in getattr(base, "__annotations__", {})
        if not name.startswith("_")
    ]


def _shown(model: Model, name: str, value: Any, level: int) -> str:
    if isinstance(value, bool):
        return name if value else ""
    if value is None or name in ("level", "node"):
        return ""
    if name in ("address", "start", "end", "source") and np.ndim(value) == 0 and int(value) >= BASE:
        return f"{name}=page {(int(value) - BASE) // PAGE}"
    if name == "location":
        frame, index = int(value) // PAGE, int(value) % PAGE // 8
        return f"PMD {index}" if frame == PMD_FRAME else f"frame {frame} entry {index}"
    if name in ("entry", "expected"):
        return f"{name}={entry_text(model, int(value), min(level, 1))}"
    if hasattr(value, "value"):
        return str(value.value)
    return f"{name}={np.asarray(value).tolist()}"


def entry_text(model: Model, entry: int, level: int) -> str:
    """What an entry says."""
    meaning = model.meaning(entry, level)
    if meaning.kind == "none":
        return "invalid"
    if meaning.kind == "table":
        return f"table {meaning.frame}"
    format = model.v.format
    more = (
        ("access flag clear", not meaning.cacheable),
        ("contiguous", format.is_contiguous(entry)),
        (
            "other attributes",
            format.arch == "arm64" and attributes_differ(entry, format.page_attributes),
        ),
    )
    return ", ".join(
        [
            f"frame {meaning.frame} {'rw' if meaning.writable else 'ro'}",
            *(name for name, said in more if said),
        ]
    )


def differences(model: Model, before: State, after: State) -> Iterator[str]:
    """What changed in entries, in what TLBs may hold, and in frames."""
    for frame, (old, new) in enumerate(zip(before.contents, after.contents, strict=True)):
        if old != new and (before.status[frame] | after.status[frame]) & 24 == TABLE:
            level = 1 if frame == PMD_FRAME else 0
            for index, (a, b) in enumerate(zip(model.rows[old], model.rows[new], strict=True)):
                if a != b:
                    name = f"PMD {index}" if level else f"table {frame}[{index}]"
                    yield f"{name}: {entry_text(model, a, level)} -> {entry_text(model, b, level)}"
    for word, held in (
        ("may keep", _held(after) - _held(before)),
        ("dropped", _held(before) - _held(after)),
    ):
        for key, entry in sorted(held):
            yield f"TLBs {word} {_key_text(key)}: {entry_text(model, entry, int(key >= LEVEL1))}"
    for frame, (old, new) in enumerate(zip(before.status, after.status, strict=True)):
        was_free, is_free = (status & STATUS in (FREE, FREED_TO_BUDDY) for status in (old, new))
        if was_free != is_free:
            yield f"frame {frame} {'freed' if is_free else 'allocated'}"


def _held(state: State) -> set[tuple[int, int]]:
    return {held[:2] for held in state.stale}


def _key_text(key: int) -> str:
    return f"PMD {key - LEVEL1}" if key >= LEVEL1 else f"page {key}"
