"""Pages dealt over NUMA nodes as the kernel does it: one from each node in turn
(`for_each_node_mask_to_alloc`, mm/hugetlb.c).
"""

from collections.abc import Mapping


def deal(free: Mapping[int, int], pages: int) -> dict[int, int]:
    """How many of `pages` come from each node when every node gives one in turn, as long as it has
    any of its `free` ones.
    """
    taken = dict.fromkeys(free, 0)
    while pages and (open_nodes := [node for node in free if taken[node] < free[node]]):
        share = max(
            1, min(pages // len(open_nodes), min(free[node] - taken[node] for node in open_nodes))
        )
        for node in open_nodes[:pages]:
            taken[node] += share
            pages -= share
    return taken
