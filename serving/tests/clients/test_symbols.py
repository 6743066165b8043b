"""Symbols, compatible forms of letters, characters that are not seen, unknown tokens: with the real models,
over both transports."""

import json
import random
import re
import shutil

import httpx
import pytest

from conftest import KEY, ROOT, start, stop

EMOJI = ["😡", "😀", "👍", "👍🏽", "❤️", "🙏", "✨", "🔥", "🎉", "👨‍👩‍👧", "🇩🇪", "®", "™", "★", "→", "\uf0b7"]
OPINIONS = {
    "negative": ["The service was awful", "Our room was dirty", "The parcel came late and the box was broken",
                 "I am very disappointed", "This is the worst hotel"],
    "positive": ["I love this phone", "Great support, thank you", "The app works perfectly", "Excellent food",
                 "What a wonderful day"],
}
ROUTES = ["classify", "sentiment", "entities", "summarize", "embeddings"]


def post(rest, route, inputs, **parameters):
    response = rest.post(f"/v1/ml/{route}", json={"inputs": inputs, "parameters": parameters})
    assert response.status_code == 200, response.text
    return response.json()["results"]


def refusal(rest, route, inputs, **parameters):
    response = rest.post(f"/v1/ml/{route}", json={"inputs": inputs, "parameters": parameters})
    return response.status_code, response.json()["error"]["code"]


def cosine(rest, *texts, **parameters):
    left, right = (result["embedding"] for result in post(rest, "embeddings", list(texts), **parameters))
    return sum(a * b for a, b in zip(left, right))


def sliced(text, entry, unit):
    start, end = entry["start"], entry["end"]
    if unit == "codepoint":
        return text[start:end]
    width, encoding = (1, "utf-8") if unit == "byte" else (2, "utf-16-le")
    return text.encode(encoding)[start * width:end * width].decode(encoding)


def test_a_symbol_beside_a_word_does_not_hide_it(rest):
    for label, texts in OPINIONS.items():
        for text in texts:
            forms = [form for emoji in EMOJI for form in (text + emoji, f"{text} {emoji}", f"{emoji}{text}", text + 3 * emoji)]
            found = [result["label"] for result in post(rest, "sentiment", forms)]
            assert found == [label] * len(forms), [form for form, other in zip(forms, found) if other != label]


NAMES = [
    ("Thanks to Helen🎉 and Omar👍🏽 in Lisbon🇵🇹!", [("Helen", "PER"), ("Omar", "PER"), ("Lisbon", "LOC")]),
    ("🚀📷 Helen Park 👩‍💻 met Thomas Reed in Geneva 🇨🇭 today.",
     [("Helen Park", "PER"), ("Thomas Reed", "PER"), ("Geneva", "LOC")]),
    ("Helen Park🎉Thomas Reed", [("Helen Park", "PER"), ("Thomas Reed", "PER")]),
    ("★Helen Park★ ♥ Oslo", [("Helen Park", "PER"), ("Oslo", "LOC")]),
    ("Call Helen Park☎ at Siemens®, Munich📍", [("Helen Park", "PER"), ("Siemens", "ORG"), ("Munich", "LOC")]),
    ("We bought shares of Nestlé® and of Samsung™.", [("Nestlé", "ORG"), ("Samsung", "ORG")]),
    ("Ｓｉｅｍｅｎｓ opened in Ｂｅｒｌｉｎ", [("Ｓｉｅｍｅｎｓ", "ORG"), ("Ｂｅｒｌｉｎ", "LOC")]),
    ("He lives in Am\u00adster\u00addam now", [("Am\u00adster\u00addam", "LOC")]),
    ("Mr. Reed moved to Ham-\nburg in May.", [("Reed", "PER"), ("Ham-\nburg", "LOC")]),
]


@pytest.mark.parametrize("unit", ["codepoint", "byte", "utf16"])
@pytest.mark.parametrize("aggregation", ["simple", "first", "average", "max"])
def test_names_are_without_symbols(rest, aggregation, unit):
    texts = [text for text, _ in NAMES]
    for (text, expected), result in zip(NAMES, post(rest, "entities", texts, aggregation=aggregation, offset_unit=unit)):
        assert [(e["text"], e["label"]) for e in result["entities"]] == expected, text
        assert all(sliced(text, e, unit) == e["text"] for e in result["entities"]), text


