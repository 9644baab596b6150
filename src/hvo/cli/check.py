"""`hvo check`: the interleaving that breaks a protocol, or the bounds within which there is none."""

import json as json_format
from typing import TYPE_CHECKING

import click

from hvo.errors import HvoError

if TYPE_CHECKING:
    from hvo.check.explore import Options
    from hvo.check.rules import Rules


@click.command("check")
@click.argument("protocols", metavar="[PROTOCOL]...", nargs=-1)
@click.option("--arch", help="Machine: x86_64, arm64, +bbm1|2|3, +noabort, +haf, +dead-flush-all.  [default: the scenario's]")
@click.option("--hazard", "hazards", multiple=True, metavar="H01", help="Only this hazard's scenarios; may be given several times.")
@click.option("--cpus", type=click.IntRange(min=1), help="CPUs of the machine; those without work read.  [default: one an actor]")
@click.option("--states", type=click.IntRange(min=1), default=2_000_000, show_default=True, help="States to look at in each job, at most.")
@click.option("--seconds", type=click.FloatRange(min=0), default=600.0, show_default=True, help="Seconds for each job, at most.")
@click.option("--plain", is_flag=True, help="Search without reductions.")
@click.option("--replay", metavar="TOKEN", help="Run one found run again, and show it step by step.")
@click.option("--mermaid", is_flag=True, help="With --replay: as a Mermaid sequence diagram.")
@click.option("--arm64-proposals", is_flag=True, help="Compare the proposals for arm64.")
@click.option("--mutants", is_flag=True, help="Leave things out of the protocols, and show whether that is noticed.")
@click.option("--json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def command(
    ctx: click.Context, protocols: tuple[str, ...], arch: str | None, hazards: tuple[str, ...], cpus: int | None, states: int,
    seconds: float, plain: bool, replay: str | None, mermaid: bool, arm64_proposals: bool, mutants: bool, json: bool,
) -> None:  # fmt: skip
    """Search every interleaving of a protocol's steps with those of others, under the rules of the architecture.

    PROTOCOL is a kernel era with fixes more (+NAME) or less (-NAME): 5.18, 7.1-publish-tail. Without one, the benchmark of hazards that
    really happened is checked, in the variants that have them and in those that do not. Exits 1 when anything asked about is unsafe.
    """
    from hvo.check.explore import Options

    options = Options(reduce=not plain, symmetry=not plain, most_states=states, seconds=seconds)
    if replay is not None:
        ctx.exit(_replay(replay, mermaid, json))
    if arm64_proposals:
        ctx.exit(_proposals(options, json))
    if mutants:
        ctx.exit(_mutants(protocols, options, json))
    ctx.exit(_check(protocols, _machine(arch), hazards, cpus, options, json))


def _machine(text: str | None) -> "Rules | None":
    from hvo.check.rules import parse_rules

    if text is None:
        return None
    rules = parse_rules(text)
    if rules is None:
        raise HvoError(f"unknown machine {text!r}: expected x86_64 or arm64, with +bbm1, +bbm2, +bbm3, +noabort, +haf, +dead-flush-all")
    return rules


def _check(
    protocols: tuple[str, ...], arch: "Rules | None", hazards: tuple[str, ...], cpus: int | None, options: "Options", json: bool
) -> int:  # fmt: skip
    from hvo.check.jobs import Interrupted, asked, check_all
    from hvo.report.check import console, print_results, print_violations
    from hvo.report.progress import progress

    cases = asked(protocols, arch, hazards, cpus)
    interrupted = False
    with progress() as announce:
        try:
            results = check_all(cases, options, announce=lambda done, all_: announce(f"checked {done} of {all_}"))
        except Interrupted as ended:
            results, interrupted = ended.results, True
    if json:
        click.echo(json_format.dumps({"results": [result.to_json() for result in results]}))
    else:
        print_results(results, console())
        print_violations(results, console())
    if interrupted:
        raise click.Abort
    return 1 if any(result.verdict == "unsafe" for result in results) else 0


def _replay(token: str, as_mermaid: bool, json: bool) -> int:
    from dataclasses import asdict

    from hvo.check.jobs import replayed
    from hvo.report.check import console, mermaid, print_trace

    case, trace = replayed(token)
    if json:
        click.echo(json_format.dumps({"protocol": case.protocol, "arch": case.rules.name, "steps": [asdict(step) for step in trace]}))
    elif as_mermaid:
        click.echo(mermaid(case.scenario, trace), nl=False)
    else:
        print_trace(case.scenario, trace, console())
    return 1 if any(step.violated for step in trace) else 0


def _proposals(options: "Options", json: bool) -> int:
    from hvo.check.proposals import LETTERS, compare
    from hvo.report.check import console, print_proposals

    rows = [compare(letter, options) for letter in LETTERS]
    if json:
        click.echo(json_format.dumps({"proposals": [row.to_json() for row in rows]}))
    else:
        print_proposals(rows, console())
    return 0 if all(row.safe for row in rows) else 1


def _mutants(protocols: tuple[str, ...], options: "Options", json: bool) -> int:
    from hvo.check.mutants import compare_mutants
    from hvo.report.check import console, print_mutants

    rows = compare_mutants(protocols, options)
    if json:
        click.echo(json_format.dumps({"mutants": [row._asdict() for row in rows]}))
    else:
        print_mutants(rows, console())
    return 0
