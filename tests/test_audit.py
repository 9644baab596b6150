"""The audit of real kernels' memory: what the truth says, in every container; and what drgn itself
translates.
"""

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hvo.audit.audit import audit
from hvo.audit.findings_page import findings_page
from hvo.errors import HvoError
from hvo.kernel.image import KernelImage
from hvo.kernel.sections import Sections
from hvo.memory.core import open_core
from hvo.memory.live import open_live
from hvo.memory.target import open_target
from repack import to_kcore, to_kdump
from shared_files import CORES, NEWER, OWN, SHARED, core, need, own_core, truth

FOUND = {
    "defect-x86-6.12.117-mixed": {"lost-page": 50},
    "x86-7.1.13-gigboot": {"tail-writable": 1},
    "riscv64-7.2-sv57": {"tail-unprotected": 1},
    "riscv64-6.12-sv48": {"tail-unprotected": 1},
    "riscv64-7.2-2nodes": {"tail-unprotected": 1},
}
"""What is found, and how often; in all others nothing."""


@pytest.mark.parametrize("name", [*CORES, *NEWER])
def test_a_real_kernel(name):
    """Layout, sections, and of every pool which pages are optimised and flagged, how many are free
    and on which node; findings only where something is wrong, or worth to be told once.
    """
    found, told = audit(open_core(core(name))), truth()[name]
    pools = sorted(told["pools"], key=lambda pool: pool["size"])
    assert [
        (pool.size, pool.vmemmap_pages, pool.pfn.tolist(), pool.pfn[pool.state == 1].tolist())
        for pool in found.pools
    ] == [
        (pool["size"], pool["vmemmap_pages"], pool["heads"], pool["optimized_heads"])
        for pool in pools
    ]
    for pool, expected in zip(found.pools, pools, strict=True):
        assert pool.counts.flagged == expected["flagged"]
        assert pool.counts.free == expected.get("free", pool.counts.free)
        nodes = {
            str(node): {"pages": counts.pages, "free": counts.free}
            for node, counts in pool.nodes.items()
        }
        assert nodes == expected.get("nodes", nodes)
        assert sum(counts["pages"] for counts in nodes.values()) == expected["pages"]
    said = (
        found.kernel,
        found.arch,
        found.page_size,
        found.struct_page_size,
        found.layout,
        found.sections,
    )
    assert said == tuple(
        told[key]
        for key in ("kernel", "arch", "page_size", "struct_page_size", "layout", "sections")
    )
    assert Counter(finding.id for finding in found.findings) == FOUND.get(name, {})
    assert found.missing == ()


@pytest.mark.parametrize("name", NEWER)
def test_the_small_copy_of_a_core(name):
    """What `tools/cut_core.py` leaves of a core is audited to the same pools and findings."""
    if SHARED == OWN:
        pytest.skip("the reference material is absent: the copies are what is tested anyway")
    small, whole = audit(open_target(str(own_core(name)), print)), audit(open_core(core(name)))
    assert summary(small) == summary(whole)
    assert own_core(name).stat().st_size < 150_000


def test_the_truth_is_complete():
    """Every core that the truth knows is one of those above."""
    assert set(truth()) <= {*CORES, *NEWER}


def test_tails_that_nothing_protects():
    """riscv64: told once, with how many there are; nothing is wrong."""
    found = audit(open_core(core("riscv64-7.2-2nodes")))
    (finding,) = found.findings
    assert (finding.severity, finding.count) == ("info", 385)
    assert found.sound
    assert found.cells.shares[:, 3].sum() == 0


def test_memory_that_hosts_its_own_vmemmap():
    """memmap_on_memory: nothing is possible there, and it is said why; in hot-added memory that
    does not, what is possible is 7 vmemmap pages of each page.
    """
    found = audit(open_core(core("x86-7.3.4-dimm-self")))
    counts = found.pools[0].counts
    assert (counts.pages, counts.self_hosted, counts.possible) == (300, 300, 0)
    assert "memmap_on_memory" in found.notes[0]
    other = audit(open_core(core("x86-7.3.4-dimm"))).pools[0].counts
    assert (other.self_hosted, other.possible) == (0, 20 * 7 * 4096)


