"""Steps of whoever gets a frame that was given back to the page allocator, and of errors recorded on HugeTLB pages."""

from dataclasses import dataclass

from hvo.steps.vocabulary import Step


@dataclass(frozen=True, slots=True, eq=False)
class TakeFreed(Step):
    """Allocate a frame that was freed before, for data -> its pfn, None when there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class WriteData(Step):
    """Write data into the frame `pfn`, through the linear map -> None."""

    pfn: int


@dataclass(frozen=True, slots=True, eq=False)
class RecordError(Step):
    """Add an error to the record of the HugeTLB page `head` (`folio_set_hugetlb_hwpoison`) -> None."""

    head: int


@dataclass(frozen=True, slots=True, eq=False)
class MoveErrors(Step):
    """Move the record of the HugeTLB page `head` to the pages that are broken (`folio_clear_hugetlb_hwpoison`) -> None."""

    head: int
