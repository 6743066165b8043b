"""OpenAI's API by OpenAI's own client, LangChain's, and plain HTTP; and what others made of `/v1/embeddings`."""

import asyncio
import base64
import json
import socket
import time

import httpx
import numpy as np
import openai
import pytest
from langchain_openai import AzureOpenAIEmbeddings, OpenAIEmbeddings

from conftest import KEY, patient, scraped, start, stop
from test_tenants import as_tenant, limited, make

def same(found, wanted):
    """Whether vectors are the same floats of 32 bits, however they were written."""
    return np.array_equal(np.array(found, dtype="f4"), np.array(wanted, dtype="f4"))


TEXTS = ["The cat sleeps on the sofa.", "Shares fell by three percent.", "Ein Zug fährt nach Zürich."]
MODEL = "embeddings-v2"


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"http://{server.api}/v1", api_key=KEY, max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def wanted(rest):
    """What our own API answers."""
    body = rest.post("/v1/ml/embeddings", json={"inputs": TEXTS}).json()
    return [result["embedding"] for result in body["results"]], body["usage"]["tokens"]


def test_embeddings_are_ours(client, wanted):
    vectors, tokens = wanted
    # Base64, which the client asks for by itself, and floats.
    for options in {}, {"encoding_format": "float"}:
        answer = client.embeddings.create(model=MODEL, input=TEXTS, user="somebody", **options)
        assert same([item.embedding for item in answer.data], vectors)
        assert [item.index for item in answer.data] == [0, 1, 2]
        assert (answer.object, answer.model) == ("list", MODEL)
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == tokens
    one = client.embeddings.create(model=MODEL, input=TEXTS[0], dimensions=8)
    assert len(one.data) == 1 and len(one.data[0].embedding) == 8


def test_base64_is_the_floats_bit_for_bit(rest):
    bodies = [rest.post("/v1/embeddings", json={"model": MODEL, "input": TEXTS, "encoding_format": form}).json()
              for form in ("float", "base64")]
    for plain, packed in zip(*(body["data"] for body in bodies)):
        floats = np.array(plain["embedding"], dtype="<f4").tobytes()
        assert base64.b64decode(packed["embedding"]) == floats


def test_asynchronous(server, wanted):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"http://{server.api}/openai/v1", api_key=KEY) as client:
            calls = [client.embeddings.create(model=MODEL, input=[text]) for text in TEXTS]
            return [answer.data[0].embedding for answer in await asyncio.gather(*calls)]

    assert np.allclose(asyncio.run(ask()), wanted[0], atol=2e-3)


def test_token_ids(client, rest, wanted):
    tokens = rest.post("/v1/ml/tokenize", json={"inputs": TEXTS}).json()["results"]
    ids = [[token["id"] for token in result["tokenization"]] for result in tokens]
    many = client.embeddings.create(model=MODEL, input=ids)
    assert same([item.embedding for item in many.data], wanted[0])
    one = client.embeddings.create(model=MODEL, input=ids[1])
    assert np.allclose(one.data[0].embedding, wanted[0][1], atol=2e-3)
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=MODEL, input=[[101, 99_999, 102]])
    assert refused.value.param == "input" and "check_embedding_ctx_length=False" in refused.value.message


def test_langchain(server, wanted):
    options = {"base_url": f"http://{server.api}/v1", "api_key": KEY, "model": MODEL}
    found = OpenAIEmbeddings(**options, check_embedding_ctx_length=False).embed_documents(TEXTS)
    assert same(found, wanted[0])
    # By default it sends ids of another tokenizer, for which it needs a table that is not here: these are ids
    # that such a table gives, as the client would send them.
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        openai.OpenAI(base_url=options["base_url"], api_key=KEY).embeddings.create(
            model=MODEL, input=[[791, 8415, 72086, 389, 279, 32169, 13]])


def test_azure(server, wanted):
    azure = {"azure_endpoint": f"http://{server.api}", "api_version": "2024-10-21", "api_key": KEY}
    with openai.AzureOpenAI(**azure) as client:
        answer = client.embeddings.create(model=MODEL, input=TEXTS)
        assert same([item.embedding for item in answer.data], wanted[0])
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="nobody", input=TEXTS)
    chain = AzureOpenAIEmbeddings(**azure, azure_deployment=MODEL, check_embedding_ctx_length=False)
    assert chain.embed_query(TEXTS[0]) == pytest.approx(wanted[0][0], abs=2e-3)


def test_models(client, rest):
    names = sorted(model["name"] for model in rest.get("/v1/ml/models").json()["models"])
    listed = client.models.list()
    assert sorted(model.id for model in listed) == names
    assert {model.object for model in listed} == {"model"}
    assert client.models.retrieve(MODEL).owned_by == "ml-inference"
    # KServe v1 has the same paths.
    assert sorted(rest.get("/v1/models").json()["models"]) == names
    one = rest.get(f"/v1/models/{MODEL}").json()
    assert (one["name"], one["ready"]) == (MODEL, True)
    with pytest.raises(openai.NotFoundError) as unknown:
        client.models.retrieve("nobody")
    assert unknown.value.code == "model_not_found" and unknown.value.param == "model"


