"""A machine's state: memory, tables, page allocator, pools and counters, and how they are reached.

What each step does to it is in the other files here, which have the names of those in `hvo.steps`.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from hvo.kernel.hugetlb import HugetlbPool, Stack
from hvo.kernel.struct_page import StructPageLayout
from hvo.kernel.zone_layout import zone_number
from hvo.kernel.zones import Zones
from hvo.memory.interface import Pfns, Words
from hvo.memory.simulated import SimulatedMemory
from hvo.mmu import access
from hvo.mmu.walk import Walk
from hvo.steps.base import Value
from hvo.steps.frames import Counter
from hvo.steps.ordering import Lock
from hvo.vmemmap.context import Vmemmap
from hvo.world.costs import Costs
from hvo.world.transaction import Transaction


@dataclass
class World:
    """Memory, tables, allocator, pools (by size in bytes) and counters of one machine.

    `root` is the physical address of the top table; `raw_errors` are the records of broken pages,
    by the heads of HugeTLB pages; `lost` are (head, order) of blocks that the page allocator
    refused ("Bad page state"); `freed` are the frames that were freed last; `transaction`, if one
    was begun, undoes every change made since.
    """

    memory: SimulatedMemory
    root: int
    vmemmap: Vmemmap
    zones: Zones
    layout: StructPageLayout
    pools: dict[int, HugetlbPool] = field(default_factory=dict[int, HugetlbPool])
    counters: dict[Counter, int] = field(default_factory=lambda: defaultdict(int))
    locks: set[Lock] = field(default_factory=set[Lock])
    vmemmap_page_list: Stack = field(default_factory=Stack)
    raw_errors: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    lost: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    transaction: Transaction | None = None
    frames_freed: int = 0
    freed: Pfns = field(default_factory=lambda: np.zeros(0, np.int64))
    synchronizations: int = 0
    costs: Costs = field(init=False)
    _tables: dict[int, int] = field(default_factory=dict[int, int], init=False)

    def __post_init__(self) -> None:
        self.costs = Costs(self.vmemmap.format if self.vmemmap.era.proposal else None)

    # -- words --

    def store(self, locations: Words, values: Words | int) -> None:
        """Write words; a transaction remembers the old ones."""
        if np.ndim(values) > locations.ndim:  # one place for all pages of a run
            locations = np.broadcast_to(locations, np.shape(values))
        if self.transaction is not None:
            old = self.memory.read_words(locations)
            self.transaction.add(partial(self.memory.write_words, locations, old))
        self.memory.write_words(locations, values)

    def node_and_zone(self, pfn: int) -> tuple[int, int]:
        """The node of `pfn`, and the number that its struct page has for its zone."""
        zone = self.zones.zones[int(self.vmemmap.zone_of(pfn))]
        return zone.node, zone_number(self.vmemmap.format.arch, zone.name)

    def begin(self) -> Transaction:
        """From now on every change can be taken back."""
        self.transaction = Transaction(self.memory, self.zones)
        return self.transaction

    def commit(self) -> None:
        """Keep what was changed."""
        self.transaction = None

    def rollback(self) -> None:
        """Undo what was changed."""
        assert self.transaction is not None
        self.transaction.rollback()
        self.transaction = None

    def in_frame(self, pfn: Value, offset: int) -> Words:
        """Physical address of the byte `offset` of the frame `pfn`."""
        frames = np.asarray(pfn, np.int64).astype(np.uint64)
        return frames * np.uint64(self.vmemmap.page_size) + np.uint64(offset)

    # -- tables --

    def table_of(self, address: int, level: int) -> int:
        """Physical address of the table of `level` for `address`; remembered until an entry above
        the PMD is written.
        """
        key = address | level
        if key not in self._tables:
            self._tables[key] = self._find_table(address, level)
        return self._tables[key]

    def _find_table(self, address: int, level: int) -> int:
        table, f = self.root, self.vmemmap.format
        for above in range(f.top, level, -1):
            location = np.array([table + 8 * int(f.index(address, above))], np.uint64)
            entry = int(self.memory.read_words(location)[0])
            if not f.is_table(entry, above):
                raise access.PageFault("not-present", address, entry, above)
            table = int(f.output_address(entry, above))
        return table

    def forget_tables(self) -> None:
        """Look tables up anew: an entry above the PMD was written."""
        self._tables.clear()

    # -- struct pages through the mapping --

    def frame_of(self, addresses: Words) -> Pfns:
        """The frames that the virtual `addresses` (page aligned) are mapped to."""
        shift = np.uint64(self.vmemmap.page_size.bit_length() - 1)
        return (self.translate(addresses) >> shift).astype(np.int64)

    def translate(self, addresses: Words, *, write: bool = False) -> Words:
        """Physical addresses of the virtual `addresses`; raises PageFault where a CPU's load (or
        store, with `write`) would fault.
        """
        addresses = np.asarray(addresses, np.uint64)
        return access.translate(self.memory, self.vmemmap.format, self.root, addresses, write=write)

    def access(self, addresses: Words, *, write: bool = False) -> Walk:
        """The walks of the virtual `addresses`; raises PageFault as `translate` does."""
        return access.access(self.memory, self.vmemmap.format, self.root, addresses, write=write)

    def field_address(self, pfn: Value, name: str) -> Words:
        """Virtual address of the word that holds field `name` of the struct pages of `pfn`."""
        place = self.layout.fields[name]
        address = self.vmemmap.address(np.asarray(pfn, np.int64) + place.page)
        return address + np.uint64(self.layout.stride * place.word)

    def field_location(self, pfn: Value, name: str, *, write: bool = False) -> Words:
        """Its physical address as it is mapped now; raises PageFault."""
        return self.translate(self.field_address(pfn, name), write=write)

    def load_at(self, locations: Words, name: str) -> Words:
        """Field `name` of the struct pages whose word with it lies at `locations`."""
        return self.layout.fields[name].decode(self.memory.read_words(locations))

    def store_at(self, locations: Words, name: str, value: Value) -> None:
        """Store `value` in field `name` of the struct pages whose word with it lies at
        `locations`.
        """
        words, values = self.memory.read_words(locations), np.asarray(value).astype(np.uint64)
        self.store(locations, self.layout.fields[name].encode(words, values))


Handlers: TypeAlias = dict[type, Callable[[World, Any], Any]]
"""By type of step, what does it -> its result."""
