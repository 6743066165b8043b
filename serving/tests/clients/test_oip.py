"""Open Inference Protocol v2 through Triton's own clients (HTTP with its binary default, gRPC, asyncio,
streams), through grpcio that knows the service by reflection alone, and as plain HTTP; KServe's v1."""

import asyncio
import json
import queue
import socket

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from conftest import KEY, scraped, start, stop
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from test_tenants import as_tenant, cli, limited, make, settled
from tritonclient.utils import InferenceServerException

TEXTS = ["Maria Lopez of Siemens praised the new plant in Madrid.", "It is late again – how sad. 🙁"]


def authorized():
    """Headers of a call; the client puts its own into the same dictionary."""
    return {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def http_client(server):
    with triton_http.InferenceServerClient(server.api, concurrency=4) as client:
        yield client


@pytest.fixture(scope="module")
def grpc_client(server):
    with triton_grpc.InferenceServerClient(server.api) as client:
        yield client


def texts_of(kind, texts, column=False, **options):
    array = np.array([text.encode() for text in texts], dtype=np.object_)
    array = array.reshape(-1, 1) if column else array
    tensor = kind.InferInput("text", list(array.shape), "BYTES")
    tensor.set_data_from_numpy(array, **options)
    return [tensor]


def embeddings(rest, texts, **parameters):
    answer = rest.post("/v1/ml/embeddings", json={"inputs": texts, "parameters": parameters})
    return np.array([result["embedding"] for result in answer.json()["results"]], dtype=np.float32)


def moods(rest, texts=TEXTS):
    return rest.post("/v1/ml/sentiment", json={"inputs": texts}).json()["results"]


def outputs(rest, route, texts):
    return rest.post(f"/v1/ml/{route}", json={"inputs": texts}).json()["results"]


def decoded(array):
    return [text.decode() for text in array.reshape(-1)]


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("over", ["http", "grpc"])
def test_answers_are_those_of_our_own_api(over, column, http_client, grpc_client, rest):
    kind, client = {"http": (triton_http, http_client), "grpc": (triton_grpc, grpc_client)}[over]

    def infer(model, **options):
        return client.infer(model, texts_of(kind, TEXTS, column), headers=authorized(), **options)

    answer = infer("embeddings-v2", request_id="mine-17")
    vectors = answer.as_numpy("embedding")
    assert vectors.shape == (2, 384) and vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, embeddings(rest, TEXTS), atol=2e-3)
    response = answer.get_response()
    told = response if over == "http" else {"id": response.id, "model_name": response.model_name,
                                            "model_version": response.model_version}
    assert (told["id"], told["model_name"], told["model_version"]) == ("mine-17", "embeddings-v2", "2.0.0")
    shape = (2, 1) if column else (2,)
    answer = infer("sentiment-v3")
    assert answer.as_numpy("label").shape == answer.as_numpy("score").shape == shape
    assert decoded(answer.as_numpy("label")) == [mood["label"] for mood in moods(rest)]
    assert answer.as_numpy("score").reshape(-1) == pytest.approx([mood["score"] for mood in moods(rest)], abs=2e-3)
    answer = infer("text-classifier-v2")
    assert decoded(answer.as_numpy("label")) == [r["labels"][0]["label"] for r in outputs(rest, "classify", TEXTS)]
    rows = [json.loads(row) for row in decoded(infer("ner-v2").as_numpy("entities"))]
    for found, expected in zip(rows, outputs(rest, "entities", TEXTS), strict=True):
        assert [{**e, "score": None} for e in found] == [{**e, "score": None} for e in expected["entities"]]
    assert rows[0] and rows[0][0]["text"] == "Maria Lopez"
    answer = infer("summarizer-v1")
    assert decoded(answer.as_numpy("summary")) == [r["summary"] for r in outputs(rest, "summarize", TEXTS)]


