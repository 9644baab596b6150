"""The note that a conversion or a measurement leaves in `/run`, so that one that is killed can be
finished or taken back.

It is written before the first page leaves a pool, says what each pool had and how many of its pages
may be out at most, and is removed when the pools are as they were. A reboot removes it, and the
pools with it.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from hvo.errors import HvoError
from hvo.host.free_list import FreeList
from hvo.host.pools import directory
from hvo.host.tree import Tree, Write

OWN = "/run/hvo"
"""Where hvo keeps what it has to remember until the next boot."""
JOURNAL = f"{OWN}/convert.json"
LOCK = f"{OWN}/lock"
"""Held while pools change, by every command that changes them."""
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclass(frozen=True)
class Promise:
    """The pool of one node as it was found; `node` is `None` where the kernel has no nodes."""

    node: int | None
    pages: int
    """Persistent pages: what it must have in the end."""
    out: int
    """How many of them may be out of it now."""
    extra: int = 0
    """How many more than them may be in it now."""
    in_use: int | None = None
    """Pages that others used when this was written; `None` if nothing is known of the free list."""
    runs: tuple[tuple[bool, int], ...] = ()
    """What is known of the free list when the command holds nothing any more and no page is out:
    whether pages were rebuilt and how many, from the bottom to the top.
    """


@dataclass(frozen=True)
class Journal:
    """A conversion, or another `command`, that has begun; `gate` is what the switch must be in the
    end, `None` when it is not touched.
    """

    size: int
    promises: tuple[Promise, ...]
    gigantic: bool
    force: bool
    batch: int
    command: str = "convert"
    gate: int | None = None
    keep_free: int | None = None
    """Pages that a conversion keeps free; `None` leaves that to it."""

    def path(self, promise: Promise) -> str:
        """The file that sets the pool of `promise`."""
        return f"{directory(self.size, promise.node)}/nr_hugepages"

    def with_out(self, node: int | None, out: int) -> "Journal":
        """The same with `out` pages out of the pool of `node`."""
        return self._with(node, lambda promise: replace(promise, out=out))

    def with_list(self, node: int | None, out: int, in_use: int, free_list: FreeList) -> "Journal":
        """The same with `out` pages out of the pool of `node`, and with what is known of its free
        list.
        """
        return self._with(
            node,
            lambda promise: replace(promise, out=out, in_use=in_use, runs=free_list.runs),
        )

    def _with(self, node: int | None, change: Callable[[Promise], Promise]) -> "Journal":
        promises = tuple(change(each) if each.node == node else each for each in self.promises)
        return replace(self, promises=promises)

    def save(self, tree: Tree) -> None:
        """Write it, whole; raises `HvoError` when that is refused."""
        text = json.dumps({"boot_id": boot_id(tree), **asdict(self)})
        tree.replace(JOURNAL, f"{text}\n", durable=False)  # a power cut ends the pools too


def load(tree: Tree) -> Journal | None:
    """The journal of what did not end in this boot, `None` when there is none; raises `HvoError`
    when it is damaged.
    """
    text = _text(tree)
    if text is None:
        return None
    try:
        data = cast("dict[str, Any]", json.loads(text))
        boot = data.pop("boot_id")
        promises = tuple(_promise(**promise) for promise in data.pop("promises"))
        journal = Journal(promises=promises, **data)
        if not _is_sound(journal):
            raise ValueError("a value is not of its kind")
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise HvoError(
            f"{tree.path(JOURNAL)}: expected the journal of hvo convert ({error}); look at the"
            " pools, then remove it"
        ) from error
    return journal if boot == boot_id(tree) else None


def _promise(*, runs: list[list[int]] | None = None, **rest: int | None) -> Promise:
    """One pool, as `Journal.save` wrote it."""
    known = tuple((bool(rebuilt), int(pages)) for rebuilt, pages in runs or [])
    return Promise(runs=known, **cast("dict[str, Any]", rest))


def _is_sound(journal: Journal) -> bool:
    """Whether every value is of its kind: the file may be from somebody else."""
    optional = (journal.gate, journal.keep_free)
    numbers: list[object] = [journal.size, journal.batch, *(each or 0 for each in optional)]
    for each in journal.promises:
        numbers += [each.pages, each.out, each.extra, each.node or 0, each.in_use or 0]
    words: list[object] = [journal.command]
    return all(isinstance(each, int) and abs(each) < 1 << 60 for each in numbers) and all(
        isinstance(each, str) for each in words
    )


def _text(tree: Tree) -> str | None:
    stranger = tree.owner(JOURNAL) if tree.running else None
    if stranger:
        raise HvoError(
            f"{tree.path(JOURNAL)}: it belongs to {stranger}, not to root: look at the pools, then"
            " remove it"
        )
    try:
        return tree.read(JOURNAL)
    except HvoError:
        if tree.exists(JOURNAL):
            raise
        return None  # there is none, or it went away just now


def refuse_interrupted(tree: Tree) -> None:
    """Raise `HvoError` when something was interrupted and its pool may not be as it was, or is
    going on.
    """
    journal = load(tree)
    if journal and tree.locked(LOCK):
        raise HvoError(
            f"{tree.path(LOCK)}: hvo {journal.command} is running; wait until it has finished"
        )
    if journal:
        raise HvoError(f"an earlier hvo {journal.command} was interrupted: {remedy(journal)}")


def remedy(journal: Journal) -> str:
    """What to do about an interrupted command."""
    if journal.command == "convert":
        return "finish it with hvo convert --resume, or take it back with hvo convert --undo"
    return "take it back with hvo convert --undo"


def writes_since(tree: Tree, done: int) -> tuple[Write, ...]:
    """What was written to the host after the first `done` writes, but for what hvo notes for
    itself.
    """
    return tuple(write for write in tree.written[done:] if not write.path.startswith(f"{OWN}/"))


def boot_id(tree: Tree) -> str:
    """What this boot of the host calls itself; the empty string where that cannot be read."""
    return tree.read_or(_BOOT_ID, "").strip()
