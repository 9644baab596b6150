"""The benchmark: every hazard that really happened, in the protocol variants that have it and in
those that do not.

Each row is data: variant of the protocol, machine, scenario, and what must come out: the most
severe property that is violated, or None.
"""

from hvo.check.model.geometry import Geometry
from hvo.check.model.hardware import Hardware
from hvo.check.scenarios import actors as c
from hvo.check.scenarios.actors import (
    ALLOCATOR,
    MEMORY_FAILURE,
    OPTIMIZER,
    OPTIMIZER_2,
    READER,
    RESTORER,
)
from hvo.check.scenarios.case import ARM, ARM2, ARM3, ONE, RISCV, X86, Case
from hvo.check.scenarios.scenario import Actor, Scenario
from hvo.check.scenarios.table_hazards import (
    MASKED,
    TWO_ORDINARY,
    dumps,
    late,
    proposal_cases,
    removals,
    scene,
)
from hvo.vmemmap.era import Era

SPLIT_ALREADY = Scenario("one page, leaf already split", (OPTIMIZER,), geometry=ONE, split=True)
ALONE = Scenario("one page", (OPTIMIZER,), geometry=ONE)
TWO = Scenario("two optimisers, one leaf", (OPTIMIZER, OPTIMIZER_2))
_W = {
    kernel: Actor("W", f"walker as in {kernel}", c.refer(kernel))
    for kernel in ("5.14", "6.10", "6.10-swapped", "6.13")
}
_HEAD_WALKER = Actor("W", "walker as in 7.1", c.refer_to_head("7.1"))
_GATHER = Actor("O", "gather and optimise", c.gather)


def _has_no_section(era: Era) -> bool:
    return not era.has("wait-for-readers") and era.layout.shares != "zone-tail"


def _has_sections(era: Era) -> bool:
    return era.has("wait-for-readers") and era.layout.shares != "zone-tail"


def _is_built_at_boot(era: Era) -> bool:
    return era.has("built-at-boot")


def _has_masks(era: Era) -> bool:
    return era.layout.shares == "zone-tail"


_GUARDS = {"5.14": _has_no_section} | dict.fromkeys(("6.10", "6.10-swapped", "6.13"), _has_sections)
_WAITED = scene(
    "wait, then freeze, against a walker as in 6.13",
    Actor("O", "wait, gather and optimise", c.gather_waiting_first),
    _W["6.13"],
    geometry=TWO_ORDINARY,
    ordinary=True,
    fits=_has_sections,
)
_WALKED = {
    kernel: scene(
        f"optimise against a walker as in {kernel}",
        _GATHER,
        actor,
        geometry=TWO_ORDINARY,
        ordinary=True,
        fits=_GUARDS[kernel],
    )
    for kernel, actor in _W.items()
}


def _bbm() -> list[Case]:
    return [
        Case("H01a", "5.18+split-lock-read", ARM, ALONE, "break-before-make"),
        Case("H01a", "5.18+split-lock-read", Hardware("arm64", 1), ALONE, "break-before-make"),
        Case("H01b", "5.18+split-lock-read", ARM, SPLIT_ALREADY, "break-before-make"),
        Case("H01b", "5.18+split-lock-read", ARM2, SPLIT_ALREADY, "break-before-make"),
        Case("H01b", "5.18+split-lock-read", ARM3, SPLIT_ALREADY, "break-before-make"),
        Case("H01b", "5.18+split-lock-read", X86, SPLIT_ALREADY, None),
    ]