def token_ids(rest, texts):
    results = rest.post("/v1/ml/tokenize", json={"inputs": texts}).json()["results"]
    return [[token["id"] for token in result["tokenization"]] for result in results]


@pytest.mark.parametrize("datatype", [np.int64, np.int32])
@pytest.mark.parametrize("over", ["http", "grpc"])
def test_token_ids_with_padding_on_either_side(over, datatype, http_client, grpc_client, rest):
    kind, client = {"http": (triton_http, http_client), "grpc": (triton_grpc, grpc_client)}[over]
    rows = token_ids(rest, TEXTS)
    length = max(map(len, rows)) + 3
    name = {np.int64: "INT64", np.int32: "INT32"}[datatype]
    for left in False, True:
        pad = (lambda row, n: [0] * n + row) if left else (lambda row, n: row + [0] * n)
        ids = np.array([pad(row, length - len(row)) for row in rows], dtype=datatype)
        mask = np.array([pad([1] * len(row), length - len(row)) for row in rows], dtype=datatype)
        tensors = [kind.InferInput("input_ids", list(ids.shape), name),
                   kind.InferInput("attention_mask", list(mask.shape), name)]
        tensors[0].set_data_from_numpy(ids)
        tensors[1].set_data_from_numpy(mask)
        found = client.infer("embeddings-v2", tensors, headers=authorized()).as_numpy("embedding")
        np.testing.assert_allclose(found, embeddings(rest, TEXTS), atol=2e-3)


def test_forms_of_http(http_client, rest):
    expected = embeddings(rest, TEXTS)

    def check(inputs, outputs=None, **options):
        answer = http_client.infer("embeddings-v2", inputs, outputs=outputs, headers=authorized(), **options)
        np.testing.assert_allclose(answer.as_numpy("embedding"), expected, atol=2e-3)
        return answer.get_response()

    binary, plain = texts_of(triton_http, TEXTS), texts_of(triton_http, TEXTS, binary_data=False)
    as_json = [triton_http.InferRequestedOutput("embedding", binary_data=False)]
    as_bytes = [triton_http.InferRequestedOutput("embedding", binary_data=True)]
    assert "data" in check(binary, as_json)["outputs"][0] and "data" in check(plain, as_json)["outputs"][0]
    assert check(plain, as_bytes)["outputs"][0]["parameters"] == {"binary_data_size": 2 * 384 * 4}
    for algorithm in "gzip", "deflate":
        for inputs in binary, plain:
            check(inputs, request_compression_algorithm=algorithm, response_compression_algorithm=algorithm)
    for version in "2.0.0", "1":
        check(binary, model_version=version)
    # A body that is nothing but the text.
    raw = rest.post("/v2/models/embeddings-v2/infer", content=TEXTS[1].encode(), headers={
        "Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"})
    length = int(raw.headers["inference-header-content-length"])
    found = np.frombuffer(raw.content[length:], dtype="<f4")
    assert raw.status_code == 200 and raw.headers["content-type"] == "application/octet-stream"
    np.testing.assert_allclose(found, expected[1], atol=2e-3)


def test_json_by_hand_with_extras(rest):
    """As clients of other servers of the protocol send it: nested data, fields and parameters that nobody
    knows."""
    asked = {
        "id": "7", "unknown": {"a": [1]}, "parameters": {"sequence_id": 0, "triton_x": "y", "priority": 1, "timeout": 30_000_000},
        "inputs": [{"name": "input-0", "datatype": "BYTES", "shape": [2, 1], "data": [[TEXTS[0]], [TEXTS[1]]],
                    "parameters": {"content_type": "str"}}],
        "outputs": [{"name": "score", "parameters": {"x": 1}}, {"name": "label"}],
    }
    answer = rest.post("/v2/models/sentiment-v3/infer", json=asked)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert [output["name"] for output in body["outputs"]] == ["score", "label"] and body["id"] == "7"
    label = body["outputs"][1]
    assert label == {"name": "label", "datatype": "BYTES", "shape": [2, 1], "data": [m["label"] for m in moods(rest)]}
    assert "ratelimit" in answer.headers or "x-request-id" in answer.headers
    cut = {**asked, "outputs": None, "parameters": {"truncation": "end", "dimensions": 8}}
    body = rest.post("/v2/models/embeddings-v2/infer", json=cut).json()
    assert body["outputs"][0]["shape"] == [2, 8] and len(body["outputs"][0]["data"]) == 16
    own = {**asked, "outputs": None, "parameters": {"labels": '["sport", "politics"]', "top_k": 2}}
    body = rest.post("/v2/models/text-classifier-v2/infer", json=own).json()
    assert body["outputs"][0]["shape"] == [2, 2] and set(body["outputs"][0]["data"]) == {"sport", "politics"}


