"""Details of several dialects that their clients rely on: what is known under an idempotency key, whose
statistics are told, and that errors are in the form and the words of the dialect that a path is of."""

import cohere
import grpc
import httpx
import numpy as np
import openai
import pytest
import tritonclient.grpc as triton_grpc
from conftest import KEY, scraped, start, stop
from google.protobuf import message_factory
from test_tei import reflected  # noqa: F401, a fixture
from test_tenants import as_tenant, make
from tritonclient.utils import InferenceServerException

MODEL = "embeddings-v2"
LONG = "word " * 600


def vectors(rest, texts, **parameters):
    answer = rest.post("/v1/ml/embeddings", json={"inputs": texts, "parameters": parameters}).json()
    return [result["embedding"] for result in answer["results"]]


def text_tensor(text):
    return {"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}


# What is known under an idempotency key.

INVOKED = {"X-Amzn-SageMaker-Target-Model": "sentiment-v3"}


@pytest.mark.parametrize("path, body, first, others", [
    ("/invocations", {"inputs": "a"}, {}, [INVOKED]),
    ("/invocations", {"inputs": "a"}, INVOKED, [{}, {"X-Amzn-SageMaker-Target-Model": "text-classifier-v2"}]),
    (f"/v2/models/{MODEL}/infer", {"inputs": [text_tensor("a")]}, {},
     [{"Inference-Header-Content-Length": "0"}, {"Accept-Encoding": "gzip"}]),
    ("/v1/ml/embeddings", {"inputs": ["a"]}, {}, [{"Accept": "application/octet-stream"}]),
], ids=["target-model", "other-target-model", "oip", "own"])
def test_what_is_beside_the_body_is_known_under_a_key(rest, path, body, first, others):
    key = {"Idempotency-Key": f"beside {path} {sorted(first)}".replace(" ", "-")}
    plain = {"Accept-Encoding": "identity"}
    answered = rest.post(path, json=body, headers=key | plain | first)
    assert answered.status_code == 200, answered.text
    for other in others:
        reused = rest.post(path, json=body, headers=key | plain | other)
        assert reused.status_code == 422 and "idempotency-replayed" not in reused.headers, (other, reused.text)
    # What decides nothing may differ, such as the name of the client and how long it waits.
    again = rest.post(path, json=body, headers=key | plain | first | {"User-Agent": "x", "X-Request-Timeout": "9000"})
    assert again.headers["idempotency-replayed"] == "true" and again.content == answered.content


def test_metadata_are_known_under_a_key(reflected):  # noqa: F811
    ask = lambda *metadata: reflected("Predict", "Predict", {"inputs": "I love it."},
                                      [("idempotency-key", "of-metadata"), *metadata])
    first, again = ask(), ask()
    assert first.answer == again.answer and again.metadata["idempotency-replayed"] == "true"
    with pytest.raises(grpc.RpcError) as refused:
        ask(("x-model", "sentiment-v3"))
    assert "Idempotency-Key" in refused.value.details()


# infinity, whose own client asks for other versions of what other clients need: this is what it sends and
# reads.

def test_infinity(server, rest):
    body = {"input": ["a"], "model": MODEL, "encoding_format": "float", "user": "u", "dimensions": 0, "modality": "text"}
    for path in "/infinity/embeddings", "/embeddings", "/v1/embeddings":
        answer = rest.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"][0]["embedding"] == vectors(rest, ["a"])[0]
    listed = rest.get("/infinity/models").json()
    assert listed["object"] == "list" and MODEL in [model["id"] for model in listed["data"]]
    for model in listed["data"]:
        assert (model["object"], model["owned_by"]) == ("model", "infinity") and model["capabilities"]
        assert 0 <= model["stats"]["queue_fraction"] <= 1 and model["stats"]["batch_size"] >= 1
    # Without a key, as all probes.
    assert httpx.get(f"http://{server.api}/infinity/health").json()["unix"] > 1.7e9


# Token ids: those of another tokenizer may all be in ours, and a short text of them would be embedded as
# another text.

@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings", f"/openai/deployments/{MODEL}/embeddings"])
def test_ids_that_may_be_of_any_tokenizer(rest, path):
    # cl100k's of "hello world", "good" and "Refund policy", by which LangChain asks unless it is told not to.
    for ids in [15339, 1917], [19045], [3973, 1263, 4947]:
        for sent, field in ([ids], "input[0]"), (ids, "input"):
            answer = rest.post(path, json={"model": MODEL, "input": sent})
            assert answer.status_code == 400 and answer.json()["error"]["param"] == field, answer.text
            assert "check_embedding_ctx_length=False" in answer.json()["error"]["message"]
    own = rest.post(path, json={"model": MODEL, "input": [[101, 7592, 2088, 102]]}).json()["data"][0]["embedding"]
    assert own == vectors(rest, ["hello world"])[0]


# Padding: a text has none, so in ids it is a row that was filled up, and would be read as a part of the text.

PADDED = [[101, 7592, 2088, 102, 0, 0], [0, 0, 101, 7592, 2088, 102], [101, 7592, 0, 2088, 102]]


def id_tensors(rows, mask=None):
    tensors = {"input_ids": rows} | ({"attention_mask": mask} if mask else {})
    return [{"name": name, "datatype": "INT64", "shape": [len(rows), len(rows[0])], "data": data}
            for name, data in tensors.items()]


def test_padding_is_left_out_where_it_is_masked(rest):
    for ids in PADDED:
        mask = [int(id != 0) for id in ids]
        answer = rest.post(f"/v2/models/{MODEL}/infer", json={"inputs": id_tensors([ids], [mask])})
        assert answer.status_code == 200, answer.text
        assert answer.json()["outputs"][0]["data"] == vectors(rest, ["hello world"])[0]
    answer = rest.post(f"/v2/models/{MODEL}/infer", json={"inputs": id_tensors([[0, 0], [101, 7592]], [[0, 0], [1, 1]])})
    assert answer.status_code == 400 and "inputs[0] is empty" in answer.json()["error"], answer.text


@pytest.mark.parametrize("ids", PADDED)
def test_padding_is_refused_where_it_would_be_read(rest, ids):
    def check(path, body, status, message):
        answer = rest.post(path, json=body)
        assert answer.status_code == status, answer.text
        told = message(answer.json())
        assert "the token id 0" in told and "leave it out" in told and "another" not in told, told

    for sent in ids, [ids]:
        for path in "/v1/embeddings", f"/openai/deployments/{MODEL}/embeddings", "/infinity/embeddings", "/pooling":
            check(path, {"model": MODEL, "input": sent}, 400, lambda told: told["error"]["message"])
        check("/embed", {"inputs": sent}, 422, lambda told: told["error"])
        check("/v1/ml/embeddings", {"inputs": sent}, 400, lambda told: told["error"]["message"])
    for mask in None, [[1] * len(ids)]:
        check(f"/v2/models/{MODEL}/infer", {"inputs": id_tensors([ids], mask)}, 400, lambda told: told["error"])
    check(f"/v1/models/{MODEL}:predict", {"instances": [ids]}, 400, lambda told: told["error"])
    # Decoded it is the text that it stands for.
    assert rest.post("/decode", json={"ids": ids}).json() == ["hello world"]


def test_ids_of_another_tokenizer_are_no_padding(rest):
    # cl100k's of "Hello!", in which ours has its padding.
    for sent in [9906, 0], [[9906, 0]]:
        answer = rest.post("/v1/embeddings", json={"model": MODEL, "input": sent})
        assert answer.status_code == 400 and "check_embedding_ctx_length=False" in answer.json()["error"]["message"]


# Readiness and statistics of the Open Inference Protocol; KServe's.

def test_waiting_for_a_model_needs_no_key(server):
    with triton_grpc.InferenceServerClient(server.api) as client:
        assert client.is_model_ready(MODEL) and client.is_model_ready(MODEL, "1")
        assert not client.is_model_ready("nobody") and not client.is_model_ready(MODEL, "9")
        # Names alone are read of who shows no key.
        with pytest.raises(InferenceServerException):
            client.is_model_ready("n" * 10_000)
        with pytest.raises(InferenceServerException) as refused:
            client.get_model_metadata(MODEL)
    assert refused.value.status() == "StatusCode.UNAUTHENTICATED"


def test_liveness_as_kserve_reads_it(server):
    answer = httpx.get(f"http://{server.api}/")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


def test_statistics_are_of_the_callers_tenant(request, server, rest):
    viewer, other = make(request, server, "counted")["key"], make(request, server, "uncounted", role="viewer")["key"]
    route = "/v2/models/sentiment-v3"
    with as_tenant(server, viewer) as client, as_tenant(server, other) as stranger:
        stats = lambda of: of.get(f"{route}/stats").json()["model_stats"][0]
        told = lambda of: (stats(of)["inference_count"], stats(of)["inference_stats"]["success"]["count"],
                           stats(of)["inference_stats"]["fail"]["count"], stats(of)["last_inference"] > 0)
        assert rest.post(f"{route}/infer", json={"inputs": [text_tensor("a")]}).status_code == 200
        assert told(client) == told(stranger) == (0, 0, 0, False)
        assert client.post(f"{route}/infer", json={"inputs": [text_tensor("a")]}).status_code == 200
        assert client.post(f"{route}/infer", json={"inputs": [text_tensor("")]}).status_code == 400
        assert client.post("/v1/models/sentiment-v3:predict", json={"instances": ["a", "b"]}).status_code == 200
        with triton_grpc.InferenceServerClient(server.api) as triton:
            headers = {"authorization": f"Bearer {viewer}"}
            tensor = triton_grpc.InferInput("text", [1], "BYTES")
            tensor.set_data_from_numpy(np.array([b"a"], dtype=np.object_))
            triton.infer("sentiment-v3", [tensor], headers=headers)
            assert told(client) == (4, 3, 1, True) and told(stranger) == (0, 0, 0, False)
            found = triton.get_inference_statistics("sentiment-v3", headers=headers, as_json=True)["model_stats"][0]
            assert int(found["inference_count"]) == 4
            every = stranger.get("/v2/models/stats").json()["model_stats"]
            assert len(every) > 1 and all(model["inference_count"] == 0 for model in every)


def test_models_are_loaded_as_their_cards_say(rest):
    load = lambda **body: rest.post(f"/v2/repository/models/{MODEL}/load", **body)
    assert load().status_code == load(json={"parameters": {}}).status_code == 200
    for name in "config", "file:1/model.onnx":
        refused = load(json={"parameters": {name: "e30="}})
        assert refused.status_code == 400 and "as its card says" in refused.json()["error"]


def test_nims_word_for_cutting(rest):
    ask = lambda **parameters: rest.post(f"/v2/models/{MODEL}/infer", json={
        "inputs": [text_tensor(LONG)], "parameters": {"input_type": "query", **parameters}})
    for word, ours in ("END", "end"), ("START", "start"), ("start", "start"):
        answer = ask(truncate=word)
        assert answer.status_code == 200, answer.text
        assert answer.json()["outputs"][0]["data"] == vectors(rest, [LONG], truncation=ours)[0]
    assert ask(truncate="NONE").status_code == ask().status_code == ask(truncate="MIDDLE").status_code == 400
    body = {"model": "x", "query": {"text": "fish"}, "passages": [{"text": "car"}, {"text": "salmon"}]}
    ranked = rest.post(f"/v1/retrieval/{MODEL}/reranking", json=body).json()["rankings"]
    assert ranked == rest.post("/v1/ranking", json=body | {"model": MODEL}).json()["rankings"] and ranked[0]["index"] == 1


# Labels that a caller brings are never left out.

@pytest.mark.parametrize("path, headers", [
    ("/hf/sentiment-v3", {}), ("/models/sentiment-v3", {}), ("/models/ner-v2", {}), ("/hf/embeddings-v2", {}),
    ("/models/sentiment-v3/pipeline/zero-shot-classification", {}), ("/invocations", INVOKED)])
def test_labels_of_a_model_that_has_its_own(rest, path, headers):
    answer = rest.post(path, json={"inputs": "a", "parameters": {"candidate_labels": ["x", "y"]}}, headers=headers)
    assert answer.status_code in (400, 424) and "not document-classification" in answer.json()["error"], answer.text


@pytest.mark.parametrize("path", ["/hf/text-classifier-v2", "/models/text-classifier-v2", "/invocations"])
def test_labels_of_a_caller(rest, path):
    ask = lambda labels, **options: rest.post(path, json={"inputs": "The goalkeeper saved it.", "parameters": {
        "candidate_labels": labels, **options}}).json()
    own = rest.post("/v1/ml/classify", json={"inputs": "The goalkeeper saved it.", "parameters": {
        "labels": ["sport", "law"], "multi_label": True}}).json()["results"][0]["labels"]
    scores = {label["label"]: label["score"] for label in own}
    assert {found["label"]: found["score"] for found in ask(["sport", "law"], multi_label=True)} == scores
    # One label is scored by itself, as Hugging Face's pipeline does.
    assert ask(["sport"]) == ask(["sport"], multi_label=True) == [{"label": "sport", "score": scores["sport"]}]


# Rankings of a stream.

@pytest.mark.parametrize("change", [{"query": "other secret"}, {"truncate": True}, {"return_text": True},
                                    {"truncation_direction": 1}, {"raw_scores": True}])
def test_messages_of_a_ranking_differ_in_their_texts_alone(reflected, change):  # noqa: F811
    messages = [{"query": "fish", "text": "car"}, {"query": "fish", "text": "salmon"}]
    assert [rank.index for rank in reflected("Rerank", "RerankStream", messages).ranks] == [1, 0]
    with pytest.raises(grpc.RpcError) as refused:
        reflected("Rerank", "RerankStream", [*messages, {"query": "fish", "text": "bread"} | change])
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT and "message 2" in refused.value.details()
    assert "secret" not in refused.value.details()


# What is not done as it is asked for is refused by name, and what is refused is in the caller's own words.

@pytest.mark.parametrize("path, body, field", [
    ("/v1/embeddings", {"input": "a", "add_special_tokens": False}, "add_special_tokens"),
    ("/pooling", {"input": "a", "add_special_tokens": False}, "add_special_tokens"),
    ("/classify", {"model": "sentiment-v3", "input": "a", "add_special_tokens": False}, "add_special_tokens"),
    ("/v1/rerank", {"query": "a", "documents": ["a"], "max_tokens_per_doc": 100}, "max_tokens_per_doc"),
    ("/v1/embeddings", {"input": "a", "late_chunking": True}, "late_chunking"),
    ("/v1/embeddings", {"messages": [{"role": "user", "content": "secret"}]}, "messages"),
    ("/pooling", {"messages": [{"role": "user", "content": "secret"}]}, "messages"),
    ("/classify", {"messages": [{"role": "user", "content": "secret"}]}, "messages"),
    ("/tokenize", {"messages": [{"role": "user", "content": "secret"}]}, "messages"),
    ("/score", {"data_1": "a", "data_2": []}, "data_2"),
    ("/score", {"data_1": [], "data_2": "a"}, "data_1"),
    ("/score", {"data_1": [], "data_2": []}, "data_1"),
    ("/score", {"data_1": "a", "data_2": ["b", ""]}, "data_2"),
    ("/v1/rerank", {"query": "a", "documents": ["a", ""]}, "documents"),
    ("/v1/rerank", {"query": "", "documents": ["a"]}, "query"),
    ("/v1/rerank", {"query": "a", "documents": []}, "documents"),
    ("/v1/ranking", {"query": {"text": "a"}, "passages": [{"text": ""}]}, "passages"),
    ("/tokenize", {"prompt": ""}, "prompt"),
    ("/v1/embeddings", {"input": ["a", ""]}, "input"),
    ("/v1/embeddings", {"input": "a", "dimensions": 385}, "dimensions"),
])
def test_fields_of_errors(rest, path, body, field):
    answer = rest.post(path, json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"] == field, answer.text
    assert error["message"].removeprefix("invalid request: ").startswith(field), error
    assert "secret" not in answer.text and "parameters." not in answer.text


@pytest.mark.parametrize("path, body, starts", [
    ("/v2/embed", {"texts": ["a", ""]}, "texts[1] is empty"),
    ("/v2/embed", {"texts": ["a"], "output_dimension": 385}, "output_dimension: must be"),
    ("/v2/embed", {"texts": ["a"], "max_tokens": 100}, "invalid request: max_tokens: "),
    ("/v1/classify", {"inputs": ["a"], "examples": [
        {"text": "", "label": "p"}, {"text": "a", "label": "p"}, {"text": "a", "label": "q"}, {"text": "b", "label": "q"}]},
     "examples[0] is empty"),
    ("/v1/tokenize", {"text": ""}, "text is empty"),
    ("/v1/detokenize", {"tokens": [999999]}, "tokens has the token id 999999"),
    ("/api/embed", {"model": MODEL, "input": ["a", ""]}, "input[1] is empty"),
    ("/api/embeddings", {"model": MODEL, "prompt": ""}, "prompt is empty"),
    ("/hf/embeddings-v2", {"inputs": ["a", ""]}, "inputs[1] is empty"),
    ("/hf/embeddings-v2", {"inputs": {"source_sentence": "", "sentences": ["a"]}}, "inputs.source_sentence: "),
    ("/hf/text-classifier-v2", {"inputs": "a", "parameters": {"candidate_labels": []}}, "parameters.candidate_labels: "),
    ("/similarity", {"inputs": {"source_sentence": "", "sentences": ["a"]}}, "`source_sentence` "),
])
def test_words_of_errors(rest, path, body, starts):
    answer = rest.post(path, json=body)
    told = answer.json().get("message") or answer.json()["error"]
    assert answer.status_code in (400, 422) and told.startswith(starts), answer.text


@pytest.mark.parametrize("path, body, by", [
    ("/v1/embeddings", {"input": LONG}, {"truncate": "END"}),
    ("/v2/embed", {"texts": [LONG], "truncate": "NONE"}, {"truncate": "END"}),
    ("/v1/rerank", {"query": "a", "documents": [LONG], "truncation": False}, {"truncate": "END"}),
    ("/api/embed", {"model": MODEL, "input": LONG, "truncate": False}, {"truncate": True}),
    ("/hf/embeddings-v2", {"inputs": LONG, "truncate": False}, {"truncate": True}),
])
def test_advice_for_long_texts_works(rest, path, body, by):
    refused = rest.post(path, json=body)
    (field,) = by
    assert refused.status_code == 400 and f"`{field}`" in refused.text and "parameters.truncation" not in refused.text
    assert rest.post(path, json=body | by).status_code == 200


def test_voyages_switch_allows_what_is_not_needed(rest):
    body = {"query": "w5", "documents": [LONG]}
    score = lambda **options: rest.post("/v1/rerank", json=body | options).json()["results"][0]["relevance_score"]
    # Documents are read whole: there is nothing to cut off.
    assert score(truncation=True) == score() != score(truncate=True)


# Structs are objects, and types have the names of JSON's.

@pytest.mark.parametrize("path, body, problem", [
    ("/v2/embed", {"inputs": [[[["text", "a"]]]]}, "inputs[0]: expected an object, got array"),
    ("/v2/embed", {"inputs": [{"content": [["text", "a"]]}]}, "inputs[0].content[0]: expected an object, got array"),
    ("/hf/sentiment-v3", {"inputs": "a", "parameters": ["sigmoid", 1]}, "parameters: expected an object, got array"),
    ("/hf/sentiment-v3", {"inputs": "a", "parameters": ["sigmoid"]}, "parameters: expected an object, got array"),
    ("/v1/classify", {"inputs": ["a"], "examples": [["x", "p"]]}, "examples[0]: expected an object, got array"),
    ("/v1/embeddings", {"input": "a", "dimensions": "8"}, "dimensions: expected a whole number of at least 0, got string"),
    ("/v1/ml/embeddings", {"inputs": "a", "parameters": {"dimensions": -1}},
     "parameters.dimensions: expected a whole number of at least 0, got integer"),
])
def test_types_in_errors(rest, path, body, problem):
    answer = rest.post(path, json=body)
    assert answer.status_code == 400 and problem in answer.text and "struct" not in answer.text, answer.text


# What there is not is refused in the form of the dialect that its path is of.

def of_openai(body):
    return set(body["error"]) == {"message", "type", "param", "code"} and body["error"]["code"] == "not_found"


def of_cohere(body):
    return set(body) == {"id", "message", "code"} and body["code"] == "not_found"


def of_string(body):
    return set(body) == {"error"} and isinstance(body["error"], str)


def of_ours(body):
    return body["error"]["code"] == "not_found" and "docs_url" in body["error"]


@pytest.mark.parametrize("path, is_form", [
    ("/v1/chat/completions", of_openai), ("/v1/completions", of_openai), ("/v1/files", of_openai),
    ("/v1/moderations", of_openai), ("/v1/embeddings/", of_openai), ("/openai/v1/nothing", of_openai),
    ("/infinity/nothing", of_openai), ("/v1/embed-jobs", of_cohere), ("/v1/chat", of_cohere), ("/v2/chat", of_cohere),
    ("/v2/classify", of_cohere), ("/v2/", of_string), ("/v2/nothing", of_string), ("/v2/models/x/nothing", of_string), ("/v1/models/x:nothing", of_string),
    ("/models/x/zzz", of_string), ("/hf/a/b", of_string), ("/api/", of_string), ("/api/generate", of_string),
    ("/v1/ml/nothing", of_ours), ("/v1/ml", of_ours), ("/nothing", of_ours)])
def test_what_there_is_not(rest, path, is_form):
    answer = rest.post(path, json={})
    assert answer.status_code == 404 and is_form(answer.json()), answer.text


# Lists of models, and tokens.

def test_lists_of_models(server, rest):
    # KServe v1's client reads names; Cohere's, which says who it is, objects.
    assert MODEL in rest.get("/v1/models").json()["models"]
    with cohere.ClientV2(api_key=KEY, base_url=f"http://{server.api}") as client:
        listed = {model.name: model for model in client.models.list().models}
    assert listed[MODEL].endpoints == ["embed", "rerank"] and listed[MODEL].context_length == 512
    assert listed["sentiment-v3"].endpoints == ["classify"]
    azure = openai.AzureOpenAI(azure_endpoint=f"http://{server.api}", api_key=KEY, api_version="2024-10-21")
    with azure as client:
        assert MODEL in [model.id for model in client.models.list()]


def test_tokens_as_cohere_has_them(server, rest):
    own = rest.post("/v1/ml/tokenize", json={"inputs": "Hello world", "parameters": {"add_special_tokens": False}})
    own = own.json()["results"][0]["tokenization"]
    with cohere.Client(api_key=KEY, base_url=f"http://{server.api}") as client:
        found = client.tokenize(text="Hello world", model=MODEL, offline=False)
        assert found.tokens == [token["id"] for token in own]
        assert found.token_strings == [token["text"] for token in own]
        assert client.detokenize(tokens=found.tokens, model=MODEL, offline=False).text == "hello world"


# Streams of dialects end with what is left of limits, as ours do.

@pytest.mark.parametrize("dialect", ["tei", "oip"])
def test_streams_end_with_what_is_left_of_limits(channel, reflected, dialect):  # noqa: F811
    if dialect == "tei":
        stream = reflected("Embed", "EmbedStream", [{"inputs": "a"}, {"inputs": "b"}])
    else:
        kind = lambda name: message_factory.GetMessageClass(reflected.pool.FindMessageTypeByName(f"inference.{name}"))
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}
        messages = [kind("ModelInferRequest")(model_name=MODEL, inputs=[tensor])] * 2
        rpc = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer",
                                    kind("ModelInferRequest").SerializeToString, kind("ModelStreamInferResponse").FromString)
        stream = rpc(iter(messages), metadata=[("authorization", f"Bearer {KEY}")])
    assert len(list(stream)) == 2
    told = dict(stream.trailing_metadata())
    assert ";r=" in told["ratelimit"] and ";q=" in told["ratelimit-policy"]
    # What belongs to one answer is not the stream's.
    assert "x-queue-time" not in told


