"""Runs made visible: a run as a token that can be given to somebody else, and step by step with what each step changed."""

import base64
import binascii
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hvo.check.geometry import BASE, PAGE, PMD_FRAME
from hvo.check.model import FREE, GIVEN, LEVEL1, STATUS, TABLE, Model, State
from hvo.check.perform import NODE
from hvo.check.run import Path, Turn, canonical
from hvo.check.scenario import Scenario
from hvo.check.search import step
from hvo.check.tree import Forest
from hvo.check.world import Fault, World
from hvo.errors import HvoError
from hvo.steps.vocabulary import Step, StoreTableEntry


class Token(NamedTuple):
    """What a run needs to be run again: protocol, machine, hazard and scenario, how many CPUs, whether symmetry was used, and its turns."""

    protocol: str
    rules: str
    hazard: str
    scenario: str
    cpus: int
    symmetry: bool
    path: Path

    def encode(self) -> str:
        """As one word."""
        plain = json.dumps([*self[:-1], [[turn.actor, turn.steps, list(turn.choices)] for turn in self.path]], separators=(",", ":"))
        return base64.urlsafe_b64encode(zlib.compress(plain.encode(), 9)).decode().rstrip("=")


def decode(token: str) -> Token:
    """The run that `token` says; raises HvoError when it says none."""
    try:
        plain = json.loads(zlib.decompress(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))))
        protocol, rules, hazard, scenario, cpus, symmetry, path = plain
        turns = tuple(Turn(int(actor), int(steps), tuple(int(choice) for choice in choices)) for actor, steps, choices in path)
        return Token(str(protocol), str(rules), str(hazard), str(scenario), int(cpus), bool(symmetry), turns)
    except (binascii.Error, zlib.error, ValueError, TypeError) as error:
        raise HvoError(f"{token[:24]!r} is no run: give the whole word that hvo check printed after --replay") from error


@dataclass(frozen=True)
class TraceStep:
    """One step of a run: whose it is, what it does, what changed in tables, TLBs and frames, and what it violated."""

    cpu: int
    letter: str
    text: str
    changes: tuple[str, ...]
    violated: tuple[tuple[str, str], ...]


def replay(forest: Forest, scenario: Scenario, start: State, path: Path, *, symmetry: bool) -> list[TraceStep]:
    """Do the run again, from `start`; raises HvoError when it is not a run of this scenario."""
    trace: list[TraceStep] = []
    state, lanes = start, tuple(range(len(scenario.actors)))
    for turn in path:
        if not 0 <= turn.actor < len(scenario.actors):
            raise HvoError(f"the run has a CPU {turn.actor + 1}: the scenario has {len(scenario.actors)}")
        world = World(forest.model, state, turn.choices)
        trace += _turn(forest, scenario, world, turn, lanes[turn.actor])
        state = world.freeze()
        if symmetry:
            state, order = canonical(scenario, state)
            lanes = lanes if order is None else tuple(lanes[i] for i in order)
    return trace


_OTHER = "it belongs to another version of the protocol"


def _turn(forest: Forest, scenario: Scenario, world: World, turn: Turn, lane: int) -> Iterator[TraceStep]:
    for _ in range(turn.steps):
        operation = forest.nodes[world.actors[turn.actor][NODE]].operation
        if operation is None:
            raise HvoError(f"the run goes on after {scenario.actors[turn.actor].letter} is done: {_OTHER}")
        before, world.found = world.freeze(), []
        try:
            went = step(forest, world, turn.actor)
        except Fault:
            went = True
        if not went:
            raise HvoError(f"the run goes on where {scenario.actors[turn.actor].letter} waits: {_OTHER}")
        changes = tuple(differences(forest.model, before, world.freeze()))
        found = tuple((rule, message) for rule, message, _ in world.found)
        yield TraceStep(lane, scenario.actors[lane].letter, describe(forest.model, operation.step), changes, found)


# -- words for steps and differences --


def describe(model: Model, done: Step) -> str:
    """A step in a few words: its name, and its fields with addresses as vmemmap pages and entries as what they say."""
    fields = [(name, getattr(done, name)) for name in _fields(type(done))]
    entry = "level" in dict(fields) or isinstance(done, StoreTableEntry)
    level = dict(fields).get("level", 0)
    named = [("entry" if entry and name == "value" else name, value) for name, value in fields]
    shown = [text for name, value in named if (text := _shown(model, name, value, level))]
    return " ".join([type(done).__name__, *shown])


def _fields(kind: type) -> list[str]:
    return [name for base in reversed(kind.__mro__) for name in getattr(base, "__annotations__", {}) if not name.startswith("_")]


def _shown(model: Model, name: str, value: Any, level: int) -> str:  # noqa: ANN401
    if isinstance(value, bool):
        return name if value else ""
    if value is None or name in ("level", "node"):
        return ""
    if name in ("address", "start", "end", "source") and np.ndim(value) == 0 and int(value) >= BASE:
        return f"{name}=page {(int(value) - BASE) // PAGE}"
    if name == "location":
        frame, index = int(value) // PAGE, int(value) % PAGE // 8
        return f"PMD {index}" if frame == PMD_FRAME else f"frame {frame} entry {index}"
    if name in ("entry", "expected"):
        return f"{name}={entry_text(model, int(value), min(level, 1))}"
    if hasattr(value, "value"):
        return str(value.value)
    return f"{name}={np.asarray(value).tolist()}"


def entry_text(model: Model, entry: int, level: int) -> str:
    """What an entry says."""
    meaning = model.meaning(entry, level)
    if meaning.kind == "none":
        return "invalid"
    if meaning.kind == "table":
        return f"table {meaning.frame}"
    flag = "" if meaning.cacheable else ", access flag clear"
    return f"frame {meaning.frame} {'rw' if meaning.writable else 'ro'}{flag}"


def differences(model: Model, before: State, after: State) -> Iterator[str]:
    """What changed in entries, in what TLBs may hold, and in frames."""
    for frame, (old, new) in enumerate(zip(before.contents, after.contents, strict=True)):
        if old != new and (before.status[frame] | after.status[frame]) & 24 == TABLE:
            level = 1 if frame == PMD_FRAME else 0
            for index, (a, b) in enumerate(zip(model.rows[old], model.rows[new], strict=True)):
                if a != b:
                    name = f"PMD {index}" if level else f"table {frame}[{index}]"
                    yield f"{name}: {entry_text(model, a, level)} -> {entry_text(model, b, level)}"
    for key, entry, _ in sorted({(*held[:2], 0) for held in after.stale} - {(*held[:2], 0) for held in before.stale}):
        yield f"TLBs may keep {_key_text(key)}: {entry_text(model, entry, int(key >= LEVEL1))}"
    for key, entry, _ in sorted({(*held[:2], 0) for held in before.stale} - {(*held[:2], 0) for held in after.stale}):
        yield f"TLBs dropped {_key_text(key)}: {entry_text(model, entry, int(key >= LEVEL1))}"
    for frame, (old, new) in enumerate(zip(before.status, after.status, strict=True)):
        if (old & STATUS in (FREE, GIVEN)) != (new & STATUS in (FREE, GIVEN)):
            yield f"frame {frame} {'freed' if new & STATUS in (FREE, GIVEN) else 'allocated'}"


def _key_text(key: int) -> str:
    return f"PMD {key - LEVEL1}" if key >= LEVEL1 else f"page {key}"
