"""Hugging Face's tasks, by `huggingface_hub.InferenceClient` unchanged: a URL that means one model and one
task."""

import httpx
import pytest
from conftest import KEY
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

TEXT = "Angela Merkel visited the Siemens plant in Zürich on Tuesday."


def near(left, right):
    return left == pytest.approx(right, abs=2e-3)


@pytest.fixture(params=["/hf/{}", "/models/{}"])
def client(request, server):
    def of(model):
        return InferenceClient(model=f"http://{server.api}{request.param.format(model)}", token=KEY)

    return of


def result(rest, route, body):
    answer = rest.post(f"/v1/ml/{route}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]


def test_feature_extraction(client, rest):
    own = result(rest, "embeddings", {"inputs": TEXT})["embedding"]
    assert near(client("embeddings-v2").feature_extraction(TEXT).tolist()[0], own)
    few = client("embeddings-v2").feature_extraction(TEXT, normalize=False, truncate=True, truncation_direction="Left", dimensions=4)
    own = result(rest, "embeddings", {"inputs": TEXT, "parameters": {"normalize": False, "dimensions": 4}})["embedding"]
    assert few.shape == (1, 4) and near(few.tolist()[0], own)


def test_the_base_url_is_the_default_model(server, rest):
    client = InferenceClient(base_url=f"http://{server.api}", token=KEY)
    own = result(rest, "embeddings", {"inputs": TEXT})["embedding"]
    assert near(client.feature_extraction(TEXT).tolist()[0], own)


def test_sentence_similarity(client, rest):
    others = ["She travelled.", "A recipe for soup."]
    answer = rest.post("/v1/ml/similarity", json={"inputs": others, "parameters": {"reference": TEXT}}).json()
    assert near(client("embeddings-v2").sentence_similarity(TEXT, others), [row["score"] for row in answer["results"]])


def test_text_classification(client, rest):
    own = result(rest, "sentiment", {"inputs": "I love it."})["scores"]
    found = client("sentiment-v3").text_classification("I love it.")
    assert {row.label: pytest.approx(row.score, abs=2e-3) for row in found} == own
    assert found[0].label == "positive" and found == sorted(found, key=lambda row: -row.score)
    assert len(client("text-classifier-v2").text_classification("Invoice", top_k=2)) == 2
    logits = client("sentiment-v3").text_classification("I love it.", function_to_apply="none")
    by_themselves = client("sentiment-v3").text_classification("I love it.", function_to_apply="sigmoid")
    assert near([1 / (1 + 2.718281828 ** -row.score) for row in logits], [row.score for row in by_themselves])


def test_token_classification(client, rest):
    own = result(rest, "entities", {"inputs": TEXT, "parameters": {"aggregation": "simple"}})["entities"]
    found = client("ner-v2").token_classification(TEXT)
    assert [(row.entity_group, row.word, row.start, row.end) for row in found] == \
        [(row["label"], row["text"], row["start"], row["end"]) for row in own]
    tokens = client("ner-v2").token_classification(TEXT, aggregation_strategy="none", ignore_labels=["O", "B-ORG"])
    assert tokens and all(row.entity and row.entity != "B-ORG" and TEXT[row.start:row.end] == row.word for row in tokens)


def test_zero_shot_classification(client, rest):
    labels = ["cooking", "astronomy", "football"]
    text = "The telescope found a new comet near Jupiter."
    own = result(rest, "classify", {"inputs": text, "parameters": {"labels": labels}})["labels"]
    found = client("text-classifier-v2").zero_shot_classification(text, candidate_labels=labels)
    assert [row.label for row in found] == [row["label"] for row in own]
    assert near([row.score for row in found], [row["score"] for row in own])
    many = client("text-classifier-v2").zero_shot_classification(text, labels, multi_label=True, hypothesis_template="It is about {}.")
    assert many[0].label == "astronomy"


def test_summarization(client, rest):
    text = "Sales rose 14 percent. The company said so on Tuesday. Demand was strongest in Denmark. The weather was mild."
    own = result(rest, "summarize", {"inputs": text})["summary"]
    assert client("summarizer-v1").summarization(text).summary_text == own
    short = client("summarizer-v1").summarization(text, generate_parameters={"max_new_tokens": 12}).summary_text
    assert len(short) < len(own)


@pytest.mark.parametrize("model,task", [
    ("embeddings-v2", "feature-extraction"), ("embeddings-v2", "sentence_similarity"), ("sentiment-v3", "text-classification"),
    ("ner-v2", "token-classification"), ("text-classifier-v2", "zero_shot_classification"), ("summarizer-v1", "summarization"),
])
def test_tasks_by_name(rest, model, task):
    inputs = {"source_sentence": TEXT, "sentences": [TEXT]} if "similarity" in task else TEXT
    body = {"inputs": inputs, "parameters": {"candidate_labels": ["travel", "sport"]}, "options": {"wait_for_model": True}}
    assert rest.post(f"/models/{model}/pipeline/{task}", json=body).status_code == 200


SECRET = "a secret of the caller"


@pytest.mark.parametrize("path,body,status", [
    ("/hf/nobody", {"inputs": SECRET}, 404),
    ("/models/ner-v2/pipeline/translation", {"inputs": SECRET}, 404),
    ("/models/ner-v2/pipeline/summarization", {"inputs": SECRET}, 400),
    ("/hf/ner-v2", {}, 400),
    ("/hf/ner-v2", {"inputs": 5}, 400),
    ("/hf/ner-v2", {"inputs": ""}, 400),
    ("/hf/ner-v2", {"inputs": SECRET, "parameters": {"aggregation_strategy": SECRET}}, 400),
    ("/hf/ner-v2", {"inputs": SECRET, "parameters": []}, 400),
    ("/hf/sentiment-v3", {"inputs": SECRET, "parameters": {"top_k": 0}}, 400),
    ("/hf/sentiment-v3", {"inputs": SECRET, "parameters": {"function_to_apply": "relu"}}, 400),
    ("/hf/text-classifier-v2", {"inputs": SECRET, "parameters": {"candidate_labels": []}}, 400),
    ("/hf/text-classifier-v2", {"inputs": SECRET, "parameters": {"candidate_labels": ["a", "a"]}}, 400),
    ("/hf/embeddings-v2", {"inputs": {"source_sentence": SECRET}}, 400),
    ("/hf/embeddings-v2", {"inputs": SECRET, "dimensions": 1000}, 400),
])
def test_errors_have_its_form(rest, path, body, status):
    answer = rest.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"} and SECRET not in answer.text


def test_the_client_sees_what_is_wrong(server):
    with pytest.raises(HfHubHTTPError) as refused:
        InferenceClient(model=f"http://{server.api}/hf/ner-v2", token="tc_live_unknown").token_classification("a")
    assert refused.value.response.status_code == 401
    assert set(httpx.get(f"http://{server.api}/hf/ner-v2").json()) == {"error"}
