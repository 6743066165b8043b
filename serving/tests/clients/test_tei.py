"""text-embeddings-inference's API: its clients unchanged, over REST and gRPC; answers equal to our own API's;
its errors."""

import asyncio
import socket
import time
from types import SimpleNamespace

import grpc
import httpx
import pytest
from conftest import KEY, scraped, start, stop
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

TEXTS = ["A harbour at dawn.", "Invoice 2024-118, total due EUR 500.", "Zürich is a town."]
LONG = "word " * 600
TIMINGS = ["x-compute-time", "x-compute-characters", "x-compute-tokens", "x-total-time", "x-tokenization-time",
           "x-queue-time", "x-inference-time"]


def ours(rest, route, body):
    answer = rest.post(f"/v1/ml/{route}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def near(left, right):
    """Batches differ in how many sequences they have, so that the last bits may."""
    return left == pytest.approx(right, abs=2e-3)


# REST


def test_embed_is_our_own_embeddings(rest):
    own = [result["embedding"] for result in ours(rest, "embeddings", {"inputs": TEXTS})]
    for path in "/embed", "/models/embeddings-v2/embed", "/", "/invocations":
        answer = rest.post(path, json={"inputs": TEXTS})
        assert answer.status_code == 200, answer.text
        for vector, expected in zip(answer.json(), own, strict=True):
            assert near(vector, expected), path
    one = rest.post("/embed", json={"inputs": TEXTS[0]}).json()
    assert len(one) == 1 and near(one[0], own[0])
    raw = {"inputs": TEXTS[0], "normalize": False, "dimensions": 8}
    expected = ours(rest, "embeddings", {"inputs": TEXTS[0], "parameters": {"normalize": False, "dimensions": 8}})
    assert near(rest.post("/embed", json=raw).json()[0], expected[0]["embedding"])
    ids = [token["id"] for token in rest.post("/tokenize", json={"inputs": TEXTS[2]}).json()[0]]
    for inputs in ids, [ids]:
        assert near(rest.post("/embed", json={"inputs": inputs}).json()[0], own[2])


def test_headers_tell_timings(rest):
    headers = rest.post("/embed", json={"inputs": ["Zürich", "b"]}).headers
    assert all(int(headers[name]) >= 0 for name in TIMINGS)
    assert headers["x-compute-type"] == "cpu" and headers["x-compute-model"] == "embeddings-v2"
    assert headers["x-compute-characters"] == "7"
    assert int(headers["x-compute-tokens"]) == rest.post("/v1/ml/embeddings", json={"inputs": ["Zürich", "b"]}).json()["usage"]["tokens"]
    assert "ratelimit" in headers


def test_more_than_a_client_batch(rest):
    answer = rest.post("/embed", json={"inputs": [f"text {i}" for i in range(200)], "dimensions": 2})
    assert answer.status_code == 200 and len(answer.json()) == 200


def test_long_texts_are_cut_where_the_caller_says(rest):
    text = "alpha " * 400 + "omega " * 400
    vectors = {}
    for direction, side in ("Right", "end"), ("left", "start"), (None, "end"):
        body = {"inputs": text, "truncation_direction": direction} if direction else {"inputs": text}
        expected = ours(rest, "embeddings", {"inputs": text, "parameters": {"truncation": side}})[0]["embedding"]
        vectors[direction] = rest.post("/embed", json=body).json()[0]
        assert near(vectors[direction], expected), direction
    assert not near(vectors["Right"], vectors["left"])


def test_predict(rest):
    own = ours(rest, "classify", {"inputs": TEXTS})
    batch = rest.post("/predict", json={"inputs": [[text] for text in TEXTS]}).json()
    for found, expected in zip(batch, own, strict=True):
        assert [row["label"] for row in found] == [row["label"] for row in expected["labels"]]
        assert near([row["score"] for row in found], [row["score"] for row in expected["labels"]])
    one = rest.post("/predict", json={"inputs": TEXTS[1]}).json()
    assert one[0]["label"] == batch[1][0]["label"]
    mood = rest.post("/models/sentiment-v3/predict", json={"inputs": "I love it."}).json()
    raw = rest.post("/models/sentiment-v3/predict", json={"inputs": "I love it.", "raw_scores": True}).json()
    assert mood[0]["label"] == "positive" and sum(row["score"] for row in mood) == pytest.approx(1, abs=1e-3)
    # Softmax of the logits are the probabilities.
    powers = [2.718281828 ** row["score"] for row in raw]
    assert near([power / sum(powers) for power in powers], [row["score"] for row in mood])


def test_rerank_and_similarity(rest):
    texts = ["A car is parked.", "Salmon swim upstream.", "The cat sleeps."]
    own = [result["score"] for result in ours(rest, "rerank", {"inputs": texts, "parameters": {"query": "fish"}})]
    body = {"query": "fish", "texts": texts, "raw_scores": False, "return_text": True, "top_n": 1, "truncation_direction": "Right"}
    ranks = rest.post("/rerank", json=body).json()
    assert [rank["index"] for rank in ranks] == sorted(range(3), key=lambda i: -own[i])
    assert all(near(rank["score"], own[rank["index"]]) and rank["text"] == texts[rank["index"]] for rank in ranks)
    assert "text" not in rest.post("/rerank", json={"query": "fish", "texts": texts}).json()[0]
    inputs = {"source_sentence": "fish", "sentences": texts}
    for path in "/similarity", "/":
        assert near(rest.post(path, json={"inputs": inputs}).json(), own)


def test_tokens_and_back(rest):
    tokens = rest.post("/tokenize", json={"inputs": "Zürich naïvely"}).json()[0]
    assert [(token["text"], token["special"]) for token in tokens][::len(tokens) - 1] == [("[CLS]", True), ("[SEP]", True)]
    inner = tokens[1:-1]
    assert all(token["text"] == "Zürich naïvely"[token["start"]:token["stop"]] for token in inner)
    assert "".join(token["text"] for token in inner) == "Zürichnaïvely"
    bare = rest.post("/tokenize", json={"inputs": ["Zürich naïvely"], "add_special_tokens": False}).json()[0]
    assert bare == inner
    ids = [token["id"] for token in tokens]
    assert rest.post("/decode", json={"ids": ids}).json() == ["zurich naively"]
    assert rest.post("/decode", json={"ids": [ids, ids], "skip_special_tokens": False}).json() == ["[CLS] zurich naively [SEP]"] * 2


def test_info_is_true(rest):
    models = {model["name"]: model for model in rest.get("/v1/ml/models").json()["models"]}
    info = rest.get("/info").json()
    own = models["embeddings-v2"]
    assert (info["model_id"], info["model_sha"]) == (own["source"]["repository"], own["source"]["revision"])
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["max_input_length"] == own["limits"]["tokens_max"] and info["auto_truncate"] is True
    too_many = rest.post("/embed", json={"inputs": ["a"] * (info["max_client_batch_size"] + 1)})
    assert too_many.status_code == 422
    labels = rest.get("/models/text-classifier-v2/info").json()["model_type"]["classifier"]
    assert list(labels["id2label"].values()) == models["text-classifier-v2"]["labels"]
    assert labels["label2id"] == {label: int(number) for number, label in labels["id2label"].items()}
    assert rest.get("/models/nobody/info").status_code == 404


def test_probes_need_no_key(server):
    for path in "/health", "/ping":
        answer = httpx.get(f"http://{server.api}{path}")
        assert (answer.status_code, answer.content) == (200, b"")
    assert httpx.get(f"http://{server.api}/").status_code == 200
    assert httpx.get(f"http://{server.api}/info").status_code == 401


SECRET = "a secret of the caller"
BAD = [
    ("/embed", {"json": {}}, 422, "Validation", "missing field `inputs`"),
    ("/embed", {"json": {"inputs": [SECRET, 5]}}, 422, "Validation", "one array"),
    ("/embed", {"json": {"inputs": {"text": SECRET}}}, 422, "Validation", "got object"),
    ("/embed", {"json": {"inputs": []}}, 400, "Empty", "cannot be empty"),
    ("/embed", {"json": {"inputs": ""}}, 422, "Validation", "is empty"),
    ("/embed", {"json": {"inputs": SECRET + "\0"}}, 422, "Validation", "NUL"),
    ("/embed", {"json": {"inputs": "a", "dimensions": 0}}, 422, "Validation", "`dimensions`"),
    ("/embed", {"json": {"inputs": "a", "dimensions": 385}}, 422, "Validation", "between 1 and 384"),
    ("/embed", {"json": {"inputs": "a", "prompt_name": SECRET}}, 422, "Validation", "prompt"),
    ("/embed", {"json": {"inputs": "a", "truncation_direction": SECRET}}, 422, "Validation", "truncation_direction"),
    ("/embed", {"json": {"inputs": SECRET + LONG, "truncate": False}}, 422, "Validation", "at most 512 tokens"),
    ("/embed", {"json": {"inputs": ["a"] * 2049}}, 422, "Validation", "batch size 2049 > maximum allowed batch size 2048"),
    ("/embed", {"json": {"inputs": [[101, 99999, 102]]}}, 422, "Validation", "99999"),
    ("/embed", {"content": b'{"inputs": "a', "headers": {"content-type": "application/json"}}, 400, "Validation", "JSON"),
    ("/embed", {"content": b'{"inputs":"\xff"}', "headers": {"content-type": "application/json"}}, 400, "Validation", "UTF-8"),
    ("/embed", {"content": b'{"inputs":"a"}', "headers": {"content-type": "text/plain"}}, 415, "Validation", "application/json"),
    ("/embed", {"content": b'{"inputs":"' + b"a" * (9 << 20) + b'"}', "headers": {"content-type": "application/json"}}, 413, "Validation", "limit"),
    ("/embed", {"json": {"inputs": "a"}, "headers": {"authorization": "Bearer tc_live_unknown"}}, 401, "Validation", ""),
    ("/embed", {"json": {"inputs": "a"}, "headers": {"x-request-timeout": "soon"}}, 422, "Validation", "x-request-timeout"),
    ("/embed_sparse", {"json": {"inputs": "a"}}, 424, "Backend", "embed_sparse"),
    ("/models/ner-v2/embed_all", {"json": {"inputs": "a"}}, 424, "Backend", "entities"),
    ("/embed_all", {"json": {"inputs": "a", "prompt_name": SECRET}}, 422, "Validation", "prompt"),
    ("/predict", {"json": {"inputs": [SECRET, "b"]}}, 422, "Validation", "pairs"),
    ("/models/embeddings-v2/predict", {"json": {"inputs": "a"}}, 424, "Backend", "embeddings"),
    ("/models/sentiment-v3/rerank", {"json": {"query": "a", "texts": ["b"]}}, 424, "Backend", "sentiment"),
    ("/models/nobody/embed", {"json": {"inputs": "a"}}, 404, "Validation", "no such model"),
    ("/rerank", {"json": {"query": "a", "texts": []}}, 400, "Empty", "empty"),
    ("/rerank", {"json": {"query": "", "texts": ["a"]}}, 422, "Validation", "query"),
    ("/rerank", {"json": {"texts": ["a"]}}, 422, "Validation", "query"),
    ("/similarity", {"json": {"inputs": "a"}}, 422, "Validation", "object"),
    ("/similarity", {"json": {"inputs": {"source_sentence": "a", "sentences": []}}}, 400, "Empty", "empty"),
    ("/tokenize", {"json": {"inputs": [[1, 2]]}}, 422, "Validation", "text"),
    ("/decode", {"json": {"ids": SECRET}}, 422, "Validation", "token ids"),
    ("/decode", {"json": {"ids": [999999]}}, 422, "Validation", "999999"),
]


@pytest.mark.parametrize("path,request_,status,kind,words", BAD, ids=lambda value: str(value)[:40])
def test_errors_have_its_form(rest, path, request_, status, kind, words):
    answer = rest.post(path, **request_)
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error", "error_type"} and body["error_type"] == kind and words in body["error"]
    assert SECRET not in answer.text
    assert ("www-authenticate" in answer.headers) == (status == 401)


def test_methods_that_are_none(rest):
    answer = rest.get("/embed")
    assert (answer.status_code, answer.json()["error_type"], answer.headers["allow"]) == (405, "Validation", "POST")


def test_keys_limits_and_repeats(request, server):
    from test_tenants import as_tenant, limited, make

    key = make(request, server, "tei-limited", limited(3))["key"]
    with as_tenant(server, key) as client:
        # As LlamaIndex's reranker sends it, and as others do.
        bare = {"authorization": key}
        first = client.post("/embed", json={"inputs": "a"}, headers=bare | {"idempotency-key": "one"})
        again = client.post("/embed", json={"inputs": "a"}, headers={"idempotency-key": "one"})
        assert first.status_code == again.status_code == 200 and first.content == again.content
        assert again.headers["idempotency-replayed"] == "true" and "x-compute-tokens" in again.headers
        found = [client.post("/embed", json={"inputs": "a"}) for _ in range(4)]
    refused = [answer for answer in found if answer.status_code != 200]
    assert refused and all((answer.status_code, answer.json()["error_type"]) == (429, "Overloaded") for answer in refused)
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


def test_a_caller_who_leaves_frees_its_place(server):
    def in_flight():
        samples = [sample.value for sample in scraped(server) if sample.name == "ml_inference_places_taken"]
        return sum(samples)

    before = in_flight()
    # More than is read of small bodies before a call has a place.
    body = b'{"inputs":"' + b"a" * 200_000
    host, port = server.api.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer " + KEY.encode() +
                           b"\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n" + body)
        settle(lambda: in_flight() > before)
    settle(lambda: in_flight() <= before)


