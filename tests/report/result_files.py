"""Which commands' results the tests make pages of, and how they call commands."""

from click.testing import CliRunner

from hvo.cli.main import main

COMMANDS = {
    "run": ("run", "--memory", "1GiB", "--pages", "300"),
    "scenario": ("run", "--memory", "1GiB", "--scenario", "pool.sh"),
    "audit": ("audit", "x86-6.12-on"),
    "defect": ("audit", "defect-x86-6.12.117-mixed"),
    "check": (
        "check",
        "5.14+split-lock-read",
        "5.14+split-lock-read+split-recheck",
        "--arch",
        "x86_64",
        "--hazard",
        "H04",
    ),
    "proposals": ("check", "--arm64-proposals"),
    "plan": ("plan", "--memory", "1TiB", "--pool", "1GiB=600GiB", "--pool", "2MiB=1000"),
    "fleet": ("fleet", "inventory.csv"),
    "comparison": (
        "plan",
        "--memory",
        "1TiB",
        "--pool",
        "2MiB=512GiB",
        "--compare",
        "arch,page-size,hugepage-size",
    ),
}
"""The commands whose results are looked at; the second word of an audit is the name of a core,
other files are made beside the results.
"""
INVENTORY = """\
host,group,arch,kernel,page_size,memory,hugepage_size,pages,gate,optimized
web-1,web,x86_64,6.12.94+deb13-amd64,4KiB,1TiB,2MiB,524288,on,524288
web-2,web,arm64,6.8.0-45-generic,4KiB,128GiB,2MiB,32768,,0
db-1,db,x86_64,6.18.44,4KiB,1TiB,2MiB,524288,off,0
db-2,db,x86_64,6.18.44,4KiB,1GiB,2MiB,524288,off,0
"""
"""A fleet: one host that saves all it can, one that cannot, one that could; the last row cannot be
right.
"""


def hvo(*arguments: object):
    """The outcome of the command, in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])
