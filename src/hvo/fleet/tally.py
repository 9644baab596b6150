"""The questions that are put to an engine about a fleet: few enough for ten million hosts,
everything else is asked of their answers.

Most rows of an inventory are alike in all but the host, so what they say is judged once, and joined
to the rows of which one is asked. The few hosts with several rows are brought together.
"""

from collections.abc import Callable
from dataclasses import dataclass

import ibis
from ibis import _

from hvo.fleet.amounts import AMOUNTS, with_amounts
from hvo.fleet.columns import ADDED, FILE, HOSTS, LINE, MALFORMED, NAMES
from hvo.fleet.engine import Engine
from hvo.fleet.expressions import COUNT, first_known, grouped, no, word
from hvo.fleet.kinds import KEYS, kinds_table
from hvo.fleet.rows import HOST, measured, numbered
from hvo.fleet.several import conflicts, nameless, one_row_each, repeated

SAID = f"{ADDED}said_"
"""How the names of columns begin that are as they are stored."""
_NAMELESS = f"{ADDED}nameless"
_POOL = (
    "host",
    *HOST,
    "name",
    "defect",
    "hugepage_size",
    "node",
    "pages",
    "because",
    "why",
    "problem",
    "unexpected",
    *AMOUNTS,
)


@dataclass(frozen=True)
class Tally:
    """What the engine answered; the rest is there to be asked again of single hosts."""

    stored: ibis.Table
    """The inventory as it is stored, its columns named `SAID` and `host`."""
    meaning: ibis.Table
    """What each row that is there says (`SAID`) and means, with `AMOUNTS` and `problem`: the rule
    that it breaks, or 0; `HOSTS` have it.
    """
    alike: ibis.Table
    """The same of hosts with one row; these are the `HOSTS`."""
    several: "Several | None"


@dataclass(frozen=True)
class Several:
    """Hosts with several rows."""

    names: ibis.Table
    """All of them."""
    conflicts: ibis.Table
    """Those whose rows contradict each other: `host`, `problem`."""
    pools: ibis.Table
    """A row for each of their pools, with `AMOUNTS` and `problem`."""
    hosts: ibis.Table
    """A row for each of them that has no conflict, with `AMOUNTS`."""


def tally(engine: Engine, raw: ibis.Table, phase: Callable[[str], None]) -> Tally:
    """Ask the engine about `raw`, an inventory as it is stored; `phase` is told what is being
    done.
    """
    phase("looking for hosts with several rows")
    found = engine.keep(repeated(raw))
    named = ~nameless(found)
    names, others = (engine.number(found.filter(test).count()) for test in (named, ~named))
    stored = _stored(raw, some_nameless=bool(others))
    phase("looking for rows that are alike")
    meaning = engine.keep(
        _judged(engine, engine.keep(grouped(stored, *_said(stored), **{HOSTS: COUNT})))
    )
    if not names:
        return Tally(stored, meaning, meaning, None)
    phase("bringing rows of hosts together")
    several = found.filter(named)
    rows = engine.keep(stored.semi_join(several, "host"))
    alike = engine.keep(_less(meaning, grouped(rows, *_said(rows), more=COUNT)))
    return Tally(stored, meaning, alike, _several(engine, several, rows, meaning))


def _stored(raw: ibis.Table, *, some_nameless: bool) -> ibis.Table:
    """The columns that are of use, under names that tell them from what they mean.

    Where all rows have names, these, the longest column, need not be read to find rows that are
    alike.
    """
    said = {f"{SAID}{name}": raw[name] for name in raw.columns if name in NAMES and name != "host"}
    added = {name: raw[name] for name in (LINE, FILE, MALFORMED) if name in raw.columns}
    return raw.select(
        "host", **added, **said, **{_NAMELESS: nameless(raw) if some_nameless else no()}
    )


def _said(stored: ibis.Table) -> list[str]:
    """The columns in which rows that are alike agree."""
    return [
        name for name in stored.columns if name.startswith(SAID) or name in (_NAMELESS, MALFORMED)
    ]


def _judged(engine: Engine, found: ibis.Table) -> ibis.Table:
    """What rows mean, what is known of their kinds, and their amounts."""
    named = found.mutate(host=ibis.ifelse(_[_NAMELESS], "", "some"))
    rows = measured(
        numbered(
            named.mutate(
                **{
                    name.removeprefix(SAID): named[name]
                    for name in found.columns
                    if name.startswith(SAID)
                }
            )
        )
    )
    keys = engine.rows(rows.filter(_.problem == 0).select(*KEYS).distinct())
    kinds = engine.store(kinds_table(sorted(tuple(row[name] for name in KEYS) for row in keys)))
    return with_amounts(
        rows.left_join(kinds, KEYS).drop("host", *(f"{name}_right" for name in KEYS))
    )


def meant(rows: ibis.Table, meaning: ibis.Table) -> ibis.Table:
    """Stored rows with what they mean; those that say something else than all in `meaning` are left
    out.
    """
    said = _said(rows)
    found = rows.join(meaning, [rows[name].identical_to(meaning[name]) for name in said])
    return found.drop(*(name for name in found.columns if name.endswith("_right")))


def single_rows(tally: Tally) -> ibis.Table:
    """The stored rows of hosts that have one."""
    return (
        tally.stored
        if tally.several is None
        else tally.stored.anti_join(tally.several.names, "host")
    )


def _less(meaning: ibis.Table, others: ibis.Table) -> ibis.Table:
    """`meaning` without the hosts that are counted, as `more`, in `others`."""
    said = _said(others)
    found = meaning.left_join(others, [meaning[name].identical_to(others[name]) for name in said])
    left = found.mutate(**{HOSTS: _[HOSTS] - first_known(_.more, 0)}).filter(_[HOSTS] > 0)
    return left.drop("more", *(name for name in found.columns if name.endswith("_right")))


def _several(engine: Engine, names: ibis.Table, rows: ibis.Table, meaning: ibis.Table) -> Several:
    """Bring the rows of each host together."""
    pools = engine.keep(meant(rows, meaning).select(*_POOL))
    unexpected = engine.keep(pools.filter(_.unexpected).select("host").distinct())
    if engine.number(unexpected.count()):
        pools = engine.keep(_shown_by_one(engine, rows, meaning, unexpected))
    sound = pools.filter(_.problem == 0)
    hosts = engine.keep(one_row_each(sound))
    against = engine.keep(conflicts(hosts, sound))
    agreed = (
        hosts
        if not engine.number(against.count())
        else engine.keep(hosts.anti_join(against, "host"))
    )
    return Several(names, against, pools, agreed)


def _shown_by_one(
    engine: Engine, rows: ibis.Table, meaning: ibis.Table, hosts: ibis.Table
) -> ibis.Table:
    """The pools, where all those of `hosts` have a kernel that optimises, whatever is known of it:
    one of their pools shows it.
    """
    theirs, supported = rows.semi_join(hosts, "host"), f"{SAID}supported"
    said = (
        first_known(theirs[supported].cast("string"), "true")
        if supported in theirs.columns
        else word("true")
    )
    told = engine.keep(theirs.mutate(**{supported: said}))
    known = engine.keep(_judged(engine, grouped(told, *_said(told), **{HOSTS: COUNT})))
    return (
        meant(rows.anti_join(hosts, "host"), meaning)
        .select(*_POOL)
        .union(meant(told, known).select(*_POOL))
    )
