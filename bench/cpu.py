"""The name of the processor, which every figure is printed with."""

import platform
from pathlib import Path


def cpu_name() -> str:
    """The model name that Linux gives, else what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