def _dcache() -> list[Case]:
    scenario = scene(
        "optimise against __sync_icache_dcache",
        OPTIMIZER,
        Actor("F", "__sync_icache_dcache", c.sync_caches),
        split=True,
    )
    flush = scene(
        "optimise against flush_dcache_page",
        OPTIMIZER,
        Actor("F", "flush_dcache_page", c.flush_dcache),
        split=True,
    )
    optimised = scene(
        "a cache flush of an optimised page",
        Actor("F", "flush caches", c.flush_dcache),
        before=c.optimize(0),
    )
    written = scene(
        "a write to a tail of an optimised page",
        Actor("T", "writer of a tail", c.mark_tail),
        before=c.optimize(0),
    )
    return [
        Case("H02", "5.18+split-lock-read-dcache-head", X86, flush, "write-read-only"),
        Case("H02", "5.18+split-lock-read", X86, flush, None),
        Case(
            "H02",
            "5.18+split-lock-read-dcache-head",
            ARM,
            scenario,
            "write-read-only",
            ("break-before-make",),
        ),
        Case("H02", "5.18+split-lock-read-dcache-head", X86, scenario, "write-read-only"),
        Case("H02", "5.18+split-lock-read", X86, scenario, None),
        Case("H27b", "5.18+split-lock-read-dcache-head", RISCV, flush, "shared-tail-written"),
        Case("H27b", "5.18+split-lock-read", RISCV, flush, None),
        Case("H27b", "7.1-dcache-head", RISCV, optimised, "shared-tail-written"),
        Case("H27b", "7.1", RISCV, optimised, None),
        Case("H27b", "7.1", RISCV, written, "shared-tail-written"),
    ]


def _walkers() -> list[Case]:
    return [
        Case(
            "H03a",
            "5.14",
            X86,
            scene(
                "optimise three vmemmap pages against a walker",
                _GATHER,
                _W["5.14"],
                ordinary=True,
                fits=_has_no_section,
            ),
            "write-read-only",
        ),
        Case("H03a", "5.18+split-lock-read", X86, _WALKED["5.14"], "write-read-only"),
        Case("H03a", "6.2-wait-for-readers", X86, _WALKED["6.13"], "write-read-only"),
        Case("H03a", "6.2", X86, _WALKED["5.14"], "write-read-only"),
        Case("H03a", "6.2", X86, _WALKED["6.13"], None),
        Case("H03a", "6.2-wait-for-readers", X86, _WAITED, "write-read-only"),
        Case("H03b", "6.2", X86, _WALKED["6.10"], "write-read-only"),
        Case("H03b", "6.2", RISCV, _WALKED["6.10"], "shared-tail-written"),
        Case("H03b", "6.2", RISCV, _WALKED["6.10-swapped"], "shared-tail-written"),
        Case("H03b", "6.2", X86, _WALKED["6.10-swapped"], None),
        Case("H03b", "6.2", X86, _WALKED["6.13"], None),
        Case("H03b", "6.2", RISCV, _WALKED["6.13"], None),
        Case(
            "H03c",
            "7.1",
            X86,
            scene(
                "optimise against a walker as in 7.1",
                _GATHER,
                _HEAD_WALKER,
                geometry=TWO_ORDINARY,
                ordinary=True,
                fits=_has_masks,
            ),
            "write-read-only",
        ),
    ]


def _splits() -> list[Case]:
    return [
        Case("H04", "5.14+split-lock-read", X86, TWO, "access-freed", ("leak",)),
        Case("H04", "5.14+split-lock-read+split-recheck", X86, TWO, None),
        Case("H04", "6.2", X86, TWO, None),
        Case("H05", "5.18", X86, TWO, "wrong-frame"),
        Case("H05", "5.18+split-lock-read", X86, TWO, None),
    ]


def _marks() -> list[Case]:
    leaving = scene(
        "restore and free against memory failure", RESTORER, MEMORY_FAILURE, before=c.optimize(0)
    )
    new = Actor("O", "new page", c.prepare)
    flags = scene(
        "split and optimise against __sync_icache_dcache",
        OPTIMIZER,
        Actor("F", "__sync_icache_dcache", c.sync_caches),
    )
    coming = scene(
        "new page against memory failure",
        new,
        Actor("M", "memory failure, not preempted", c.fail_at_once),
        marked=False,
    )
    halting = scene("new page against preempted memory failure", new, MEMORY_FAILURE, marked=False)
    half = scene(
        "restore and free against memory failure at the start of a vmemmap page",
        RESTORER,
        Actor("M", "memory failure", c.fail_page_start),
        before=c.optimize(0),
    )
    broken = scene(
        "restore and free against memory failure of a HugeTLB page",
        RESTORER,
        Actor("M", "memory failure", c.record_error),
    )
    masked = scene("optimise against a lock taken with interrupts masked", OPTIMIZER, MASKED)
    return [
        Case("more", "5.18+split-lock-read", X86, masked, "deadlock"),
        Case("more", "5.18+split-lock-read", RISCV, masked, None),
        Case("more", "7.1", X86, masked, None),
        Case("H06", "5.14", X86, leaving, "write-read-only"),
        Case("H06", "5.18+split-lock-read", X86, leaving, "write-read-only"),
        Case("H06", "5.18+split-lock-read+mark-until-restored", X86, leaving, None),
        Case("H07", "5.14", X86, coming, "write-read-only"),
        Case("H07", "5.18+split-lock-read", X86, coming, "write-read-only"),
        Case("H07", "5.18+split-lock-read+mark-first", X86, coming, None),
        Case("more", "5.18+split-lock-read+mark-first", X86, halting, "write-read-only"),
        Case("more", "5.18+split-lock-read+mark-until-restored", X86, half, "write-read-only"),
        *[
            Case("more", era, X86, lost, "lost-update")
            for era in ("6.2", "7.1")
            for lost in (coming, flags)
        ],
        Case("H08", "6.2-errors-after-mark", X86, broken, "poison-freed"),
        Case("H08", "6.2", X86, broken, None),
    ]


