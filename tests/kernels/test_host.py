"""The host commands inside guests of Debian kernels: what `hvo` says and does there is what the
guest's own counters say.

Each guest goes once through the day in `kernels.scenarios.HOST`; after every command its counters
are noted under the command's name.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from kernels.guest import Counters, GuestRun
from kernels.installed import KERNELS
from kernels.scenarios import HOST_USED

pytestmark = pytest.mark.kernels

Host = Callable[[str], GuestRun]
NEWEST = "6.12"
CLEAN = ["6.1", "6.12-oldest"]
KERNEL_NAMES = [*CLEAN, NEWEST]
PAGE, SIZE = 4096, 2 << 20
TAILS = 7
"""Vmemmap pages that one optimised page of 2 MiB gives back."""
STATUSES = [
    "status-off",
    "status-mixed",
    "audit-mixed",
    "status-part",
    "status-converted",
    "audit-converted",
    "status-end",
]
GIVING_BACK = ["part", "dry-run", "convert", "bench", "shrink"]
"""Commands that give pages back, or would."""


@pytest.fixture(params=KERNEL_NAMES)
def run(request: pytest.FixtureRequest, host: Host) -> GuestRun:
    """Every kernel of Debian."""
    return host(request.param)


@pytest.fixture(params=CLEAN)
def clean(request: pytest.FixtureRequest, host: Host) -> GuestRun:
    """The kernels that get back what they free."""
    if loses(host(request.param)):
        pytest.skip(
            f"{host(request.param).release} loses pages: the archive has no older kernel of its"
            " series any more"
        )
    return host(request.param)


@pytest.fixture
def defective(host: Host) -> GuestRun:
    """The kernel that loses every optimised page that is given back."""
    if not loses(host(NEWEST)):
        pytest.skip(f"{host(NEWEST).release} loses no pages: the archive's newest kernel is mended")
    return host(NEWEST)


def said(run: GuestRun, name: str) -> dict[str, Any]:
    """The object that the command `name` printed."""
    captured = run.captured[name]
    assert captured.text, f"{name} exits {captured.status}: {captured.errors}"
    return json.loads(captured.text)


def pool(status: dict[str, Any]) -> dict[str, Any]:
    """The row of all pages of 2 MiB."""
    (row,) = [row for row in status["pools"] if (row["size"], row.get("node")) == (SIZE, None)]
    return row


def before(run: GuestRun, name: str) -> Counters:
    """The counters before the command `name`."""
    names = list(run.snapshots)
    return run.snapshots[names[names.index(name) - 1]]


def memmap(counters: Counters) -> int | None:
    """Pages of memory map by the kernel's counters; None where it has none."""
    counted = [
        counters[name] for name in ("nr_memmap_pages", "nr_memmap_boot_pages") if name in counters
    ]
    return sum(counted) if counted else None


def grown(run: GuestRun, name: str) -> int:
    """By how much the counter that optimising moves changed over the command `name`: pages of
    memory map, else bytes of MemTotal.
    """
    old, new = before(run, name), run.snapshots[name]
    first, last = memmap(old), memmap(new)
    return (
        (new["MemTotal"] - old["MemTotal"]) << 10 if first is None or last is None else last - first
    )


def lasting(counters: Counters) -> Counters:
    """The counters without those that move by themselves, such as free memory."""
    kept = ("hugepages@", "HugePages_", "nr_memmap", "MemTotal", "hugetlb_optimize_vmemmap")
    return {name: value for name, value in counters.items() if any(part in name for part in kept)}


def loses(run: GuestRun) -> bool:
    """Whether pages that left the pool did not become free memory, by the guest's own counters."""
    old, new = before(run, "force-shrink"), run.snapshots["force-shrink"]
    left = old["HugePages_Total"] - new["HugePages_Total"]
    assert left >= 40
    return new["MemFree"] - old["MemFree"] < left * (SIZE >> 10) // 2


def changed(run: GuestRun, names: Iterable[str]) -> list[dict[str, Any]]:
    """The change of the counter that each of the commands reports; all of them must have done what
    they were asked.
    """
    outcomes = [said(run, name) for name in names]
    assert [(outcome["ok"], outcome["problem"]) for outcome in outcomes] == [(True, None)] * len(
        outcomes
    )
    return [change for outcome in outcomes for change in outcome["changes"]]


@pytest.mark.parametrize("name", STATUSES)
def test_status_says_what_the_counters_say(run: GuestRun, name: str):
    """Kernel, switch, pool and memory map, at every moment of the day."""
    status, counters = said(run, name), run.snapshots[name]
    kernel, row, counted = status["kernel"], pool(status), memmap(counters)
    assert (kernel["release"], kernel["arch"], kernel["page_size"], kernel["supports"]) == (
        run.release,
        "x86_64",
        PAGE,
        True,
    )
    assert kernel["enabled"] is (counters["hugetlb_optimize_vmemmap"] == 1)
    assert [row[key] for key in ("pages", "free", "surplus")] == [
        counters[f"{key}_hugepages@2048kB"] for key in ("nr", "free", "surplus")
    ]
    assert row["in_use"] == (0 if name == "status-off" else HOST_USED)
    assert status["memmap"]["total"] == (None if counted is None else counted * PAGE)
    assert status["mem_total"] == counters["MemTotal"] << 10