@pytest.mark.parametrize("over", ["http", "grpc"])
def test_classification(over, http_client, grpc_client, rest):
    kind, client = {"http": (triton_http, http_client), "grpc": (triton_grpc, grpc_client)}[over]
    labels = next(m for m in rest.get("/v1/ml/models").json()["models"] if m["name"] == "sentiment-v3")["labels"]
    asked = [kind.InferRequestedOutput("score", class_count=2)]
    answer = client.infer("sentiment-v3", texts_of(kind, TEXTS), outputs=asked, headers=authorized())
    found = answer.as_numpy("score")
    assert found.shape == (2, 2)
    for row, mood in zip(found, moods(rest), strict=True):
        best = sorted(mood["scores"], key=mood["scores"].get, reverse=True)[:2]
        parts = [cell.decode().split(":") for cell in row]
        assert [part[2] for part in parts] == best and [int(part[1]) for part in parts] == [labels.index(b) for b in best]
        assert [float(part[0]) for part in parts] == pytest.approx([mood["scores"][b] for b in best], abs=2e-3)
    asked = [kind.InferRequestedOutput("embedding", class_count=3)]
    row = client.infer("embeddings-v2", texts_of(kind, TEXTS[:1]), outputs=asked, headers=authorized()).as_numpy("embedding")[0]
    vector = embeddings(rest, TEXTS[:1])[0]
    assert {int(cell.decode().split(":")[1]) for cell in row} == set(np.argsort(vector)[-3:].tolist())


def tensor(data=("a",), **more):
    return {"name": "text", "datatype": "BYTES", "shape": [len(data)], "data": list(data), **more}


