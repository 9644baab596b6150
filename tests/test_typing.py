"""What a type checker knows about programs that use hvo: mypy, with nothing but what the package
says about itself.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROTOCOL = """
from hvo.protocol import EntryKind, ReadEntry, Steps, Vmemmap, pte_of


def optimize(v: Vmemmap, order: int, head: int) -> Steps[int]:
    pte = yield from pte_of(v, v.address(head))
    entry = yield from ReadEntry(pte, 0)
    return 0 if {condition} else 1
"""
SCRIPT = """
import hvo

machine = hvo.Machine.build(memory="256MiB", era="7.1")
machine.resize("2MiB", 4)
optimized: int = machine.optimized("2MiB").size
entry = machine.entries(int(machine.pool("2MiB").heads()[0]), "2MiB")[0]
print(entry.{field}, machine.counters()["nr_memmap_pages"], optimized)
"""


def strict(*files: Path) -> str:
    """What `mypy --strict` says about `files`: empty when nothing is wrong."""
    pytest.importorskip("mypy", reason="mypy is not installed: it comes with requirements-dev.lock")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *map(str, files)]
    cache = {"MYPYPATH": str(ROOT / "src"), "MYPY_CACHE_DIR": str(ROOT / "build/mypy")}
    done = subprocess.run(command, env=os.environ | cache, text=True, capture_output=True)
    return done.stdout + done.stderr


def test_programs_of_users_are_clean(tmp_path: Path) -> None:
    """The protocol files of the documentation, one that branches on an entry, and a script."""
    protocol, script = tmp_path / "protocol.py", tmp_path / "script.py"
    protocol.write_text(PROTOCOL.format(condition="entry.kind is EntryKind.LEAF"))
    script.write_text(SCRIPT.format(field="frame"))
    assert not strict(*(ROOT / "docs/examples").glob("my_protocol*.py"), protocol, script)


def test_wrong_programs_are_not(tmp_path: Path) -> None:
    """The result of a step has a type: an entry has no colour, nor has what `entries` gives."""
    protocol, script = tmp_path / "protocol.py", tmp_path / "script.py"
    protocol.write_text(PROTOCOL.format(condition="entry.colour"))
    script.write_text(SCRIPT.format(field="colour"))
    found = strict(protocol, script)
    assert 'protocol.py:8: error: "Entry" has no attribute "colour"' in found
    assert 'script.py:8: error: "VmemmapEntry" has no attribute "colour"' in found
