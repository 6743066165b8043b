"""LiteLLM's embedding and rerank providers, unchanged. It is heavy: `make test-dialects` runs this."""

import os

import numpy as np
import pytest
from conftest import KEY

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
litellm = pytest.importorskip("litellm")

TEXTS = ["The cat sleeps on the sofa.", "Shares fell by three percent."]
QUERY = "Which animal sleeps on furniture?"
MODEL = "embeddings-v2"


@pytest.mark.parametrize("provider, base", [
    ("openai", "/v1"), ("hosted_vllm", "/v1"), ("infinity", ""), ("infinity", "/infinity"), ("jina_ai", "/v1"),
    ("voyage", "/v1"), ("nvidia_nim", "/v1"), ("cohere", "/v2/embed"), ("ollama", "")])
def test_embeddings(server, rest, provider, base):
    ours = rest.post("/v1/ml/embeddings", json={"inputs": TEXTS}).json()["results"]
    extra = {"input_type": "passage"} if provider == "nvidia_nim" else {}
    found = litellm.embedding(model=f"{provider}/{MODEL}", input=TEXTS, api_key=KEY, timeout=30,
                              api_base=f"http://{server.api}{base}", extra_headers={"x-api-key": KEY}, **extra)
    vectors = [item["embedding"] for item in found.data]
    assert np.allclose(vectors, [result["embedding"] for result in ours], atol=2e-3)


@pytest.mark.parametrize("provider, base", [
    ("cohere", ""), ("hosted_vllm", ""), ("infinity", "/infinity"), ("jina_ai", ""), ("voyage", "")])
def test_reranking(server, rest, provider, base):
    ours = rest.post("/v1/ml/rerank", json={"inputs": TEXTS, "parameters": {"query": QUERY}}).json()["results"]
    found = litellm.rerank(model=f"{provider}/{MODEL}", query=QUERY, documents=TEXTS, top_n=2, api_key=KEY,
                           api_base=f"http://{server.api}{base}")
    scores = {item["index"]: item["relevance_score"] for item in found.results}
    assert np.allclose([scores[0], scores[1]], [result["score"] for result in ours], atol=2e-3)
    assert [item["index"] for item in found.results] == [0, 1]


def test_errors(server):
    ask = lambda **changes: litellm.embedding(**{
        "model": f"openai/{MODEL}", "input": TEXTS, "api_key": KEY, "api_base": f"http://{server.api}/v1"} | changes)
    with pytest.raises(litellm.NotFoundError):
        ask(model="openai/nobody")
    with pytest.raises(litellm.AuthenticationError):
        ask(api_key="tc_test_none")
    with pytest.raises(litellm.BadRequestError):
        ask(input=[""])