SECRET = "xylophone zebra"
REFUSED = [
    # Body, model, status, what the message says.
    ("{", "sentiment-v3", 400, "not valid JSON"),
    ("[]", "sentiment-v3", 400, "expected an object"),
    (b"\xff", "sentiment-v3", 400, "not valid UTF-8"),
    ({}, "sentiment-v3", 400, "inputs"),
    ({"inputs": []}, "sentiment-v3", 400, "takes one BYTES tensor"),
    ({"inputs": "text"}, "sentiment-v3", 400, "inputs: expected"),
    ({"inputs": [tensor(shape=[2])]}, "sentiment-v3", 400, "inputs[0].shape"),
    ({"inputs": [tensor(shape="x")]}, "sentiment-v3", 400, "inputs[0].shape"),
    ({"inputs": [tensor(data=[5])]}, "sentiment-v3", 400, "inputs[0].data"),
    ({"inputs": [tensor(datatype="FP32", data=[1.5])]}, "sentiment-v3", 400, "no such input"),
    ({"inputs": [tensor(), tensor()]}, "sentiment-v3", 400, "inputs[1]"),
    ({"inputs": [tensor([""])]}, "sentiment-v3", 400, "inputs[0] is empty"),
    ({"inputs": [tensor([SECRET + "\0"])]}, "sentiment-v3", 400, "NUL"),
    ({"inputs": [tensor([SECRET * 2000])]}, "embeddings-v2", 400, "tokens, the limit is"),
    ({"inputs": [tensor(["a"] * 3000)]}, "sentiment-v3", 400, "the limit is 2048"),
    ({"inputs": [tensor()], "outputs": [{"name": SECRET}]}, "sentiment-v3", 400, "`label`, `score`"),
    ({"inputs": [tensor()], "outputs": [{"name": "label"}] * 2}, "sentiment-v3", 400, "outputs[1]"),
    ({"inputs": [tensor()], "outputs": [{"name": "label", "parameters": {"classification": 1}}]}, "sentiment-v3", 400,
     "classification"),
    ({"inputs": [tensor()], "parameters": {"timeout": "soon"}}, "sentiment-v3", 400, "parameters.timeout"),
    ({"inputs": [tensor()], "parameters": {"truncation": SECRET}}, "sentiment-v3", 400, "parameters.truncation"),
    ({"inputs": [tensor()], "parameters": {"dimensions": 100_000}}, "embeddings-v2", 400, "dimensions"),
    ({"inputs": [tensor(parameters={"binary_data_size": 3})]}, "sentiment-v3", 400, "either"),
    ({"inputs": [tensor(parameters={"shared_memory_region": "r"})]}, "sentiment-v3", 400, "shared memory"),
    ({"inputs": [{"name": "input_ids", "datatype": "INT64", "shape": [1, 1], "data": [-1]}]}, "embeddings-v2", 400, "out of range"),
    ({"inputs": [{"name": "input_ids", "datatype": "INT64", "shape": [1, 1], "data": [100_000]}]}, "embeddings-v2", 400,
     "token id"),
    ({"inputs": [tensor()]}, "nothing", 404, "no such model"),
    ({"inputs": [tensor()]}, "sentiment-v3/versions/2", 404, "no such model"),
    ({"inputs": [tensor()]}, "%ff", 400, "path"),
]


def test_what_is_wrong_with_a_request(rest, server):
    for body, model, status, message in REFUSED:
        content = body if isinstance(body, (str, bytes)) else json.dumps(body)
        answer = rest.post(f"/v2/models/{model}/infer", content=content)
        assert answer.status_code == status, (body, answer.text)
        assert answer.headers["content-type"] == "application/json" and list(answer.json()) == ["error"]
        assert message in answer.json()["error"] and SECRET not in answer.text, (body, answer.text)
    good = json.dumps({"inputs": [tensor()]})
    path = "/v2/models/sentiment-v3/infer"
    for answer, status in [
        (httpx.post(f"http://{server.api}{path}", content=good), 401),
        (rest.post(path, content=good, headers={"Authorization": "Bearer tc_test_wrong"}), 401),
        (rest.get(path), 405), (rest.post("/v2"), 405), (rest.get("/v2/nothing"), 404),
        (rest.post(path, content=good, headers={"Inference-Header-Content-Length": "9999"}), 400),
        (rest.post(path, content=good, headers={"Content-Encoding": "br"}), 400),
        (rest.post(path, content=b"\x1f\x8b broken", headers={"Content-Encoding": "gzip"}), 400),
        (rest.post(path, content=b" " * (17 << 20)), 400),
        (rest.post(path, content=json.dumps({"inputs": [tensor()], "parameters": {"timeout": 1}})), 503),
    ]:
        assert answer.status_code in (status, 504 if status == 503 else status), answer.text
        assert list(answer.json()) == ["error"]
    assert rest.get(path).headers["allow"] == "POST"
    assert SECRET not in server.log.read_text()


