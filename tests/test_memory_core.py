"""Core files: what is written is what drgn and the gathered words read back, and bad files are
refused with a reason.
"""

import struct
import zlib
from pathlib import Path

import drgn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvo.errors import HvoError
from hvo.memory.core import CoreMemory, open_core
from hvo.memory.elf import Run, write_elf_core
from hvo.memory.interface import MemoryFault
from hvo.memory.segments import Segments
from hvo.memory.vmcoreinfo import VmcoreInfo
from shared_files import CORES, core

PAGE = 4096
INFO = (
    "OSRELEASE=7.1.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff81000000\nNUMBER(phys_base)=0\n"
)
BAD_CORES = ["bad-flag-cleared", "bad-table-loop", "bad-tail-writable"]


def noise(seed: int, length: int) -> bytes:
    return np.random.default_rng(seed).bytes(length)


def run(address: int, data: bytes) -> Run:
    return Run(address, len(data), lambda: [data[:100], data[100:]])


def small_core(path: Path, info: str = INFO) -> dict[int, bytes]:
    """Write a core of three pieces, two of them adjacent, and return what is where."""
    pieces = {
        address: noise(address, pages * PAGE)
        for address, pages in ((0x1000, 3), (0x4000, 1), (0x10_0000_0000, 2))
    }
    write_elf_core(path, "x86_64", info, [run(*piece) for piece in pieces.items()])
    return pieces


def words_at(addresses: list[int]) -> np.ndarray:
    return np.array(addresses, np.uint64)


def agree_with_drgn(memory: CoreMemory, samples: int) -> None:
    """Random words, spread over all segments, are the bytes drgn reads there."""
    draw = np.random.default_rng(7)
    starts, lengths = memory.segments.starts, memory.segments.ends - memory.segments.starts
    which = draw.integers(0, len(starts), samples)
    addresses = starts[which] + (
        draw.integers(0, 1 << 40, samples).astype(np.uint64) % (lengths[which] // 8)
    ) * np.uint64(8)
    expected = [int.from_bytes(memory.read(int(address), 8), "little") for address in addresses]
    assert memory.read_words(addresses).tolist() == expected
    assert memory.readable(addresses).all()


# --- VMCOREINFO


def test_vmcoreinfo_reads_each_kind_in_its_base():
    info = VmcoreInfo.parse(
        "SYMBOL(a)=ffff\nNUMBER(b)=-129\nNUMBER(c)=0x19\nOFFSET(p.q)=8\nSIZE(p)=64\nLENGTH(p.r)=11\nX=y=z\n\n"
    )
    assert (info.symbol("a"), info.number("b"), info.number("c")) == (0xFFFF, -129, 0x19)
    assert (info.offset("p.q"), info.size("p"), info.length("p.r"), info.text("X")) == (
        8,
        64,
        11,
        "y=z",
    )


def test_vmcoreinfo_missing_key_is_named_and_a_default_replaces_it():
    info = VmcoreInfo.parse("SIZE(page)=sixty\n")
    with pytest.raises(HvoError, match=r"no SYMBOL\(mem_section\)"):
        info.symbol("mem_section")
    assert info.symbol("mem_section", None) is None
    assert info.number("sme_mask", default=0) == 0
    with pytest.raises(HvoError, match=r"SIZE\(page\)=sixty"):
        info.size("page")


@pytest.mark.parametrize("value", ["0", "4095", "8192", "four"])
def test_vmcoreinfo_refuses_an_impossible_page_size(value: str):
    with pytest.raises(HvoError, match="expected 4096, 16384 or 65536"):
        _ = VmcoreInfo.parse(f"PAGESIZE={value}\n").page_size


@settings(derandomize=True, max_examples=50)
@given(st.dictionaries(st.text("ABC()._", min_size=1), st.text("abc=0 ")))
def test_vmcoreinfo_text_is_parsed_back(entries: dict[str, str]):
    assert VmcoreInfo.parse(VmcoreInfo(entries).to_text()).entries == entries


# --- segments


@settings(derandomize=True, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=8))
def test_segments_hold_each_word_once_where_its_first_segment_has_it(pieces: list[tuple[int, int]]):
    """Against a dictionary filled word by word: overlapping, nested, empty and adjacent pieces, in
    any order.
    """
    array = np.array(pieces, np.uint64).reshape(-1, 2) * np.uint64(8)
    offsets = np.arange(len(pieces), dtype=np.uint64) * np.uint64(1000)
    segments = Segments.of(array[:, 0], array[:, 1], offsets)
    expected: dict[int, int] = {}
    for index in np.argsort(array[:, 0], kind="stable"):
        start, length = array[index].tolist()
        for step in range(0, length, 8):
            expected.setdefault(start + step, int(offsets[index]) + step)
    asked = np.arange(0, 60 * 8, 8, dtype=np.uint64)
    found = segments.locate(asked)
    assert found.present.tolist() == [address in expected for address in asked.tolist()]
    assert found.offsets[found.present].tolist() == [
        expected[address] for address in asked[found.present].tolist()
    ]
    assert (segments.starts[1:] >= segments.ends[:-1]).all()