# Routes of two dialects: what is refused before a body is read.

FORMS = {"tei": {"error", "error_type"}, "openai": {"error", "message", "detail"}, "cohere": {"id", "message", "code"}}


def before_the_body(api):
    """Refusals of a route, for each thing that is wrong: the status, and the fields of the body."""
    def check(path, form):
        wrong = {405: api.get(path), 401: api.post(path, json={}, headers={"Authorization": "Bearer tc_test_nobody"}),
                 413: api.post(path, content=b" " * (9 << 20), headers={"Content-Type": "application/json"}),
                 400: api.post(path, content=b"{", headers={"Content-Type": "application/json"})}
        for status, answer in wrong.items():
            assert (answer.status_code, set(answer.json())) == (status, FORMS[form]), (path, answer.text)
    return check


def test_refusals_before_the_body_on_routes_of_two_dialects(rest):
    check = before_the_body(rest)
    check("/rerank", "tei")
    check("/tokenize", "tei")
    check("/v1/classify", "cohere")
    # The body tells, once it is read.
    for path, field in ("/rerank", "documents"), ("/tokenize", "prompt"), ("/v1/classify", "input"):
        answer = rest.post(path, json={field: 5, "query": 5})
        assert (answer.status_code, set(answer.json())) == (400, FORMS["openai"]), answer.text
    answer = rest.post("/rerank", json={"texts": 5, "query": 5})
    assert (answer.status_code, set(answer.json())) == (422, FORMS["tei"]), answer.text


