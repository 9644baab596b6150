"""A tree whose pools answer to writes as the kernel's do, for faults that cannot be made on the
running kernel.

Each node's free list is a stack of pages that are optimised or not, as in mm/hugetlb.c.
"""

import errno
import re
from pathlib import Path

from host_trees import MIB, Host, NodePool

from hvo.host.tree import Tree

_SIZE, _FREED = 2 * MIB, 7
_POOL = re.compile(r"(?:node(\d+)/)?hugepages/hugepages-2048kB/nr_hugepages$")


class Kernel(Tree):
    """The 2 MiB pools of a host that answers to writes; `optimized` of its free pages are
    optimised, those on top.
    """

    def __init__(self, host: Host, root: Path, optimized: int = 0) -> None:
        host.write(root)
        super().__init__(root)
        self.host = host
        self.stacks = {node: [False] * (pool.free) for node, pool in host.pools[_SIZE].items()}
        for stack in self.stacks.values():
            stack[len(stack) - optimized :] = [True] * min(optimized, len(stack))
        self.room: int | None = None
        """Pages that the page allocator still has; `None` is enough."""
        self.frames: int | None = None
        """Frames that it has for the struct pages of optimised pages; `None` is enough."""
        self.refused: dict[str, int] = {}
        """Error numbers of writes to paths that end so."""
        self.on_write: list = []
        """Called with the number of writes to pools so far, before each of them."""
        self.pool_writes = 0
        self.held: list[tuple[int, bool]] = []
        self._flush(0)

    def _put(self, path: Path, value: str) -> None:
        for end, number in self.refused.items():
            if str(path).endswith(end):
                raise OSError(number, errno.errorcode[number])
        match = _POOL.search(str(path))
        if not match:
            super()._put(path, value)
            return
        self.pool_writes += 1
        for call in self.on_write:
            call(self.pool_writes)
        self.set_pool(int(match.group(1) or 0), int(value))

    def set_pool(self, node: int, count: int) -> None:
        """What `set_max_huge_pages()` does on one node."""
        pool, stack = self.host.pools[_SIZE][node], self.stacks[node]
        changed = -self._shrink(
            pool, stack, pool.pages - pool.surplus - max(count, pool.pages - pool.free)
        )
        pool.surplus += max(0, pool.pages - pool.surplus - count)
        while pool.pages - pool.surplus < count and self.room != 0:
            if pool.surplus:
                pool.surplus -= 1
                continue
            optimise = self.number("/proc/sys/vm/hugetlb_optimize_vmemmap") == 1
            stack.append(optimise)
            changed += optimise
            pool.pages, pool.free = pool.pages + 1, pool.free + 1
            self.room = None if self.room is None else self.room - 1
        self._flush(changed)

    def _shrink(self, pool: NodePool, stack: list[bool], pages: int) -> int:
        """Give back up to `pages` free pages, those on top; how many of them were optimised. One
        that lacks frames stays as surplus.
        """
        restored, stay = 0, []
        for optimised in [stack.pop() for _ in range(min(max(0, pages), len(stack)))]:
            if optimised and self.frames is not None and self.frames < _FREED:
                stay.append(optimised)
                pool.surplus += 1
                continue
            restored += optimised
            self.frames = None if self.frames is None else self.frames - _FREED * optimised
            self.room = None if self.room is None else self.room + 1
            pool.pages, pool.free = pool.pages - 1, pool.free - 1
        stack.extend(reversed(stay))
        return restored

    def take(self, size: int, pages: int, node: int | None) -> None:
        """`Hold.take`: use the pages on top of a free list."""
        assert size == _SIZE
        for _ in range(pages):
            self.held.append((node or 0, self.stacks[node or 0].pop()))
            self.host.pools[_SIZE][node or 0].free -= 1
        self._flush(0)

    def release(self) -> None:
        """`Hold.release`."""
        for node, page in self.held:
            self.stacks[node].append(page)
            self.host.pools[_SIZE][node].free += 1
        self.held.clear()
        self._flush(0)

    def pool(self, node: int = 0) -> NodePool:
        """The pool as it is."""
        return self.host.pools[_SIZE][node]

    def _flush(self, optimised: int) -> None:
        if self.host.memmap is not None:
            runtime, boot = self.host.memmap
            self.host.memmap = runtime, boot - optimised * _FREED
        self.host.write_pools(self.root)
