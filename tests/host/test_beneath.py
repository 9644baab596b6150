"""No link leads out of a tree: links of every kind, for reads and writes, also while somebody
replaces directories by links; openat2(2) is the judge.
"""

import ctypes
import errno
import os
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvo.errors import HvoError
from hvo.host.beneath import Beneath
from hvo.host.tree import Tree

SECRET = "out of the tree"
_OPENAT2, _IN_ROOT = 437, 0x10
LINKS = {
    "absolute": "{outside}",
    "upwards": "../../../../../../../../../../../../{outside}",
    "through proc": "/proc/self/root{outside}",
    "a chain": "hop",
    "a descriptor": "/proc/self/fd/{fd}",
}


SWAP = """
import ctypes, select, sys
libc, names = ctypes.CDLL(None), [each.encode() for each in sys.argv[1:]]
while not select.select([0], [], [], 0)[0]:
    for _ in range(100):
        assert libc.renameat2(-100, names[0], -100, names[1], 2) == 0  # RENAME_EXCHANGE
"""


class _How(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


def by_the_kernel(root: int, name: str) -> int:
    """The inode of what openat2(RESOLVE_IN_ROOT) finds, or the negative error number."""
    libc = ctypes.CDLL(None, use_errno=True)
    how = _How(os.O_PATH | os.O_CLOEXEC, 0, _IN_ROOT)
    found = libc.syscall(_OPENAT2, root, name.encode(), ctypes.byref(how), ctypes.sizeof(how))
    if found < 0:
        return -ctypes.get_errno()
    try:
        return os.fstat(found).st_ino
    finally:
        os.close(found)


def by_the_walk(files: Beneath, name: str) -> int:
    """The same of what hvo finds."""
    try:
        return files.stat(name).st_ino
    except OSError as error:
        return -(error.errno or 0)


PARTS = st.sampled_from(["a", "b", "c", "..", "."])
PATHS = st.lists(PARTS, min_size=1, max_size=5).map("/".join)
TARGETS = st.tuples(st.sampled_from(["", "/", "/../", "../../"]), PATHS).map("".join)


@given(
    st.dictionaries(PATHS, st.one_of(st.none(), TARGETS), max_size=8), st.lists(PATHS, min_size=1)
)
def test_openat2_agrees(entries: dict[str, str | None], asked: list[str]):
    """Any tree of directories and links, and any path in it: the same file, or the same error."""
    with tempfile.TemporaryDirectory(prefix="hvo-") as name:
        root = Path(name) / "root"
        root.mkdir()
        for path, target in entries.items():
            place = root / os.path.normpath(f"/{path}").lstrip("/")
            try:
                place.mkdir() if target is None else place.symlink_to(target)
            except OSError:
                continue  # there is one already, or its directory is missing
        descriptor = os.open(root, os.O_PATH)
        try:
            if by_the_kernel(descriptor, ".") == -errno.ENOSYS:
                pytest.skip("this kernel has no openat2")
            files = Beneath(root)
            for path in asked:
                assert by_the_walk(files, path) == by_the_kernel(descriptor, path), path
        finally:
            os.close(descriptor)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """An empty tree, beside a file that is outside."""
    (tmp_path / "outside").write_text(SECRET)
    (tmp_path / "tree/proc").mkdir(parents=True)
    (tmp_path / "tree/etc").mkdir()
    return Tree(tmp_path / "tree")


@pytest.mark.parametrize("kind", LINKS)
def test_links_lead_nowhere(kind, tree, tmp_path):
    """The file and the directory itself may be links: nothing outside is read, written, replaced,
    removed or listed.
    """
    with (tmp_path / "outside").open() as opened:
        target = LINKS[kind].format(outside=tmp_path / "outside", fd=opened.fileno())
        (tree.root / "etc/hop").symlink_to(tmp_path / "outside")
        (tree.root / "etc/file").symlink_to(target)
        for use in (tree.read, lambda name: tree.write(name, "x"), tree.number):
            with pytest.raises(HvoError):
                use("/etc/file")
        assert not tree.exists("/etc/file")
        tree.replace("/etc/file", "mine")  # takes the place of the link itself
        (tree.root / "etc/.new.new").symlink_to(tmp_path / "outside")
        tree.replace("/etc/new", "mine")
        tree.remove("/etc/hop")
    assert (tmp_path / "outside").read_text() == SECRET
    assert (tree.root / "etc/new").read_text() == "mine"


def test_directories_that_are_links_outside(tree, tmp_path):
    """They are looked for, and made, in the tree."""
    (tmp_path / "away").mkdir()
    (tree.root / "run").symlink_to(tmp_path / "away")
    assert tree.names("/run") == []
    tree.replace("/run/hvo/note", "mine")
    with tree.lock("/run/hvo/lock"):
        assert list((tmp_path / "away").iterdir()) == []
    assert tree.read("/run/hvo/note") == "mine"


def test_links_within_a_tree_are_followed_as_in_a_chroot(tree, tmp_path):
    """An absolute link starts at the tree's root, and `..` ends there."""
    (tree.root / "proc/version").write_text("its own")
    (tree.root / "etc/absolute").symlink_to("/proc/version")
    (tree.root / "etc/upwards").symlink_to("../../../../proc/version")
    (tree.root / "etc/directory").symlink_to("/proc")
    for name in ("/etc/absolute", "/etc/upwards", "/etc/directory/version", "/../proc/version"):
        assert tree.read(name) == "its own"
    tree.write("/etc/absolute", "new")
    assert (tree.root / "proc/version").read_text() == "new\n"


def test_what_is_no_regular_file_is_not_opened(tree, tmp_path):
    """A FIFO does not block, a device is not touched, a file with another name is not written."""
    os.mkfifo(tree.root / "proc/fifo")
    os.link(tmp_path / "outside", tree.root / "proc/linked")
    with pytest.raises(HvoError, match="found a device, a pipe or a socket"):
        tree.read("/proc/fifo")
    with pytest.raises(HvoError, match="hard link"):
        tree.write("/proc/linked", "1")
    if os.geteuid() == 0:
        os.mknod(tree.root / "proc/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        with pytest.raises(HvoError, match="found a device"):
            tree.write("/proc/null", "1")
    assert (tmp_path / "outside").read_text() == SECRET


def test_directories_that_become_links_meanwhile(tree, tmp_path):
    """Somebody replaces a directory by a link that leads out, and back, as fast as can be: what is
    read is the tree's, what is written is in the tree.
    """
    (tmp_path / "away").mkdir()
    (tmp_path / "away/value").write_text(SECRET)
    (tree.root / "sys").mkdir()
    (tree.root / "sys/value").write_text("7")
    (tree.root / "link").symlink_to(tmp_path / "away")
    with subprocess.Popen(
        [sys.executable, "-c", SWAP, "sys", "link"], cwd=tree.root, stdin=subprocess.PIPE
    ) as attacker:
        seen = set[str]()
        for number in range(2000):
            seen.add(tree.read_or("/sys/value", ""))
            for use in (tree.write, tree.replace) if number % 3 == 0 else ():
                with suppress(HvoError):
                    use("/sys/value", "8")
        attacker.stdin.close()
    assert attacker.returncode == 0
    assert len(seen) > 1  # directory and link were both met
    assert seen - {"", "7", "8", "8\n"} == set()
    assert {path.name: path.read_text() for path in (tmp_path / "away").iterdir()} == {
        "value": SECRET
    }
