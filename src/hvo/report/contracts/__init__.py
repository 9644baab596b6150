"""What commands print with `--json`, as typed dictionaries: keys are stable, sizes in bytes. JSON
schemas are made of these.
"""

from hvo.report.contracts.audit import Audit, Ptdump
from hvo.report.contracts.check import Check, HazardList, Litmus, Mutants, Proposals, Replay
from hvo.report.contracts.error import Error
from hvo.report.contracts.fleet import Fleet, FleetCollect, FleetGenerate
from hvo.report.contracts.host import (
    BenchHost,
    Convert,
    ExportServer,
    ExportTextfile,
    Resize,
    Status,
    Switch,
    Watch,
)
from hvo.report.contracts.plan import Plan, PlanComparison
from hvo.report.contracts.report import Report
from hvo.report.contracts.run import Run

CONTRACTS: dict[str, type] = {
    "run": Run,
    "plan": Plan,
    "plan-compare": PlanComparison,
    "audit": Audit,
    "ptdump": Ptdump,
    "check": Check,
    "check-list": HazardList,
    "check-replay": Replay,
    "check-arm64-proposals": Proposals,
    "check-mutants": Mutants,
    "check-litmus": Litmus,
    "status": Status,
    "enable": Switch,
    "disable": Switch,
    "resize": Resize,
    "convert": Convert,
    "bench-host": BenchHost,
    "watch": Watch,
    "export": ExportServer,
    "export-textfile": ExportTextfile,
    "fleet": Fleet,
    "fleet-collect": FleetCollect,
    "fleet-generate": FleetGenerate,
    "report": Report,
    "error": Error,
}
"""The object of every command, and of one that exits 2; where an option decides what is printed, it
is part of the name.
"""