def test_device_dax_is_counted_apart():
    """512 MiB of DAX aligned to 2 MiB: its vmemmap is on 512 frames; HugeTLB's own is not mixed
    with it.
    """
    found = audit(open_core(core("x86-7.3.4-devdax")))
    assert found.dax == (2048, 512, 1536 * 4096)
    assert found.pools[0].counts.saved == 40 * 7 * 4096
    assert audit(open_core(core("x86-7.3.4-dimm"))).dax == (0, 0, 0)


def test_what_cannot_be_optimised_is_said():
    """Struct pages of 80 bytes, and pages whose struct pages fill no vmemmap page."""
    found = audit(open_core(core("loong64-7.2")))
    assert [pool.counts.possible for pool in found.pools] == [0]
    assert "sizeof(struct page) is 80" in found.notes[0]
    found = audit(open_core(core("arm64-7.2.13-16k")))
    assert [pool.counts.possible for pool in found.pools] == [0, 6 * 7 * 16384]
    assert "2MiB page fill less than one vmemmap page" in found.notes[0]


def test_defects_that_memory_shows():
    """H15 and H19, with the release that mended them; none in a kernel without."""
    (found,) = audit(open_core(core("x86-7.1.13-gigboot"))).defects
    assert (found.defect.id, found.pages, found.frames, found.defect.fixed) == (
        "H15",
        1,
        4032,
        "7.2",
    )
    (found,) = audit(open_core(core("defect-x86-6.12.117-mixed"))).defects
    assert (found.defect.id, found.pages, found.frames, found.defect.fixed) == (
        "H19",
        50,
        350,
        None,
    )
    assert audit(open_core(core("x86-7.3.4-demoted"))).defects == ()


def test_saved_is_what_the_counters_say():
    """6.12.94: the sum of the memory map's counters fell by what the pages that are optimised
    save.
    """
    found, snapshots = (
        audit(open_core(core("x86-6.12.94-mixed"))),
        truth()["x86-6.12.94-mixed"]["snapshots"],
    )
    fell = [
        snapshots["boot"][key] - snapshots["end"][key]
        for key in ("nr_memmap_boot_pages", "nr_memmap_pages")
    ]
    assert found.pools[0].counts.saved == sum(fell) * 4096
    assert found.pools[0].counts.saved == 30 * 7 * 4096
    assert found.pools[0].counts.possible == 60 * 7 * 4096


@pytest.mark.parametrize(
    ("name", "rule", "pfns"),
    [
        ("bad-tail-writable", "tail-writable", [288768]),
        ("bad-flag-cleared", "mapping-without-flag", [14848]),
    ],
)
def test_a_planted_fault(name, rule, pfns):
    """Exactly that."""
    found = audit(open_core(core(name)))
    assert [(finding.id, finding.pfn) for finding in found.findings] == [
        (rule, pfn) for pfn in pfns
    ]


def test_a_planted_loop():
    """The HugeTLB pages behind it are those of the kernel it was planted in; the others are audited
    as ever.
    """
    found = audit(open_core(core("bad-table-loop")))
    (before,) = truth()["x86-6.12.94-mixed"]["pools"]
    hidden = sorted(set(before["heads"]) - set(found.pools[0].pfn.tolist()))
    assert [(finding.id, finding.pfn) for finding in found.findings] == [
        ("table-loop", pfn) for pfn in hidden
    ]
    assert len(hidden) == 38
    assert found.pools[0].pfn[found.pools[0].state == 1].tolist() == [
        pfn for pfn in before["optimized_heads"] if pfn not in hidden
    ]


def summary(found):
    """What must not depend on how the memory is read."""
    out = found.to_json()
    return {key: out[key] for key in ("layout", "pools", "findings", "lost", "table_cost")}


@pytest.mark.parametrize("name", ["x86-6.12.94-mixed", "defect-x86-6.12.117-mixed"])
def test_a_compressed_dump(tmp_path, name):
    """The same as the ELF core it was made of."""
    to_kdump(core(name), tmp_path / "dump")
    assert summary(audit(open_core(tmp_path / "dump"))) == summary(audit(open_core(core(name))))


