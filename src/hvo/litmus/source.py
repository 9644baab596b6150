"""The lines of a litmus file, and errors that name them."""

import re

from hvo.errors import HvoError


class Source:
    """The lines of a file without comments, and errors that name them."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        blanked = re.sub(
            r"\(\*.*?\*\)", lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.DOTALL
        )
        self.lines = blanked.splitlines()
        self.at = 0

    def error(self, line: int, found: str, expected: str) -> HvoError:
        """The error for what stands on `line`, counted from 0; past the end it names the last
        one.
        """
        number = max(min(line, len(self.lines) - 1), 0) + 1
        return HvoError(
            f"{self.file}: line {number}: found {' '.join(found.split())!r}: expected {expected}"
        )
