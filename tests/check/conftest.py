"""Makes the helpers of all tests importable from here, whichever part of the tests is run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
