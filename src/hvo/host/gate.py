"""Switching the optimisation on and off: now, at every boot, and for the pages that are reserved
while booting.

Source: Documentation/admin-guide/sysctl/vm.rst `hugetlb_optimize_vmemmap`; sysctl.d(5).
"""

from hvo.errors import HvoError
from hvo.host.bootloader import BootLoader, find_boot_loader
from hvo.host.kernel import BOOT_PARAMETER, GATE, Kernel, read_kernel, require_gate
from hvo.host.outcome import Outcome, memmap_change, read_counters
from hvo.host.pools import read_pools
from hvo.host.tree import Tree, Write

PERSISTENT = "/etc/sysctl.d/00-hvo.conf"
"""The file that sets the switch at every boot: before all others, for they may set
`vm.nr_hugepages`, and it is for later pages only.
"""


def switch(
    tree: Tree, on: bool, *, persist: bool = False, boot: bool = False, dry_run: bool = False
) -> Outcome:
    """Set the switch, and on request what sets it at boot; doing it twice is the same as once.

    Raises `HvoError`, and leaves everything as it was, when the kernel has no switch or a file
    cannot be written.
    """
    kernel = read_kernel(tree)
    require_gate(kernel)
    loader = find_boot_loader(tree) if boot else None
    planned = _planned(tree, kernel, on, persist)
    before = read_counters(tree, kernel)
    done = len(tree.written)
    if not dry_run:
        if loader:
            loader.require_running(tree)
        _act(tree, planned, loader, on)
    after = None if dry_run else read_counters(tree, kernel)
    change = memmap_change(kernel, before, 0, (0, 0), after)
    loader_writes = loader.writes(tree, on) if loader else []
    writes = (*planned, *loader_writes) if dry_run else tuple(tree.written[done:])
    problem = (
        None
        if dry_run or (tree.number(GATE) != 0) == on
        else f"{GATE} was written but does not read back as {int(on)}"
    )
    command = "enable" if on else "disable"
    return Outcome(
        command, dry_run, writes, (change,), problem, tuple(_notes(tree, kernel, on, boot))
    )


def _planned(tree: Tree, kernel: Kernel, on: bool, persist: bool) -> list[Write]:
    planned: list[Write] = []
    line = f"vm.hugetlb_optimize_vmemmap = {int(on)}"
    if persist and tree.read_or(PERSISTENT, "").strip() != line:
        planned.append(Write(PERSISTENT, line))
    if kernel.enabled != on:
        planned.append(Write(GATE, str(int(on))))
    return planned


def _act(tree: Tree, planned: list[Write], loader: BootLoader | None, on: bool) -> None:
    """Do the writes; when one is refused, undo those before it."""
    old = tree.read_or(PERSISTENT, "") if tree.exists(PERSISTENT) else None
    was = tree.number(GATE)
    try:
        for write in planned:
            (
                tree.replace(write.path, f"{write.value}\n")
                if write.path == PERSISTENT
                else tree.write(*write)
            )
        if loader:
            loader.set_parameter(tree, on)
    except HvoError as error:
        left = _undo(tree, any(write.path == PERSISTENT for write in planned), old, was)
        raise HvoError("; ".join([str(error), *left])) from error


def _undo(tree: Tree, persisted: bool, old: str | None, was: int) -> list[str]:
    """Put file and switch back -> what could not be."""
    left: list[str] = []
    try:
        if persisted:
            tree.remove(PERSISTENT) if old is None else tree.replace(PERSISTENT, old)
    except HvoError as error:
        left.append(f"{PERSISTENT} was written and stays: {error}")
    try:
        if tree.number(GATE) != was:
            tree.write(GATE, str(was))
    except HvoError as error:
        left.append(f"the switch was set and stays: {error}")
    return left


def _notes(tree: Tree, kernel: Kernel, on: bool, boot: bool) -> list[str]:
    notes: list[str] = []
    pools = [
        pool
        for pool in read_pools(tree)
        if pool.node is None and pool.pages and kernel.freed_pages(pool.size)
    ]
    if kernel.defects:
        notes.append(
            f"known defect {kernel.defects[0].id} of kernel {kernel.release}:"
            f" {kernel.defects[0].summary}"
        )
    if pools and on:
        notes.append(
            "pages that are in the pools already stay as they are: see hvo status, and hvo convert"
        )
    if pools and not on and not kernel.defects:
        notes.append("optimised pages stay optimised until they are given back")
    if not boot and on != kernel.on_at_boot:
        value = "on" if on else "off"
        notes.append(
            f"for pages reserved at boot add {BOOT_PARAMETER}={value} to the boot command line"
            " (--boot does it)"
        )
    return notes