def test_what_is_wrong_over_grpc(grpc_client):
    def refused(model="sentiment-v3", inputs=None, headers=None, **options):
        with pytest.raises(InferenceServerException) as raised:
            grpc_client.infer(model, inputs or texts_of(triton_grpc, ["a"]), headers=authorized() if headers is None else headers, **options)
        return raised.value.status(), raised.value.message()

    assert refused("nothing")[0] == refused(model_version="7")[0] == "StatusCode.NOT_FOUND"
    assert refused(headers={})[0] == "StatusCode.UNAUTHENTICATED"
    status, message = refused(inputs=texts_of(triton_grpc, [""]))
    assert (status, message) == ("StatusCode.INVALID_ARGUMENT", "inputs[0] is empty")
    status, message = refused(outputs=[triton_grpc.InferRequestedOutput("nothing")])
    assert status == "StatusCode.INVALID_ARGUMENT" and "`label`, `score`" in message
    cut = texts_of(triton_grpc, ["abc"])
    cut[0]._raw_content = cut[0]._raw_content[:-1]
    assert refused(inputs=cut)[0] == "StatusCode.INVALID_ARGUMENT"
    assert refused(timeout=1)[0] in ("StatusCode.DEADLINE_EXCEEDED", "StatusCode.UNAVAILABLE")


def test_health_metadata_and_configuration(http_client, grpc_client, server):
    for client in http_client, grpc_client:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("embeddings-v2", headers=authorized())
        assert client.is_model_ready("embeddings-v2", "1", headers=authorized())
    assert not http_client.is_model_ready("nothing")
    options = {"headers": authorized(), "as_json": True}
    told, same = http_client.get_server_metadata(), grpc_client.get_server_metadata(as_json=True)
    assert told == same and {"statistics", "model_configuration", "binary_tensor_data"} <= set(told["extensions"])
    told = http_client.get_model_metadata("embeddings-v2", headers=authorized())
    same = grpc_client.get_model_metadata("embeddings-v2", **options)
    assert told == {
        "name": "embeddings-v2", "versions": ["2.0.0"], "platform": "ml-inference",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1, 1]}],
        "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [-1, 384]}],
    }
    for part in "inputs", "outputs":
        for tensor in same[part]:
            tensor["shape"] = [int(length) for length in tensor["shape"]]
    assert told == same
    config = http_client.get_model_config("sentiment-v3", headers=authorized())
    same = grpc_client.get_model_config("sentiment-v3", **options)["config"]
    assert config["max_batch_size"] == same["max_batch_size"] == 2048
    assert [output["name"] for output in config["output"]] == [output["name"] for output in same["output"]] == ["label", "score"]
    assert config["input"][0]["data_type"] == same["input"][0]["data_type"] == "TYPE_STRING"
    assert httpx.get(f"http://{server.api}/v2/models/embeddings-v2").status_code == 401


def test_repository(http_client, grpc_client):
    told = http_client.get_model_repository_index(headers=authorized())
    same = grpc_client.get_model_repository_index(headers=authorized(), as_json=True)["models"]
    assert {(m["name"], m["version"], m["state"]) for m in told} == {(m["name"], m["version"], m["state"]) for m in same}
    assert ("embeddings-v2", "2.0.0", "READY") in {(m["name"], m["version"], m["state"]) for m in told}
    for client, status in (http_client, "501"), (grpc_client, "StatusCode.UNIMPLEMENTED"):
        client.load_model("embeddings-v2", headers=authorized())
        with pytest.raises(InferenceServerException, match="no such model"):
            client.load_model("nothing", headers=authorized())
        for call in (
            lambda c: c.get_system_shared_memory_status(headers=authorized()),
            lambda c: c.register_system_shared_memory("r", "/r", 8, headers=authorized()),
            lambda c: c.unregister_cuda_shared_memory("r", headers=authorized()),
            lambda c: c.get_trace_settings(headers=authorized()),
            lambda c: c.get_log_settings(headers=authorized()),
        ):
            with pytest.raises(InferenceServerException) as raised:
                call(client)
            assert raised.value.status() == status and "does not support" in raised.value.message()


