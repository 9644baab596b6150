"""`hvo fleet`: what struct pages cost a fleet of hosts, and which one action gains most."""

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hvo.cli.extras import needs
from hvo.cli.options import TARGET
from hvo.cli.output import complain, error_object, note_made, print_json, say
from hvo.safe_text import mask_address

if TYPE_CHECKING:
    from hvo.fleet.answer import Answer
    from hvo.fleet.collect import Refused

_DEFAULT = "answer"


class Fleet(click.Group):
    """A group in which the name of an inventory stands for the command that answers about it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Call `answer` where no command is named."""
        if not args:
            raise click.UsageError(
                "give an inventory, such as fleet.parquet, or a command: collect, generate", ctx
            )
        known = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if args[0] in known else [_DEFAULT, *args])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """As it is mostly called."""
        return ["[OPTIONS] INVENTORY | COMMAND [ARGS]..."]


@click.group("fleet", cls=Fleet)
def command() -> None:
    """Report what struct pages cost a fleet of hosts, what is saved, what could be saved, and which
    action gains most.

    INVENTORY is Parquet (a file, a directory or a pattern), CSV, JSON lines, DuckDB, or the URL of
    a database, with one row for each host or each of its pools; docs/inventory.md has the columns.
    `hvo fleet INVENTORY` is short for `hvo fleet answer INVENTORY`.
    """


@command.command(_DEFAULT)
@click.argument("inventory")
@click.option(
    "--engine",
    default="duckdb",
    show_default=True,
    help="duckdb, spark (local), or a Spark master such as spark://host:7077.",
)
@click.option("--table", help="Table to read, if a database has several.")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Rows per list; the rest is summed up.",
)
@click.option(
    "--rejects",
    type=TARGET,
    metavar="FILE",
    help="Write rejected rows with line and reason to this .csv or .parquet file.",
)
@click.option("--json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def answer(
    ctx: click.Context,
    inventory: str,
    engine: str,
    table: str | None,
    top: int,
    rejects: Path | None,
    json: bool,
) -> None:
    """Report cost, savings, possible and impossible savings of the fleet in INVENTORY, and which
    action gains most.

    Invalid rows are counted and left out; the exit status is then 1.
    """
    begun = time.perf_counter()
    found = _answer(inventory, engine, table, top, rejects)
    about = {"inventory": mask_address(inventory), "engine": mask_address(engine)}
    if json:
        print_json(about | found.to_json() | {"seconds": time.perf_counter() - begun})
    else:
        from hvo.report.fleet import print_fleet

        print_fleet(found.to_json())
    if found.rejected:
        where = f"see {rejects}" if rejects else "--rejects FILE writes them down"
        complain(f"hvo fleet: {found.rejected} of {found.rows} rows rejected: {where}")
    ctx.exit(1 if found.rejected else 0)


def _answer(
    inventory: str, name: str, table: str | None, most: int, rejected: Path | None
) -> "Answer":
    with needs("fleet", "ibis"), needs("fleet", "duckdb"), needs("fleet", "prometheus_client"):
        from hvo.fleet.answer import answer
        from hvo.fleet.engines import engine
        from hvo.fleet.rejects import write_rejects
        from hvo.fleet.sources import open_inventory
    from hvo.report.progress import progress

    with progress() as phase, tempfile.TemporaryDirectory(prefix="hvo-fleet-") as scratch:
        phase("starting the engine")
        with needs("fleet --engine spark", "pyspark", "spark"), engine(name) as opened:
            phase("reading the inventory")
            found, tally = answer(
                opened,
                open_inventory(inventory, table, opened, Path(scratch)),
                mask_address(inventory),
                most,
                phase,
            )
            if rejected is not None:
                write_rejects(opened, tally, rejected)
                note_made(f"{rejected} is written")
            return found


@command.command("collect")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=TARGET,
    required=True,
    metavar="FILE",
    help="Inventory to write: .csv or .parquet.",
)
@click.option("--group", help="Group of hosts that name none.")
@click.option("--json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def collect(
    ctx: click.Context, files: tuple[Path, ...], output: Path, group: str | None, json: bool
) -> None:
    """Make an inventory of the output of hosts.

    FILES are output of `hvo status --json` (.json) and metrics of `hvo export` (.prom, .txt; the
    host is the label `instance` or the file name), or directories of such files. Unusable files are
    reported, and the exit status is then 1; it is 2, and OUTPUT is not touched, if no host is left.
    """
    with needs("fleet", "ibis"), needs("fleet", "prometheus_client"):
        from hvo.fleet.collect import collect_files, inventory, write_inventory

    rows, refused = collect_files(files)
    found: dict[str, object] = {
        "output": str(output),
        "files": len(files),
        "rows": len(rows),
        "refused": [
            {"file": mask_address(each.file), "reason": mask_address(each.reason)}
            for each in refused
        ],
    }
    if not rows:
        ctx.exit(_nothing_collected(found, refused, json))
    write_inventory(inventory(rows, group), output)
    note_made(f"{output} is written")
    if json:
        print_json(found)
    else:
        say([f"{len(rows)} rows of {len(files) - len(refused)} files written to {output}"])
    for each in refused:
        complain(f"hvo fleet collect: {each.file}: {each.reason}")
    ctx.exit(1 if refused else 0)


def _nothing_collected(found: dict[str, object], refused: "list[Refused]", json: bool) -> int:
    """An inventory is never replaced by an empty one: say why there is none, and exit 2."""
    more = f" (and {len(refused) - 1} more, --json names them)" if len(refused) > 1 else ""
    why = f"{refused[0].file}: {refused[0].reason}{more}" if refused else "no file to read"
    message = f"hvo fleet collect: no host, so {found['output']} is left as it is: {why}"
    if json:
        print_json({**found, "error": error_object(message, "input")})
    complain(message)
    return 2


@command.command("generate")
@click.option("--hosts", type=click.IntRange(1, 99_999_999), required=True, help="Number of hosts.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the random generator.",
)
@click.option(
    "-o", "--output", type=TARGET, required=True, metavar="FILE", help="Parquet file to write."
)
@click.option("--json", is_flag=True, help="Print one JSON object instead of text.")
def generate(hosts: int, seed: int, output: Path, json: bool) -> None:
    """Write the inventory of a synthetic fleet."""
    with needs("fleet", "ibis"):
        from hvo.fleet.synthetic import write_fleet
    from hvo.report.progress import progress

    with progress() as phase:
        phase("writing")
        rows = write_fleet(hosts, seed, output)
    note_made(f"{output} is written")
    found = {"output": str(output), "hosts": hosts, "seed": seed, "rows": rows}
    print_json(found) if json else say([f"{rows} rows of {hosts} hosts written to {output}"])
