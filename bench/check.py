"""The checker: the whole matrix, states a second of each job, and one model explored here and by
Spin: `python bench/check.py`.

The model is `spin/optimize_518.pml`: 5.18's optimise against a reader and a walker, safe, and
unsafe when it frees before it flushes. Each side is a process of its own, from its start to its
verdict; Spin's is `spin -a`, `cc -O2` and `./pan`. `--one TIMES VARIANT` is our side.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from walk import cpu_name

MODEL = Path(__file__).parent / "spin/optimize_518.pml"
VARIANTS = {"safe": [], "free-first": ["-DFREE_FIRST"]}
ROUNDS = (1, 8, 32)
"""How often the reader and the walker go round."""


def result_here(times: int, variant: str) -> dict[str, object]:
    """The verdict of our checker on the model, how many states, and seconds of the search alone."""
    from hvo.check.model.geometry import STRUCTS
    from hvo.check.mutants.catalogue import MUTANTS
    from hvo.check.mutants.mutations import Trigger
    from hvo.check.scenarios import actors as c
    from hvo.check.scenarios.hazards import ONE, X86
    from hvo.check.scenarios.scenario import Actor, Scenario
    from hvo.check.search.explore import Options, explore
    from hvo.check.search.start import build
    from hvo.check.search.tree import single
    from hvo.steps.struct_pages import LoadPage
    from hvo.vmemmap.era import parse_variant

    def optimize(v, g):
        steps = c.optimize(0)(v, g)
        return (
            steps
            if variant == "safe"
            else MUTANTS[variant].mutation.change(single(steps), Trigger())
        )

    def read(v, g):
        for _ in range(times):
            for page in range(1, g.used):
                yield LoadPage(g.head(0) + page * STRUCTS + 1, "link")

    def walk(v, g):
        for _ in range(times):
            yield from c.refer("5.14")(v, g)

    actors = (
        Actor("O", "optimise", optimize),
        Actor("G", "reader", read),
        Actor("W", "walker", walk),
    )
    scenario = Scenario("optimise against a reader and a walker", actors, ONE)
    forest, start = build(scenario, parse_variant("5.18+split-lock-read"), X86)
    found = explore(forest, start, scenario, Options())
    assert found.finished
    return {
        "safe": not found.violations,
        "states": found.states,
        "transitions": found.transitions,
        "seconds": found.seconds,
    }


def here(times: int, variant: str) -> dict[str, object]:
    """The same in a process of its own, with the seconds from its start to its end as `all`."""
    begun = time.perf_counter()
    script = [sys.executable, __file__, "--one", str(times), variant]
    done = subprocess.run(script, check=True, capture_output=True, text=True)
    return json.loads(done.stdout) | {"all": time.perf_counter() - begun}


def spin(times: int, variant: str) -> dict[str, object]:
    """Spin's verdict and states, with the seconds of `pan` alone, and of everything as `all`."""
    with tempfile.TemporaryDirectory() as place:
        run = partial(subprocess.run, cwd=place, check=True, capture_output=True, text=True)
        begun = time.perf_counter()
        run(["spin", "-a", f"-DTIMES={times}", *VARIANTS[variant], str(MODEL)])
        run(["cc", "-O2", "-DSAFETY", "-o", "pan", "pan.c"])
        compiled = time.perf_counter()
        said = run(["./pan", "-m1000000"]).stdout
        ended = time.perf_counter()
    errors, states = (
        next(int(word) for word in line.replace("errors:", "").split()[::-1] if word.isdigit())
        for line in _lines(said)
    )
    return {
        "safe": errors == 0,
        "states": states,
        "seconds": ended - compiled,
        "all": ended - begun,
    }


def _lines(said: str) -> list[str]:
    lines = said.splitlines()
    assert "max search depth too small" not in said, said
    return [
        next(line for line in lines if "errors:" in line),
        next(line.split(",")[0] for line in lines if "states, stored" in line),
    ]


def compare(times: int, variant: str) -> None:
    """One line: both verdicts, and our time as a multiple of Spin's."""
    ours, theirs = here(times, variant), spin(times, variant)
    assert ours["safe"] == theirs["safe"] == (variant == "safe"), (ours, theirs)
    whole, search = (float(ours[name]) / float(theirs[name]) for name in ("all", "seconds"))
    verdict = "safe" if ours["safe"] else "unsafe"
    print(f"{variant:>10}, {times:2} rounds: {verdict} by both, {whole:.2f} times the time of Spin")
    for name, side in (("hvo", ours), ("spin", theirs)):
        print(
            f"    {name:4} {side['all']:.2f} s to the verdict, {side['seconds']:.3f} s of them the"
            f" search ({side['states']} states)"
        )
    print(
        f"    without starting Python, and without spin -a and cc: {search:.1f} times", flush=True
    )


def matrix() -> None:
    """Every job of `hvo check`, on two processes."""
    from concurrent.futures import ProcessPoolExecutor

    from hvo.check.batch import check_all
    from hvo.check.select import asked

    cases = asked([], None, [], None)
    with ProcessPoolExecutor(2) as pool:
        took, results = timed(partial(check_all, cases, None, pool))
    states, seconds = (
        sum(result.states for result in results),
        sum(result.seconds for result in results),
    )
    rate = f"{states} states, {states / seconds:.0f} a second and process"
    print(f"the whole matrix: {len(results)} jobs in {took:.1f} s on two processes, {rate}")
    for result in sorted(results, key=lambda result: -result.seconds):
        case, rate = result.case, result.states / result.seconds
        print(
            f"  {rate:7.0f} states/s {result.states:7} states  {case.hazard} {case.protocol},"
            f" {case.scenario.name}"
        )


def timed(work: Callable[[], list]) -> tuple[float, list]:
    """Seconds and result."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def main() -> None:
    """Print every figure."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(result_here(int(sys.argv[2]), sys.argv[3])))
        return
    print(f"machine: {cpu_name()}")
    matrix()
    if shutil.which("spin") is None or shutil.which("cc") is None:
        print("spin or a C compiler is not installed: nothing to compare with")
        return
    for variant in VARIANTS:
        for times in ROUNDS:
            compare(times, variant)


if __name__ == "__main__":
    main()
