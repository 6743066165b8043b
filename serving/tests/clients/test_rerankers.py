"""Cross-encoders, prompts and ways to pool: every route that ranks gives what a BERT in numpy gives."""

import json

import grpc
import httpx
import numpy
import pytest
from checkpoints import Bert, HIDDEN, near, ok, safetensors, sequence_classifier, sigmoid, tokenizer, write
from conftest import KEY, start, stop

QUERY = "who lives near the sea"
DOCUMENTS = ["the cat sat on the mat", "anna lives in paris", "fish swims in the blue sea , and works for acme . not bad",
             "red"]
PROMPTS = {"query": "query : ", "passage": "passage : "}
IDENTITY = "torch.nn.modules.linear.Identity"


def cross_encoder():
    return sequence_classifier(1, 1)


def logits(model, query=QUERY, documents=DOCUMENTS, direction="right"):
    join = tokenizer()
    join.enable_truncation(16, strategy="longest_first", direction=direction)
    return numpy.array([model.logits(join.encode(query, document))[0] for document in documents])


def embedder():
    return Bert(2)


DENSE = {"linear.weight": numpy.random.default_rng(5).normal(0, 0.3, (8, 2 * HIDDEN)).astype(numpy.float32),
         "linear.bias": numpy.zeros(8, numpy.float32) + 0.1}


def vector(text, prompt="", includes_prompt=True):
    """The largest and the last, put together, through the dense layer with tanh, at length one."""
    encoding = tokenizer().encode(prompt + text)
    states = embedder().states(encoding.ids)
    from_ = 0 if includes_prompt else 1 + len(tokenizer().encode(prompt, add_special_tokens=False).ids)
    pooled = numpy.concatenate([states[from_:].max(axis=0), states[-1]])
    dense = numpy.tanh(pooled @ DENSE["linear.weight"].T + DENSE["linear.bias"])
    return dense / numpy.linalg.norm(dense)


