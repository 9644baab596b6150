"""What is in `deploy/`: a real Prometheus scrapes the exporter and says what `hvo status` says;
rules, dashboard and units are sound.
"""

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from exporters import HOSTS, exporter, program, prometheus, status
from host_trees import NR

from hvo.host.metrics_table import METRICS
from hvo.layout.units import format_size

pytest.importorskip(
    "prometheus_client", reason="prometheus-client is not installed: pip install 'hvo[export]'"
)

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "hvo.rules.yml"
FOREIGN = {"up", "ALERTS", "node_textfile_mtime_seconds"}
"""Metrics of Prometheus and of node_exporter."""
_PLACEHOLDERS = {"$instance": ".*", "$size": ".*"}


def panels() -> list[dict]:
    """The panels of the dashboard."""
    return json.loads((DEPLOY / "grafana.json").read_text())["panels"]


def expressions() -> list[str]:
    """Every expression of the dashboard."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def metric_names(text: str) -> set[str]:
    """Names of metrics in a text."""
    return set(
        re.findall(r"\b(?:hvo_(?!rules)\w+|node_textfile_mtime_seconds|ALERTS|up(?=\{))", text)
    )


def one(answers: list[tuple[dict[str, str], float]]) -> float:
    """The value of an answer that has one."""
    assert len(answers) == 1
    return answers[0][1]


def test_a_prometheus_server_says_what_status_says(tmp_path):
    """Two exporters are scraped; sums, pools, bounds, reasons and info come out of PromQL as `hvo
    status --json` gives them.
    """
    names = ("exact", "two nodes")
    roots = {name: HOSTS[name].write(tmp_path / name).root for name in names}
    with exporter(roots["exact"]) as first, exporter(roots["two nodes"]) as second:
        ports = [first.port, second.port]
        with prometheus(tmp_path, ports, RULES) as server:
            for name, port in zip(names, ports, strict=True):
                host = f'instance="127.0.0.1:{port}"'
                server.wait_for(f"hvo_scrape_success{{{host}}} == 1")
                compare(server, host, status(roots[name]))
            assert [value for _, value in server.query("up")] == [1, 1]
            assert {
                rule["health"] for group in server.ask("rules")["groups"] for rule in group["rules"]
            } <= {"ok", "unknown"}


def compare(server, host: str, said: dict) -> None:
    """The queries of one host."""
    every = [row for row in said["pools"] if row["node"] is None]
    for row in every:
        labels = f'{{{host}, size="{format_size(row["size"])}"}}'
        assert one(server.query(f"sum(hvo_hugetlb_pages{labels})")) == row["pages"]
        for name, key in (
            ("optimized_pages", "optimized"),
            ("saved_bytes", "saved"),
            ("possible_bytes", "possible"),
        ):
            assert one(server.query(f"hvo_hugetlb_{name}{labels}")) == row[key]
            assert one(server.query(f"hvo_hugetlb_{name}_max{labels}")) == row[f"{key}_high"]
    for row in said["pools"]:
        labels = f'{host}, size="{format_size(row["size"])}", node="{row["node"] or 0}"'
        if row["node"] is not None:
            assert (
                one(server.query(f'hvo_hugetlb_pages{{{labels}, state="in_use"}}')) == row["in_use"]
            )
    assert one(server.query(f"sum(hvo_hugetlb_saved_bytes{{{host}}})")) == sum(
        row["saved"] for row in every
    )
    assert one(server.query(f"sum(hvo_memmap_bytes{{{host}}})")) == said["memmap"]["total"]
    ((labels, _),) = server.query(f"hvo_optimization_reason_info{{{host}}}")
    assert labels["reason"] == said["kernel"]["reason"]


def test_a_failure_reaches_prometheus_and_the_dashboard_answers(tmp_path):
    """A host that cannot be read is 0 while it is up; each expression of the dashboard is PromQL,
    and all but alerts give something.
    """
    root = HOSTS["defect"].write(tmp_path / "host").root
    with exporter(root) as running, prometheus(tmp_path, [running.port], RULES) as server:
        server.wait_for("hvo_scrape_success == 1")
        for expression in map(filled, expressions()):
            answer = server.query(expression)
            assert answer or expression.startswith("ALERTS"), expression
        (root / NR).unlink()
        server.wait_for("hvo_scrape_success == 0 and on (instance) up == 1")
        HOSTS["defect"].write(root)
        server.wait_for("hvo_scrape_success == 1 and on (instance) hvo_scrape_errors_total > 0")


def filled(expression: str) -> str:
    """An expression of the dashboard with its variables set to everything."""
    for name, value in _PLACEHOLDERS.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


@pytest.mark.parametrize(
    ("words", "directory"),
    [
        (("check", "rules", "hvo.rules.yml"), DEPLOY),
        (("test", "rules", "hvo.rules.test.yml"), DEPLOY),
        (("check", "config", "prometheus.yml"), DEPLOY),
    ],
)
def test_promtool_accepts_rules_their_tests_and_the_configuration(words, directory):
    """`promtool` finds nothing wrong, and the alerts fire in the cases of their tests only."""
    done = subprocess.run(
        [program("promtool"), *words], cwd=directory, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_in_which_it_fires():
    """No alert is without a case that expects it."""
    alerts = re.findall(r"^ +- alert: (\w+)$", RULES.read_text(), re.MULTILINE)
    fired = re.findall(
        r"alertname: (\w+)\n +exp_alerts:", (DEPLOY / "hvo.rules.test.yml").read_text()
    )
    assert alerts
    assert set(alerts) == set(fired)


@pytest.mark.parametrize("name", ["grafana.json", "hvo.rules.yml", "hvo.rules.test.yml"])
def test_only_metrics_that_exist_are_used(name):
    """Every metric that an expression names is exported (or known to be another program's)."""
    text = " ".join(expressions()) if name == "grafana.json" else (DEPLOY / name).read_text()
    used = metric_names(text)
    assert len(used) > 5
    assert used <= set(METRICS) | FOREIGN


def test_the_dashboard_is_sound():
    """Panels have ids of their own, do not overlap, ask the data source that is chosen, and use
    variables that are there.
    """
    board = json.loads((DEPLOY / "grafana.json").read_text())
    variables = {each["name"] for each in board["templating"]["list"]}
    assert len({panel["id"] for panel in panels()}) == len(panels())
    cells = [(x, y) for panel in panels() for x, y in squares(panel["gridPos"])]
    assert (len(cells), max(x for x, _ in cells)) == (len(set(cells)), 23)
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(panels()))) <= variables
    asked = {
        name
        for each in board["templating"]["list"]
        for name in metric_names(str(each.get("query")))
    }
    assert asked <= set(METRICS)
    titles = " ".join(panel["title"] for panel in panels())
    assert all(word in titles for word in ("Saved", "possible", "Pools", "Alerts"))


