"""Scenarios: the words do what the kernel does, and replaying those of real kernels gives their
counters at every snapshot.
"""

from pathlib import Path

import pytest

from hvo.errors import HvoError
from hvo.kernel.hugetlb import Gate
from hvo.machine.machine import Machine
from hvo.machine.run.cmdline import boot_with, parse_cmdline
from hvo.machine.scenario.scenario import Snapshot, run_scenario
from hvo.vmemmap.era import parse_variant
from shared_files import SHARED, core, need, truth

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
EQUAL = (
    "HugePages_",
    "nr_hugepages@",
    "free_hugepages@",
    "surplus_hugepages@",
    "Hugetlb",
    "Hugepagesize",
    "sysctl",
)
CHANGED_ALIKE = ("MemTotal", "nr_memmap_pages", "nr_memmap_boot_pages")


def shaped_like(name: str, era: str) -> Machine:
    """A machine with the architecture, page size, memory, gate and boot parameters of the kernel of
    core `name`.
    """
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
    """What two machines of different own memory must agree on: pools as they are, memory as it
    changed since `base`.
    """
    pools = {key: value for key, value in counters.items() if key.startswith(EQUAL)}
    return pools | {
        f"{key} since boot": counters[key] - base[key] for key in CHANGED_ALIKE if key in counters
    }


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


def test_the_defect_loses_what_it_loses_in_the_kernel():
    """Without reset-tails the 50 optimised pages that leave are lost, as in 6.12.117; with it their
    memory comes back.
    """
    kernel = truth()["defect-x86-6.12.117-mixed"]["snapshots"]
    assert kernel["c-shrunk-70"]["MemFree"] - kernel["b-on-120"]["MemFree"] == 0
    for era, lost in (("6.2-reset-tails", 50), ("6.2", 0)):
        machine, snapshots = replay("defect-x86-6.12.117-mixed", era)
        counters = {snapshot.name: snapshot.counters for snapshot in snapshots}
        risen = counters["c-shrunk-70"]["MemFree"] - counters["b-on-120"]["MemFree"]
        assert len(machine.world.lost) == lost
        # 50 pages of 2 MiB less the 350 frames that restoring took
        assert risen == (-350 * 4 if lost else 50 * 2048 - 350 * 4)
        assert (abs(risen) < 2048) == bool(lost)


def test_a_machine_like_the_core_has_the_kernels_own_numbers():
    """On the memory of a real kernel as it was at boot, a replay gives its counters themselves, not
    only their changes.
    """
    name = "x86-6.12.94-mixed"
    kernel = truth()[name]["snapshots"]
    snapshots = run_scenario(
        Machine.like(core(name), boot=True), need(SHARED / "cores/scenarios/mixed.sh")
    )
    wanted = {
        "MemTotal",
        "nr_memmap_pages",
        "nr_memmap_boot_pages",
        "HugePages_Total",
        "HugePages_Free",
        "HugePages_Surp",
        "sysctl",
    }
    for name, counters in snapshots:
        assert {key: counters[key] for key in wanted} == {
            key: kernel[name][key] for key in wanted
        }, name


# -- words --


def small(**options: object) -> Machine:
    """A machine of 256 MiB, the gate off."""
    return Machine.build("arm64", "4KiB", "256MiB", **{"gate": False, "era": "6.2", **options})


def played(text: str, tmp_path: Path, machine: Machine | None = None) -> dict[str, dict[str, int]]:
    """Counters by snapshot of a scenario `text`."""
    file = tmp_path / "scenario.sh"
    file.write_text(text)
    return dict(run_scenario(machine or small(), file))


