"""The proposals for arm64 on the machine: both executors do the same and count the same, and
`hvo run` says what each proposal costs.
"""

import json

import pytest
from click.testing import CliRunner

from hvo.cli.main import main
from hvo.errors import HvoError
from hvo.machine.batch.executor import ArrayExecutor
from hvo.machine.machine import Machine
from hvo.vmemmap.era import LETTERS, parse_variant
from hvo.world.costs import CostCounts
from hvo.world.plain import PlainExecutor
from machine_state import differences, state

PAGES, TAILS = 4, 7
PER_PAGE = 2 * TAILS + 2 - TAILS
"""Steps for which a tail is broken when all of a page are: the writes behind it, a flush of two
steps, and the writes before it.
"""
SPLIT = CostCounts(1, 1, 1, 3, 3)
"""What the one leaf of these pages costs, broken and made."""
OPTIMIZE = {
    "A": CostCounts(0, 1 + TAILS * PAGES, 1 + TAILS * PAGES, 3 * (1 + TAILS * PAGES), 3),
    "B": SPLIT.plus(CostCounts(PAGES, PAGES, TAILS * PAGES, TAILS * PER_PAGE * PAGES, PER_PAGE)),
    "C": CostCounts(invalidations=1 + 2 * PAGES),
    "E": CostCounts(invalidations=1 + TAILS * PAGES),
    "F": CostCounts(),
}
OPTIMIZE["D"] = OPTIMIZE["B"]


def machine(letter: str, *, plain: bool = False) -> Machine:
    made = Machine.build(memory="128MiB", era=f"proposal-{letter}", gate=False)
    made.resize("2MiB", PAGES)
    if plain:
        made.executor = PlainExecutor(made.world)
    return made


@pytest.mark.parametrize("letter", LETTERS)
def test_both_executors_agree(letter: str) -> None:
    """Entries, struct pages, allocator and costs are the same after optimise and after restore."""
    arrays, plain = machine(letter), machine(letter, plain=True)
    for work in (Machine.optimize, Machine.restore):
        assert work(arrays, "2MiB").tolist() == work(plain, "2MiB").tolist() == [0] * PAGES
        assert differences(state(arrays), state(plain)) == []
        assert arrays.world.costs.counts == plain.world.costs.counts
        if work is Machine.optimize:
            assert arrays.optimized("2MiB").size == PAGES
            assert arrays.world.costs.taken() == plain.world.costs.taken() == OPTIMIZE[letter]
    assert arrays.optimized("2MiB").size == 0
    assert isinstance(arrays.executor, ArrayExecutor)
    assert arrays.executor.at_once > PAGES  # some did go together


@pytest.mark.parametrize("letter", "ABCDE")
@pytest.mark.parametrize("after", [0, 1, 2, 9])
def test_refused_allocations_agree(letter: str, after: int) -> None:
    """A page that cannot have a table, or not all of its frames again, stays as it is."""
    pair = machine(letter), machine(letter, plain=True)
    results: list[list[list[int]]] = [[], []]
    for each, found in zip(pair, results, strict=True):
        each.world.zones.fail_after = min(after, 2)
        found.append(each.optimize("2MiB").tolist())
        each.world.zones.fail_after = after
        found.append(each.restore("2MiB").tolist())
        each.world.zones.fail_after = None
    assert results[0] == results[1]
    assert results[0][0] == ([0] if after > 1 else [-12]) * PAGES
    assert results[0][1].count(-12) == (after > 1)
    assert differences(*map(state, pair)) == []


@pytest.mark.parametrize("letter", LETTERS)
def test_run_says_what_a_proposal_costs(letter: str) -> None:
    """`hvo run --era proposal-X`: every guarantee holds, and the costs are in text and JSON."""
    command = ["run", "--arch", "arm64", "--era", f"proposal-{letter}", "--memory", "128MiB"]
    done = CliRunner().invoke(main, [*command, "--pages", str(PAGES), "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.output)
    assert result["era"] == f"proposal-{letter}"
    assert result["pool"]["optimized"] == PAGES
    assert CostCounts(**result["costs"]["optimize"]) == OPTIMIZE[letter]
    text = CliRunner().invoke(main, [*command, "--pages", str(PAGES)]).output
    costs = result["costs"]["restore"]
    assert ["restore", *map(str, costs.values())] in [line.split() for line in text.splitlines()]


def test_eras_of_kernels_have_no_costs() -> None:
    done = CliRunner().invoke(main, ["run", "--memory", "128MiB", "--pages", "1", "--json"])
    assert "costs" not in json.loads(done.output)


def test_only_arm64_and_only_known_letters() -> None:
    """Another architecture, or a letter that none has, is refused in one line."""
    for arguments, said in (
        (["--arch", "x86_64", "--era", "proposal-B"], "proposal-B is a way for arm64"),
        (["--era", "proposal-Z"], "expected one of A, B, C, D, E, F"),
    ):
        done = CliRunner().invoke(main, ["run", "--memory", "128MiB", *arguments])
        assert done.exit_code == 2
        assert said in done.output
    with pytest.raises(HvoError):
        parse_variant("proposal-")
    assert parse_variant("proposal-C-publish-tail").variant == "proposal-C-publish-tail"
