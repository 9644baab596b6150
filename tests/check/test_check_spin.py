"""The same model, written once in Promela: Spin comes to the same verdict as the checker, for the
safe protocol and for a mutant.
"""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """`bench/check.py`, which knows both sides."""
    for program in ("spin", "cc"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    sys.path.insert(0, str(BENCH))
    spec = importlib.util.spec_from_file_location("bench_check", BENCH / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(BENCH))
    return module


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("variant", ["safe", "free-first"])
def test_spin_comes_to_the_same_verdict(bench: ModuleType, times: int, variant: str):
    """Safe as it is; unsafe when frames are freed before the flush."""
    assert (
        bench.spin(times, variant)["safe"]
        == bench.result_here(times, variant)["safe"]
        == (variant == "safe")
    )
