"""Trees of procfs and sysfs for what a test cannot create: other kernels, other architectures,
several nodes, pools in use.
"""

import gzip
from dataclasses import dataclass, field
from pathlib import Path

from hvo.host.tree import Tree

MIB, GIB = 1 << 20, 1 << 30
HVO = (
    "HUGETLB_PAGE",
    "SPARSEMEM_VMEMMAP",
    "MEMCG",
    "ARCH_WANT_OPTIMIZE_HUGETLB_VMEMMAP",
    "HUGETLB_PAGE_OPTIMIZE_VMEMMAP",
)
"""Build options of a kernel that can optimise."""
NR = "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"


@dataclass
class NodePool:
    """The pool of one size on one node, as the kernel shows it."""

    pages: int = 0
    free: int = 0
    surplus: int = 0


@dataclass
class Host:
    """A host whose files can be written below a directory; amounts of memory are in base pages."""

    release: str = "6.18.44"
    version: str = "Linux version"
    arch: str = "x86_64"
    sysctl_arch: bool = True
    page_size: int = 4096
    options: tuple[str, ...] | None = HVO
    gate: int | None = 1
    cmdline: str = "root=/dev/vda quiet"
    pools: dict[int, dict[int, NodePool]] = field(
        default_factory=lambda: {2 * MIB: {0: NodePool()}, GIB: {0: NodePool()}}
    )
    reserved: int = 0
    sections: int = 192
    section_size: int = 128 * MIB
    memmap: tuple[int, int] | None = (0, 98304)
    """`nr_memmap_pages`, `nr_memmap_boot_pages`."""
    free_pages: int = 1_000_000
    blocks: bool = True
    memmap_on_memory: str | None = None
    mem_total: int | None = None
    """In KiB; by default what the sections have."""
    name: str | None = "shelf-3"
    """Host name; `None`: the file is missing."""

    @property
    def nodes(self) -> list[int]:
        """Nodes that have pools."""
        return sorted({node for pool in self.pools.values() for node in pool})

    def write(self, root: Path) -> Tree:
        """The tree of this host below `root`."""
        for name, text in self._files().items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if self.options is not None:
            lines = [f"CONFIG_{option}=y\n" for option in self.options]
            (root / "proc/config.gz").write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
        return Tree(root)

    def write_pools(self, root: Path) -> None:
        """Only the files of the pools and the counters, which change."""
        for name, text in self.changing_files().items():
            (root / name).write_text(text)

    def changing_files(self) -> dict[str, str]:
        """The files of the pools and the counters."""
        return self._pool_files() | self._counters()

    def _files(self) -> dict[str, str]:
        per_node = self.sections * self.section_size // self.page_size // len(self.nodes)
        zones = "".join(
            f"Node {node}, zone   Normal\n  pages free     {self.free_pages}\n        min     "
            f" 100\n        low      200\n        high     300\n        spanned  {per_node}\n      "
            f"  present  {per_node}\n        managed  {per_node}\nNode {node}, zone  Movable\n "
            " pages free     999999\n        low      10\n        spanned  0\n        present  0\n"
            for node in self.nodes
        )
        files = {
            "proc/sys/kernel/osrelease": f"{self.release}\n",
            "proc/version": f"{self.version}\n",
            "proc/cmdline": f"{self.cmdline}\n",
            "proc/zoneinfo": zones,
            "proc/sys/kernel/random/boot_id": "b0\n",
            "proc/sys/vm/compact_memory": "",
            "proc/cpuinfo": (
                "CPU implementer\t: 0x41\n"
                if self.arch == "arm64"
                else "vendor_id\t: GenuineIntel\n"
            ),
        }
        if self.name is not None:
            files["proc/sys/kernel/hostname"] = f"{self.name}\n"
        if self.sysctl_arch:
            files["proc/sys/kernel/arch"] = {"arm64": "aarch64"}.get(self.arch, self.arch) + "\n"
        if self.gate is not None:
            files["proc/sys/vm/hugetlb_optimize_vmemmap"] = f"{self.gate}\n"
        if self.memmap_on_memory:
            files["sys/module/memory_hotplug/parameters/memmap_on_memory"] = (
                f"{self.memmap_on_memory}\n"
            )
        if self.blocks:
            files["sys/devices/system/memory/block_size_bytes"] = f"{self.section_size:x}\n"
            files |= {
                f"sys/devices/system/memory/memory{number}/state": "online\n"
                for number in range(self.sections)
            }
        return files | self._pool_files() | self._counters()

    def _pool_files(self) -> dict[str, str]:
        files: dict[str, str] = {}
        for size, per_node in self.pools.items():
            name = f"hugepages-{size >> 10}kB"
            every = NodePool(
                *(
                    sum(getattr(p, each) for p in per_node.values())
                    for each in ("pages", "free", "surplus")
                )
            )
            places = {f"sys/kernel/mm/hugepages/{name}": every}
            places |= {
                f"sys/devices/system/node/node{node}/hugepages/{name}": pool
                for node, pool in per_node.items()
            }
            for place, pool in places.items():
                amounts = {"nr": pool.pages, "free": pool.free, "surplus": pool.surplus}
                files |= {
                    f"{place}/{key}_hugepages": f"{amount}\n" for key, amount in amounts.items()
                }
            files |= {
                f"sys/kernel/mm/hugepages/{name}/{key}_hugepages": "0\n"
                for key in ("resv", "nr_overcommit")
            }
        return files | {
            "sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages": f"{self.reserved}\n"
        }

    def _counters(self) -> dict[str, str]:
        total = self.mem_total or self.sections * self.section_size // 1024
        counted = (
            ""
            if self.memmap is None
            else "nr_memmap_pages {}\nnr_memmap_boot_pages {}\n".format(*self.memmap)
        )
        size = min(self.pools) if 2 * MIB not in self.pools else 2 * MIB
        return {
            "proc/meminfo": (
                f"MemTotal: {total} kB\nMemAvailable: {self.free_pages * self.page_size // 1024}"
                f" kB\nPageTables: {500 * self.page_size // 1024} kB\nHugepagesize: {size // 1024}"
                " kB\n"
            ),
            "proc/vmstat": f"nr_free_pages 1\nnr_page_table_pages 505\n{counted}",
        }
