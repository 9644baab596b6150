"""Files that are there whole or not at all."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """The path to write to in the block, beside `path`; it takes the place of `path` when the block
    ends well, and is removed otherwise.

    What is no file (a pipe, `/dev/stdout`) is written to as it is: a rename would take its place.
    OSError is the caller's to explain.
    """
    target = path.resolve()
    part = (
        target
        if target.exists() and not target.is_file()
        else target.with_name(f".{target.name}.{os.getpid()}")
    )
    try:
        yield part
        if part is not target:
            part.replace(target)
    finally:
        if part is not target:
            part.unlink(missing_ok=True)
