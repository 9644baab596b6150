"""Runs made visible: a run as a token that can be given to somebody else, and step by step with
what each step changed.
"""

import base64
import binascii
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from hvo.check.search.path import Path, Turn
from hvo.check.search.replay import Done
from hvo.check.search.tree import Forest
from hvo.check.trace.describe import describe, differences
from hvo.errors import HvoError


class Token(NamedTuple):
    """What a run needs to be run again: protocol, machine, hazard and scenario, how many CPUs,
    whether symmetry was used, and its turns.
    """

    protocol: str
    hardware: str
    hazard: str
    scenario: str
    cpus: int
    symmetry: bool
    path: Path

    def encode(self) -> str:
        """As one word."""
        plain = json.dumps(
            [*self[:-1], [[turn.actor, turn.steps, list(turn.choices)] for turn in self.path]],
            separators=(",", ":"),
        )
        return base64.urlsafe_b64encode(zlib.compress(plain.encode(), 9)).decode().rstrip("=")


def decode(token: str) -> Token:
    """The run that `token` says; raises HvoError when it says none."""
    try:
        plain = json.loads(
            zlib.decompress(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        )
        protocol, hardware, hazard, scenario, cpus, symmetry, path = plain
        turns = tuple(
            Turn(int(actor), int(steps), tuple(int(choice) for choice in choices))
            for actor, steps, choices in path
        )
        return Token(
            str(protocol),
            str(hardware),
            str(hazard),
            str(scenario),
            int(cpus),
            bool(symmetry),
            turns,
        )
    except (binascii.Error, zlib.error, ValueError, TypeError) as error:
        raise HvoError(
            f"{token[:24]!r} is no run: give the whole word that hvo check printed after --replay"
        ) from error


@dataclass(frozen=True)
class TraceStep:
    """One step of a run: whose it is, what it does, what changed in tables, TLBs and frames, and
    what it violated.
    """

    cpu: int
    letter: str
    text: str
    changes: tuple[str, ...]
    violated: tuple[tuple[str, str], ...]


def told(forest: Forest, steps: Iterable[Done]) -> tuple[TraceStep, ...]:
    """The steps of a run in words."""
    return tuple(
        TraceStep(
            done.lane,
            done.letter,
            describe(forest.model, done.step),
            tuple(differences(forest.model, done.before, done.after)),
            done.violated,
        )
        for done in steps
    )