def test_the_shell_does_the_arithmetic(tmp_path):
    """Loops, variables, conditions and functions are those of sh."""
    text = """
    n=0
    grow() { n=$((n + $1)); pool $n; }
    for step in 1 2 3; do grow $((step * 2)); snap "after-$n"; done
    if [ $n -gt 10 ]; then pool 5; fi
    """
    found = played(text, tmp_path)
    assert [(name, counters["HugePages_Total"]) for name, counters in found.items()] == [
        ("boot", 0),
        ("after-2", 2),
        ("after-6", 6),
        ("after-12", 12),
        ("end", 5),
    ]


def test_files_round_up_and_come_back(tmp_path):
    """A file holds whole pages, only pages it lacks are taken, and rm and umount give them back."""
    text = """
    pool 20; $bb mount -t hugetlbfs none /huge
    $bb fallocate -l $((3 * 2097152 + 1)) /huge/a; snap a
    $bb fallocate -l 4M /huge/a; snap again
    $bb fallocate -o 8M -l 1 /huge/a; snap more
    $bb fallocate -l 2M /huge/b; $bb rm /huge/a; snap b
    $bb fallocate -l 2M /huge/c; $bb umount /huge; snap none
    """
    found = played(text, tmp_path)
    free = {name: counters["HugePages_Free"] for name, counters in found.items()}
    assert free == {"boot": 0, "a": 16, "again": 16, "more": 15, "b": 19, "none": 20, "end": 20}


def test_no_space_is_the_scenarios_to_handle(tmp_path, capfd):
    """A file larger than the pool keeps what there was; the word fails, says so, and the scenario
    goes on; so does a mount's size.
    """
    text = """
    pool 4; $bb mount -t hugetlbfs none /huge
    $bb fallocate -l 20M /huge/f || snap full
    $bb rm -f /huge/none || snap never
    $bb rm /huge/f; $bb mount -t hugetlbfs -o pagesize=2M,size=5M none /small
    $bb fallocate -l 8M /small/f || snap limited
    """
    found = played(text, tmp_path)
    assert list(found) == ["boot", "full", "limited", "end"]
    assert found["full"]["HugePages_Free"] == 0
    assert found["limited"]["HugePages_Free"] == 2
    assert "fallocate: fallocate '/huge/f': No space left on device" in capfd.readouterr().err


def test_other_sizes(tmp_path):
    """pool_of works the pool it names, and mounts take their pages from the pool of their page
    size.
    """
    text = """
    pool_of 32768kB 3; pool 2; $bb mount -t hugetlbfs -o pagesize=32M none /big
    $bb fallocate -l 40M /big/f; snap big
    """
    found = played(text, tmp_path)["big"]
    assert (
        found["nr_hugepages@32768kB"],
        found["free_hugepages@32768kB"],
        found["HugePages_Total"],
    ) == (3, 1, 2)
    assert found["HugePages_Free"] == 2


def test_which_pages_a_file_gives_back(tmp_path):
    """The pages of the file that goes are freed, not those used last: here the optimised ones,
    whose frames then count.
    """
    text = """
    hvo 1; pool 2; $bb mount -t hugetlbfs none /huge; $bb fallocate -l 4M /huge/optimised
    hvo 0; pool 4; $bb fallocate -l 4M /huge/plain; pool 2; snap surplus
    $bb rm /huge/optimised; snap gone
    """
    found = played(text, tmp_path)
    assert (found["surplus"]["HugePages_Surp"], found["surplus"]["nr_memmap_pages"]) == (2, 2)
    assert (found["gone"]["HugePages_Total"], found["gone"]["nr_memmap_pages"]) == (2, 2 + 2 * 7)


