"""A fleet's tests: inventories as files, answers as JSON, and an oracle that adds up host by
host.
"""

import sys
from pathlib import Path

import pytest

pytest.importorskip("ibis", reason="ibis is absent: pip install 'hvo[fleet]'")
sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(
    str(Path(__file__).resolve().parents[1])
)  # what all tests share is one directory up
