"""Rerank and similarity: scores are the cosines of the embeddings, over every protocol of our own."""

import grpc
import pytest
from test_tenants import as_tenant, make, settled

QUERY = "Where do pandas live?"
DOCUMENTS = [
    "The invoice is due within thirty days.",
    "The giant panda lives in the bamboo forests of central China.",
    "Polar bears live in the Arctic.",
    "pip install pandas",
]
OPERATIONS = {"rerank": ("query", "Rerank", "RerankRequest"), "similarity": ("reference", "Similarity", "SimilarityRequest")}


def post(rest, route, inputs, model=None, **parameters):
    return rest.post(f"/v1/ml/{route}", json={"inputs": inputs, "model": model, "parameters": parameters})


def cosines(rest, text, others):
    answer = post(rest, "embeddings", [text, *others], truncation="stride").json()["results"]
    vector, *vectors = (result["embedding"] for result in answer)
    return [sum(a * b for a, b in zip(vector, other)) for other in vectors]


@pytest.mark.parametrize("route", OPERATIONS)
def test_scores_are_cosines(rest, route):
    name, _, _ = OPERATIONS[route]
    inputs = [*DOCUMENTS, QUERY, "The panda eats bamboo. " * 200]
    answer = post(rest, route, inputs, **{name: QUERY})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["model"] == "embeddings-v2" and [*body] == ["model", "version", "results", "usage"]
    scores = [result["score"] for result in body["results"]]
    assert scores == pytest.approx(cosines(rest, QUERY, inputs), abs=2e-5)
    assert scores[:4].index(max(scores[:4])) == 1, "the panda lives in China"
    assert scores[4] == pytest.approx(1.0, abs=1e-6) and max(scores) <= 1.0
    assert body["results"][5]["windows"] > 1
    # The text compared with is read, and charged, once.
    read = post(rest, "embeddings", QUERY).json()["usage"]["tokens"]
    assert body["usage"] == {"inputs": 6, "tokens": sum(result["tokens"] for result in body["results"]) + read}


@pytest.mark.parametrize("route", OPERATIONS)
def test_the_same_over_grpc(rest, stub, proto, metadata, route):
    name, method, message = OPERATIONS[route]
    expected = [result["score"] for result in post(rest, route, DOCUMENTS, **{name: QUERY}).json()["results"]]
    request = getattr(proto, message)(inputs=[*DOCUMENTS, ""], on_error=proto.ON_ERROR_PARTIAL, **{name: QUERY})
    answers = [getattr(stub, method)(request, metadata=metadata)]
    streamed = proto.InferStreamRequest(correlation_id="1", **{route: request})
    answers += [getattr(answer, route) for answer in stub.InferStream(iter([streamed]), metadata=metadata)]
    assert len(answers) == 2
    for answer in answers:
        assert [result.score for result in answer.results[:4]] == pytest.approx(expected, abs=1e-6)
        assert answer.results[4].error.code == "empty_input" and answer.usage.inputs == 4


@pytest.mark.parametrize("route", OPERATIONS)
def test_what_is_refused(rest, stub, proto, metadata, route):
    name, method, message = OPERATIONS[route]

    def check(code, part, body):
        answer = rest.post(f"/v1/ml/{route}", json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, code) and part in error["message"], answer.text

    good = {"inputs": ["a"], "parameters": {name: "b"}}
    check("invalid_parameter", f"parameters.{name}", {"inputs": ["a"]})
    for bad in "", " \n", "\u200b", "a\0b", "word " * 20_001:
        check("invalid_parameter", f"parameters.{name}", good | {"parameters": {name: bad}})
    check("invalid_parameter", f"parameters.{name}", good | {"parameters": {name: "word " * 600, "truncation": "error"}})
    check("no_inputs", "inputs", good | {"inputs": []})
    check("empty_input", "inputs[1]", good | {"inputs": ["a", ""]})
    check("too_many_inputs", "limit is 128", good | {"inputs": ["a"] * 129})
    check("invalid_request", f"parameters.{name}", good | {"parameters": {name: ["b"]}})
    check("invalid_request", "parameters.top", good | {"parameters": {name: "b", "top": 1}})
    check("wrong_task", route, good | {"model": "sentiment-v3"})
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, method)(getattr(proto, message)(inputs=["a"]), metadata=metadata)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT and name in caught.value.details()


def test_charged_as_embeddings(request, server):
    key = make(request, server, "ranks")["key"]
    with as_tenant(server, key) as client:
        assert post(client, "rerank", DOCUMENTS, query=QUERY).status_code == 200
        read = lambda: tuple(client.get("/v1/ml/usage").json()["total"][name] for name in ("inputs", "cost_micro_usd"))
        assert settled(read, (4, 80)) == (4, 80)