def test_refusals_before_the_body_where_one_dialect_is_off(request, tmp_path):
    config = tmp_path / "off.toml"
    config.write_text("[protocols]\ntei = false\ncohere = false\n")
    server = start(request, tmp_path, "--config", str(config))
    with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}) as api:
        check = before_the_body(api)
        for path in "/rerank", "/tokenize", "/v1/classify":
            check(path, "openai")
        # And so are its metrics.
        ended = {(sample.labels["protocol"], sample.labels["code"]) for sample in scraped(server)
                 if sample.name == "ml_inference_calls_total"}
        assert ("openai", "method_not_allowed") in ended and not {"tei", "cohere"} & {protocol for protocol, _ in ended}
    stop(server)


# CloudEvents around KServe v1.

EVENT = {"specversion": "1.0", "id": "e-1", "source": "broker", "type": "text"}


def test_cloud_events(rest):
    path, plain = f"/v1/models/{MODEL}:predict", vectors(rest, ["a"])
    headers = {f"ce-{name}": value for name, value in EVENT.items()} | {"Content-Type": "application/json"}
    binary = rest.post(path, json={"instances": ["a"]}, headers=headers)
    assert binary.status_code == 200 and binary.json() == {"predictions": plain}, binary.text
    assert binary.headers["content-type"] == "application/json"
    structured = rest.post(path, json=EVENT | {"data": {"instances": ["a"]}, "extra": 1},
                           headers={"Content-Type": "application/cloudevents+json"})
    assert structured.headers["content-type"] == "application/cloudevents+json"
    event = structured.json()
    assert event.pop("data") == {"predictions": plain} and event.pop("datacontenttype") == "application/json"
    for found in event, {name: binary.headers[f"ce-{name}"] for name in event}:
        assert found["specversion"] == "1.0" and found["type"] == "io.kserve.inference.response"
        assert found["source"] == f"io.kserve.inference.{MODEL}" and found["id"] not in ("", "e-1")
        assert found["time"].endswith("Z") and set(found) == {"specversion", "id", "source", "type", "time"}
    # What is no event is answered by none.
    assert not [name for name in rest.post(path, json={"instances": ["a"]}).headers if name.startswith("ce-")]
    # What is computed once is answered once, in the same form.
    key = {"Idempotency-Key": "event"}
    first, again = (rest.post(path, json={"instances": ["a"]}, headers=headers | key) for _ in "ab")
    assert again.headers["idempotency-replayed"] == "true" and again.headers["ce-id"] == first.headers["ce-id"]


