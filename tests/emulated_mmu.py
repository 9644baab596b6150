"""CPUs of Unicorn (QEMU's page walker) that walk page tables of ours: arm64, x86-64, riscv64.

All CPUs and our own code share one physical memory of 2 GiB, whose untouched pages cost nothing.
What this emulator cannot show: it knows no LPA2 and no Sv57; it walks anew for a store after a
load, so that old translations are proved for loads only; it keeps no pointers to tables; it does
not tell the syndrome of an arm64 exception that no guest code handles, which is why arm64 faults
are asked for with AT instructions; and its riscv64 sets access flags by itself (Svadu), where our
format faults (Svade).
"""

from typing import Protocol

import numpy as np
from unicorn import (
    UC_ARCH_ARM64,
    UC_ARCH_RISCV,
    UC_ARCH_X86,
    UC_HOOK_INTR,
    UC_MODE_64,
    UC_MODE_ARM,
    UC_MODE_RISCV64,
    UC_PROT_ALL,
    UC_TLB_CPU,
    Uc,
)
from unicorn import arm64_const as arm64
from unicorn import riscv_const as riscv
from unicorn import x86_const as x86

from hvo.mmu.format import Format
from hvo.mmu.mapping import map_range
from hvo.mmu.walk import entry_locations

MEMORY_SIZE = 2 << 30
CODE, ROOT, TABLES, DATA = 0x10000, 0x200000, 0x300000, 32 << 20
CODE_SIZE = ROOT - CODE
CODE_ADDRESS = 5 << 39
"""Where x86-64 finds its code: in a slot of the root that no test address has."""
TAG = 0x5A << 56
STORED = 0x123456789


