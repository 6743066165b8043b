"""Vectors of single tokens: `/embed_all` of text-embeddings-inference and `token_embed` of vLLM's `/pooling`."""

import base64
import concurrent.futures
import json

import grpc
import httpx
import numpy as np
import pytest

from conftest import KEY, start, stop
from test_tei import LONG, near, reflected  # noqa: F401

TEXTS = ["A harbour at dawn.", "Invoice 2024-118, total due EUR 500.", "Zürich"]
SECRET = "zebra"


def all_of(rest, inputs, **more):
    answer = rest.post("/embed_all", json={"inputs": inputs} | more)
    assert answer.status_code == 200, answer.text
    return [np.array(rows, dtype="f4") for rows in answer.json()]


def pooled(rest, inputs, **more):
    answer = rest.post("/embed", json={"inputs": inputs, "normalize": False} | more)
    return np.array(answer.json(), dtype="f4")


def test_their_mean_is_the_embedding(rest):
    found = all_of(rest, TEXTS)
    tokens = rest.post("/tokenize", json={"inputs": TEXTS}).json()
    # Special tokens have vectors too.
    assert [rows.shape for rows in found] == [(len(text), 384) for text in tokens]
    assert np.allclose([rows.mean(axis=0) for rows in found], pooled(rest, TEXTS), atol=2e-3)
    assert np.allclose(all_of(rest, TEXTS[2])[0], found[2], atol=2e-3)
    ids = [token["id"] for token in tokens[2]]
    assert np.allclose(all_of(rest, ids)[0], found[2], atol=2e-3)
    assert np.allclose(np.array(rest.post("/models/embeddings-v2/embed_all", json={"inputs": TEXTS[2]}).json()[0]), found[2], atol=2e-3)
    # Words of one text have vectors that differ, and they are not of length one.
    assert np.linalg.norm(found[0], axis=1).std() > 1e-3 and not np.allclose(found[0][1], found[0][2], atol=0.1)


def test_what_is_told_beside(rest):
    answer = rest.post("/embed_all", json={"inputs": TEXTS, "an_extra": 1})
    assert answer.headers["x-compute-characters"] == str(sum(map(len, TEXTS)))
    assert int(answer.headers["x-compute-tokens"]) == sum(len(rows) for rows in answer.json())


def test_long_texts_are_cut(rest):
    text = "alpha " * 400 + "omega " * 400
    for direction in "Right", "left":
        (rows,) = all_of(rest, text, truncation_direction=direction)
        assert rows.shape == (512, 384)
        assert np.allclose(rows.mean(axis=0), pooled(rest, text, truncation_direction=direction)[0], atol=2e-3)
    refused = rest.post("/embed_all", json={"inputs": SECRET + LONG, "truncate": False})
    assert refused.status_code == 422 and "at most 512 tokens" in refused.json()["error"] and SECRET not in refused.text


def test_in_one_batch_with_others(rest):
    """Calls of both kinds at once: each has its own form, and what it has alone."""
    alone = [all_of(rest, text)[0] for text in TEXTS], pooled(rest, TEXTS)

    def ask(number):
        text = number % len(TEXTS)
        if number % 2:
            return np.allclose(all_of(rest, TEXTS[text])[0], alone[0][text], atol=2e-3)
        return np.allclose(pooled(rest, TEXTS[text])[0], alone[1][text], atol=2e-3)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(160)))


def test_grpc(rest, reflected):  # noqa: F811
    expected = all_of(rest, TEXTS)
    rows = lambda answer: np.array([token.embeddings for token in answer.token_embeddings])
    found = reflected("Embed", "EmbedAll", {"inputs": TEXTS[0], "truncate": True}).answer
    assert near(rows(found), expected[0]) and found.metadata.compute_tokens == len(expected[0])
    answers = reflected("Embed", "EmbedAllStream", [{"inputs": text} for text in TEXTS])
    for found, wanted in zip(answers, expected, strict=True):
        assert near(rows(found), wanted)
    for message, code in [({"inputs": LONG}, "INVALID_ARGUMENT"), ({"inputs": "a", "prompt_name": "q"}, "INVALID_ARGUMENT"),
                          ({"inputs": "a", "truncation_direction": 7}, "INVALID_ARGUMENT")]:
        with pytest.raises(grpc.RpcError) as refused:
            reflected("Embed", "EmbedAll", message)
        assert refused.value.code() == getattr(grpc.StatusCode, code)
    with pytest.raises(grpc.RpcError) as refused:
        reflected("Embed", "EmbedAll", {"inputs": "a"}, [("x-model", "ner-v2")])
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION


