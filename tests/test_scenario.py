"""Scenarios: the words do what the kernel does, and replaying those of real kernels gives their counters at every snapshot."""

import subprocess
import sys
from pathlib import Path

import pytest
from shared_files import SHARED, need, truth

from hvo.errors import HvoError
from hvo.kernel.hugetlb import Gate
from hvo.machine.cmdline import boot_with, parse_cmdline
from hvo.machine.machine import Machine
from hvo.machine.scenario import Snapshot, run_scenario
from hvo.vmemmap.era import parse_variant

GIG = "hugepagesz=1G hugepages=1 hugetlb_free_vmemmap=on"
REPLAYS = {
    "x86-6.1-on": ("on", "5.18"),
    "x86-6.1-dump-on": ("on", "5.18"),
    "x86-6.12-off": ("off", "6.2"),
    "x86-6.12-on": ("on", "6.2"),
    "x86-6.12.94-mixed": ("mixed", "6.2"),
    "x86-6.12-gig": ("gig", "6.2"),
    "x86-7.3-on": ("on", "7.1"),
    "arm64-6.1-4k-off": ("off", "5.18"),
    "arm64-6.1-4k-on": ("on", "5.18"),
    "arm64-6.1-4k-mixed": ("mixed", "5.18"),
    "arm64-6.1-64k-few": ("few", "5.18"),
    "arm64-7.3-4k-sizes": ("sizes", "7.1"),
    "arm64-7.3-stock": ("on", "7.1"),
    "defect-x86-6.12.117-mixed": ("mixed", "6.2-reset-tails"),
}
"""For each core the scenario that its kernel ran, and the protocol that its kernel has."""
EQUAL = ("HugePages_", "nr_hugepages@", "free_hugepages@", "surplus_hugepages@", "Hugetlb", "Hugepagesize", "sysctl")
CHANGED_ALIKE = ("MemTotal", "nr_memmap_pages", "nr_memmap_boot_pages")


def shaped_like(name: str, era: str) -> Machine:
    """A machine with the architecture, page size, memory, gate and boot parameters of the kernel of core `name`."""
    of = truth()[name]
    memory = of["sections"] * of["section_size"]
    gate = Gate(built_in="sysctl" in of["snapshots"]["boot"])
    machine = Machine.build(of["arch"], of["page_size"], memory, era=parse_variant(era), gate=gate)
    if "gig" in name:
        boot_with(machine, parse_cmdline(GIG))
    return machine


def replay(name: str, era: str) -> tuple[Machine, list[Snapshot]]:
    """The scenario of core `name` on a machine shaped like it."""
    machine = shaped_like(name, era)
    return machine, run_scenario(machine, need(SHARED / f"cores/scenarios/{REPLAYS[name][0]}.sh"))


def comparable(counters: dict[str, int], base: dict[str, int]) -> dict[str, int]:
    """What two machines of different own memory must agree on: pools as they are, memory as it changed since `base`."""
    pools = {key: value for key, value in counters.items() if key.startswith(EQUAL)}
    return pools | {f"{key} since boot": counters[key] - base[key] for key in CHANGED_ALIKE if key in counters}


@pytest.mark.parametrize("name", REPLAYS)
def test_every_snapshot_of_the_kernel(name):
    """The machine's counters at every snapshot are those that the real kernel printed."""
    kernel = truth()[name]["snapshots"]
    _, ours = replay(name, REPLAYS[name][1])
    assert [snapshot.name for snapshot in ours] == list(kernel)
    for snapshot in ours:
        there = comparable(kernel[snapshot.name], kernel["boot"])
        here = comparable(snapshot.counters, ours[0].counters)
        assert {key: here.get(key) for key in there} == there, snapshot.name