@pytest.mark.parametrize("name", STATUSES)
def test_optimised_pages_are_those_that_the_counters_miss(run: GuestRun, name: str):
    """Exact where the memory map is counted; else an interval with its reason, which the page
    tables make exact.
    """
    row, total = pool(said(run, name)), memmap(run.snapshots["boot"])
    now = memmap(run.snapshots[name])
    if total is not None and now is not None:
        assert (row["optimized"] * TAILS, row["source"]) == (total - now, "counters")
    elif name.startswith("audit"):
        assert (row["optimized"], row["source"]) == (
            {"audit-mixed": 60, "audit-converted": 90}[name],
            "audit",
        )
    else:
        assert (row["optimized"], row["optimized_low"], row["optimized_high"], row["source"]) == (
            None,
            0,
            row["pages"],
            "none",
        )
        assert "does not count its memory map" in row["reason"]


def test_memory_total_shows_the_sixty_that_6_1_optimised(host: Host):
    """28 KiB a page, as many pages as the page tables then show: the two ways to know agree where
    no counter tells.
    """
    run = host("6.1")
    assert grown(run, "grow") == pool(said(run, "audit-mixed"))["optimized"] * TAILS * PAGE


def test_enable_switches_on_once(run: GuestRun):
    """It writes the switch and says so; again, it has nothing to write."""
    writes = [said(run, name)["writes"] for name in ("enable", "enable-again")]
    assert writes == [[{"path": "/proc/sys/vm/hugetlb_optimize_vmemmap", "value": "1"}], []]
    assert (
        before(run, "enable")["hugetlb_optimize_vmemmap"],
        run.snapshots["enable"]["hugetlb_optimize_vmemmap"],
    ) == (0, 1)
    assert lasting(run.snapshots["enable-again"]) == lasting(run.snapshots["enable"])


def test_disable_switches_off_and_leaves_the_pool(run: GuestRun):
    """Only the switch changes."""
    assert said(run, "disable")["ok"]
    off = {"hugetlb_optimize_vmemmap": 0}
    assert (
        lasting(run.snapshots["disable"])
        == lasting(before(run, "disable")) | off
        != lasting(before(run, "disable"))
    )


def test_measured_changes_are_those_of_the_counters(clean: GuestRun):
    """Every command that changes something reports the change that the guest itself counted, and
    had predicted it.
    """
    names = [
        "enable",
        "enable-again",
        "grow",
        "part",
        "convert",
        "bench",
        "shrink",
        "force-shrink",
        "disable",
    ]
    changes = changed(clean, names)
    assert [change["measured"] for change in changes] == [grown(clean, name) for name in names]
    assert all(change["low"] <= change["measured"] <= change["high"] for change in changes)


def test_grown_pool_gives_back_seven_pages_each(run: GuestRun):
    """60 pages with the switch on: 420 pages of memory map fewer, or 1680 KiB of MemTotal more."""
    assert grown(run, "grow") == (
        60 * TAILS * PAGE if memmap(run.snapshots["boot"]) is None else -60 * TAILS
    )
    assert (said(run, "grow")["pages"], run.snapshots["grow"]["HugePages_Total"]) == (100, 100)


def test_dry_run_writes_nothing_of_what_convert_then_writes(clean: GuestRun):
    """The plan is what happens."""
    assert said(clean, "dry-run")["writes"] == said(clean, "convert")["writes"] != []
    assert lasting(clean.snapshots["dry-run"]) == lasting(before(clean, "dry-run"))


def test_convert_optimises_the_free_pages_of_a_mixed_pool(clean: GuestRun):
    """Of 40 pages from before the switch was on the 20 free ones that were kept free before; those
    in use are left, and the pool is as large as before.
    """
    outcome, counters = said(clean, "convert"), clean.snapshots["convert"]
    assert [outcome[key] for key in ("pages", "convertible", "rebuilt", "left")] == [
        100,
        90,
        90,
        HOST_USED,
    ]
    assert (
        counters["HugePages_Total"],
        counters["HugePages_Free"],
        counters["HugePages_Surp"],
    ) == (100, 100 - HOST_USED, 0)
    if memmap(counters) is None:
        pages, rest = divmod(grown(clean, "convert"), TAILS * PAGE)
        assert (outcome["optimized"], rest) == (None, 0)
        assert pages >= 20
    else:
        assert (outcome["optimized"], grown(clean, "convert")) == (20, -20 * TAILS)


