"""Ollama's own client for Python, unchanged, synchronous and asynchronous."""

import asyncio

import numpy as np
import ollama
import pytest
from conftest import KEY

TEXTS = ["The cat sleeps on the sofa.", "Shares fell by three percent."]
MODEL = "embeddings-v2"


@pytest.fixture
def client(server):
    return ollama.Client(host=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"})


def ours(rest, inputs, **parameters):
    results = rest.post("/v1/ml/embeddings", json={"inputs": inputs, "parameters": parameters}).json()["results"]
    return np.array([result["embedding"] for result in results])


def test_embed(client, rest):
    found = client.embed(model=MODEL, input=TEXTS, keep_alive="5m", options={"num_ctx": 512})
    assert np.allclose(found.embeddings, ours(rest, TEXTS), atol=2e-3)
    assert found.model == MODEL and found.prompt_eval_count > 0 and found.total_duration > 0
    assert np.allclose(client.embed(f"{MODEL}:latest", TEXTS[0]).embeddings, ours(rest, TEXTS[:1]), atol=2e-3)
    short = client.embed(model=MODEL, input=TEXTS[0], dimensions=8)
    assert np.allclose(short.embeddings, ours(rest, TEXTS[:1], dimensions=8), atol=2e-3)
    old = client.embeddings(model=MODEL, prompt=TEXTS[0])
    assert np.allclose(old.embedding, ours(rest, TEXTS[:1], normalize=False)[0], atol=2e-2)


def test_asynchronously(server, rest):
    async def ask():
        client = ollama.AsyncClient(host=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"})
        answers = await asyncio.gather(*(client.embed(model=MODEL, input=text) for text in TEXTS))
        return [answer.embeddings[0] for answer in answers]

    assert np.allclose(asyncio.run(ask()), ours(rest, TEXTS), atol=2e-3)


def test_models_are_listed(client):
    assert [model.model for model in client.list().models] == [f"{MODEL}:latest"]


@pytest.mark.parametrize("options, status", [
    ({"model": "nobody"}, 404), ({"input": [""]}, 400), ({"truncate": False, "input": "one two three " * 400}, 400)])
def test_errors(client, options, status):
    with pytest.raises(ollama.ResponseError) as error:
        client.embed(**{"model": MODEL, "input": TEXTS} | options)
    assert error.value.status_code == status and error.value.error


def test_without_a_key(server):
    with pytest.raises(ollama.ResponseError) as error:
        ollama.Client(host=f"http://{server.api}").embed(model=MODEL, input="a")
    assert error.value.status_code == 401
