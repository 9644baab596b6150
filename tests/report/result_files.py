"""Which commands' results the tests make pages of, and how they call commands."""

from click.testing import CliRunner

from hvo.cli.main import main

COMMANDS = {
    "run": ("run", "--memory", "1GiB", "--pages", "300"),
    "scenario": ("run", "--memory", "1GiB", "--scenario", "pool.sh"),
    "audit": ("audit", "x86-6.12-on"),
    "defect": ("audit", "defect-x86-6.12.117-mixed"),
    "check": ("check", "5.14+split-lock-read", "5.14+split-lock-read+split-recheck", "--arch", "x86_64", "--hazard", "H04"),
    "proposals": ("check", "--arm64-proposals"),
    "plan": ("plan", "--memory", "1TiB", "--pool", "1GiB=600GiB", "--pool", "2MiB=1000"),
    "comparison": ("plan", "--memory", "1TiB", "--pool", "2MiB=512GiB", "--compare", "arch,page-size,hugepage-size"),
}
"""The commands whose results are looked at; the second word of an audit is the name of a core."""
FLEET = {
    "hosts": 3, "paid": 51539607552, "saved": 15032385536, "possible": 14 << 30, "impossible": 1 << 30, "rejected": 1,
    "by": {"group": [
        {"group": "web", "hosts": 2, "saved": 15032385536, "possible": 0, "impossible": 1 << 30},
        {"group": "db", "hosts": 1, "saved": 0, "possible": 14 << 30, "impossible": 0},
    ]},
    "command": "hvo fleet inventory.parquet --json",
}  # fmt: skip
"""What the page takes a fleet's result to be like."""


def hvo(*arguments: object):
    """The outcome of the command, in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])
