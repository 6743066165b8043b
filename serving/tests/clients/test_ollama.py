"""Ollama's routes, by plain HTTP as its examples call them; its own client is in `test_ollama_client.py`."""

import httpx
import numpy as np
import pytest
from conftest import KEY

TEXTS = ["The cat sleeps on the sofa.", "Shares fell by three percent."]
MODEL = "embeddings-v2"


def ours(rest, inputs, **parameters):
    results = rest.post("/v1/ml/embeddings", json={"inputs": inputs, "parameters": parameters}).json()["results"]
    return np.array([result["embedding"] for result in results], dtype="f4")


def test_embeds(rest):
    body = {"model": f"{MODEL}:latest", "input": TEXTS, "keep_alive": "5m", "options": {"num_ctx": 512}}
    found = rest.post("/api/embed", json=body).json()
    assert np.array_equal(np.array(found["embeddings"], dtype="f4"), ours(rest, TEXTS))
    assert found["model"] == f"{MODEL}:latest" and found["prompt_eval_count"] > 0 and found["total_duration"] > 0
    # As curl sends it: declared as a form.
    form = rest.post("/api/embed", content=f'{{"model": "{MODEL}", "input": "{TEXTS[0]}"}}',
                     headers={"Content-Type": "application/x-www-form-urlencoded"}).json()
    assert np.allclose(form["embeddings"], ours(rest, TEXTS[:1]), atol=2e-3) and form["model"] == MODEL
    # A long text is cut off unless that is not wanted.
    long = "one two three " * 400
    cut = rest.post("/api/embed", json={"model": MODEL, "input": long}).json()
    assert np.allclose(cut["embeddings"], ours(rest, [long], truncation="end"), atol=2e-3)
    assert rest.post("/api/embed", json={"model": MODEL, "input": long, "truncate": False}).status_code == 400
    assert len(rest.post("/api/embed", json={"input": "a", "dimensions": 8}).json()["embeddings"][0]) == 8
    one = rest.post("/api/embeddings", json={"model": MODEL, "prompt": TEXTS[0]}).json()
    assert np.allclose(one["embedding"], ours(rest, TEXTS[:1], normalize=False)[0], atol=2e-2)


def test_what_is_served(rest):
    assert [model["name"] for model in rest.get("/api/tags").json()["models"]] == [f"{MODEL}:latest"]
    assert rest.get("/api/version").json()["version"]


BAD = [
    ({"model": "nobody"}, 404),
    ({"model": "nobody:latest"}, 404),
    ({"model": f"{MODEL}:other"}, 404),
    ({"model": "ner-v2"}, 400),
    ({"model": 7}, 400),
    ({"input": None}, 400),
    ({"input": []}, 400),
    ({"input": ""}, 400),
    ({"input": ["a", ""]}, 400),
    ({"input": [{"text": "a secret"}]}, 400),
    ({"input": ["a"] * 2049}, 400),
    ({"dimensions": 0}, 400),
    ({"truncate": "MIDDLE"}, 400),
]


@pytest.mark.parametrize("change, status", BAD, ids=[str(case[0])[:40] for case in BAD])
def test_bad_input(rest, change, status):
    answer = rest.post("/api/embed", json={"model": MODEL, "input": "a secret"} | change)
    assert answer.status_code == status and set(answer.json()) == {"error"}, answer.text
    assert isinstance(answer.json()["error"], str) and "secret" not in answer.text


def test_bad_requests(server, rest):
    check = lambda answer, status: (answer.status_code, list(answer.json())) == (status, ["error"]) or answer.text
    assert check(rest.post("/api/embed", content=b"{"), 400) is True
    assert check(rest.get("/api/embed"), 405) is True
    assert check(rest.post("/api/chat", json={}), 404) is True
    assert check(rest.post("/api/embed", content=b" " * (9 << 20)), 413) is True
    assert check(httpx.post(f"http://{server.api}/api/embed", json={}), 401) is True
    assert check(rest.get("/api/tags", headers={"Authorization": "Bearer tc_test_none"}), 401) is True
    key = {"Idempotency-Key": "ollama-1"}
    first = rest.post("/api/embed", json={"input": "a"}, headers=key)
    again = rest.post("/api/embed", json={"input": "a"}, headers=key)
    assert again.content == first.content and again.headers["idempotency-replayed"] == "true"
    assert KEY not in again.text
