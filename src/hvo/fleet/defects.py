"""Hosts of a fleet whose kernels have a known defect of the mechanism, or may have it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import ibis
from ibis import _

from hvo.fleet.breakdown import by_pool, largest
from hvo.fleet.engine import Engine
from hvo.fleet.tally import Tally
from hvo.layout.releases import Defect, defect_ranges, suspected_defects, upstream_version

_GIGANTIC = 1 << 30


@dataclass(frozen=True)
class DefectHosts:
    """Hosts whose kernel has a known defect (`certain`) or may have it, and what their optimised
    pools save: where the defect `loses` memory, all of it is at risk when pages are given back.

    `look` says how memory shows it, `fixed` the release that mended it (None: none is known).
    """

    id: str
    summary: str
    hosts: int
    saved: int
    loses: bool
    certain: bool
    look: str
    fixed: str | None


def defects(engine: Engine, hosts: ibis.Table, found: Tally) -> tuple[DefectHosts, ...]:
    """All of them; `hosts` are the sums of `found` by host."""
    return (*_losing(engine, hosts), *_suspected(engine, found))


def _losing(engine: Engine, hosts: ibis.Table) -> Iterator[DefectHosts]:
    known = {each.defect.id: each.defect for each in defect_ranges()}
    found = largest(engine, hosts.filter(_.defect != ""), "defect", len(known))
    for each in found:
        saved = each["saved"] + each["unknown"]
        yield _of_defect(known[each.name], each["hosts"], saved, loses=True, certain=True)


def _suspected(engine: Engine, found: Tally) -> Iterator[DefectHosts]:
    """Hosts with optimised 1 GiB pages and a kernel that leaves them unprotected, or may."""
    gigantic = by_pool(_with_gigantic(found), "kernel", "name")
    together: dict[tuple[str, bool], DefectHosts] = {}
    for row in engine.rows(gigantic.order_by("kernel", "name")):
        version = upstream_version(row["kernel"], "")
        for each in suspected_defects(row["name"], version):
            key = each.defect.id, each.certain
            hosts, saved = int(row["hosts"]), int(row["saved"] + row["unknown"])
            if key in together:
                hosts, saved = hosts + together[key].hosts, saved + together[key].saved
            together[key] = _of_defect(each.defect, hosts, saved, loses=False, certain=each.certain)
    yield from sorted(together.values(), key=lambda each: (each.id, not each.certain))


def _with_gigantic(found: Tally) -> Tally:
    """Only pools of 1 GiB pages some of which are optimised, or may be."""
    wanted = (_.hugepage_size == _GIGANTIC) & (_.saved + _.unknown > 0)
    several = found.several
    return replace(
        found,
        alike=found.alike.filter(wanted),
        several=several and replace(several, pools=several.pools.filter(wanted)),
    )


def _of_defect(
    defect: Defect, hosts: int, saved: int, *, loses: bool, certain: bool
) -> DefectHosts:
    return DefectHosts(
        defect.id, defect.summary, hosts, saved, loses, certain, defect.look, defect.fixed
    )
