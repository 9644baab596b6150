"""What is new against a kernel's own protocol: the same scenario is searched with that one, and
properties that it violates too are not told again.
"""

from dataclasses import replace
from functools import partial

from hvo.check.check import Result, Verdict
from hvo.check.scenarios.case import Case
from hvo.check.scenarios.user_protocol import Own
from hvo.check.scenarios.user_scenarios import OwnCase, own_cases
from hvo.vmemmap.era import parse_variant

_KERNELS = """
import numpy as np
from hvo.vmemmap.optimize import hugetlb_vmemmap_optimize_folios
from hvo.vmemmap.restore import hugetlb_vmemmap_restore_folios
ERA, MACHINE, GEOMETRY = {era!r}, {machine!r}, {geometry!r}

def optimize(v, order, head):
    return (yield from _first(hugetlb_vmemmap_optimize_folios, v, order, [head]))

def restore(v, order, head):
    return (yield from _first(hugetlb_vmemmap_restore_folios, v, order, [head]))

def optimize_list(v, order, heads):
    return (yield from _first(hugetlb_vmemmap_optimize_folios, v, order, heads))

def restore_list(v, order, heads):
    return (yield from _first(hugetlb_vmemmap_restore_folios, v, order, heads))

def _first(work, v, order, heads):
    results = yield from work(v, order, np.array(heads, np.int64))
    return int(results[0])
"""
"""A kernel's own protocol as a file."""


def counterparts(cases: list[Case], variant: str) -> list[Case | None]:
    """For each case the same question about the kernel `variant` (an era with named fixes); None
    for a scenario with actors that no kernel has.
    """
    return [_counterpart(case, parse_variant(variant).variant) for case in cases]


def _counterpart(case: Case, variant: str) -> Case | None:
    if not isinstance(case, OwnCase):
        return replace(case, protocol=variant, expected=None, also=())
    sizes = case.own.sizes
    source = _KERNELS.format(era=variant, machine=case.hardware.name, geometry=sizes)
    kernel = Own(f"{variant}.py", source)
    candidates = own_cases(kernel, case.hardware, (), frozenset(("frozen-head", "no-dcache-flag")))
    same = partial(_same, case)
    return next(filter(same, candidates), None)


def _same(one: Case, other: Case) -> bool:
    return (one.hazard, one.scenario.name) == (other.hazard, other.scenario.name)


def without_known(result: Result, known: Result | None, variant: str) -> Result:
    """`result` without the properties that `known`, the kernel's, violates as well."""
    old = {found.property for found in known.findings} if known is not None else set[str]()
    findings = tuple(found for found in result.findings if found.property not in old)
    if len(findings) == len(result.findings):
        return result
    told = sorted(old & {found.property for found in result.findings})
    verdict = "unsafe" if findings else _of_the_rest(result)
    trace = result.trace if findings[:1] == result.findings[:1] else ()
    bounds = f"{result.bounds}, as {variant} has it: {', '.join(told)}"
    return replace(result, findings=findings, verdict=verdict, trace=trace, bounds=bounds)


def _of_the_rest(result: Result) -> Verdict:
    return "unfinished" if "stopped at" in result.bounds else "safe"
