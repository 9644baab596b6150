"""QEMU: the machine that a guest runs on, and the questions that it answers (QMP)."""

import json
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kernels.installed import Kernel, tool

_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")


class Emulator(NamedTuple):
    """How an architecture is emulated: the command, the guest's names for its console and for the
    port that it reports on, and whether QEMU takes the guest's VMCOREINFO into dumps as a note.
    """

    command: tuple[str, ...]
    console: str
    report: str
    note: bool = True


# The machine `virt` has one serial port, so reports share the console.
_EMULATORS = {
    "x86_64": Emulator(("qemu-system-x86_64", "-cpu", "max"), "ttyS0", "ttyS1"),
    "arm64": Emulator(
        ("qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", "cortex-a57"),
        "ttyAMA0",
        "ttyAMA0",
    ),
    "arm64-16k": Emulator(  # a Cortex-A57 has no pages of 16K
        ("qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", "max"), "ttyAMA0", "ttyAMA0"
    ),
    # Its fw_cfg has no DMA in QEMU 7.2, which the device vmcoreinfo needs.
    "riscv64": Emulator(
        ("qemu-system-riscv64", "-M", "virt", "-cpu", "rv64"), "ttyS0", "ttyS0", note=False
    ),
}


class Qmp:
    """A connection to a running QEMU."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._stream = self._socket.makefile("rw")
        self._stream.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: object) -> Any:
        """The answer to `command`; raises `RuntimeError` with QEMU's own words when it refuses."""
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        for line in self._stream:  # events may come first
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"QEMU: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise RuntimeError(f"QEMU: {command}: it ended without an answer")

    def dump(self, path: Path) -> None:
        """Save the guest's memory as an ELF core."""
        self.ask("dump-guest-memory", paging=False, protocol=f"file:{path}")
        path.chmod(0o600)
        _headers_in_front(path)


def _headers_in_front(path: Path) -> None:
    """Put the program headers of the core at `path` right behind the file's header, where
    makedumpfile 1.7 takes them to be.

    QEMU 7.2 has section headers there, and the size of a pointer as `e_ehsize`
    (prepare_elf64_header in its dump/dump.c).
    """
    with path.open("r+b") as core:
        ident, kind, machine, version, entry, at, _, flags, _, size, count, *_ = _ELF_HEADER.unpack(
            core.read(_ELF_HEADER.size)
        )
        core.seek(at)
        headers = core.read(size * count)
        core.seek(0)
        core.write(
            _ELF_HEADER.pack(
                ident,
                kind,
                machine,
                version,
                entry,
                _ELF_HEADER.size,
                0,
                flags,
                _ELF_HEADER.size,
                size,
                count,
                0,
                0,
                0,
            )
        )
        core.write(headers)


def _node(node: int, memory_mib: int) -> tuple[str, ...]:
    """A NUMA node with a processor of its own."""
    memory = f"memory-backend-ram,id=node{node},size={memory_mib}M"
    return "-object", memory, "-numa", f"node,nodeid={node},cpus={node},memdev=node{node}"


def _dimm(number: int, memory_mib: int) -> tuple[str, ...]:
    """Memory that the firmware does not know, as if it were added while the machine runs."""
    memory = f"memory-backend-ram,id=dimm{number},size={memory_mib}M"
    return "-object", memory, "-device", f"pc-dimm,id=module{number},memdev=dimm{number}"


@contextmanager
def machine(
    kernel: Kernel,
    work: Path,
    memory_mib: int,
    append: str,
    image: Path | None,
    nodes: int,
    dimms: tuple[int, ...] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """A machine that boots `kernel` with the archive `work`/initrd; its ports write to
    `work`/console and, if it has two, `work`/report.
    """
    emulator = _EMULATORS[kernel.arch]
    arguments = f"console={emulator.console} report=/dev/{emulator.report} panic=-1 quiet {append}"
    ports = dict.fromkeys(
        ("console", "report") if emulator.console != emulator.report else ("console",)
    )
    command = [
        tool(emulator.command[0]),
        *emulator.command[1:],
        "-accel",
        "tcg",
        "-smp",
        "2",
        "-m",
        f"{memory_mib},slots=4,maxmem=8G" if dimms else str(memory_mib),
        *(word for number, size in enumerate(dimms) for word in _dimm(number, size)),
        "-kernel",
        str(kernel.image),
        "-initrd",
        str(work / "initrd"),
        "-append",
        arguments,
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
        *(("-device", "vmcoreinfo") if emulator.note else ()),
        "-qmp",
        f"unix:{work / 'qmp'},server=on,wait=off",
        *(word for port in ports for word in ("-serial", f"file:{work / port}")),
        *(("-drive", f"file={image},format=raw,if=virtio,readonly=on") if image else ()),
        *(word for node in range(nodes) if nodes > 1 for word in _node(node, memory_mib // nodes)),
    ]
    with (work / "emulator").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
