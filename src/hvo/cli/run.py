"""`hvo run`: the mechanism on a simulated machine, from the pool to the guarantees."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hvo.cli.options import ERA, EXISTING, SIZE, TARGET
from hvo.cli.output import print_json, write_results_page

if TYPE_CHECKING:
    from hvo.machine.run.results import RunResult
    from hvo.vmemmap.era import Era

_SHAPE = ("arch", "page_size", "memory", "nodes")


@click.command("run")
@click.option(
    "--arch", default="arm64", show_default=True, help="Architecture: arm64, x86_64 or riscv64."
)
@click.option(
    "--page-size",
    type=SIZE,
    default="4KiB",
    show_default=True,
    help="Base page size: 4KiB; on arm64 also 16KiB and 64KiB.",
)
@click.option(
    "--memory",
    type=SIZE,
    default="16GiB",
    show_default=True,
    help="Memory for HugeTLB pages, in whole memory sections.",
)
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="NUMA nodes to spread the memory over.",
)
@click.option("--hugepage-size", type=SIZE, help="HugeTLB page size.  [default: the PMD size]")
@click.option("--pages", type=click.IntRange(min=0), help="Pages in the pool.")
@click.option("--fill", is_flag=True, help="Fill memory with HugeTLB pages (the default).")
@click.option(
    "--era",
    type=ERA,
    help=(
        "Kernel era: 5.14, 5.18, 6.2 or 7.1, with named fixes added (+NAME) or left out"
        " (-NAME); or proposal-A to proposal-F, the proposals for arm64.  [default: 7.1]"
    ),
)
@click.option(
    "--like",
    metavar="CORE",
    multiple=True,
    help=(
        "Start from the memory of this core, or of all parts of a split one; with --scenario, from"
        " its state after boot."
    ),
)
@click.option(
    "--scenario",
    type=EXISTING,
    help="Shell script to run on the pools, with the words hvo, pool, pool_of, snap and $bb.",
)
@click.option(
    "--cmdline",
    help="Boot parameters: hugetlb_free_vmemmap= default_hugepagesz= hugepagesz= hugepages=.",
)
@click.option(
    "--save",
    metavar="CORE",
    type=TARGET,
    help="Save the machine as an ELF core while its pages are optimised.",
)
@click.option("--html", type=TARGET, help="Write the results as an HTML page.")
@click.option("--json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def command(
    ctx: click.Context,
    arch: str,
    page_size: int,
    memory: int,
    nodes: int,
    hugepage_size: int | None,
    pages: int | None,
    fill: bool,
    era: "Era | None",
    like: tuple[str, ...],
    scenario: Path | None,
    cmdline: str | None,
    save: Path | None,
    html: Path | None,
    json: bool,
) -> None:
    """Build a machine, optimise a HugeTLB pool on it, and measure every guarantee of the mechanism.

    The pool is filled with the optimisation off, optimised, measured, restored and measured again.
    Exits 1 if a guarantee does not hold, 2 if the machine cannot be built.
    """
    _check_together(ctx, pages, fill, like, scenario)
    from hvo.machine.run.cmdline import parse_cmdline
    from hvo.machine.run.run import Request, run
    from hvo.memory.target import open_target
    from hvo.report.progress import progress

    boot = None if cmdline is None else parse_cmdline(cmdline)
    with progress() as announce:
        kernel = open_target(like[0], announce, *like[1:]) if like else None
        asked = (arch, page_size, memory, nodes, era, hugepage_size, pages, fill, boot)
        result = run(Request(*asked, kernel, scenario, save), announce)
    _show(result, html, json)
    ctx.exit(0 if result.kept else 1)


def _check_together(
    ctx: click.Context,
    pages: int | None,
    fill: bool,
    like: tuple[str, ...],
    scenario: Path | None,
) -> None:
    """Refuse options that contradict each other."""
    if pages is not None and fill:
        raise click.UsageError("--pages and --fill: give one of them", ctx)
    if scenario and (pages is not None or fill):
        raise click.UsageError(
            "--scenario sizes the pools itself: give neither --pages nor --fill", ctx
        )
    given = [
        name
        for name in _SHAPE
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if like and given:
        raise click.UsageError(
            f"--{given[0].replace('_', '-')}: a machine --like a core has that core's", ctx
        )


def _show(result: "RunResult", html: Path | None, json: bool) -> None:
    if html is not None:
        write_results_page(html, result.to_json())
    if json:
        print_json(result.to_json())
        return
    from hvo.report.run import print_run

    print_run(result)