def test_statistics_count_what_happened(http_client, grpc_client):
    def stats():
        (stats,) = http_client.get_inference_statistics("ner-v2", headers=authorized())["model_stats"]
        return stats

    before = stats()
    for client, kind in (http_client, triton_http), (grpc_client, triton_grpc):
        client.infer("ner-v2", texts_of(kind, TEXTS), headers=authorized())
        with pytest.raises(InferenceServerException):
            client.infer("ner-v2", texts_of(kind, [""]), headers=authorized())
    after = stats()
    assert after["inference_count"] - before["inference_count"] == 4
    assert after["execution_count"] - before["execution_count"] == 2
    for part, count in ("success", 2), ("fail", 2), ("queue", 2), ("compute_input", 2), ("compute_infer", 2), ("compute_output", 2):
        then, now = before["inference_stats"][part], after["inference_stats"][part]
        assert now["count"] - then["count"] == count, part
        assert now["ns"] > then["ns"] or part in ("queue", "compute_output"), part
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    inner = after["inference_stats"]
    assert inner["success"]["ns"] >= sum(inner[part]["ns"] for part in parts) and after["last_inference"] > 1_700_000_000_000
    same = grpc_client.get_inference_statistics("ner-v2", headers=authorized(), as_json=True)["model_stats"][0]
    assert int(same["inference_stats"]["success"]["count"]) == inner["success"]["count"]
    every = http_client.get_inference_statistics(headers=authorized())["model_stats"]
    assert {model["name"] for model in every} >= {"ner-v2", "embeddings-v2"}


def test_asyncio(server, rest):
    async def ask():
        async with triton_http_aio.InferenceServerClient(server.api) as http:
            many = [http.infer("embeddings-v2", texts_of(triton_http_aio, TEXTS), headers=authorized()) for _ in range(8)]
            found = [answer.as_numpy("embedding") for answer in await asyncio.gather(*many)]
        async with triton_grpc_aio.InferenceServerClient(server.api) as client:
            assert await client.is_server_ready()
            answer = await client.infer("embeddings-v2", texts_of(triton_grpc_aio, TEXTS), headers=authorized())
            return [*found, answer.as_numpy("embedding")]

    expected = embeddings(rest, TEXTS)
    for found in asyncio.run(ask()):
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_stream(server, rest):
    """Answers come in the order of their requests, an error among them answers its own."""
    texts = ["word " * (400 if i % 3 == 0 else 1) + str(i) for i in range(24)]
    texts[10] = ""
    answers = queue.Queue()
    with triton_grpc.InferenceServerClient(server.api) as client:
        client.start_stream(lambda result, error: answers.put((result, error)), headers=authorized())
        for index, text in enumerate(texts):
            inputs = texts_of(triton_grpc, [text])
            client.async_stream_infer("embeddings-v2", inputs, request_id=str(index), parameters={"truncation": "end"})
        found = [answers.get(timeout=60) for _ in texts]
        client.stop_stream()
    assert [index for index, (_, error) in enumerate(found) if error] == [10]
    assert "inputs[0] is empty" in found[10][1].message()
    assert [result.get_response().id for result, error in found if not error] == [
        str(index) for index in range(24) if index != 10]
    expected = embeddings(rest, [text for text in texts if text], truncation="end")
    for (result, _), vector in zip([pair for pair in found if pair[0]], expected, strict=True):
        np.testing.assert_allclose(result.as_numpy("embedding")[0], vector, atol=3e-3)
    with triton_grpc.InferenceServerClient(server.api) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        _, error = answers.get(timeout=60)
        assert "UNAUTHENTICATED" in str(error)


