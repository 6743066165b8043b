"""`ml-inference models`: what is there, what it is taken for, how fast it is, and whether it is what its authors'
library computes. The library itself is asked where `--authors` names an interpreter that has it; else a numpy model
answers in its place, over the same protocol."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from checkpoints import Bert, ok, sequence_classifier, token_classifier
from conftest import KEY, start, stop
from test_one_line import checkpoint, minilm

HERE = Path(__file__).parent
SEQUENCE = {"architectures": ["BertForSequenceClassification"]}
TOPICS = ["sea", "city", "pets"]
STAND_IN = f"""#!{sys.executable}
import json, os, sys
sys.path.insert(0, {str(HERE)!r})
from checkpoints import LONGEST, sequence_classifier, tokenizer
request, model = json.load(sys.stdin), sequence_classifier(1, 3)
assert request["kind"] == "sequence" and sys.argv[1] == "-c", request["kind"]
answers = []
for text, _ in request["texts"]:
    encoding = tokenizer().encode(text)
    fits = len(encoding.ids) <= LONGEST
    answers.append({{"ids": encoding.ids, "rows": [model.logits(encoding).tolist()] if fits else []}})
answers[3]["rows"][0][1] += float(os.environ.get("OFF_BY", "0"))
json.dump({{"libraries": {{"transformers": "5.0.0", "numpy": "2"}}, "answers": answers}}, sys.stdout)
"""


def labels(names):
    return {"id2label": {str(index): name for index, name in enumerate(names)}}


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return checkpoint(folder, "topics", sequence_classifier(1, 3), SEQUENCE | labels(TOPICS))


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def run(request, data, *arguments, expected=0, **environment):
    command = [request.config.getoption("--binary"), "models", *map(str, arguments), "--data-dir", str(data)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | environment)
    assert ended.returncode == expected, ended.stdout + ended.stderr
    return ended.stdout if expected == 0 else ended.stderr


def stand_in(folder):
    python = folder / "python"
    python.write_text(STAND_IN)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return python


def served(request, folder, data, topics):
    other = f"{topics},name=other,pooling=mean,task=embeddings"
    server = start(request, folder, "--no-cards", "--model", str(topics), "--model", other, data=data)
    with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}) as client:
        models = {model["name"]: model for model in ok(client.get("/v1/ml/models"))["models"]}
        answer = client.post("/v1/ml/classify", json={"model": "topics", "inputs": "the cat sat"})
    return server, models, answer


def test_what_a_folder_is_taken_for_and_by_what(request, data, topics):
    shown = run(request, data, "show", topics, "--no-cards")
    for field, value, source in [("task", '"document-classification"', "config.json (architectures: BertForSequenceClassification)"),
                                 ("labels", '["sea","city","pets"]', "config.json (id2label)"),
                                 ("score_function", '"softmax"', "config.json (problem_type, activation_fn)"),
                                 ("runtime", '"fused"', "default")]:
        assert any(line.split(maxsplit=1)[:1] == [field] and value in line and f"({source})" in line
                   for line in shown.splitlines()), (field, shown)
    assert '"tokens_max":64' in shown and "config.json (max_position_embeddings)" in shown
    assert "model.safetensors" in shown and "certificate      none" in shown
    assert "fused          can, and is chosen" in shown and "candle         can" in shown
    refused = run(request, data, "show", "nobody", "--no-cards", expected=1)
    assert 'no model "nobody"' in refused


def test_a_list_has_a_row_for_each_model(request, data, topics):
    rows = run(request, data, "list", "--no-cards", "--model", topics, "--model", topics.parent / "none").splitlines()
    assert rows[0].split() == ["NAME", "TASK", "ARCHITECTURE", "RUNTIME", "SIZE", "PIN", "CERTIFICATE"]
    assert rows[1].split()[:5] == ["topics", "document-classification", "bert", "fused", "float32"]
    assert rows[1].split()[-2:] == ["folder", "none"] and "none: " in rows[2]
    # The cards of this project, whose weights are there.
    of_cards = run(request, request.config.getoption("--data-dir"), "list")
    assert "sentence-transformers/all-MiniLM-L6-v2@" in of_cards, of_cards


def test_a_bench_names_what_it_measured(request, data, topics):
    lines = run(request, data, "bench", topics, "--no-cards").splitlines()
    assert lines[0].startswith("topics ") and "fused in float32 on " in lines[0]
    measured = [line.split() for line in lines[2:]]
    # No longer than the model reads.
    assert [(row[0], row[1]) for row in measured] == [("16", "1"), ("16", "8"), ("16", "32"), ("64", "1"), ("64", "8"), ("64", "32")]
    assert all(float(row[2]) <= float(row[3]) and float(row[4]) > 0 for row in measured)


def test_every_start_is_held_to_the_certificate(request, data, topics, tmp_path):
    python = stand_in(tmp_path)
    refused = run(request, data, "verify", topics, "--no-cards", "--python", python, expected=1, OFF_BY="0.01")
    assert "not verified: fused in float32: probe 3: it is" in refused and not list(data.glob("certificates/*"))
    said = run(request, data, "verify", topics, "--no-cards", "--python", python, "--runtime", "candle")
    assert "fused in float32: " in said and "candle in " in said
    [kept] = data.glob("certificates/*.json")
    certificate = json.loads(kept.read_text())
    assert [one["runtime"] for one in certificate["comparisons"]] == ["fused", "candle"]
    assert all(one["worst"] < 1e-4 and one["compared"] > 40 for one in certificate["comparisons"])
    assert "transformers 5.0.0" in run(request, data, "list", "--no-cards", "--model", topics)

    server, models, answer = served(request, tmp_path, data, topics)
    stop(server)
    # The same files with another head are not what the certificate is of.
    assert {name: model["verification"] for name, model in models.items()} == {"topics": "verified", "other": "unverified"}
    assert answer.status_code == 200
    [said] = [line for line in server.log_lines() if line["message"].startswith("verified: ")]
    assert said["model"] == "topics" and said["worst"] < 1e-4 and said["authors"] == "transformers 5.0.0", said

    certificate["answers"][0]["rows"][0][0] += 0.01
    kept.write_text(json.dumps(certificate))
    config = tmp_path / "server.toml"
    config.write_text("[models.topics]\nrequired = false\n")
    server = start(request, tmp_path, "--no-cards", "--config", str(config), "--model", str(topics), "--model",
                   f"{topics},name=other,pooling=mean,task=embeddings", data=data)
    with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}) as client:
        model = ok(client.get("/v1/ml/models/topics"))
        answer = client.post("/v1/ml/classify", json={"model": "topics", "inputs": "the cat sat"})
    stop(server)
    assert (model["verification"], model["status"]) == ("failed", "unavailable")
    assert "does not give the answers of its authors' library: probe 0: it is" in model["reason"]
    assert str(data) not in model["reason"]
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "model_unavailable"


def test_what_is_not_the_authors_alone_is_not_compared(request, data, tmp_path):
    arguments = ["--python", str(stand_in(tmp_path)), "--offline"]
    weights = request.config.getoption("--data-dir")
    for model, reason in [("sentiment-v3", "its card has an adapter"), ("nobody", 'no model "nobody"')]:
        assert reason in run(request, weights, "verify", model, *arguments, expected=1)
    absent = run(request, weights, "verify", "embeddings-v2", "--python", "/nowhere/python", "--offline", expected=1)
    assert "/nowhere/python: " in absent and "--python …" in absent


def test_the_authors_own_library_agrees(request, data, tmp_path):
    """By transformers and sentence-transformers themselves: `make verify`."""
    python = request.config.getoption("--authors")
    if not python:
        pytest.skip("needs an interpreter with transformers and sentence-transformers: make verify")
    modules = [{"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
               for index, (kind, path) in enumerate([("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")])]
    pooling = {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True}
    beside = {"modules.json": modules, "1_Pooling/config.json": pooling, "sentence_bert_config.json": {"max_seq_length": 64},
              "config_sentence_transformers.json": {"prompts": {"query": "query: "}, "default_prompt_name": "query"}}
    vectors = {name: json.dumps(content).encode() for name, content in beside.items()}
    tags = {"architectures": ["BertForTokenClassification"]} | labels(["O", "B-GENE", "I-GENE"])
    folders = [
        checkpoint(tmp_path, "topics", sequence_classifier(1, 3), SEQUENCE | labels(TOPICS)),
        checkpoint(tmp_path, "ranker", sequence_classifier(2, 1), SEQUENCE | labels(["LABEL_0"])),
        checkpoint(tmp_path, "genes", token_classifier(4, 3), tags),
        checkpoint(tmp_path, "vectors", Bert(5), {"architectures": ["BertModel"]}, vectors),
        minilm(request, tmp_path),
    ]
    models = []
    for folder in folders:
        said = run(request, data, "verify", folder, "--no-cards", "--python", python, "--runtime", "candle")
        assert "transformers" in said and "fused in float32: " in said, said
        models += ["--model", str(folder)]
    server = start(request, tmp_path, "--no-cards", *models, data=data)
    with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}) as client:
        listed = ok(client.get("/v1/ml/models"))["models"]
    stop(server)
    assert [model["verification"] for model in listed] == ["verified"] * len(folders)
