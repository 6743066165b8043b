"""The REST API through httpx: five models on real text, and every error's envelope."""

import base64
import math
import struct

import httpx
import pytest

INVOICE = "Invoice no. 2024-118. Bill to: Harbour Freight Ltd. 40 pallets at EUR 12.50 each. Total due EUR 500.00 within 30 days."
LONG_REPORT = (
    "Sales of heat pumps rose 14 percent in the third quarter, the company said on Tuesday. "
    "Dr. Ines Keller, who leads the unit, said demand was strongest in Denmark. "
    "The weather was mild. Costs for copper and steel fell by 3.5 percent over the same period. "
    "The company now expects annual revenue of 2.1 billion euros, up from 1.9 billion. "
    "It will open a second plant in Aarhus next spring. Analysts had expected slower growth."
)


def post(rest, route, body, **keywords):
    response = rest.post(f"/v1/ml/{route}", json=body, **keywords)
    assert response.status_code == 200, response.text
    return response.json()


def test_classify(rest):
    answer = post(rest, "classify", {"inputs": INVOICE})
    assert (answer["model"], answer["usage"]["inputs"]) == ("text-classifier-v2", 1)
    [result] = answer["results"]
    labels = result["labels"]
    assert len(labels) == 11 and labels[0]["label"] == "invoice"
    assert [l["score"] for l in labels] == sorted((l["score"] for l in labels), reverse=True)
    assert math.isclose(sum(l["score"] for l in labels), 1, abs_tol=1e-4)
    assert result["truncated"] is False and result["windows"] == 1
    assert answer["usage"]["tokens"] == result["tokens"]

    [top] = post(rest, "classify", {"inputs": INVOICE, "parameters": {"top_k": 1}})["results"]
    assert top["labels"] == labels[:1]


def test_zero_shot(rest):
    labels = ["cooking", "astronomy", "football"]
    texts = ["Simmer the onions in butter until golden.", "The telescope found a new comet near Jupiter."]
    results = post(rest, "classify", {"inputs": texts, "parameters": {"labels": labels}})["results"]
    assert [r["labels"][0]["label"] for r in results] == ["cooking", "astronomy"]
    results = post(rest, "classify", {"inputs": texts, "parameters": {"labels": labels, "multi_label": True}})["results"]
    assert [r["labels"][0]["label"] for r in results] == ["cooking", "astronomy"]


def test_sentiment(rest):
    texts = ["I love how fast and friendly the support team is!", "Broken on arrival and nobody answers my emails.",
             "The meeting is on Tuesday at three."]
    results = post(rest, "sentiment", {"inputs": texts})["results"]
    assert [r["label"] for r in results] == ["positive", "negative", "neutral"]
    for result in results:
        assert list(result["scores"]) == ["negative", "neutral", "positive"]
        assert result["score"] == result["scores"][result["label"]] == max(result["scores"].values())


@pytest.mark.parametrize("unit", ["codepoint", "byte", "utf16"])
def test_entities(rest, unit):
    text = "🎉 Angela Merkel visited the Siemens plant in Zürich with Tim Cook."
    body = {"inputs": text, "parameters": {"offset_unit": unit}}
    entities = post(rest, "entities", body)["results"][0]["entities"]
    encoded = {"codepoint": text, "byte": text.encode(), "utf16": text.encode("utf-16-le")}[unit]
    width = 2 if unit == "utf16" else 1
    for entity in entities:
        piece = encoded[entity["start"] * width : entity["end"] * width]
        if unit != "codepoint":
            piece = piece.decode("utf-8" if unit == "byte" else "utf-16-le")
        assert piece == entity["text"]
    found = {(e["text"], e["label"]) for e in entities}
    assert {("Angela Merkel", "PER"), ("Zürich", "LOC")} <= found


@pytest.mark.parametrize("aggregation", ["none", "simple", "first", "average", "max"])
def test_entity_aggregations(rest, aggregation):
    body = {"inputs": "Maria Lopez lives in Madrid.", "parameters": {"aggregation": aggregation}}
    entities = post(rest, "entities", body)["results"][0]["entities"]
    prefix = "B-" if aggregation == "none" else ""
    assert {f"{prefix}PER", f"{prefix}LOC"} <= {e["label"] for e in entities}
    if aggregation != "none":
        assert ("Maria Lopez", "PER") in {(e["text"], e["label"]) for e in entities}


def test_summarize(rest):
    result = post(rest, "summarize", {"inputs": LONG_REPORT, "parameters": {"max_sentences": 2}})["results"][0]
    assert result["method"] == "extractive" and len(result["sentences"]) == 2
    starts = [s["start"] for s in result["sentences"]]
    assert starts == sorted(starts)
    for sentence in result["sentences"]:
        assert LONG_REPORT[sentence["start"] : sentence["end"]] == sentence["text"]
    assert result["summary"] == " ".join(s["text"] for s in result["sentences"])


