"""`hvo watch`: pools, counters and the saving of this host, live on a terminal."""

import sys
from pathlib import Path

import click

from hvo.cli.extras import needs
from hvo.cli.host_options import host_options
from hvo.cli.output import print_json
from hvo.errors import HvoError

_LIVE = "live"


@click.command("watch")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds between updates.",
)
@click.option(
    "--audit",
    metavar="TARGET",
    help="Memory to read the vmemmap map from: `live` (the default on this host) or a core.",
)
@host_options
def command(interval: float, audit: str | None, root: Path, json: bool) -> None:
    """Watch the HugeTLB pools of this host, the kernel's counters, the savings over time, and the
    map of the vmemmap.

    Reads only; the map needs root and /proc/kcore. q or Ctrl-C quits, r refreshes. NO_COLOR turns
    colours off. --json prints the current values and exits.
    """
    from hvo.host.tree import Tree
    from hvo.host.watching import Watcher, read_map

    tree = Tree(root)
    if audit == _LIVE:
        tree.require_running("--audit live reads the memory of the running kernel")
    watcher = Watcher(tree)
    target = audit or (_LIVE if tree.running else None)
    if json:
        print_json({"status": watcher.look().to_json(), "vmemmap": read_map(target).to_json()})
        return
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise HvoError(
            "watch: expected a terminal; hvo status prints the same once, hvo watch --json as an"
            " object"
        )
    with needs("watch", "textual"):
        from hvo.report.watch import WatchApp
    watcher.look()  # a host that cannot be read is an error before the screen is taken
    watcher.history.clear()
    WatchApp(watcher, interval, target).run()
