"""Checkpoints that are served without a card: real weights and small random ones, each by one line."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import httpx
import numpy
import pytest
from checkpoints import (LONGEST, Bert, safetensors, near, ok, sequence_classifier, sigmoid, softmax,
                         token_classifier, tokenizer, write)
from conftest import KEY, start, stop

TEXT = "anna lives near paris and works for acme"
TOPICS = ["sea", "city", "pets"]
TAGS = ["O", "B-GENE", "I-GENE"]


def checkpoint(folder, name, model, config, files=None):
    """A checkpoint's files in a folder, without a card."""
    write(folder / "of-cards", name, model, "entities", {}, config, files)
    (folder / "of-cards" / name / "files").rename(folder / name)
    return folder / name


def minilm(request, folder):
    """The weights of this project's own models, as somebody who has downloaded them has them."""
    weights = Path(request.config.getoption("--data-dir")).resolve() / "weights"
    [revision] = (path for path in weights.glob("*MiniLM*/*") if path.is_dir())
    made = folder / "My MiniLM"
    made.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (made / name).symlink_to(revision / name)
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    modules = [{"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
               for index, (kind, path) in enumerate(kinds)]
    (made / "modules.json").write_text(json.dumps(modules))
    (made / "1_Pooling").mkdir()
    (made / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True}))
    (made / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 256}))
    return made


@pytest.fixture(scope="module")
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one-line")
    sequence = {"architectures": ["BertForSequenceClassification"]}
    labels = lambda names: {"id2label": {str(index): name for index, name in enumerate(names)}}  # noqa: E731
    topics = checkpoint(folder, "topics", sequence_classifier(1, 3), sequence | labels(TOPICS))
    ranker = checkpoint(folder, "ranker", sequence_classifier(2, 1), sequence | labels(["LABEL_0"]))
    genes = checkpoint(folder, "genes", token_classifier(4, 3), {"architectures": ["BertForTokenClassification"]} | labels(TAGS))
    bare = checkpoint(folder, "bare", Bert(5), {"architectures": ["BertModel"]})
    pickled = checkpoint(folder, "pickled", Bert(5), {"architectures": ["BertModel"]})
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    spoilt = sequence_classifier(6, 3)
    spoilt.tensors["classifier.bias"][1] = numpy.nan
    spoilt = checkpoint(folder, "spoilt", spoilt, sequence | labels(TOPICS))
    piped = checkpoint(folder, "piped", sequence_classifier(1, 3), sequence | labels(TOPICS))
    (piped / "model.safetensors").unlink()
    os.mkfifo(piped / "model.safetensors")
    untold = checkpoint(folder, "untold", sequence_classifier(2, 1), sequence | labels(["LABEL_0"]),
                        {"tokenizer_config.json": json.dumps({"tokenizer_class": "TokenizersBackend"}).encode()})
    config = folder / "server.toml"
    config.write_text(f'[models.genes]\nfolder = "{genes}"\n[models.pickled]\nfolder = "{pickled}"\npooling = "mean"\n'
                      + "".join(f"required = false\n[models.{name}]\n" for name in ("bare", "spoilt", "piped")) + "required = false\n")
    arguments = ["--no-cards", "--config", str(config)]
    for model in (f"{topics},name=my-topics", str(ranker), str(minilm(request, folder)), str(bare), str(spoilt), str(piped),
                  str(untold)):
        arguments += ["--model", model]
    running = start(request, folder, *arguments)
    yield running
    stop(running)


@pytest.fixture(scope="module")
def rest(server):
    with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
        yield client


def test_the_catalogue_says_what_the_files_say(rest):
    models = {model["name"]: model for model in ok(rest.get("/v1/ml/models"))["models"]}
    said = {name: (model["task"], model["labels"], model["limits"]["tokens_max"]) for name, model in models.items()
            if model["status"] == "loaded"}
    assert said == {
        "my-topics": ("document-classification", TOPICS, LONGEST),
        "ranker": ("rerank", ["LABEL_0"], LONGEST),
        "untold": ("rerank", ["LABEL_0"], LONGEST),
        "genes": ("entities", TAGS, LONGEST),
        "my-minilm": ("embeddings", [], 256),
    }
    # By its content, since a folder has no version.
    digest = hashlib.sha256(safetensors(sequence_classifier(1, 3).tensors)).hexdigest()
    assert models["my-topics"]["version"] == digest[:12]