def test_summarize_a_long_document(rest):
    paragraph = LONG_REPORT + "\n\n"
    document = paragraph * (18_000 // len(LONG_REPORT.split()))
    result = post(rest, "summarize", {"inputs": document})["results"][0]
    assert len(result["sentences"]) == 3 and result["truncated"] is False


def test_embeddings(rest):
    texts = ["The cat sleeps on the sofa.", "A kitten naps on the couch.", "Interest rates rose again."]
    vectors = [r["embedding"] for r in post(rest, "embeddings", {"inputs": texts})["results"]]
    dot = lambda a, b: sum(x * y for x, y in zip(a, b, strict=True))
    assert all(len(v) == 384 and math.isclose(dot(v, v), 1, abs_tol=1e-5) for v in vectors)
    assert dot(vectors[0], vectors[1]) > 0.5 > dot(vectors[0], vectors[2])

    body = {"inputs": texts[0], "parameters": {"encoding_format": "base64"}}
    raw = base64.b64decode(post(rest, "embeddings", body)["results"][0]["embedding"])
    assert struct.unpack("<384f", raw) == pytest.approx(vectors[0], abs=1e-6)

    body = {"inputs": texts[0], "parameters": {"dimensions": 64}}
    small = post(rest, "embeddings", body)["results"][0]["embedding"]
    assert len(small) == 64 and math.isclose(dot(small, small), 1, abs_tol=1e-5)


def test_truncation(rest):
    long = "word " * 600
    refused = rest.post("/v1/ml/embeddings", json={"inputs": ["short", long]})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "input_too_long")
    assert all(part in error["message"] for part in ("512", "602", "[1]")), error["message"]

    def read(truncation, route="embeddings"):
        return post(rest, route, {"inputs": long, "parameters": {"truncation": truncation}})["results"][0]

    whole = read("stride")
    assert (whole["truncated"], whole["tokens"]) == (False, 602) and whole["windows"] >= 2
    for side in ("end", "start"):
        cut = read(side)
        assert (cut["truncated"], cut["windows"]) == (True, 1)
    document = read("stride", "sentiment")
    assert document["windows"] >= 2 and document["truncated"] is False
    assert post(rest, "sentiment", {"inputs": long})["results"][0]["windows"] == document["windows"]


def test_too_long_for_any_window(rest):
    refused = rest.post("/v1/ml/sentiment", json={"inputs": "word " * 20_100})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "input_too_long") and "20000" in error["message"]


def test_models(rest):
    models = rest.get("/v1/ml/models").json()["models"]
    assert {m["name"]: m["p99_target_ms"] for m in models} == {
        "embeddings-v2": 20, "ner-v2": 80, "sentiment-v3": 30, "summarizer-v1": 500, "text-classifier-v2": 50,
    }
    for model in models:
        assert model["status"] == "loaded" and model["license"] == "apache-2.0"
        assert len(model["source"]["sha256"]) == 64 and model["limits"]["tokens_max"] == 512
        assert rest.get(f"/v1/ml/models/{model['name']}").json() == model


def test_named_model_and_wrong_task(rest):
    assert post(rest, "sentiment", {"inputs": "fine", "model": "sentiment-v3"})["model"] == "sentiment-v3"
    for model, status, code in [("nobody-v1", 404, "model_not_found"), ("ner-v2", 400, "wrong_task")]:
        refused = rest.post("/v1/ml/sentiment", json={"inputs": "fine", "model": model})
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)


