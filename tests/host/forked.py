"""Many commands as processes of their own, forked from one that has imported hvo: with a standard
output that is full, closed, or has no reader.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

_SERVER = """
import json, os, sys, tempfile
import hvo.cli.main
from hvo.cli.main import COMMANDS, main
for name in sys.argv[1:]:
    main.get_command(None, name)
if sys.argv[1:]:
    import hvo.host.bench, hvo.host.convert, hvo.host.gate, hvo.host.metrics, hvo.host.resize
    import hvo.host.watching, hvo.report.host, hvo.report.status, hvo.report.metrics
    import hvo.report.progress

def run(words, out):
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)
    try:
        os.dup2(files["err"].fileno(), 2)
        if out == "closed":
            os.close(1)
            sys.stdout = sys.__stdout__ = None
        elif out == "gone":
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, 1)
        elif out == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        else:
            os.dup2(files["out"].fileno(), 1)
        main(words)
    except SystemExit as end:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(end.code or 0)
    except BaseException:
        import traceback
        os.write(2, traceback.format_exc().encode())
        os._exit(99)

answers = []
for words, out in json.load(sys.stdin):
    files = {name: tempfile.TemporaryFile() for name in ("out", "err")}
    status = run(words, out)
    texts = [(file.seek(0), file.read().decode())[1] for file in files.values()]
    answers.append([status, *texts])
json.dump(answers, sys.stdout)
"""


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


def forked(cases: list[tuple[list[str | Path], str]], *commands: str) -> list[Ended]:
    """Run each case: its words, and what standard output is (`file`, `full`, `closed`, `gone`).

    `commands` are imported before. A defect shows its traceback.
    """
    given = json.dumps([[list(map(str, words)), out] for words, out in cases])
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore", "-c", _SERVER, *commands],
        input=given,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [Ended(*each) for each in json.loads(done.stdout)]