def squares(place: dict) -> list[tuple[int, int]]:
    """The squares of the grid that a panel covers."""
    return [(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])]


def unit(name: str) -> configparser.SectionProxy:
    """The `[Service]` section of a unit; the last of settings that may be given several times."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read_string((DEPLOY / name).read_text())
    return parser["Service"]


@pytest.mark.parametrize("name", ["hvo-export.service", "hvo-textfile.service"])
def test_services_run_without_privileges(name):
    """No capabilities, nothing writable but what they own, a bound on memory; only the one that
    serves may use the network.
    """
    service = unit(name)
    wanted = {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "CapabilityBoundingSet": "",
        "MemoryDenyWriteExecute": "yes",
    }
    assert {key: service[key] for key in wanted} == wanted
    assert service.get("DynamicUser") == "yes" or service["User"] not in ("", "root")
    assert re.fullmatch(r"\d+M", service["MemoryMax"])
    assert service["RestrictAddressFamilies"] == (
        "AF_INET AF_INET6" if "export" in name else "none"
    )
    assert "ProcSubset" not in service  # it would hide /proc/vmstat


@pytest.mark.parametrize(
    "name", ["hvo-export.service", "hvo-textfile.service", "hvo-textfile.timer"]
)
def test_systemd_accepts_the_units(name, tmp_path):
    """`systemd-analyze verify` has nothing to say; `security` rates the services better than 2.0 of
    10.
    """
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze here")
    for path in DEPLOY.glob("hvo-*.[st]*"):  # the program has to be there
        (tmp_path / path.name).write_text(
            path.read_text().replace("/usr/local/bin/hvo", shutil.which("true") or "/bin/true")
        )
    done = subprocess.run([analyze, "verify", tmp_path / name], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    if name.endswith(".service"):
        rated = subprocess.run(
            [analyze, "security", "--offline=yes", "--threshold=20", tmp_path / name],
            capture_output=True,
            text=True,
        )
        if "unrecognized option" in rated.stderr:
            pytest.skip("this systemd-analyze cannot rate a file")
        assert rated.returncode == 0, rated.stdout[-300:]
