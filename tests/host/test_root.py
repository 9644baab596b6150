"""`--root TREE` never reaches the running host: what a hostile tree would have commands read,
write, execute or map is outside, and stays as it is.
"""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from forked import Ended, forked
from host_trees import GIB, MIB, Host, NodePool
from namespaces import inside

from hvo.cli.main import main
from shared_files import SHARED, need

SECRET = "4711"
COMMANDS = {
    "status": [],
    "enable": ["--persist"],
    "disable": [],
    "resize": ["2MiB=12"],
    "convert": [],
    "bench-host": ["--pages", "1", "--rounds", "1"],
    "watch": ["--json"],
    "export": ["--textfile", "{place}/hvo.prom"],
}
FILES = (
    "proc/vmstat",
    "proc/meminfo",
    "proc/zoneinfo",
    "proc/version",
    "proc/cmdline",
    "proc/config.gz",
    "proc/sys/vm/hugetlb_optimize_vmemmap",
    "proc/sys/kernel/osrelease",
    "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
    "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
    "sys/devices/system/memory/block_size_bytes",
    "run/hvo/lock",
    "run/hvo/convert.json",
    "run/hvo/converted-2048kB.json",
    "run/hvo/.convert.json.new",
    "etc/sysctl.d/00-hvo.conf",
    "etc/sysctl.d/.00-hvo.conf.new",
)
DIRECTORIES = ("run/hvo", "run", "etc", "etc/sysctl.d", "proc/sys", "sys", "sys/kernel/mm")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A recorded host in `tree`, and a directory `outside` with a file for every purpose."""
    host = Host(pools={2 * MIB: {0: NodePool(10, 10)}, GIB: {0: NodePool()}}, sections=16)
    host.memmap = (0, 16 * 512)
    host.write(tmp_path / "tree")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text(f"{SECRET}\n")
    return tmp_path


def outside(place: Path) -> dict[str, tuple[str, int]]:
    """Everything that is outside: text and mode."""
    return {
        str(path): (path.read_text(), path.stat().st_mode)
        for path in (place / "outside").rglob("*")
        if path.is_file()
    }


def all_commands(place: Path) -> list[Ended]:
    """Every host command on the tree."""
    cases = [
        ([name, *(word.format(place=place) for word in words), "--root", place / "tree"], "file")
        for name, words in COMMANDS.items()
    ]
    return forked(cases, *COMMANDS)


@pytest.mark.parametrize("upwards", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_a_link(name, upwards, place):
    """Absolute, or by `..`: nothing outside is read or written by any command, and none ends in a
    traceback.
    """
    link = place / "tree" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    target = place / "outside/file"
    link.symlink_to(f"{'../' * 20}{str(target).lstrip('/')}" if upwards else target)
    before = outside(place)
    for ended in all_commands(place):
        assert SECRET not in ended.out + ended.err
        assert ended.status in (0, 1, 2)
        assert "Traceback" not in ended.err
    assert outside(place) == before


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_directory_that_is_a_link(name, place):
    """What is looked for, made or written there is in the tree."""
    old = place / "tree" / name
    (place / "outside/there").mkdir()
    if old.exists():
        old.rename(place / "outside/there/was")
    old.parent.mkdir(parents=True, exist_ok=True)
    target = place / "outside/there/was"
    target.mkdir(exist_ok=True)
    old.symlink_to(target)
    before = outside(place)
    assert all("Traceback" not in ended.err for ended in all_commands(place))
    assert outside(place) == before


def test_the_tools_of_a_tree_are_not_executed(place):
    """A tree whose update-grub would write a file outside, as root: not executed, one line, 2, and
    nothing of it done.
    """
    tree = place / "tree"
    (tree / "etc/default/grub.d").mkdir(parents=True)
    for name in ("update-grub", "grubby"):
        for found in (tree / "usr/sbin").glob("*") if (tree / "usr").exists() else ():
            found.unlink()
        tool = tree / "usr/sbin" / name
        tool.parent.mkdir(parents=True, exist_ok=True)
        tool.write_text(f"#!/bin/sh\necho written > {place}/outside/grub.cfg\n")
        tool.chmod(0o755)
        before = outside(place), files(tree)
        for command in ("enable", "disable"):
            words = [command, "--boot", "--persist", "--root", str(tree)]
            found = CliRunner().invoke(main, words)
            assert (found.exit_code, found.stdout, found.stderr.count("\n")) == (2, "", 1)
            assert f"--boot needs to execute /usr/sbin/{name}" in found.stderr
            assert CliRunner().invoke(main, [*words, "--dry-run"]).exit_code == 0
        assert (outside(place), files(tree)) == before


def files(tree: Path) -> dict[str, bytes]:
    """Every file of a tree."""
    return {str(path): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def test_no_memory_is_mapped_for_a_tree(place):
    """A conversion says what it would need, with 2, and changes nothing; also one that was
    interrupted.
    """
    tree = place / "tree"
    before = files(tree)
    for words in ([], ["--resume"]):
        if words:
            (tree / "run/hvo").mkdir(parents=True, exist_ok=True)
            journal = {"boot_id": "b0", "size": 2 * MIB, "batch": 2, "gigantic": False}
            promise = {"node": 0, "pages": 10, "out": 0}
            text = json.dumps({**journal, "force": False, "promises": [promise]})
            (tree / "run/hvo/convert.json").write_text(text)
            before = files(tree)
        found = CliRunner().invoke(main, ["convert", *words, "--root", str(tree)])
        assert (found.exit_code, found.stderr.count("\n")) == (2, 1), found.stderr
        assert "maps HugeTLB pages of the running kernel" in found.stderr
        assert files(tree) == before


def test_the_memory_that_runs_here_is_not_that_of_a_tree(place):
    """`--audit live` beside a tree is refused, and not advised."""
    for command in ("status", "watch"):
        words = [command, "--json", "--audit", "live", "--root", str(place / "tree")]
        found = CliRunner().invoke(main, words)
        assert found.exit_code == 2
        assert "reads the memory of the running kernel" in found.stderr


@pytest.mark.parametrize("spelled", ["/", "//", "/.", "/proc/..", "/proc/self/root", "."])
def test_what_is_the_running_host(spelled, monkeypatch):
    """A way to write `/` is; a link or a magic link that leads there is not."""
    from hvo.host.tree import Tree

    monkeypatch.chdir("/")
    assert Tree(Path(spelled)).running == (spelled != "/proc/self/root")


def test_a_masked_sys_is_said_for_what_it_is(place):
    """Containers put an empty directory over sysfs or parts of it: that is not a host without
    pools. Real mounts, on `/`.
    """
    script = f"""
