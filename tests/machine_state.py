"""Everything that tells two machines apart, for comparing what two executors left behind."""

from typing import Any

import numpy as np

from hvo.machine.machine import Machine
from hvo.mmu.walk import walk


def vmemmap_walk(machine: Machine) -> Any:
    """The walk of every page of the vmemmap."""
    v = machine.world.vmemmap
    ranges = [range_ for node in machine.plan.nodes for range_ in (node.own, node.memory)]
    addresses = [
        np.arange(int(v.address(start)), int(v.address(end)), v.page_size, dtype=np.uint64)
        for start, end in ranges
    ]
    return walk(machine.world.memory, v.format, machine.world.root, np.concatenate(addresses))


def state(machine: Machine) -> dict[str, Any]:
    """Entries and where they lie, contents of all frames they map, allocator, counters, pools."""
    world = machine.world
    found = vmemmap_walk(machine)
    frames = np.unique((found.address // np.uint64(world.vmemmap.page_size)).astype(np.int64))
    return {
        "entries": found.entry.tobytes(),
        "locations": found.location.tobytes(),
        "levels": found.level.tobytes(),
        "contents": world.memory.read_frames(frames).tobytes(),
        "queues": [zone.queued_frames().tolist() for zone in world.zones.zones],
        "blocks": [[part.tolist() for part in zone.free_blocks()] for zone in world.zones.zones],
        "managed": world.zones.managed_pages,
        "counters": {counter.value: count for counter, count in world.counters.items() if count},
        "pools": {
            size: (pool.heads().tolist(), pool.nr_surplus(), pool.nr_free())
            for size, pool in machine.pools.items()
        },
        "locks": sorted(lock.value for lock in world.locks),
        "vmemmap_page_list": len(world.vmemmap_page_list),
    }


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What is not the same."""
    return [name for name in one if one[name] != other[name]]