@pytest.mark.parametrize("event, field", [
    (EVENT | {"specversion": "0.3", "data": {"instances": ["a"]}}, "specversion"),
    ({"specversion": "1.0", "data": {"instances": ["a"]}}, "id"),
    (EVENT | {"source": "", "data": {"instances": ["a"]}}, "source"),
    (EVENT, "data"),
    (EVENT | {"data": None}, "data"),
    (EVENT | {"data": "text"}, "data"),
    (EVENT | {"data": ["a"]}, "data"),
    (EVENT | {"data": {}}, "instances"),
    (EVENT | {"data": {"instances": [5]}}, "data.instances[0]"),
    (EVENT | {"data_base64": "e30="}, "data"),
])
def test_events_that_cannot_be_meant(rest, event, field):
    path = f"/v1/models/{MODEL}:predict"
    answer = rest.post(path, json=event)
    assert answer.status_code == 400 and set(answer.json()) == {"error"} and field in answer.json()["error"], answer.text
    if "data" in event and isinstance(event["data"], dict) and "." not in field:
        headers = {f"ce-{name}": value for name, value in event.items() if name != "data"}
        answer = rest.post(path, json=event["data"], headers=headers)
        assert answer.status_code == 400 and field in answer.json()["error"], answer.text


# Voyage's switch for long texts.