def test_headers(client, rest):
    raw = client.embeddings.with_raw_response.create(model=MODEL, input="a", extra_headers={"x-request-id": "mine-1"})
    assert raw.headers["x-request-id"] == "mine-1" and raw.parse()._request_id == "mine-1"
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert "idempotency-replayed" not in raw.headers
    assert rest.get("/v1/models", headers={"Authorization": KEY}).status_code == 200


# Body, status, type, param and code. What is missing in a body has the default.
BAD = [
    ({"model": "nobody"}, 404, "invalid_request_error", "model", "model_not_found"),
    ({"model": "sentiment-v3"}, 400, "invalid_request_error", "model", "wrong_task"),
    ({"model": 7}, 400, "invalid_request_error", "model", "invalid_request"),
    ({"input": None}, 400, "invalid_request_error", "input", "invalid_request"),
    ({"input": []}, 400, "invalid_request_error", "input", "no_inputs"),
    ({"input": ["a", ""]}, 400, "invalid_request_error", "input", "empty_input"),
    ({"input": ["a\0"]}, 400, "invalid_request_error", "input", "nul_character"),
    ({"input": {"text": "a"}}, 400, "invalid_request_error", "input", "invalid_request"),
    ({"input": [1, "a"]}, 400, "invalid_request_error", "input", "invalid_request"),
    ({"input": ["a", [1.5]]}, 400, "invalid_request_error", "input[1][0]", "invalid_request"),
    ({"input": "word " * 600}, 400, "invalid_request_error", "input", "context_length_exceeded"),
    ({"input": ["a"] * 2049}, 400, "invalid_request_error", "input", "too_many_inputs"),
    ({"dimensions": 385}, 400, "invalid_request_error", "dimensions", "invalid_parameter"),
    ({"dimensions": -1}, 400, "invalid_request_error", "dimensions", "invalid_request"),
    ({"encoding_format": "hex"}, 400, "invalid_request_error", "encoding_format", "invalid_request"),
    ({"embedding_type": ["float", "binary"]}, 400, "invalid_request_error", "embedding_type", "invalid_request"),
    ({"output_dtype": "int4"}, 400, "invalid_request_error", "output_dtype", "invalid_request"),
    ({"truncate": "MIDDLE"}, 400, "invalid_request_error", "truncate", "invalid_request"),
    ({"truncate_prompt_tokens": 5}, 400, "invalid_request_error", "truncate_prompt_tokens", "invalid_request"),
]


def check_error(response, status, kind, param, code):
    body = response.json()
    assert response.status_code == status, body
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert (body["error"]["type"], body["error"]["param"], body["error"]["code"]) == (kind, param, code), body
    # What Voyage's and Cohere's clients read.
    assert body["detail"] == body["message"] == body["error"]["message"]
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("change, status, kind, param, code", BAD, ids=[str(case[0])[:40] for case in BAD])
def test_bad_input(rest, change, status, kind, param, code):
    response = rest.post("/v1/embeddings", json={"model": MODEL, "input": "a secret"} | change)
    check_error(response, status, kind, param, code)
    assert "secret" not in response.text and "word word" not in response.text


def test_bad_requests(server, rest):
    post = lambda content, **headers: httpx.post(f"http://{server.api}/v1/embeddings", content=content, headers={
        "Authorization": f"Bearer {KEY}", "Content-Type": "application/json"} | headers)
    check_error(post(b'{"input": '), 400, "invalid_request_error", None, "invalid_json")
    check_error(post(b'{"input": "\xff"}'), 400, "invalid_request_error", None, "invalid_utf8")
    check_error(post(b"[]"), 400, "invalid_request_error", None, "invalid_request")
    check_error(rest.post("/score", content=b"{}"), 415, "invalid_request_error", None, "unsupported_media_type")
    # LiteLLM does not declare what it sends to Voyage.
    bare = json.dumps({"model": MODEL, "input": "a", "truncation": True}).encode()
    assert rest.post("/v1/embeddings", content=bare).status_code == 200
    check_error(post(b" " * (9 << 20)), 413, "invalid_request_error", None, "body_too_large")
    check_error(post(b"{}", Authorization="Bearer tc_test_none"), 401, "invalid_request_error", None,
                "invalid_api_key")
    check_error(post(b"{}", **{"X-Request-Timeout": "soon"}), 400, "invalid_request_error", "x-request-timeout",
                "invalid_request")
    check_error(httpx.post(f"http://{server.api}/v1/embeddings", json={}), 401, "invalid_request_error", None,
                "missing_credentials")
    check_error(rest.get("/v1/embeddings"), 405, "invalid_request_error", None, "method_not_allowed")
    check_error(rest.post("/openai/v1/chat/completions", json={}), 404, "invalid_request_error", None, "not_found")


