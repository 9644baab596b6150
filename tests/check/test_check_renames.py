"""The list of renamed scenarios: records of 0.1.0 can be compared with it."""

import tomllib
from pathlib import Path

from hvo.check.mutants.suite import PROTOCOLS, suite
from hvo.check.scenarios.hazards import CASES

RENAMES = Path(__file__).resolve().parents[1] / "data/records/renames.toml"


def test_no_old_name_is_left_and_every_new_one_exists():
    """A scenario has one name. Those of users' protocols are not built here and may miss."""
    renamed = tomllib.loads(RENAMES.read_text())["scenarios"]
    names = {case.scenario.name for case in CASES}
    names |= {case.scenario.name for protocol in PROTOCOLS for case in suite(protocol)}
    assert not names & set(renamed)
    assert len(set(renamed.values()) & names) > 60
