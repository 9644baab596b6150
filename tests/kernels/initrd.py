"""The first file system of a guest: an archive (`cpio -H newc`,
Documentation/driver-api/early-userspace/buffer-format.rst) made here.
"""

import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kernels.installed import Kernel

INIT = Path(__file__).with_name("init.sh")
_DIRECTORY, _FILE = 0o040755, 0o100755


class Entry(NamedTuple):
    """A file or directory of an archive."""

    name: str
    mode: int
    data: bytes


def initrd(kernel: Kernel, scenario: str, modules: list[str]) -> bytes:
    """An archive with busybox, the `scenario`, and the `modules` with what they need, as far as
    they are not built in.
    """
    entries = [
        *(Entry(name, _DIRECTORY, b"") for name in ("bin", "modules")),
        Entry("bin/busybox", _FILE, kernel.busybox.read_bytes()),
        Entry("init", _FILE, INIT.read_bytes()),
        Entry("scenario", _FILE, scenario.encode() + b"\n"),
    ]
    inserted = in_order(kernel.modules, modules) if kernel.modules else []
    entries += [
        Entry(f"modules/{number:02}.ko", _FILE, data) for number, data in enumerate(inserted)
    ]
    return b"".join(map(_record, range(1, len(entries) + 1), entries)) + _record(
        0, Entry("TRAILER!!!", 0, b"")
    )


def in_order(directory: Path, names: list[str]) -> list[bytes]:
    """The modules `names` and those they depend on, which come before them; one that is not there
    is taken for built in.
    """
    files = {path.name.split(".")[0].replace("-", "_"): path for path in directory.rglob("*.ko*")}
    ordered: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in files and name not in ordered:
            data = _unpacked(files[name])
            for needed in _depends(data):
                add(needed)
            ordered[name] = data

    for name in names:
        add(name)
    return list(ordered.values())


def _unpacked(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def _depends(module: bytes) -> Iterator[str]:
    """The names in `depends=` of a module's .modinfo section (packages ship no modules.dep: it is
    made when they are installed).
    """
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    yield from (
        (name.replace("-", "_") for name in found[1].decode().split(",") if name) if found else ()
    )


def _record(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    fields = (number, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    return _padded(b"070701" + b"".join(b"%08x" % field for field in fields) + name) + _padded(
        entry.data
    )


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
