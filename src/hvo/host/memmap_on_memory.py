"""Whether memory that is hot-added hosts its own vmemmap
(`memory_hotplug.memmap_on_memory`, 5.14).
"""

import re

from hvo.host.kernel import Kernel
from hvo.host.tree import Tree

PARAMETER = "/sys/module/memory_hotplug/parameters/memmap_on_memory"
_OFF = ("", "0", "n", "N")


def is_on(tree: Tree) -> bool:
    """Whether memory that is hot-added hosts its own vmemmap (`Y`, or `force`)."""
    return tree.read_or(PARAMETER, "").strip() not in _OFF


def uncounted_blocks(tree: Tree, kernel: Kernel) -> tuple[int, int] | None:
    """Vmemmap pages of a memory block and how many blocks there are, where blocks may have a memory
    map that the kernel does not count; None where none does.
    """
    if not is_on(tree):
        return None
    names = tree.names("/sys/devices/system/memory")
    blocks = sum(bool(re.fullmatch(r"memory\d+", name)) for name in names)
    text = tree.read_or("/sys/devices/system/memory/block_size_bytes", "").strip()
    if not blocks or not re.fullmatch(r"[0-9a-fA-F]+", text):
        return None
    return kernel.vmemmap_pages(int(text, 16)), blocks
