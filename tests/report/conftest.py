"""Real results of commands as files, and a browser to look at the pages made of them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(
    str(Path(__file__).resolve().parents[1])
)  # what all tests share is one directory up
from result_files import COMMANDS, INVENTORY, hvo

from browser import open_browser
from shared_files import core


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> dict[str, Path]:
    """The JSON of each command, in a file of its own."""
    place = tmp_path_factory.mktemp("results")
    (place / "pool.sh").write_text("hvo 1; pool 20; snap grown\nhvo 0; pool 5; snap shrunk\n")
    (place / "inventory.csv").write_text(INVENTORY)
    found = {name: place / f"{name}.json" for name in COMMANDS}
    for name, (first, *rest) in COMMANDS.items():
        words = [
            core(word)
            if first == "audit"
            else place / word
            if word in ("pool.sh", "inventory.csv")
            else word
            for word in rest
        ]
        outcome = hvo(first, *words, "--json")
        assert outcome.exit_code in (0, 1), outcome.output
        found[name].write_text(outcome.stdout)
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """A headless Chromium for all tests of pages."""
    with open_browser() as opened:
        yield opened
