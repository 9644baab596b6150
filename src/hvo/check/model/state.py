"""What does not change while a scenario is explored: the machine, the descriptors' meaning, and
where it all begins.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple, TypeAlias

from hvo.check.model.footprint import Cells
from hvo.check.model.geometry import (
    KERNEL_FRAME,
    PAGE,
    PMD_FRAME,
    PUD_FRAME,
    Geometry,
    SmallVmemmap,
    StructPages,
)
from hvo.check.model.hardware import Hardware
from hvo.mmu.break_before_make import is_cacheable
from hvo.steps.ordering import Lock

FREE, ALLOCATED, PRIVATE, OFFLINED, FREED_TO_BUDDY = range(5)
"""A frame: never handed out, in use, in use and seen by its owner only, gone with its memory block,
given back to the page allocator.
"""
STATUS = 7
UNKNOWN, STRUCT, TABLE, OTHER = 0, 8, 16, 24
"""What a frame holds, in the same byte: nothing yet, struct pages, page-table entries, somebody's
data.
"""
KIND = 24

Record: TypeAlias = tuple[
    int, int, tuple[int, ...], int, int, int, tuple[int, ...], tuple[int, ...], tuple[Any, ...]
]
"""What is known of an actor; `hvo.check.effects` names its items."""
HOLDERS = 16
"""How far the bits of the CPUs that may hold a stale translation are shifted, beside the bits of
those whose flush will drop it.
"""

LEVEL1 = 1 << 16
"""Added to the number of a PMD slot: the key of its cached blocks and table pointers; without it, a
key is a vmemmap page.
"""


class Meaning(NamedTuple):
    """What an entry says: "none", "leaf" or "table", the frame it leads to, whether it lets write,
    and whether a TLB may hold it.
    """

    kind: str
    frame: int
    writable: bool
    cacheable: bool


class State(NamedTuple):
    """All that can change: compared and hashed, never changed.

    `contents` numbers what each frame holds; `stale` are translations that are no longer in the
    tables but may still be in a TLB, as (key, entry, bits): the actors whose flush will drop it
    and, above, the CPUs that may have it; `copies` are struct pages copied but not yet in force, as
    (vmemmap page, frame, copy, index, changed since); `failures` is how many allocations may still
    fail; `refused` are the actors (bits) that one node refused while others were not asked,
    `released` the huge pages (bits) that the allocator took, `faults_wait` says whether accesses
    may wait for an entry, `raw_errors` are the pfns (bits) in the records of broken pages, `broken`
    all that ever broke; `actors` holds one record an actor.
    """

    contents: tuple[int, ...]
    status: bytes
    stale: tuple[tuple[int, int, int], ...]
    counters: tuple[int, ...]
    copies: tuple[tuple[int, int, int, int, int], ...]
    failures: int
    refused: int
    released: int
    faults_wait: int
    raw_errors: int
    broken: int
    actors: tuple[Record, ...]


@dataclass
class Model:
    """One machine that is explored.

    `empty_nodes` are NUMA nodes without memory that struct pages could be in, `hosted` says that
    the struct pages are in frames of their own block, `live` that CPUs use the vmemmap already (at
    boot they do not, and no TLB holds any of it), `interrupts` are the actors that run on the CPU
    of the first one, and so cannot wait for it; `roots` are the nodes all begin at.
    """

    v: SmallVmemmap
    geometry: Geometry
    hardware: Hardware
    pages: StructPages
    empty_nodes: frozenset[int] = frozenset()
    hosted: bool = False
    live: bool = True
    interrupts: frozenset[int] = frozenset()
    roots: tuple[int, ...] = ()
    meanings: tuple[dict[int, Meaning], dict[int, Meaning]] = field(
        default_factory=lambda: ({}, {})
    )
    cells: Cells = field(default_factory=Cells)
    rows: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])
    numbers: dict[tuple[int, ...], int] = field(default_factory=dict[tuple[int, ...], int])

    def cpu(self, actor: int) -> int:
        """The bit of the CPU that an actor runs on: an interrupt's is the first one's."""
        return 1 << (HOLDERS if actor in self.interrupts else HOLDERS + actor)

    @property
    def every_cpu(self) -> int:
        """The bits of all CPUs, with one for those that no actor runs on."""
        return (2 << len(self.roots)) - 1 << HOLDERS

    @cached_property
    def poison(self) -> tuple[int, ...]:
        """What a frame holds that comes from the page allocator: taken for a table, entries that
        lead to a frame nobody has.
        """
        return (int(self.v.format.make_leaf(0, 0)),) * self.geometry.words

    @cached_property
    def empty(self) -> tuple[int, ...]:
        """What a frame holds that holds nothing."""
        return (0,) * self.geometry.words

    def padded(self, words: Iterable[int]) -> tuple[int, ...]:
        """The words of a frame that begins with `words`."""
        row = tuple(words)
        return row + self.empty[len(row) :]

    def number(self, row: tuple[int, ...]) -> int:
        """A small number for what a frame holds; equal contents have equal numbers."""
        found = self.numbers.get(row)
        if found is None:
            found = self.numbers[row] = len(self.rows)
            self.rows.append(row)
        return found

    def meaning(self, entry: int, level: int) -> Meaning:
        """What `entry` of `level` (0 or 1) says."""
        found = self.meanings[level].get(entry)
        if found is None:
            found = self.meanings[level][entry] = self._decode(entry, level)
        return found

    def _decode(self, entry: int, level: int) -> Meaning:
        f = self.v.format
        kind = (
            "table" if f.is_table(entry, level) else "leaf" if f.is_leaf(entry, level) else "none"
        )
        frame = int(f.output_address(entry, level)) // PAGE
        cacheable = kind == "table" or (kind == "leaf" and is_cacheable(f, entry))
        return Meaning(kind, frame, kind == "table" or bool(f.is_writable(entry)), cacheable)

    def start(
        self,
        contents: dict[int, tuple[int, ...]],
        kinds: dict[int, int],
        actors: Iterable[int],
        failures: int,
    ) -> State:
        """The state in which frames hold `contents` and are in use as `kinds`; `actors` are the
        nodes that they begin at.
        """
        records = tuple(new_record(node) for node in actors)
        self.roots = tuple(record[0] for record in records)
        frames = self.geometry.frames(len(records))
        rows = tuple(self.number(contents.get(frame, self.empty)) for frame in range(frames))
        status = bytes(
            ALLOCATED | kinds[frame] if frame in kinds else FREE for frame in range(frames)
        )
        return State(rows, status, (), (0, 0, 0), (), failures, 0, 0, 0, 0, 0, records)


def new_record(node: int) -> Record:
    """An actor that is about to do what is at `node`, and has nothing yet."""
    return node, 0, (), 0, 0, 0, (), (), ()


def mapped_tables(
    model: Model, *, split: bool
) -> tuple[dict[int, tuple[int, ...]], dict[int, int]]:
    """Contents and kinds of the frames of the page tables, with leaves or (`split`) tables of
    pages, which lie behind the struct pages.
    """
    g, f = model.geometry, model.v.format
    pmds: list[int] = []
    contents: dict[int, tuple[int, ...]] = {}
    kinds = {KERNEL_FRAME: OTHER, PMD_FRAME: TABLE, PUD_FRAME: TABLE}
    for leaf in range(g.leaves):
        first = g.first_frame + leaf * g.leaf
        if not split:
            pmds.append(int(f.make_leaf(first * PAGE, 1)))
            continue
        table = g.first_reserved(0) + leaf
        pmds.append(int(f.make_table(table * PAGE)))
        contents[table] = model.padded(
            int(f.make_leaf((first + i) * PAGE, 0)) for i in range(g.leaf)
        )
        kinds[table] = TABLE
    contents[PMD_FRAME] = model.padded(pmds)
    contents[PUD_FRAME] = model.padded([int(f.make_table(PMD_FRAME * PAGE))])
    kinds |= {g.first_frame + page: STRUCT for page in range(g.vmemmap_pages)}
    return contents, kinds


LOCKS = tuple(Lock)


STOPPED = 1 << len(LOCKS)
"""Beside the locks that an actor holds: it has stopped all other CPUs."""


MASKED = STOPPED << 1
"""Beside them: it has masked interrupts on its CPU, to hold a lock that interrupts take or to wait
for one.
"""


OPEN = STOPPED << 2
"""Beside `STOPPED`: it still takes interrupts itself."""


NODE: Final = 0


PHASE: Final = 1


VMEMMAP_PAGES: Final = 2


HELD: Final = 3


SECTION: Final = 4


PENDING: Final = 5


SEEN: Final = 7


BUFFER: Final = 8
"""What an actor's record holds: its node, how far its step is, its list, its locks, its read-side
section and who waits, its flush; then `hvo.check.model.store_buffer.STORES`, and what the load
behind its step has returned already, and its store buffer (`hvo.check.model.pending`).
"""