# --- writing and reading ELF


def test_written_core_is_read_back_by_drgn_and_by_words(tmp_path: Path):
    pieces = small_core(tmp_path / "core")
    memory = open_core(tmp_path / "core")
    assert (memory.arch, memory.page_size, memory.vmcoreinfo.to_text()) == ("x86_64", PAGE, INFO)
    assert all(memory.read(address, len(data)) == data for address, data in pieces.items())
    for address, data in pieces.items():
        addresses = np.arange(address, address + len(data), 8, dtype=np.uint64).reshape(-1, 64)
        assert memory.read_words(addresses).tobytes() == data
        assert memory.read_words(addresses).shape == addresses.shape
    agree_with_drgn(memory, 50)


def test_adjacent_runs_become_one_segment(tmp_path: Path):
    small_core(tmp_path / "core")
    segments = open_core(tmp_path / "core").segments
    assert segments.starts.tolist() == [0x1000, 0x10_0000_0000]
    assert segments.ends.tolist() == [0x5000, 0x10_0000_2000]


def test_missing_memory_is_a_fault_that_names_the_addresses(tmp_path: Path):
    small_core(tmp_path / "core")
    memory = open_core(tmp_path / "core")
    asked = words_at([0x1000, 0x5000, 0x4FF8, 0x0, 0x10_0000_2000])
    assert memory.readable(asked).tolist() == [True, False, True, False, False]
    with pytest.raises(MemoryFault, match="0x5000 and at 2 more") as fault:
        memory.read_words(asked)
    assert fault.value.addresses.tolist() == [0x5000, 0x0, 0x10_0000_2000]
    with pytest.raises(MemoryFault) as fault:
        memory.read(0x4FF0, 32)
    assert fault.value.addresses.tolist() == [0x5000]


def test_more_segments_than_sixteen_bits_count(tmp_path: Path):
    """70000 segments need PN_XNUM and sh_info; drgn and the own reader find the last one."""
    count = 70000
    write_elf_core(
        tmp_path / "core",
        "arm64",
        INFO,
        (run(16 * i, i.to_bytes(8, "little")) for i in range(count)),
    )
    memory = open_core(tmp_path / "core")
    addresses = np.arange(count, dtype=np.uint64) * np.uint64(16)
    assert (memory.arch, len(memory.segments.starts)) == ("arm64", count)
    assert memory.read_words(addresses).tolist() == list(range(count))
    assert memory.read(16 * (count - 1), 8) == (count - 1).to_bytes(8, "little")
    assert not memory.readable(addresses + np.uint64(8)).any()


def test_core_without_memory_is_open_and_empty(tmp_path: Path):
    write_elf_core(tmp_path / "core", "riscv64", INFO, [])
    memory = open_core(tmp_path / "core")
    assert memory.arch == "riscv64"
    assert not memory.readable(words_at([0, 0x1000])).any()


@pytest.mark.parametrize("fails", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_core_that_cannot_be_finished_leaves_nothing_behind(tmp_path: Path, fails: BaseException):
    (tmp_path / "core").write_bytes(b"before")

    def chunks():
        yield bytes(PAGE)
        raise fails

    with pytest.raises((HvoError, KeyboardInterrupt)):
        write_elf_core(tmp_path / "core", "x86_64", INFO, [Run(0, 2 * PAGE, chunks)])
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("core", b"before")]


def test_writing_refuses_what_would_be_no_core(tmp_path: Path):
    with pytest.raises(HvoError, match="s390x, expected x86_64, arm64, riscv64"):
        write_elf_core(tmp_path / "core", "s390x", INFO, [])
    with pytest.raises(HvoError, match="No such file or directory"):
        write_elf_core(tmp_path / "absent" / "core", "arm64", INFO, [])
    with pytest.raises(ValueError, match="yielded 4096 bytes, not 8192"):
        write_elf_core(tmp_path / "core", "arm64", INFO, [Run(0, 8192, lambda: [bytes(4096)])])


