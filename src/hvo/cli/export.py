"""`hvo export`: the state of this host as Prometheus metrics."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hvo.cli.extras import needs
from hvo.cli.host_options import host_options
from hvo.cli.output import complain, delivered, note_made, print_json, say

if TYPE_CHECKING:
    from hvo.host.metrics import Reader
    from hvo.report.metrics_http import Address


class Listen(click.ParamType):  # pyright: ignore[reportMissingTypeArgument] - generic since click 8.4
    """An address such as `127.0.0.1:9750` or `[::1]:9750`; its value is a host and a port."""

    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Host and port, or a usage error that says what an address is."""
        if isinstance(value, tuple):
            return value  # pyright: ignore[reportUnknownVariableType] - click converts a default twice
        host, _, port = value.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF:
            self.fail(
                f"{value!r}: expected HOST:PORT, such as 127.0.0.1:9750 or [::1]:9750", param, ctx
            )
        return host.removeprefix("[").removesuffix("]"), int(port)


@click.command("export")
@click.option(
    "--listen",
    type=Listen(),
    default="127.0.0.1:9750",
    show_default=True,
    help="Serve over HTTP at this address and port.",
)
@click.option(
    "--textfile",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.prom",
    help="Write this file for node_exporter and exit.",
)
@host_options
@click.pass_context
def command(
    ctx: click.Context, listen: tuple[str, int], textfile: Path | None, root: Path, json: bool
) -> None:
    """Export the state of this host as Prometheus metrics.

    Serves HTTP until SIGTERM or Ctrl-C, or writes one file for node_exporter's textfile collector.
    If something cannot be read, hvo_scrape_success is 0. Needs no privilege. docs/metrics.md
    describes every metric. --json prints where the metrics are.
    """
    with needs("export", "prometheus_client"):
        from hvo.report.metrics_http import Address
    from hvo.host.metrics import Reader
    from hvo.host.tree import Tree

    if (
        textfile is not None
        and ctx.get_parameter_source("listen") is not click.core.ParameterSource.DEFAULT
    ):
        raise click.UsageError(
            "--listen and --textfile exclude each other: one serves, the other writes a file", ctx
        )
    reader = Reader(Tree(root))
    if textfile is None:
        _serve(reader, Address(*listen), json)
    else:
        ctx.exit(_write(reader, textfile, json))


def _serve(reader: "Reader", address: "Address", json: bool) -> None:
    from hvo.report.metrics_http import serve

    def ready(bound: "Address") -> None:
        note_made(f"metrics at {bound.url}")
        found = {"listen": bound._asdict(), "url": bound.url}
        print_json(found) if json else say([f"metrics at {bound.url}"])
        delivered(0)

    serve(reader, address, ready=ready, complain=_complain)


def _write(reader: "Reader", path: Path, json: bool) -> int:
    """Write the file, also when the host could not be read: then it says so, and the status is
    2.
    """
    from hvo.report.metrics import write_textfile

    reading = reader.read()
    write_textfile(path, reading)
    note_made(f"{path} is written")
    if json:
        print_json(
            {"textfile": str(path), "success": reading.error is None, "error": reading.error}
        )
    if reading.error:
        _complain(reading.error)
    return 2 if reading.error else 0


def _complain(error: str) -> None:
    complain(f"hvo export: {error}")
