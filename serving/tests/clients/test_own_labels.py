"""Checkpoints with labels of their own: classes scored as their `problem_type` says, labels by entailment, and tags of
any scheme, beside a BERT in numpy."""

import httpx
import numpy
import pytest
from checkpoints import near, ok, sequence_classifier, sigmoid, softmax, token_classifier, tokenizer, write
from conftest import KEY, start, stop

TEXT = "anna lives near paris and works for acme"
TOPICS = ["sea", "city", "pets"]
NLI = ["contradiction", "entailment", "neutral"]
SCHEMES = {
    "bio": ["O", "B-PER", "I-PER", "B-ORG", "I-ORG"],
    "io": ["O", "I-PER", "I-ORG"],
    "bioes": ["O", "B-PER", "I-PER", "E-PER", "S-PER", "B-ORG", "I-ORG", "E-ORG", "S-ORG"],
    "bare": ["NOUN", "VERB", "E-MAIL"],
}


@pytest.fixture(scope="module", params=["candle", "fused"])
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    cards = folder / "cards"
    head = {"kind": "sequence_classification"}
    for name, problem, function in (("single", "single_label_classification", "softmax"),
                                    ("multi", "multi_label_classification", "sigmoid"), ("regression", "regression", "identity")):
        config = {"architectures": ["BertForSequenceClassification"], "problem_type": problem}
        write(cards, name, sequence_classifier(1, 3), "document-classification", head, config, labels=TOPICS,
              score_function=function, default=name == "single", runtime=request.param)
    config = {"architectures": ["BertForSequenceClassification"]}
    zero_shot = {"template": "the {label} .", "entailment": "entailment", "contradiction": "contradiction"}
    write(cards, "nli", sequence_classifier(3, 3), "document-classification", head, config, labels=NLI, zero_shot=zero_shot,
          runtime=request.param)
    for name, labels in SCHEMES.items():
        config = {"architectures": ["BertForTokenClassification"]}
        write(cards, name, token_classifier(4, len(labels)), "entities", {"kind": "token_classification"}, config,
              labels=labels, default=name == "bio", runtime=request.param)
    wrong = {"architectures": ["BertForTokenClassification"]}
    write(cards, "other-head", token_classifier(4, 3), "document-classification", head, wrong, labels=TOPICS, required=False)
    running = start(request, folder, cards=cards)
    yield running
    stop(running)


@pytest.fixture(scope="module")
def rest(server):
    with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
        yield client


def classified(rest, model, text=TEXT, **parameters):
    answer = ok(rest.post("/v1/ml/classify", json={"inputs": text, "model": model, "parameters": parameters}))
    labels = answer["results"][0]["labels"]
    assert labels == sorted(labels, key=lambda label: -label["score"])
    return {label["label"]: label["score"] for label in labels}


@pytest.mark.parametrize(("model", "function"), [("single", softmax), ("multi", sigmoid), ("regression", lambda x: x)])
def test_scores_follow_the_problem(rest, model, function):
    expected = function(sequence_classifier(1, 3).logits(tokenizer().encode(TEXT)))
    found = classified(rest, model)
    near([found[label] for label in TOPICS], expected)
    predicted = ok(rest.post(f"/models/{model}/predict", json={"inputs": TEXT}))
    near([one["score"] for one in predicted], sorted(expected, reverse=True))


def test_labels_by_entailment(rest):
    labels, model = ["cat", "sea", "mat"], sequence_classifier(3, 3)
    join = tokenizer()
    join.enable_truncation(16, strategy="only_first")
    logits = numpy.array([model.logits(join.encode(TEXT, f"the {label} .")) for label in labels])
    contradiction, entailment = logits[:, 0], logits[:, 1]
    found = classified(rest, "nli", labels=labels)
    near([found[label] for label in labels], softmax(entailment))
    found = classified(rest, "nli", labels=labels, multi_label=True)
    near([found[label] for label in labels], softmax(numpy.stack([contradiction, entailment], axis=1))[:, 1])
    # A long text loses its end, and no label its words.
    long = " ".join([TEXT] * 5)
    logits = numpy.array([model.logits(join.encode(long, f"the {label} .")) for label in labels])
    found = classified(rest, "nli", long, labels=labels)
    near([found[label] for label in labels], softmax(logits[:, 1]))
    # Each pair is work.
    many = {"labels": [f"{word} {number}" for word in ("cat", "sea") for number in range(26)]}
    refused = rest.post("/v1/ml/classify", json={"inputs": [TEXT] * 2, "model": "nli", "parameters": many})
    assert refused.status_code == 400 and "104 pairs of texts, the limit of this model is 100" in refused.text, refused.text
    assert len(classified(rest, "nli", **many)) == 52
    # Without labels it has its own.
    own = classified(rest, "nli")
    near([own[label] for label in NLI], softmax(model.logits(tokenizer().encode(TEXT))))


def grouped(labels, probabilities, offsets):
    """The groups of the pipeline of transformers with `simple`, ends and singles of BIOES being tags as well."""
    kinds = {label[2:] for label in labels if label[:2] in ("B-", "I-")}
    groups, last = [], None
    for row, (start, end) in zip(probabilities, offsets):
        label, score = labels[row.argmax()], row.max()
        is_tag = label[:2] in ("B-", "I-", "E-", "S-") and label[2:] in kinds
        place, kind = (label[0], label[2:]) if is_tag else ("I", label)
        if label == "O":
            last = None
        elif last and last[0] == kind and place not in "BS" and last[1] not in "ES":
            groups[-1][2:] = [end, groups[-1][3] + [score]]
            last = (kind, place)
        else:
            groups.append([kind, start, end, [score]])
            last = (kind, place)
    return [(kind, start, end, float(numpy.mean(scores))) for kind, start, end, scores in groups]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tags_of_any_scheme(rest, scheme):
    labels = SCHEMES[scheme]
    encoding = tokenizer().encode(TEXT)
    probabilities = softmax(token_classifier(4, len(labels)).token_logits(encoding))[1:-1]
    expected = grouped(labels, probabilities, encoding.offsets[1:-1])
    body = {"inputs": TEXT, "model": scheme, "parameters": {"aggregation": "simple"}}
    found = ok(rest.post("/v1/ml/entities", json=body))["results"][0]["entities"]
    assert [(one["label"], one["start"], one["end"]) for one in found] == [group[:3] for group in expected]
    near([one["score"] for one in found], [group[3] for group in expected])
    assert all(TEXT[one["start"]:one["end"]] == one["text"] for one in found)
    body["parameters"]["aggregation"] = "none"
    found = ok(rest.post("/v1/ml/entities", json=body))["results"][0]["entities"]
    best = [labels[row.argmax()] for row in probabilities]
    assert [one["label"] for one in found] == [label for label in best if label != "O"]


def test_models_tell_their_labels(rest):
    models = {model["name"]: model for model in ok(rest.get("/v1/ml/models"))["models"]}
    assert models["bare"]["labels"] == SCHEMES["bare"]
    assert models["other-head"]["status"] == "unavailable" and "has no head" in models["other-head"]["reason"]
