"""How many pages are optimised, read off the page tables: exact where the counters are not, and
slower.

Imported only when it is asked for, because an audit needs numpy, and drgn for `/proc/kcore`.
"""

from hvo.audit.audit import audit
from hvo.audit.result import Counts
from hvo.host.optimized import Estimate
from hvo.host.pools import Place, Pool
from hvo.memory.target import open_target


def audited(target: str, pools: list[Pool]) -> dict[Place, Estimate]:
    """What the memory `target` (`live`, or a core of the host) shows of the pools that have as many
    pages in it as in sysfs.

    Raises `HvoError` when the memory cannot be read.
    """
    found = audit(open_target(target, lambda _: None))
    counts: dict[Place, Counts] = {(pool.size, None): pool.counts for pool in found.pools}
    counts |= {(pool.size, node): each for pool in found.pools for node, each in pool.nodes.items()}
    known: dict[Place, Estimate] = {}
    for pool in pools:
        count = counts.get((pool.size, pool.node))
        if count is not None and count.pages == pool.pages:
            partly = f", {count.partial} more partly" if count.partial else ""
            known[pool.size, pool.node] = Estimate(
                count.optimized,
                count.optimized,
                "audit",
                f"page tables of {target}{partly}",
                count.self_hosted,
            )
    return known
