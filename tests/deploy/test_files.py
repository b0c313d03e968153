"""The other files of deploy/: checked by their own tools where those are here, else for what must hold in them."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sseproxy.config import Config
from sseproxy.server.drain import AFTER_GRACE
from tests.harness import optional_tool

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
GRACE = Config.load({}).server.shutdown_grace
#: What is to pass between SIGTERM and SIGKILL, at least.
PATIENCE = GRACE + AFTER_GRACE + 2
SECRETS = {
    "ADMIN_KEY": "sk-" + "a" * 40, "UPSTREAM_API_KEY": "sk-" + "b" * 40, "LEDGER_URL": "postgresql://u:p@h/n",
    "REDIS_URL": "redis://h:6379/0",
}  # fmt: skip


def read(name: str) -> str:
    return (DEPLOY / name).read_text("utf-8")


def manifests() -> dict[str, dict[str, Any]]:
    """By kind; there is one of each."""
    loaded = [yaml.safe_load(path.read_text("utf-8")) for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))]
    assert len({each["kind"] for each in loaded}) == len(loaded)
    return {each["kind"]: each for each in loaded}


def unit() -> dict[str, list[str]]:
    lines = [line.split("=", 1) for line in read("sseproxy.service").splitlines() if re.match(r"[A-Z]\w+=", line)]
    found: dict[str, list[str]] = {}
    for name, value in lines:
        found.setdefault(name, []).append(value)
    return found


def seconds(text: str) -> float:
    assert text.endswith("s"), text
    return float(text.removesuffix("s"))


def test_the_page_names_every_file() -> None:
    page = read("README.md")
    files = [path.relative_to(DEPLOY) for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".pyc"]

    missing = [path for path in files if f"({path})" not in page and f"({path.parts[0]}/)" not in page]
    assert [str(path) for path in missing if path.name != "README.md"] == []


# systemd


def test_the_unit_is_valid(tmp_path: Path) -> None:
    text = read("sseproxy.service").replace("/opt/sseproxy/bin/sseproxy", shutil.which("true") or "/bin/true")
    (tmp_path / "sseproxy.service").write_text(text, "utf-8")
    command = [optional_tool("systemd-analyze"), "verify", "--man=no", str(tmp_path / "sseproxy.service")]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert (checked.returncode, checked.stderr) == (0, "")


def test_systemd_rates_the_unit_as_protected(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "sseproxy.service", tmp_path)
    command = [optional_tool("systemd-analyze"), "security", "--offline=true", "--threshold=20", "--no-pager"]
    checked = subprocess.run([*command, str(tmp_path / "sseproxy.service")], capture_output=True, text=True)
    if "nrecognized option" in checked.stderr:
        pytest.skip("this systemd cannot rate units offline")

    assert checked.returncode == 0, checked.stdout[-400:]


def test_the_unit_is_patient_reloads_and_hardens() -> None:
    found = unit()

    assert float(found["TimeoutStopSec"][0]) >= PATIENCE
    assert found["ExecReload"][-1] == "kill -HUP $MAINPID"
    for name, value in {"DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict"}.items():
        assert found[name] == [value]
    assert found["StateDirectory"] == ["sseproxy"]


# Docker


def test_the_image_is_built_in_stages_and_runs_as_nobody_in_particular() -> None:
    lines = [line for line in read("Dockerfile").splitlines() if line and not line.startswith("#")]
    last = max(index for index, line in enumerate(lines) if line.startswith("FROM"))
    users = [line.split()[1] for line in lines[last:] if line.startswith("USER")]

    assert sum(line.startswith("FROM") for line in lines) == 2
    assert all(":" in line and ":latest" not in line for line in lines if line.startswith("FROM"))
    assert users and all(user.split(":")[0].isdigit() and not user.startswith("0") for user in users)
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    assert not any(line.startswith("ADD ") for line in lines)


def test_the_image_copies_what_is_there_and_what_is_not_ignored() -> None:
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", read("Dockerfile"), re.M)
    copied = {source.removeprefix("./") for line in sources for source in line.split()}
    admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}

    assert copied == admitted
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_image_starts_with_flags_that_exist() -> None:
    from sseproxy.cli.serve import serve

    command = json.loads(re.findall(r"^CMD (.+)$", read("Dockerfile"), re.M)[-1])
    args = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"][0]["args"]

    for each in (command, args):
        assert each[0] == "serve"
        serve.make_context("serve", each[1:])


# compose


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(read("compose.yaml"))
    return loaded


def test_compose_is_valid(tmp_path: Path) -> None:
    docker = optional_tool("docker")
    if subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker has no compose plugin on this machine; it is optional everywhere")
    env = {"ADMIN_KEY": "a", "UPSTREAM_API_KEY": "b", "POSTGRES_PASSWORD": "c", "PATH": "/usr/bin:/bin"}
    command = [docker, "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    checked = subprocess.run(command, capture_output=True, text=True, env=env)

    assert checked.returncode == 0, checked.stderr


def test_the_redis_of_compose_forgets_nothing_early_as_the_operations_guide_asks() -> None:
    advice = re.search(r"`maxmemory-policy (\w+)`", (ROOT / "docs" / "operations.md").read_text("utf-8"))
    command = compose()["services"]["redis"]["command"]

    assert advice and command[command.index("--maxmemory-policy") + 1] == advice[1]


def test_compose_runs_two_instances_with_everything_they_need() -> None:
    services = compose()["services"]
    named = set(re.findall(r"\$\{(\w+)", read("config.yaml").replace("${VAR}", "")))

    assert set(services) == {"proxy-1", "proxy-2", "nginx", "postgres", "redis"}
    for name in ("proxy-1", "proxy-2"):
        service = services[name]
        assert seconds(service["stop_grace_period"]) >= PATIENCE
        assert set(service["depends_on"]) == {"postgres", "redis"}
        assert named <= set(service["environment"])
    for each in services.values():
        assert [volume for volume in each.get("volumes", []) if volume.startswith("./") and not exists(volume)] == []
        assert set(each.get("depends_on", ())) <= set(services)


def exists(volume: str) -> bool:
    return (DEPLOY / volume.split(":")[0]).exists()


def test_the_ports_and_names_of_compose_and_its_nginx_agree() -> None:
    nginx = read("compose-nginx.conf")

    assert set(re.findall(r"server (\S+):8080", nginx)) == {"proxy-1", "proxy-2"}
    assert compose()["services"]["nginx"]["ports"] == ["8080:80"]


# configuration


@pytest.mark.parametrize("name", ["compose", "kubernetes"])
def test_the_configurations_are_valid_once_the_environment_is_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in SECRETS.items():
        monkeypatch.setenv(variable, value)
    text = read("config.yaml") if name == "compose" else manifests()["ConfigMap"]["data"]["config.yaml"]
    (tmp_path / "config.yaml").write_text(text, "utf-8")

    config = Config.load(tmp_path / "config.yaml")

    assert not config.warnings
    assert config.server.shutdown_grace == GRACE
    assert config.accounting.ledger.get_secret_value() == SECRETS["LEDGER_URL"]
    assert config.streams.store.get_secret_value() == config.limits.store.get_secret_value() == SECRETS["REDIS_URL"]


# Kubernetes


def test_the_manifests_keep_the_schemas_of_kubernetes() -> None:
    if importlib.util.find_spec("kubernetes_validate") is None:
        pytest.skip("the package kubernetes-validate is not on this machine; it is optional everywhere")
    import kubernetes_validate

    for kind, manifest in manifests().items():
        if kind != "Kustomization":
            kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_names_labels_and_ports_of_the_manifests_agree() -> None:
    found = manifests()
    template = found["Deployment"]["spec"]["template"]
    labels = template["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}

    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert {port["targetPort"] for port in found["Service"]["spec"]["ports"]} <= set(ports)
    assert {port["port"] for rule in found["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]} <= set(ports)
    assert ports == {"http": 8080}
    named = set(found["Kustomization"]["resources"]) | {"kustomization.yaml", "secret.example.yaml"}
    assert named == {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")}
    assert {
        each["metadata"].get("namespace", "sseproxy") for kind, each in found.items() if kind != "Kustomization"
    } == {"sseproxy"}


def test_the_pod_is_probed_patient_and_confined() -> None:
    spec = manifests()["Deployment"]["spec"]["template"]["spec"]
    container = spec["containers"][0]
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    pause = float(container["lifecycle"]["preStop"]["exec"]["command"][1])

    assert probes == {"startup": "/-/health", "liveness": "/-/health", "readiness": "/-/ready"}
    assert spec["terminationGracePeriodSeconds"] >= PATIENCE + pause
    assert spec["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    user = re.findall(r"^USER (\d+):(\d+)$", read("Dockerfile"), re.M)[-1]
    assert user == (str(spec["securityContext"]["runAsUser"]), str(spec["securityContext"]["runAsGroup"]))


def test_every_volume_config_map_and_secret_of_the_pod_is_there() -> None:
    found = manifests()
    spec = found["Deployment"]["spec"]["template"]["spec"]
    container = spec["containers"][0]
    variables = set(re.findall(r"\$\{(\w+)", found["ConfigMap"]["data"]["config.yaml"]))

    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
    assert spec["volumes"][0]["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]
    assert container["envFrom"][0]["secretRef"]["name"] == found["Secret"]["metadata"]["name"]
    assert variables == set(found["Secret"]["stringData"])


# Prometheus and Grafana


def metrics() -> set[str]:
    """Every name that a scrape can have."""
    from prometheus_client import CollectorRegistry

    from sseproxy.metrics import Instruments

    names: set[str] = set()
    registry = CollectorRegistry(auto_describe=True)
    Instruments(registry)
    for metric in registry.collect():
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(metric.type, [""])
        names |= {metric.name + ending for ending in endings}
    return names


def expressions() -> list[str]:
    alerts = [
        rule["expr"] for group in yaml.safe_load(read("prometheus/alerts.yml"))["groups"] for rule in group["rules"]
    ]
    board = json.loads(read("grafana/dashboard.json"))
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return alerts + queries + [each["definition"] for each in board["templating"]["list"] if "definition" in each]


def test_every_metric_of_alerts_and_dashboard_exists() -> None:
    named = {name for expression in expressions() for name in re.findall(r"\bsseproxy_\w+", expression)}

    assert len(named) >= 10
    assert sorted(named - metrics()) == []


def test_every_metric_is_on_the_dashboard_or_in_an_alert() -> None:
    text = "\n".join(expressions())
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in metrics()}

    assert sorted(base for base in bases if base not in text) == []


def test_prometheus_accepts_its_configuration_and_rules() -> None:
    promtool = optional_tool("promtool")
    for command in (["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"]):
        checked = subprocess.run([promtool, *command], capture_output=True, text=True, cwd=DEPLOY / "prometheus")
        assert checked.returncode == 0, checked.stderr


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    rules = [rule for group in yaml.safe_load(read("prometheus/alerts.yml"))["groups"] for rule in group["rules"]]

    assert all(rule["labels"]["severity"] in ("page", "ticket") for rule in rules)
    assert all({"summary", "action"} == set(rule["annotations"]) for rule in rules)


def test_what_a_client_s_own_request_is_refused_for_pages_nobody() -> None:
    rules = [rule for group in yaml.safe_load(read("prometheus/alerts.yml"))["groups"] for rule in group["rules"]]
    expression = next(rule["expr"] for rule in rules if rule["alert"] == "SSEProxyUpstreamFailing")
    passed_over = re.search(r'result!~"([^"]+)"', expression)

    assert passed_over
    for result in ("answered", "client_gone", "status_400", "status_404", "status_413", "status_415", "status_422"):
        assert re.fullmatch(passed_over[1], result)
    for result in ("status_401", "status_403", "status_408", "status_429", "status_500", "upstream_unreachable"):
        assert not re.fullmatch(passed_over[1], result)


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(read("grafana/dashboard.json"))["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells
