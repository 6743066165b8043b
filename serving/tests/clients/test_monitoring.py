"""Alerts and dashboards of `deploy/`, in a real Prometheus that scrapes the real server."""

import json
import re
import shutil
import subprocess
import sys
import time

import httpx
import pytest
import yaml
from conftest import ROOT, free_ports

DEPLOY = ROOT / "deploy"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((DEPLOY / "grafana").glob("*.json"))}
METRIC = re.compile(r"\b(?:ml_inference|process)_\w+")
# What a server without a GPU, faults and refusals does not show.
RARE = re.compile(r"ml_inference_(gpu_\w+|queue_departures_total|batch_failures_total|limits_refusals_total"
                  r"|tenant_limits_refusals_total)")
# Empty while nothing fails.
EMPTY_WHILE_WELL = {"Inputs that were not computed", "Later than the target", "Later than the model's target"}


def tool(name):
    path = shutil.which(name)
    assert path, f"scripts/setup.sh installs {name}"
    return path


def panels():
    return [(f"{name}: {panel['title']}", target["expr"])
            for name, dashboard in DASHBOARDS.items() for panel in dashboard["panels"] for target in panel["targets"]]


def rules():
    (group,) = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"]
    return group["rules"]


def families(text):
    """Names of the series of a text, with those that a histogram's are made of."""
    names = set()
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M):
        names |= {name} if kind != "histogram" else {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    return names


@pytest.mark.parametrize("arguments", [
    ["check", "rules", "prometheus/alerts.yaml"],
    ["test", "rules", "prometheus/alerts_test.yaml"],
    ["check", "config", "--syntax-only", "prometheus/prometheus.yaml"],
], ids=" ".join)
def test_promtool_agrees(arguments):
    done = subprocess.run([tool("promtool"), *arguments], cwd=DEPLOY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_case_and_a_paragraph():
    cases = (DEPLOY / "prometheus/alerts_test.yaml").read_text()
    headings = {f"#{line[3:].lower()}" for line in (ROOT / "docs/runbook.md").read_text().splitlines() if line.startswith("## ")}
    for rule in rules():
        assert f'alertname="{rule["alert"]}"' in cases, rule["alert"]
        page, anchor = rule["annotations"]["runbook"].split("#")
        assert page == "docs/runbook.md" and f"#{anchor}" in headings, rule["alert"]


def test_dashboards_are_as_their_script_writes_them():
    done = subprocess.run([sys.executable, DEPLOY / "grafana/dashboards.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_limits_in_the_dashboard_are_the_cards_targets():
    targets = {}
    for card in (ROOT / "model-cards").glob("*/README.md"):
        (target,) = re.findall(r"^ *p99_target_ms: (\d+)$", card.read_text(), re.M)
        targets[card.parent.name] = int(target) / 1000
    (panel,) = [p for p in DASHBOARDS["model"]["panels"] if p["title"] == "p99 against the target"]
    shown = {o["matcher"]["options"]: o["properties"][0]["value"]["steps"][-1]["value"] for o in panel["fieldConfig"]["overrides"]}
    assert shown == targets


def test_panels_have_units_legends_and_room():
    for name, dashboard in DASHBOARDS.items():
        taken = set()
        for panel in dashboard["panels"]:
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert at["x"] + at["w"] <= 24 and not cells & taken, f"{name}: {panel['title']} lies over another"
            taken |= cells


class Prometheus:
    """A real one, with the configuration of `deploy/`, the scraped address and the intervals apart."""

    def __init__(self, folder, server):
        (port,) = free_ports(1)
        config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(DEPLOY / "prometheus/alerts.yaml")]
        for job in config["scrape_configs"]:
            assert job["static_configs"] == [{"targets": ["server:9090"]}]
            job["static_configs"] = [{"targets": [server.ops]}]
            if "authorization" in job:
                job["authorization"]["credentials_file"] = str(server.state / "operator.token")
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        self.log = folder / "prometheus.log"
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [tool("prometheus"), f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/series",
                 f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)

    def ask(self, path, **parameters):
        answer = self.client.get(path, params=parameters)
        if answer.status_code == 503:
            answer.raise_for_status()  # It is starting.
        answer = answer.json()
        assert answer["status"] == "success", f"{parameters}: {answer.get('error')}"
        return answer["data"]

    def wait(self, condition, patience=60):
        end = time.monotonic() + patience
        while (rest := condition()) and time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.2)
        assert not rest, f"in vain: {rest}\n{self.log.read_text()[-2000:]}"


@pytest.fixture(scope="module")
def prometheus(server, rest, tmp_path_factory):
    """One that has scraped the server at least twice, after calls that fill its metrics."""
    def call():
        assert rest.post("/v1/ml/sentiment", json={"inputs": "A fine day."}).status_code == 200
        assert rest.post("/v1/ml/sentiment", json={"inputs": 7}).status_code == 400

    call()
    running = Prometheus(tmp_path_factory.mktemp("prometheus"), server)

    def down():
        try:
            targets = running.ask("/targets")["activeTargets"]
        except (httpx.TransportError, httpx.HTTPStatusError):
            return ["prometheus"]
        return [t["lastError"] or t["scrapePool"] for t in targets if t["health"] != "up"] or ([] if len(targets) == 2 else ["targets"])

    running.wait(down)
    call()
    yield running
    running.process.terminate()
    running.process.wait(timeout=30)


def test_every_rule_is_evaluated_and_none_fires_on_a_server_that_is_well(prometheus):
    def unwell():
        groups = prometheus.ask("/rules")["groups"]
        return [r["name"] for g in groups for r in g["rules"] if r["health"] == "unknown"] if groups else ["no rules"]

    prometheus.wait(unwell)
    known = [rule for group in prometheus.ask("/rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in known} == {rule["alert"] for rule in rules()}
    assert not [(rule["name"], rule["lastError"]) for rule in known if rule["health"] != "ok"]
    immediate = {rule["alert"] for rule in rules() if "for" not in rule}
    assert immediate and not [rule["name"] for rule in known if rule["name"] in immediate and rule["state"] != "inactive"]


def test_every_panel_shows_something(prometheus):
    def empty():
        missing = []
        for title, expression in panels():
            asked = expression.replace("$__rate_interval", "1m").replace("$__range", "1m")
            asked = re.sub(r"\$(namespace|model|tenant)\b", ".*", asked)
            assert "$" not in asked, f"{title}: {asked}"
            is_expected = not RARE.search(asked) and title.split(": ")[1] not in EMPTY_WHILE_WELL
            if not prometheus.ask("/query", query=asked)["result"] and is_expected:
                missing.append(title)
        return missing

    prometheus.wait(empty)


def test_every_metric_that_is_named_is_in_the_catalogue(server, rest):
    token = (server.state / "operator.token").read_text().strip()
    rest.post("/v1/ml/sentiment", json={"inputs": "A fine day."})
    shown = families(httpx.get(f"http://{server.ops}/metrics").text)
    shown |= families(httpx.get(f"http://{server.ops}/admin/v1/metrics", headers={"Authorization": f"Bearer {token}"}).text)
    documented = set(METRIC.findall((ROOT / "docs/metrics.md").read_text()))
    variables = [v["query"] for d in DASHBOARDS.values() for v in d["templating"]["list"]]
    named = set(METRIC.findall("\n".join([rule["expr"] for rule in rules()] + [e for _, e in panels()] + variables)))
    assert len(named) > 40
    assert not {name for name in named - shown if not RARE.fullmatch(name)}
    assert not {re.sub("_bucket$", "", name) for name in named} - documented
