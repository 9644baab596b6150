"""`hvo check --litmus`: herd's break-before-make flag, one test of our own for each clause of the
predicate, both sides of it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hvo.cli.main import main
from hvo.errors import HvoError
from hvo.litmus.parse import parse, read_test
from hvo.litmus.run import LitmusResult, executions, run_test
from hvo.mmu.break_before_make import needs_break
from hvo.mmu.formats import format_for
from hvo.report.litmus import litmus_text

TESTS = Path(__file__).parents[1] / "data/litmus"
FLAGGED = {
    "oa-old-writable",
    "oa-new-writable",
    "oa-read-only-different",
    "attrs-type",
    "attrs-device",
    "attrs-shareability",
    "attrs-cacheability",
    "old-af-clear-hardware",
    "old-af-clear-spontaneous",
    "clean-hardware",
    "break-no-tlbi",
    "break-no-dsb-before",
    "break-dmb-before",
    "break-no-dsb-after",
    "break-dsb-ld-after",
    "break-other-page",
    "break-tlbi-first",
    "read-only-first",
    "cas-not",
    "cas-live",
    "two-pages",
    "two-threads-untold",
    "other-writer",
    "told-alone",
}
WELL = {
    "oa-read-only-equal",
    "read-only-only",
    "attrs-same",
    "old-invalid",
    "new-invalid",
    "old-af-clear",
    "new-af-clear",
    "clean-software",
    "clean-no-modifier",
    "break",
    "break-access-flag",
    "break-all",
    "cas",
    "two-pages-both",
    "two-threads",
    "bits",
    "told-fault",
    "told-message",
    "untold-buffering",
}


def result_of(name: str) -> LitmusResult:
    return run_test(read_test(TESTS / f"{name}.litmus"))


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["check", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_every_file_is_expected_to_be_one_or_the_other():
    """No litmus test lies there unused, and none is named that is not there."""
    assert {path.stem for path in TESTS.glob("*.litmus")} == FLAGGED | WELL
    assert not FLAGGED & WELL


@pytest.mark.parametrize("name", sorted(FLAGGED | WELL))
def test_the_flag_of_each_clause(name: str):
    """herd's `Warning-BBM-expected` where a clause asks for a break and there is none, and nowhere
    else.
    """
    assert result_of(name).flags == (("Warning-BBM-expected",) if name in FLAGGED else ())


@pytest.mark.parametrize("name", ["untold-buffering", "break-no-dsb-before", "two-pages"])
def test_outcomes_that_nothing_orders_are_not_told(name: str):
    """Where two accesses are in no order the outcomes are not guessed, and the accesses are
    named.
    """
    result = result_of(name)
    assert result.outcomes is None
    assert result.observation is None
    assert "nothing orders" in str(result.reason)
    assert f"outcomes: unsupported ({result.reason})" in litmus_text([result]).splitlines()


def test_one_thread_in_order():
    """After invalidation, DSB and ISB the load goes through the new descriptor: one outcome, of one
    execution.
    """
    assert (
        litmus_text([result_of("told-alone")])
        == "Test told-alone Required\nStates 1\n0:X2=2;\nOk\nWitnesses\nPositive: 1 Negative:"
        " 0\nFlag Warning-BBM-expected\nCondition forall (0:X2=2)\nObservation told-alone Always"
        " 1 0\n\n"
    )


def test_a_fault_is_part_of_the_state():
    """Who is told that the page is invalid faults; of ~exists the agreeing executions are counted
    as positive.
    """
    lines = litmus_text([result_of("told-fault")]).splitlines()
    assert lines[1:5] == [
        "States 3",
        "1:X5=0;  ~Fault(P1:L0,x);",
        "1:X5=0; Fault(P1:L0,x,D-MMU:Translation);",
        "1:X5=1; Fault(P1:L0,x,D-MMU:Translation);",
    ]
    assert lines[5] == "Ok"
    positive, negative = (
        int(word) for word in lines[7].replace("Positive: ", "").replace("Negative: ", "").split()
    )
    assert (positive > 0, negative) == (True, 0)
    assert lines[-2] == f"Observation told-fault Never 0 {positive}"


def test_barriers_and_dependencies_order_message_passing():
    """A store barrier and an address dependency forbid that the flag is seen without the
    message.
    """
    assert result_of("told-message").outcomes == (
        "1:X0=0; 1:X2=0;",
        "1:X0=0; 1:X2=1;",
        "1:X0=1; 1:X2=1;",
    )


BUFFERING = """AArch64 SB
{{
 0:X1=a; 0:X3=b; 1:X1=a; 1:X3=b;
}}
 P0          | P1          ;
 MOV W0,#1   | MOV W0,#1   ;
 STR W0,[X1] | STR W0,[X3] ;
 {0}         | {0}         ;
 LDR W2,[X3] | LDR W2,[X1] ;