@pytest.mark.parametrize("path, text, answered", [
    ("/v1/embeddings", lambda long: {"input": [long]}, lambda answer: answer["data"][0]["embedding"]),
    ("/v1/rerank", lambda long: {"query": "word", "documents": [long]}, lambda answer: answer["data"][0]["relevance_score"]),
])
def test_truncation(rest, path, text, answered):
    ask = lambda **more: rest.post(path, json={"model": MODEL, **text(LONG), **more})
    cut = {"/v1/embeddings": lambda: vectors(rest, [LONG], truncation="end")[0],
           "/v1/rerank": lambda: rest.post("/v1/ml/rerank", json={"inputs": [LONG], "parameters": {"query": "word"}}
                                           ).json()["results"][0]["score"]}[path]()
    assert answered(ask(truncation=True).json()) == cut
    refused = ask(truncation=False)
    assert refused.status_code == 400 and refused.json()["detail"].startswith(("input[0] has 602", "documents[0] has 602"))
    for wrong in "yes", 1, "true", []:
        refused = ask(truncation=wrong)
        assert refused.status_code == 400 and "truncation" in refused.json()["detail"], refused.text
    assert ask(truncation=None).status_code == {"/v1/embeddings": 400, "/v1/rerank": 200}[path]


# What is wrong is said in the words of the dialect.

