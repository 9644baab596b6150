"""The audit of real kernels' memory: what the truth says, in every container; and what drgn itself
translates.
"""

import time
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
from shared_files import CORES, SHARED, core, need, truth


@pytest.mark.parametrize("name", CORES)
def test_a_real_kernel(name):
    """Layout, sections, and of every pool which pages are optimised and flagged; findings only
    where the truth has a defect.
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
    assert [pool.counts.flagged for pool in found.pools] == [pool["flagged"] for pool in pools]
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
    assert (not found.findings) == ("defect" not in told)
    assert found.missing == ()


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
