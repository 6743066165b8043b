"""Classes one by one: probabilities where the card says how, and a refusal with the reason where it does not."""

import json
import re
import shutil

import httpx
import pytest
from conftest import KEY, ROOT, start, stop

CARD = ROOT / "model-cards/text-classifier-v2"
ONE_BY_ONE = {"multi_label": True}
DOCUMENTS = {
    "invoice": "Invoice 2024-118. Bill to: Harbour Freight Ltd. 12 pallets at EUR 38.00. Total due EUR 500.00 within 30 days.",
    "contract": "This agreement is made between Hale Ltd and Norcross GmbH. Either party may terminate it with three months' notice. "
                "The contractor shall keep all information confidential.",
    "resume": "Jane Doe. Work experience: software engineer at Acme, 2018 to 2023; intern at Globex. Education: BSc in computer "
              "science. Skills: Python, SQL, Docker. Languages: English, German.",
    "support_ticket": "Since the update I cannot log in any more: the app says that my password is wrong, and the reset mail never "
                      "comes. Please help, I have tried it on two phones.",
    "meeting_notes": "Weekly sync, 3 March. Present: Ann, Bob, Carla. Decided: move the release to Friday. Action: Bob to update the "
                     "plan by Wednesday. Next meeting on Monday.",
    "news": "At least twelve people were injured on Tuesday when a train derailed near Lyon, the fire service said. The line was "
            "closed and the interior minister was expected at the scene.",
}
# None is in the card's data.
OTHER = ["What time does the shop on the corner open tomorrow?", "Did you remember to water the plants on the balcony?",
         "The rabbit put on his waistcoat and hurried down the lane, for he was late for tea.",
         "Peel the apples, slice them thinly and lay them on the pastry.", "Penguins cannot fly, but they swim very well.",
         "My sister plays the violin and my brother plays the fool.", "How tall is the Eiffel Tower?", "Good evening, everybody!"]


def classify(rest, inputs, **parameters):
    return rest.post("/v1/ml/classify", json={"inputs": inputs, "parameters": ONE_BY_ONE | parameters})


def above(result):
    return [label["label"] for label in result["labels"] if label["score"] > 0.5]


def texts(name):
    return [json.loads(line) for line in (CARD / "data" / f"{name}.jsonl").read_text().splitlines()]


def test_documents_have_their_class_and_other_texts_have_none(rest):
    results = classify(rest, [*DOCUMENTS.values(), *OTHER]).json()["results"]
    assert all(len(result["labels"]) == 11 for result in results)
    documents, other = results[: len(DOCUMENTS)], results[len(DOCUMENTS) :]
    assert [result["labels"][0]["label"] for result in documents] == list(DOCUMENTS)
    # News of two sentences may stay below a half.
    assert [above(result) for result in documents[:-1]] == [[label] for label in list(DOCUMENTS)[:-1]]
    assert above(documents[-1]) in ([], ["news"])
    assert [above(result) for result in other] == [[]] * len(OTHER)


def test_the_cards_own_texts(rest):
    """As the card's table has it, computed by the server."""
    documents, none = texts("test"), texts("none-test")
    found = classify(rest, [text["text"] for text in documents]).json()["results"]
    own = sum(text["label"] in above(result) for text, result in zip(documents, found))
    other = sum(set(above(result)) - {text["label"]} != set() for text, result in zip(documents, found))
    assert own >= 0.93 * len(documents) and other <= 2, (own, other)
    found = classify(rest, [text["text"] for text in none]).json()["results"]
    assert sum(above(result) != [] for result in found) <= 1


def test_the_same_over_grpc(rest, stub, proto, metadata):
    (expected,) = classify(rest, OTHER[0]).json()["results"]
    (found,) = stub.Classify(proto.ClassifyRequest(inputs=[OTHER[0]], multi_label=True), metadata=metadata).results
    assert [label.label for label in found.labels] == [label["label"] for label in expected["labels"]]
    assert max(label.score for label in found.labels) < 0.5


@pytest.mark.parametrize("value", [None, "independent"])
def test_cards_without_a_calibration(request, tmp_path, value):
    """Of a checkpoint that says nothing the scores one by one would be no probabilities; of one that was
    trained so they are."""
    cards = tmp_path / "cards"
    for name in "text-classifier-v2", "embeddings-v2":
        shutil.copytree(ROOT / "model-cards" / name, cards / name)
    card = cards / "text-classifier-v2" / "README.md"
    stated = f"  multi_label: {value}\n" if value else ""
    text, count = re.subn(r"(?m)^  multi_label:\n(?:    .*\n)+", lambda _: stated, card.read_text())
    assert count == 1
    card.write_text(text)
    server = start(request, tmp_path, cards=cards)
    try:
        with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as rest:
            answer = classify(rest, OTHER[0])
            if value:
                assert len(answer.json()["results"][0]["labels"]) == 11
            else:
                error = answer.json()["error"]
                assert (answer.status_code, error["code"]) == (400, "invalid_parameter")
                assert "exclude each other" in error["message"] and "parameters.labels" in error["message"]
            # The caller's own are scored one by one with either.
            assert classify(rest, OTHER[0], labels=["shopping", "war"]).status_code == 200
            # And against each other, as ever.
            assert rest.post("/v1/ml/classify", json={"inputs": OTHER[0]}).status_code == 200
    finally:
        stop(server)
