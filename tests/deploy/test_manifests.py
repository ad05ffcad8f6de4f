"""Dockerfile, compose file and Kubernetes manifests: well formed, without rights that are not needed, and in step."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from receiver.cli import main as command_line
from receiver.config import SETTINGS
from receiver.web.face import RESERVED_THREADS
from receiver.web.providers import MAX_UPLOAD

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SCHEMA = json.loads((Path(__file__).parent / "kubernetes.json").read_text())
NAMES = {setting.name for setting in SETTINGS}


# --- Dockerfile ------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of the Dockerfile, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    joined = re.sub(r"\\\n\s*", " ", text)
    return [
        (word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word
    ]


def test_the_image_runs_as_nobody_in_particular() -> None:
    """A numeric user (Kubernetes checks it), set after everything that needs root; versions are named."""
    steps = instructions()
    last = max(place for place, (word, _) in enumerate(steps) if word == "FROM")
    final = steps[last:]
    user = next(place for place, (word, _) in enumerate(final) if word == "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", final[user][1])
    assert not [word for word, _ in final[user:] if word in ("RUN", "COPY", "ADD")]
    assert all(re.search(r":\S*\d", rest) for word, rest in steps if word == "FROM")
    assert [word for word, _ in steps].count("FROM") == 2
    assert not [word for word, _ in steps if word == "ADD"]
    for word, rest in steps:
        if word in ("ENTRYPOINT", "CMD"):
            assert isinstance(json.loads(rest), list), "only the exec form passes SIGTERM on"
        if word == "HEALTHCHECK":
            assert isinstance(json.loads(rest.partition("CMD ")[2]), list)


def test_the_image_is_built_from_what_is_there() -> None:
    """Every file that is copied exists and is let through by the ignore file; nothing else of the copy gets in."""
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in allowed
    for word, rest in instructions():
        if word == "COPY" and "--from" not in rest:
            for name in rest.split()[:-1]:
                assert (ROOT / name).exists(), name
                assert f"!{name}" in allowed, name
    for name in (line[1:] for line in allowed if line.startswith("!")):
        assert (ROOT / name).exists(), name


def test_settings_that_the_files_name_exist() -> None:
    """No variable that nothing reads, in any file of deploy/."""
    providers = ("TOPVIEW_UID", "TOPVIEW_API_KEY")
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            for name in re.findall(r"\bRECEIVER_[A-Z_]+[A-Z]", path.read_text()):
                assert name.removesuffix("_FILE") in NAMES | set(providers), f"{path.name}: {name}"


# --- compose ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file, anchors resolved."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def test_the_compose_file_is_closed_in_itself(compose: dict[str, Any]) -> None:
    """Every service, network, volume and file that is referred to is there, and every command exists."""
    services = compose["services"]
    known = {"image", "build", "command", "environment", "env_file", "restart", "read_only", "tmpfs", "cap_drop",
             "security_opt", "stop_grace_period", "logging", "volumes", "shm_size", "healthcheck", "networks",
             "depends_on", "deploy", "ports"}  # fmt: skip
    conditions = {"service_healthy", "service_completed_successfully"}
    for name, service in services.items():
        assert set(service) <= known, name
        assert set(service["networks"]) <= set(compose["networks"])
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services
            assert how["condition"] in conditions
            if how["condition"] == "service_healthy":
                assert needed == "web" or "healthcheck" in services[needed]
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith(".") else source in compose["volumes"]
        if service["image"] == "callback-receiver":
            assert service["command"][0] in command_line.list_commands(None)  # type: ignore[attr-defined, arg-type]  # a group


def test_our_containers_have_no_rights_that_they_do_not_need(compose: dict[str, Any]) -> None:
    """Read-only, without capabilities, with time to stop; the database cannot be reached from outside."""
    stop = 25.0
    for name in ("migrate", "web", "worker"):
        service = compose["services"][name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert float(service["stop_grace_period"].rstrip("s")) > stop
        assert any(place.startswith("/tmp") for place in service["tmpfs"])
    assert compose["networks"]["inside"]["internal"]
    assert compose["services"]["postgres"]["networks"] == ["inside"]
    assert [name for name, service in compose["services"].items() if "ports" in service] == ["nginx"]


# --- Kubernetes ------------------------------------------------------------------------------------


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """(file, document) of every manifest."""
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield path.name, document


def faults(value: Any, kind: str, where: str) -> Iterator[str]:
    """What Kubernetes would not take: fields that it does not know, that are missing, or of another type."""
    if kind.startswith("List["):
        if not isinstance(value, list):
            yield f"{where} is no list"
            return
        for place, item in enumerate(value):
            yield from faults(item, kind[5:-1], f"{where}[{place}]")
    elif kind.startswith("Dict["):
        for name, item in value.items():
            yield from faults(item, kind[5:-1].split(", ")[1], f"{where}.{name}")
    elif kind in SCHEMA["models"]:
        model = SCHEMA["models"][kind]
        yield from (f"{where} lacks {name}" for name in model["required"] if name not in value)
        for name, item in value.items():
            if name in model["fields"]:
                yield from faults(item, model["fields"][name], f"{where}.{name}")
            else:
                yield f"{where}.{name} is unknown"
    elif not isinstance(value, {"str": str, "int": int, "bool": bool}.get(kind, object)):
        yield f"{where} is no {kind}"


def test_kubernetes_takes_the_manifests() -> None:
    """Every field is one that the API knows, of its type; a misspelt one would be dropped silently."""
    seen = set()
    for name, document in documents():
        kind = document["kind"]
        if kind in SCHEMA["kinds"]:
            seen.add(kind)
            assert list(faults(document, SCHEMA["kinds"][kind], f"{name}: {kind}")) == []
    assert seen == set(SCHEMA["kinds"])


def test_the_check_of_manifests_sees_faults() -> None:
    """A field too many, one too few, and one of another type."""
    bad = {"kind": "Service", "spec": {"selector": {"a": "b"}, "ports": [{"nam": "x", "port": "80"}]}}
    assert list(faults(bad, "V1Service", "x")) == ["x.spec.ports[0].nam is unknown", "x.spec.ports[0].port is no int"]
    assert list(faults({"spec": {"ports": [{"name": "x"}]}}, "V1Service", "x")) == ["x.spec.ports[0] lacks port"]


def test_the_manifests_belong_together() -> None:
    """Kustomize finds every file, selectors find their pods, budgets and scalers their deployments."""
    names = {name for name, _ in documents()}
    kustomization = next(document for name, document in documents() if name == "kustomization.yaml")
    assert set(kustomization["resources"]) == names - {"kustomization.yaml", "secret.example.yaml"}
    every = [document for _, document in documents()]
    deployments = {each["metadata"]["name"]: each for each in every if each["kind"] == "Deployment"}
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in deployments.values()]
    for each in every:
        spec = each.get("spec", {})
        selector = spec.get("selector", {})
        wanted = selector.get("matchLabels", selector if each["kind"] == "Service" else {})
        assert not wanted or wanted in labels, each["metadata"]["name"]
        if "scaleTargetRef" in spec:
            assert spec["scaleTargetRef"]["name"] in deployments


def test_an_apply_does_not_undo_the_scalers() -> None:
    """A Deployment that is scaled names no replicas: an upgrade under load would throw nearly all of them away."""
    every = [document for _, document in documents()]
    found = {each["metadata"]["name"]: each["spec"] for each in every if each["kind"] == "Deployment"}
    scaled = [each["spec"]["scaleTargetRef"]["name"] for each in every if "scaleTargetRef" in each.get("spec", {})]
    assert set(scaled) == set(found)
    assert not [name for name in scaled if "replicas" in found[name]]


def test_workers_are_scaled_by_any_keda_and_stay_while_prometheus_is_away() -> None:
    """KEDA before 2.18 refuses a fallback beside a metric of the type Value; later ones cut workers down to it."""
    (scaled,) = [document["spec"] for _, document in documents() if document["kind"] == "ScaledObject"]
    assert {trigger["metricType"] for trigger in scaled["triggers"]} == {"Value"}
    assert "fallback" not in scaled


def test_the_ingress_keeps_secrets_out_of_its_log_and_numbers_inside() -> None:
    """As deploy/nginx.conf: tokens of callbacks are not logged, /metrics and /readyz are not for the internet."""
    found = {
        path["path"]: document["metadata"]["annotations"]
        for _, document in documents() if document["kind"] == "Ingress"
        for path in document["spec"]["rules"][0]["http"]["paths"]
    }  # fmt: skip
    known = "nginx.ingress.kubernetes.io/"
    assert found["/callbacks"][f"{known}enable-access-log"] == "false"
    for place in ("/metrics", "/readyz"):
        assert found[place][f"{known}whitelist-source-range"] == "127.0.0.1/32"


def test_uploads_have_room_to_wait(compose: dict[str, Any]) -> None:
    """The largest file fits; a pod holds all that are taken at once, since one that outgrows its folder is ended."""
    (size,) = re.findall(r"/tmp:size=(\d+)m", " ".join(compose["services"]["web"]["tmpfs"]))
    assert int(size) << 20 > 2 * MAX_UPLOAD
    (pod,) = [each["spec"]["template"]["spec"] for name, each in documents()
              if name == "web.yaml" and each["kind"] == "Deployment"]  # fmt: skip
    (folder,) = [each["emptyDir"]["sizeLimit"] for each in pod["volumes"] if each["name"] == "tmp"]
    (threads,) = [setting.default for setting in SETTINGS if setting.name == "RECEIVER_WEB_THREADS"]
    assert int(folder.removesuffix("Gi")) << 30 > (int(threads) - RESERVED_THREADS) * MAX_UPLOAD


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_pods_have_no_rights_that_they_do_not_need(kind: str) -> None:
    """The restricted pod security standard: no root, read-only, no capability; and probes that do not kill in vain."""
    for _, document in documents():
        if document["kind"] != kind:
            continue
        pod = document["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert {"requests", "limits"} <= set(container["resources"])
        assert container["args"][0] in command_line.list_commands(None)  # type: ignore[attr-defined, arg-type]  # a group
        if kind == "Deployment":
            assert pod["terminationGracePeriodSeconds"] > 30
            assert "readyz" not in json.dumps(container["livenessProbe"])