@pytest.mark.parametrize("name", ["x86-6.12.94-mixed", "arm64-7.3-4k-sizes", "arm64-6.1-64k-few"])
def test_the_running_kernel(tmp_path, name):
    """/proc/kcore has the same memory between segments that are none."""
    to_kcore(core(name), tmp_path / "kcore")
    live = open_live(tmp_path / "kcore")
    assert summary(audit(live)) == summary(audit(open_core(core(name))))
    largest = int(np.argmax(live.segments.ends - live.segments.starts))
    first = int(live.segments.starts[largest])
    assert live.read(first + 100, 9000) == open_core(core(name)).read(first + 100, 9000)


def test_no_kernel_to_read(tmp_path):
    """No file, no core, no notes: what to do instead is said."""
    with pytest.raises(HvoError, match="this kernel has none"):
        open_live(tmp_path / "absent")
    for data in (b"", b"\x7fELF", b"x" * 100, b"\x7fELF" + bytes(60)):
        (tmp_path / "kcore").write_bytes(data)
        with pytest.raises(HvoError):
            open_live(tmp_path / "kcore")


def test_a_filtered_dump(tmp_path):
    """Frames that the dump level left out: the rest is audited, and it is said what was missing."""
    whole = audit(open_core(core("x86-6.12.94-mixed")))
    image = KernelImage.of(open_core(core("x86-6.12.94-mixed")))
    plain = whole.pools[0].pfn[whole.pools[0].state == 0][:3]
    page = Sections.of(image).struct_page_address(plain + 64 * 3)
    frames = frozenset((image.translate(page).addresses // np.uint64(4096)).tolist())
    to_kdump(core("x86-6.12.94-mixed"), tmp_path / "dump", frames)
    found = audit(open_core(tmp_path / "dump"))
    assert found.findings == ()
    assert [pool.counts for pool in found.pools] == [pool.counts for pool in whole.pools]
    assert any(text.startswith("3 vmemmap pages") for text in found.missing)


@pytest.mark.parametrize("tool", ["xz", "zst"])
def test_a_core_packed_as_a_whole(tmp_path, tool):
    """Unpacked beside, and nothing is left of it."""
    packed = need(SHARED / "cores/x86-7.3-on.elf.xz")
    if tool == "zst":
        import shutil
        import subprocess

        if shutil.which("zstd") is None:
            pytest.skip("there is no program zstd here")
        packed = tmp_path / "core.elf.zst"
        subprocess.run(["zstd", "-q", "-1", str(core("x86-7.3-on")), "-o", str(packed)], check=True)
    said: list[str] = []
    memory = open_target(str(packed), said.append)
    assert said
    assert said[0].startswith("unpacking")
    assert not memory.path.exists()
    assert summary(audit(memory)) == summary(audit(open_core(core("x86-7.3-on"))))


@pytest.mark.parametrize(
    "name", ["arm64-6.1-4k-mixed", "x86-6.12-on", "x86-6.1-dump-on", "arm64-7.3-4k-sizes"]
)
def test_drgn_translates_as_we_do(name):
    """Bytes of struct pages that drgn reads at virtual addresses are those at our physical ones."""
    import drgn

    program = drgn.Program()
    program.set_core_dump(core(name))
    image = KernelImage.of(open_core(core(name)))
    sections = Sections.of(image)
    rng = np.random.default_rng(5)
    pfns = (
        sections.start_pfn[rng.integers(0, len(sections.numbers), 200)]
        + rng.integers(0, sections.pages, 200)
    ).astype(np.int64)
    virtual = sections.struct_page_address(pfns)
    for address, physical in zip(virtual.tolist(), image.physical(virtual).tolist(), strict=True):
        assert program.read(address, 64) == image.memory.read(physical, 64)


def test_all_small_cores_in_time():
    """Under five seconds together, of this process' time."""
    begun = time.process_time()
    for name in CORES:
        audit(open_core(core(name)))
    assert time.process_time() - begun < 5


def test_the_page_of_findings_is_up_to_date():
    """`docs/findings.md` is what the rules make."""
    page = Path(__file__).resolve().parents[1] / "docs/findings.md"
    assert page.read_text() == findings_page(), (
        "run: python -m hvo.audit.findings_page > docs/findings.md"
    )
