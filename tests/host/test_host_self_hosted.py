"""Hosts with memory blocks that host their own vmemmap, and defects that only memory can tell."""

import re
from pathlib import Path

import pytest

from hvo.errors import HvoError
from hvo.host.convert import convert
from hvo.host.memmap_on_memory import PARAMETER
from hvo.host.status import read_status
from hvo.host.tree import Tree
from hvo.layout.releases import suspected_defects, upstream_version

TREE = Path(__file__).resolve().parents[1] / "data/memmap-on-memory-6.18.tree"
MIB2 = 2 << 20


def unpack(root):
    """The recorded tree, in which `dir/memory{0..191}/` stands for many directories."""
    for part in re.split(r"^=== ", TREE.read_text(), flags=re.MULTILINE)[1:]:
        name, _, text = part.partition("\n")
        many = re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", name)
        numbers = range(int(many[2]), int(many[3]) + 1) if many else ()
        for each in [f"{many[1]}{n}{many[4]}" for n in numbers] if many else [name]:
            path = root / each
            if each.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    return root


def write(root, path, text):
    """Another content of one file."""
    (root / path.lstrip("/")).write_text(text)


def row(root, memory=None):
    """The pool of 2 MiB pages on all nodes."""
    return next(each for each in read_status(Tree(root), memory).pools if each.pool.size == MIB2)


def commands(root):
    """What is advised to type."""
    return [advice.command for advice in read_status(Tree(root)).advice if advice.command]


def texts(root):
    """What is said beside."""
    return " ".join(advice.text for advice in read_status(Tree(root)).advice)


def test_nothing_is_possible_in_hot_added_memory(tmp_path):
    """Half of this host's memory was hot-added and the kernel does not count its memory map:
    nothing is possible, nothing is advised, and no free page is said to be in use.
    """
    root = unpack(tmp_path)
    found = row(root)
    assert found.possible == (0, 0)
    assert (found.hosted.low, found.hosted.high) == (0, 4096)
    assert "memmap_on_memory" in found.optimized.reason
    assert commands(root) == []
    assert "in use" not in texts(root)
    assert "4096 pages of 2MiB lie in memory blocks that host their own vmemmap" in texts(root)


def test_memory_of_boot_is_not_taken_for_such(tmp_path):
    """The same switch, but the memory map of boot describes all memory: the counters say that none
    is optimised, and all free ones can be converted.
    """
    root = unpack(tmp_path)
    vmstat = (root / "proc/vmstat").read_text()
    write(root, "/proc/vmstat", vmstat.replace("boot_pages 131072", "boot_pages 262144"))
    found = row(root)
    assert found.optimized.exact == 0
    assert found.hosted.high == 0
    assert found.possible == (4096 * 7 * 4096, 4096 * 7 * 4096)
    assert commands(root) == ["hvo convert --size 2MiB"]


def test_a_pool_larger_than_hot_added_memory(tmp_path):
    """The kernel counts all memory maps, 512 MiB of memory are hot-added: 256 pages fit there, the
    others can be converted.
    """
    root = unpack(tmp_path)
    vmstat = (root / "proc/vmstat").read_text()
    vmstat = vmstat.replace("boot_pages 131072", "boot_pages 260096")
    write(root, "/proc/vmstat", vmstat.replace("memmap_pages 0", "memmap_pages 2048"))
    found = row(root)
    assert (found.optimized.exact, found.hosted.high) == (0, 256)
    assert found.possible == ((4096 - 256) * 7 * 4096,) * 2
    assert commands(root) == ["hvo convert --size 2MiB"]


def test_convert_refuses_what_it_cannot_improve(tmp_path):
    """One line that says why; --force insists; without the switch nothing is refused."""
    root = unpack(tmp_path)
    with pytest.raises(HvoError, match="host their own vmemmap") as refused:
        convert(Tree(root), MIB2, dry_run=True)
    assert "\n" not in str(refused.value)
    assert convert(Tree(root), MIB2, dry_run=True, force=True).writes
    write(root, PARAMETER, "N\n")
    assert convert(Tree(root), MIB2, dry_run=True).writes


@pytest.mark.parametrize("value", ["Y", "force", "1"])
def test_every_way_to_switch_it_on(tmp_path, value):
    """`force` adds memory map to round the block up (6.6)."""
    root = unpack(tmp_path)
    write(root, PARAMETER, value)
    assert row(root).hosted.high == 4096


def test_boot_reserved_gigantic_pages(tmp_path):
    """H15: certain in measured releases, else possible since 6.15 with where to look; gone in 7.2.
    Told for a host that has 1 GiB pages from boot, and it forbids nothing.
    """

    def known(release):
        return [
            (each.defect.id, each.certain)
            for each in suspected_defects("x86_64", upstream_version(release, ""))
        ]

    assert known("7.1.13") == known("6.18.15") == [("H15", True)]
    assert known("6.18.44") == known("6.15.0") == [("H15", False)]
    assert known("7.2.12") == known("7.3.4") == known("6.14.9") == known("6.1.192") == []
    assert suspected_defects("arm64", upstream_version("7.1.13", "")) == ()
    root = unpack(tmp_path)
    assert "H15" not in texts(root)
    write(root, "/proc/cmdline", "hugetlb_free_vmemmap=on hugepagesz=1G hugepages=2\n")
    for name in ("nr", "free"):
        for place in ("kernel/mm", "devices/system/node/node0"):
            path = f"/sys/{place}/hugepages/hugepages-1048576kB/{name}_hugepages"
            write(root, path, "2\n")
    assert "defect H15 of this kernel: possible since 6.15, look in memory" in texts(root)
    assert "mended in 7.2" in texts(root)
    assert read_status(Tree(root)).kernel.defects == ()
    (told,) = read_status(Tree(root)).to_json()["kernel"]["defects"]
    assert (told["id"], told["certain"], told["fixed"]) == ("H15", False, "7.2")