def test_errors_by_the_client(server, client):
    check = lambda error, **changes: pytest.raises(error, client.embeddings.create,
                                                   **({"model": MODEL, "input": "a"} | changes))
    check(openai.NotFoundError, model="nobody")
    check(openai.BadRequestError, input="")
    check(openai.BadRequestError, input=["a"] * 2049)
    with openai.OpenAI(base_url=f"http://{server.api}/v1", api_key="tc_test_none") as stranger:
        with pytest.raises(openai.AuthenticationError) as refused:
            stranger.embeddings.create(model=MODEL, input="a")
    assert refused.value.code == "invalid_api_key" and refused.value.request_id


def test_idempotency(rest):
    body, key = {"model": MODEL, "input": TEXTS}, {"Idempotency-Key": "openai-1"}
    first = rest.post("/v1/embeddings", json=body, headers=key)
    again = rest.post("/v1/embeddings", json=body, headers=key)
    assert again.headers["idempotency-replayed"] == "true" and again.content == first.content
    other = rest.post("/v1/embeddings", json=body | {"dimensions": 8}, headers=key)
    check_error(other, 422, "invalid_request_error", None, "idempotency_key_reused")


def test_what_others_made_of_it(rest, wanted):
    """One superset: each says in its own words how the numbers are written."""
    vectors, _ = wanted
    unit = np.array(vectors[0], dtype="f4")
    bits = np.packbits(unit > 0)
    levels = np.clip(np.round(unit * np.sqrt(384) / 4 * 127), -127, 127)
    check = lambda extra, expected, text=TEXTS[0]: np.testing.assert_allclose(
        rest.post("/v1/embeddings", json={"model": MODEL, "input": [text]} | extra).json()["data"][0]["embedding"],
        expected, atol=2e-3)
    ids = [token["id"] for token in rest.post("/v1/ml/tokenize", json={"inputs": TEXTS[0]}).json()
           ["results"][0]["tokenization"]]
    # Jina.
    check({"input": [{"text": TEXTS[0]}], "task": "retrieval.query", "late_chunking": False}, vectors[0])
    check({"embedding_type": "ubinary"}, bits)
    check({"embedding_type": ["binary"]}, bits.astype(int) - 128)
    check({"normalized": False, "embedding_type": "float"}, rest.post("/v1/ml/embeddings", json={
        "inputs": TEXTS[0], "parameters": {"normalize": False}}).json()["results"][0]["embedding"])
    # Voyage.
    check({"output_dtype": "binary", "input_type": "document"}, bits.astype(int) - 128)
    check({"output_dimension": 8, "truncation": True}, unit[:8] / np.linalg.norm(unit[:8]))
    # NIM: the suffix and the type of input say what a text is for.
    check({"model": f"{MODEL}-query", "truncate": "END"}, vectors[0])
    check({"input_type": "passage", "truncate": "NONE", "modality": "text"}, vectors[0])
    # vLLM: what is not said of truncation is refused when it is needed, what is said is done.
    check({"input": ids, "priority": 0, "add_special_tokens": True, "truncate_prompt_tokens": -1}, vectors[0])
    long = "one two three " * 400
    cut = lambda side: rest.post("/v1/ml/embeddings", json={
        "inputs": long, "parameters": {"truncation": side}}).json()["results"][0]["embedding"]
    check({"truncate_prompt_tokens": 512}, cut("end"), long)
    check({"truncate_prompt_tokens": -1, "truncation_side": "left"}, cut("start"), long)
    check({"truncation": True}, cut("end"), long)
    check({"truncate": "START"}, cut("start"), long)
    check({"truncate": True}, cut("end"), long)
    # The levels are rounded: one more or less where the vector is a hair different.
    found = rest.post("/v1/embeddings", json={"model": MODEL, "input": TEXTS[0], "output_dtype": "int8"}).json()
    assert np.abs(np.array(found["data"][0]["embedding"]) - levels).max() <= 1
    unsigned = rest.post("/v1/embeddings", json={"model": MODEL, "input": TEXTS[0], "output_dtype": "uint8"}).json()
    assert unsigned["data"][0]["embedding"] == [level + 128 for level in found["data"][0]["embedding"]]