def test_vllm(rest):
    ask = lambda **body: rest.post("/pooling", json={"model": "embeddings-v2", "input": TEXTS, "task": "token_embed"} | body)
    raw = all_of(rest, TEXTS)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in raw]
    answer = ask().json()
    assert [item["object"] for item in answer["data"]] == ["pooling"] * 3
    assert answer["usage"]["total_tokens"] == sum(len(rows) for rows in raw)
    for item, wanted in zip(answer["data"], unit, strict=True):
        assert np.allclose(np.array(item["data"]), wanted, atol=2e-3)
    floats = [np.array(item["data"], dtype="f4") for item in ask(use_activation=False).json()["data"]]
    for found, wanted in zip(floats, raw, strict=True):
        assert np.allclose(found, wanted, atol=2e-3)
    short = ask(dimensions=8).json()["data"]
    assert [np.array(item["data"]).shape for item in short] == [(len(rows), 8) for rows in raw]
    for item, wanted in zip(ask(encoding_format="base64").json()["data"], unit, strict=True):
        assert np.allclose(np.frombuffer(base64.b64decode(item["data"]), "<f4").reshape(-1, 384), wanted, atol=2e-3)
    binary = ask(encoding_format="bytes", embed_dtype="float16", endianness="big")
    told = json.loads(binary.headers["metadata"])["data"]
    assert [item["shape"] for item in told] == [list(rows.shape) for rows in raw]
    for item, wanted in zip(told, unit, strict=True):
        found = np.frombuffer(binary.content[item["start"]:item["end"]], ">f2").reshape(item["shape"])
        assert np.allclose(found, wanted, atol=5e-3)
    assert len(ask(encoding_format="bytes_only").content) == 4 * 384 * sum(len(rows) for rows in raw)


@pytest.mark.parametrize("body, status, param, code", [
    ({"task": "token_classify"}, 400, "task", "invalid_request"),
    ({"dimensions": 385}, 400, "dimensions", "invalid_parameter"),
    ({"dimensions": 0}, 400, "dimensions", "invalid_parameter"),
    ({"model": "sentiment-v3"}, 400, "model", "wrong_task"),
    ({"model": "nobody"}, 404, "model", "model_not_found"),
    ({"input": []}, 400, "input", "no_inputs"),
    ({"input": [""]}, 400, "input", "empty_input"),
    ({"input": [[101, 99999, 102]]}, 400, "inputs[0]", "invalid_request"),
    ({"input": SECRET + LONG}, 400, "input", "context_length_exceeded"),
])
def test_bad_input(rest, body, status, param, code):
    answer = rest.post("/pooling", json={"model": "embeddings-v2", "input": TEXTS, "task": "token_embed"} | body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    assert error["param"] in (param, "input") and SECRET not in answer.text


def test_many_tokens(request, tmp_path):
    """What is answered is bounded by the tokens of a call, whatever they are spread over."""
    config = tmp_path / "server.toml"
    config.write_text("[protocols]\ntoken_vectors_max = 20\n")
    server = start(request, tmp_path, "--config", str(config))
    try:
        with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}) as rest:
            # Three tokens each.
            assert sum(map(len, all_of(rest, ["a"] * 6))) == 18
            refused = rest.post("/embed_all", json={"inputs": [SECRET] + ["a"] * 7})
            assert refused.status_code == 422 and "20" in refused.json()["error"] and SECRET not in refused.text
            refused = rest.post("/pooling", json={"model": "embeddings-v2", "input": ["a"] * 7, "task": "token_embed"})
            assert refused.json()["error"]["code"] == "too_many_inputs" and refused.json()["error"]["param"] == "input"
            # Embeddings of whole texts are not.
            assert len(pooled(rest, ["a"] * 100)) == 100
    finally:
        stop(server)


@pytest.mark.parametrize("runtime", ["candle", "onnx"])
def test_other_runtimes(request, tmp_path, rest, runtime):
    """The reference gives the same; ONNX Runtime's graphs have no such output, which is said."""
    config = tmp_path / "server.toml"
    config.write_text(f'models.embeddings-v2 = {{ runtime = "{runtime}" }}\n')
    server = start(request, tmp_path, "--config", str(config))
    try:
        with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as other:
            if runtime == "candle":
                for found, wanted in zip(all_of(other, TEXTS), all_of(rest, TEXTS), strict=True):
                    # In float32 there, in bfloat16 here.
                    assert found.shape == wanted.shape
                    cosines = (found * wanted).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(wanted, axis=1)
                    assert cosines.min() > 0.999
            else:
                refused = other.post("/embed_all", json={"inputs": TEXTS})
                assert refused.status_code == 424 and "runtime" in refused.json()["error"], refused.text
                refused = other.post("/pooling", json={"model": "embeddings-v2", "input": TEXTS, "task": "token_embed"})
                assert refused.json()["error"]["code"] == "wrong_task"
                assert other.post("/embed", json={"inputs": TEXTS}).status_code == 200
    finally:
        stop(server)
