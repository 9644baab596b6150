"""The running kernel: this project, inside a guest, reads /proc/kcore."""

import json
from pathlib import Path

import pytest

from kernels.guest import Guest
from kernels.installed import debian_kernel
from kernels.scenarios import SCENARIOS, page_counts

pytestmark = pytest.mark.kernels

WALKED = Path(__file__).with_name("walked.py")


@pytest.mark.parametrize("name", ["6.1", "6.12"])
def test_running_kernel_says_what_its_counters_say(name: str, image: Path):
    """Found through /proc/kcore are the pages of the pool, all optimised, while the kernel runs."""
    script = f"$bb cat > /image/tmp/walked.py << 'END'\n{WALKED.read_text()}\nEND\n"
    words = f"{SCENARIOS['on'].words}\n{script}capture live in_image /bin/python /tmp/walked.py live"
    run = Guest(debian_kernel(name), 768, words, image).run()
    assert run.captured["live"].status == 0, run.console
    found = json.loads(run.captured["live"].text)
    assert found["release"] == run.release
    assert {size: pages for size, pages, *_ in found["pools"]} == page_counts(run.snapshots["end"])
    assert found["pools"] == [[2 << 20, 100, 100, 100, 100]]
    assert found["read_only"] == 700
