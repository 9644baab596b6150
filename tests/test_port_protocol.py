"""`tools/port_protocol.py`: protocol files of 0.1.0 become files of this version."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hvo.protocol
import port_protocol
from hvo.check.select import asked
from hvo.errors import HvoError
from port_protocol import port
from shared_files import BESIDE

STEPS = "from hvo.steps.vocabulary import"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            f"{STEPS} FreeFrame, PileFrames as P\n",
            "from hvo.protocol import FreeFrame, ListAdd as P\n",
        ),
        (
            f"{STEPS} (\n    TakePiled,  # from the list\n)\nx = TakePiled(1)  # TakePiled\n",
            "from hvo.protocol import (\n    ListPop,  # from the list\n)\n"
            "x = ListPop(1)  # TakePiled\n",
        ),
        (
            "from hvo.steps import vocabulary as s, composite\n"
            "s.PileFrames, composite.FreePile()\n",
            "from hvo import protocol as s, protocol as composite\n"
            "s.ListAdd, composite.FreeVmemmapPageList()\n",
        ),
        (
            "import hvo.steps.vocabulary\nhvo.steps.vocabulary.PileIsEmpty()\n",
            "import hvo.protocol\nhvo.protocol.ListEmpty()\n",
        ),
        (
            "import hvo.steps.composite as c\nc.FreePile()\n",
            "import hvo.protocol as c\nc.FreeVmemmapPageList()\n",
        ),
        (
            "from hvo.vmemmap.context import ENOMEM, REFUSED\nreturned = REFUSED\n",
            "from hvo.vmemmap.context import ENOMEM, EOPNOTSUPP\nreturned = EOPNOTSUPP\n",
        ),
        (
            f"{STEPS} *\nfrom hvo.steps.composite import *\nx = np.uint64(1)\nFreePile()\n",
            "from hvo.protocol import *\nimport numpy as np\nx = np.uint64(1)\n"
            "FreeVmemmapPageList()\n",
        ),
        (
            f"import numpy as np\n{STEPS} *\nx = np.uint64(1)\n",
            "import numpy as np\nfrom hvo.protocol import *\nx = np.uint64(1)\n",
        ),
        (
            "if type(step).__name__ == 'PileFrames':\n    é = 'not PileFrames'; PileFrames\n",
            "if type(step).__name__ == 'ListAdd':\n    é = 'not PileFrames'; PileFrames\n",
        ),
        (
            f"{STEPS} ReadEntry\nx = yield ReadEntry(1, 0)\ny = (yield ReadEntry(1, 0)).value\n"
            "yield own(1)\nyield from other(1)\n",
            "from hvo.protocol import ReadEntry\nx = yield from ReadEntry(1, 0)\n"
            "y = (yield from ReadEntry(1, 0)).value\nyield own(1)\nyield from other(1)\n",
        ),
        (
            "from hvo.steps import vocabulary as s\nyield s.PileFrames(x)\n",
            "from hvo import protocol as s\nyield from s.ListAdd(x)\n",
        ),
        (
            f"{STEPS} *\nyield Flush(1, 2)\n",
            "from hvo.protocol import *\nyield from Flush(1, 2)\n",
        ),
        (
            "shared = yield from shared_tail(v, order, head)\nif shared is False or x is False: 0",
            "shared = yield from shared_tail(v, order, head)\nif shared is None or x is False: 0",
        ),
    ],
)
def test_ported(old: str, new: str) -> None:
    """Imports and names change, comments, strings and layout do not."""
    assert port(old) == new
    assert port(new) == new


@pytest.mark.parametrize("own", ["def PileFrames(): ...", "ListAdd = 1", "def f(PileFrames): ..."])
def test_a_name_with_two_meanings_keeps_its_spelling(own: str) -> None:
    """Where the file has a meaning of its own for the old or the new name, imports say `as`."""
    assert port(f"{STEPS} PileFrames\n{own}\nPileFrames\n") == (
        f"from hvo.protocol import ListAdd as PileFrames\n{own}\nPileFrames\n"
    )
    assert port(f"{STEPS} *\n{own}\nPileFrames\n") == (
        "from hvo.protocol import *\nfrom hvo.protocol import ListAdd as PileFrames\n"
        f"{own}\nPileFrames\n"
    )


def test_every_name_is_there() -> None:
    """What is called something else now is offered under that name."""
    assert {*port_protocol.RENAMED_STEPS.values(), "primitives"} <= set(hvo.protocol.__all__)


def _dump(node: ast.stmt) -> str:
    text = ast.dump(node).replace("YieldFrom(", "Yield(")
    return text.replace("Constant(value=False)", "Constant(value=None)")


@pytest.mark.parametrize("path", sorted(BESIDE.glob("checker/*.py")), ids=lambda path: path.name)
def test_files_written_for_the_first_version(path: Path, tmp_path: Path) -> None:
    """Each is accepted by the checker once it is ported; nothing but imports, `yield` of steps and
    what says that there is no memory changed in it.
    """
    for each in path.parent.glob("*.py"):
        (tmp_path / each.name).write_text(port(each.read_text()))
    ported = tmp_path / path.name
    before, after = ast.parse(path.read_text()), ast.parse(ported.read_text())
    rest = [
        [_dump(node) for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
        for tree in (before, after)
    ]
    assert rest[0] == rest[1]
    if path.name.startswith("typo_"):
        with pytest.raises(HvoError, match=r"optimize_folios.* is no role"):
            asked((str(ported),), None, (), None)
    else:
        assert asked((str(ported),), None, (), None)


def test_the_command_line(tmp_path: Path) -> None:
    """The new text on standard output; one line and 2 for what is no Python."""
    program = [sys.executable, port_protocol.__file__]
    old = tmp_path / "old.py"
    old.write_text(f"{STEPS} TakePiled\n")
    ran = subprocess.run([*program, str(old)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "from hvo.protocol import ListPop\n")
    old.write_text("def (:\n")
    ran = subprocess.run([*program, str(old)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