def test_what_the_kernel_refuses(tmp_path, capfd):
    """Numbers that are none, sizes that are not there, and a gate that is not built in: a message,
    status 1, no effect.
    """
    text = """
    pool 3
    pool many || snap number
    pool_of 48kB 1 || snap size
    hvo 1 || snap gate
    $bb umount /nowhere || snap umount
    pool 5
    """
    found = played(text, tmp_path, small(gate=Gate(built_in=False), era="7.1"))
    assert list(found) == ["boot", "number", "size", "gate", "umount", "end"]
    assert found["umount"]["HugePages_Total"] == 3
    assert "sysctl" not in found["end"]
    assert found["end"]["nr_memmap_boot_pages"] == found["boot"]["nr_memmap_boot_pages"]
    said = capfd.readouterr().err
    assert "write error: Invalid argument" in said
    assert "can't create /proc/sys/vm/hugetlb_optimize_vmemmap: nonexistent directory" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pool 1\nif true\n", "expected a shell file"),
        ("pool 1; $bb reboot", r"\$bb reboot: not known"),
        ("pool 1; exit 3", "status 3"),
        ("set -e; pool none; pool 1", "status 1"),
        ("echo 3 > /proc/sys/vm/nr_hugepages", "names /proc/sys/vm/nr_hugepages"),
        ("# a line\ncat /sys/kernel/mm/x", "line 2 names /sys/kernel/mm/x"),
        ("$bb fallocate /huge/f", "expected .*-l BYTES FILE"),
        ("$bb fallocate -l 3X /huge/f", "invalid number '3X'"),
        ("$bb mount /dev/sda /mnt", "expected -t hugetlbfs"),
        ("$bb mount -t hugetlbfs -z none /huge", "-z"),
    ],
)
def test_what_cannot_run(tmp_path, text, said):
    """A scenario that is no shell file, leaves early, or wants what there is not ends with one line
    that says so.
    """
    with pytest.raises(HvoError, match=said) as caught:
        played(text, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_syntax_error_is_found_before_anything_runs(tmp_path):
    """The pool is as it was: nothing is half done."""
    machine = small()
    with pytest.raises(HvoError):
        played("pool 3\nfi\n", tmp_path, machine)
    assert machine.pool("2MiB").nr() == 0


def test_a_file_that_is_not_there(tmp_path):
    """The message names the file."""
    with pytest.raises(HvoError, match=r"missing\.sh"):
        run_scenario(small(), tmp_path / "missing.sh")


# -- boot parameters --


def test_boot_parameters():
    """hugepages= goes to the size before it, else to the default one, or node by node; the rest of
    a command line is passed over.
    """
    machine = Machine.build("x86_64", "4KiB", "4GiB", era="6.2", nodes=2, gate=False)
    boot_with(
        machine,
        parse_cmdline(
            "console=ttyS0 hugepages=4 hugepagesz=1G hugepages=1:1 hugetlb_free_vmemmap=on quiet"
        ),
    )
    assert (machine.pool("2MiB").nr(), machine.pool("1GiB").nr(0), machine.pool("1GiB").nr(1)) == (
        4,
        0,
        1,
    )
    assert machine.optimized("2MiB").size == 4
    assert machine.gate.on


def test_default_size_of_the_boot_parameters():
    """default_hugepagesz= decides which pool meminfo is about, and the word `pool`."""
    machine = Machine.build("x86_64", "4KiB", "4GiB", era="6.2", gate=False)
    boot_with(machine, parse_cmdline("default_hugepagesz=1G hugepages=2"))
    counters = machine.counters()
    assert (counters["HugePages_Total"], counters["Hugepagesize"], counters["sysctl"]) == (
        2,
        1 << 20,
        0,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hugepagesz=3M hugepages=1", "has 64KiB, 2MiB, 32MiB, 1GiB"),
        ("hugepages=1000", "memory holds"),
        ("hugepages=-1", "expected a number of pages"),
        ("hugepages=7:1", "counted from 0"),
        ("hugetlb_free_vmemmap=maybe", "expected on or off"),
        ("hugepage=1", "expected hugetlb_free_vmemmap="),
        ("hugepagesz=big", "expected a whole number"),
    ],
)
def test_boot_parameters_that_cannot_be(text, said):
    """Each is refused with what would be accepted."""
    with pytest.raises(HvoError, match=said):
        boot_with(small(), parse_cmdline(text))
