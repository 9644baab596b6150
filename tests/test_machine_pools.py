"""HugeTLB pools of a machine: promises to mappings, surplus pages, demotion and dissolving, lost
pages.
"""

import numpy as np
import pytest

from hvo.errors import HvoError
from hvo.machine.machine import Machine
from hvo.vmemmap.era import era

ERAS = ["5.14", "5.18", "6.2", "7.1"]


def pool(machine: Machine) -> tuple[int, int, int]:
    counters = machine.counters()
    return counters["HugePages_Total"], counters["HugePages_Free"], counters["HugePages_Surp"]


def test_reserved_pages_are_kept_for_their_mapping() -> None:
    """Promised pages are neither taken by others nor given back; the mapping that they were
    promised to gets them.
    """
    machine = Machine.build(memory="256MiB")
    machine.resize("2MiB", 10)
    assert machine.reserve("2MiB", 6)
    assert not machine.reserve("2MiB", 5)
    assert machine.use("2MiB", 10) == 4
    machine.resize("2MiB", 0)
    assert pool(machine) == (10, 6, 10)  # all stay: in use or promised, and so surplus
    assert machine.counters()["HugePages_Rsvd"] == 6
    assert machine.use("2MiB", 9, reserved=True) == 6
    assert machine.counters()["HugePages_Rsvd"] == 0
    machine.release("2MiB", 10)
    assert pool(machine) == (0, 0, 0)


@pytest.mark.parametrize("name", ERAS)
def test_pages_in_use_become_surplus_and_leave_when_released(name: str) -> None:
    machine = Machine.build(memory="256MiB", era=name)
    free = machine.counters()["MemFree"]
    machine.resize("2MiB", 8)
    machine.use("2MiB", 5)
    machine.resize("2MiB", 2)
    assert pool(machine) == (5, 0, 3)
    machine.release("2MiB", 5)
    assert pool(machine) == (2, 2, 0)
    machine.resize("2MiB", 0)
    table_and_tail = 4 * (
        1 + (name == "7.1")
    )  # what the leaf's table and the zone's shared tail took stays taken
    assert free - machine.counters()["MemFree"] == table_and_tail


@pytest.mark.parametrize("name", ERAS)
def test_demotion_restores_first_and_optimises_the_parts_anew(name: str) -> None:
    """A 1 GiB page becomes 512 pages of 2 MiB, each optimised; when its vmemmap cannot be restored
    nothing changes.
    """
    machine = Machine.build(memory="2GiB", era=name)
    machine.resize("1GiB", 1)
    machine.world.zones.fail_after = 100
    assert not machine.demote("1GiB", "2MiB")
    machine.world.zones.fail_after = None
    assert (machine.pool("1GiB").nr(), machine.optimized("1GiB").size) == (1, 1)
    assert machine.demote("1GiB", "2MiB")
    assert (machine.pool("1GiB").nr(), machine.pool("2MiB").nr()) == (0, 512)
    assert machine.optimized("2MiB").size == 512
    assert not machine.demote("1GiB", "2MiB")


def test_dissolving_takes_one_page_out() -> None:
    machine = Machine.build(memory="256MiB")
    machine.resize("2MiB", 4)
    head = int(machine.pool("2MiB").heads()[2])
    assert machine.dissolve("2MiB", head)
    assert head not in machine.pool("2MiB").heads()
    assert machine.world.zones.is_free(np.array([head]))[0]
    assert pool(machine) == (3, 3, 0)


def test_h19_loses_every_optimised_page_that_is_given_back() -> None:
    """Restored pages that hold copies of the head: the allocator refuses them, and their memory
    never comes back.
    """
    lost = {}
    for drop in ((), ("reset-tails",)):
        machine = Machine.build(memory="256MiB", era=era("6.2", drop=drop))
        machine.resize("2MiB", 20)
        free = machine.counters()["MemFree"]
        machine.resize("2MiB", 5)
        lost[drop] = (len(machine.world.lost), machine.counters()["MemFree"] - free)
    assert lost[()] == (0, 15 * (2048 - 28))
    assert lost["reset-tails",] == (15, -15 * 28)


def test_a_size_that_is_not_there_is_refused() -> None:
    machine = Machine.build("arm64", "16KiB", "256MiB")
    with pytest.raises(HvoError, match=r"4MiB.*has 2MiB, 32MiB, 1GiB"):
        machine.resize("4MiB", 1)


@pytest.mark.parametrize("name", ERAS)
def test_small_sizes_are_never_optimised(name: str) -> None:
    """The struct pages of a 64 KiB page fill less than one page: the pool works, nothing is
    optimised.
    """
    machine = Machine.build(memory="128MiB", era=name)
    machine.resize("64KiB", 30)
    assert machine.pool("64KiB").nr() == 30
    assert machine.optimized("64KiB").size == 0
    assert set(machine.optimize("64KiB").tolist()) == {-95}
    machine.resize("64KiB", 0)
    assert machine.pool("64KiB").nr() == 0
