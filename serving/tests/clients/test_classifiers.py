"""`ml-inference classifiers train`: from a table of texts to a model that is served."""

import csv
import json
import os
import shutil
import subprocess

import httpx
import pytest

from conftest import KEY, ROOT, start, stop

TOPICS = {
    "shipping": ["parcel", "delivery", "courier", "package", "shipment", "post office"],
    "billing": ["invoice", "refund", "credit card charge", "payment", "receipt", "bank transfer"],
    "login": ["password", "two-factor code", "account access", "sign-in page", "user name", "locked account"],
}
FORMS = ["Where is my {}?", "There is a problem with the {}", "I have a question about the {}", "Please help me with my {}"]
OTHERS = {"shipping": "The mailman has not brought my box yet", "billing": "You have taken the money twice",
          "login": "I forgot my passphrase and cannot log in"}


def train(request, server, cards, file, *arguments, name="desk"):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ML_INFERENCE_")}
    command = [request.config.getoption("--binary"), "classifiers", "train", str(file), "--name", name, "--cards-dir",
               str(cards), "--server", f"http://{server.api}", *arguments]
    return subprocess.run(command, env=clean | {"ML_INFERENCE_API_KEY": KEY}, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cards")
    shutil.copytree(ROOT / "model-cards/embeddings-v2", folder / "embeddings-v2")
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Three topics, and one line with a wrong one: the text of line 2 has a twin under another label."""
    path = tmp_path_factory.mktemp("table") / "desk.csv"
    rows = [(form.format(thing), topic) for topic, things in TOPICS.items() for thing in things for form in FORMS]
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "topic", "body"])
        for number, (text, topic) in enumerate(rows):
            writer.writerow([number, topic, text])
        writer.writerow([len(rows), "login", rows[0][0]])
    return path


def test_from_a_table_to_a_model(request, server, cards, table, tmp_path):
    trained = train(request, server, cards, table, "--text", "body", "--label", "topic")
    assert trained.returncode == 0, trained.stderr
    assert "73 examples, 3 labels" in trained.stdout
    # The wrong line and its twin are found, by their lines in the file.
    assert "lines 2 and 74: cosine 1.000" in trained.stdout
    wrong = trained.stdout.split("probably wrong labels")[1].split("\n\n")[0]
    assert "line     74: shipping" in wrong and "has login" in wrong
    evaluation = json.loads((cards / "desk/evaluation.json").read_text())
    assert evaluation["labels"] == ["billing", "login", "shipping"]
    assert evaluation["held_out"]["accuracy"]["value"] > 0.9 and evaluation["held_out"]["held_out"] == 73
    assert 0 < evaluation["unknown_below"] < 1

    again = train(request, server, cards, table, "--text", "body", "--label", "topic")
    assert again.returncode == 1 and "--replace" in again.stderr
    first = (cards / "desk/head.safetensors").read_bytes()
    replaced = train(request, server, cards, table, "--text", "body", "--label", "topic", "--replace")
    assert replaced.returncode == 0, replaced.stderr
    assert (cards / "desk/head.safetensors").read_bytes() == first, "the same examples, the same classifier"

    served = start(request, tmp_path, cards=cards)
    try:
        body = {"model": "desk", "inputs": list(OTHERS.values())}
        answer = httpx.post(f"http://{served.api}/v1/ml/classify", json=body, headers={"Authorization": f"Bearer {KEY}"})
        assert answer.status_code == 200, answer.text
        told = [result["labels"][0] for result in answer.json()["results"]]
        assert [one["label"] for one in told] == list(OTHERS)
        assert all(one["score"] > 0.5 for one in told)
    finally:
        stop(served)


def test_texts_with_several_labels(request, server, cards, tmp_path):
    file = tmp_path / "several.jsonl"
    things = [(topic, thing) for topic, things in TOPICS.items() for thing in things]
    rows = [{"text": FORMS[0].format(thing), "label": [topic]} for topic, thing in things]
    rows += [{"text": f"{FORMS[1].format(a)}. {FORMS[2].format(b)}", "label": [one, other]}
             for one, a in things for other, b in things[::3] if one != other]
    rows += [{"text": text, "label": []} for text in ["Good morning", "The weather is fine", "See you on Monday"]]
    file.write_text("\n".join(map(json.dumps, rows)))
    trained = train(request, server, cards, file, "--multi-label", "--balanced", name="several")
    assert trained.returncode == 0, trained.stderr
    served = start(request, tmp_path, cards=cards)
    try:
        text = "My parcel is lost. And you sent me a wrong invoice."
        answer = httpx.post(f"http://{served.api}/v1/ml/classify", json={"model": "several", "inputs": [text]},
                            headers={"Authorization": f"Bearer {KEY}"})
        scores = {one["label"]: one["score"] for one in answer.json()["results"][0]["labels"]}
        assert scores["shipping"] > 0.5 and scores["billing"] > 0.5 and scores["login"] < 0.5, scores
    finally:
        stop(served)


def test_what_is_wrong_is_said(request, server, cards, table, tmp_path):
    def check(file, message, *arguments, name="wrong"):
        refused = train(request, server, cards, file, *arguments, name=name)
        assert refused.returncode == 1 and message in refused.stderr, refused.stderr
        assert not (cards / "wrong").exists()

    check(table, 'has no column "text"')
    one = tmp_path / "one.csv"
    one.write_text("text,label\nsecret words,a\nother words,a\n")
    check(one, "at least 2 are needed")
    empty = tmp_path / "empty.csv"
    empty.write_text("text,label\nsecret words,a\n ,b\n")
    check(empty, "line 3: the text is empty")
    long = tmp_path / "long.csv"
    long.write_text(f"text,label\nsecret words,a\n{'word ' * 30_000},b\n")
    check(long, "texts 1 to 2 of the table: inputs[1]")
    columns = ("--text", "body", "--label", "topic")
    check(table, "ml_inference.name", *columns, name="Desk")
    check(table, "nobody/README.md", *columns, "--encoder", "nobody")
    check(table, "API key", *columns, "--key", "tc_live_unknown")