def test_reflection_alone_is_enough(channel, rest):
    database = ProtoReflectionDescriptorDatabase(channel)
    assert "inference.GRPCInferenceService" in database.get_services()
    pool = descriptor_pool.DescriptorPool(database)
    service = pool.FindServiceByName("inference.GRPCInferenceService")
    method = service.FindMethodByName("ModelInfer")
    ask, answer = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", ask.SerializeToString, answer.FromString)
    request = ask(model_name="sentiment-v3", id="x")
    text = request.inputs.add(name="text", datatype="BYTES", shape=[2])
    text.contents.bytes_contents.extend(text.encode() for text in TEXTS)
    request.parameters["binary_data_output"].bool_param = False
    metadata = (("authorization", KEY),)
    found = call(request, metadata=metadata)
    assert found.id == "x" and not found.raw_output_contents
    label = next(output for output in found.outputs if output.name == "label")
    assert [text.decode() for text in label.contents.bytes_contents] == [mood["label"] for mood in moods(rest)]
    # Triton's answers are bytes whatever was sent.
    request.parameters.clear()
    assert len(call(request, metadata=metadata).raw_output_contents) == 2


def test_keys_limits_and_idempotency(request, server):
    made = make(request, server, "triton-user", limited(8))
    key, body = made["key"], {"inputs": [tensor(["Well."])]}
    path = f"http://{server.api}/v2/models/sentiment-v3/infer"
    binary = {"inputs": [tensor(["Well."])], "parameters": {"binary_data_output": True}}
    answers = [
        httpx.post(path, json=body, headers={"Authorization": key}),
        httpx.post(path, json=body, headers={"api-key": key}),
        httpx.post(path, json=binary, headers={"x-api-key": key, "Idempotency-Key": "a"}),
        httpx.post(path, json=binary, headers={"x-api-key": key, "Idempotency-Key": "a"}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4, [answer.text for answer in answers]
    first, again = answers[2:]
    assert again.content == first.content and again.headers["idempotency-replayed"] == "true"
    for name in "inference-header-content-length", "content-type":
        assert again.headers[name] == first.headers[name]
    reused = httpx.post(path, json=body, headers={"x-api-key": key, "Idempotency-Key": "a"})
    assert reused.status_code == 422 and list(reused.json()) == ["error"]
    assert "r=5" in answers[2].headers["ratelimit"]
    assert settled(lambda: cli(request, server, "usage", "triton-user")["total"]["completed"], 3) == 3
    over = next(answer for answer in (httpx.post(path, json=body, headers={"api-key": key}) for _ in range(8))
                if answer.status_code != 200)
    assert over.status_code == 429 and list(over.json()) == ["error"] and int(over.headers["retry-after"]) >= 1
    with triton_grpc.InferenceServerClient(server.api) as client, pytest.raises(InferenceServerException) as raised:
        client.infer("sentiment-v3", texts_of(triton_grpc, ["a"]), headers={"authorization": f"Bearer {key}"})
    assert raised.value.status() == "StatusCode.RESOURCE_EXHAUSTED"


def test_a_caller_who_leaves_frees_its_place(server):
    def places():
        return next(sample.value for sample in scraped(server) if sample.name == "ml_inference_places_taken")

    body = json.dumps({"inputs": [tensor(["word " * 400] * 60)], "parameters": {"truncation": "end"}}).encode()
    host, port = server.api.split(":")
    for content in body, body[:1000]:
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /v2/models/embeddings-v2/infer HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + content)
            assert settled(lambda: places() >= 1, True, 30)
        assert settled(places, 0, 60) == 0


def test_a_dialect_that_is_off(request, tmp_path):
    config = tmp_path / "off.toml"
    config.write_text("[protocols]\noip = false\n")
    server = start(request, tmp_path, "--config", str(config))
    with as_tenant(server, KEY) as client:
        for method, path in [("GET", "/v2"), ("GET", "/v2/health/ready"), ("POST", "/v2/models/sentiment-v3/infer"),
                             ("GET", "/v2/x"), ("POST", "/v1/models/sentiment-v3:predict")]:
            answer = client.request(method, path)
            assert answer.status_code == 404 and list(answer.json()) == ["error"], path
        assert client.post("/v1/ml/sentiment", json={"inputs": "Well."}).status_code == 200
    with triton_grpc.InferenceServerClient(server.api) as client, pytest.raises(InferenceServerException) as raised:
        client.is_server_live()
    assert raised.value.status() == "StatusCode.UNIMPLEMENTED"
    with grpc.insecure_channel(server.api) as opened:
        services = ProtoReflectionDescriptorDatabase(opened).get_services()
        assert "inference.GRPCInferenceService" not in services and "ml.inference.v1.InferenceService" in services
    stop(server)


def test_health_without_credentials(server):
    """Triton's clients read the status, KServe's the body."""
    for path, expected in [("health/live", {"live": True}), ("health/ready", {"ready": True}),
                           ("models/ner-v2/ready", {"name": "ner-v2", "ready": True})]:
        answer = httpx.get(f"http://{server.api}/v2/{path}")
        assert (answer.status_code, answer.json()) == (200, expected)
    nothing = httpx.get(f"http://{server.api}/v2/models/nothing/ready")
    assert (nothing.status_code, nothing.content) == (400, b"")


def test_kserve_v1(rest):
    def predict(model, **body):
        answer = rest.post(f"/v1/models/{model}:predict", json=body)
        assert answer.status_code == 200, answer.text
        assert list(answer.json()) == ["predictions"]
        return answer.json()["predictions"]

    np.testing.assert_allclose(predict("embeddings-v2", instances=TEXTS), embeddings(rest, TEXTS), atol=2e-3)
    rows = [{"text": text, "id": 5} for text in TEXTS]
    assert [p["label"] for p in predict("sentiment-v3", inputs=rows)] == [mood["label"] for mood in moods(rest)]
    assert [p["label"] for p in predict("text-classifier-v2", instances=TEXTS)] == [
        result["labels"][0]["label"] for result in outputs(rest, "classify", TEXTS)]
    ids = predict("embeddings-v2", instances=token_ids(rest, TEXTS))
    np.testing.assert_allclose(ids, embeddings(rest, TEXTS), atol=2e-3)
    # Numbers are as short as those of our own API.
    assert predict("sentiment-v3", instances=TEXTS)[0]["score"] == moods(rest)[0]["score"]
    assert predict("ner-v2", instances=TEXTS)[0][0]["text"] == "Maria Lopez"
    assert predict("summarizer-v1", instances=TEXTS[:1]) == [outputs(rest, "summarize", TEXTS[:1])[0]["summary"]]
    assert len(predict("embeddings-v2", instances=["a"], parameters={"dimensions": 8})[0]) == 8
    for path, content, status in [
        ("sentiment-v3:predict", "{", 400), ("sentiment-v3:predict", "[]", 400), ("sentiment-v3:predict", b"\xff", 400),
        ("sentiment-v3:predict", "{}", 400), ("sentiment-v3:predict", '{"instances": []}', 400),
        ("sentiment-v3:predict", '{"instances": [""]}', 400), ("sentiment-v3:predict", '{"instances": "a"}', 400),
        ("sentiment-v3:predict", f'{{"instances": [{{"words": "{SECRET}"}}]}}', 400),
        ("sentiment-v3:predict", '{"instances": ["a"], "inputs": ["a"]}', 400),
        ("embeddings-v2:predict", '{"instances": [[100000]]}', 400),
        ("sentiment-v3:predict", '{"instances": ["a"], "parameters": {"timeout": "x"}}', 400),
        ("nothing:predict", '{"instances": ["a"]}', 404), ("sentiment-v3", '{"instances": ["a"]}', 404),
        ("sentiment-v3:explain", '{"instances": ["a"]}', 501), ("sentiment-v3:nothing", "{}", 404),
    ]:
        answer = rest.post(f"/v1/models/{path}", content=content)
        assert answer.status_code == status and list(answer.json()) == ["error"], (path, content, answer.text)
        assert SECRET not in answer.text
    assert rest.post("/v1/models/sentiment-v3:predict", json={}, headers={"Authorization": "Bearer x"}).status_code == 401