def _memory() -> list[Case]:
    hosting = scene(
        "hot-remove of a self-hosting block",
        ALLOCATOR,
        Actor("H", "hot-remove", c.remove_hosting_block),
        before=c.optimize(0),
        hosted=True,
        complete=False,
    )
    odd = scene(
        "struct pages of 56 bytes",
        OPTIMIZER,
        geometry=Geometry(pages=1, group=4, leaf=4, struct_words=7),
    )
    reader = scene("optimise, freed frame reused, tail read", OPTIMIZER, ALLOCATOR, READER)
    refused = scene(
        "restore and free, own node empty",
        RESTORER,
        before=c.optimize(0),
        empty_nodes=frozenset({0}),
    )
    both_refused = Scenario(
        "restore and free two pages, own node empty",
        (Actor("R", "restore and free both", c.give_back_all),),
        before=c.optimize(0, 1),
        empty_nodes=frozenset({0}),
    )
    return [
        Case("H09", "6.2-refuse-self-hosted", X86, hosting, "access-freed"),
        Case("H09", "6.2", X86, hosting, None),
        Case("H10", "5.14", X86, odd, "wrong-head"),
        Case("H10", "5.14+refuse-odd-struct", X86, odd, None),
        Case(
            "H11",
            "6.2",
            Hardware("x86_64", flush_all=False),
            reader,
            "access-freed",
            ("freed-while-cached",),
        ),
        Case("H11", "6.2", X86, reader, None),
        Case("H12", "5.18+split-lock-read", X86, refused, "no-progress"),
        Case("H12", "5.18+split-lock-read+node-fallback", X86, refused, None),
        Case("H12", "6.2-node-fallback", X86, both_refused, "no-progress"),
        Case("H12", "6.2", X86, both_refused, None),
    ]


def _tails() -> list[Case]:
    across = scene(
        "page across two leaves, two failed allocations",
        OPTIMIZER,
        geometry=Geometry(pages=1, used=4, group=4, leaf=2),
        failures=2,
    )
    boot = scene(
        "built at boot",
        Actor("O", "build at boot", c.build_at_boot),
        live=False,
        fits=_is_built_at_boot,
    )
    return [
        Case("H13", "7.1-rollback-tails-only", X86, across, "wrong-head"),
        Case("H13", "7.1", X86, across, None),
        Case(
            "H14",
            "7.1-publish-tail",
            X86,
            Scenario("two optimisers, leaf already split", (OPTIMIZER, OPTIMIZER_2), split=True),
            "leak",
        ),
        Case(
            "H14",
            "7.1",
            X86,
            Scenario("two optimisers, leaf already split", (OPTIMIZER, OPTIMIZER_2), split=True),
            None,
        ),
        Case("H15", "7.1-protect-whole-range", X86, boot, "tail-writable"),
        Case("H15", "7.1", X86, boot, None),
    ]


CASES: tuple[Case, ...] = (
    *_bbm(),
    *_dcache(),
    *_walkers(),
    *_splits(),
    *_marks(),
    *_memory(),
    *_tails(),
    *dumps(),
    *removals(),
    *late(),
    *proposal_cases(),
)
"""Every row of the benchmark, in the variants that have the hazard and in those that do not."""
