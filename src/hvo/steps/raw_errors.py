"""Steps on the record of broken pages that a HugeTLB page keeps, its `raw_hwp_list`
(mm/memory-failure.c).
"""

from dataclasses import dataclass

from hvo.steps.vocabulary import Step, Value


@dataclass(frozen=True, slots=True, eq=False)
class AddRawError(Step):
    """Add the broken page `pfn` to the record of the HugeTLB page `head` (`llist_add`) -> None."""

    head: int
    pfn: int


@dataclass(frozen=True, slots=True, eq=False)
class TakeRawErrors(Step):
    """Empty the record of the HugeTLB page `head` (`llist_del_all`) -> the pfns that were in it, a
    tuple of ints.
    """

    head: Value
