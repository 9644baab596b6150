"""`hvo status` on recorded trees: what the kernel can, whether it does, why not, how many pages are
optimised, and the advice.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from host_trees import GIB, HVO, MIB, Host, NodePool

from hvo.errors import HvoError
from hvo.host.status import read_status
from hvo.host.tree import Tree
from hvo.layout.releases import known_defects, upstream_version
from hvo.report.status import status_lines
from shared_files import core

PLAIN = tuple(option for option in HVO if "OPTIMIZE" not in option)
OFFERED = tuple(option for option in HVO if option != "HUGETLB_PAGE_OPTIMIZE_VMEMMAP")


def two_sizes(small: int, large: int, memmap: tuple[int, int] | None, **more: object) -> Host:
    """A host with free pages of 2 MiB and of 1 GiB."""
    pools = {2 * MIB: {0: NodePool(small, small)}, GIB: {0: NodePool(large, large)}}
    return Host(pools=pools, memmap=memmap, **more)


def found(host: Host, root, size: int = 2 * MIB, node: int | None = None) -> dict:
    """The row of a pool in what `--json` prints."""
    return next(
        row
        for row in read_status(host.write(root)).to_json()["pools"]
        if (row["size"], row["node"]) == (size, node)
    )


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (
            Host(arch="arm64", release="7.3.4+deb13-arm64", gate=None, options=PLAIN),
            ("arm64", "6.3", "break-before-make"),
        ),
        (
            Host(arch="arm64", release="6.6.1", gate=None, options=None, sysctl_arch=False),
            ("arm64", "6.3"),
        ),
        (Host(gate=None, options=OFFERED), ("CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP",)),
        (Host(gate=None, options=("MEMCG",)), ("without HugeTLB",)),
        (Host(gate=None), ("sizeof(struct page)", "power of two")),
        (Host(gate=None, options=(*HVO, "KMSAN")), ("CONFIG_KMSAN",)),
        (Host(gate=None, release="5.19.17", memmap_on_memory="Y"), ("memmap_on_memory", "6.0")),
        (Host(gate=None, release="6.1.9", memmap_on_memory="Y"), ("sizeof(struct page)",)),
        (Host(gate=None, options=None, release="5.10.0"), ("5.14",)),
        (Host(gate=None, options=None), ("build options are not readable",)),
        (
            Host(gate=None, options=("HUGETLB_PAGE", "MEMCG", "SPARSEMEM_VMEMMAP"), arch="s390x"),
            ("s390x", "does not offer"),
        ),
    ],
)
def test_a_kernel_that_cannot_optimise_says_why(host, words, tmp_path):
    """Each cause is told apart, the pools are certainly not optimised, and the advice repeats the
    reason.
    """
    host.pools = {2 * MIB: {0: NodePool(10, 10)}}
    status = read_status(host.write(tmp_path))
    assert not status.kernel.supports
    assert all(word in status.kernel.reason for word in words), status.kernel.reason
    assert [row.optimized.exact for row in status.pools] == [0]
    assert status.kernel.reason in status.advice[0].text


def test_gates_of_every_kind(tmp_path):
    """On by sysctl, compiled in but off, and before 5.19 by the boot parameter alone, the last one
    winning.
    """
    old = Host(gate=None, release="5.15.3", options=("HUGETLB_PAGE", "HUGETLB_PAGE_FREE_VMEMMAP"))
    hosts = [
        Host(),
        Host(gate=0),
        old,
        replace(old, cmdline="hugetlb_free_vmemmap=on"),
        replace(
            old,
            cmdline="hugetlb_free_vmemmap=on hugetlb_free_vmemmap=off -- hugetlb_free_vmemmap=on",
        ),
    ]
    kernels = [
        read_status(host.write(tmp_path / str(number))).kernel for number, host in enumerate(hosts)
    ]
    assert [(kernel.supports, kernel.enabled) for kernel in kernels] == [
        (True, True),
        (True, False),
        (True, False),
        (True, True),
        (True, False),
    ]
    assert "compiled in but off" in kernels[1].reason
    assert [kernel.freed_pages(2 * MIB) for kernel in kernels] == [7, 7, 6, 6, 6]


@pytest.mark.parametrize("default", [True, False])
def test_words_of_the_boot_parameter(default, tmp_path):
    """As `kstrtobool()` reads them, by their first letters; what it does not take leaves the
    build's default.
    """
    options = (*HVO, "HUGETLB_PAGE_OPTIMIZE_VMEMMAP_DEFAULT_ON") if default else HVO
    words = {
        "on": True,
        "yes": True,
        "1": True,
        "True": True,
        "off": False,
        "0": False,
        "no": False,
        "of": False,
        "": default,
        "maybe": default,
        "o": default,
    }
    for number, (word, on) in enumerate(words.items()):
        host = Host(cmdline=f"quiet hugetlb_free_vmemmap={word}", options=options)
        assert read_status(host.write(tmp_path / str(number))).kernel.on_at_boot is on, word
    assert read_status(Host(options=options).write(tmp_path / "none")).kernel.on_at_boot is default


@pytest.mark.parametrize(
    ("memmap", "sections", "pages", "optimised"),
    [
        ((100, 3296), 8, 100, 100),  # 6.12 and 7.3, all optimised
        ((430, 3456), 8, 90, 30),  # 6.12.94: filled in part while the switch was off
        ((0, 4096), 8, 64, 0),
    ],
)
def test_counters_of_real_kernels_tell_how_many_are_optimised(
    memmap, sections, pages, optimised, tmp_path
):
    """The figures that Debian kernels printed give exactly the number that their page tables
    show.
    """
    row = found(two_sizes(pages, 0, memmap, sections=sections), tmp_path)
    assert (row["optimized"], row["saved"], row["possible"]) == (
        optimised,
        optimised * 28672,
        (pages - optimised) * 28672,
    )
    assert (row["cost"], row["paid"]) == (pages * 32768, pages * 32768 - optimised * 28672)
    assert row["source"] == "counters" or not optimised


def test_two_sizes_share_one_counter(tmp_path):
    """6.12 with a 1 GiB page from boot and 30 small ones: both are certain, because no other
    combination fits.
    """
    host = two_sizes(30, 1, (31, 12048), sections=32)
    rows = read_status(host.write(tmp_path)).pools
    assert [row.optimized.exact for row in rows] == [30, 1]
    assert rows[1].saved == (4095 * 4096, 4095 * 4096)


def test_ambiguous_counters_are_an_interval(tmp_path):
    """585 small pages save as much as one of 1 GiB: with both possible neither is certain, and the
    reason is said.
    """
    host = two_sizes(1000, 1, (0, 192 * 512 - 4095))
    rows = read_status(host.write(tmp_path)).to_json()["pools"]
    assert [(row["optimized"], row["optimized_low"], row["optimized_high"]) for row in rows] == [
        (None, 0, 585),
        (None, 0, 1),
    ]
    assert "combination" in rows[0]["reason"]
    assert rows[0]["saved"] is None


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"memmap": None}, "6.11"),
        ({"memmap": (0, 98303)}, "do not fit"),
        ({"memmap": (0, 99000)}, "do not fit"),
        ({"cmdline": "page_owner=on"}, "page_ext"),
    ],
)
def test_where_nothing_tells_the_bounds_are_wide(changes, word, tmp_path):
    """Without counters, or with counters that contradict the pool, everything between none and all
    is possible.
    """
    row = found(replace(two_sizes(50, 0, (0, 98304)), **changes), tmp_path)
    assert (row["optimized"], row["optimized_low"], row["optimized_high"], row["source"]) == (
        None,
        0,
        50,
        "none",
    )
    assert (row["paid"], row["paid_low"], row["paid_high"]) == (None, 50 * 4096, 50 * 32768)
    assert word in row["reason"]


def test_unknown_extent_of_memory_is_an_interval(tmp_path):
    """Without memory blocks and with `/proc/iomem` hidden, holes between zones make the baseline
    uncertain.
    """
    tree = two_sizes(500, 0, (0, 98304 - 700), blocks=False).write(tmp_path)
    zones = tmp_path / "proc/zoneinfo"
    zones.write_text(zones.read_text().replace("spanned  6291456", "spanned  6324224"))
    row = read_status(tree).to_json()["pools"][0]
    assert (row["optimized_low"], row["optimized_high"]) == (100, 173)
    assert "iomem" in row["reason"]
    (tmp_path / "proc/iomem").write_text(
        "00000000-5ffffffff : System RAM\n  01000000-02000000 : Kernel code\n"
    )
    assert read_status(tree).pools[0].optimized.exact == 100


def test_nodes_get_bounds_that_follow_from_the_total(tmp_path):
    """Two nodes: what one has at least follows from how few the other can have; none or all is
    certain for each.
    """
    pools = {2 * MIB: {0: NodePool(30, 20), 1: NodePool(10, 10)}}
    some = Host(pools=pools, memmap=(0, 98304 - 7 * 35))
    assert found(some, tmp_path / "a")["optimized"] == 35
    assert [
        (row["optimized_low"], row["optimized_high"])
        for row in (found(some, tmp_path / "a", node=node) for node in (0, 1))
    ] == [(25, 30), (5, 10)]
    every = replace(some, memmap=(0, 98304 - 7 * 40))
    assert [found(every, tmp_path / "b", node=node)["optimized"] for node in (0, 1)] == [30, 10]


def test_arm64_with_64k_pages(tmp_path):
    """The base page comes from the counters of page tables: 512 MiB pages have 8 vmemmap pages of
    64 KiB.
    """
    host = Host(
        arch="arm64",
        page_size=65536,
        release="6.1.9",
        pools={512 * MIB: {0: NodePool(4, 4)}, 2 * MIB: {0: NodePool(9, 9)}},
        memmap=None,
        sections=8,
        section_size=512 * MIB,
    )
    status = read_status(host.write(tmp_path))
    assert status.kernel.page_size == 65536
    small, large = status.pools
    assert (small.saved_per_page, small.optimized.exact) == (0, 0)
    assert (large.saved_per_page, large.optimized.low, large.optimized.high) == (7 * 65536, 0, 4)


def test_an_audit_tells_where_the_counters_do_not(tmp_path):
    """Linux 6.1 has no counters, but its memory shows that all 100 pages are optimised; a pool that
    has 99 now stays unsure.
    """
    host = replace(two_sizes(100, 0, None, sections=8), release="6.1.0-50-cloud-amd64")
    target = str(core("x86-6.1-on"))
    plain, audited = (
        read_status(host.write(tmp_path), memory).pools[0].optimized for memory in (None, target)
    )
    assert (plain.low, plain.high, plain.source) == (0, 100, "none")
    assert (audited.exact, audited.source) == (100, "audit")
    assert (
        read_status(replace(host, pools={2 * MIB: {0: NodePool(99, 99)}}).write(tmp_path), target)
        .pools[0]
        .optimized.exact
        is None
    )


def test_known_defects_by_upstream_version(tmp_path):
    """Measured releases only: 6.12.115 and 6.12.117 have it, 6.12.94, 6.12.113, 6.1.192, 6.18.44
    and 7.3.4 do not.
    """
    versions = [
        "6.12.114",
        "6.12.115",
        "6.12.117+deb12-cloud-amd64",
        "6.12.94",
        "6.12.113",
        "6.1.192",
        "6.18.44",
        "7.3.4",
    ]
    assert [len(known_defects(upstream_version(release, ""))) for release in versions] == [
        1,
        1,
        1,
        0,
        0,
        0,
        0,
        0,
    ]
    compiler = "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"  # which is Debian's too, and stands first
    assert upstream_version(
        "6.1.0-50-amd64",
        f"Linux version 6.1.0-50-amd64 ({compiler}) #1 SMP Debian 6.1.192-1 (2026)",
    ) == (6, 1, 192)
    status = read_status(replace(two_sizes(50, 0, (0, 98304)), release="6.12.117").write(tmp_path))
    assert "H19" in status.advice[0].text
    assert not [
        advice for advice in status.advice if advice.command and "convert" in advice.command
    ]


def test_advice_is_sorted_by_what_it_gives_back(tmp_path):
    """The pool of 1 GiB pages is worth more than the small one; a page in use is later work, and
    has no command.
    """
    pools = {2 * MIB: {0: NodePool(100, 90)}, GIB: {0: NodePool(4, 4)}}
    advice = read_status(
        Host(pools=pools, cmdline="hugetlb_free_vmemmap=on").write(tmp_path)
    ).advice
    commands = ["hvo convert --size 1GiB --gigantic", "hvo convert --size 2MiB", None]
    assert [each.command for each in advice] == commands
    assert [each.gain for each in advice] == [4 * 4095 * 4096, 90 * 28672, 10 * 28672]


def test_off_is_the_first_thing_to_change(tmp_path):
    """The gate is off: the first advice switches it on, and says how much that can give back once
    converted.
    """
    advice = read_status(two_sizes(50, 0, (0, 98304), gate=0).write(tmp_path)).advice
    assert (advice[0].command, advice[0].gain) == ("hvo enable --persist", 50 * 28672)


def test_text_says_what_json_says(tmp_path):
    """The table has the figures, and an interval is shown as one with its reason."""
    text = "\n".join(status_lines(read_status(two_sizes(50, 0, None).write(tmp_path))))
    assert "0..50" in text
    assert "known within bounds only" in text
    assert "optimisation: on" in text


def test_the_host_says_its_name_and_its_memory(tmp_path):
    """Present pages of every zone and node but those of devices; the first line of the text has
    both.
    """
    host = Host(pools={2 * MIB: {0: NodePool(3, 3), 1: NodePool(4, 4)}})
    status = read_status(host.write(tmp_path))
    assert (status.to_json()["host"], status.to_json()["memory"]) == ("shelf-3", 192 * 128 * MIB)
    zones = tmp_path / "proc/zoneinfo"
    whole = zones.read_text()
    zones.write_text(
        f"{whole}Node 1, zone   Device\n  pages free     0\n        spanned  9\n        present"
        "  9\n"
    )
    assert read_status(Tree(tmp_path)).memory == 192 * 128 * MIB
    zones.write_text(whole.replace("present  0", "present  512", 1))
    more = read_status(Tree(tmp_path))
    assert more.memory == 192 * 128 * MIB + 512 * 4096
    assert (
        next(status_lines(more))
        == "shelf-3: kernel 6.18.44, x86_64, 4KiB pages, 24578MiB of memory"
    )


def test_a_host_without_a_name_or_zones_still_has_a_status(tmp_path):
    """A container that hides the two files: both are null, and the first line leaves them out."""
    tree = two_sizes(5, 0, None, name=None).write(tmp_path)
    (tmp_path / "proc/zoneinfo").unlink()
    status = read_status(tree)
    assert (status.to_json()["host"], status.to_json()["memory"]) == (None, None)
    assert next(status_lines(status)) == "kernel 6.18.44, x86_64, 4KiB pages"
    assert read_status(two_sizes(5, 0, None, name="(none)").write(tmp_path)).host is None


def test_damaged_trees_are_one_line(tmp_path):
    """A missing proc, a number that is none, a broken build configuration: an error that names the
    file.
    """
    with pytest.raises(HvoError, match="proc and sys"):
        Tree(tmp_path)
    tree = Host().write(tmp_path)
    for name in (
        "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
        "proc/config.gz",
        "proc/sys/kernel/osrelease",
    ):
        (tmp_path / name).write_text("x" if "osrelease" not in name else "")
        if "osrelease" in name:
            (tmp_path / name).unlink()
        with pytest.raises(HvoError, match=name.rsplit("/", 1)[1]):
            read_status(tree)
        Host().write(tmp_path)


def test_the_command_is_quick_and_loads_no_arrays(tmp_path):
    """Under 0.3 s of processor time from start to end, in JSON that has the keys of the
    contract.
    """
    Host().write(tmp_path)
    code = "import sys; from hvo.cli.main import main\ntry: main()\n"
    code += "finally: print('numpy' in sys.modules, 'drgn' in sys.modules, file=sys.stderr)"
    seconds = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run(
            [sys.executable, "-c", code, "status", "--root", tmp_path, "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        after = os.times()
        seconds.append(
            after.children_user
            - before.children_user
            + after.children_system
            - before.children_system
        )
    data = json.loads(done.stdout)
    assert set(data) == {
        "host",
        "memory",
        "kernel",
        "pools",
        "memmap",
        "mem_total",
        "advice",
        "command",
    }
    assert {"release", "arch", "page_size", "supports", "enabled", "reason"} <= set(data["kernel"])
    assert {
        "size",
        "node",
        "pages",
        "free",
        "in_use",
        "surplus",
        "optimized",
        "saved",
        "possible",
    } <= set(data["pools"][0])
    assert set(data["memmap"]) == {"boot", "runtime", "total"}
    assert done.stderr == "False False\n"
    assert min(seconds) < 0.3