def test_what_stays_free_is_left_at_the_bottom_of_the_list(clean: GuestRun):
    """90 pages are free, the 60 on top optimised already: with 20 kept free the 70 on top are
    rebuilt, which makes 10 more optimised on kernels of either order; the next command is named.
    """
    outcome, counters = said(clean, "part"), clean.snapshots["part"]
    names = ("convertible", "rebuilt", "keep_free", "left_free", "taken_meanwhile")
    assert [outcome[key] for key in names] == [70, 70, 20, 20, 0]
    assert (counters["HugePages_Total"], counters["HugePages_Surp"]) == (100, 0)
    if memmap(counters) is not None:
        assert (outcome["optimized"], grown(clean, "part")) == (10, -10 * TAILS)
    commands = [advice["command"] for advice in said(clean, "status-part")["advice"]]
    assert commands[0] == "hvo convert --size 2MiB --keep-free 0"


def test_page_tables_show_what_convert_did(clean: GuestRun):
    """90 of 100 optimised, by flag and by mapping, none by half, nothing lost."""
    found = said(clean, "memory-converted")
    assert [pool(found)[key] for key in ("pages", "optimized", "flagged", "partial")] == [
        100,
        90,
        90,
        0,
    ]
    assert (found["findings"], found["lost"]["pages"], found["saved"]) == ([], 0, 90 * TAILS * PAGE)


def test_bench_measures_and_puts_everything_back(clean: GuestRun):
    """A time for taking and giving back with the switch on and off; pools, switch and memory map as
    before.
    """
    found = said(clean, "bench")
    assert (found["pages"], found["rounds"]) == (16, 1)
    times = [found[what][switch] for what in ("allocate", "free") for switch in ("off", "on")]
    assert all(len(time["rounds_ns"]) == 1 and time["median_ns"] > 0 for time in times)
    old, new = (
        lasting(counters) for counters in (before(clean, "bench"), clean.snapshots["bench"])
    )
    assert memmap(new) == memmap(old)
    moved = {
        "MemTotal",
        "nr_memmap_pages",
        "nr_memmap_boot_pages",
    }  # pages that were optimised for the first time
    assert {name for name in new if new[name] != old[name]} <= moved


def test_defect_is_announced_where_it_is_measured(run: GuestRun):
    """`status` warns of H19 on exactly those kernels on which pages that are given back do not
    become free memory.
    """
    for name in STATUSES:
        status = said(run, name)
        assert [defect["id"] for defect in status["kernel"]["defects"]] == ["H19"] * loses(run)
        assert any("H19" in advice["text"] for advice in status["advice"]) is loses(run)


@pytest.mark.parametrize("name", GIVING_BACK)
def test_defective_kernel_is_refused_what_would_lose_pages(defective: GuestRun, name: str):
    """One line that names the defect, and nothing changed."""
    refused = defective.captured[name]
    assert refused.status == 2
    assert "H19" in json.loads(refused.text)["error"]["message"]
    assert "H19" in refused.errors
    assert len(refused.errors.splitlines()) == 1
    assert lasting(defective.snapshots[name]) == lasting(before(defective, name))


def test_defective_kernel_is_not_told_to_convert(defective: GuestRun):
    """No advice leads to what the other commands refuse."""
    commands = [
        advice["command"] or "" for name in STATUSES for advice in said(defective, name)["advice"]
    ]
    assert not [command for command in commands if "convert" in command or "resize" in command]


@pytest.mark.parametrize("name", ["status", "status-without-options"])
@pytest.mark.parametrize("series", ["6.1", "6.12"])
def test_arm64_kernel_says_why_it_cannot(arm64_host: Host, series: str, name: str):
    """Debian's arm64 kernels have no such option; the reason names the architecture and when it was
    removed, also where they are unread.
    """
    run = arm64_host(series)
    status = said(run, name)
    kernel, row, counted = status["kernel"], pool(status), memmap(run.snapshots[name])
    options = next(KERNELS.glob(f"arm64-debian/{series}/boot/config-{run.release}")).read_text()
    assert "OPTIMIZE_VMEMMAP" not in options.upper()
    assert "CONFIG_HUGETLB_PAGE=y" in options
    assert "hugetlb_optimize_vmemmap" not in run.snapshots[name]
    assert (kernel["release"], kernel["arch"], kernel["supports"], kernel["enabled"]) == (
        run.release,
        "arm64",
        False,
        False,
    )
    assert kernel["reason"].startswith("arm64 ")
    assert {"6.1": "stable 6.1 took its removal", "6.12": "mainline removed it in 6.3"}[
        series
    ] in kernel["reason"]
    assert (
        [row[key] for key in ("pages", "optimized", "saved", "possible")]
        == [run.snapshots[name]["HugePages_Total"], 0, 0, 0]
        != [0] * 4
    )
    assert status["memmap"]["total"] == (None if counted is None else counted * PAGE)


@pytest.mark.parametrize("name", ["enable", "convert"])
@pytest.mark.parametrize("series", ["6.1", "6.12"])
def test_arm64_kernel_refuses_with_the_reason(arm64_host: Host, series: str, name: str):
    """One line, status 2, nothing changed."""
    run = arm64_host(series)
    refused = run.captured[name]
    assert (refused.status, len(refused.errors.splitlines())) == (2, 1)
    assert "arm64" in refused.errors
    if name == "convert":  # that one is asked for JSON
        assert "arm64" in json.loads(refused.text)["error"]["message"]
    assert lasting(run.snapshots[name]) == lasting(before(run, name))