def test_what_cannot_be_served_takes_nothing_down(server, rest):
    listed = httpx.get(f"http://{server.ops}/readyz", params={"verbose": ""}).text
    assert "models ok" in listed, listed
    for name, reason in [("bare", "how vectors are made cannot be told from the files: add pooling="),
                         ("pickled", "pytorch_model.bin is not read"),
                         ("spoilt", "tensor classifier.bias holds values that are not finite numbers"),
                         ("piped", "model.safetensors: is not a regular file")]:
        answer = rest.post("/v1/ml/classify", json={"inputs": TEXT, "model": name})
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "model_unavailable"
        assert reason in server.log.read_text()


def test_real_weights_give_the_vectors_of_the_card(request, rest, tmp_path):
    reference = start(request, tmp_path)
    texts = ["hello world", "The meeting was moved to Tuesday.", "x " * 200]
    with httpx.Client(base_url=f"http://{reference.api}", headers={"Authorization": f"Bearer {KEY}"}) as client:
        expected = ok(client.post("/v1/ml/embeddings", json={"inputs": texts}))["results"]
    stop(reference)
    # Of which task those are that cannot be read is not known, so none is a default beside them.
    assert rest.post("/v1/ml/embeddings", json={"inputs": texts}).status_code != 200
    found = ok(rest.post("/v1/ml/embeddings", json={"model": "my-minilm", "inputs": texts}))
    assert found["model"] == "my-minilm"
    for mine, theirs in zip(found["results"], expected):
        # The card computes in bfloat16.
        assert numpy.dot(mine["embedding"], theirs["embedding"]) > 0.9999


def test_classes_tags_and_scores_are_the_checkpoints(rest):
    classes = ok(rest.post("/v1/ml/classify", json={"model": "my-topics", "inputs": TEXT}))["results"][0]["labels"]
    logits = sequence_classifier(1, 3).logits(tokenizer().encode(TEXT))
    expected = dict(zip(TOPICS, softmax(logits)))
    near([label["score"] for label in classes], [expected[label["label"]] for label in classes])
    parameters = {"aggregation": "none"}
    tokens = ok(rest.post("/v1/ml/entities", json={"model": "genes", "inputs": TEXT, "parameters": parameters}))["results"][0]["entities"]
    best = token_classifier(4, 3).token_logits(tokenizer().encode(TEXT))[1:-1].argmax(axis=1)
    assert [token["label"] for token in tokens] == [TAGS[index] for index in best if index]


def test_segments_are_told_as_the_tokenizer_says(rest):
    model = sequence_classifier(2, 1)
    pair = tokenizer().encode("where", TEXT)
    first = lambda types: model.states(pair.ids, types)[0]  # noqa: E731
    score = lambda types: sigmoid(model.classified(first(types))[0])  # noqa: E731
    for name, types in ("ranker", pair.type_ids), ("untold", [0] * len(pair.ids)):
        body = {"model": name, "inputs": [TEXT], "parameters": {"query": "where"}}
        ranked = ok(rest.post("/v1/ml/rerank", json=body))
        near(ranked["results"][0]["score"], score(types))



def test_a_line_that_cannot_be_meant_is_refused(request):
    for model, reason in [("x,size=3", 'the key "size" is unknown or there twice'), (",name=x", "names no model"), ("./x,revision=main", "is no repository of a model hub"),
                          ("x,task=ner", "unknown variant `ner`")]:
        command = [request.config.getoption("--binary"), "serve", "--model", model]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 2 and reason in ended.stderr, ended.stderr
    command = [request.config.getoption("--binary"), "serve", "--model", "a/x", "--model", "b/x"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0 and "two models are called" in ended.stderr, ended.stderr