def test_names_over_grpc(stub, proto, metadata):
    for text, expected in NAMES:
        request = proto.ExtractEntitiesRequest(inputs=[text], offset_unit=proto.OFFSET_UNIT_UTF16)
        (result,) = stub.ExtractEntities(request, metadata=metadata).results
        assert [(e.text, e.label) for e in result.entities] == expected, text
        for entity in result.entities:
            assert sliced(text, {"start": entity.start, "end": entity.end}, "utf16") == entity.text


PLAIN = [
    ("ｆｕｌｌｗｉｄｔｈ　ｉｎｖｏｉｃｅ", "fullwidth invoice"),
    ("The ﬁnal oﬀer is ﬂat and the oﬃce is eﬃcient.", "The final offer is flat and the office is efficient."),
    ("𝐁𝐨𝐥𝐝 𝑖𝑛𝑣𝑜𝑖𝑐𝑒", "Bold invoice"),
    ("a trans\u00adac\u00adtion of the ac\u200bcount", "a transaction of the account"),
    ("a trans-\naction of the depart-\n  ment", "a transaction of the department"),
    ("page one ends here\fpage two begins here", "page one ends here page two begins here"),
    ("line one\vline two\x85line three\x1eline four\u2028line five\u2029line six",
     "line one line two line three line four line five line six"),
    ("don´t", "don't"),
    ("item①First", "item 1 First"),
]


@pytest.mark.parametrize("written, plain", PLAIN)
def test_plain_characters(rest, stub, proto, metadata, written, plain):
    assert cosine(rest, written, plain, normalize_text=True) > 0.9999
    request = proto.EmbedRequest(inputs=[written, plain], normalize_text=True)
    left, right = (result.embedding for result in stub.Embed(request, metadata=metadata).results)
    assert sum(a * b for a, b in zip(left, right)) > 0.9999
    # Trained models read so always.
    left, right = post(rest, "sentiment", [written, plain])
    assert left["scores"] == pytest.approx(right["scores"], abs=1e-3) and left["tokens"] == right["tokens"]


def test_embeddings_are_the_references_unless_asked(rest):
    written, plain = PLAIN[0]
    assert cosine(rest, written, plain) < 0.5
    assert cosine(rest, written, plain, normalize_text=False) < 0.5
    models = {m["name"]: m["normalize_text"] for m in rest.get("/v1/ml/models").json()["models"]}
    assert models == {"embeddings-v2": False, "ner-v2": True, "sentiment-v3": True, "summarizer-v1": True,
                      "text-classifier-v2": True}
    for route in "sentiment", "entities", "summarize", "classify":
        assert refusal(rest, route, "text", normalize_text=True) == (400, "invalid_request")


@pytest.mark.parametrize("text, tokens, unknown, nothing", [
    ("Known words.", 5, 0, False),
    ("🦖", 3, 1, True),
    ("🦖 🚗 ᚠᚢᚦ", 5, 3, True),
    ("🦖 known", 4, 1, False),
    ("\ue000\ue001", 4, 2, True),
    ("known \uf8ff", 4, 1, False),
    ("x [SEP] y", 7, 0, False),
    ("[PAD]", 5, 0, False),
])
def test_what_is_not_known_is_said(rest, stub, proto, metadata, text, tokens, unknown, nothing):
    calls = [stub.Classify, stub.AnalyzeSentiment, stub.ExtractEntities, stub.Summarize, stub.Embed]
    requests = [proto.ClassifyRequest, proto.AnalyzeSentimentRequest, proto.ExtractEntitiesRequest, proto.SummarizeRequest,
                proto.EmbedRequest]
    for route, call, request in zip(ROUTES, calls, requests):
        (result,) = post(rest, route, text)
        assert (result["tokens"], result["unknown_tokens"], result["nothing_recognized"]) == (tokens, unknown, nothing), route
        (result,) = call(request(inputs=[text]), metadata=metadata).results
        report = result.report
        assert (report.tokens, report.unknown_tokens, report.nothing_recognized) == (tokens, unknown, nothing), route


