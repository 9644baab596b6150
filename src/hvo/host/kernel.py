"""Which kernel a host runs, whether it can optimise, whether it does, and why not.

The sysctl is the kernel's own answer: it is there only when the option is built in and some HugeTLB
size is optimisable (`hugetlb_vmemmap_init()`). Before 5.19 there was only the boot parameter, which
is read with the build options.
"""

from dataclasses import dataclass

from hvo.errors import HvoError
from hvo.host import procfs
from hvo.host.tree import Tree
from hvo.layout.geometry import GEOMETRIES
from hvo.layout.releases import (
    Defect,
    SuspectedDefect,
    Version,
    known_defects,
    lacking_reason,
    suspected_defects,
    upstream_version,
)
from hvo.layout.units import format_size

GATE = "/proc/sys/vm/hugetlb_optimize_vmemmap"
"""The run-time switch, from 5.19."""
BOOT_PARAMETER = "hugetlb_free_vmemmap"
_MEMMAP_ON_MEMORY = "/sys/module/memory_hotplug/parameters/memmap_on_memory"
_STRUCT_PAGE = 64
_OPTIONS = ("CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP", "CONFIG_HUGETLB_PAGE_FREE_VMEMMAP")
_WANTS = tuple(
    f"CONFIG_ARCH_WANT_{name}"
    for name in (
        "OPTIMIZE_HUGETLB_VMEMMAP",
        "HUGETLB_PAGE_OPTIMIZE_VMEMMAP",
        "HUGETLB_PAGE_FREE_VMEMMAP",
    )  # newest first
)
_YES = ("1", "on", "y", "Y")
_BOOLEANS = {
    "y": True,
    "t": True,
    "1": True,
    "on": True,
    "n": False,
    "f": False,
    "0": False,
    "of": False,
}
"""How words begin that `kstrtobool()` takes (lib/kstrtox.c), in small letters."""


@dataclass(frozen=True)
class Kernel:
    """The kernel of a host, as far as the mechanism is concerned."""

    release: str
    version: Version | None
    arch: str
    page_size: int
    supports: bool
    enabled: bool
    reason: str
    """Why it is as it is, in words that a person can act on."""
    boot_parameter: str | None
    """Value of `hugetlb_free_vmemmap=`, `None` when it was not given."""
    reserves_at_boot: bool
    """Whether its boot command line reserves HugeTLB pages."""
    on_at_boot: bool
    """Whether pages reserved at boot are optimised."""
    switchable: bool
    """Whether the switch can be changed at run time."""
    kept_pages: int
    defects: tuple[Defect, ...]
    suspected: tuple[SuspectedDefect, ...]
    """Defects that lose no memory, which this kernel has or may have."""
    options: dict[str, str] | None

    def vmemmap_pages(self, size: int) -> int:
        """Whole vmemmap pages of a HugeTLB page of `size` bytes."""
        return size // self.page_size * _STRUCT_PAGE // self.page_size

    def described(self, struct_pages: int) -> int:
        """Bytes of memory that `struct_pages` bytes of struct pages describe."""
        return struct_pages // _STRUCT_PAGE * self.page_size

    def freed_pages(self, size: int) -> int:
        """Vmemmap pages that optimising one page of `size` gives back: 0 where that cannot be."""
        return max(0, self.vmemmap_pages(size) - self.kept_pages) if self.supports else 0

    def replaced_frames(self, size: int) -> int:
        """Frames that back a page of `size` before it is optimised and no longer do afterwards:
        from 6.2 the head's too, which is moved.
        """
        moved = self.version is None or self.version[:2] >= (6, 2)
        return self.freed_pages(size) + moved if self.freed_pages(size) else 0

    @property
    def section_size(self) -> int | None:
        """Bytes of a section of the memory map, `None` for an architecture that is not known."""
        row = GEOMETRIES.get((self.arch, self.page_size))
        return row.section_size if row else None


def read_kernel(tree: Tree) -> Kernel:
    """The kernel of the host in `tree`; raises `HvoError` when the tree does not say which it
    is.
    """
    release = tree.read("/proc/sys/kernel/osrelease").strip()
    version = upstream_version(release, tree.read_or("/proc/version", ""))
    arch, options = procfs.arch(tree), procfs.build_options(tree, release)
    switchable = tree.exists(GATE)
    given = procfs.boot_parameter(tree, BOOT_PARAMETER)
    supports = switchable or (bool(options) and "CONFIG_HUGETLB_PAGE_FREE_VMEMMAP" in options)
    at_boot = supports and _on_at_boot(given, options)
    enabled = tree.number(GATE) != 0 if switchable else at_boot
    reason = (
        _state(switchable, enabled, given) if supports else _why_not(tree, arch, version, options)
    )
    kept = (
        1 if switchable or version is None or version[:2] >= (5, 18) else 2
    )  # RESERVE_VMEMMAP_NR was 2 to 5.17
    return Kernel(
        release,
        version,
        arch,
        procfs.page_size(tree),
        supports,
        enabled,
        reason,
        given,
        procfs.boot_parameter(tree, "hugepages") is not None,
        at_boot,
        switchable,
        kept,
        known_defects(version),
        suspected_defects(arch, version) if supports else (),
        options,
    )


