"""`hvo report`: results of other commands as one page for a browser."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hvo.cli.extras import needs
from hvo.cli.options import TARGET
from hvo.cli.output import print_json, write_page
from hvo.errors import HvoError

if TYPE_CHECKING:
    from hvo.report.record import Record

_STDIN = "-"


@click.command("report")
@click.argument("results", metavar="RESULT.json...", nargs=-1, required=True)
@click.option("-o", "--output", type=TARGET, help="HTML file to write.")
@click.option(
    "--json",
    is_flag=True,
    help="Print one JSON object with the results, including those that a page holds.",
)
@click.pass_context
def command(ctx: click.Context, results: tuple[str, ...], output: Path | None, json: bool) -> None:
    """Make one self-contained HTML page of the JSON output of hvo run, audit, check, plan or fleet.

    RESULT is a file, a page that hvo report made, or - for standard input; each becomes a section.
    Exits 0 if the page was written, whatever the results say, and 2 if a result cannot be read.
    """
    if output is None and not json:
        raise click.UsageError("give the page to write with -o FILE, or --json", ctx)
    from hvo.report.results import read_results

    found = [
        record for name in dict.fromkeys(results) for record in read_results(_text(name), name)
    ]
    if output is not None:
        write_page(output, _page(found))
    if json:
        print_json({"page": output and str(output), "reports": [record.values for record in found]})


def _text(name: str) -> str:
    """What the file holds, or standard input."""
    try:
        data = sys.stdin.buffer.read() if name == _STDIN else Path(name).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise HvoError(
            f"cannot read {name}: {error.strerror}; give a file that a command's --json was"
            " written to"
        ) from error
    except ValueError as error:
        raise HvoError(
            f"{name}: no text in UTF-8: expected what a command printed with --json"
        ) from error


def _page(found: "list[Record]") -> str:
    with needs("report", "altair"), needs("report", "vl_convert"):
        from hvo.report.page import page

        return page(found)
