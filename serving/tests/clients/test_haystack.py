"""Haystack's components for text-embeddings-inference and Hugging Face endpoints, unchanged: over REST, and
over gRPC, whose definition they have by reflection alone."""

import asyncio

import pytest
from conftest import KEY
from haystack import Document, Pipeline
from haystack.utils import Secret
from haystack_integrations.components.embedders.huggingface_api import (
    HuggingFaceAPIDocumentEmbedder, HuggingFaceAPITextEmbedder)
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

TEXTS = ["Polar bears live in the Arctic.", "The giant panda lives in China.", "Shares fell by three percent."]
QUERY = "Where do pandas live?"
TOKEN = Secret.from_token(KEY)


@pytest.fixture(params=["tei", "endpoint", "grpc"])
def options(request, server):
    kind, url, use_grpc = {
        "tei": ("text_embeddings_inference", f"http://{server.api}", False),
        "endpoint": ("inference_endpoints", f"http://{server.api}/hf/embeddings-v2", False),
        "grpc": ("text_embeddings_inference", server.api, True),
    }[request.param]
    return {"api_type": kind, "api_params": {"url": url}, "token": TOKEN, "use_grpc": use_grpc, "normalize": True}


@pytest.fixture(params=["rest", "grpc"])
def ranker(request, server):
    url = f"http://{server.api}" if request.param == "rest" else server.api
    return HuggingFaceTEIRanker(url=url, token=TOKEN, use_grpc=request.param == "grpc", max_retries=1)


def vectors(rest, texts):
    answer = rest.post("/v1/ml/embeddings", json={"inputs": texts}).json()
    return [pytest.approx(result["embedding"], abs=2e-3) for result in answer["results"]]


def scores(rest):
    answer = rest.post("/v1/ml/rerank", json={"inputs": TEXTS, "parameters": {"query": QUERY}}).json()
    return {text: pytest.approx(result["score"], abs=2e-3) for text, result in zip(TEXTS, answer["results"])}


def test_documents_and_queries_are_embedded(rest, options):
    documents = HuggingFaceAPIDocumentEmbedder(**options, progress_bar=False, batch_size=2)
    documents.warm_up()
    found = documents.run([Document(content=text) for text in TEXTS])["documents"]
    assert [document.embedding for document in found] == vectors(rest, TEXTS)
    query = HuggingFaceAPITextEmbedder(**options)
    query.warm_up()
    assert [query.run(QUERY)["embedding"]] == vectors(rest, [QUERY])


def test_asynchronously(rest, options):
    async def ask():
        documents = HuggingFaceAPIDocumentEmbedder(**options, progress_bar=False, batch_size=1)
        await documents.warm_up_async()
        found = await documents.run_async([Document(content=text) for text in TEXTS])
        await documents.close_async()
        return [document.embedding for document in found["documents"]]

    assert asyncio.run(ask()) == vectors(rest, TEXTS)


def test_documents_are_ranked(rest, ranker):
    pipeline = Pipeline()
    pipeline.add_component("ranker", ranker)
    documents = [Document(content=text) for text in TEXTS]
    found = pipeline.run({"ranker": {"query": QUERY, "documents": documents}})["ranker"]["documents"]
    assert {document.content: document.score for document in found} == scores(rest)
    assert found[0].content == TEXTS[1] and [document.score for document in found] == sorted(
        (document.score for document in found), reverse=True)
    assert len(ranker.run(QUERY, documents, top_k=2)["documents"]) == 2


def test_a_wrong_key_is_refused(server, options, ranker):
    wrong = Secret.from_token("tc_test_none")
    embedder = HuggingFaceAPITextEmbedder(**options | {"token": wrong})
    with pytest.raises(Exception, match="401|(?i:unauthenticated|unauthorized|API key)"):
        embedder.warm_up()
        embedder.run(QUERY)
    ranker.token = wrong
    with pytest.raises(Exception, match="401|(?i:unauthenticated|unauthorized|API key)"):
        ranker.run(QUERY, [Document(content=TEXTS[0])])
