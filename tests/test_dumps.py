"""Dumps in the forms that people have: an audit of each says what one of the plain core says, and
what was missing.
"""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import dump_forms as forms
from hvo.cli.main import main
from hvo.kernel.image import KernelImage
from hvo.kernel.sections import Sections
from hvo.kernel.vmcore import hugetlb_heads
from hvo.memory.core import open_core
from repack import to_kdump
from shared_files import core

NAME = "x86-6.12.94-mixed"


def hvo(*words: object) -> Result:
    """Run a command."""
    return CliRunner().invoke(main, [str(word) for word in words])


def audited(*targets: Path) -> dict[str, Any]:
    """What `hvo audit --json` prints of them."""
    ended = hvo("audit", *targets, "--json")
    assert ended.exit_code in (0, 1), ended.output
    found = json.loads(ended.stdout)
    found.pop("command", None)
    return found


def refused(*words: object) -> str:
    """The one line of a command that ends with 2."""
    ended = hvo(*words)
    assert (ended.exit_code, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def kdump(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The core, kdump-compressed."""
    path = tmp_path_factory.mktemp("kdump") / "core"
    to_kdump(core(NAME), path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    """What an audit says of the core as it is."""
    return audited(core(NAME))


def cuts(data: bytes) -> list[int]:
    """Two frames that cut the dump in three parts with pages."""
    frames = np.flatnonzero(forms.places(data)[1])
    return [int(frames[len(frames) // 3]), int(frames[len(frames) * 2 // 3])]


def test_flattened(kdump, plain, tmp_path):
    """As a stream, which is put in order again."""
    assert audited(forms.write(tmp_path, "flat", forms.flattened(kdump))) == plain


def test_flattened_and_compressed(kdump, plain, tmp_path):
    """Two layers: unpacked one after the other."""
    packed = gzip.compress(forms.flattened(kdump), 1)
    assert audited(forms.write(tmp_path, "flat.gz", packed)) == plain


def test_gzip(plain, tmp_path):
    assert (
        audited(forms.write(tmp_path, "c.gz", gzip.compress(core(NAME).read_bytes(), 1))) == plain
    )


def test_split_parts_in_any_order(kdump, plain, tmp_path):
    """All parts together are the dump; flattened parts are, too."""
    parts = forms.split(kdump, cuts(kdump))
    a, b, c = (forms.write(tmp_path, f"part{i}", part) for i, part in enumerate(parts))
    assert audited(c, a, b) == plain
    flat = forms.write(tmp_path, "flat", forms.flattened(parts[1]))
    assert audited(a, flat, c) == plain


def test_split_parts_that_do_not_make_a_dump(kdump, tmp_path):
    """One alone, one missing, one twice, a whole dump among them, and what is no dump."""
    parts = forms.split(kdump, cuts(kdump))
    a, b, c = (forms.write(tmp_path, f"part{i}", part) for i, part in enumerate(parts))
    whole = forms.write(tmp_path, "whole", kdump)
    assert "a part of a split dump, with frames" in refused("audit", a)
    assert "give all its parts together" in refused("audit", c)
    assert "are in none of the 2 files" in refused("audit", a, c)
    assert "give each part once" in refused("audit", a, b, b, c)
    assert "a whole dump, not a part of a split one" in refused("audit", a, whole)
    assert "several files must be the parts of one dump" in refused("audit", a, core(NAME))
    assert "several files" in refused("audit", core(NAME), core(NAME))
    assert "absent: cannot open the core" in refused("audit", a, tmp_path / "absent")


def test_incomplete(kdump, plain, tmp_path):
    """What is there is audited, and the result says how many pages are not."""
    first = frames_of_struct_pages(3)
    found = audited(
        forms.write(tmp_path, "half", forms.incomplete(kdump, range(first, first + 40)))
    )
    (lacks,) = [line for line in found["missing"] if "makedumpfile could not finish" in line]
    lost = int(re.findall(r"(\d+) pages that it should have", lacks)[0])
    assert 0 < lost <= 40
    assert 0 < found["pools"][0]["pages"] < plain["pools"][0]["pages"]
    assert any(
        "struct pages are not mapped or not in the memory" in line for line in found["missing"]
    )


def test_incomplete_flag_alone(kdump, plain, tmp_path):
    """A dump that is flagged and has every page: the flag is told, and nothing else differs."""
    found = audited(forms.write(tmp_path, "all", forms.incomplete(kdump)))
    (line,) = set(found.pop("missing")) - set(plain["missing"])
    assert "could not finish this dump: 0 pages" in line
    assert found == {key: value for key, value in plain.items() if key != "missing"}


def frames_of_struct_pages(which: int) -> int:
    """The frame with the struct pages of a HugeTLB page of the core."""
    memory = open_core(core(NAME))
    image = KernelImage.of(memory)
    sections = Sections.of(image)
    head = hugetlb_heads(image, sections).pfn[which : which + 1]
    return int(image.physical(sections.struct_page_address(head))[0]) // 4096


def test_a_bad_page(kdump, plain, tmp_path):
    """The page with the struct pages of one HugeTLB page cannot be unpacked: that one is lacking,
    all others are audited, and the result says that a page is damaged.
    """
    bad = forms.with_bad_page(kdump, frames_of_struct_pages(3))
    found = audited(forms.write(tmp_path, "bad", bad))
    assert [line for line in found["missing"] if "1 pages of the dump are damaged" in line]
    ours, theirs = (each["pools"][0]["pages"] for each in (found, plain))
    assert theirs - 2 <= ours < theirs


def test_elf_without_a_note(plain, tmp_path):
    """QEMU's core of a guest that has no vmcoreinfo device: drgn refuses it, and the kernel's own
    copy in memory is found.
    """
    data = core(NAME).read_bytes().replace(b"VMCOREINFO\0", b"XMCOREINFO\0", 1)
    path = forms.write(tmp_path, "noteless", data)
    assert audited(path) == plain
    memory, other = open_core(path), open_core(core(NAME))
    at = int(memory.segments.starts[-1]) + 3
    assert memory.read(at, 21) == other.read(at, 21)


def test_elf_that_was_not_finished(tmp_path):
    """makedumpfile's flag in `e_flags`: bytes at the end are missing, and it says how many; without
    the flag the file is refused as truncated.
    """
    data = bytearray(core("x86-6.12-on").read_bytes())[:-40960]
    assert "truncated" in refused("audit", forms.write(tmp_path, "cut.elf", bytes(data)))
    data[48] |= 1
    found = audited(forms.write(tmp_path, "flagged.elf", bytes(data)))
    assert "makedumpfile could not finish this dump: 40960 bytes are missing" in found["missing"]
    assert len(found["missing"]) > 1
    assert found["pools"][0]["pages"] > 80


@pytest.mark.parametrize(
    ("start", "named"),
    [
        (b"EMiL\1\0\0\0", "is a LiME image of memory"),
        (b"AVML\2\0\0\0", "is an AVML image of memory"),
        (b"DISKDUMP", "is a diskdump of a kernel before 2.6.20"),
        (b"\xf3\x53\xff\0\xf0\x53\xff\0", "as a raw image of memory may"),
        (b"", "is empty"),
    ],
)
@pytest.mark.parametrize("command", [("audit",), ("ptdump",), ("run", "--like")])
def test_other_images_are_named_with_what_to_do(command, start, named, tmp_path):
    """One line: what it is, what would be taken, and how to get that."""
    line = refused(*command, forms.write(tmp_path, "image", start.ljust(9000 * bool(start), b"\7")))
    assert named in line
    assert "virsh dump --memory-only" in line


@pytest.mark.parametrize("form", ["flattened", "split", "gzip", "incomplete"])
def test_like_takes_what_audit_takes(form, kdump, tmp_path):
    """`hvo run --like`: a machine is made of it, with all guarantees."""
    parts = {
        "flattened": [forms.flattened(kdump)],
        "split": forms.split(kdump, cuts(kdump)),
        "gzip": [gzip.compress(kdump, 1)],
        "incomplete": [forms.incomplete(kdump)],
    }[form]
    paths = [forms.write(tmp_path, f"part{i}", part) for i, part in enumerate(parts)]
    words = [word for path in paths for word in ("--like", path)]
    ended = hvo("run", *words, "--json")
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout)["pool"]["pages"] == 90


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lambda flat: flat[:-8], "with no end mark"),
        (lambda flat: flat[:60000], "before its last record does"),
        (lambda flat: flat[:4096] + b"\x7f" * 64, "not a flattened dump: the record at 4096"),
        (lambda flat: gzip.compress(flat)[:-20000], "not a whole gzip file"),
    ],
)
def test_damaged_streams_are_refused(data, said, kdump, tmp_path):
    """In one line that names the file."""
    line = refused("audit", forms.write(tmp_path, "stream", data(forms.flattened(kdump))))
    assert said in line
    assert "stream: " in line