def settle(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it did not come to be"
        time.sleep(0.05)


# Clients


def test_llama_index(server):
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
    from llama_index.embeddings import text_embeddings_inference as embedding
    from llama_index.postprocessor import tei_rerank as reranking

    base = f"http://{server.api}"
    client = embedding.TextEmbeddingsInference(model_name="embeddings-v2", base_url=base, auth_token=KEY)
    vectors = client.get_text_embedding_batch(TEXTS)
    direct = httpx.post(f"{base}/embed", json={"inputs": TEXTS}, headers={"authorization": f"Bearer {KEY}"}).json()
    assert len(vectors) == 3 and all(near(a, b) for a, b in zip(vectors, direct))
    assert near(asyncio.run(client.aget_query_embedding(TEXTS[0])), direct[0])
    reranker = reranking.TextEmbeddingInference(base_url=base, auth_token=KEY, top_n=1)
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in ("A car.", "Salmon are fish.")]
    best = reranker.postprocess_nodes(nodes, query_bundle=QueryBundle("fish"))
    assert [node.text for node in best] == ["Salmon are fish."]


# gRPC, found by reflection alone, as Haystack does


@pytest.fixture(scope="module")
def reflected(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = descriptor_pool.DescriptorPool(database)

    def call(service, method, messages, metadata=(), timeout=60):
        found = pool.FindServiceByName(f"tei.v1.{service}").FindMethodByName(method)
        asked, answered = (message_factory.GetMessageClass(kind) for kind in (found.input_type, found.output_type))
        kinds = {(False, False): channel.unary_unary, (True, False): channel.stream_unary, (True, True): channel.stream_stream}
        make = kinds[found.client_streaming, found.server_streaming]
        rpc = make(f"/tei.v1.{service}/{method}", asked.SerializeToString, answered.FromString)
        metadata = [("authorization", f"Bearer {KEY}"), *metadata]
        if found.client_streaming:
            return rpc(iter([asked(**message) for message in messages]), metadata=metadata, timeout=timeout)
        answer, told = rpc.with_call(asked(**messages), metadata=metadata, timeout=timeout)
        return SimpleNamespace(answer=answer, metadata=dict(told.initial_metadata()))

    call.services, call.pool = database.get_services(), pool
    return call


SERVICES = {"tei.v1.Info", "tei.v1.Embed", "tei.v1.Predict", "tei.v1.Rerank", "tei.v1.Tokenize"}


def test_services_are_seen_and_healthy(reflected, channel):
    assert SERVICES <= set(reflected.services)
    check = health_pb2_grpc.HealthStub(channel).Check
    assert {check(health_pb2.HealthCheckRequest(service=name)).status for name in SERVICES} == {1}


def test_grpc_answers_are_those_of_rest(reflected, rest):
    found = reflected("Embed", "Embed", {"inputs": TEXTS[2]})
    assert near(list(found.answer.embeddings), rest.post("/embed", json={"inputs": TEXTS[2]}).json()[0])
    assert found.answer.metadata.compute_chars == len(TEXTS[2]) and found.answer.metadata.total_time_ns > 0
    assert all(name in found.metadata for name in TIMINGS)
    found = reflected("Predict", "Predict", {"inputs": "I love it.", "raw_scores": True}, [("x-model", "sentiment-v3")])
    expected = rest.post("/models/sentiment-v3/predict", json={"inputs": "I love it.", "raw_scores": True}).json()
    assert [row.label for row in found.answer.predictions] == [row["label"] for row in expected]
    assert near([row.score for row in found.answer.predictions], [row["score"] for row in expected])
    body = {"query": "fish", "texts": ["car", "salmon"], "return_text": True}
    expected = rest.post("/rerank", json=body).json()
    for ranks in (reflected("Rerank", "Rerank", body).answer.ranks,
                  reflected("Rerank", "RerankStream", [{"query": "fish", "text": text, "return_text": True} for text in body["texts"]]).ranks):
        assert [(rank.index, rank.text) for rank in ranks] == [(rank["index"], rank["text"]) for rank in expected]
        assert near([rank.score for rank in ranks], [rank["score"] for rank in expected])
    tokens = reflected("Tokenize", "Tokenize", {"inputs": "Zürich", "add_special_tokens": True}).answer.tokens
    expected = rest.post("/tokenize", json={"inputs": "Zürich"}).json()[0]
    assert [(t.id, t.text, t.special, t.start if t.HasField("start") else None) for t in tokens] == \
        [(t["id"], t["text"], t["special"], t["start"]) for t in expected]
    ids = [token.id for token in tokens]
    assert reflected("Tokenize", "Decode", {"ids": ids, "skip_special_tokens": True}).answer.text == "zurich"
    info, own = reflected("Info", "Info", {}).answer, rest.get("/info").json()
    assert (info.model_id, info.max_client_batch_size, info.model_type) == (own["model_id"], own["max_client_batch_size"], 0)


def test_streams_answer_in_order(reflected):
    # Longer and shorter ones in turn, so that they would finish in another order.
    texts = ["long text " * 200 if i % 3 == 0 else f"text {i}" for i in range(40)]
    answers = list(reflected("Embed", "EmbedStream", [{"inputs": text, "truncate": True} for text in texts]))
    assert [answer.metadata.compute_chars for answer in answers] == [len(text) for text in texts]
    words = [f"word{i}" for i in range(5)]
    tokens = reflected("Tokenize", "TokenizeStream", [{"inputs": word} for word in words])
    assert ["".join(token.text for token in answer.tokens) for answer in tokens] == words
    with pytest.raises(grpc.RpcError) as refused:
        list(reflected("Embed", "EmbedStream", [{"inputs": "a"}, {"inputs": ""}, {"inputs": "b"}]))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("service,method,message,code", [
    ("Embed", "Embed", {"inputs": ""}, "INVALID_ARGUMENT"),
    ("Embed", "Embed", {"inputs": LONG}, "INVALID_ARGUMENT"),
    ("Embed", "Embed", {"inputs": "a", "dimensions": 0}, "INVALID_ARGUMENT"),
    ("Embed", "Embed", {"inputs": "a", "prompt_name": "q"}, "INVALID_ARGUMENT"),
    ("Embed", "Embed", {"inputs": "a", "truncation_direction": 7}, "INVALID_ARGUMENT"),
    ("Embed", "EmbedSparse", {"inputs": "a"}, "FAILED_PRECONDITION"),
    ("Predict", "PredictPair", {"inputs": ["a", "b"]}, "INVALID_ARGUMENT"),
    ("Rerank", "Rerank", {"query": "a"}, "INVALID_ARGUMENT"),
    ("Rerank", "RerankStream", [], "INVALID_ARGUMENT"),
    ("Tokenize", "Decode", {"ids": [999999]}, "INVALID_ARGUMENT"),
])
def test_grpc_errors(reflected, service, method, message, code):
    with pytest.raises(grpc.RpcError) as refused:
        reflected(service, method, message)
    assert refused.value.code() == getattr(grpc.StatusCode, code), refused.value.details()


def test_grpc_needs_a_model_and_a_key(reflected):
    for metadata, code in [([("x-model", "nobody")], "NOT_FOUND"), ([("x-model", "sentiment-v3")], "FAILED_PRECONDITION")]:
        with pytest.raises(grpc.RpcError) as refused:
            reflected("Embed", "Embed", {"inputs": "a"}, metadata)
        assert refused.value.code() == getattr(grpc.StatusCode, code)


# The switch


def test_a_dialect_that_is_off(request, tmp_path):
    config = tmp_path / "off.toml"
    config.write_text("[protocols]\ntei = false\nhuggingface = false\ncontainers = false\n")
    server = start(request, tmp_path, "--config", str(config))
    try:
        headers = {"authorization": f"Bearer {KEY}"}
        answer = httpx.post(f"http://{server.api}/embed", json={"inputs": "a"}, headers=headers)
        assert (answer.status_code, answer.json()["error_type"]) == (404, "Validation")
        answer = httpx.post(f"http://{server.api}/hf/ner-v2", json={"inputs": "a"}, headers=headers)
        assert (answer.status_code, set(answer.json())) == (404, {"error"})
        assert httpx.post(f"http://{server.api}/vertex", json={"instances": ["a"]}, headers=headers).status_code == 404
        with grpc.insecure_channel(server.api) as channel:
            assert not SERVICES & set(ProtoReflectionDescriptorDatabase(channel).get_services())
            check = health_pb2_grpc.HealthStub(channel).Check
            with pytest.raises(grpc.RpcError) as refused:
                check(health_pb2.HealthCheckRequest(service="tei.v1.Embed"))
            assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    finally:
        stop(server)
