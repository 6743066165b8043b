"""What comes with our Python client: the fake server for tests, and the package."""

import os
import subprocess
import sys
import zipfile

import httpx
import pytest
from conftest import KEY, ROOT

FOLDER = ROOT / "serving/clients/python"
sys.path.insert(0, str(FOLDER / "src"))

import ml_inference
from ml_inference import Client, RetryPolicy
from ml_inference.testing import FakeServer

QUICK = RetryPolicy(backoff=0.01)


@pytest.fixture(scope="module")
def client(server):
    with Client(f"http://{server.api}", KEY, timeout=60) as opened:
        yield opened


REFUSALS = [
    ("sentiment", {"inputs": []}),
    ("sentiment", {"inputs": ""}),
    ("sentiment", {"inputs": ["fine", " "]}),
    ("sentiment", {"inputs": "x", "colour": 1}),
    ("sentiment", {"inputs": "x", "parameters": {"top_k": 1}}),
    ("rerank", {"inputs": "x"}),
    ("entities", {"inputs": "x", "parameters": {"offset_unit": "miles"}}),
    ("sentiment", {"inputs": ["x"] * 129}),
    ("sentiment", {"inputs": 7}),
    ("nothing", {"inputs": "x"}),
    ("sentiment", {"inputs": "x", "parameters": {"priority": "now"}}),
]


@pytest.mark.parametrize("route, body", REFUSALS)
def test_the_fake_refuses_what_the_real_one_refuses(rest, route, body):
    with FakeServer() as fake:
        headers = {"Authorization": f"Bearer {KEY}"}
        given = httpx.post(f"{fake.url}/v1/ml/{route}", json=body, headers=headers)
        real = rest.post(f"/v1/ml/{route}", json=body)
        assert given.status_code == real.status_code >= 400
        assert given.json()["error"]["code"] == real.json()["error"]["code"]
        assert given.json()["error"].keys() == real.json()["error"].keys()
        assert httpx.post(f"{fake.url}/v1/ml/sentiment", json={"inputs": "x"}).json()["error"]["code"] == (
            "missing_credentials"
        )


def test_the_fake_answers_in_the_form_of_the_real_one(client):
    with FakeServer() as fake, Client(fake.url, KEY, retries=QUICK) as faked:
        calls = {
            "classify": (),
            "sentiment": (),
            "entities": (),
            "summarize": (),
            "embeddings": (),
            "rerank": ("query",),
            "similarity": ("reference",),
            "tokenize": (),
        }
        for task, first in calls.items():
            given, real = (getattr(c, task)(*first, "A text.").results[0] for c in (faked, client))
            assert type(given) is type(real), task
        fake.fail(503, "overloaded", retry_after=0)
        assert faked.sentiment("x", idempotency_key="k").replayed is False
        assert faked.sentiment("x", idempotency_key="k").replayed is True
        with pytest.raises(ml_inference.InvalidRequest, match="idempotency_key_reused"):
            faked.sentiment("y", idempotency_key="k")
        assert fake.calls[-1].body == {"inputs": ["y"]}
        fake.answers["sentiment"] = lambda text, _: {"label": text, "score": 1.0, "scores": {}}
        assert faked.sentiment("mine").results[0].label == "mine"
        fake.models = [client.model("ner-v2").card]
        assert faked.models() == (client.model("ner-v2"),)


def test_the_definition_is_the_servers(tmp_path):
    from grpc_tools import protoc

    out = tmp_path / "inference.binpb"
    arguments = ["protoc", f"-I{ROOT / 'serving/proto'}", f"--descriptor_set_out={out}"]
    assert protoc.main([*arguments, str(ROOT / "serving/proto/ml/inference/v1/inference.proto")]) == 0
    assert out.read_bytes() == (FOLDER / "src/ml_inference/inference.binpb").read_bytes()


def test_the_wheel_has_all_of_it(tmp_path):
    """Built with the standard tools, and used without the source beside it."""
    source = tmp_path / "source"
    subprocess.run(["cp", "-r", str(FOLDER), str(source)], check=True)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            str(tmp_path),
            str(source),
        ],
        check=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for path in (FOLDER / "src/ml_inference").iterdir():
        assert path.name == "__pycache__" or f"ml_inference/{path.name}" in names
    used = (
        "import ml_inference.bulk, ml_inference.testing as t, ml_inference as m\n"
        "with t.FakeServer() as s, m.Client(s.url, 'tc_test_x') as c: print(c.sentiment('x').usage.inputs)"
    )
    done = subprocess.run(
        [sys.executable, "-c", used],
        env={**os.environ, "PYTHONPATH": str(wheel)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"
