"""Commands as real processes on `/`, in a mount namespace of their own: another `/run`, and what a
test writes down in the place of the kernel's files.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

BINDS = ("sys", "proc/vmstat", "proc/meminfo", "proc/zoneinfo")
"""What of a recorded host is put in the place of the running one's."""
_BEGIN = """
import fcntl, json, os, signal, subprocess, sys, time
from pathlib import Path
code = "from hvo.cli.main import main; main()"
def begin(*words, **more):
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | more
    python = [sys.executable, "-X", "dev", "-W", "ignore"]
    return subprocess.Popen([*python, "-c", code, *words], **given)
def hvo(*words, **more):
    process = begin(*words, **more)
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err
def as_nobody(code):
    # forked: another user may not be able to read Python itself
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([]), os.setgid(65534), os.setuid(65534)
            exec(code, {"ready": lambda: os.write(theirs, b"r")})
        except OSError:
            os.write(theirs, b"x")
        finally:
            os._exit(0)
    assert os.read(ours, 1) == b"r", "refused"
    return child
"""


def inside(script: str, host: Path | None = None, binds: tuple[str, ...] = BINDS) -> None:
    """Run a Python script as root in a mount namespace with an empty `/run`, and with `host` in the
    place of the running one's files; fails as the script does.

    The script has `hvo(*words)` (status, out, err), `begin(*words)`, and `as_nobody(code)`, which
    waits until the code has called `ready()`, and gives the process.
    """
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("a mount namespace takes root, and unshare")
    mounts = ["mount -t tmpfs -o mode=755 tmpfs /run"]
    mounts += [f'mount --bind "{host / name}" "/{name}"' for name in binds if host is not None]
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(_BEGIN + script)
        file.flush()
        shell = " && ".join([*mounts, 'exec "$@"'])
        command = ["unshare", "--mount", "sh", "-c", shell, "sh", sys.executable, file.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if "unshare failed" in done.stderr or "permission denied" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