@pytest.mark.parametrize("dtype, kind", [("float32", "f4"), ("float16", "f2")])
@pytest.mark.parametrize("endianness, order", [("little", "<"), ("big", ">"), ("native", "<")])
def test_vllm_binary_outputs(rest, wanted, dtype, kind, endianness, order):
    ask = lambda form: rest.post("/v1/embeddings", json={
        "model": MODEL, "input": TEXTS, "encoding_format": form, "embed_dtype": dtype, "endianness": endianness})
    answer = ask("bytes")
    assert answer.headers["content-type"] == "application/octet-stream"
    metadata = json.loads(answer.headers["metadata"])
    for item, vector in zip(metadata["data"], wanted[0], strict=True):
        part = np.frombuffer(answer.content[item["start"]:item["end"]], order + kind).reshape(item["shape"])
        np.testing.assert_allclose(part, vector, atol=2e-3)
    assert metadata["model"] == MODEL and metadata["usage"]["total_tokens"] == wanted[1]
    bare = ask("bytes_only")
    assert "metadata" not in bare.headers and bare.content == answer.content
    packed = ask("base64").json()["data"]
    assert b"".join(base64.b64decode(item["embedding"]) for item in packed) == answer.content


def test_limits_and_retries(request, server):
    """The client comes again when it is told to, and finds what is left in OpenAI's headers."""
    key = make(request, server, "openai", limited(10), "editor")["key"]
    with as_tenant(server, key) as api:
        first = api.post("/v1/embeddings", json={"model": MODEL, "input": TEXTS})
        headers = {name: first.headers[f"x-ratelimit-{name}-requests"] for name in ("limit", "remaining", "reset")}
        assert (headers["limit"], headers["remaining"]) == ("10", "7") and headers["reset"].endswith("s")
        assert api.post("/v1/embeddings", json={"model": MODEL, "input": ["a"] * 7}).status_code == 200
        over = api.post("/v1/embeddings", json={"model": MODEL, "input": "a"})
        check_error(over, 429, "requests", None, "rate_limit_exceeded")
        assert int(over.headers["retry-after-ms"]) > 0 and over.headers["x-should-retry"] == "true"
        assert over.headers["x-ratelimit-remaining-requests"] == "0"
        large = api.post("/v1/embeddings", json={"model": MODEL, "input": ["a"] * 11})
        check_error(large, 400, "invalid_request_error", None, "over_plan_limit")
        assert large.headers["x-should-retry"] == "false"
    # Every try is a call: the client itself says how often it came.
    tries = []

    def note(response):
        tries.append(response.request.headers["x-stainless-retry-count"])
        # Nobody waits for a minute here.
        response.headers["retry-after-ms"] = "20"

    with openai.DefaultHttpxClient(event_hooks={"response": [note]}) as patient:
        client = openai.OpenAI(base_url=f"http://{server.api}/v1", api_key=key, max_retries=2, http_client=patient)
        with pytest.raises(openai.RateLimitError) as refused:
            client.embeddings.create(model=MODEL, input="a")
        assert tries == ["0", "1", "2"] and refused.value.code == "rate_limit_exceeded"
        tries.clear()
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="nobody", input="a")
        assert tries == ["0"]


def test_who_leaves_frees_the_place(request, tmp_path):
    """What is abandoned while it is worked on is over: seen in metrics."""
    server = start(request, tmp_path, *patient(tmp_path))
    head = (f"POST /v1/embeddings HTTP/1.1\r\nhost: {server.api}\r\nauthorization: Bearer {KEY}\r\n"
            "content-type: application/json\r\n")
    body = json.dumps({"model": MODEL, "input": ["one two three " * 150] * 200}).encode()
    of = lambda name, **labels: sum(sample.value for sample in scraped(server) if sample.name == name
                                    and labels.items() <= sample.labels.items())

    def until(holds):
        for _ in range(300):
            if holds():
                return
            time.sleep(0.05)
        raise AssertionError("it did not come to pass")

    for _ in range(3):
        with socket.create_connection(server.api.split(":")) as caller:
            caller.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: of("ml_inference_calls_in_flight") == 1)
        until(lambda: of("ml_inference_calls_in_flight") == 0 and of("ml_inference_places_taken") == 0)
    counted = lambda: {(sample.labels["protocol"], sample.labels["code"]): sample.value for sample in scraped(server)
                       if sample.name == "ml_inference_calls_total"}
    until(lambda: counted().get(("openai", "cancelled")) == 3)
    stop(server)


def test_switched_off(request, tmp_path):
    config = tmp_path / "off.toml"
    config.write_text("[protocols]\nopenai = false\n")
    server = start(request, tmp_path, "--config", str(config))
    with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}) as api:
        for path in "/v1/embeddings", "/openai/v1/embeddings", f"/openai/deployments/{MODEL}/embeddings":
            check_error(api.post(path, json={"input": "a"}), 404, "invalid_request_error", None, "not_found")
        check_error(api.get("/v1/models"), 404, "invalid_request_error", None, "not_found")
        assert api.post("/v1/ml/embeddings", json={"inputs": "a"}).status_code == 200
    stop(server)
