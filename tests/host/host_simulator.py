"""A tree whose pools answer to writes as the kernel's do, for faults that cannot be made on the
running kernel.

Each node's free list is a stack of pages that are optimised or not, as in mm/hugetlb.c. Others may
take and free pages at every step.
"""

import errno
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from host_trees import MIB, Host, NodePool

from hvo.errors import HvoError
from hvo.host.tree import Tree

_SIZE, _FREED = 2 * MIB, 7
_POOL = re.compile(r"(?:node(\d+)/)?hugepages/hugepages-2048kB/nr_hugepages$")


class Page(NamedTuple):
    """A HugeTLB page; a rebuilt one has another number."""

    number: int
    optimised: bool


class Kernel(Tree):
    """The 2 MiB pools of a host that answers to writes; `optimized` of its free pages are
    optimised, those on top.
    """

    def __init__(self, host: Host, root: Path, optimized: int = 0, reverse: bool = True) -> None:
        host.write(root)
        self.dirty = False
        self.on_disk = True
        """Whether the files below the root are those of the moment too, which takes longer."""
        self.files: dict[str, str] = {}
        """Files of pools and counters, as they were when somebody took or freed pages."""
        super().__init__(root)
        self.host = host
        self.reverse = reverse
        """Whether the pages of one write are pushed in reverse, as from 6.7 on."""
        self.born = 0
        self.stacks: dict[int, list[Page]] = {
            node: [self._page(number >= pool.free - optimized) for number in range(pool.free)]
            for node, pool in host.pools[_SIZE].items()
        }
        self.room: int | None = None
        """Pages that the page allocator still has; `None` is enough."""
        self.frames: int | None = None
        """Frames that it has for the struct pages of optimised pages; `None` is enough."""
        self.refused: dict[str, int] = {}
        """Error numbers of writes to paths that end so."""
        self.on_write: list = []
        """Called with the number of writes to pools so far, before each of them."""
        self.pool_writes = 0
        self.held: list[Page] = []
        """What a conversion holds, in the order of taking."""
        self.node = 0
        """The node that it is from."""
        self.most = 0
        self.theirs: dict[int, list[Page]] = {node: [] for node in self.stacks}
        """What others have taken since."""
        self.taken = 0
        """Pages that conversions took, all in all."""
        self.on_step: list[Callable[[], object]] = []
        """Called at every read of a pool and before each page that moves."""
        self._flush(0)

    def _put(self, path: str, value: str) -> None:
        for end, number in self.refused.items():
            if str(path).endswith(end):
                raise OSError(number, errno.errorcode[number])
        match = _POOL.search(str(path))
        if not match:
            super()._put(path, value)
            return
        self._step()
        self.pool_writes += 1
        for call in self.on_write:
            call(self.pool_writes)
        self.set_pool(int(match.group(1) or 0), int(value))
        self._step()

    def replace(self, name: str, text: str, *, durable: bool = True) -> None:
        """See `Tree.replace`."""
        self._step()
        super().replace(name, text, durable=durable)

    def remove(self, name: str) -> None:
        """See `Tree.remove`."""
        self._step()
        super().remove(name)

    def set_pool(self, node: int, count: int) -> None:
        """What `set_max_huge_pages()` does on one node."""
        pool, stack = self.host.pools[_SIZE][node], self.stacks[node]
        changed = -self._shrink(
            pool, stack, pool.pages - pool.surplus - max(count, pool.pages - pool.free)
        )
        pool.surplus += max(0, pool.pages - pool.surplus - count)
        fresh: list[Page] = []
        while pool.pages - pool.surplus < count and self.room != 0:
            if pool.surplus:
                pool.surplus -= 1
                continue
            optimise = self.number("/proc/sys/vm/hugetlb_optimize_vmemmap") == 1
            fresh.append(self._page(optimise))
            changed += optimise
            pool.pages, pool.free = pool.pages + 1, pool.free + 1
            self.room = None if self.room is None else self.room - 1
        stack.extend(reversed(fresh) if self.reverse else fresh)
        self._flush(changed)

    def _shrink(self, pool: NodePool, stack: list[Page], pages: int) -> int:
        """Give back up to `pages` free pages, those on top; how many of them were optimised. One
        that lacks frames stays as surplus.
        """
        restored, stay = 0, []
        for page in [stack.pop() for _ in range(min(max(0, pages), len(stack)))]:
            if page.optimised and self.frames is not None and self.frames < _FREED:
                stay.append(page)
                pool.surplus += 1
                continue
            restored += page.optimised
            self.frames = None if self.frames is None else self.frames - _FREED * page.optimised
            self.room = None if self.room is None else self.room + 1
            pool.pages, pool.free = pool.pages - 1, pool.free - 1
        stack.extend(reversed(stay))
        return restored

    @property
    def pages(self) -> int:
        """`Hold.pages`."""
        return len(self.held)

    def begin(self, size: int, most: int, node: int | None) -> None:
        """`Hold.begin`."""
        assert size == _SIZE
        assert not self.held
        self.most, self.node = most, node or 0

    def take(self, pages: int) -> None:
        """`Hold.take`: use the pages on top of a free list, one after the other."""
        assert len(self.held) + pages <= self.most
        for _ in range(pages):
            self._step()
            self.held += self._pop(self.node, 1)
            self.taken += 1

    def give(self, pages: int) -> None:
        """`Hold.give`."""
        self._step()
        given, self.held = self.held[:pages], self.held[pages:]
        self._push(self.node, reversed(given))
        self._step()

    def release(self) -> None:
        """`Hold.release`."""
        self.give(len(self.held))

    def others_take(self, node: int, pages: int) -> None:
        """Others use free pages; raises `HvoError` when there are too few."""
        self.theirs[node] += self._pop(node, pages)

    def others_free(self, node: int, pages: int) -> None:
        """They put some of them back, the ones that they took last."""
        rest = len(self.theirs[node]) - pages
        freed, self.theirs[node] = self.theirs[node][rest:], self.theirs[node][:rest]
        self._push(node, reversed(freed))

    def optimised(self, node: int = 0) -> list[bool]:
        """Which pages of a free list are optimised, from the bottom to the top."""
        return [page.optimised for page in self.stacks[node]]

    def data(self, name: str) -> bytes:
        """See `Tree.data`; files of pools and counters are those of the moment."""
        if "hugepages" in name:
            self._step()
        if self.dirty:
            self.files = self.host.changing_files()
            self.dirty = False
        text = self.files.get(name.lstrip("/"))
        return super().data(name) if text is None else text.encode()

    def _page(self, optimised: bool) -> Page:
        self.born += 1
        return Page(self.born, optimised)

    def _step(self) -> None:
        for call in self.on_step:
            call()

    def _pop(self, node: int, pages: int) -> list[Page]:
        stack = self.stacks[node]
        if pages > len(stack):
            raise HvoError(f"{pages} pages wanted, {len(stack)} free")
        self.host.pools[_SIZE][node].free -= pages
        self.dirty = True
        return [stack.pop() for _ in range(pages)]

    def _push(self, node: int, pages: Iterable[Page]) -> None:
        """Free pages in this order; while there are surplus pages, they leave the pool instead."""
        pool = self.host.pools[_SIZE][node]
        for page in pages:
            if pool.surplus:
                pool.surplus, pool.pages = pool.surplus - 1, pool.pages - 1
                self._count(-page.optimised)
            else:
                self.stacks[node].append(page)
                pool.free += 1
        self.dirty = True

    def pool(self, node: int = 0) -> NodePool:
        """The pool as it is."""
        return self.host.pools[_SIZE][node]

    def _flush(self, optimised: int) -> None:
        self._count(optimised)
        self.dirty = True
        if self.on_disk:
            self.host.write_pools(self.root)
            self.files, self.dirty = {}, False

    def _count(self, optimised: int) -> None:
        if self.host.memmap is not None:
            runtime, boot = self.host.memmap
            self.host.memmap = runtime, boot - optimised * _FREED