@pytest.mark.parametrize("path, body, listed", [
    ("/v1/embeddings", {"input": "a"}, "GET /v1/models"), ("/v2/embed", {"texts": ["a"]}, "GET /v1/models"),
    ("/api/embed", {"input": "a"}, "GET /api/tags"),
])
def test_what_lists_the_models_is_of_the_dialect(rest, path, body, listed):
    answer = rest.post(path, json=body | {"model": "nobody"})
    assert answer.status_code == 404 and f"no such model; {listed} lists them" in answer.text, answer.text
    assert rest.get(listed.split()[1]).status_code == 200


@pytest.mark.parametrize("path, body, status, words", [
    ("/rerank", {"query": "a", "texts": []}, 400, "`texts` cannot be empty"),
    ("/rerank", {"query": "a", "texts": ["a", ""]}, 422, "texts[1] is empty"),
    ("/rerank", {"query": "a", "texts": ["a"] * 2049}, 422, "batch size 2049 > maximum allowed batch size 2048"),
    ("/", {"query": "a", "texts": []}, 400, "`texts` cannot be empty"),
    ("/invocations", {"query": "a", "texts": ["a", ""]}, 422, "texts[1] is empty"),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 400, "`inputs.sentences` cannot be empty"),
    ("/similarity", {"inputs": {"source_sentence": "", "sentences": ["a"]}}, 422, "`source_sentence` is empty"),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["a", "\0"]}}, 422, "inputs.sentences[1] contains a NUL"),
    ("/decode", {"ids": []}, 400, "`ids` cannot be empty"),
    ("/decode", {"ids": ["a"]}, 422, "ids[0] is a text"),
    ("/embed", {"inputs": []}, 400, "`inputs` cannot be empty"),
])
def test_fields_are_called_as_in_the_request(rest, path, body, status, words):
    answer = rest.post(path, json=body)
    assert answer.status_code == status and words in answer.json()["error"], answer.text


