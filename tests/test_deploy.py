"""The files in `deploy/` fit the gateway: metrics that exist, configs that it takes, units that systemd accepts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import tomli
import yaml
from asgi import in_process
from cli_process import GATEWAY
from running import SECRET, eventually, running

from gateway.config.load import load_config
from gateway.config.tables import Config
from gateway.simulate import body, encode

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
OPERATE = (ROOT / "docs" / "operate.md").read_text()
ALERTS = [
    rule
    for group in yaml.safe_load((DEPLOY / "monitoring" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((DEPLOY / "monitoring" / "dashboard.json").read_text())
METRIC = re.compile(r"\b(?:gateway|process)_[a-z_]+\b")
EXPOSURE = 20
"""The highest exposure that `systemd-analyze security` may find, in tenths."""
PLUGIN = """
    from gateway import hookimpl

    class Plugin:
        @hookimpl
        def on_event(self, event):
            pass

        @hookimpl
        def custom_values(self, request):
            return {"balance": "120.50"}
"""


def expressions() -> Iterator[str]:
    """Of the alerts and of the dashboard."""
    yield from (rule["expr"] for rule in ALERTS)
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (one["expr"] for one in DASHBOARD["annotations"]["list"])
    yield from (one["query"]["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query")


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a gateway that has received, refused, delivered and answered."""
    with running(tmp_path_factory.mktemp("metrics"), "[plugins.crm]\n", plugins={"crm": PLUGIN}) as gateway:
        with gateway.client() as client:
            assert client.post(encode(body("payment"))).status == 200
            assert client.ask(["balance"], customer_uid="1").status == 200
        assert httpx.post(gateway.url, content=b"{}").status_code == 401
        page = f"{gateway.admin_url}/metrics"
        eventually(lambda: "gateway_deliveries_total" in httpx.get(page).text)
        return httpx.get(page).text


def test_alerts_and_dashboard_use_metrics_that_exist(metrics: str) -> None:
    """Every name and every label in an expression is one of `/metrics`."""
    names = set(re.findall(r"^([a-z_]+)[{ ]", metrics, re.MULTILINE))
    labels = set(re.findall(r'([a-z_]+)="', metrics)) | {"instance", "job", "at", "datasource"}
    found = list(expressions())

    assert len(found) > len(ALERTS) > 10
    for expression in found:
        used = METRIC.findall(expression)
        assert used or expression.startswith("up"), expression
        assert set(used) <= names, expression
        selected = set(re.findall(r"[{,] *([a-z_]+)(?:=|!=)", expression))
        for group in re.findall(r"by \(([^)]*)\)", expression):
            selected |= {label.strip() for label in group.split(",")}
        assert selected <= labels, expression


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_an_alert_has_its_section(rule: dict[str, Any]) -> None:
    """In docs/operate.md, under the anchor that the alert names, with its severity."""
    name = rule["alert"]

    assert rule["annotations"]["runbook_url"] == f"{{{{ $externalLabels.gateway_docs }}}}#{name.lower()}"
    assert rule["annotations"]["summary"]
    assert f"\n### {name}\n\n**{rule['labels']['severity']}.** " in OPERATE


def test_a_section_of_an_alert_has_its_rule() -> None:
    """No section is left of an alert that is gone."""
    assert re.findall(r"^### (Gateway\w+)$", OPERATE, re.MULTILINE) == [rule["alert"] for rule in ALERTS]


def kubernetes(name: str = "webio-gateway") -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / f"{name}.yaml").read_text()))


def config_of(folder: Path, text: str) -> Config:
    """A config of a container, whose secrets and data are in `folder`."""
    for name in ("webio.secret", "admin.password", "database.password"):
        (folder / name).write_text(SECRET)
    for place in ("/run/secrets/", "/secrets/", "/data/"):
        text = text.replace(f'"{place}', f'"{folder}/')
    path = folder / "config.toml"
    path.write_text(text)
    return load_config(path)


