"""The contracts of SageMaker and Vertex AI with containers, as their platforms call: without credentials."""

import httpx
import pytest
from conftest import KEY, free_ports, start, stop


@pytest.fixture(scope="module")
def container(request, tmp_path_factory):
    """A container as Vertex starts it, whose operator has set a key for what the platform sends."""
    folder = tmp_path_factory.mktemp("container")
    key = folder / "container.key"
    key.write_text(KEY + "\n")
    key.chmod(0o600)
    config = folder / "container.toml"
    config.write_text(f'protocols.containers_key_file = "{key}"\n')
    port, other, ops = free_ports(3)
    environment = {"AIP_HTTP_PORT": str(port), "AIP_HEALTH_ROUTE": "/predict", "AIP_PREDICT_ROUTE": "/predict"}
    # The port that Vertex names is listened on in the place of the other.
    running = start(request, folder, "--config", str(config), environment=environment,
                    addresses=(f"127.0.0.1:{other}", f"127.0.0.1:{ops}"))
    running.api = f"127.0.0.1:{port}"
    yield running
    stop(running)


@pytest.fixture
def platform(container):
    with httpx.Client(base_url=f"http://{container.api}", timeout=60) as client:
        yield client


def test_probes(platform):
    for path in "/ping", "/predict", "/health":
        assert platform.get(path).status_code == 200


def test_invocations(platform):
    assert len(platform.post("/invocations", json={"inputs": "a"}).json()[0]) == 384
    assert platform.post("/invocations", json={"query": "fish", "texts": ["car", "salmon"]}).json()[0]["index"] == 1
    target = {"X-Amzn-SageMaker-Target-Model": "sentiment-v3"}
    assert platform.post("/invocations", json={"inputs": "I love it."}, headers=target).json()[0]["label"] == "positive"
    target = {"X-Amzn-SageMaker-Target-Model": "ner-v2"}
    found = platform.post("/invocations", json={"inputs": "Angela Merkel left."}, headers=target).json()
    assert found[0]["entity_group"] == "PER"


def test_models_of_the_platforms_multi_model_mode(platform):
    found = platform.post("/models/sentiment-v3/invoke", json={"inputs": "I love it."})
    assert found.status_code == 200 and found.json()[0]["label"] == "positive"
    found = platform.post("/models/nobody/invoke", json={"inputs": "a"})
    assert found.status_code == 404 and set(found.json()) == {"error", "error_type"}
    # What is loaded, the operator says.
    for method, path in ("POST", "/models"), ("GET", "/models/sentiment-v3"), ("DELETE", "/models/sentiment-v3"):
        refused = platform.request(method, path, content=b'{"model_name": "m", "url": "/opt/ml/models/m"}')
        assert refused.status_code == 501 and refused.json()["error_type"] == "Backend", refused.text
        assert "multi-model" in refused.json()["error"]
    for method, path in ("PUT", "/models"), ("PUT", "/models/sentiment-v3"), ("GET", "/models/sentiment-v3/invoke"):
        assert platform.request(method, path).status_code == 405


@pytest.mark.parametrize("path", ["/predict", "/vertex"])
def test_predictions(platform, path):
    def predictions(body):
        answer = platform.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"]

    found = predictions({"instances": ["a", {"content": "b"}, {"inputs": ["a", "b"], "more": 1}], "parameters": {"dimensions": 3}})
    assert [len(vectors) for vectors in found] == [1, 1, 2] and {len(v) for vectors in found for v in vectors} == {3}
    assert all(a == pytest.approx(b, abs=2e-3) for a, b in zip(found[2], [found[0][0], found[1][0]], strict=True))
    moods = predictions({"instances": ["I love it.", {"inputs": ["Awful.", "Great!"]}], "parameters": {"model": "sentiment-v3"}})
    assert moods[0][0]["label"] == "positive" and [classes[0]["label"] for classes in moods[1]] == ["negative", "positive"]
    ranks = predictions({"instances": [{"query": "fish", "texts": ["car", "salmon"], "return_text": True}]})
    assert ranks[0][0]["index"] == 1 and ranks[0][0]["text"] == "salmon"


@pytest.mark.parametrize("path,body,status,kind", [
    ("/vertex", {}, 422, "Validation"),
    ("/vertex", {"instances": []}, 400, "Empty"),
    ("/vertex", {"instances": [5]}, 422, "Validation"),
    ("/vertex", {"instances": [{}]}, 422, "Validation"),
    ("/vertex", {"instances": [{"inputs": "a", "dimensions": 3}, "b"]}, 422, "Validation"),
    ("/vertex", {"instances": [{"query": "a", "texts": ["b"]}, "c"]}, 422, "Validation"),
    ("/vertex", {"instances": [{"texts": ["b"]}]}, 422, "Validation"),
    ("/vertex", {"instances": ["a"], "parameters": {"dimensions": 0}}, 422, "Validation"),
    ("/vertex", {"instances": ["a"], "parameters": {"model": "nobody"}}, 404, "Validation"),
    ("/vertex", {"instances": ["a"], "parameters": {"model": "ner-v2"}}, 424, "Backend"),
    ("/invocations", {}, 422, "Validation"),
    ("/invocations", {"inputs": 5}, 422, "Validation"),
    ("/invocations", {"inputs": [""]}, 422, "Validation"),
    ("/invocations", {"inputs": []}, 400, "Empty"),
    ("/invocations", {"inputs": None}, 422, "Validation"),
    ("/invocations", {"inputs": {"a": 1}}, 422, "Validation"),
    ("/invocations", {"inputs": "a", "truncate": "yes"}, 422, "Validation"),
    ("/invocations", {"inputs": "a", "dimensions": 0}, 422, "Validation"),
    ("/invocations", {"inputs": "a", "dimensions": 10_000}, 422, "Validation"),
    ("/invocations", {"inputs": "a", "truncation_direction": "Middle"}, 422, "Validation"),
    ("/invocations", {"query": "a", "texts": []}, 400, "Empty"),
    ("/invocations", {"query": "", "texts": ["a"]}, 422, "Validation"),
    ("/vertex", {"instances": None}, 422, "Validation"),
    ("/vertex", {"instances": "a"}, 422, "Validation"),
])
def test_errors_have_one_form(platform, path, body, status, kind):
    answer = platform.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "error_type"} and answer.json()["error_type"] == kind


def test_a_key_of_the_callers_counts_before_that_of_the_operator(platform):
    for headers in {"authorization": "Bearer tc_live_unknown"}, {"x-api-key": "tc_live_unknown"}:
        assert platform.post("/invocations", json={"inputs": "a"}, headers=headers).status_code == 401
    # It opens nothing else.
    assert platform.post("/embed", json={"inputs": "a"}).status_code == 401


def test_without_the_operators_key(server):
    assert httpx.post(f"http://{server.api}/invocations", json={"inputs": "a"}).status_code == 401