def elf(
    loads: list[tuple[int, bytes]], *, gap: int = 0, note: bytes = b"", machine: int = 62
) -> bytes:
    """A core laid out as QEMU does: memory right behind the headers and the note, here `gap` bytes
    further.
    """
    offset = 64 + 56 * (1 + len(loads))
    headers = struct.pack("<IIQQQQQQ", 4, 0, offset, 0, 0, len(note), len(note), 4)
    data = note + bytes(gap)
    for address, piece in loads:
        headers += struct.pack(
            "<IIQQQQQQ", 1, 6, offset + len(data), 0, address, len(piece), len(piece), 0
        )
        data += piece
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\2\1\1",
        4,
        machine,
        1,
        0,
        64,
        0,
        0,
        64,
        56,
        1 + len(loads),
        0,
        0,
        0,
    )
    return header + headers + data


def note(text: str) -> bytes:
    return (
        struct.pack("<III", 11, len(text), 0)
        + b"VMCOREINFO\0\0"
        + text.encode()
        + bytes(-len(text) % 4)
    )


@pytest.mark.parametrize("gap", [0, 1, 4, 7])
def test_memory_at_any_offset_of_the_file_and_twice(tmp_path: Path, gap: int):
    """Segments that overlap (as in /proc/vmcore), and pieces whose length leaves the next at
    another remainder of 8.
    """
    data = noise(gap, 3 * PAGE)
    loads = [(0x2000, data[PAGE:]), (0x1000, data[: 2 * PAGE + 8 + gap]), (0x9000, data[:PAGE])]
    path = tmp_path / "core"
    path.write_bytes(elf(loads, gap=gap, note=note(INFO)))
    memory = open_core(path)
    addresses = np.arange(0x1000, 0x4000, 8, dtype=np.uint64)
    assert memory.read_words(addresses).tobytes() == data
    assert memory.read_words(addresses[:512] + np.uint64(0x8000)).tobytes() == data[:PAGE]
    agree_with_drgn(memory, 100)


@pytest.mark.parametrize(
    "decoy", [b"OSRELEASE=%s\n\0", b"OSRELEASE=12\nPAGESIZE=x\0", b"OSRELEASE=6.1"]
)
def test_vmcoreinfo_is_found_in_memory_where_no_note_has_it(tmp_path: Path, decoy: bytes):
    page = (
        noise(1, 1000) + decoy + noise(2, 800) + b"\0" + INFO.encode() + b"\0" + noise(3, PAGE)
    ).ljust(2 * PAGE)
    path = tmp_path / "core"
    path.write_bytes(elf([(0x3000, page[:PAGE])]))
    memory = open_core(path)
    assert memory.vmcoreinfo.to_text() == INFO
    assert memory.read(0x3000, PAGE) == page[:PAGE]


# --- kdump


def kdump(pages: dict[int, bytes], info: str) -> bytes:
    """A kdump-compressed core, version 6, with zlib-compressed pages (makedumpfile's
    IMPLEMENTATION); `pages` by frame number.
    """
    frames, bitmap_length = max(pages) + 1, PAGE
    bitmap = np.zeros(bitmap_length * 8, np.uint8)
    bitmap[list(pages)] = 1
    bitmap = np.packbits(bitmap, bitorder="little").tobytes()
    header = struct.pack("<8si", b"KDUMP   ", 6)
    header += b"".join(
        name.ljust(65, b"\0") for name in (b"Linux", b"host", b"7.1.0", b"#1", b"x86_64", b"")
    )
    header += bytes(6 + 16) + struct.pack("<IiiIIIIIii", 1, PAGE, 1, 2, frames, 0, 0, 0, 0, 1)
    notes = note(info)
    at = 2 * PAGE - len(notes)
    sub = struct.pack(
        "<Qii11Q", 0, 0, 0, 0, frames, at + 24, len(info), at, len(notes), 0, 0, 0, frames, frames
    )
    head = header.ljust(PAGE, b"\0") + sub.ljust(PAGE - len(notes), b"\0") + notes + bitmap * 2
    packed = [zlib.compress(pages[frame]) for frame in sorted(pages)]
    position = len(head) + 24 * len(packed)
    table = b""
    for data in packed:
        table += struct.pack("<QIIQ", position, len(data), 1, 0)
        position += len(data)
    return head + table + b"".join(packed)


