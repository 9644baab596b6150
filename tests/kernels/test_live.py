"""The running kernel: this project, inside a guest, reads /proc/kcore."""

from pathlib import Path

import pytest

from kernels.agreement import Ended, assert_as_counted
from kernels.guest import Guest
from kernels.installed import debian_kernel
from kernels.scenarios import SCENARIOS

pytestmark = pytest.mark.kernels


@pytest.mark.parametrize("name", ["6.1", "6.12"])
def test_running_kernel_says_what_its_counters_say(name: str, image: Path):
    """`hvo audit live` finds the pages of the pool, all optimised, while the kernel runs."""
    scenario = SCENARIOS["on"]
    words = f"{scenario.words}\ncapture live in_image /bin/hvo audit live --json"
    run = Guest(debian_kernel(name), scenario.memory_mib, words, image).run()
    live = run.captured["live"]
    assert live.text, live.errors
    assert_as_counted(live, Ended(scenario, run, Path("/proc/kcore")))
