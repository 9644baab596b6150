"""A disk for a guest with a Python, this project and what they need: a guest has nothing but
busybox, and no network.

The Python is this one, and everything of it has the path that it has here; or, for another
architecture, Debian's. Packages are in /packages. `/bin/python` and `/bin/hvo` are scripts.
"""

import compileall
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from py_compile import PycInvalidationMode
from tempfile import TemporaryDirectory

from kernels.installed import tool

_PROJECT = Path(__file__).resolve().parents[2]
_LEFT_OUT = shutil.ignore_patterns(
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "pydoc_data",
    "config-*",
    "_tkinter*",
    "*_test*.so",
    "*.opt-1.pyc",
    "*.opt-2.pyc",
    "*.a",
)
_LEFT_OUT_FOREIGN = shutil.ignore_patterns(
    "test", "tests", "gconv", "doc", "man", "locale", "lib2to3", "config-*", "*.a"
)
_SCRIPT = (
    "#!/bin/busybox sh\nexport PYTHONPATH=/packages PYTHONDONTWRITEBYTECODE=1 HOME=/tmp\nexec /{}"
    ' {} "$@"\n'
)
_SPARE = 16 << 20
"""Bytes of an image beyond its files: inodes, tables, and what is lost at the ends of files."""


def build_image(image: Path, busybox: Path) -> Path:
    """Make the file `image`, an ext4 file system to be mounted read-only, for guests of this
    machine's architecture.
    """
    with TemporaryDirectory() as name:
        root = Path(name)
        _make_mount_points(root)
        shutil.copy(busybox, root / "bin/busybox")
        _copy_interpreter(root)
        _copy_packages(root / "packages")
        _copy_libraries(root)
        _write_filesystem(root, image)
    return image


def build_foreign_image(image: Path, userland: Path, options: list[Path]) -> Path:
    """The same for another architecture: `userland` is a tree with its busybox, Debian's Python and
    libraries; packages with compiled code are left out. The files `options`, `config-*` of kernels,
    are in its /boot.
    """
    with TemporaryDirectory() as name:
        root = Path(name)
        shutil.copytree(userland, root, symlinks=True, dirs_exist_ok=True, ignore=_LEFT_OUT_FOREIGN)
        _make_mount_points(root)
        (root / "boot").mkdir()
        for file in options:
            shutil.copy(file, root / "boot")
        _copy_packages(root / "packages", compiled=False)
        _precompile(root / "usr/lib")
        _scripts(root, next((root / "usr/bin").glob("python3.*")).relative_to(root))
        _write_filesystem(root, image)
    return image


def _make_mount_points(root: Path) -> None:
    for directory in ("bin", "proc", "sys", "dev", "tmp", "run", "packages"):
        (root / directory).mkdir(exist_ok=True)


def _copy_interpreter(root: Path) -> None:
    python = Path(sys.executable).resolve()
    _copy(python, root)
    library = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(library, _inside(root, library), ignore=_LEFT_OUT)
    _scripts(root, python.relative_to("/"))


def _scripts(root: Path, python: Path) -> None:
    """`/bin/python` and `/bin/hvo`, for an interpreter that is at `/python` in the guest."""
    for name, arguments in (("python", ""), ("hvo", "-c 'from hvo.cli.main import main; main()'")):
        script = root / "bin" / name
        script.write_text(_SCRIPT.format(python, arguments))
        script.chmod(0o755)


def _copy_packages(packages: Path, *, compiled: bool = True) -> None:
    """This project and the packages that it needs; without those that have `compiled` code on
    request.
    """
    shutil.copytree(
        _PROJECT / "src/hvo", packages / "hvo", ignore=shutil.ignore_patterns("__pycache__")
    )
    _precompile(packages / "hvo")
    for distribution in _required("hvo", set()):
        files = distribution.files or []
        for file in files if compiled or not any(file.suffix == ".so" for file in files) else []:
            source = Path(str(distribution.locate_file(file)))
            if ".." not in file.parts and "tests" not in file.parts and source.exists():
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, packages / file)


def _precompile(directory: Path) -> None:
    """Emulated guests take seconds to compile what they import, every time: they cannot write to
    the disk.
    """
    compileall.compile_dir(directory, quiet=2, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)


def _required(name: str, seen: set[str]) -> Iterator[metadata.Distribution]:
    """The distributions that the one called `name` needs when it runs, and those that they need."""
    for line in metadata.requires(name) or ():
        needed = re.match(r"[\w.-]+", line)
        if needed is None or "extra ==" in line or needed[0] in seen:
            continue
        seen.add(needed[0])
        try:
            yield metadata.distribution(needed[0])
        except (
            metadata.PackageNotFoundError
        ):  # needed elsewhere, on another system or by another Python
            continue
        yield from _required(needed[0], seen)


def _copy_libraries(root: Path) -> None:
    """The shared libraries that what is in `root` is linked with; `ldd` looks for them as the
    loader of the guest will.
    """
    files = [path for path in root.rglob("*") if path.is_file() and ".so" in path.name]
    for library in sorted(_linked([Path(sys.executable).resolve(), *files])):
        if root not in library.parents and not _inside(root, library).exists():
            _copy(library, root)
    cache = Path("/etc/ld.so.cache")
    if cache.exists():
        _copy(cache, root)


def _linked(files: Iterable[Path]) -> set[Path]:
    told = subprocess.run(
        ["ldd", *map(str, files)], capture_output=True, text=True, check=False
    ).stdout
    return {Path(path) for path in re.findall(r"^\t(?:\S+ => )?(/\S+) \(", told, re.MULTILINE)}


def _copy(path: Path, root: Path) -> None:
    _inside(root, path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, _inside(root, path))


def _inside(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _write_filesystem(root: Path, image: Path) -> None:
    block = 4096
    used = sum(-(-path.lstat().st_size // block) * block for path in root.rglob("*"))
    blocks = (used + used // 16 + _SPARE) // block
    command = [
        tool("mke2fs"),
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        str(block),
        "-O",
        "^has_journal",
        "-m",
        "0",
        "-d",
        str(root),
    ]
    subprocess.run([*command, str(image), str(blocks)], check=True, capture_output=True)
