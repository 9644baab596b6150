"""What is known of kernel releases: which have a defect of the mechanism, which architectures lack
it since when, who builds it how.

All are data with their sources, `defects.json`, `support.json` and `distributions.json`. A release
is compared only with them; whether the running kernel can optimise is read off the kernel itself
(`hvo.host.kernel`).
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple


class Version(NamedTuple):
    """An upstream version, such as 6.12.117."""

    major: int
    minor: int
    patch: int

    @property
    def series(self) -> str:
        """The stable series it belongs to."""
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True)
class Defect:
    """A known defect of the mechanism in released kernels."""

    id: str
    summary: str
    source: str
    measured: str


def upstream_version(release: str, banner: str) -> Version | None:
    """The upstream version behind a release name, `None` when it does not begin with one.

    Debian's release names stop at the ABI (`6.1.0-50-amd64`); the version is at the end of the
    banner, `/proc/version`, after the number of the build (`#1 SMP Debian 6.1.192-1`). What stands
    before it is the compiler's (`gcc-12 (Debian 12.2.0-14)`).
    """
    match = re.search(r"#\d.*\bDebian (\d+)\.(\d+)\.(\d+)", banner) or re.match(
        r"(\d+)\.(\d+)(?:\.(\d+))?", release
    )
    return Version(*(int(number or 0) for number in match.groups())) if match else None


class DefectRange(NamedTuple):
    """The kernels that have a defect: a stable series, such as (6, 12), from its patch `first` to
    `last` (`None`: no end is known).
    """

    series: tuple[int, int]
    first: int
    last: int | None
    defect: Defect


class Gap(NamedTuple):
    """Kernels of an architecture (`*`: of every one) that lack the mechanism: (major, minor) from
    `first` to `last`, both included.
    """

    arch: str
    first: tuple[int, int]
    last: tuple[int, int]
    reason: str


class Distribution(NamedTuple):
    """How a distribution builds its kernels of one architecture; `match` is a regular expression on
    the release name.
    """

    name: str
    match: str
    arch: str
    built: bool
    """Whether the optimisation is compiled in."""
    default_on: bool
    """Whether it is on when neither the boot command line nor sysctl says anything."""


NEWEST = (9999, 0)
"""Newer than every kernel."""


@cache
def defect_ranges() -> tuple[DefectRange, ...]:
    """Every known defect, with the kernels that have it."""
    rows = (
        (row, Defect(row["id"], row["summary"], row["source"], row["measured"]))
        for row in _data("defects")
    )
    return tuple(
        DefectRange(_pair(row["series"]), row["first"], row["last"], defect) for row, defect in rows
    )


def known_defects(version: Version | None) -> tuple[Defect, ...]:
    """The defects that kernels of this version have."""
    if version is None:
        return ()
    rows = (
        row for row in defect_ranges() if row.series == version[:2] and row.first <= version.patch
    )
    return tuple(row.defect for row in rows if row.last is None or version.patch <= row.last)


@cache
def support_gaps() -> tuple[Gap, ...]:
    """Every kernel that lacks the mechanism; the first that applies says why."""
    rows = (
        (row["arch"], row.get("from", "0.0"), row.get("until", "9999.0"), row["reason"])
        for row in _data("support")
    )
    return tuple(Gap(arch, _pair(first), _pair(last), reason) for arch, first, last, reason in rows)


@cache
def distributions() -> tuple[Distribution, ...]:
    """What is known of distributions; where nothing is, mainline's default holds: compiled in, and
    off.
    """
    return tuple(
        Distribution(row["name"], row["match"], row["arch"], row["built"], row["default_on"])
        for row in _data("distributions")
    )


def lacking_reason(arch: str, version: Version | None) -> str | None:
    """Why kernels of this version and architecture do not have the mechanism, `None` when nothing
    is known.
    """
    if version is None:
        return None
    found = (
        gap.reason
        for gap in support_gaps()
        if gap.arch in (arch, "*") and gap.first <= version[:2] <= gap.last
    )
    return next(found, None)


def _pair(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def _data(name: str) -> list[dict[str, Any]]:
    return json.loads(Path(__file__).with_name(f"{name}.json").read_text(encoding="utf-8"))
