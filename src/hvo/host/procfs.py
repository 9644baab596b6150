"""What procfs and sysfs of a host say, as values: counters, zones, boot parameters, build options,
present memory.

Sources: Documentation/filesystems/proc.rst, Documentation/admin-guide/mm/memory-hotplug.rst,
mm/vmstat.c.
"""

import gzip
import re
import zlib
from io import BytesIO
from typing import NamedTuple

from hvo.errors import HvoError
from hvo.host.tree import Tree

_KB = 1024
_ARCHES = {"aarch64": "arm64", "amd64": "x86_64"}
# Lines of /proc/cpuinfo that only one architecture prints, for kernels before 6.1, which have no
# /proc/sys/kernel/arch.
_CPUINFO = (
    ("CPU implementer", "arm64"),
    ("vendor_id", "x86_64"),
    ("isa\t", "riscv64"),
    ("Loongson", "loongarch64"),
)
_NUMBER = re.compile(r"[0-9]{1,20}")
_OPTIONS = 16 << 20
"""Bytes of build options that are read; kernels have some 300 thousand."""
_ZONE = re.compile(r"Node ([0-9]{1,6}), zone\s+(\w+)")


class Counters(NamedTuple):
    """The counters that optimising moves, in bytes: `MemTotal`, and the memory map's where the
    kernel counts it (6.11 and later).
    """

    mem_total: int
    boot: int | None
    """`nr_memmap_boot_pages`: what was allocated for the memory map before the page allocator was
    up.
    """
    runtime: int | None
    """`nr_memmap_pages`: what the page allocator gave for it."""

    @property
    def memmap(self) -> int | None:
        """Bytes of the memory map now; `None` where the kernel does not count them."""
        return None if self.boot is None or self.runtime is None else self.boot + self.runtime


class Zone(NamedTuple):
    """One zone of `/proc/zoneinfo`; every amount in base pages."""

    node: int
    name: str
    free: int
    low: int
    """The low watermark: below it allocations that may wait start to reclaim."""
    present: int
    spanned: int

    @property
    def holds_kernel_pages(self) -> bool:
        """Whether vmemmap frames may come from it: not from movable memory, nor from a device's."""
        return self.name not in ("Movable", "Device", "HighMem")


def arch(tree: Tree) -> str:
    """The architecture as `hvo.layout` calls it; raises `HvoError` when nothing in the tree
    tells.
    """
    name = tree.read_or("/proc/sys/kernel/arch", "").strip()
    if name:
        return _ARCHES.get(name, name)
    cpuinfo = tree.read_or("/proc/cpuinfo", "")
    for mark, known in _CPUINFO:
        if mark in cpuinfo:
            return known
    raise HvoError(
        f"{tree.path('/proc/cpuinfo')}: expected a host of x86_64, arm64, riscv64 or loongarch64"
    )


def hostname(tree: Tree) -> str | None:
    """What the host calls itself, `None` where it cannot be read, or was given no name."""
    name = tree.read_or("/proc/sys/kernel/hostname", "").strip()
    return None if name in ("", "(none)") else name  # UTS_NODENAME, until somebody sets it


def table(text: str) -> dict[str, int]:
    """The numbers of `/proc/meminfo` (in bytes) or `/proc/vmstat` (as they are) by their names."""
    values: dict[str, int] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and _NUMBER.fullmatch(words[1]):
            values[words[0].rstrip(":")] = int(words[1]) * (_KB if words[2:] == ["kB"] else 1)
    return values


def page_size(tree: Tree) -> int:
    """Bytes of a base page: page tables are counted in bytes in one file and in pages in the other.

    The two are read one after the other and may differ a little, so the nearest power of two is
    taken.
    """
    size = table(tree.read("/proc/meminfo")).get("PageTables", 0)
    pages = table(tree.read("/proc/vmstat")).get("nr_page_table_pages", 0)
    if not size or not pages:
        raise HvoError(
            f"{tree.path('/proc/vmstat')}: expected nr_page_table_pages, and PageTables in meminfo,"
            " to tell the base page"
        )
    return min((4096, 16384, 65536), key=lambda known: abs(known - size / pages))


def counters(tree: Tree, base_page: int) -> Counters:
    """The counters as they are now."""
    vmstat = table(tree.read("/proc/vmstat"))
    boot, runtime = (vmstat.get(name) for name in ("nr_memmap_boot_pages", "nr_memmap_pages"))
    total = table(tree.read("/proc/meminfo")).get("MemTotal")
    if total is None:
        raise HvoError(f"{tree.path('/proc/meminfo')}: expected MemTotal")
    return Counters(
        total,
        None if boot is None else boot * base_page,
        None if runtime is None else runtime * base_page,
    )


