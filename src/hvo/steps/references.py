"""Steps on the reference count of a page, besides those that take one."""

from dataclasses import dataclass

from hvo.steps.vocabulary import Step


@dataclass(frozen=True, slots=True, eq=False)
class DropReference(Step):
    """Atomically take one from the reference count of `pfn` -> what is left
    (`folio_put_testzero`).
    """

    pfn: int
