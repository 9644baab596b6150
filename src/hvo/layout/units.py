"""Sizes as people write them (`2MiB`, `2M`, `2048kB`) and as bytes.

The kernel's own `kB` (in `/proc/meminfo` and the names below `/sys/kernel/mm/hugepages`) is 1024
bytes, so every unit here is a power of 1024.
"""

import re

from hvo.errors import HvoError

_UNITS = ("", "K", "M", "G", "T", "P")
_SIZE = re.compile(r"\s*([0-9]+)\s*(?:([KMGTP])(?:i?B)?|B)?\s*", re.IGNORECASE)
_EXACT_BELOW = 100_000


def parse_size(text: str) -> int:
    """Bytes of a size such as `2MiB`, `2M`, `1GiB`, `2048kB` or `4096`; every unit is a power of
    1024.

    Raises `HvoError` for anything else, signs and fractions included.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise HvoError(
            f"size {text!r}: expected a whole number of bytes or of KiB, MiB, GiB, TiB or PiB, such"
            " as 2MiB"
        )
    number, unit = match.groups(default="")
    return int(number) << 10 * _UNITS.index(unit.upper())


def format_size(size: int) -> str:
    """`size` in bytes for people: exact in the largest binary unit that divides it, else with two
    decimals.

    A number that would take more than five digits to be exact is rounded: `16380MiB`, but `3.81GiB`
    for 4000004 KiB.
    """
    for power in reversed(range(len(_UNITS))):
        count, rest = divmod(abs(size), 1 << 10 * power)
        if count and not rest and count < _EXACT_BELOW:
            return f"{size >> 10 * power}{_suffix(power)}"
    power = min(max(abs(size).bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{size / (1 << 10 * power):.2f}{_suffix(power)}" if power else f"{size}B"


def _suffix(power: int) -> str:
    return f"{_UNITS[power]}iB" if power else "B"
