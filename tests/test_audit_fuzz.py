"""Damaged cores: an audit ends with a result or with a line that says what is wrong, soon, and in
bounded memory.
"""

import gzip
import random
import struct
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import dump_forms
from hvo.audit.audit import audit
from hvo.errors import HvoError
from hvo.kernel.image import KernelImage
from hvo.kernel.sections import Sections
from hvo.memory.core import open_core
from hvo.memory.elf import read_layout
from hvo.memory.target import open_target
from hvo.mmu.walk import path as entries_of
from repack import to_kdump
from shared_files import core

NAMES = [
    "arm64-6.1-64k-few",
    "x86-7.3-on",
    "arm64-6.1-4k-mixed",
    "x86-6.12.94-mixed",
    "arm64-7.3-4k-sizes",
    "x86-6.1-dump-on",
    "riscv64-7.2-2nodes",
    "arm64-7.2.13-16k",
    "loong64-7.2",
    "x86-7.3.4-dimm-self",
    "x86-7.3.4-devdax",
]
SECONDS, BYTES = 10, 1 << 30


def spots(name):
    """Places in the file where damage tells: page tables, mem_section, struct pages of heads."""
    memory = open_core(core(name))
    image = KernelImage.of(memory)
    sections = Sections.of(image)
    found = set()
    for address in [*sections.memmap.tolist(), memory.vmcoreinfo.symbol("mem_section")]:
        found |= {entry.location for entry in entries_of(memory, image.format, image.root, address)}
        for at in range(0, 4 << 20, 1 << 15):
            inside = (address + at) & ((1 << 64) - 1)
            steps = entries_of(memory, image.format, image.root, inside)
            found |= {step.location for step in steps}
    pages = [pool.pfn for pool in audit(memory).pools]
    heads = sections.struct_page_address(pages[0]).tolist() if pages else []
    found |= {
        int(image.physical(sections.memmap[:1])[0]),
        *(int(image.physical(sections.memmap[:1] * 0 + head)[0]) for head in heads),
    }
    segments = read_layout(core(name)).segments
    return [
        int(segments.locate(sections.memmap[:1] * 0 + place).offsets[0]) for place in sorted(found)
    ]


def damaged(rng, data, places):
    """A copy with a few words changed, a stretch of random bytes, or cut off."""
    out = bytearray(data)
    kind = rng.randrange(10)
    if kind == 0:
        return out[: rng.randrange(len(out))]
    if kind == 1:
        at = rng.randrange(len(out) - 5000)
        out[at : at + 4096] = rng.randbytes(4096)
    if kind == 2:  # the headers and VMCOREINFO
        for _ in range(rng.randrange(1, 8)):
            out[rng.randrange(8192)] = rng.randrange(256)
    for _ in range(rng.randrange(1, 30)):
        at = rng.choice(places)
        (value,) = struct.unpack_from("<Q", out, at)
        words = (
            rng.getrandbits(64),
            value ^ 1 << rng.randrange(64),
            0,
            value ^ rng.getrandbits(40) << 12,
            struct.unpack_from("<Q", out, rng.choice(places))[0],
        )
        struct.pack_into("<Q", out, at, rng.choice(words))
    return out


def memory(field):
    """Bytes that this process has, or had at most, by the name in /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def endure(tmp_path, name, seed, count):
    """Audit `count` damaged copies of the core `name`."""
    rng, places, data = random.Random(seed), spots(name), core(name).read_bytes()
    path = tmp_path / "damaged.elf"
    ends = {"audited": 0, "refused": 0}
    for number in range(count):
        path.unlink(missing_ok=True)
        path.write_bytes(damaged(rng, data, places))
        begun = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                audit(open_core(path)).to_json()
            ends["audited"] += 1
        except HvoError as error:
            message = str(error)
            ends["refused"] += 1
        else:
            message = ""
        assert "\n" not in message, (name, seed, number)
        assert time.process_time() - begun < SECONDS, (name, seed, number)
    return ends


@pytest.mark.parametrize("name", NAMES)
def test_damage(tmp_path, name):
    """A few dozen of each core, in bounded memory; both ends occur."""
    Path("/proc/self/clear_refs").write_text("5")  # begins the high-water mark anew
    before = memory("VmRSS")
    ends = endure(tmp_path, name, 1, 40)
    assert ends["audited"] > 0
    assert ends["refused"] > 0
    assert memory("VmHWM") - before < BYTES  # pages of the mapped core count here, too


def forms_of(data: bytes) -> dict[str, list[bytes]]:
    """A kdump-compressed core in each form that a dump may have."""
    middle = int(np.flatnonzero(dump_forms.places(data)[1])[1000])
    return {
        "kdump": [data],
        "flattened": [dump_forms.flattened(data)],
        "split": dump_forms.split(data, [middle]),
        "incomplete": [dump_forms.incomplete(data, range(middle))],
        "gzip": [gzip.compress(data, 1)],
    }


def harmed(rng: random.Random, data: bytes) -> bytes:
    """A copy with some bytes changed, most of them in the headers, or cut off."""
    out = bytearray(data)
    if not rng.randrange(6):
        return bytes(out[: rng.randrange(len(out))])
    for _ in range(rng.randrange(1, 30)):
        out[rng.randrange(rng.choice((600, 9000, len(out))))] = rng.randrange(256)
    return bytes(out)


def endure_forms(tmp_path: Path, form: str, seed: int, count: int) -> None:
    """Audit `count` damaged dumps of a form: each ends with a result or one line."""
    rng = random.Random(seed)
    to_kdump(core("x86-6.12-on"), tmp_path / "kdump")
    parts = forms_of((tmp_path / "kdump").read_bytes())[form]
    for number in range(count):
        which = rng.randrange(len(parts))
        damaged = [harmed(rng, part) if i == which else part for i, part in enumerate(parts)]
        paths = [
            str(dump_forms.write(tmp_path, f"part{i}", part)) for i, part in enumerate(damaged)
        ]
        begun = time.process_time()
        try:
            audit(open_target(paths[0], lambda _: None, *paths[1:])).to_json()
            message = ""
        except HvoError as error:
            message = str(error)
        assert "\n" not in message, (form, seed, number)
        assert time.process_time() - begun < SECONDS, (form, seed, number)


FORMS = ["kdump", "flattened", "split", "incomplete", "gzip"]


@pytest.mark.parametrize("form", FORMS)
def test_damaged_dumps(tmp_path, form):
    """A few of each form."""
    endure_forms(tmp_path, form, 1, 8)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_many_damaged_dumps(tmp_path, form):
    """Many of each form."""
    endure_forms(tmp_path, form, 2, 150)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_lot_of_damage(tmp_path, name):
    """Hundreds of each core."""
    endure(tmp_path, name, 2, 500)
