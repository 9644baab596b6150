"""arm64 kernels with the feature, which no distribution builds: with 4K and 64K pages, the same
agreement as for Debian's.
"""

import pytest

from kernels.agreement import Ended, assert_as_counted, assert_memory_total_grew, audit

pytestmark = [pytest.mark.kernels, pytest.mark.arm64]


def test_arm64_core_says_what_the_counters_said(ended_arm64: Ended):
    """The pools and the optimised pages."""
    assert_as_counted(audit(ended_arm64.core), ended_arm64)


def test_arm64_memory_total_grew_by_the_frames_freed(ended_arm64: Ended):
    """7 base pages for every page of 2 MiB, or of 512 MiB with 64K pages, and 127 for one of 32
    MiB.
    """
    assert_memory_total_grew(ended_arm64)
