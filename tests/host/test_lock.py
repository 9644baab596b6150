"""The lock of the commands that change pools: root's alone, and whoever holds it is named."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from host_trees import MIB, Host, NodePool
from namespaces import inside

from hvo.errors import HvoError
from hvo.host.journal import LOCK
from hvo.host.resize import resize
from hvo.host.tree import Tree

SIZE = 2 * MIB
RESIZE = '("resize", "2MiB=10")'
HOLD = """
import fcntl, os, time
file = os.open("/run/hvo/lock", os.O_RDONLY)
fcntl.flock(file, fcntl.LOCK_EX)
ready()
time.sleep(100)
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A recorded host with 10 pages, which are there already."""
    Host(pools={SIZE: {0: NodePool(10, 10)}}, sections=16, memmap=(0, 16 * 512)).write(tmp_path)
    return tmp_path


def modes(root: Path) -> list[int]:
    """The modes of the directory and the lock."""
    return [
        stat.S_IMODE((root / name).stat(follow_symlinks=False).st_mode)
        for name in ("run/hvo", "run/hvo/lock")
    ]


def test_only_root_can_enter_and_open(host):
    """Whatever the umask, and also where 0.1.0 has left its own."""
    old = os.umask(0)
    try:
        assert resize(Tree(host), SIZE, 10).ok
        assert modes(host) == [0o700, 0o600]
        (host / "run/hvo").chmod(0o777)
        (host / "run/hvo/lock").chmod(0o666)
        assert resize(Tree(host), SIZE, 10).ok
    finally:
        os.umask(old)
    assert modes(host) == [0o700, 0o600]


def test_another_user_blocks_nobody(host):
    """Somebody has the lock of 0.1.0 open and holds it: root goes on with a lock of its own, and
    nobody can open that one.
    """
    script = f"""
Path("/run/hvo").mkdir(mode=0o755)
Path("/run/hvo/lock").touch(mode=0o644)
holder = as_nobody({HOLD!r})
status, out, err = hvo{RESIZE}
assert (status, err) == (0, ""), (status, out, err)
assert os.waitpid(holder, os.WNOHANG) == (0, 0)
assert os.stat("/run/hvo").st_mode & 0o777 == 0o700
assert os.stat("/run/hvo/lock").st_mode & 0o777 == 0o600
assert os.listdir("/run/hvo") == ["lock"]
os.kill(holder, signal.SIGKILL)
try:
    as_nobody({HOLD!r})
except AssertionError:
    pass
else:
    raise SystemExit("nobody has opened the lock")
"""
    inside(script, host)


def test_a_directory_of_another_user_is_taken_over(host):
    """Also one that another user made and holds a lock in; a journal of theirs is not obeyed."""
    script = f"""
Path("/run/hvo").mkdir(mode=0o777)
os.chmod("/run/hvo", 0o777)
make = 'open("/run/hvo/lock", "w").close(); open("/run/hvo/convert.json", "w").write("{{}}")'
holder = as_nobody(make + {HOLD!r})
status, out, err = hvo{RESIZE}
assert (status, err.count("\\n")) == (2, 1), (status, err)
assert "/run/hvo/convert.json: it belongs to user nobody" in err, err
os.unlink("/run/hvo/convert.json")
os.chown("/run/hvo", 65534, 65534)
status, out, err = hvo{RESIZE}
assert (status, err) == (0, ""), (status, err)
found = os.stat("/run/hvo")
assert (found.st_uid, found.st_mode & 0o777) == (0, 0o700)
assert os.stat("/run/hvo/lock").st_uid == 0
os.kill(holder, signal.SIGKILL)
"""
    inside(script, host)


def test_a_holder_is_named_and_a_killed_one_holds_nothing(host):
    """Process, command and user; after `kill -9` the file stays and is no lock."""
    script = f"""
hold = '''
import sys, time
sys.argv[0] = "hvo"
from pathlib import Path
from hvo.host.tree import Tree
with Tree(Path("/")).lock("/run/hvo/lock"):
    print("ready", flush=True)
    time.sleep(100)
'''
holder = subprocess.Popen([sys.executable, "-c", hold, "postgresql://u:hidden@h"],
                          stdout=subprocess.PIPE, text=True)
assert holder.stdout.readline() == "ready\\n"
status, out, err = hvo{RESIZE}
assert (status, err.count("\\n")) == (2, 1), (status, err)
assert f"/run/hvo/lock: held by process {{holder.pid}} (" in err, err
assert "of user root: another hvo is changing the pools" in err, err
assert "hidden" not in err
holder.kill()
holder.wait()
assert Path("/run/hvo/lock").exists()
assert hvo{RESIZE}[0] == 0
"""
    inside(script, host)


def test_a_holder_that_cannot_be_seen_is_named_by_the_file(host):
    """In a tree no process is looked for."""
    hold = """
import sys, time
from pathlib import Path
from hvo.host.tree import Tree
with Tree(Path(sys.argv[1])).lock("/run/hvo/lock"):
    print("ready", flush=True)
    time.sleep(100)
"""
    with subprocess.Popen(
        [sys.executable, "-c", hold, host], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(HvoError, match=rf"held by process {holder.pid} \(.*\) of user"):
            resize(Tree(host), SIZE, 10)
        holder.kill()


@pytest.mark.parametrize("what", ["link", "dangling link", "directory", "fifo", "second name"])
def test_a_lock_that_is_something_else_is_named(what, host, tmp_path):
    """Nothing is followed, opened for good, or changed."""
    outside = tmp_path / "outside"
    outside.write_text("theirs")
    outside.chmod(0o644)
    lock = host / "run/hvo/lock"
    lock.parent.mkdir(parents=True)
    {
        "link": lambda: lock.symlink_to(outside),
        "dangling link": lambda: lock.symlink_to(tmp_path / "missing"),
        "directory": lock.mkdir,
        "fifo": lambda: os.mkfifo(lock),
        "second name": lambda: os.link(outside, lock),
    }[what]()
    with pytest.raises(HvoError, match="run/hvo/lock: expected a file of hvo's own"):
        resize(Tree(host), SIZE, 10)
    assert (outside.read_text(), stat.S_IMODE(outside.stat().st_mode)) == ("theirs", 0o644)
    assert not (tmp_path / "missing").exists()


def test_a_full_run_is_one_line(host, monkeypatch):
    """What cannot be made is said with its name."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hvo.host.lock._secure_directory", full)
    refused = pytest.raises(HvoError, match=r"cannot write .*run/hvo/lock: No space left")
    with refused, Tree(host).lock(LOCK):
        pass
