"""Real kernels under emulation: what this project says about them equals what they say about
themselves.
"""

import pytest

pytest.register_assert_rewrite("kernels.agreement")