def require_gate(kernel: Kernel) -> None:
    """Raise `HvoError` with the reason unless the kernel has a switch that can be changed while it
    runs.
    """
    if not kernel.supports:
        raise HvoError(f"kernel {kernel.release} cannot optimise: {kernel.reason}")
    if not kernel.switchable:
        raise HvoError(
            f"kernel {kernel.release} is switched by its boot parameter only: boot with"
            f" {BOOT_PARAMETER}=on or off"
        )


def refuse_defect(kernel: Kernel, action: str, force: bool) -> None:
    """Raise `HvoError` when pages that are given back would be lost on this kernel, unless the
    caller insists.
    """
    if kernel.defects and not force:
        defect = kernel.defects[0]
        known = f"kernel {kernel.release} has the known defect {defect.id}"
        raise HvoError(f"{action}: {known}: {defect.summary}; --force does it all the same")


def defect_notes(kernel: Kernel, size: int, pages: int) -> tuple[str, ...]:
    """What giving `pages` optimised pages of `size` bytes back costs, all the same, on a kernel
    that loses them.
    """
    lost = (
        f"up to {pages} optimised pages of {format_size(size)} are given back and lost,"
        f" {format_size(pages * size)}"
    )
    return tuple(f"known defect {defect.id}: {lost}" for defect in kernel.defects[:1] if pages)


def _on_at_boot(given: str | None, options: dict[str, str] | None) -> bool:
    """What the boot parameter says; the build's default without one, and with a word that the
    kernel does not take.
    """
    default = any(f"{option}_DEFAULT_ON" in (options or {}) for option in _OPTIONS)
    word = (given or "").lower()
    return _BOOLEANS.get(word[:2] if word[:1] == "o" else word[:1], default)


def _state(switchable: bool, enabled: bool, given: str | None) -> str:
    boot = (
        f"booted with {BOOT_PARAMETER}={given}"
        if given is not None
        else f"booted without {BOOT_PARAMETER}="
    )
    where = f"{GATE} is {int(enabled)}" if switchable else "it has no switch at run time"
    return f"{where}, {boot}" if enabled else f"compiled in but off: {where}, {boot}"


def _why_not(tree: Tree, arch: str, version: Version | None, options: dict[str, str] | None) -> str:
    """Why a kernel without the switch cannot optimise, from the most certain source to the
    least.
    """
    known = lacking_reason(arch, version)
    if options is None:
        unread = "its build options are not readable (no /proc/config.gz, no /boot/config-RELEASE)"
        return (
            known
            or f"{GATE} is missing: not compiled in, or no HugeTLB size can be optimised; {unread}"
        )
    if "CONFIG_HUGETLB_PAGE" not in options:
        return "the kernel is built without HugeTLB pages (CONFIG_HUGETLBFS)"
    if any(option in options for option in _OPTIONS):
        return _built_but_absent(tree, version, options)
    if any(want in options for want in _WANTS):
        return (
            "the kernel is built without CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP, which its"
            " architecture offers: install one with it"
        )
    if known:
        return known
    if "CONFIG_SPARSEMEM_VMEMMAP" not in options:
        return (
            "the kernel is built without CONFIG_SPARSEMEM_VMEMMAP: its struct pages are not in a"
            " virtually contiguous map"
        )
    return (
        f"{arch} does not offer the optimisation in this kernel (no"
        " CONFIG_ARCH_WANT_OPTIMIZE_HUGETLB_VMEMMAP)"
    )


def _built_but_absent(tree: Tree, version: Version | None, options: dict[str, str]) -> str:
    """Compiled in, but the kernel did not register its switch."""
    on_memory = tree.read_or(_MEMMAP_ON_MEMORY, "N").strip() in _YES
    if on_memory and version is not None and version[:2] < (6, 0):
        return (
            "memory_hotplug.memmap_on_memory is on, which before 6.0 excludes the optimisation:"
            " boot without it"
        )
    grows = [option for option in ("CONFIG_KMSAN", "CONFIG_WANT_PAGE_VIRTUAL") if option in options]
    if "CONFIG_MEMCG" not in options:
        grows.append("no CONFIG_MEMCG")
    because = f" (here: {', '.join(grows)})" if grows else ""
    return (
        "compiled in, but no HugeTLB size can be optimised: sizeof(struct page) is not a power of"
        f" two, which depends on build options{because}, or no size has more than one page of"
        " struct pages"
    )
