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
    """A known defect of the mechanism in released kernels; `fixed` is the release that mended it,
    None if none is known, and `look` how memory shows it.
    """

    id: str
    summary: str
    source: str
    measured: str
    look: str
    fixed: str | None


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


class SuspectRange(NamedTuple):
    """The kernels that may have a defect: those of `arch` from (major, minor) `first` to `last`,
    both included, whose stable releases may have been mended. `measured`: those that have it for
    certain.
    """

    arch: str
    first: tuple[int, int]
    last: tuple[int, int]
    measured: frozenset[Version]
    defect: Defect


class SuspectedDefect(NamedTuple):
    """A `defect` that a kernel has (`certain`: that release was measured) or may have since
    `since`.
    """

    defect: Defect
    certain: bool
    since: str

    @property
    def said(self) -> str:
        """In words, with where to look and which release mended it."""
        known = "" if self.certain else f"possible since {self.since}, look in memory: "
        fixed = f"mended in {self.defect.fixed}" if self.defect.fixed else "no release is mended"
        return f"{known}{self.defect.summary} ({self.defect.look}; {fixed})"


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
    """Every known defect that loses memory, with the kernels that have it."""
    return tuple(
        DefectRange(_pair(row["series"]), row["first"], row["last"], _defect(row))
        for row in _data("defects")
        if "series" in row
    )


@cache
def suspect_ranges() -> tuple[SuspectRange, ...]:
    """Every known defect that memory must be asked about, with the kernels that may have it."""
    return tuple(
        SuspectRange(
            row["arch"],
            _pair(row["since"]),
            _pair(row["until"]),
            frozenset(Version(*map(int, text.split("."))) for text in row["measured_releases"]),
            _defect(row),
        )
        for row in _data("defects")
        if "since" in row
    )


def defect_named(id: str) -> Defect:
    """The known defect with an id such as H15."""
    return next(_defect(row) for row in _data("defects") if row["id"] == id)


def suspected_defects(arch: str, version: Version | None) -> tuple[SuspectedDefect, ...]:
    """The defects that kernels of this architecture and version have, or may have."""
    if version is None:
        return ()
    return tuple(
        SuspectedDefect(row.defect, version in row.measured, ".".join(map(str, row.first)))
        for row in suspect_ranges()
        if row.arch == arch and row.first <= version[:2] <= row.last
    )


def known_defects(version: Version | None) -> tuple[Defect, ...]:
    """The defects that kernels of this version have and that lose memory."""
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


def _defect(row: dict[str, Any]) -> Defect:
    return Defect(*(row[name] for name in Defect.__dataclass_fields__))


def _pair(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def _data(name: str) -> list[dict[str, Any]]:
    return json.loads(Path(__file__).with_name(f"{name}.json").read_text(encoding="utf-8"))
