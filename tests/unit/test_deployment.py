"""Deploy files: every role runs somewhere, everything is pinned, limited, hidden and described."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.kafka.topics import Cluster
from infra.telemetry.metrics import METRICS
from tests.deployment import (
    COMPOSE,
    DEPLOY,
    EVERY_ROLE,
    IMAGE,
    KNOWN_SETTINGS,
    KUBERNETES,
    OURS,
    SERVICES,
    manifests,
    settings_named,
)
from tests.source import ROOT

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
DOCKERFILE = (DEPLOY / "commons.Dockerfile").read_text()
DEPLOYMENTS = [
    each for each in manifests() if each["kind"] == "Deployment" and each["metadata"]["name"] != "every-role"
]
POD = yaml.safe_load((KUBERNETES / "base" / "pod.yaml").read_text())["spec"]["template"]["spec"]
NO_DIGEST = {"jaegertracing/jaeger"}


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return found


def test_every_role_has_an_entry_in_compose_and_a_deployment() -> None:
    assert sorted(each["command"][1] for each in OURS.values()) == sorted(EVERY_ROLE)
    assert sorted(container(each)["args"][1] for each in DEPLOYMENTS) == sorted(EVERY_ROLE)
    assert {each["command"][0] for each in OURS.values()} == {"up"}


def test_every_variable_of_ours_in_a_deploy_file_is_a_setting() -> None:
    assert {"COMMONS_BUS", "COMMONS_DATABASE_FILE", "COMMONS_AGENT_HOME"} <= settings_named()
    assert settings_named() - KNOWN_SETTINGS == set()


def test_every_image_is_pinned_and_stands_in_the_operations_guide() -> None:
    for image in {each["image"] for each in SERVICES.values()} - {each["image"] for each in OURS.values()}:
        name, tag, digest = re.fullmatch(r"([^:@]+):([^:@]+)(?:@sha256:([0-9a-f]{64}))?", image).groups()  # type: ignore[union-attr]
        assert re.search(r"\d+\.\d+", tag), image
        assert digest or name in NO_DIGEST, image
        assert f"`{name}:{tag}`" in OPERATIONS, image
    assert f"`{OURS['http']['image']}`" in OPERATIONS


def test_kubernetes_runs_the_same_images_as_compose() -> None:
    known = {each["image"] for each in SERVICES.values()} | {IMAGE}
    sets = [
        each for each in manifests() if each["kind"] in {"Deployment", "StatefulSet"} and "image" in container(each)
    ]
    assert len(sets) == len(DEPLOYMENTS) + 2
    assert [container(each)["image"] for each in sets if container(each)["image"] not in known] == []


def test_a_published_port_listens_on_this_machine_only_and_stands_in_the_operations_guide() -> None:
    published = [port for each in SERVICES.values() for port in each.get("ports", ())]
    assert len(published) >= 8
    for port in published:
        host, outside, _ = port.split(":")
        assert host == "127.0.0.1", port
        assert re.search(rf"\| `?{outside}`? \|", OPERATIONS), port


def test_no_secret_stands_in_the_clear() -> None:
    texts = [(ROOT / "docker-compose.yml").read_text(), *(path.read_text() for path in KUBERNETES.rglob("*.yaml"))]
    for text in texts:
        assert re.findall(r"://[^/\s:@]+:[^/\s@]+@", text) == []
        secrets = re.findall(r"\b([A-Z_]*(?:PASSWORD|SECRET|TOKEN)[A-Z_]*)\b", text)
        assert [name for name in secrets if not name.endswith("_FILE")] == []
    assert {each["kind"] for each in manifests()}.isdisjoint({"Secret"})
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {f"/{Path(secret['file']).parent.as_posix()}/" for secret in COMPOSE["secrets"].values()} <= set(ignored)


def test_every_container_is_limited_restarted_and_without_privileges() -> None:
    for name, each in SERVICES.items():
        assert each["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory", "pids"}, name
        assert (each["restart"], each["cap_drop"]) == ("unless-stopped", ["ALL"]), name
        assert each["security_opt"] == ["no-new-privileges:true"], name
    assert all(each["read_only"] for each in OURS.values())


def test_whoever_is_waited_for_until_healthy_has_a_health_check() -> None:
    waited = {
        other
        for each in SERVICES.values()
        for other, how in (each["depends_on"].items() if isinstance(each.get("depends_on"), dict) else ())
        if how["condition"] == "service_healthy"
    }
    assert waited >= {"postgres", "kafka-1", "http"}
    assert [name for name in waited if "healthcheck" not in SERVICES[name] and name not in OURS] == []
    assert "HEALTHCHECK" in DOCKERFILE
    assert all("postgres" in each["depends_on"] for each in OURS.values())


def test_the_number_of_kafka_nodes_is_chosen_by_one_file() -> None:
    chosen = dict(
        line.split("=", 1) for line in (DEPLOY / "cluster.env").read_text().splitlines() if not line.startswith("#")
    )
    nodes = [name for name in SERVICES if name.startswith("kafka-")]
    assert chosen["KAFKA_VOTERS"].split(",") == [f"{name[-1]}@{name}:9093" for name in nodes]
    assert chosen["COMMONS_BUS"] == f"kafka://{','.join(f'{name}:9092' for name in nodes)}"
    assert chosen["COMMONS_KAFKA_REPLICATION"] == str(len(nodes))
    assert {SERVICES[name]["profiles"][0] for name in nodes[1:]} == {chosen["COMPOSE_PROFILES"]}


def test_containers_and_tests_run_one_kafka_with_one_default_of_partitions() -> None:
    pom = (ROOT / "infra" / "kafka" / "pom.xml").read_text()
    version = re.search(r"<artifactId>kafka_2.13</artifactId>\s*<version>([\d.]+)<", pom)
    assert version
    assert SERVICES["kafka-1"]["image"].startswith(f"apache/kafka:{version[1]}@")
    default = OURS["follow"]["environment"]["COMMONS_KAFKA_PARTITIONS"]
    assert default == f"${{COMMONS_KAFKA_PARTITIONS:-{Cluster('').partitions}}}"


def test_the_image_is_made_in_stages_pinned_and_runs_as_nobody_special() -> None:
    stages = re.split(r"(?m)^FROM ", DOCKERFILE)[1:]
    assert len(stages) == 2
    assert all(re.match(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", stage) for stage in stages)
    assert re.search(r"(?m)^USER 10001:10001$", stages[1])
    assert "pip uninstall" in stages[1]
    assert not re.search(r"\b(uv|apt-get|gcc|pip install)\b", stages[1])
    assert POD["securityContext"]["runAsUser"] == 10001


def test_the_image_holds_only_what_is_named() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    copied = set(re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", DOCKERFILE))
    assert {name for names in copied for name in names.split()} == {line[1:] for line in lines if line.startswith("!")}


def test_a_pod_is_asked_for_its_health_and_holds_no_token() -> None:
    own = POD["containers"][0]
    assert own["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert {own[name]["httpGet"]["path"] for name in ("livenessProbe", "startupProbe")} == {"/health/live"}
    assert POD["automountServiceAccountToken"] is False
    assert own["securityContext"]["readOnlyRootFilesystem"] is True
    assert POD["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


def test_the_dashboard_shows_numbers_that_exist_and_prometheus_asks_every_role() -> None:
    told = {metric.name: metric for metric in METRICS}
    suffix = {"counter": "_total", "gauge": "", "histogram": "_bucket"}
    dashboard = json.loads((DEPLOY / "telemetry" / "grafana" / "dashboards" / "commons.json").read_text())
    for panel in dashboard["panels"]:
        expression = panel["targets"][0]["expr"]
        (name,) = re.findall(r"commons_[a-z_]+", expression)
        metric = told[re.sub(r"_(total|bucket)$", "", name)]
        assert name == metric.name + suffix[metric.kind], name
        by = re.search(r"by \(([^)]*)\)", expression)
        assert by
        assert set(by[1].split(", ")) - {"le"} <= set(metric.labels), expression
    scraped = yaml.safe_load((DEPLOY / "telemetry" / "prometheus.yml").read_text())["scrape_configs"][0]
    assert sorted(scraped["dns_sd_configs"][0]["names"]) == sorted(OURS)


def test_secrets_are_drawn_once_into_a_closed_folder_and_not_printed(tmp_path: Path) -> None:
    script = shutil.copy(DEPLOY / "make-secrets.sh", tmp_path)
    first, again = (subprocess.run(["sh", script], capture_output=True, text=True, check=True) for _ in range(2))
    folder = tmp_path / "secrets"
    drawn = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(drawn) == set(COMPOSE["secrets"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(set(drawn.values())) == 3
    assert all(len(text) >= 48 for text in drawn.values())
    assert drawn["postgres_password"] in drawn["database_url"]
    assert not any(text in first.stdout for text in drawn.values())
    assert again.stdout == ""


def docker_compose() -> bool:
    """Tell whether the command is there; it needs no engine to judge a file."""
    asked = ["docker", "compose", "version"]
    return shutil.which("docker") is not None and not subprocess.run(asked, capture_output=True, check=False).returncode


@pytest.mark.skipif(not docker_compose(), reason="there is no docker compose")
@pytest.mark.parametrize("choice", [(), ("--env-file", "infra/deploy/cluster.env"), ("--profile", "chain")])
def test_docker_compose_takes_the_file(choice: tuple[str, ...]) -> None:
    command = ["docker", "compose", *choice, "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")
def test_kustomize_puts_the_common_part_over_every_role() -> None:
    command = ["kubectl", "kustomize", str(KUBERNETES / "overlays" / "demo")]
    made = list(yaml.safe_load_all(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    roles = [each for each in made if each["kind"] == "Deployment"]
    assert {container(each)["args"][1] for each in roles} == EVERY_ROLE
    for each in roles:
        assert container(each)["envFrom"][0]["configMapRef"]["name"].startswith("commons-")
        assert container(each)["livenessProbe"]
        assert each["metadata"]["namespace"] == "compute-commons"
