"""The frame that all tails of one order share in a zone (7.1, mm/hugetlb_vmemmap.c,
`vmemmap_get_tail`).
"""

from hvo.memory.interface import Pfns
from hvo.steps.base import Steps, Value
from hvo.steps.entries import PublishPointer, ReadPointer, WritePointer
from hvo.steps.frames import AllocateFrame, FreeFrame
from hvo.steps.struct_pages import FillTails
from hvo.vmemmap.context import Vmemmap


def shared_tail(v: Vmemmap, order: int, head: Value) -> Steps[int | Pfns | None]:
    """The frame that tails of `order` share in the zone of `head` -> its pfn, None when there is no
    memory for it.
    """
    slot = v.tail_slot(v.zone_of(head), order)
    present = yield from ReadPointer(slot)
    if present is not None:
        return present
    frame = yield from AllocateFrame(v.node_of(head))
    if frame is None:
        return None
    yield from FillTails(frame, head, order, v.structs_per_page)
    return (yield from _publish(v, slot, frame))


def _publish(v: Vmemmap, slot: Value, frame: int | Pfns) -> Steps[int | Pfns]:
    """Make `frame` the zone's shared tail -> the frame that is it now; without `publish-tail` a
    plain store, and two may win (H14).
    """
    if not v.era.has("publish-tail"):
        yield from WritePointer(slot, frame)
        return frame
    present = yield from PublishPointer(slot, frame)
    if present is None:
        return frame
    yield from FreeFrame(frame)
    return present
