"""Embeddings of our own API in smaller numbers and as bytes."""

import numpy as np
import pytest

TEXTS = ["The cat sleeps on the sofa.", "Shares fell by three percent.", "Ein Zug fährt nach Zürich."]
OCTETS = {"Accept": "application/octet-stream"}


def ask(rest, headers=None, **parameters):
    return rest.post("/v1/ml/embeddings", json={"inputs": TEXTS, "parameters": parameters}, headers=headers)


def vectors(answer, dtype):
    assert answer.status_code == 200, answer.text
    return np.array([result["embedding"] for result in answer.json()["results"]], dtype=dtype)


def test_smaller_numbers_and_bytes(rest):
    floats = vectors(ask(rest), "f4")
    bits = np.packbits(floats > 0, axis=1)
    levels = vectors(ask(rest, encoding_format="int8"), "i2")
    assert np.abs(levels - np.clip(floats * np.float32(np.sqrt(384) / 4), -1, 1) * 127).max() < 0.51
    expected = {"float": ("<f4", floats), "base64": ("<f4", floats), "int8": ("i1", levels), "uint8": ("u1", levels + 128),
                "binary": ("i1", bits.astype("i2") - 128), "ubinary": ("u1", bits)}
    for form, (dtype, numbers) in expected.items():
        if form != "base64":
            assert np.array_equal(vectors(ask(rest, encoding_format=form), "f4"), numbers.astype("f4")), form
        raw = ask(rest, OCTETS, encoding_format=form)
        assert raw.headers["content-type"] == "application/octet-stream"
        rows, width = map(int, raw.headers["x-embedding-shape"].split(","))
        found = np.frombuffer(raw.content, dtype).reshape(rows, -1)
        assert np.array_equal(found, numbers.astype(dtype)) and found.nbytes == rows * width, form
    assert len(ask(rest, OCTETS, dimensions=9, encoding_format="ubinary").content) == 3 * 2


@pytest.mark.parametrize("accept, is_bytes", [
    ("application/octet-stream", True), ("Application/Octet-Stream;q=0.9, */*;q=0.1", True),
    ("application/json, application/octet-stream", False), ("*/*", False), ("", False)])
def test_who_gets_bytes(rest, accept, is_bytes):
    answer = ask(rest, {"Accept": accept})
    assert answer.status_code == 200
    assert (answer.headers["content-type"] == "application/octet-stream") == is_bytes


def test_bytes_are_kept_as_they_are(rest):
    key = OCTETS | {"Idempotency-Key": "octets-1"}
    first, again = ask(rest, key), ask(rest, key)
    assert again.headers["idempotency-replayed"] == "true" and again.content == first.content
    assert again.headers["content-type"] == "application/octet-stream"
    assert again.headers["x-embedding-shape"] == first.headers["x-embedding-shape"] == "3,1536"
    other = ask(rest, {"Idempotency-Key": "octets-1"})
    assert other.json()["error"]["code"] == "idempotency_key_reused"


def test_bad_input(rest):
    partial = ask(rest, OCTETS, on_error="partial")
    assert partial.status_code == 400 and "on_error" in partial.json()["error"]["message"]
    assert ask(rest, encoding_format="int4").json()["error"]["code"] == "invalid_request"
    # Other routes have no bytes to give, and errors are JSON.
    assert rest.post("/v1/ml/sentiment", json={"inputs": "a"}, headers=OCTETS).json()["results"]
    assert rest.post("/v1/ml/embeddings", json={"inputs": ""}, headers=OCTETS).json()["error"]["code"] == "empty_input"
