"""Gigantic pages whose vmemmap is built optimised at boot (6.15 and later, x86-64)."""

import pytest

from hvo.machine.machine import Machine
from hvo.machine.run.cmdline import boot_with, parse_cmdline
from hvo.vmemmap.era import era

CMDLINE = parse_cmdline("hugepagesz=1G hugepages=2 hugetlb_free_vmemmap=on")


def booted(variant: str | tuple[str, ...], arch: str = "x86_64") -> tuple[Machine, dict[str, int]]:
    name, *drop = variant if isinstance(variant, tuple) else (variant,)
    machine = Machine.build(arch, memory="4GiB", era=era(name, drop=tuple(drop)), gate=False)
    before = machine.counters()
    boot_with(machine, CMDLINE)
    after = machine.counters()
    return machine, {
        key: after[key] - before[key]
        for key in ("MemTotal", "nr_memmap_pages", "nr_memmap_boot_pages")
    }


def test_nothing_is_allocated_for_the_tails() -> None:
    """The head keeps its boot frame, the frames of the tails are given back: no frame is counted as
    allocated at run time.
    """
    machine, change = booted("7.1")
    assert machine.optimized("1GiB").size == 2
    assert change == {
        "MemTotal": 2 * 4095 * 4,
        "nr_memmap_pages": 0,
        "nr_memmap_boot_pages": -2 * 4095,
    }
    machine.resize("1GiB", 0)
    assert machine.pool("1GiB").nr() == 0
    assert machine.counters()["nr_memmap_pages"] == 2 * 4095


@pytest.mark.parametrize(
    ("variant", "arch"), [("6.2", "x86_64"), ("7.1", "arm64"), (("7.1", "built-at-boot"), "x86_64")]
)
def test_elsewhere_the_head_moves_to_a_new_frame(variant: str | tuple[str, ...], arch: str) -> None:
    """Where it is not built at boot, the page is optimised as at run time: a new head frame each,
    all boot frames given back.
    """
    machine, change = booted(variant, arch)
    assert machine.optimized("1GiB").size == 2
    assert (change["nr_memmap_pages"], change["nr_memmap_boot_pages"]) == (2, -2 * 4096)


def test_h15_most_tails_stay_writable() -> None:
    """A range in pages taken for bytes: of 4095 tails one is protected; with the fix all are."""
    writable = []
    for variant in (("7.1", "protect-whole-range"), ("7.1",)):
        machine, _ = booted(variant)
        entries = machine.entries(int(machine.pool("1GiB").heads()[0]), "1GiB")
        writable.append(sum(entry.writable for entry in entries[1:]))
        assert len({entry.frame for entry in entries[1:]}) == 1
    assert writable == [4094, 0]
