"""LangChain's embeddings by Hugging Face endpoints. It wants an older huggingface_hub than other tests have:
`make test-dialects` runs this. Since 1.2 it takes no URL for a model, so that its users give it a client
of the endpoint."""

import asyncio

import numpy as np
import pytest
from conftest import KEY

langchain_huggingface = pytest.importorskip("langchain_huggingface")
from huggingface_hub import AsyncInferenceClient, InferenceClient  # noqa: E402
from huggingface_hub.errors import HfHubHTTPError  # noqa: E402

TEXTS = ["The cat sleeps on the sofa.", "Shares fell by three percent."]


def embeddings(server, path, key=KEY):
    made = langchain_huggingface.HuggingFaceEndpointEmbeddings(model="embeddings-v2", huggingfacehub_api_token=key)
    url = f"http://{server.api}{path}"
    made.client, made.async_client = InferenceClient(model=url, token=key), AsyncInferenceClient(model=url, token=key)
    return made


@pytest.fixture(params=["", "/hf/embeddings-v2", "/models/embeddings-v2/pipeline/feature-extraction"])
def client(request, server):
    return embeddings(server, request.param)


@pytest.fixture
def wanted(rest):
    results = rest.post("/v1/ml/embeddings", json={"inputs": TEXTS}).json()["results"]
    return [result["embedding"] for result in results]


def test_embeddings(client, wanted):
    assert np.allclose(client.embed_documents(TEXTS), wanted, atol=2e-3)


def test_asynchronously(client, wanted):
    assert np.allclose(asyncio.run(client.aembed_documents(TEXTS)), wanted, atol=2e-3)


def test_errors(server):
    with pytest.raises(HfHubHTTPError, match="401"):
        embeddings(server, "", "tc_test_none").embed_documents(TEXTS)
    with pytest.raises(HfHubHTTPError, match="404"):
        embeddings(server, "/hf/nobody").embed_documents(TEXTS)