@pytest.fixture(scope="module", params=["candle", "fused"])
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rerankers")
    cards = folder / "cards"
    classes = {"architectures": ["BertForSequenceClassification"]}
    head = {"kind": "sequence_classification"}
    common = {"labels": ["score"], "runtime": request.param}
    write(cards, "ranker", cross_encoder(), "rerank", head, classes, score_function="sigmoid", default=True, **common)
    raw = classes | {"sentence_transformers": {"activation_fn": IDENTITY}}
    write(cards, "raw-ranker", cross_encoder(), "rerank", head, raw, score_function="identity", **common)
    write(cards, "untrue", cross_encoder(), "rerank", head, raw, score_function="sigmoid", required=False, **common)
    config = {"in_features": 2 * HIDDEN, "out_features": 8, "bias": True,
              "activation_function": "torch.nn.modules.activation.Tanh"}
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"), ("Normalize", "3_Normalize")]
    modules = [{"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
               for index, (kind, path) in enumerate(kinds)]
    files = {"modules.json": json.dumps(modules).encode(), "2_Dense/config.json": json.dumps(config).encode(),
             "1_Pooling/config.json": json.dumps({"pooling_mode": ["max", "lasttoken"], "include_prompt": False}).encode(),
             "2_Dense/model.safetensors": safetensors(DENSE)}
    head = {"kind": "pooling", "pooling": ["max", "lasttoken"], "include_prompt": False,
            "modules": [{"dense": "2_Dense"}, "normalize"]}
    write(cards, "embedder", embedder(), "embeddings", head, files=files, prompts=PROMPTS, default_prompt="passage",
          default=True, runtime=request.param)
    running = start(request, folder, cards=cards)
    yield running
    stop(running)


@pytest.fixture(scope="module")
def rest(server):
    with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
        yield client


def scores(rest, parameters=None, model=None):
    body = {"inputs": DOCUMENTS, "model": model, "parameters": {"query": QUERY} | (parameters or {})}
    answer = ok(rest.post("/v1/ml/rerank", json=body))
    return answer["model"], [result["score"] for result in answer["results"]]


def test_scores_are_those_of_the_pair(rest):
    expected = logits(cross_encoder())
    name, found = scores(rest)
    assert name == "ranker"
    near(found, sigmoid(expected))
    near(scores(rest, model="raw-ranker")[1], expected)
    near(scores(rest, {"raw_scores": True})[1], expected)
    near(scores(rest, {"raw_scores": False}, "raw-ranker")[1], sigmoid(expected))
    near(scores(rest, {"truncation": "start", "raw_scores": True})[1], logits(cross_encoder(), direction="left"))
    answer = ok(rest.post("/v1/ml/rerank", json={"inputs": DOCUMENTS, "parameters": {"query": QUERY}}))
    lengths = [len(tokenizer().encode(QUERY, document).ids) for document in DOCUMENTS]
    assert [result["tokens"] for result in answer["results"]] == lengths
    assert [result["truncated"] for result in answer["results"]] == [length > 16 for length in lengths]
    refused = rest.post("/v1/ml/rerank", json={"inputs": DOCUMENTS, "parameters": {"query": QUERY, "truncation": "error"}})
    assert refused.status_code == 400 and f"inputs[2] has {lengths[2]} tokens" in refused.json()["error"]["message"]


def test_every_dialect_uses_the_reranker(rest):
    expected = logits(cross_encoder())
    order = [int(index) for index in numpy.argsort(-expected)]
    by_rank = sigmoid(expected)[order]
    # TEI: the sigmoid unless raw scores are asked for.
    tei = ok(rest.post("/rerank", json={"query": QUERY, "texts": DOCUMENTS}))
    assert [rank["index"] for rank in tei] == order
    near([rank["score"] for rank in tei], by_rank)
    raw = ok(rest.post("/rerank", json={"query": QUERY, "texts": DOCUMENTS, "raw_scores": True}))
    near([rank["score"] for rank in raw], expected[order])
    # Jina, Cohere, Voyage and vLLM.
    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        answer = ok(rest.post(path, json={"query": QUERY, "documents": DOCUMENTS}))
        assert [result["index"] for result in answer["results"]] == order, path
        near([result["relevance_score"] for result in answer["results"]], by_rank)
    answer = ok(rest.post("/v1/rerank", json={"query": QUERY, "documents": DOCUMENTS, "model": "raw-ranker"}))
    near([result["relevance_score"] for result in answer["results"]], expected[order])
    # NIM tells logits.
    passages = [{"text": document} for document in DOCUMENTS]
    nim = ok(rest.post("/v1/ranking", json={"query": {"text": QUERY}, "passages": passages}))
    near([rank["logit"] for rank in nim["rankings"]], expected[order])
    score = ok(rest.post("/score", json={"model": "ranker", "text_1": QUERY, "text_2": DOCUMENTS}))
    near([one["score"] for one in score["data"]], sigmoid(expected))
    refused = rest.post("/score", json={"model": "ranker", "text_1": [QUERY] * 4, "text_2": DOCUMENTS})
    assert refused.status_code == 400, refused.text


def test_grpc_uses_the_reranker(server, proto):
    with grpc.insecure_channel(server.api) as channel:
        question = proto.RerankRequest(inputs=DOCUMENTS, query=QUERY, raw_scores=True)
        answer = proto.Stub(channel).Rerank(question, metadata=[("authorization", f"Bearer {KEY}")])
    assert answer.model == "ranker"
    near([result.score for result in answer.results], logits(cross_encoder()))


def test_embedder_by_name_ranks_with_its_prompts(rest):
    name, found = scores(rest, model="embedder")
    assert name == "embedder"
    query = vector(QUERY, PROMPTS["query"], False)
    near(found, [vector(DOCUMENTS[0], PROMPTS["passage"], False) @ query] + found[1:])


def test_a_card_that_says_another_score_is_refused(rest, server):
    models = {model["name"]: model for model in ok(rest.get("/v1/ml/models"))["models"]}
    assert models["untrue"]["status"] == "unavailable" and "score_function" in models["untrue"]["reason"], models["untrue"]


@pytest.mark.parametrize(("prompt", "expected"), [({}, "passage"), ({"prompt_name": "query"}, "query")])
def test_vectors_go_through_pooling_modules_and_prompts(rest, prompt, expected):
    text = "anna lives in paris"
    expected = vector(text, PROMPTS[expected], False)
    answer = ok(rest.post("/v1/ml/embeddings", json={"inputs": text, "parameters": prompt}))
    near(answer["results"][0]["embedding"], expected)
    near(ok(rest.post("/embed", json={"inputs": text} | prompt))[0], expected)


def test_kinds_of_inputs_are_prompts(rest):
    text = "anna lives in paris"
    query = vector(text, PROMPTS["query"], False)
    passage = vector(text, PROMPTS["passage"], False)
    for kind, expected in (("query", query), ("document", passage), ("something", passage)):
        openai = ok(rest.post("/v1/embeddings", json={"model": "embedder", "input": text, "input_type": kind}))
        near(openai["data"][0]["embedding"], expected)
    jina = ok(rest.post("/v1/embeddings", json={"model": "embedder", "input": text, "task": "retrieval.query"}))
    near(jina["data"][0]["embedding"], query)
    cohere = ok(rest.post("/v2/embed", json={"model": "embedder", "texts": [text], "input_type": "search_query",
                                             "embedding_types": ["float"]}))
    near(cohere["embeddings"]["float"][0], query)


def test_unknown_prompts_are_refused(rest):
    for path, body in (("/v1/ml/embeddings", {"inputs": "a", "parameters": {"prompt_name": "title"}}),
                       ("/embed", {"inputs": "a", "prompt_name": "title"})):
        refused = rest.post(path, json=body)
        assert refused.status_code in (400, 422) and "passage, query" in refused.text, refused.text
