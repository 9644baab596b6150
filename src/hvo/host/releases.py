"""What is known of kernel releases: which have a defect of the mechanism, and which architectures lack it since when.

Both are data with their sources, `defects.json` and `support.json`. A release is compared only with them; whether the running kernel can
optimise is read off the kernel itself (`hvo.host.kernel`).
"""

import json
import re
from dataclasses import dataclass
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

    Debian's release names stop at the ABI (`6.1.0-50-amd64`); the version is in the banner, `/proc/version` (`Debian 6.1.192-1`).
    """
    match = re.search(r"\bDebian (\d+)\.(\d+)\.(\d+)", banner) or re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    return Version(*(int(number or 0) for number in match.groups())) if match else None


def known_defects(version: Version | None) -> tuple[Defect, ...]:
    """The defects that kernels of this version have."""
    if version is None:
        return ()
    rows = (row for row in _data("defects") if row["series"] == version.series and row["first"] <= version.patch)
    found = (row for row in rows if row["last"] is None or version.patch <= row["last"])
    return tuple(Defect(row["id"], row["summary"], row["source"], row["measured"]) for row in found)


def lacking_reason(arch: str, version: Version | None) -> str | None:
    """Why kernels of this version and architecture do not have the mechanism, `None` when nothing is known."""
    if version is None:
        return None
    for row in _data("support"):
        first, last = (tuple(map(int, row.get(bound, unbounded).split("."))) for bound, unbounded in (("from", "0"), ("until", "9999")))
        if row["arch"] in (arch, "*") and first <= (version.major, version.minor) <= last:
            return row["reason"]
    return None


def _data(name: str) -> list[dict[str, Any]]:
    return json.loads(Path(__file__).with_name(f"{name}.json").read_text(encoding="utf-8"))
