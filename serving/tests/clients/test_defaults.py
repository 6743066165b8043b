"""Which model answers does not depend on whether a card can be read, and a card that cannot takes nothing
down but itself."""

import shutil

import httpx
import pytest
from conftest import KEY, ROOT, start, stop

HEADERS = {"Authorization": f"Bearer {KEY}"}
NAMES = ["embeddings-v2", "sentiment-v3", "text-classifier-v2"]


def folder(tmp_path, *changes):
    """A folder of cards; each change is a card's name, what in it is replaced, and by what."""
    cards = tmp_path / "cards"
    for name in NAMES:
        shutil.copytree(ROOT / "model-cards" / name, cards / name)
    for name, old, new in changes:
        if not (cards / name).exists():
            shutil.copytree(cards / "embeddings-v2", cards / name)
        card = cards / name / "README.md"
        text = card.read_text()
        assert old in text
        card.write_text(new if old == "" else text.replace(old, new))
    return cards


def answered(server, path, **body):
    """The model that answers, or the status and code."""
    answer = httpx.post(f"http://{server.api}/v1/ml/{path}", json={"inputs": ["A text."], **body}, headers=HEADERS)
    found = answer.json()
    return found["model"] if answer.status_code == 200 else (answer.status_code, found["error"]["code"])


GONE = (503, "model_unavailable")
SECOND = ("aaa", "name: embeddings-v2", "name: aaa")


@pytest.mark.parametrize("changes, expected", [
    ([("embeddings-v2", "task: embeddings", "task: embeddingz"), SECOND], GONE),
    ([("embeddings-v2", "task: embeddings", "task: embeddingz")], GONE),
    ([("embeddings-v2", "  limits: {", "  limits: {{")], GONE),
    ([("embeddings-v2", "", "")], GONE),
], ids=["misspelt-beside-another", "misspelt", "no-yaml", "empty"])
def test_a_card_that_cannot_be_read_takes_down_itself_alone(request, tmp_path, changes, expected):
    # The second is copied while the first can still be read.
    cards = folder(tmp_path, *reversed(changes))
    config = tmp_path / "c.toml"
    config.write_text("models.embeddings-v2.required = false\n")
    # That it starts is that it is ready.
    server = start(request, tmp_path, "--config", str(config), cards=cards)
    try:
        assert answered(server, "embeddings") == expected
        assert answered(server, "embeddings", model="embeddings-v2") == GONE
        assert answered(server, "sentiment") == "sentiment-v3"
        assert answered(server, "classify") == "text-classifier-v2"
        assert answered(server, "classify", parameters={"labels": ["cooking", "sport"]}) == GONE
    finally:
        stop(server)


def test_two_claims_are_refused_whether_or_not_they_can_be_read(request, tmp_path):
    cards = folder(tmp_path, SECOND, ("embeddings-v2", "  limits: {", "  limits: {{"))
    with pytest.raises(RuntimeError, match="aaa and embeddings-v2 both say"):
        start(request, tmp_path, cards=cards)