def zones(tree: Tree) -> list[Zone]:
    """Every zone; raises `HvoError` when `/proc/zoneinfo` cannot be read."""
    found: list[Zone] = []
    parts = _ZONE.split(tree.read("/proc/zoneinfo"))
    for node, name, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        amounts = (_amount(body, word) for word in ("pages free", "low", "present", "spanned"))
        found.append(Zone(int(node), name, *amounts))
    return found


def present_memory(tree: Tree, base_page: int) -> int | None:
    """Bytes of memory that are there, without memory of devices; `None` where `/proc/zoneinfo`
    cannot be read.

    `MemTotal` is less: it leaves out what the kernel took while booting, the memory map above all,
    and grows when pages are optimised.
    """
    try:
        return sum(zone.present for zone in zones(tree) if zone.name != "Device") * base_page
    except HvoError:
        return None


def _amount(body: str, word: str) -> int:
    match = re.search(rf"^\s+{word}\s+([0-9]{{1,20}})$", body, re.MULTILINE)
    return int(match.group(1)) if match else 0


def boot_parameter(tree: Tree, name: str) -> str | None:
    """The last value of a boot parameter, the empty string when it has none, `None` when it was not
    given.
    """
    value = None
    for word in tree.read_or("/proc/cmdline", "").split(" -- ")[0].split():
        key, _, given = word.partition("=")
        if key.replace("-", "_") == name:
            value = given
    return value


def build_options(tree: Tree, release: str) -> dict[str, str] | None:
    """The kernel's build options (`CONFIG_...` to `y`, `m` or a value; unset ones are missing),
    `None` when they cannot be read.
    """
    if tree.exists("/proc/config.gz"):
        try:
            with gzip.open(BytesIO(tree.data("/proc/config.gz"))) as file:
                text = file.read(_OPTIONS).decode()
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise HvoError(
                f"{tree.path('/proc/config.gz')}: expected a gzip file with build options ({error})"
            ) from error
    else:
        text = tree.read_or(f"/boot/config-{release}", "")
    pairs = (line.partition("=") for line in text.splitlines() if line.startswith("CONFIG_"))
    return {name: value for name, _, value in pairs} or None


def memory_map_pages(
    tree: Tree, section_size: int, base_page: int, struct_page: int = 64
) -> tuple[int, int]:
    """The least and the most vmemmap pages that the present sections have when nothing is
    optimised.

    A section is described whole. The memory blocks of sysfs count them exactly when a block is one
    section; else `/proc/iomem` does for root; else the zones say how many there are at least and
    the blocks, or what the zones span, how many at most.
    """
    each = section_size // base_page * struct_page // base_page
    present = -(-sum(zone.present for zone in zones(tree)) * base_page // section_size)
    blocks = [
        name
        for name in tree.names("/sys/devices/system/memory")
        if re.fullmatch(r"memory\d+", name)
    ]
    if blocks:
        per_block = _block_size(tree) // section_size
        if per_block == 1:
            return len(blocks) * each, len(blocks) * each
        most = len(blocks) * per_block
    else:
        most = sum(-(-zone.spanned * base_page // section_size) for zone in zones(tree))
    seen = _sections_of_iomem(tree, section_size)
    least, most = (seen, seen) if present <= seen <= most else (present, max(present, most))
    return least * each, most * each


def _block_size(tree: Tree) -> int:
    """Bytes of a memory block."""
    name = "/sys/devices/system/memory/block_size_bytes"
    text = tree.read(name).strip()
    if not re.fullmatch(r"[0-9a-f]{1,16}", text):
        raise HvoError(f"{tree.path(name)}: expected a hexadecimal number, found {text[:40]!r}")
    return int(text, 16)


def _sections_of_iomem(tree: Tree, section_size: int) -> int:
    """Sections that `/proc/iomem` has memory in; 0 when it hides the addresses, as it does from all
    but root.
    """
    found, behind = 0, 0  # they are in the order of their addresses
    for match in re.finditer(
        r"^([0-9a-f]{1,16})-([0-9a-f]{1,16}) : System RAM",
        tree.read_or("/proc/iomem", ""),
        re.MULTILINE,
    ):
        first, last = (int(address, 16) // section_size for address in match.groups())
        if int(match.group(2), 16):
            found += max(0, last + 1 - max(first, behind))
            behind = max(behind, last + 1)
    return found