def test_fields_are_called_as_in_the_message(reflected):  # noqa: F811
    streamed = [{"query": "a", "text": text} for text in ("a", "")]
    for method, message in ("Rerank", {"query": "a", "texts": ["a", ""]}), ("RerankStream", streamed):
        with pytest.raises(grpc.RpcError) as refused:
            reflected("Rerank", method, message)
        assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "texts[1] is empty")


@pytest.mark.parametrize("path, body", [
    ("/models/%ff/embed", {"inputs": "a"}), ("/models/%ff/rerank", {"query": "a", "texts": ["a"]}),
    ("/models/%ff/invoke", {"inputs": "a"}), ("/hf/%ff", {"inputs": "a"}), ("/models/%ff", {"inputs": "a"}),
    ("/models/%ff/pipeline/feature-extraction", {"inputs": "a"}), ("/openai/deployments/%ff/embeddings", {"input": "a"}),
    ("/v1/retrieval/%ff/reranking", {"query": {"text": "a"}, "passages": [{"text": "a"}]}),
])
def test_a_name_that_is_no_text_is_that_of_no_model(rest, path, body):
    """It is not as if none were named, which is answered by the default model."""
    answer = rest.post(path, json=body)
    assert answer.status_code == 404 and "no such model" in answer.text, answer.text
    assert rest.get("/models/%ff/info").status_code == 404
