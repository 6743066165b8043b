"""NIM's routes for operators, and Jina's classification, as their documentation has the requests."""


import httpx
import pytest
import tritonclient.grpc
import tritonclient.http

from conftest import KEY, start, stop

TEXTS = ["The striker scored twice in the final.", "Shares fell by three percent.", "The team lost at home."]
LABELS = ["sports", "finance", "cooking"]


def test_probes(server, rest):
    """Without a key, as Kubernetes asks."""
    for path, message in ("live", "Service is live."), ("ready", "Service is ready."):
        answer = httpx.get(f"http://{server.api}/v1/health/{path}")
        assert (answer.status_code, answer.json()) == (200, {"object": "health.response", "message": message, "ready": True})
        refused = httpx.post(f"http://{server.api}/v1/health/{path}")
        assert refused.status_code == 405 and refused.json()["error"]["code"] == "method_not_allowed"


def test_what_is_served(server, rest):
    metadata = rest.get("/v1/metadata").json()
    models = {model["name"]: model for model in rest.get("/v1/ml/models").json()["models"]}
    assert {model["shortName"] for model in metadata["modelInfo"]} == set(models)
    urls = {model["shortName"]: model["modelUrl"] for model in metadata["modelInfo"]}
    assert "MiniLM" in urls["embeddings-v2"] and "@" in urls["embeddings-v2"] and urls["ner-v2"] == ""
    version = rest.get("/v1/version").json()
    assert version["release"] == metadata["version"] == rest.get("/version").json()["version"]
    for path in "/v1/metadata", "/v1/version":
        answer = httpx.get(f"http://{server.api}{path}")
        assert answer.status_code == 401 and answer.json()["error"]["code"] == "missing_credentials"
    # What only NIM's containers have.
    for path in "/v1/manifest", "/v1/license":
        assert rest.get(path).status_code == 404


def test_switched_off(request, tmp_path):
    config = tmp_path / "server.toml"
    config.write_text("[protocols]\nopenai = false\ncohere = false\n")
    off = start(request, tmp_path, "--config", str(config))
    try:
        for path in "/v1/health/live", "/v1/metadata":
            answer = httpx.get(f"http://{off.api}{path}", headers={"Authorization": f"Bearer {KEY}"})
            assert answer.status_code == 404 and answer.json()["error"]["code"] == "not_found"
        answer = httpx.post(f"http://{off.api}/v1/classify", json={"input": ["a"], "labels": LABELS})
        assert answer.status_code == 404 and set(answer.json()) == {"id", "message", "code"}
    finally:
        stop(off)


def test_jina_classifies_by_labels(rest):
    ours = rest.post("/v1/ml/classify", json={"inputs": TEXTS, "parameters": {"labels": LABELS}}).json()
    body = {"model": "text-classifier-v2", "labels": LABELS}
    for inputs in TEXTS, [{"text": text} for text in TEXTS]:
        answer = rest.post("/v1/classify", json=body | {"input": inputs, "an_extra": 1}).json()
        assert answer["usage"] == {"total_tokens": ours["usage"]["tokens"], "prompt_tokens": ours["usage"]["tokens"]}
        for index, (found, wanted) in enumerate(zip(answer["data"], ours["results"], strict=True)):
            labels = [{"label": one["label"], "score": one["score"]} for one in wanted["labels"]]
            assert found["predictions"] == labels
            best = labels[0]
            assert found | {"predictions": []} == {
                "object": "classification", "index": index, "prediction": best["label"], "score": best["score"], "predictions": [],
            }
    assert [one["prediction"] for one in answer["data"]] == ["sports", "finance", "sports"]
    # The model's own classes, where there are none.
    own = rest.post("/v1/classify", json={"input": TEXTS[0], "model": "sentiment-v3"}).json()["data"][0]["predictions"]
    wanted = rest.post("/v1/ml/sentiment", json={"inputs": TEXTS[0]}).json()["results"][0]["scores"]
    assert {one["label"]: one["score"] for one in own} == wanted


@pytest.mark.parametrize("change, status, param, code", [
    ({"input": 5}, 400, "input", "invalid_request"),
    ({"input": []}, 400, "input", "no_inputs"),
    ({"input": [""]}, 400, "input", "empty_input"),
    ({"input": [{"image": "x"}]}, 400, "input[0]", "invalid_request"),
    ({"input": {"text": "a"}}, 400, "input", "invalid_request"),
    ({"labels": "a"}, 400, "labels", "invalid_request"),
    ({"labels": []}, 400, "labels", "invalid_parameter"),
    ({"labels": [""]}, 400, "labels", "invalid_parameter"),
    ({"labels": ["a", "a"]}, 400, "labels", "invalid_parameter"),
    ({"labels": [1]}, 400, "labels[0]", "invalid_request"),
    ({"classifier_id": "c"}, 400, "classifier_id", "invalid_request"),
    ({"model": "none"}, 404, "model", "model_not_found"),
    ({"model": "embeddings-v2"}, 400, "model", "wrong_task"),
    ({"truncate": "MIDDLE"}, 400, "truncate", "invalid_request"),
])
def test_jina_bad_input(rest, change, status, param, code):
    body = {"model": "text-classifier-v2", "input": TEXTS, "labels": LABELS} | change
    answer = rest.post("/v1/classify", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), answer.text
    assert set(error) == {"message", "type", "param", "code"} and answer.json()["detail"] == error["message"]
    assert "striker" not in answer.text


def test_coheres_is_told_apart(rest):
    answer = rest.post("/v1/classify", json={"inputs": TEXTS[:1]}).json()
    assert set(answer) == {"id", "classifications", "meta"}
    refused = rest.post("/v1/classify", json={"inputs": []})
    assert refused.status_code == 400 and set(refused.json()) == {"id", "message", "code"}


def test_width_of_embeddings(server, rest):
    """What clients make room for."""
    width = len(rest.post("/v1/ml/embeddings", json={"inputs": "a"}).json()["results"][0]["embedding"])
    headers = {"authorization": f"Bearer {KEY}"}
    with tritonclient.http.InferenceServerClient(server.api) as client:
        shape = client.get_model_metadata("embeddings-v2", headers=headers)["outputs"][0]["shape"]
        dims = client.get_model_config("embeddings-v2", headers=headers)["output"][0]["dims"]
        labels = client.get_model_metadata("sentiment-v3", headers=headers)["outputs"][0]["shape"]
    assert (shape, dims, labels) == ([-1, width], [width], [-1, 1])
    with tritonclient.grpc.InferenceServerClient(server.api) as client:
        metadata = client.get_model_metadata("embeddings-v2", headers=headers)
        assert list(metadata.outputs[0].shape) == [-1, width]
