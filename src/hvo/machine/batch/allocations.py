"""Frames and huge pages for the pages of a run, as each would get them page by page."""

from functools import partial

import numpy as np

from hvo.machine.batch.conflicts import Lanes
from hvo.machine.batch.deferred import Deferred, Taken
from hvo.machine.batch.frame_shares import FrameShares
from hvo.machine.batch.hints import Abort, BatchHints
from hvo.memory.interface import Pfns
from hvo.steps.base import Value
from hvo.steps.frames import (
    AllocateFrame,
    AllocateFrames,
)
from hvo.steps.pool import AllocateFolio
from hvo.world.state import World
from hvo.world.transaction import Transaction


class Allocations:
    """What a run on `world` allocates; `later` keeps the order in which pages took it."""

    def __init__(self, world: World, hints: BatchHints, later: Deferred) -> None:
        self._world, self._hints, self._later = world, hints, later
        self.shares: FrameShares | None = None
        self.queued = {
            node.id: sum(zone.queued for zone in node.zones) for node in world.zones.nodes
        }
        """Single frames that wait on each node when the run begins."""
        self.last_with_folio = -1

    def begin(self, transaction: Transaction) -> None:
        """What is allocated from now on, `transaction` gives back; raises Abort when frames that
        must be shared out beforehand are not there.
        """
        self._transaction = transaction
        if self._hints.shares is not None:
            self.shares = self._share_out(*self._hints.shares)

    def _share_out(self, counts: Lanes, nodes: Lanes) -> FrameShares:
        """`counts` frames for each page on its node of `nodes`, page after page; a page that takes
        none still has a node here, which does not matter.
        """
        owners = np.repeat(nodes, counts)
        frames = np.empty(owners.size, np.int64)
        only = bool((nodes != nodes[0]).any())
        for node in np.unique(owners).tolist():
            count = int(np.count_nonzero(owners == node))
            got = self._world.zones.allocate_frames(count, node, this_node_only=only)
            if got is None:
                raise Abort(0)
            frames[owners == node] = got
        self._transaction.took(frames)
        return FrameShares(counts, frames)

    def frame(self, step: AllocateFrame, lanes: Lanes) -> Pfns:
        """A frame for each of `lanes`."""
        return self._take(lanes, 1, step.node, step.this_node_only, step.memmap)[:, 0]

    def frames(self, step: AllocateFrames, lanes: Lanes) -> Pfns:
        """Frames for each of `lanes`, shape (pages, count)."""
        return self._take(lanes, step.count, step.node, step.this_node_only, step.memmap)

    def _take(
        self, lanes: Lanes, count: int, node: Value, this_node_only: bool, memmap: bool
    ) -> Pfns:
        nodes = np.broadcast_to(np.asarray(node, np.int64), lanes.shape)
        if self.shares is not None:
            frames = self.shares.take(lanes, count)
            if (frames < 0).any():
                raise Abort(0)
        else:
            frames = np.empty((lanes.size, count), np.int64)
            only = this_node_only or bool(
                (nodes != nodes[0]).any()
            )  # nodes that serve each other are for one page at a time
            for each in np.unique(nodes).tolist():
                frames[nodes == each] = self._frames(lanes[nodes == each], count, each, only)
            self._transaction.took(frames)
        self._later.take(Taken(lanes, nodes, frames), memmap=memmap)
        return frames

    def _frames(self, lanes: Lanes, count: int, node: int, this_node_only: bool) -> Pfns:
        """`count` frames for each of `lanes`, shape (pages, count); where page by page would find
        frames freed meanwhile, no more.
        """
        need = count * lanes.size
        allowed = self._world.zones.allowed(need, node, this_node_only=this_node_only)
        if self._hints.frees:
            allowed = min(allowed, self.queued[node] - self._later.taken_on(node))
        if allowed < need:
            raise Abort(int(lanes[max(allowed, 0) // count]))
        return self._world.zones.allocate_upto(need, node, this_node_only=this_node_only).reshape(
            lanes.size, count
        )

    def folios(self, step: AllocateFolio, lanes: Lanes) -> Pfns:
        """One block for each of `lanes`, where they come out of a movable zone: then no frame that
        a page takes can come out of them.
        """
        if self.last_with_folio >= lanes[0]:
            raise Abort(0)  # page by page, this page would have had its blocks first
        self.last_with_folio = int(lanes[-1])
        nodes = np.broadcast_to(np.asarray(step.node, np.int64), lanes.shape)
        heads = np.empty(lanes.size, np.int64)
        for node in np.unique(nodes).tolist():
            heads[nodes == node] = self._folios(lanes[nodes == node], step.order, node)
        return heads

    def _folios(self, lanes: Lanes, order: int, node: int) -> Pfns:
        zone = self._world.zones.zonelist(node, movable=True)[0]
        if not zone.movable or self._world.zones.fail_after is not None:
            raise Abort(0)
        heads = (
            zone.allocate(order, lanes.size)
            if order <= zone.max_order
            else zone.allocate_gigantic(order, lanes.size)
        )
        self._transaction.add(partial(zone.free, heads, order))
        if heads.size < lanes.size:
            raise Abort(int(lanes[heads.size]))
        return heads
