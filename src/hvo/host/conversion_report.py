"""What a conversion says of itself besides its writes and counters: figures and notes."""

from collections.abc import Collection

from hvo.host.advice import is_gigantic
from hvo.host.conversion import Conversion
from hvo.host.kernel import defect_notes
from hvo.host.rebuilding import Others
from hvo.layout.units import format_size


def figures(
    plan: Conversion,
    rebuilt: int = 0,
    newly: int | None = None,
    left_free: int = 0,
    others: Collection[Others] = (),
) -> dict[str, int | None]:
    """The figures of a conversion that has rebuilt so many pages."""
    return {
        "size": plan.total.size,
        "pages": plan.total.pages,
        "convertible": plan.pages,
        "rebuilt": rebuilt,
        "optimized": newly,
        "left": plan.total.busy,
        "batch": plan.batch,
        "keep_free": plan.keep_free,
        "left_free": left_free,
        "taken_meanwhile": sum(each.taken for each in others),
        "freed_meanwhile": sum(each.freed for each in others),
    }


def notes(plan: Conversion, left_free: int, others: Collection[Others] = ()) -> tuple[str, ...]:
    """What a person should know: pages that are left, and what others did."""
    found = list(defect_notes(plan.kernel, plan.total.size, min(plan.pages, plan.known.high)))
    busy = plan.total.busy
    if plan.known.exact == plan.total.pages:
        found.append(
            "every page of this size is optimised already"
            if plan.total.pages
            else "the pool is empty"
        )
    elif busy:
        found.append(
            f"{busy} pages are in use or reserved and are left as they are: convert them once their"
            " users have ended"
        )
    if done := sum(part.reach - part.pages for part in plan.parts):
        found.append(f"{done} pages are left out: a conversion that was interrupted rebuilt them")
    if left_free:
        others_too = " and others used the pool" if left_free > plan.left_free else ""
        found.append(
            f"{left_free} free pages are left as they are, because {plan.keep_free} stay free"
            f"{others_too}: {everything(plan)} takes them too"
        )
    if taken := sum(each.taken for each in others):
        found.append(
            f"others took up to {taken} pages meanwhile, which may not be optimised: convert them"
            " once their users have ended"
        )
    if freed := sum(each.freed for each in others):
        found.append(f"others freed up to {freed} pages meanwhile")
    return tuple(found)


def everything(plan: Conversion) -> str:
    """The command that keeps no page free."""
    nodes = [part.pool.node for part in plan.parts]
    one = len(nodes) == 1 and plan.total.pages != plan.parts[0].pool.pages
    words = [f"hvo convert --size {format_size(plan.total.size)}"]
    words += [f"--node {nodes[0]}"] if one else []
    words += ["--gigantic"] if is_gigantic(plan.kernel, plan.total.size) else []
    return " ".join([*words, "--keep-free 0"])