@pytest.mark.parametrize("source", ["compose", "webio-gateway", "webio-gateway-cluster"])
def test_the_configs_are_accepted(tmp_path: Path, source: str) -> None:
    """Every key exists, every plugin is bundled, and the ports are those of the other files."""
    text = (DEPLOY / "container" / "config.toml").read_text()
    if source != "compose":
        text = kubernetes(source)[0]["data"]["config.toml"]
    config = config_of(tmp_path, text)
    done = subprocess.run(
        [GATEWAY, "check", "--offline", "-c", config.source], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert (config.server.port, config.admin.port) == (8080, 8081)


def test_the_manifests_fit_together() -> None:
    """The files that compose and Kubernetes mount exist, and the names in one place are those in the other."""
    compose = yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text())
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (DEPLOY / "container" / source).is_file(), source
        assert set(service.get("secrets", ())) <= compose["secrets"].keys()
    gateway = compose["services"]["gateway"]
    assert gateway["read_only"] is True
    assert gateway["cap_drop"] == ["ALL"]
    subnet = compose["networks"]["inside"]["ipam"]["config"][0]["subnet"]
    proxies = tomli.loads((DEPLOY / "container" / "config.toml").read_text())["server"]["trusted_proxies"]
    assert proxies == [subnet.replace(".0/24", ".1")]

    _, stateful, *services, _ = kubernetes()
    pod = stateful["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert stateful["spec"]["replicas"] == 1
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]} | {"data"}
    ports = {port["name"] for port in container["ports"]}
    assert {service["spec"]["ports"][0]["targetPort"] for service in services} == ports


def test_the_cluster_survives_a_pod() -> None:
    """Three pods on different nodes without a volume; two stay through an update and a drain; no request sticks."""
    _, deployment, budget, webhooks, admin, _ = kubernetes("webio-gateway-cluster")
    spec, pod = deployment["spec"], deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]

    assert (spec["replicas"], budget["spec"]["minAvailable"]) == (3, 2)
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert pod["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "DoNotSchedule"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert not any("persistentVolumeClaim" in volume for volume in pod["volumes"])
    ports = {port["name"] for port in container["ports"]}
    assert {service["spec"]["ports"][0]["targetPort"] for service in (webhooks, admin)} == ports
    assert "sessionAffinity" not in webhooks["spec"]


def test_the_container_file_installs_the_release() -> None:
    """The wheel that `make release` built, and the packages that it pinned by their hashes; its ignore file lets these
    through, and nothing else. The image has no root."""
    text = (DEPLOY / "container" / "Containerfile").read_text()
    kept = (DEPLOY / "container" / "Containerfile.dockerignore").read_text().splitlines()
    needed = {"dist/constraints.txt", "dist/webio_gateway-*.whl"}

    copied = {word for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE) for word in line.split()}
    assert copied == needed
    assert {line[1:] for line in kept if line.startswith("!")} == needed
    assert kept[0] == "*"
    assert "pip install --no-cache-dir --require-hashes -r /release/constraints.txt" in text
    assert "--no-index --no-deps /release/webio_gateway-*.whl" in text
    assert "\nUSER 10001:10001\n" in text
    assert re.search(r"^HEALTHCHECK .*/health/ready", text, re.MULTILINE)
    health = json.loads(re.search(r"CMD (\[\"python\".*\])$", text, re.MULTILINE)[1])  # type: ignore[index]
    compile(health[2], "health check", "exec")


def test_the_units_are_sound(tmp_path: Path) -> None:
    """systemd accepts them, and finds little that the service could do to the machine."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in (DEPLOY / "systemd").iterdir():
        text = unit.read_text().replace("/opt/webio-gateway/bin/gateway", GATEWAY)
        (tmp_path / unit.name).write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE))
    units = [str(tmp_path / f"webio-gateway.{kind}") for kind in ("service", "socket")]
    security = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", units[0]]

    for command in (["systemd-analyze", "verify", *units], security):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "webio-gateway" not in done.stderr, done.stderr


def test_the_units_open_the_default_ports() -> None:
    """The public listener's socket is the first: they are told apart by their order."""
    text = (DEPLOY / "systemd" / "webio-gateway.socket").read_text()

    assert re.findall(r"^ListenStream=(.*)$", text, re.MULTILINE) == ["127.0.0.1:8080", "127.0.0.1:8081"]