class PhysicalMemory:
    """The memory of a test: tables from `tables` on, the code of CPUs from `code` on."""

    def __init__(self, code: int = CODE, root: int = ROOT, tables: int = TABLES) -> None:
        self.words = np.zeros(MEMORY_SIZE // 8, np.uint64)
        self.code, self.root, self.tables = code, root, tables
        self.next = tables
        self.tagged = np.zeros(0, np.uint64)
        self.page_size = 65536

    def readable(self, addresses):
        return addresses < np.uint64(MEMORY_SIZE)

    def read_words(self, addresses):
        return self.words[addresses >> np.uint64(3)]

    def write_words(self, addresses, values):
        self.words[addresses >> np.uint64(3)] = values

    def allocate(self, count):
        first, self.next = self.next, self.next + count * self.page_size
        return np.arange(first, self.next, self.page_size, dtype=np.uint64)

    def reset(self, page_size):
        assert self.next <= DATA
        self.words[self.root // 8 : self.next // 8] = 0
        self.words[self.tagged >> np.uint64(3)] = 0
        self.next, self.page_size, self.tagged = self.tables, page_size, np.zeros(0, np.uint64)

    def tag(self, addresses):
        """Let the words at these physical addresses say where they are."""
        self.tagged = np.concatenate((self.tagged, addresses.ravel()))
        self.write_words(addresses, addresses | np.uint64(TAG))


class Cpu(Protocol):
    """What each of the emulated CPUs can do."""

    format: Format

    def load(self, address: int) -> int | None:
        """The word there, or None after a fault."""
        ...

    def store(self, address: int) -> bool:
        """Whether the word could be stored."""
        ...

    def invalidate(self, address: int) -> None:
        """Drop the translation of an address."""
        ...

    def invalidate_all(self) -> None:
        """Drop all."""
        ...


ARM64_CODE = {
    "load": (0xF9400001,),  # ldr x1, [x0]
    "store": (0xF9000001,),  # str x1, [x0]
    "ask_load": (0xD5087800, 0xD5033FDF, 0xD5387401),  # at s1e1r, x0; isb; mrs x1, par_el1
    "ask_store": (0xD5087820, 0xD5033FDF, 0xD5387401),  # at s1e1w, x0; isb; mrs x1, par_el1
    "invalidate": (0xD5088720, 0xD5033F9F, 0xD5033FDF),  # tlbi vae1, x0; dsb sy; isb
    "invalidate_all": (0xD508871F, 0xD5033F9F, 0xD5033FDF),  # tlbi vmalle1; dsb sy; isb
}
X86_CODE = {
    "load": "488b18",  # mov rbx, [rax]
    "store": "488918",  # mov [rax], rbx
    "invalidate": "0f0138",  # invlpg [rax]
    "invalidate_all": "0f22d8",  # mov cr3, rax
}
RISCV_CODE = {
    "load": 0x00053583,  # ld a1, 0(a0)
    "store": 0x00B53023,  # sd a1, 0(a0)
    "invalidate": 0x12050073,  # sfence.vma a0
    "invalidate_all": 0x12000073,  # sfence.vma
}


class Arm64:
    """EL1 with our tables behind TTBR1 and the code behind TTBR0."""

    def __init__(self, format: Format, memory: PhysicalMemory):
        self.format, self.memory = format, memory
        self.faulted = False
        self.uc = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(arm64.UC_CPU_ARM64_MAX)
        self.uc.ctl_set_tlb_mode(UC_TLB_CPU)
        self.uc.mem_map_ptr(0, memory.words.nbytes, UC_PROT_ALL, memory.words.ctypes.data)
        self.uc.hook_add(UC_HOOK_INTR, self._interrupted)
        self._write_code()
        self._switch_on()

    def _interrupted(self, uc, _number, _data):
        self.faulted = True
        uc.emu_stop()

    def _write_code(self):
        self.entry_points = {}
        place = self.memory.code
        for name, words in ARM64_CODE.items():
            self.entry_points[name] = (place, place + 4 * len(words), len(words))
            self.uc.mem_write(place, b"".join(word.to_bytes(4, "little") for word in words))
            place += 4 * len(words)
        self.code_root = self.memory.code + 0x90000
        self.memory.words[self.code_root // 8 : (self.memory.code + CODE_SIZE) // 8] = 0
        frames = iter(range(self.code_root + 0x10000, self.memory.code + CODE_SIZE, 0x10000))
        code = self.code = self.memory.code % (1 << self.format.va_bits)

        def allocate(count):
            return np.array([next(frames) for _ in range(count)], np.uint64)

        size = self.format.page_size
        map_range(
            self.memory, self.format, self.code_root, code, self.memory.code, size, 0, allocate
        )
        leaf = entry_locations(
            self.memory, self.format, self.code_root, np.array([code], np.uint64), 0
        )
        executable = self.memory.read_words(leaf) & ~np.uint64(1 << 53)  # at EL1
        self.memory.write_words(leaf, executable)

    def _system(self, register, value):
        self.uc.reg_write(arm64.UC_ARM64_REG_CP_REG, (*register, value))

    def _switch_on(self):
        # Without RW in both, EL1 is AArch32 to the walker, which then reads short descriptors.
        self._system((1, 1, 3, 6, 0), 1 << 10 | 1)  # SCR_EL3.RW, NS
        self._system((1, 1, 3, 4, 0), 1 << 31)  # HCR_EL2.RW
        size = 64 - self.format.va_bits
        granule0 = {12: 0, 14: 2, 16: 1}[self.format.page_shift]
        granule1 = {12: 2, 14: 1, 16: 3}[self.format.page_shift]
        self._system(
            (2, 0, 3, 0, 2), size | size << 16 | granule0 << 14 | granule1 << 30 | 5 << 32
        )  # TCR_EL1
        self._system((2, 0, 3, 0, 0), self.code_root)  # TTBR0_EL1
        self._system((2, 0, 3, 0, 1), self.memory.root)  # TTBR1_EL1
        self._system((10, 2, 3, 0, 0), 0xFF)  # MAIR_EL1: index 0 is normal memory
        self._system(
            (1, 0, 3, 0, 0), self.uc.reg_read(arm64.UC_ARM64_REG_CP_REG, (1, 0, 3, 0, 0)) | 1
        )  # SCTLR_EL1.M

    def _run(self, name, x0=0, x1=0):
        begin, end, count = self.entry_points[name]
        offset = self.code - self.memory.code
        self.faulted = False
        self.uc.reg_write(arm64.UC_ARM64_REG_X0, x0)
        self.uc.reg_write(arm64.UC_ARM64_REG_X1, x1)
        self.uc.emu_start(begin + offset, end + offset, count=count)
        return None if self.faulted else self.uc.reg_read(arm64.UC_ARM64_REG_X1)

    def load(self, address):
        """The word there, or None after a fault."""
        return self._run("load", address)

    def store(self, address):
        """Whether the word could be stored."""
        return self._run("store", address, STORED) is not None

    def ask(self, address, write):
        """PAR_EL1 for a load or a store: (physical page, None) or (None, fault status code)."""
        par = self._run("ask_store" if write else "ask_load", address)
        if par & 1:
            return None, par >> 1 & 0x3F
        return par & 0x000FFFFFFFFFF000, None

    def invalidate(self, address):
        self._run("invalidate", address >> 12 & (1 << 44) - 1)

    def invalidate_all(self):
        self._run("invalidate_all")


class X86:
    """Ring 0 with CR0.WP; the code is in the same tables."""

    def __init__(self, format: Format, memory: PhysicalMemory):
        self.format, self.memory = format, memory
        self.code = CODE_ADDRESS | memory.code
        address = np.array([self.code], np.uint64)
        map_range(
            memory,
            format,
            memory.root,
            self.code,
            memory.code,
            format.page_size,
            0,
            memory.allocate,
        )
        leaf = entry_locations(memory, format, memory.root, address, 0)
        memory.write_words(leaf, memory.read_words(leaf) & ~np.uint64(1 << 63))
        self._start()

    def _start(self):
        self.faulted = False
        self.uc = uc = Uc(UC_ARCH_X86, UC_MODE_64)
        uc.ctl_set_tlb_mode(UC_TLB_CPU)
        uc.mem_map_ptr(0, self.memory.words.nbytes, UC_PROT_ALL, self.memory.words.ctypes.data)
        for place, code in enumerate(X86_CODE.values()):
            uc.mem_write(self.memory.code + 16 * place, bytes.fromhex(code))
        uc.hook_add(UC_HOOK_INTR, self._interrupted)
        uc.reg_write(x86.UC_X86_REG_CR4, uc.reg_read(x86.UC_X86_REG_CR4) | 0xA0)  # PAE, PGE
        uc.reg_write(x86.UC_X86_REG_CR3, self.memory.root)
        uc.msr_write(0xC0000080, uc.msr_read(0xC0000080) | 0x900)  # EFER.LME, NXE
        uc.reg_write(x86.UC_X86_REG_CR0, uc.reg_read(x86.UC_X86_REG_CR0) | 0x80010001)  # PG, WP, PE

    def _interrupted(self, uc, number, _data):
        assert number == 14
        self.faulted = True
        uc.emu_stop()

    def _run(self, name, rax, rbx=0):
        begin = self.code + 16 * list(X86_CODE).index(name)
        self.uc.reg_write(x86.UC_X86_REG_RAX, rax)
        self.uc.reg_write(x86.UC_X86_REG_RBX, rbx)
        self.uc.emu_start(begin, begin + 3, count=1)
        if self.faulted:
            self._start()  # a second fault in the same instance would be a double fault
            return None
        return self.uc.reg_read(x86.UC_X86_REG_RBX)

    def load(self, address):
        """The word there, or None after a fault."""
        return self._run("load", address)

    def store(self, address):
        """Whether the word could be stored."""
        return self._run("store", address, STORED) is not None

    def invalidate(self, address):
        self._run("invalidate", address)

    def invalidate_all(self):
        self._run("invalidate_all", self.memory.root)


class Riscv64:
    """M-mode, so that the code needs no tables, with MPRV: loads and stores are S-mode's.

    The emulator has one TLB for both, so that the page of the code must not be used as a virtual
    one, and is one that shares no place in the TLB with pages that tests like to use.
    """

    def __init__(self, format: Format, memory: PhysicalMemory):
        self.format, self.memory = format, memory
        self.faulted = False
        self.uc = uc = Uc(UC_ARCH_RISCV, UC_MODE_RISCV64)
        uc.ctl_set_tlb_mode(UC_TLB_CPU)
        uc.mem_map_ptr(0, memory.words.nbytes, UC_PROT_ALL, memory.words.ctypes.data)
        self.code = memory.code + 0x80000
        for place, word in enumerate(RISCV_CODE.values()):
            uc.mem_write(self.code + 16 * place, word.to_bytes(4, "little"))
        uc.hook_add(UC_HOOK_INTR, self._interrupted)
        mode = {39: 8, 48: 9}[format.va_bits]
        uc.reg_write(riscv.UC_RISCV_REG_SATP, mode << 60 | memory.root >> 12)
        status = uc.reg_read(riscv.UC_RISCV_REG_MSTATUS)
        uc.reg_write(riscv.UC_RISCV_REG_MSTATUS, status | 1 << 17 | 1 << 11)  # MPRV, MPP = S

    def _interrupted(self, uc, number, _data):
        assert number in (13, 15)  # load and store page faults
        self.faulted = True
        uc.emu_stop()

    def _run(self, name, a0=0, a1=0):
        self.faulted = False
        assert a0 // 4096 != self.code // 4096
        begin = self.code + 16 * list(RISCV_CODE).index(name)
        self.uc.reg_write(riscv.UC_RISCV_REG_A0, a0)
        self.uc.reg_write(riscv.UC_RISCV_REG_A1, a1)
        self.uc.emu_start(begin, begin + 4, count=1)
        return None if self.faulted else self.uc.reg_read(riscv.UC_RISCV_REG_A1)

    def load(self, address):
        """The word there, or None after a fault."""
        return self._run("load", address)

    def store(self, address):
        """Whether the word could be stored."""
        return self._run("store", address, STORED) is not None

    def invalidate(self, address):
        self._run("invalidate", address)

    def invalidate_all(self):
        self._run("invalidate_all")


CPUS = {"arm64": Arm64, "x86_64": X86, "riscv64": Riscv64}


def cpu_on(format: Format, memory: PhysicalMemory) -> Cpu:
    """A CPU of the format's architecture that walks the tables of `memory`."""
    return CPUS[format.arch](format, memory)
