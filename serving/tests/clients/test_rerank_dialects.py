"""Reranking, scores, classes, pooling and tokens as Jina, Voyage, vLLM, NIM, infinity and Cohere have them,
by the clients that there are and by plain HTTP."""

import asyncio
import base64
import json

import cohere
import httpx
import numpy as np
import pytest
import voyageai
from conftest import KEY, start, stop

QUERY = "Which animal sleeps on furniture?"
DOCUMENTS = ["Shares fell by three percent.", "The cat sleeps on the sofa.", "A dog barks at the postman."]
MODEL = "embeddings-v2"


@pytest.fixture(scope="module")
def scores(rest):
    """What our own API answers."""
    body = rest.post("/v1/ml/rerank", json={"inputs": DOCUMENTS, "parameters": {"query": QUERY}}).json()
    return [result["score"] for result in body["results"]]


@pytest.fixture(scope="module")
def ranks(scores):
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def asked(rest, path, **body):
    answer = rest.post(path, json={"query": QUERY, "documents": DOCUMENTS, "model": MODEL} | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank", "/openai/v1/rerank", "/infinity/rerank"])
def test_one_superset(rest, scores, ranks, path):
    # Jina's, vLLM's and Cohere's words, with what their clients send besides.
    found = asked(rest, path, top_n=2, return_documents=True, max_tokens_per_doc=4096, priority=0, rank_fields=["text"])
    assert [item["index"] for item in found["results"]] == ranks[:2]
    assert [item["relevance_score"] for item in found["results"]] == [scores[index] for index in ranks[:2]]
    document = (lambda text: text) if "infinity" in path else (lambda text: {"text": text})
    assert [item["document"] for item in found["results"]] == [document(DOCUMENTS[index]) for index in ranks[:2]]
    assert found["usage"]["prompt_tokens"] == found["usage"]["total_tokens"] > 0
    assert found["meta"]["billed_units"] == {"search_units": 1} and found["model"] == MODEL and found["id"]
    # vLLM's 0 is all, and so is nothing.
    assert len(asked(rest, path, top_n=0)["results"]) == len(asked(rest, path)["results"]) == 3
    bare = asked(rest, path, return_documents=False)
    assert all("document" not in item for item in bare["results"])
    # Objects with a text are documents too.
    objects = asked(rest, path, documents=[{"text": text, "title": "x"} for text in DOCUMENTS], query={"text": QUERY})
    assert [item["index"] for item in objects["results"]] == ranks
    # A document beyond the window is read whole.
    assert len(asked(rest, path, documents=["one two three " * 400, "a"])["results"]) == 2
    refused = rest.post(path, json={"query": QUERY, "documents": ["one two three " * 400], "truncation": False})
    assert refused.status_code == 400 and refused.json()["error"]["code"] == "context_length_exceeded"


def test_voyage(server, rest, scores, ranks):
    client = voyageai.Client(api_key=KEY, base_url=f"http://{server.api}/v1")
    found = client.rerank(QUERY, DOCUMENTS, model=MODEL, top_k=2)
    assert [(item.index, item.document, item.relevance_score) for item in found.results] == [
        (index, DOCUMENTS[index], scores[index]) for index in ranks[:2]]
    assert found.total_tokens > 0
    raw = asked(rest, "/v1/rerank", top_k=2, truncation=True)
    assert [item["index"] for item in raw["data"]] == ranks[:2] and "document" not in raw["data"][0]
    ours = rest.post("/v1/ml/embeddings", json={"inputs": DOCUMENTS}).json()["results"]
    vectors = np.array([result["embedding"] for result in ours], dtype="f4")
    embedded = client.embed(DOCUMENTS, model=MODEL, input_type="document")
    assert np.array_equal(np.array(embedded.embeddings, dtype="f4"), vectors)
    assert embedded.total_tokens == sum(result["tokens"] for result in ours)
    bits = np.packbits(vectors > 0, axis=1)
    for dtype, expected in ("ubinary", bits), ("binary", bits.astype(int) - 128):
        found = client.embed(DOCUMENTS, model=MODEL, output_dtype=dtype)
        assert np.array_equal(np.array(found.embeddings), expected)
    levels = np.array(client.embed(DOCUMENTS, model=MODEL, output_dtype="int8", output_dimension=128).embeddings)
    assert levels.shape == (3, 128) and levels.min() < -30 and levels.max() > 30
    check = lambda error, **changes: pytest.raises(error, client.embed, **({"texts": ["a"], "model": MODEL} | changes))
    assert "no such model" in str(check(voyageai.error.APIError, model="nobody").value)
    assert "is empty" in str(check(voyageai.error.InvalidRequestError, texts=[""]).value)
    assert "too_long" not in str(client.embed(["one two three " * 400], model=MODEL).embeddings[0][0])
    stranger = voyageai.Client(api_key="tc_test_none", base_url=f"http://{server.api}/v1")
    with pytest.raises(voyageai.error.AuthenticationError):
        stranger.embed(["a"], model=MODEL)

    async def ask():
        client = voyageai.AsyncClient(api_key=KEY, base_url=f"http://{server.api}/v1")
        return (await client.rerank(QUERY, DOCUMENTS, model=MODEL)).results[0].index

    assert asyncio.run(ask()) == ranks[0]


@pytest.fixture(scope="module")
def v2(server):
    return cohere.ClientV2(api_key=KEY, base_url=f"http://{server.api}")


@pytest.fixture(scope="module")
def v1(server):
    return cohere.Client(api_key=KEY, base_url=f"http://{server.api}")


def test_cohere_reranks(v1, v2, scores, ranks):
    for client in v1, v2:
        found = client.rerank(model=MODEL, query=QUERY, documents=DOCUMENTS, top_n=2)
        assert [(item.index, item.relevance_score) for item in found.results] == [
            (index, scores[index]) for index in ranks[:2]]
        assert found.meta.billed_units.search_units == 1
    with_documents = v1.rerank(model=MODEL, query=QUERY, documents=[{"text": t} for t in DOCUMENTS], return_documents=True)
    assert with_documents.results[0].document.text == DOCUMENTS[ranks[0]]


def test_cohere_embeds(v1, v2, rest):
    ours = rest.post("/v1/ml/embeddings", json={"inputs": DOCUMENTS}).json()
    vectors = np.array([result["embedding"] for result in ours["results"]], dtype="f4")
    types = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    found = v2.embed(model=MODEL, texts=DOCUMENTS, input_type="search_document", embedding_types=types)
    assert found.response_type == "embeddings_by_type" and found.texts == DOCUMENTS and found.id
    assert found.meta.billed_units.input_tokens == ours["usage"]["tokens"]
    numbers = found.embeddings
    assert np.array_equal(np.array(numbers.float_, dtype="f4"), vectors)
    assert [base64.b64decode(text) for text in numbers.base64] == [vector.tobytes() for vector in vectors]
    bits = np.packbits(vectors > 0, axis=1)
    assert np.array_equal(numbers.ubinary, bits) and np.array_equal(numbers.binary, bits.astype(int) - 128)
    # The formula of docs/dialects.md.
    levels = np.clip(vectors * np.float32(np.sqrt(384) / 4), -1, 1) * 127
    assert np.abs(np.array(numbers.int8) - levels).max() < 0.51
    assert np.array_equal(np.array(numbers.uint8), np.array(numbers.int8) + 128)
    # What is left of cosines in eight bits.
    small = np.array(numbers.int8, dtype=float)
    small /= np.linalg.norm(small, axis=1, keepdims=True)
    assert np.abs(small @ small.T - vectors @ vectors.T).max() < 0.01
    floats = v2.embed(model=MODEL, texts=DOCUMENTS[:1], input_type="search_query", output_dimension=8, priority=3)
    assert len(floats.embeddings.float_[0]) == 8 and floats.embeddings.int8 is None
    mixed = v2.embed(model=MODEL, input_type="search_query", embedding_types=["float"], inputs=[
        {"content": [{"type": "text", "text": DOCUMENTS[0]}]}])
    assert np.allclose(mixed.embeddings.float_[0], vectors[0], atol=2e-3)
    # A long text is cut off by default, and not if that is said.
    long = "one two three " * 400
    assert len(v2.embed(model=MODEL, texts=[long], input_type="clustering", truncate="START").embeddings.float_) == 1
    with pytest.raises(cohere.BadRequestError):
        v2.embed(model=MODEL, texts=[long], input_type="clustering", truncate="NONE")
    bare = v1.embed(model=MODEL, texts=DOCUMENTS, input_type="search_document")
    assert bare.response_type == "embeddings_floats"
    assert np.array_equal(np.array(bare.embeddings, dtype="f4"), vectors)


def test_cohere_classifies(v1, rest):
    own = rest.post("/v1/ml/sentiment", json={"inputs": "A joy to use."}).json()["results"][0]
    found = v1.classify(inputs=["A joy to use."], model="sentiment-v3").classifications[0]
    assert (found.prediction, found.confidence) == (own["label"], own["score"])
    assert {label: value.confidence for label, value in found.labels.items()} == own["scores"]
    assert found.input == "A joy to use." and found.classification_type == "single-label"
    assert v1.classify(inputs=["Invoice 7. Total due EUR 500 within 30 days."]).classifications[0].prediction == "invoice"
    examples = [cohere.ClassifyExample(text=text, label=label) for text, label in [
        ("The match ended two to one.", "sport"), ("She won the marathon.", "sport"),
        ("Stir the soup gently.", "cooking"), ("Bake the bread for an hour.", "cooking")]]
    found = v1.classify(inputs=["The striker scored a goal.", "Fry the onions in butter."], examples=examples)
    assert [item.prediction for item in found.classifications] == ["sport", "cooking"]
    assert all(abs(sum(label.confidence for label in item.labels.values()) - 1) < 1e-5 for item in found.classifications)
    assert found.meta.billed_units.classifications == 2


# Path, body, status and our code. What is missing in a body has a default that is good.
GOOD = {"/v2/embed": {"texts": ["a secret"], "model": MODEL}, "/v1/classify": {"inputs": ["a secret"]}}
BAD = [
    ("/v2/embed", {"model": "nobody"}, 404, "model_not_found"),
    ("/v2/embed", {"model": "ner-v2"}, 400, "wrong_task"),
    ("/v2/embed", {"texts": []}, 400, "no_inputs"),
    ("/v2/embed", {"texts": ["a", ""]}, 400, "empty_input"),
    ("/v2/embed", {"texts": None}, 400, "invalid_request"),
    ("/v2/embed", {"texts": [7]}, 400, "invalid_request"),
    ("/v2/embed", {"texts": None, "images": ["data:"]}, 400, "invalid_request"),
    ("/v2/embed", {"inputs": [{"content": [{"text": "a"}]}]}, 400, "invalid_request"),
    ("/v2/embed", {"texts": None, "inputs": [{"content": [{"image_url": {}}]}]}, 400, "invalid_request"),
    ("/v2/embed", {"embedding_types": ["int4"]}, 400, "invalid_request"),
    ("/v2/embed", {"output_dimension": 1000}, 400, "invalid_parameter"),
    ("/v2/embed", {"truncate": "MIDDLE"}, 400, "invalid_request"),
    ("/v1/classify", {"inputs": []}, 400, "no_inputs"),
    ("/v1/classify", {"inputs": "a secret"}, 400, "invalid_request"),
    ("/v1/classify", {"examples": [{"text": "a", "label": "x"}] * 2}, 400, "invalid_request"),
    ("/v1/classify", {"examples": [{"text": "a"}]}, 400, "invalid_request"),
    ("/v1/classify", {"inputs": ["a"] * 97, "examples": [{"text": "a", "label": label} for label in "xxyy"]}, 400,
     "too_many_inputs"),
    ("/v1/classify", {"model": "ner-v2"}, 400, "wrong_task"),
]


def check_cohere(response, status, code):
    body = response.json()
    assert response.status_code == status and set(body) == {"id", "message", "code"} and body["code"] == code, body
    assert "secret" not in response.text and body["id"] == response.headers["x-request-id"]


@pytest.mark.parametrize("path, change, status, code", BAD, ids=[f"{case[0]} {case[1]}"[:50] for case in BAD])
def test_cohere_bad_input(rest, path, change, status, code):
    check_cohere(rest.post(path, json=GOOD[path] | change), status, code)


def test_cohere_bad_requests(server, rest, v2):
    check_cohere(rest.post("/v2/embed", content=b"{", headers={"Content-Type": "application/json"}), 400, "invalid_json")
    check_cohere(rest.post("/v2/embed", content=b"{}", headers={"Content-Type": "a/b"}), 415, "unsupported_media_type")
    check_cohere(rest.post("/v2/embed", content=b" " * (9 << 20)), 413, "body_too_large")
    check_cohere(rest.get("/v2/embed"), 405, "method_not_allowed")
    check_cohere(httpx.post(f"http://{server.api}/v2/embed", json={}), 401, "missing_credentials")
    with pytest.raises(cohere.NotFoundError) as unknown:
        v2.embed(model="nobody", texts=["a"], input_type="search_query")
    assert "no such model" in unknown.value.body["message"]
    with pytest.raises(cohere.UnauthorizedError):
        cohere.ClientV2(api_key="tc_test_none", base_url=f"http://{server.api}").embed(
            model=MODEL, texts=["a"], input_type="search_query")


def test_scores(rest, scores):
    check = lambda body: rest.post("/score", json={"model": MODEL} | body)
    for one, many in ("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2"):
        found = check({one: QUERY, many: DOCUMENTS}).json()
        assert np.allclose([item["score"] for item in found["data"]], scores, atol=2e-3)
        assert [item["index"] for item in found["data"]] == [0, 1, 2] and found["data"][0]["object"] == "score"
    pairs = rest.post("/v1/score", json={"data_1": DOCUMENTS, "data_2": DOCUMENTS}).json()
    assert np.allclose([item["score"] for item in pairs["data"]], 1, atol=1e-3)
    assert check({"data_1": DOCUMENTS[:2], "data_2": DOCUMENTS}).status_code == 400
    assert check({"data_1": QUERY}).status_code == 400
    assert check({"data_1": [], "data_2": []}).json()["error"]["code"] == "no_inputs"


def test_ranking(rest, scores, ranks):
    found = rest.post("/v1/ranking", json={"model": MODEL, "query": {"text": QUERY}, "truncate": "END",
                                           "passages": [{"text": text} for text in DOCUMENTS]}).json()
    assert [(item["index"], item["logit"]) for item in found["rankings"]] == [(i, scores[i]) for i in ranks]


def test_classes(rest):
    texts = ["A joy to use.", "Never again."]
    ours = rest.post("/v1/ml/sentiment", json={"inputs": texts}).json()["results"]
    found = rest.post("/classify", json={"model": "sentiment-v3", "input": texts}).json()
    for index, (item, own) in enumerate(zip(found["data"], ours, strict=True)):
        assert (item["index"], item["label"], item["num_classes"]) == (index, own["label"], 3)
        assert item["probs"] == list(own["scores"].values())
    assert found["object"] == "list" and found["created"] > 1_700_000_000
    # infinity's, told by its path or its field.
    for path, extra in ("/infinity/classify", {}), ("/classify", {"raw_scores": False}):
        found = rest.post(path, json={"model": "sentiment-v3", "input": texts} | extra).json()
        assert found["object"] == "classify"
        assert [item[0]["label"] for item in found["data"]] == [own["label"] for own in ours]
        assert {entry["label"]: entry["score"] for entry in found["data"][0]} == ours[0]["scores"]
    assert rest.post("/classify", json={"input": "Invoice 7. Total due EUR 500."}).json()["data"][0]["num_classes"] > 3
    assert rest.post("/classify", json={"input": "a", "use_activation": False}).status_code == 400


def test_pooling(rest):
    ours = rest.post("/v1/ml/embeddings", json={"inputs": DOCUMENTS}).json()["results"]
    vectors = np.array([result["embedding"] for result in ours], dtype="f4")
    ask = lambda **body: rest.post("/pooling", json={"model": MODEL, "input": DOCUMENTS} | body)
    floats = ask().json()["data"]
    assert np.array_equal(np.array([item["data"] for item in floats], dtype="f4"), vectors)
    assert floats[0]["object"] == "pooling"
    packed = ask(encoding_format="base64", task="embed").json()["data"]
    assert b"".join(base64.b64decode(item["data"]) for item in packed) == vectors.tobytes()
    binary = ask(encoding_format="bytes", embed_dtype="float16")
    metadata = json.loads(binary.headers["metadata"])
    parts = [np.frombuffer(binary.content[item["start"]:item["end"]], "<f2") for item in metadata["data"]]
    assert np.allclose(parts, vectors, atol=1e-3)
    assert ask(encoding_format="bytes_only").content == vectors.tobytes()
    assert ask(input=["a"] * 1000, encoding_format="bytes").json()["error"]["param"] == "encoding_format"
    classes = rest.post("/pooling", json={"model": "sentiment-v3", "input": "A joy to use."}).json()["data"]
    own = rest.post("/v1/ml/sentiment", json={"inputs": "A joy to use."}).json()["results"][0]
    assert classes[0]["data"] == list(own["scores"].values())
    for body in {"task": "token_classify"}, {"task": "classify"}, {"task": "other"}:
        assert ask(**body).status_code == 400


def test_tokens(rest):
    ours = rest.post("/v1/ml/tokenize", json={"inputs": DOCUMENTS[1]}).json()["results"][0]["tokenization"]
    found = rest.post("/tokenize", json={"model": MODEL, "prompt": DOCUMENTS[1], "return_token_strs": True}).json()
    assert found == {"count": len(ours), "max_model_len": 512, "tokens": [token["id"] for token in ours],
                     "token_strs": [token["text"] for token in ours]}
    bare = rest.post("/tokenize", json={"prompt": DOCUMENTS[1], "add_special_tokens": False}).json()
    assert bare["tokens"] == found["tokens"][1:-1] and bare["token_strs"] is None
    text = rest.post("/detokenize", json={"model": MODEL, "tokens": bare["tokens"]}).json()
    assert text == {"prompt": DOCUMENTS[1].lower()}
    assert rest.post("/detokenize", json={"tokens": [99_999]}).status_code == 400


def test_what_is_served(rest):
    assert rest.get("/version").json()["version"]
    for path in "/models", "/infinity/models":
        listed = rest.get(path).json()["data"]
        assert MODEL in [model["id"] for model in listed] and listed[0]["capabilities"]
    assert rest.post("/infinity/embeddings", json={"input": ["a"], "model": MODEL}).json()["data"][0]["index"] == 0
    assert rest.post("/embeddings", json={"input": ["a"], "model": MODEL}).json()["object"] == "list"


RERANK_BAD = [
    ({"query": ""}, 400, "query", "invalid_parameter"),
    ({"query": None}, 400, "query", "invalid_request"),
    ({"query": 7}, 400, "query", "invalid_request"),
    ({"documents": []}, 400, "documents", "no_inputs"),
    ({"documents": None}, 400, "documents", "invalid_request"),
    ({"documents": "a secret"}, 400, "documents", "invalid_request"),
    ({"documents": [{"image": "x"}]}, 400, "documents[0]", "invalid_request"),
    ({"documents": ["a", ""]}, 400, "documents", "empty_input"),
    ({"documents": ["a"] * 2049}, 400, "documents", "too_many_inputs"),
    ({"top_n": -1}, 400, "top_n", "invalid_request"),
    ({"model": "nobody"}, 404, "model", "model_not_found"),
    ({"model": "sentiment-v3"}, 400, "model", "wrong_task"),
    ({"return_documents": "yes"}, 400, "return_documents", "invalid_request"),
]


def check_openai(answer, status, param, code):
    """An error in OpenAI's form, which holds no text of the caller's."""
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (status, param, code), error
    assert set(error) == {"message", "type", "param", "code"} and "secret" not in answer.text


@pytest.mark.parametrize("path", ["/rerank", "/v2/rerank"])
@pytest.mark.parametrize("change, status, param, code", RERANK_BAD, ids=[str(case[0])[:40] for case in RERANK_BAD])
def test_bad_reranking(rest, path, change, status, param, code):
    check_openai(rest.post(path, json={"query": "a secret", "documents": ["a secret"]} | change), status, param, code)


RANKING_BAD = [
    ({"query": None}, 400, "query", "invalid_request"),
    ({"query": {}}, 400, "query", "invalid_request"),
    ({"query": {"text": ""}}, 400, "query", "invalid_parameter"),
    ({"query": {"text": 5}}, 400, "query.text", "invalid_request"),
    ({"query": {"image": "x"}}, 400, "query", "invalid_request"),
    ({"passages": None}, 400, "passages", "invalid_request"),
    ({"passages": []}, 400, "passages", "no_inputs"),
    ({"passages": {"text": "a secret"}}, 400, "passages", "invalid_request"),
    ({"passages": [{}]}, 400, "passages[0]", "invalid_request"),
    ({"passages": [{"text": ""}]}, 400, "passages", "empty_input"),
    ({"passages": [5]}, 400, "passages[0]", "invalid_request"),
    ({"passages": [{"text": "a"}] * 2049}, 400, "passages", "too_many_inputs"),
    ({"truncate": "MIDDLE"}, 400, "truncate", "invalid_request"),
    ({"model": "nobody"}, 404, "model", "model_not_found"),
    ({"model": "sentiment-v3"}, 400, "model", "wrong_task"),
]


@pytest.mark.parametrize("change, status, param, code", RANKING_BAD, ids=[str(case[0])[:40] for case in RANKING_BAD])
def test_bad_ranking_for_nim(rest, change, status, param, code):
    check_openai(rest.post("/v1/ranking", json={"query": {"text": "a secret"}, "passages": [{"text": "a secret"}]} | change),
                 status, param, code)


INFINITY_BAD = [
    ("embeddings", {"input": None}, 400, "input", "invalid_request"),
    ("embeddings", {"input": []}, 400, "input", "no_inputs"),
    ("embeddings", {"input": [""]}, 400, "input", "empty_input"),
    ("embeddings", {"input": {"text": "a secret"}}, 400, "input", "invalid_request"),
    ("embeddings", {"input": [["a secret"]]}, 400, "input[0][0]", "invalid_request"),
    ("embeddings", {"input": ["a"] * 2049}, 400, "input", "too_many_inputs"),
    ("embeddings", {"dimensions": -1}, 400, "dimensions", "invalid_request"),
    ("embeddings", {"dimensions": 385}, 400, "dimensions", "invalid_parameter"),
    ("embeddings", {"encoding_format": "hex"}, 400, "encoding_format", "invalid_request"),
    # The address of a picture is no text about it.
    ("embeddings", {"modality": "image", "input": ["http://secret/a.png"]}, 400, "modality", "invalid_request"),
    ("embeddings", {"model": "ner-v2"}, 400, "model", "wrong_task"),
    ("rerank", {"documents": []}, 400, "documents", "no_inputs"),
    ("rerank", {"documents": [5]}, 400, "documents[0]", "invalid_request"),
    ("rerank", {"top_n": -1}, 400, "top_n", "invalid_request"),
    ("rerank", {"raw_scores": "yes"}, 400, "raw_scores", "invalid_request"),
    ("classify", {"input": []}, 400, "input", "no_inputs"),
    ("classify", {"modality": "audio"}, 400, "modality", "invalid_request"),
    ("classify", {"model": "nobody"}, 404, "model", "model_not_found"),
]


@pytest.mark.parametrize("route, change, status, param, code", INFINITY_BAD, ids=[str(case[:2])[:50] for case in INFINITY_BAD])
def test_bad_input_for_infinity(rest, route, change, status, param, code):
    good = {"embeddings": {"input": ["a secret"]}, "classify": {"input": ["a secret"], "model": "sentiment-v3"},
            "rerank": {"query": "a secret", "documents": ["a secret"]}}
    assert rest.post(f"/infinity/{route}", json=good[route] | {"modality": "text"}).status_code == 200
    check_openai(rest.post(f"/infinity/{route}", json=good[route] | change), status, param, code)


def test_switches(request, tmp_path):
    """Each dialect's routes are there or not by its own switch; a route of two by either."""
    config = tmp_path / "off.toml"
    config.write_text("[protocols]\nopenai = false\n")
    server = start(request, tmp_path, "--config", str(config))
    with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}) as api:
        assert api.post("/score", json={}).status_code == 404
        assert api.post("/v2/rerank", json={"query": "a", "documents": ["a"]}).status_code == 200
    stop(server)
    config.write_text("[protocols]\ncohere = false\nollama = false\ninputs_max = 4\n")
    server = start(request, tmp_path, "--config", str(config))
    with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}) as api:
        check_cohere(api.post("/v2/embed", json=GOOD["/v2/embed"]), 404, "not_found")
        assert api.post("/v2/rerank", json={"query": "a", "documents": ["a"]}).status_code == 200
        # Both sides have as many as a call may have.
        for one, many, status in (1, 4, 200), (4, 4, 200), (1, 5, 400), (5, 5, 400):
            assert api.post("/score", json={"data_1": ["a"] * one, "data_2": ["b"] * many}).status_code == status
        off = api.post("/api/embed", json={"input": "a"})
        assert off.status_code == 404 and set(off.json()) == {"error"}
    stop(server)