exists (0:X2=0 /\\ 1:X2=0)
"""


@pytest.mark.parametrize(("fence", "observation"), [("DMB SY", "Never"), ("DSB ISH", "Never")])
def test_store_buffering_with_a_full_barrier(fence: str, observation: str):
    """Both loads cannot be early."""
    assert run_test(parse(BUFFERING.format(fence), "SB")).observation == observation


def test_what_a_weaker_barrier_leaves_open_is_not_told():
    """A barrier for stores does not order a load after a store: the model allows it, and nothing is
    told.
    """
    test = parse(BUFFERING.format("DMB ST"), "SB")
    assert run_test(test).outcomes is None
    assert any(
        all(local.run.registers["X2"] == 0 for local in execution.candidate.combination.locals)
        for execution in executions(test)
    )


def test_a_cas_is_atomic_and_may_fail():
    """Of two compare-and-swaps from the same value one succeeds: the other reads what it wrote."""
    text = (
        "AArch64 two\n{\n 0:X0=a; 0:X2=1; 1:X0=a; 1:X2=2;\n}\n P0 | P1 ;\n CAS W1,W2,[X0] | CAS"
        " W1,W2,[X0] ;\nlocations [[a];]\nexists (0:X1=0 /\\ 1:X1=0)\n"
    )
    assert run_test(parse(text, "two")).outcomes == (
        "0:X1=0; 1:X1=1; [a]=1;",
        "0:X1=2; 1:X1=0; [a]=2;",
    )


def test_hardware_dirty_state_is_the_checkers_predicate():
    """A clean descriptor that the hardware may make dirty counts as writable, in the one predicate
    there is.
    """
    f = format_for("arm64", 4096, 48)
    clean = f.make_leaf(0x1000, 0, writable=False) | f.dirty_modifier
    other = f.make_leaf(0x2000, 0, writable=False)
    assert not needs_break(f, clean, other, same_output=False, same_contents=True)
    assert needs_break(f, clean, other, same_output=False, same_contents=True, hardware_dirty=True)
    assert not needs_break(
        f,
        other,
        f.with_output(other, 0x3000, 0),
        same_output=False,
        same_contents=True,
        hardware_dirty=True,
    )


def test_the_command():
    """Exit 1 with a flag, 0 without, and the JSON keys that are promised."""
    well, flagged = str(TESTS / "break.litmus"), str(TESTS / "cas-live.litmus")
    assert run("--litmus", well)[0] == 0
    status, output = run("--litmus", well, "--litmus", flagged, "--json")
    assert status == 1
    first, second = json.loads(output)["litmus"]
    assert set(first) >= {"test", "file", "flags", "outcomes", "reason", "observation"}
    assert (first["flags"], first["reason"], first["observation"]) == ([], None, "Sometimes")
    assert (second["test"], second["flags"]) == ("cas-live", ["Warning-BBM-expected"])


HEAD, TAIL = "AArch64 t\n{\n 0:X1=x;\n}\n P0 ;\n", "exists (0:X0=1)\n"


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("PPC t\n{\n}\n P0 ;\nexists (x=1)\n", 1, "PPC t"),
        ("AArch64 t\n{\n 0:X1=#3;\n}\n P0 ;\nexists (x=1)\n", 3, "#3"),
        ("AArch64 t\n{\n 0:X1=(oa:PA(x), colour:1);\n}\n P0 ;\nexists (x=1)\n", 3, "colour:1"),
        ("AArch64 t\n{\n 0:X1=(oa:PA(x), attrs:(Blue));\n}\n P0 ;\nexists (x=1)\n", 3, "Blue"),
        ("AArch64 t\nTTHM=HX\n{\n}\n P0 ;\nexists (x=1)\n", 2, "HX"),
        (HEAD + " LDUR W0,[X1] ;\n" + TAIL, 6, "LDUR W0,[X1]"),
        (HEAD + " LDR W0,[X1]\n" + TAIL, 6, "LDR W0,[X1]"),
        (HEAD + " LDR W0,[X1] | NOP ;\n" + TAIL, 6, "LDR W0,[X1] | NOP"),
        (HEAD + " L0: LDR W0,[X1] ;\n CBZ W0,L0 ;\n" + TAIL, 7, "CBZ W0,L0"),
        ("AArch64 t\n{\n}\n P0 | P0.F ;\nexists (x=1)\n", 4, "P0.F"),
        (HEAD + " LDR W0,[X1] ;\nexists (0:X0 is 1)\n", 7, "0:X0 is 1"),
        (HEAD + " LDR W0,[X1] ;\n", 6, "the end"),
        (HEAD + " LDR W0,[X1] ;\nexists (1:X0=1)\n", 7, "thread 1"),
        (HEAD + " LDR W0,[X1] ;\nlocations [2:X0;]\n", 7, "thread 2"),
    ],
)
def test_what_is_not_understood(text: str, line: int, found: str):
    """The file, the line, what stands there and what would be understood, in one line."""
    with pytest.raises(HvoError, match=rf"^file: line {line}: found .*: expected ") as error:
        parse(text, "file")
    assert found in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "code", [" LDR W0,[X2] ;\n", " TLBI VAAE1IS,X1 ;\n", " MUL W0,W1,W2 ;\n", " LSL X1,X1,#3 ;\n"]
)
def test_what_cannot_be_computed(code: str):
    """An address that is none, an operand of TLBI that is not shifted, an address used as a
    number.
    """
    with pytest.raises(HvoError, match="file"):
        run_test(parse(HEAD + code + TAIL, "file"))


def test_a_test_that_is_not_read_does_not_hide_the_others(tmp_path: Path):
    """Each that cannot be read is one line on standard error, with its file and line, and the
    status is 2; the others are printed.
    """
    strange = tmp_path / "strange.litmus"
    strange.write_text((TESTS / "cas.litmus").read_text().replace("CAS X1,X2,[X0]", "CMP X1,X2"))
    files = [str(strange), str(TESTS / "told-alone.litmus"), str(tmp_path / "absent.litmus")]
    script = "import sys; from hvo.cli.main import main; sys.argv[0] = 'hvo'; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "check", "--litmus", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, litmus_text([result_of("told-alone")]))
    first, second = done.stderr.splitlines()
    assert first.startswith(f"hvo: {strange}: line ")
    assert (
        second
        == f"hvo: cannot read {tmp_path}/absent.litmus: No such file or directory; expected a"
        " litmus test"
    )
