"""From what was asked on a command line to jobs: which protocol in which scenarios on which
machine.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from hvo.check.model.hardware import Hardware, parse_hardware
from hvo.check.scenarios import actors as c
from hvo.check.scenarios.hazards import CASES, Case
from hvo.check.scenarios.scenario import Actor
from hvo.check.scenarios.user_protocol import Own, read_own
from hvo.check.scenarios.user_scenarios import PREMISES, own_cases
from hvo.check.trace.token import Token
from hvo.errors import HvoError
from hvo.vmemmap.era import LETTERS, parse_variant
from hvo.vmemmap.hazards.registry import hazards_named

PROPOSED = tuple(f"proposal-{letter}" for letter in LETTERS)
"""The proposals for arm64, as protocols."""
_READER = Actor("G", "reader", c.read_head)
_MARK = "#"
"""In a token, between the path of the user's own protocol and what its text was."""


def asked(
    protocols: Iterable[str],
    arch: Hardware | None,
    hazards: Iterable[str],
    cpus: int | None,
    *,
    lifted: frozenset[str] = frozenset(),
    sequential: bool = False,
) -> list[Case]:
    """The jobs that were asked for: the benchmark's own, or each of `protocols` (a variant, a
    proposal or a file) in every scenario.

    `arch` (None: all) picks machines of the benchmark, and is the machine that given protocols run
    on; files are asked without the premises `lifted`, and `sequential` machines reorder nothing.
    Raises HvoError for an unknown protocol or hazard, or when nothing is left.
    """
    protocols, hazards = tuple(protocols), tuple(hazards)
    files = [name for name in protocols if is_file(name)]
    chosen: list[Case] = [
        case for name in files for case in own_cases(read_own(name), arch, hazards, lifted)
    ]
    if len(files) < len(protocols) or not protocols:
        chosen += _of_the_benchmark(
            [name for name in protocols if name not in files], arch, hazards
        )
    found = [case for case in (with_cpus(case, cpus) for case in chosen) if case is not None]
    if not found:
        raise HvoError(f"nothing to check: {_why_nothing(chosen, protocols, arch, hazards)}")
    if sequential:
        return [replace(case, hardware=replace(case.hardware, sequential=True)) for case in found]
    return found


def _why_nothing(
    chosen: list[Case], protocols: tuple[str, ...], arch: Hardware | None, hazards: tuple[str, ...]
) -> str:
    """What the question excludes, and what to ask instead."""
    if chosen:
        return (
            f"the scenarios asked for have {min(len(case.scenario.actors) for case in chosen)}"
            " actors or more, one a CPU: raise --cpus"
        )
    which = f"scenario of {' or '.join(hazards)}" if hazards else "scenario"
    if protocols or arch is None:
        return (
            f"no {which} is about {' or '.join(protocols)}: its other actors did not live then, or"
            " a proposal has scenarios of its own"
        )
    where = dict.fromkeys(case.hardware.name for case in _asked_for(hazards))
    return (
        f"the benchmark has no {which} on {arch.name}, but on {', '.join(where)}: name a protocol"
        f" (hvo check 7.1 --arch {arch.name})"
    )


def is_file(protocol: str) -> bool:
    """Whether that names a file with a protocol of the user's own."""
    return protocol.endswith(".py")


def with_cpus(case: Case, cpus: int | None) -> Case | None:
    """The case on a machine of `cpus` CPUs: those that nobody uses read the first huge page; None
    when there are too few.
    """
    scenario = case.scenario
    more = 0 if cpus is None else cpus - len(scenario.actors)
    if more < 0:
        return None
    readers = (_READER,) * (more if scenario.live and scenario.complete else 0)
    return replace(case, scenario=replace(scenario, actors=scenario.actors + readers))


def _of_the_benchmark(
    protocols: list[str], arch: Hardware | None, hazards: tuple[str, ...]
) -> list[Case]:
    known = dict.fromkeys(case.hazard for case in CASES)
    for hazard in hazards:
        if not any(name.startswith(hazard) for name in known):
            raise HvoError(_no_scenario(hazard, known))
    chosen = _asked_for(hazards)
    names = [name if name in PROPOSED else parse_variant(name).variant for name in protocols]
    if names:
        return list(_everywhere(names, chosen, arch))
    return [case for case in chosen if arch is None or case.hardware == arch]


def _no_scenario(name: str, known: Iterable[str]) -> str:
    if found := hazards_named(name):
        return f"hazard {name} ({found[0].title}) has no scenario yet: hvo check --list has those"
    return f"unknown hazard {name!r}: there are {', '.join(known)}"


def _asked_for(hazards: tuple[str, ...]) -> list[Case]:
    """The rows of the benchmark with one of `hazards` (none: all)."""
    return [
        case
        for case in CASES
        if not hazards or any(case.hazard.startswith(hazard) for hazard in hazards)
    ]


def _everywhere(protocols: list[str], chosen: list[Case], arch: Hardware | None) -> Iterator[Case]:
    """Each protocol in each scenario of `chosen` that is about its time, once; a proposal in the
    scenarios made for it.
    """
    seen: set[tuple[str, str, str, str]] = set()
    for protocol in protocols:
        for case in chosen:
            hardware = arch or case.hardware
            key = (protocol, hardware.name, case.hazard, case.scenario.name)
            if key not in seen and _is_about(case, protocol) and (arch or hardware.flush_all):
                seen.add(key)
                yield replace(case, protocol=protocol, hardware=hardware, expected=None, also=())


def _is_about(case: Case, protocol: str) -> bool:
    if protocol in PROPOSED or case.protocol in PROPOSED:
        return case.protocol == protocol
    return case.scenario.fits is None or case.scenario.fits(parse_variant(protocol))


# -- runs that were found --


def token_name(case: Case) -> str:
    """How a token says the case's protocol: a file with what its text was."""
    own: Own | None = getattr(case, "own", None)
    return case.protocol if own is None else f"{case.protocol}{_MARK}{own.digest}"


def case_of(said: Token) -> Case:
    """The case that a token is about; raises HvoError when there is none such, or when the file it
    names has changed since.
    """
    hardware = parse_hardware(said.hardware)
    if hardware is not None:
        for case in _candidates(said, hardware):
            found = with_cpus(case, said.cpus)
            if (
                case.hazard == said.hazard
                and case.scenario.name == said.scenario
                and found is not None
            ):
                return found
    raise HvoError(
        f"the run is about scenario {said.scenario!r} of {said.hazard}, which this version does not"
        " have"
    )


def _candidates(said: Token, hardware: Hardware) -> Iterable[Case]:
    path, _, digest = said.protocol.rpartition(_MARK)
    if not is_file(path):
        return map(partial(replace, protocol=said.protocol, hardware=hardware), CASES)
    own = read_own(path)
    if own.digest != digest:
        raise HvoError(
            f"{path} has changed since that run was found: check it again with `hvo check {path}`"
        )
    return own_cases(own, hardware, (), frozenset(PREMISES))
