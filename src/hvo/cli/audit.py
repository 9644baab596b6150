"""`hvo audit`: which huge pages are optimised, and is the vmemmap sound."""

from pathlib import Path

import click

from hvo.cli.options import TARGET, files
from hvo.cli.output import print_json, write_results_page


@click.command("audit")
@click.argument("target", nargs=-1, required=True, shell_complete=files)
@click.option(
    "--html",
    type=TARGET,
    help="Write the vmemmap map, the tables and the findings as an HTML page.",
)
@click.option("--json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def command(ctx: click.Context, target: tuple[str, ...], html: Path | None, json: bool) -> None:
    """Show which HugeTLB pages of a kernel are optimised, and verify its vmemmap.

    TARGET is a core (ELF or kdump-compressed, flattened or not, also packed as .xz, .gz or .zst),
    all parts of a split one, a machine that `hvo run --save` wrote, or `live` for the running
    kernel. Needs VMCOREINFO and no debug symbols. Exits 1 if there are findings, 2 if the memory
    cannot be audited.
    """
    from hvo.audit.audit import audit
    from hvo.memory.target import open_target
    from hvo.report.progress import progress

    with progress() as announce:
        result = audit(open_target(target[0], announce, *target[1:]), announce)
    if html is not None:
        write_results_page(html, result.to_json())
    if json:
        print_json(result.to_json())
    else:
        from hvo.report.audit import print_audit

        print_audit(result)
    ctx.exit(0 if result.sound else 1)
