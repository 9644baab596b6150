"""Trees of thousands of small files belong into memory, and go away at once."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_host import live_host

__all__ = ["live_host"]  # for every test below

sys.path.append(
    str(Path(__file__).resolve().parents[1])
)  # what all tests share is one directory up
_MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A fresh directory that every user may enter, in memory where there is a place for that."""
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="hvo-", dir=place) as name:
        Path(name).chmod(0o755)
        yield Path(name)