@pytest.mark.parametrize("token", ["[SEP]", "[PAD]", "[MASK]", "[CLS]", "[UNK]"])
def test_names_of_control_tokens_are_text(rest, token):
    for text in token, f"x {token} y", f"x{token}y", token * 3:
        expected = post(rest, "embeddings", text.replace("[", " [ ").replace("]", " ] "))[0]
        result = post(rest, "embeddings", text)[0]
        assert result["tokens"] == expected["tokens"] >= 5 and result["unknown_tokens"] == 0, text
        assert result["embedding"] == pytest.approx(expected["embedding"], abs=1e-6), text
    # In labels, too.
    (result,) = post(rest, "classify", "A comet was seen.", labels=["astronomy", f"cooking {token}", token])
    assert result["labels"][0]["label"] == "astronomy"


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_empty(rest, route):
    for text in "", " \n\t", "\u3000\u2028\x85", "\u200b", "\ufeff\u00ad", "\x01\x02\x1e", "\u200e\ufe0f":
        assert refusal(rest, route, ["a", text]) == (400, "empty_input"), repr(text)
    for text in "\ue000\ue001", "\U000f0000", "\u0378", "🦖", "।", "\ufffd":
        (result,) = post(rest, route, text)
        assert result["tokens"] >= 2, repr(text)


@pytest.mark.parametrize("labels, place", [(["🐱", "🚗", "cat"], 0), (["cat", "🐱"], 1), (["cat", "\ue000"], 1)])
def test_labels_of_which_nothing_is_known_are_refused(rest, stub, proto, metadata, labels, place):
    response = rest.post("/v1/ml/classify", json={"inputs": "A comet was seen.", "parameters": {"labels": labels}})
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "invalid_parameter") and f"label {place} " in error["message"]


PIECES = ["Helen", "Park", "in", "Oslo", ".", " ", "\n", "-\n", "ﬁ", "Ａ", "１", "é", "e\u0301", "\u00ad", "\u200b", "\u200d", "\ufe0f", "®",
          "™", "€", "😡", "👍🏽", "👨‍👩‍👧", "🇩🇪", "🇩", "1️⃣", "½", "℃", "①", "你", "ไทย", "\ue000", "\f", "\x85", "\u2028", "[SEP]", "ﷺ", "ß", "İ"]


@pytest.mark.parametrize("unit", ["codepoint", "byte", "utf16"])
def test_offsets_are_of_the_text_as_it_was_sent(rest, unit):
    draw = random.Random(11)
    texts = ["Helen " + "".join(draw.choice(PIECES) for _ in range(draw.randrange(1, 40))) for _ in range(96)]
    for aggregation in "none", "simple", "first":
        for text, result in zip(texts, post(rest, "entities", texts, aggregation=aggregation, offset_unit=unit)):
            last = 0
            for entity in result["entities"]:
                assert sliced(text, entity, unit) == entity["text"], (text, entity)
                assert entity["start"] >= last or aggregation == "none", (text, entity)
                last = entity["end"]
    for text, result in zip(texts, post(rest, "summarize", texts, offset_unit=unit, max_sentences=50)):
        assert all(sliced(text, sentence, unit) == sentence["text"] for sentence in result["sentences"]), text


@pytest.fixture(scope="module")
def unchanged(request, tmp_path_factory):
    """A server whose cards leave texts as they are."""
    cards = tmp_path_factory.mktemp("unchanged") / "cards"
    shutil.copytree(ROOT / "model-cards", cards)
    for card in cards.glob("*/README.md"):
        card.write_text("".join(l for l in card.read_text().splitlines(True) if "normalize_text: true" not in l))
    server = start(request, tmp_path_factory.mktemp("server"), cards=cards)
    with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
        yield client
    stop(server)


def answers(rest, card):
    """What a trained model says of its test texts."""
    data = ROOT / "model-cards" / card / "data"
    if card == "ner-v2":
        texts = [re.sub(r"\[([^\]]*)\]\((\w+)\)", r"\1", line) for line in (data / "test.txt").read_text().splitlines() if line]
    else:
        texts = [json.loads(line)["text"] for line in (data / "test.jsonl").open()]
    route = {"ner-v2": "entities", "sentiment-v3": "sentiment", "text-classifier-v2": "classify"}[card]
    results = [result for start in range(0, len(texts), 64) for result in post(rest, route, texts[start:start + 64])]
    if card == "ner-v2":
        return [[(e["text"], e["label"]) for e in result["entities"]] for result in results]
    return [result.get("label") or result["labels"][0]["label"] for result in results]


@pytest.mark.parametrize("card", ["ner-v2", "sentiment-v3", "text-classifier-v2"])
def test_the_test_sets_have_the_answers_that_they_had(rest, unchanged, card):
    assert answers(rest, card) == answers(unchanged, card)
