"""What `deploy/` has for Kubernetes and compose: built by kubectl, held to Kubernetes' own schemas, its parts to
each other, its configuration to the server."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from conftest import ROOT, RedisServer, start, stop

DEPLOY = ROOT / "deploy"
OVERLAYS = {"staging": "ml-inference-staging", "sandbox": "ml-inference-sandbox", "production": "ml-inference"}
# Kinds of others, whose schemas Kubernetes does not have.
OTHERS = {"ScaledObject", "ServiceMonitor", "PeerAuthentication", "DestinationRule", "VirtualService"}
KUBERNETES = "1.34"


def built(folder):
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module", params=[*OVERLAYS, "hpa"])
def environment(request, tmp_path_factory):
    """Name, namespace and documents: of each overlay, and of the alternative to KEDA, which none has."""
    if request.param in OVERLAYS:
        return request.param, OVERLAYS[request.param], built(DEPLOY / "kustomize/overlays" / request.param)
    folder = tmp_path_factory.mktemp("hpa")
    base, component = (os.path.relpath(DEPLOY / "kustomize" / part, folder.resolve()) for part in ("base", "components/hpa"))
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(
        {"namespace": "ml-inference", "resources": [base], "components": [component]}))
    return request.param, "ml-inference", built(folder)


def of(documents, kind):
    return [document for document in documents if document["kind"] == kind]


def one(documents, kind, name="ml-inference"):
    (document,) = [d for d in of(documents, kind) if d["metadata"]["name"] == name]
    return document


def config(documents):
    (found,) = of(documents, "ConfigMap")
    return found["data"]["server.toml"]


def test_documents_are_as_kubernetes_wants_them(environment):
    _, namespace, documents = environment
    for document in documents:
        if document["kind"] not in OTHERS:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        is_namespace = document["kind"] == "Namespace"
        assert document["metadata"]["name" if is_namespace else "namespace"] == namespace, document["metadata"]


def test_a_schema_refuses_what_is_wrong():
    documents = built(DEPLOY / "kustomize/overlays/production")
    server = one(documents, "StatefulSet")
    server["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(server, KUBERNETES, strict=True)


def test_parts_refer_to_parts_that_there_are(environment):
    _, namespace, documents = environment
    server = one(documents, "StatefulSet")
    pod = server["spec"]["template"]
    labels = pod["metadata"]["labels"].items()
    containers = {container["name"]: container for container in pod["spec"]["containers"]}
    ports = {port["name"]: port["containerPort"] for port in containers["server"]["ports"]}
    services = {service["metadata"]["name"]: service for service in of(documents, "Service")}
    for service in services.values():
        assert service["spec"]["selector"].items() <= labels
        assert all(port["port"] == ports[port["targetPort"]] for port in service["spec"]["ports"])
    assert server["spec"]["serviceName"] in services
    selectors = [server["spec"]["selector"], one(documents, "PodDisruptionBudget")["spec"]["selector"]]
    selectors += [policy["spec"]["podSelector"] for policy in of(documents, "NetworkPolicy")]
    selectors += [constraint["labelSelector"] for constraint in pod["spec"]["topologySpreadConstraints"]]
    selectors += [peer["spec"]["selector"] for peer in of(documents, "PeerAuthentication")]
    assert all(selector["matchLabels"] and selector["matchLabels"].items() <= labels for selector in selectors)
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"] + [
        {"name": claim["metadata"]["name"]} for claim in server["spec"]["volumeClaimTemplates"]]}
    for container in [*containers.values(), *pod["spec"]["initContainers"]]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
        probes = [container[probe] for probe in ("startupProbe", "readinessProbe", "livenessProbe") if probe in container]
        assert all(probe["httpGet"]["port"] in ports for probe in probes)
    one(documents, "ConfigMap", volumes["config"]["configMap"]["name"])
    monitor = one(documents, "ServiceMonitor")["spec"]
    (selected,) = [s for s in services.values() if monitor["selector"]["matchLabels"].items() <= s["metadata"]["labels"].items()]
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= {port["name"] for port in selected["spec"]["ports"]}
    for rule in of(documents, "DestinationRule"):
        assert rule["spec"]["host"] in services
    for route in [r for v in of(documents, "VirtualService") for http in v["spec"]["http"] for r in http["route"]]:
        service = services[route["destination"]["host"]]
        assert route["destination"]["port"]["number"] in [port["port"] for port in service["spec"]["ports"]]
    scaled = of(documents, "ScaledObject") + of(documents, "HorizontalPodAutoscaler")
    for scaler in scaled:
        target = scaler["spec"]["scaleTargetRef"]
        assert (target["apiVersion"], target["kind"], target["name"]) == ("apps/v1", "StatefulSet", "ml-inference")
        for trigger in scaler["spec"].get("triggers", []):
            name, where, port = re.fullmatch(r"([\w-]+)\.([\w-]+)\.svc:(\d+)", trigger["metadata"]["scalerAddress"]).groups()
            assert where == namespace and int(port) in [p["port"] for p in services[name]["spec"]["ports"]]
    assert ("replicas" in server["spec"]) == (not scaled), "an apply would set the scaler's number back"


def test_pods_have_no_rights_that_they_do_not_need(environment):
    name, _, documents = environment
    pod = one(documents, "StatefulSet")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert not pod["automountServiceAccountToken"]
    for container in pod["containers"] + pod["initContainers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
        assert context["capabilities"]["drop"] == ["ALL"] and container["resources"]["limits"]["memory"]
    (server,) = pod["containers"]
    has_gpu = name in ("staging", "production")
    assert server["resources"]["limits"].get("nvidia.com/gpu") == ("1" if has_gpu else None)
    assert ("nodeSelector" in pod, "tolerations" in pod) == (has_gpu, has_gpu)


def test_bounds_of_scaling_and_grace_are_the_servers_own(environment):
    _, _, documents = environment
    scaling = tomllib.loads(config(documents))["scaling"]
    for scaler in of(documents, "ScaledObject"):
        assert (scaler["spec"]["minReplicaCount"], scaler["spec"]["maxReplicaCount"]) == (scaling["replicas_min"], scaling["replicas_max"])
        assert scaling["replicas_min"] <= scaler["spec"]["fallback"]["replicas"] <= scaling["replicas_max"]
    reference = (ROOT / "docs/configuration.md").read_text()
    waits = [int(re.search(rf"`{field}` \| [^|]+ \| `(\d+)`", reference).group(1)) for field in ("drain_timeout_ms", "ship_timeout_ms")]
    waits.append(tomllib.loads(config(documents))["shutdown"]["not_ready_wait_ms"])
    pod = one(documents, "StatefulSet")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] * 1000 > sum(waits)


@pytest.mark.parametrize("which", [*OVERLAYS, "compose"])
def test_the_server_starts_with_each_configuration(request, which, tmp_path):
    """With a Redis and files of this test in the places of the cluster's."""
    redis = RedisServer()
    try:
        text = (DEPLOY / "compose.toml").read_text() if which == "compose" else config(built(DEPLOY / "kustomize/overlays" / which))
        settings = tomllib.loads(text)
        for secret in set(re.findall(r'"/run/secrets/(?:ml/)?([\w.-]+)"', text)):
            (tmp_path / secret).write_text("0123456789abcdef" * 4)
        text = re.sub(r"/run/secrets/(ml/)?", f"{tmp_path}/", text)
        text = re.sub(r"rediss?://[\w.-]+:\d+", f"redis://127.0.0.1:{redis.port}", text).replace("is_cluster = true\n", "")
        if "password_file" in text:
            set_password = ["redis-cli", "-p", str(redis.port), "config", "set", "requirepass", "0123456789abcdef" * 4]
            subprocess.run(set_password, check=True, capture_output=True)
        # Nobody looks away from it here.
        (tmp_path / "server.toml").write_text(text.replace("not_ready_wait_ms = 5000", "not_ready_wait_ms = 0"))
        cards = tmp_path / "cards"
        cards.mkdir()
        (cards / "embeddings-v2").symlink_to(ROOT / "model-cards/embeddings-v2")
        server = start(request, tmp_path, "--config", str(tmp_path / "server.toml"), cards=cards)
        stop(server)
        assert settings["development_tenant"] is False and settings["state_dir"].startswith(settings["data_dir"])
    finally:
        redis.stop()


def test_compose_mounts_what_there_is():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert set(compose["services"]) == {"server", "redis", "prometheus", "grafana"}
    for name, service in compose["services"].items():
        assert set(service.get("secrets", [])) <= set(compose["secrets"]), name
        assert set(service.get("depends_on", [])) <= set(compose["services"]), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in compose["volumes"], volume
    providers = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards.yaml").read_text())["providers"]
    targets = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert [provider["options"]["path"] in targets for provider in providers] == [True]


def test_argo_deploys_an_overlay_to_its_namespace():
    application = yaml.safe_load((DEPLOY / "argocd/application.yaml").read_text())["spec"]
    overlay = ROOT / application["source"]["path"]
    assert yaml.safe_load((overlay / "kustomization.yaml").read_text())["namespace"] == application["destination"]["namespace"]
