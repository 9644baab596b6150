"""A machine to run the mechanism on: build it, size its pools, look at its tables, save it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvo.actors import hugetlb
from hvo.actors.hugetlb import Hstate
from hvo.errors import HvoError
from hvo.kernel.hugetlb import Gate, HugetlbPool
from hvo.kernel.image import KernelMemory
from hvo.layout.units import format_size, parse_size
from hvo.machine.batch.executor import ArrayExecutor
from hvo.machine.boot.build import Plan, boot, plan
from hvo.machine.cores.load import load_core
from hvo.memory.interface import Pfns
from hvo.mmu.walk import walk
from hvo.steps.base import Steps, strided
from hvo.steps.frames import Counter
from hvo.vmemmap.boot import hugetlb_vmemmap_init
from hvo.vmemmap.era import Era
from hvo.vmemmap.era import era as era_of
from hvo.vmemmap.optimize import hugetlb_vmemmap_optimize_folios
from hvo.vmemmap.restore import hugetlb_vmemmap_restore_folios
from hvo.world.plain import PlainExecutor
from hvo.world.pools import optimized
from hvo.world.state import World


@dataclass(frozen=True)
class VmemmapEntry:
    """One page of a huge page's vmemmap: its virtual address, the frame behind it, and whether it
    may be written.
    """

    address: int
    frame: int
    writable: bool

    def __str__(self) -> str:
        return f"{self.address:#x} -> frame {self.frame:#x} {'RW' if self.writable else 'ro'}"


class Machine:
    """A simulated machine: page tables as bytes, struct pages, a page allocator and HugeTLB pools.

    Make one with `Machine.build`; sizes are bytes or text ("2MiB").
    """

    def __init__(self, world: World, what: Plan, gate: Gate) -> None:
        self.world, self.plan, self.gate = world, what, gate
        self.pools = world.pools
        self.executor: ArrayExecutor | PlainExecutor = ArrayExecutor(world)
        self.default_size = next(
            huge.size for huge in what.geometry.hugepages if huge.kind == "pmd"
        )
        """Size of the default pool, in bytes: what a PMD maps, unless `default_hugepagesz=` says
        otherwise.
        """

    @classmethod
    def build(
        cls,
        arch: str = "arm64",
        page_size: int | str = 4096,
        memory: int | str = "1GiB",
        *,
        era: str | Era = "7.1",
        nodes: int = 1,
        gate: Gate | bool = True,
    ) -> "Machine":
        """A machine with all its memory free; raises HvoError for a combination that cannot be.

        `era` is a kernel era or a protocol variant, `gate` whether huge pages that are allocated
        get optimised.
        """
        what = plan(arch, _bytes(page_size), _bytes(memory), nodes)
        variant = era if isinstance(era, Era) else era_of(era)
        return cls(boot(what, variant), what, gate if isinstance(gate, Gate) else Gate(boot=gate))

    @classmethod
    def like(
        cls, source: str | Path | KernelMemory, *, era: str | Era | None = None, boot: bool = False
    ) -> "Machine":
        """A machine in the state of the kernel in the core `source`; with `boot`, as that kernel
        was before it had any HugeTLB page.

        `era` is the protocol to run, None for that kernel's own. Raises HvoError for what is no
        core of a kernel with HugeTLB pages.
        """
        protocol = era_of(era) if isinstance(era, str) else era
        return cls(*load_core(source, era=protocol, boot=boot), Gate())

    # -- driving --

    def run(self, actor: Steps[object]) -> Any:
        """Run a protocol or another actor to its end -> what it returns."""
        result = self.executor.run(actor)
        self.world.costs.end()
        return result

    def set_gate(self, on: bool) -> None:
        """Write the run-time switch `hugetlb_optimize_vmemmap`; pages that are there stay as they
        are.
        """
        self.gate = replace(self.gate, switch=on)

    def resize(self, size: int | str, pages: int, node: int | None = None) -> None:
        """Write `pages` to nr_hugepages of the pool of `size`, on all nodes or on one."""
        self.run(hugetlb.set_max_huge_pages(self.world.vmemmap, self.hstate(size, node), pages))

    def reserve_at_boot(self, size: int | str, pages: int, node: int | None = None) -> None:
        """Give the pool of `size` pages before anything else runs (`hugepages=`); gigantic ones may
        be built optimised (6.15, x86-64).
        """
        pool, v = self.pool(size), self.world.vmemmap
        early = (
            v.era.has("built-at-boot")
            and v.format.arch == "x86_64"
            and pool.order > self.world.zones.zones[0].max_order
        )
        if not (early and self.gate.on):
            self.resize(size, pages, node)
            return
        gate, self.gate = self.gate, Gate(built_in=False)
        self.resize(size, pages, node)
        self.gate = gate
        self.run(hugetlb_vmemmap_init(v, pool.order, pool.heads()))

    def fill(self, size: int | str) -> int:
        """Grow the pool of `size` over all memory that was asked for -> its pages."""
        order = self.hstate(size).order
        count = sum((end - start) >> order for start, end in self.plan.memory)
        self.resize(size, count)
        return self.pool(size).nr()

    def reserve(self, size: int | str, pages: int) -> bool:
        """Promise `pages` free pages to a mapping (below 0: take promises back) -> whether there
        are as many.
        """
        return self.run(hugetlb.reserve_huge_pages(self.hstate(size), pages))

    def use(self, size: int | str, pages: int, *, reserved: bool = False) -> int:
        """Take up to `pages` free pages into use, promised ones or those that are not -> how
        many.
        """
        return self.run(hugetlb.use_huge_pages(self.hstate(size), pages, reserved=reserved))

    def release(self, size: int | str, pages: int) -> None:
        """Take up to `pages` pages out of use, the last used first."""
        self.run(hugetlb.free_huge_folios(self.world.vmemmap, self.hstate(size), pages))

    def release_heads(self, size: int | str, heads: Pfns) -> None:
        """Take the pages `heads` of the pool of `size`, all in use, out of use in that order."""
        used, nodes = self.pool(size).used, self.world.vmemmap.node_of(heads)
        for node in np.unique(nodes).tolist():
            own = heads[nodes == node]
            used[node].remove(own)
            used[node].push(own[::-1])
            self.run(
                hugetlb.free_huge_folios(self.world.vmemmap, self.hstate(size, node), own.size)
            )

    def demote(self, size: int | str, target: int | str, node: int = 0) -> bool:
        """Make one free page of the pool of `size` into pages of `target` -> whether that could be
        done.
        """
        return (
            self.run(
                hugetlb.demote_pool_huge_page(
                    self.world.vmemmap, self.hstate(size), self.hstate(target), node
                )
            )
            == 0
        )

    def dissolve(self, size: int | str, head: int) -> bool:
        """Take the free page that begins at pfn `head` out of the pool of `size` and free it ->
        whether that could be done.
        """
        node = int(self.world.vmemmap.node_of(head))
        return (
            self.run(
                hugetlb.dissolve_free_hugetlb_folio(
                    self.world.vmemmap, self.hstate(size), head, node
                )
            )
            == 0
        )

    def optimize(self, size: int | str, heads: Pfns | None = None) -> NDArray[np.int64]:
        """Optimise pages of the pool of `size` (all: None) whatever the gate says -> 0 or an error
        number for each.
        """
        heads = self.pool(size).heads() if heads is None else heads
        return self.run(
            hugetlb_vmemmap_optimize_folios(self.world.vmemmap, self.hstate(size).order, heads)
        )

    def restore(self, size: int | str, heads: Pfns | None = None) -> NDArray[np.int64]:
        """Restore pages of the pool of `size` (all: None), which stay in it -> 0 or an error number
        for each, up to the first error.
        """
        heads = self.pool(size).heads() if heads is None else heads
        return self.run(
            hugetlb_vmemmap_restore_folios(self.world.vmemmap, self.hstate(size).order, heads)
        )

    # -- looking --

    def pool(self, size: int | str) -> HugetlbPool:
        """The pool of `size`; raises HvoError that lists the sizes there are."""
        wanted = _bytes(size)
        if wanted not in self.pools:
            accepted = ", ".join(format_size(known) for known in self.pools)
            page = format_size(self.plan.geometry.page_size)
            raise HvoError(
                f"HugeTLB size {format_size(wanted)}: {self.plan.geometry.arch} with {page} pages"
                f" has {accepted}"
            )
        return self.pools[wanted]

    def hstate(self, size: int | str, node: int | None = None) -> Hstate:
        """The pool of `size` as its actors see it."""
        pool = self.pool(size)
        return Hstate(pool.size, pool.order, self.gate.on, pool.nodes if node is None else (node,))

    def entries(self, pfn: int, size: int | str) -> list[VmemmapEntry]:
        """How the vmemmap of the huge page of `size` at `pfn` is mapped, page by page."""
        v = self.world.vmemmap
        addresses = strided(
            v.address(pfn), max(v.vmemmap_pages(self.hstate(size).order), 1), v.page_size
        )
        found = walk(self.world.memory, v.format, self.world.root, addresses)
        frames = found.address // np.uint64(v.page_size)
        return [
            VmemmapEntry(*row)
            for row in zip(
                addresses.tolist(), frames.tolist(), found.writable.tolist(), strict=True
            )
        ]

    def optimized(self, size: int | str) -> Pfns:
        """First pfns of the pages of the pool of `size` whose last vmemmap page has no frame
        of its own: what the tables say.
        """
        return optimized(self.world, self.pool(size))

    def counters(self) -> dict[str, int]:
        """What the kernel would show: /proc/meminfo in kB, the memmap counters of /proc/vmstat
        where the era has them, and the pools.

        `sysctl` is the gate, where it is built in; the meminfo part is about the pool of
        `default_size`.
        """
        kilobytes = self.plan.geometry.page_size // 1024
        default = self.pool(self.default_size)
        out = {
            "MemTotal": self.world.zones.managed_pages * kilobytes,
            "MemFree": self.world.zones.free_pages * kilobytes,
            "HugePages_Total": default.nr(),
            "HugePages_Free": default.nr_free(),
            "HugePages_Rsvd": default.reserved,
            "HugePages_Surp": default.nr_surplus(),
            "Hugepagesize": default.size // 1024,
            "Hugetlb": sum(pool.nr() * pool.size for pool in self.pools.values()) // 1024,
        }
        if self.world.vmemmap.era.batched:  # the counters came with 6.11
            out["nr_memmap_pages"] = self.world.counters[Counter.MEMMAP]
            out["nr_memmap_boot_pages"] = self.world.counters[Counter.MEMMAP_BOOT]
        for size, pool in sorted(self.pools.items()):
            name = f"@{size // 1024}kB"
            out |= {"nr_hugepages" + name: pool.nr(), "free_hugepages" + name: pool.nr_free()}
            out["surplus_hugepages" + name] = pool.nr_surplus()
        return out | ({"sysctl": int(self.gate.on)} if self.gate.built_in else {})


def _bytes(size: int | str) -> int:
    return parse_size(size) if isinstance(size, str) else size