def test_a_file_that_logrotate_takes_is_written_anew(tmp_path: Path) -> None:
    """By the rules of the example, while the `logging` plugin writes to it."""
    if shutil.which("logrotate") is None:
        pytest.skip("logrotate is not installed")
    log = tmp_path / "var" / "log" / "events.jsonl"
    log.parent.mkdir(parents=True)
    rules = (DEPLOY / "logrotate" / "webio-gateway").read_text().partition("\n# Standard error")[0]
    rules = re.sub(r"^ *su .*\n", "", rules, flags=re.MULTILINE)
    conf = tmp_path / "logrotate.conf"
    conf.write_text(rules.replace("/var/lib/webio-gateway/", f"{tmp_path}/"))
    conf.chmod(0o644)
    tmp_path.chmod(0o755)
    with running(tmp_path, f'[plugins.logging]\noutput = "{log}"\n') as gateway, gateway.client() as client:

        def logged(number: int) -> bool:
            return log.exists() and str(ids[number]) in log.read_text()

        ids = [client.post(encode({**body("payment"), "number": 0})).document["id"]]
        eventually(lambda: logged(0))
        command = ["logrotate", "--force", "--state", str(tmp_path / "state"), str(conf)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        [rotated] = log.parent.iterdir()
        assert rotated != log
        ids.append(client.post(encode({**body("payment"), "number": 1})).document["id"])
        eventually(lambda: logged(1))
    assert not logged(0)
    assert ids[0] in rotated.read_text()


SERIES = {
    'gateway_oldest_undelivered_seconds{plugin="stuck"}': "0+60x30",
    'gateway_deliveries_total{plugin="stuck"}': "7+0x30",
    'gateway_oldest_undelivered_seconds{plugin="slow"}': "700+0x30",
    'gateway_deliveries_total{plugin="slow"}': "7+5x30",
    'gateway_dead_letters{plugin="slow"}': "0x10 3x20",
    'up{job="webio-gateway"}': "1x20 0x10",
    "gateway_journal_refusing": "0x10 1x20",
    "gateway_disk_free_bytes": "1e12x10 4e8x20",
    'gateway_provider_broken{provider="crm"}': "0x10 1x20",
    "gateway_unknown_events_total": "3x10 4x20",
    'gateway_events_received_total{hook="payment",kind="unreadable",organisation="acme"}': "0x10 1x20",
}
"""A minute apart; at first nothing is wrong."""
RAISED = {
    "GatewayNothingDelivered": ("page", {"plugin": "stuck"}, "/trouble?plugin=stuck", "for plugin stuck, which has"),
    "GatewayDeadLetters": ("ticket", {"plugin": "slow"}, "/trouble?plugin=slow", "Plugin slow: 3 dead letters wait"),
    "GatewayRefusesEvents": ("page", {}, "/", "refuses new events"),
    "GatewayDiskLow": ("page", {}, "/", "has 381.5MiB free"),
    "GatewayProviderBroken": ("page", {"provider": "crm"}, "/values", "Provider crm fails"),
    "GatewayUnknownEvents": ("ticket", {}, "/drift", "of a type that no hook has"),
    "GatewayUnreadableEvents": ("ticket", {"hook": "payment"}, "/drift", "the hook payment could not be read"),
    "GatewayDown": ("page", {"job": "webio-gateway"}, "/", "does not answer"),
}
"""What is raised by `SERIES`: severity, labels, the page that the alert links to, and words of its summary."""
SECRETS = {  # when each was last used, 4 minutes apart; 0 is in use, 1 was used once, 2 never, `alone` is the only one
    'gateway_secret_last_used_timestamp_seconds{organisation="acme",secret="0"}': "0+240x4600",
    'gateway_secret_last_used_timestamp_seconds{organisation="acme",secret="1"}': "0+240x1500 360000x3100",
    'gateway_secret_last_used_timestamp_seconds{organisation="acme",secret="2"}': "0x4600",
    'gateway_secret_last_used_timestamp_seconds{organisation="alone",secret="0"}': "0+240x150 36000x4450",
}


def summary_of(rule: dict[str, Any], labels: dict[str, str], value: str) -> str:
    """A summary as Prometheus fills it in."""
    text = re.sub(r"{{ \$labels\.(\w+) }}", lambda match: labels[match[1]], rule["annotations"]["summary"])
    return re.sub(r"{{ \$value[^}]*}}", value, text)


def expected(name: str, severity: str, labels: dict[str, str], page: str, value: str = "") -> dict[str, Any]:
    """An alert in a unit test of promtool."""
    [rule] = [rule for rule in ALERTS if rule["alert"] == name]
    return {
        "exp_labels": {"severity": severity, **labels},
        "exp_annotations": {
            "summary": summary_of(rule, labels, value),
            "dashboard": f"https://gateway.example{page}",
            "runbook_url": f"https://docs.example/operate.md#{name.lower()}",
        },
    }


def unit_tests() -> dict[str, dict[str, Any]]:
    """Files of unit tests for promtool."""
    values = {"GatewayDeadLetters": "3", "GatewayDiskLow": "381.5Mi"}
    checks: list[dict[str, Any]] = [{"eval_time": "9m", "alertname": name} for name in RAISED]
    for name, (severity, labels, page, words) in RAISED.items():
        alert = expected(name, severity, labels, page, values.get(name, ""))
        assert words in alert["exp_annotations"]["summary"]
        checks.append({"eval_time": "28m", "alertname": name, "exp_alerts": [alert]})
    unused = [
        expected("GatewaySecretUnused", "ticket", {"organisation": "acme", "secret": secret}, "/config")
        for secret in ("1", "2")
    ]
    late: list[dict[str, Any]] = [
        {"eval_time": "160h", "alertname": "GatewaySecretUnused"},
        {"eval_time": "300h", "alertname": "GatewaySecretUnused", "exp_alerts": unused},
    ]
    labels = {"gateway_url": "https://gateway.example", "gateway_docs": "https://docs.example/operate.md"}

    def file(interval: str, every: str, series: dict[str, str], checks: list[dict[str, Any]]) -> dict[str, Any]:
        given = [{"series": name, "values": values} for name, values in series.items()]
        test = {"interval": interval, "input_series": given, "alert_rule_test": checks, "external_labels": labels}
        return {"rule_files": ["alerts.yml"], "evaluation_interval": every, "tests": [test]}

    return {
        "waiting.yml": file("1m", "1m", SERIES, checks),
        "secrets.yml": file("4m", "40m", SECRETS, late),
    }


def test_prometheus_raises_the_alerts(tmp_path: Path) -> None:
    """Each alert comes, and not before, with links to its page and to its section of the docs."""
    if shutil.which("promtool") is None:
        assert not os.environ.get("CI"), "promtool is not installed"
        pytest.skip("promtool is not installed")
    shutil.copy(DEPLOY / "monitoring" / "alerts.yml", tmp_path)
    files = unit_tests()
    for name, content in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(content))

    for command in (["check", "rules", "alerts.yml"], ["test", "rules", *files]):
        done = subprocess.run(["promtool", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


async def test_the_pages_that_alerts_link_to_exist(tmp_path: Path) -> None:
    """With the query that they have: a page of one plugin shows what that one has."""
    links = {rule["annotations"]["dashboard"].removeprefix("{{ $externalLabels.gateway_url }}") for rule in ALERTS}
    assert "/trouble?plugin={{ $labels.plugin | urlquery }}" in links
    async with in_process(tmp_path, '[plugins.archive]\ndirectory = "archive"\n') as gateway:
        for link in links:
            path, _, query = link.replace("{{ $labels.plugin | urlquery }}", "archive").partition("?")
            answer = await gateway.manage("GET", path, query=query.encode())
            assert answer.status == 200, link
            assert "<html" in answer.body.decode(), link
            assert ("Only what plugin archive has is shown" in answer.body.decode()) == bool(query), link