JSON = {"Content-Type": "application/json"}
REFUSALS = [
    # route, body, headers, status, code
    ("sentiment", b"{", JSON, 400, "invalid_json"),
    ("sentiment", b"", JSON, 400, "invalid_json"),
    ("sentiment", b"[]", JSON, 400, "invalid_request"),
    ("sentiment", b'{"inputs": 5}', JSON, 400, "invalid_request"),
    ("sentiment", b'{"inputs": ["a", 5]}', JSON, 400, "invalid_request"),
    ("sentiment", b'{"inputs": "a", "extra": 1}', JSON, 400, "invalid_request"),
    ("sentiment", b'{"inputs": "a", "parameters": {"top_k": 1}}', JSON, 400, "invalid_request"),
    ("sentiment", b'{"model": "sentiment-v3"}', JSON, 400, "invalid_request"),
    ("sentiment", b'{"inputs": []}', JSON, 400, "no_inputs"),
    ("sentiment", b'{"inputs": [' + b'"a",' * 1000 + b'"a"]}', JSON, 400, "too_many_inputs"),
    ("sentiment", b'{"inputs": ""}', JSON, 400, "empty_input"),
    ("sentiment", b'{"inputs": ["a", " \\n\\t "]}', JSON, 400, "empty_input"),
    ("sentiment", b'{"inputs": "a\\u0000b"}', JSON, 400, "nul_character"),
    ("sentiment", b'{"inputs": "\\ud83d"}', JSON, 400, "invalid_json"),
    ("sentiment", b'{"inputs": "a \\udc00 b"}', JSON, 400, "invalid_json"),
    ("sentiment", b'{"inputs": "\xff\xfe"}', JSON, 400, "invalid_utf8"),
    ("sentiment", b'{"inputs": "a"}', {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
    ("sentiment", b'{"inputs": "a"}', {}, 415, "unsupported_media_type"),
    ("sentiment", b'{"inputs": "' + b"a" * (9 << 20) + b'"}', JSON, 413, "body_too_large"),
    ("sentiment", b'{"inputs": "a"}', {**JSON, "X-Request-Timeout": "soon"}, 400, "invalid_request"),
    ("classify", b'{"inputs": "a", "parameters": {"top_k": 0}}', JSON, 400, "invalid_parameter"),
    ("classify", b'{"inputs": "a", "parameters": {"top_k": 12}}', JSON, 400, "invalid_parameter"),
    ("classify", b'{"inputs": "a", "parameters": {"labels": []}}', JSON, 400, "invalid_parameter"),
    ("classify", b'{"inputs": "a", "parameters": {"labels": ["x", "x"]}}', JSON, 400, "invalid_parameter"),
    ("embeddings", b'{"inputs": "a", "parameters": {"dimensions": 385}}', JSON, 400, "invalid_parameter"),
    ("embeddings", b'{"inputs": "a", "parameters": {"encoding_format": "hex"}}', JSON, 400, "invalid_request"),
    ("entities", b'{"inputs": "a", "parameters": {"aggregation": "last"}}', JSON, 400, "invalid_request"),
    ("summarize", b'{"inputs": "a b c.", "parameters": {"method": "abstractive"}}', JSON, 400, "invalid_parameter"),
    ("summarize", b'{"inputs": "a b c.", "parameters": {"max_sentences": 0}}', JSON, 400, "invalid_parameter"),
    ("translate", b'{"inputs": "a"}', JSON, 404, "not_found"),
]


@pytest.mark.parametrize("route, body, headers, status, code", REFUSALS)
def test_refusals(rest, route, body, headers, status, code):
    response = rest.post(f"/v1/ml/{route}", content=body, headers=headers)
    check_envelope(response, status, code)


def check_envelope(response, status, code):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"code", "message", "request_id", "docs_url"} and error["code"] == code
    assert error["request_id"] == response.headers["x-request-id"] and error["message"] and code in error["docs_url"]


@pytest.mark.parametrize("authorization, code", [
    (None, "missing_credentials"),
    ("Basic YTpi", "malformed_credentials"),
    ("Bearer", "malformed_credentials"),
    ("Bearer nonsense", "malformed_credentials"),
    (b"Bearer tc_test_\xff", "malformed_credentials"),
    ("Bearer tc_live_unknown", "invalid_credentials"),
    ("Bearer e30.e30.c2ln", "invalid_credentials"),
])
def test_credentials(server, authorization, code):
    headers = {} if authorization is None else {"Authorization": authorization}
    for call in (lambda: httpx.post(f"http://{server.api}/v1/ml/sentiment", content=b"not even json", headers=headers),
                 lambda: httpx.get(f"http://{server.api}/v1/ml/models", headers=headers)):
        response = call()
        check_envelope(response, 401, code)
        assert response.headers["www-authenticate"] == "Bearer"


def test_methods(rest):
    check_envelope(rest.get("/v1/ml/sentiment"), 405, "method_not_allowed")
    check_envelope(rest.delete("/v1/ml/models"), 405, "method_not_allowed")
    assert rest.get("/v1/ml/sentiment").headers["allow"] == "POST"
    check_envelope(rest.get("/nothing"), 404, "not_found")


def test_request_ids(rest):
    assert rest.get("/v1/ml/models", headers={"X-Request-ID": "req_mine-1"}).headers["x-request-id"] == "req_mine-1"
    assert rest.get("/v1/ml/models", headers={"X-Request-ID": "no good"}).headers["x-request-id"].startswith("req_")


def test_deadlines(rest):
    body = {"inputs": ["word " * 500] * 64, "parameters": {"timeout_ms": 1}}
    check_envelope(rest.post("/v1/ml/sentiment", json=body), 504, "deadline_exceeded")
    del body["parameters"]
    check_envelope(
        rest.post("/v1/ml/sentiment", json=body, headers={"X-Request-Timeout": "1"}), 504, "deadline_exceeded")
