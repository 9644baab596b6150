"""`hvo check`: the interleaving that breaks a protocol, or the bounds within which there is
none.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from hvo.cli.options import TARGET
from hvo.cli.output import complain, error_object, print_json, say, write_page
from hvo.errors import HvoError

if TYPE_CHECKING:
    from hvo.check.check import Result
    from hvo.check.model.hardware import Hardware
    from hvo.check.scenarios.hazards import Case
    from hvo.check.search.explore import Options


@click.command("check")
@click.argument("protocols", metavar="[PROTOCOL]...", nargs=-1)
@click.option(
    "--arch",
    help=(
        "Architecture: x86_64, riscv64, arm64[+bbm1|2|3][+noabort][+haf], +dead-flush-all. "
        " [default: the scenario's]"
    ),
)
@click.option(
    "--hazard",
    "hazards",
    multiple=True,
    metavar="H01",
    help="Only the scenarios of this hazard (see --list); may be given several times.",
)
@click.option(
    "--cpus",
    type=click.IntRange(min=1),
    help="CPUs of the machine; CPUs without an actor read.  [default: one per actor]",
)
@click.option(
    "--states",
    type=click.IntRange(min=1),
    default=2_000_000,
    show_default=True,
    help="Maximum number of states per search.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="Maximum time per search in seconds.",
)
@click.option(
    "--memory-model",
    type=click.Choice(("hardware", "sc")),
    default="hardware",
    show_default=True,
    help="Let CPUs reorder accesses as the architecture allows, or not (sequential consistency).",
)
@click.option(
    "--against",
    metavar="ERA",
    help="Report only what that kernel's own protocol does not violate in the same scenario.",
)
@click.option(
    "--lift",
    "lifted",
    multiple=True,
    type=click.Choice(("frozen-head", "no-dcache-flag")),
    help="Search a file also where this premise of the kernels does not hold.",
)
@click.option("--plain", is_flag=True, help="Search without partial-order and symmetry reduction.")
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Search on the Dask cluster of this scheduler.  [default: local processes]",
)
@click.option(
    "--html",
    type=TARGET,
    help="Write the results and a viewer of every violation as an HTML page.",
)
@click.option(
    "--replay",
    metavar="TOKEN",
    help="Replay a violation on page-table bytes and show it step by step.",
)
@click.option("--mermaid", is_flag=True, help="With --replay: print a Mermaid sequence diagram.")
@click.option(
    "--dump",
    is_flag=True,
    help=(
        "With --replay: print the resulting page tables, as the kernel dumps them and entry by"
        " entry."
    ),
)
@click.option(
    "--litmus",
    metavar="FILE",
    multiple=True,
    help="Evaluate AArch64 litmus tests in herd's format; more files may follow.",
)
@click.option("--arm64-proposals", is_flag=True, help="Compare the proposals for arm64.")
@click.option(
    "--mutants",
    is_flag=True,
    help="Mutate the protocols and show which mutants the search kills.",
)
@click.option(
    "--list",
    "list_",
    is_flag=True,
    help="List the known hazards with their kernels, fixes, properties and commands.",
)
@click.option("--json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def command(
    ctx: click.Context,
    protocols: tuple[str, ...],
    arch: str | None,
    hazards: tuple[str, ...],
    cpus: int | None,
    states: int,
    seconds: float,
    memory_model: str,
    against: str | None,
    lifted: tuple[str, ...],
    plain: bool,
    scheduler: str | None,
    html: Path | None,
    replay: str | None,
    mermaid: bool,
    dump: bool,
    litmus: tuple[str, ...],
    arm64_proposals: bool,
    mutants: bool,
    list_: bool,
    json: bool,
) -> None:
    """Search all interleavings of a protocol with other CPUs, under the rules of the architecture.

    PROTOCOL is a kernel era with named fixes added (+NAME) or left out (-NAME), such as 5.18 or
    7.1-publish-tail, or the path of a file with a protocol of your own (docs/own-protocol.md).
    Without PROTOCOL, every known hazard is searched in protocols that have it and in protocols that
    do not. Exits 1 if any result is unsafe.
    """
    from hvo.check.search.explore import Options

    options = Options(reduce=not plain, symmetry=not plain, most_states=states, seconds=seconds)
    if (mermaid or dump) and replay is None:
        raise click.UsageError("--mermaid and --dump show a run: give one with --replay TOKEN")
    _refuse_what_is_not_looked_at(ctx)
    if list_:
        ctx.exit(_list(json))
    if replay is not None:
        ctx.exit(_replay(replay, mermaid, dump, json))
    if litmus:
        ctx.exit(_litmus((*litmus, *protocols), json))
    if arm64_proposals:
        ctx.exit(_proposals(options, json))
    if mutants:
        ctx.exit(_mutants(protocols, options, scheduler, json))
    from hvo.check.select import asked

    sequential = memory_model == "sc"
    without = frozenset(lifted)
    cases = asked(protocols, _machine(arch), hazards, cpus, lifted=without, sequential=sequential)
    ctx.exit(_check(cases, options, scheduler, html, json, against))


_BY_THEMSELVES = {
    "replay": ("mermaid", "dump"),
    "litmus": ("protocols",),
    "arm64_proposals": ("states", "seconds", "plain"),
    "mutants": ("protocols", "states", "seconds", "plain", "scheduler"),
    "list_": (),
}
"""Options that ask something else than whether protocols are safe, and what may be said beside
them; --json always.
"""


def _refuse_what_is_not_looked_at(ctx: click.Context) -> None:
    """An error for what would be passed over in silence, beside an option that asks something
    else.
    """
    given = [
        name
        for name in ctx.params
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE and ctx.params[name] != ()
    ]
    for asked in given:
        over = [
            name for name in given if name not in (asked, "json", *_BY_THEMSELVES.get(asked, given))
        ]
        if over:
            raise click.UsageError(
                f"{_spelled(asked)} does not look at {_spelled(over[0])}: ask for one of them"
            )


def _spelled(name: str) -> str:
    return {"protocols": "PROTOCOL", "hazards": "--hazard", "list_": "--list"}.get(
        name, "--" + name.replace("_", "-")
    )


def _machine(text: str | None) -> "Hardware | None":
    from hvo.check.model.hardware import EXPECTED, parse_hardware

    if text is None:
        return None
    rules = parse_hardware(text)
    if rules is None:
        raise HvoError(f"unknown machine {text!r}: {EXPECTED}")
    return rules


def _check(
    cases: "list[Case]",
    options: "Options",
    scheduler: str | None,
    html: Path | None,
    json: bool,
    against: str | None,
) -> int:
    from hvo.check.batch import Interrupted

    results, interrupted = [], False
    try:
        results = _results(cases, options, scheduler)
    except Interrupted as ended:
        results, interrupted = ended.results, True
    if against is not None and not interrupted:
        results = _new_in(results, against, options, scheduler)
    _show(results, json)
    if html is not None:
        from hvo.report.check_html import check_page

        write_page(html, check_page(results))
    if interrupted:
        left = len(cases) - len(results)
        complain(f"interrupted: {left} of {len(cases)} jobs were not looked at")
        raise click.Abort
    return 1 if any(result.verdict == "unsafe" for result in results) else 0


def _new_in(
    results: "list[Result]", against: str, options: "Options", scheduler: str | None
) -> "list[Result]":
    """The results without what the kernel `against` violates as well."""
    from hvo.check.against import counterparts, without_known

    others = counterparts([result.case for result in results], against)
    wanted = [
        other if result.findings else None for result, other in zip(results, others, strict=True)
    ]
    known = iter(_results([case for case in wanted if case is not None], options, scheduler))
    return [
        without_known(result, None if case is None else next(known), against)
        for result, case in zip(results, wanted, strict=True)
    ]


def _results(cases: "list[Case]", options: "Options", scheduler: str | None) -> "list[Result]":
    """One job is done here, where an interrupt still shows what it has found; several on the
    cluster or in processes of their own.
    """
    from hvo.check.batch import check_all, dask, processes
    from hvo.report.progress import progress

    with progress() as announce:
        if scheduler is None and len(cases) <= 1:
            return check_all(cases, options, None, announce)
        with dask(scheduler) if scheduler is not None else processes() as executor:
            return check_all(cases, options, executor, announce)


def _show(results: "list[Result]", json: bool) -> None:
    from hvo.report.check import console, print_matrix, print_results, print_violations
    from hvo.report.hazards import print_titles

    if json:
        print_json({"results": [result.to_json() for result in results]})
        return
    print_titles((result.case.hazard for result in results), console())
    print_matrix(results, console())
    print_results(results, console())
    print_violations(results, console())


def _list(json: bool) -> int:
    from hvo.report.check import console
    from hvo.report.hazards import hazards_json, print_hazards

    if json:
        print_json(hazards_json())
    else:
        print_hazards(console())
    return 0


def _replay(token: str, as_mermaid: bool, dump: bool, json: bool) -> int:
    from hvo.check.check import rerun
    from hvo.check.trace.replica import differences, on_bytes
    from hvo.report.check import console
    from hvo.report.check_trace import mermaid, print_replica, print_trace, run_json, tables_text

    run = rerun(token)
    replica = on_bytes(run)
    different = list(differences(run, replica))
    if json:
        print_json(run_json(run, replica, different))
    elif as_mermaid:
        say(mermaid(run).removesuffix("\n").split("\n"))
    else:
        print_trace(run, console())
        print_replica(replica, different, console())
    if dump and not json:
        say(tables_text(replica).removesuffix("\n").split("\n"))
    return 1 if different or run.ending or any(step.violated for step in run.steps) else 0


def _proposals(options: "Options", json: bool) -> int:
    from hvo.check.proposals.compare import compare_all
    from hvo.report.check import console
    from hvo.report.check_proposals import print_proposals

    rows = compare_all(options)
    if json:
        print_json({"proposals": [row.to_json() for row in rows]})
    else:
        print_proposals(rows, console())
    return 0 if all(row.safe for row in rows) else 1


def _mutants(
    protocols: tuple[str, ...], options: "Options", scheduler: str | None, json: bool
) -> int:
    from hvo.check.batch import dask, processes
    from hvo.check.mutants.run import compare_mutants
    from hvo.report.check import console, print_mutants
    from hvo.report.progress import progress

    with (
        progress() as announce,
        dask(scheduler) if scheduler is not None else processes() as executor,
    ):
        announce("running the mutation suite")
        rows = compare_mutants(protocols, options, executor)
    if json:
        print_json({"mutants": [row.to_json() for row in rows]})
    else:
        print_mutants(rows, console())
    return 0


def _litmus(files: tuple[str, ...], json: bool) -> int:
    from hvo.litmus.run import run_files
    from hvo.report.litmus import litmus_text

    results, unread = run_files(files)
    if results and json:
        unread_too = {"error": error_object(str(unread[-1]), "input")} if unread else {}
        print_json({"litmus": [result.to_json() for result in results], **unread_too})
    elif results:
        say(litmus_text(results).removesuffix("\n").split("\n"))
    for error in unread[:-1]:
        complain(f"hvo: {error}")
    if unread:
        raise unread[-1]
    return 1 if any(result.flags for result in results) else 0
