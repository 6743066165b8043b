"""What computes a model is one line of configuration, and the answers stay; all five fit in the memory
promised."""

import concurrent.futures
from pathlib import Path

import httpx
import pytest

from conftest import HAS_BF16, KEY, patient, start, stop

MODELS = ["embeddings-v2", "ner-v2", "sentiment-v3", "summarizer-v1", "text-classifier-v2"]
ROUTES = ["classify", "sentiment", "entities", "summarize", "embeddings"]
TEXT = ("Angela Merkel visited the Siemens plant in Zürich on Tuesday. The new turbines please everybody there. "
        "An invoice over 500 euros is due within 30 days.")
# Numbers of float32 have twice the bytes.
MEMORY_MAX_MB = 280 if HAS_BF16 else 400


def ask(server, route, text=TEXT):
    response = httpx.post(f"http://{server.api}/v1/ml/{route}", json={"inputs": [text]}, timeout=300,
                          headers={"Authorization": f"Bearer {KEY}"})
    assert response.status_code == 200, response.text
    return response.json()


def answers(request, folder, lines):
    config = folder / "ml-inference.toml"
    config.write_text("".join(f"{line}\n" for line in lines))
    server = start(request, folder, "--config", str(config))
    try:
        return {route: ask(server, route) for route in ROUTES}
    finally:
        stop(server)


def assert_alike(left, right, path=""):
    assert type(left) is type(right), path
    if isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            assert_alike(left[key], right[key], f"{path}.{key}")
    elif isinstance(left, list):
        assert len(left) == len(right), path
        for index, pair in enumerate(zip(left, right)):
            assert_alike(*pair, f"{path}[{index}]")
    elif isinstance(left, float):
        assert left == pytest.approx(right, abs=2e-4), path
    else:
        assert left == right, path


@pytest.fixture(scope="module")
def reference(request, tmp_path_factory):
    lines = [f'models.{model} = {{ runtime = "candle" }}' for model in MODELS]
    return answers(request, tmp_path_factory.mktemp("candle"), lines)


@pytest.mark.parametrize("runtime", ["fused", "onnx"])
def test_one_line_a_model_changes_what_computes_it(request, tmp_path, reference, runtime):
    lines = [f'models.{model} = {{ runtime = "{runtime}" }}' for model in MODELS]
    assert_alike(answers(request, tmp_path, lines), reference)


def test_a_model_that_is_not_there_is_named(request, tmp_path):
    with pytest.raises(RuntimeError, match="sentiment-v4.*sentiment-v3"):
        answers(request, tmp_path, ['models.sentiment-v4 = { runtime = "onnx" }'])


def test_memory_of_all_five_models_under_load(request, tmp_path):
    # However slow the machine is, all are answered.
    server = start(request, tmp_path, *patient(tmp_path))
    try:
        text = " ".join([TEXT] * 12)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda index: ask(server, ROUTES[index % 5], text), range(200)))
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        assert int(peak.split()[1]) / 1024 <= MEMORY_MAX_MB
    finally:
        stop(server)