def test_kdump_compressed_core_reads_like_its_pages(tmp_path: Path):
    pages = {frame: noise(frame, 64) * (PAGE // 64) for frame in (1, 2, 3, 700, 9000)}
    path = tmp_path / "core"
    info = INFO + "NUMBER(pgtable_l5_enabled)=0\n"
    path.write_bytes(kdump(pages, info))
    memory = open_core(path)
    assert (memory.arch, memory.vmcoreinfo.to_text()) == ("x86_64", info)
    assert memory.segments.starts.tolist() == [0x1000, 700 * PAGE, 9000 * PAGE]
    draw = np.random.default_rng(1)
    frames = draw.choice(list(pages), 3000)
    inside = draw.integers(0, PAGE // 8, 3000) * 8
    words = memory.read_words((frames * PAGE + inside).astype(np.uint64).reshape(3, 1000))
    expected = [
        pages[frame][offset : offset + 8]
        for frame, offset in zip(frames.tolist(), inside.tolist(), strict=True)
    ]
    assert words.tobytes() == b"".join(expected)
    with pytest.raises(MemoryFault, match="0x4000"):
        memory.read_words(words_at([0x1000, 0x4000]))


def test_kdump_that_ends_in_its_bitmap_is_refused(tmp_path: Path):
    path = tmp_path / "core"
    path.write_bytes(kdump({1: bytes(PAGE)}, INFO)[: 2 * PAGE + 100])
    with pytest.raises(
        HvoError, match="truncated: the kdump bitmap ends at offset 16384, the file at 8292"
    ):
        open_core(path)


# --- bad input


def patched(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


GOOD = elf([(0x1000, noise(5, 2 * PAGE))], note=note(INFO))
BAD = {
    "is empty": b"",
    "starts with b'hello'": b"hello",
    "truncated: the ELF header needs 64": GOOD[:20],
    "truncated: 2 program headers end at offset 176, the file at 64": GOOD[:64],
    "truncated: the segment of physical address 0x1000 ends": GOOD[:-1],
    "segment of physical address 0x1000 ends at offset": patched(GOOD, 64 + 56 + 32, b"\xff" * 8),
    "not a 64-bit little-endian": patched(GOOD, 4, b"\1"),
    "an ELF file of type 2, expected a core": patched(GOOD, 16, b"\2"),
    r"ELF machine 8, expected x86_64 \(62\), arm64 \(183\), riscv64 \(243\)": patched(
        GOOD, 18, b"\x08\0"
    ),
    "program headers of 32 bytes": patched(GOOD, 54, b"\x20"),
    "truncated: no section header at offset": patched(
        patched(GOOD, 56, b"\xff\xff"), 40, b"\xff" * 4
    ),
    "no VMCOREINFO, neither as a note nor in memory": elf([(0x1000, noise(5, PAGE))]),
    "expected 4096, 16384 or 65536": elf([], note=note(INFO.replace("4096", "8192"))),
    "kdump blocks of 0 bytes": b"KDUMP   " + bytes(8192),
    "truncated: the kdump header": b"KDUMP   " + bytes(10),
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_file_is_refused_in_one_line_that_names_it(tmp_path: Path, reason: str):
    path = tmp_path / "some.core"
    path.write_bytes(BAD[reason])
    with pytest.raises(HvoError, match=reason) as error:
        open_core(path)
    assert str(path) in str(error.value) or "PAGESIZE" in str(error.value)
    assert "\n" not in str(error.value)


def test_unreadable_path_is_refused(tmp_path: Path):
    with pytest.raises(HvoError, match="No such file or directory"):
        open_core(tmp_path / "absent")
    with pytest.raises(HvoError, match="Is a directory"):
        open_core(tmp_path)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.integers(0, 64 + 2 * 56 - 1), st.binary(min_size=1, max_size=8))
def test_damaged_headers_never_escape_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, offset: int, value: bytes
):
    path = tmp_path_factory.getbasetemp() / "damaged.core"
    path.write_bytes(patched(GOOD, offset, value))
    message = ""
    try:
        memory = open_core(path)
        memory.read_words(memory.segments.starts[memory.segments.starts % 8 == 0])
    except HvoError as error:
        message = str(error)
    assert "\n" not in message


# --- real kernels


@pytest.mark.parametrize("name", [*CORES, *BAD_CORES])
def test_words_of_a_real_core_are_what_drgn_reads(name: str):
    agree_with_drgn(open_core(core(name)), 300)


def test_release_is_the_one_drgn_tells():
    path = core("arm64-6.1-64k-few")
    program = drgn.Program()
    program.set_core_dump(path)
    memory = open_core(path)
    assert memory.vmcoreinfo.to_text() == program["VMCOREINFO"].string_().decode()
    assert memory.page_size == 65536