import urllib.request
empty = "{place}/outside/empty"
os.mkdir(empty)
for masked in ("/sys", "/sys/kernel", "/sys/kernel/mm", "/sys/kernel/mm/hugepages"):
    subprocess.run(["mount", "--bind", empty, masked], check=True)
    for words in (["status"], ["status", "--json"], ["resize", "2MiB=1", "--dry-run"],
                  ["convert", "--dry-run"], ["bench-host", "--dry-run"], ["watch", "--json"]):
        status, out, err = hvo(*words)
        assert (status, err.count("\\n")) == (2, 1), (masked, words, status, err)
        assert "HugeTLB pools cannot be seen" in err, (masked, words, err)
        assert "no HugeTLB pools" not in out
    exporter = begin("export", "--listen", "127.0.0.1:0", "--json")
    url = json.loads(exporter.stdout.readline())["url"]
    text = urllib.request.urlopen(url, timeout=60).read().decode()
    assert "hvo_scrape_success 0.0" in text and "hvo_hugetlb_pages" not in text
    exporter.terminate()
    exporter.wait()
    subprocess.run(["umount", masked], check=True)
assert hvo("status")[0] == 0
"""
    inside(script, place / "tree", ("proc/meminfo",))


def test_a_kernel_without_hugetlb_has_no_pools(place):
    """sysfs is there, the kernel has no such pages, and says so."""
    tree = place / "tree"
    host = Host(pools={}, gate=None, options=("SPARSEMEM_VMEMMAP",))
    assert host.pools == {}
    for path in sorted((tree / "sys/kernel/mm").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    meminfo = tree / "proc/meminfo"
    found = CliRunner().invoke(main, ["status", "--root", str(tree)])
    assert found.exit_code == 2
    assert "cannot be seen" in found.stderr
    lines = meminfo.read_text().splitlines(keepends=True)
    meminfo.write_text("".join(line for line in lines if "Hugepagesize" not in line))
    found = CliRunner().invoke(main, ["status", "--root", str(tree)])
    assert found.exit_code == 0, found.stderr
    assert "no HugeTLB pools" in found.stdout


def test_a_container_whose_kcore_is_empty(tmp_path):
    """Nothing is advised that cannot be done there."""
    text = need(SHARED / "reports/container-kcore.tree").read_text()
    for part in text.split("=== ")[1:]:
        name, _, body = part.partition("\n")
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
    found = CliRunner().invoke(main, ["status", "--root", str(tmp_path)])
    assert found.exit_code == 0
    assert "--audit live" not in found.stdout


def test_names_cannot_control_a_terminal(place):
    """Host name, release, reason and boot parameters with control characters: in text and errors
    they are escaped, in JSON by its own rules.
    """
    tree = place / "tree"
    evil = "e\x1b[2J\x07\x9b31m\u202e\u2028v"
    (tree / "proc/sys/kernel/hostname").write_text(evil)
    (tree / "proc/cmdline").write_text(f"quiet hugetlb_free_vmemmap={evil}")
    os.rename(tree, place / f"tree{evil}")
    cases = [([name, "--root", place / f"tree{evil}"], "file") for name in ("status", "enable")]
    cases += [(["resize", "2MiB=999999999", "--root", place / f"tree{evil}"], "file")]
    cases += [(["status", "--root", place / f"none{evil}"], "file")]
    cases += [(["status", "--json", "--root", place / f"tree{evil}"], "file")]
    found = forked(cases, "status", "enable", "resize")
    for ended in found:
        for text in (ended.out, ended.err):
            assert not [c for c in text if not c.isprintable() and c != "\n"], ended
    assert "\\x1b[2J\\x07\\x9b31m\\u202e\\u2028v" in found[0].out
    assert "\\x1b[2J" in found[3].err
    assert json.loads(found[4].out)["host"] == evil
