"""The note that a conversion or a measurement leaves in `/run`, so that one that is killed can be
finished or taken back.

It is written before the first page leaves a pool, says what each pool had and how many of its pages
may be out at most, and is removed when the pools are as they were. A reboot removes it, and the
pools with it.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from hvo.errors import HvoError
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

    def path(self, promise: Promise) -> str:
        """The file that sets the pool of `promise`."""
        return f"{directory(self.size, promise.node)}/nr_hugepages"

    def with_out(self, node: int | None, out: int) -> "Journal":
        """The same with `out` pages out of the pool of `node`."""
        return replace(
            self,
            promises=tuple(replace(p, out=out) if p.node == node else p for p in self.promises),
        )

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
        promises = tuple(Promise(**promise) for promise in data.pop("promises"))
        journal = Journal(promises=promises, **data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HvoError(
            f"{tree.path(JOURNAL)}: expected the journal of hvo convert ({error}); look at the"
            " pools, then remove it"
        ) from error
    return journal if boot == boot_id(tree) else None


def _text(tree: Tree) -> str | None:
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
