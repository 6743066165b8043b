"""What texts come to, with the real models: names in lists, sentences, summaries, labels, cut texts. Both
transports."""

import itertools
import random
import textwrap
from pathlib import Path

import pytest

CASES = Path(__file__).resolve().parents[3] / "models/src/segment/cases.txt"
PROSE = ("// News", "// Contracts", "// Science and numbers", "// Quotes and brackets")

PEOPLE = ["Helen Park", "Omar Haddad", "Ingrid Solberg", "Victor Klein", "Laura Bianchi", "Thomas Reed", "Sofia Ramos",
          "Daniel Cohen", "Grace Kim", "Martin Novak"]
PLACES = ["Lisbon", "Kyiv", "Toronto", "Nairobi", "Geneva", "Helsinki", "Bergen", "Glasgow", "Denver", "Cairo"]
COMPANIES = ["Nokia", "Ericsson", "Philips", "Danone", "Unilever", "Boeing", "Nestlé", "Western Steel AG", "Oracle",
             "Harbour Freight Ltd"]
SEPARATORS = ["\n", "\r\n", "\n\n", "\r\n\r\n", "\t", "\t\t", "\n- ", "\n• ", " | ", "; ", "    ", "\n\t"]


def post(rest, route, inputs, **parameters):
    response = rest.post(f"/v1/ml/{route}", json={"inputs": inputs, "parameters": parameters})
    assert response.status_code == 200, response.text
    return response.json()["results"]


def entities(rest, text, **parameters):
    (result,) = post(rest, "entities", text, **parameters)
    return [(entity["text"], entity["label"]) for entity in result["entities"]]


def summary(rest, text, max_sentences, **parameters):
    (result,) = post(rest, "summarize", text, max_sentences=max_sentences, **parameters)
    return [sentence["text"] for sentence in result["sentences"]]


def batched(items, size):
    items = list(items)
    return [items[start : start + size] for start in range(0, len(items), size)]


def cases(sections):
    """The texts of the segmenter's own table, with their sentences."""
    section = None
    for line in CASES.read_text().splitlines():
        if line.startswith("//"):
            section = line
        elif line and section in sections and not set(line) & set("⏎→"):
            yield line.replace(" ¦ ", " ").replace("¦", ""), [part.strip() for part in line.split("¦") if part.strip()]


@pytest.mark.parametrize("aggregation", ["simple", "first", "average", "max"])
@pytest.mark.parametrize("kind, names", [("PER", PEOPLE), ("LOC", PLACES), ("ORG", COMPANIES)])
def test_lists_are_read_name_by_name(rest, kind, names, aggregation):
    """Of lists of four names, one a line, none was read right; of companies the model misses some in a text
    without commas."""
    draw = random.Random(5)
    for separator in SEPARATORS:
        lists = [draw.sample(names, 4) for _ in range(20)]
        texts = [separator.join(names) for names in lists]
        results = post(rest, "entities", texts, aggregation=aggregation)
        right = 0
        for text, names_, result in zip(texts, lists, results):
            found = [entity["text"] for entity in result["entities"]]
            assert not any(set(name) & set("\r\n\t|;•") for name in found), (text, found)
            right += found == names_
        # By themselves, tokens of one word may begin several names.
        least = 16 if aggregation == "simple" else 18
        assert right >= least, f"{separator!r}: {right} of 20"


def test_letters_resumes_and_tables(rest):
    def check(text, *expected):
        assert entities(rest, text) == list(expected), text

    check("Attendees:\nHelen Park\nOmar Haddad", ("Helen Park", "PER"), ("Omar Haddad", "PER"))
    check("The memo was written by Helen Park\n\nThomas Reed answered on Monday.",
          ("Helen Park", "PER"), ("Thomas Reed", "PER"))
    check("Helen Park\t\tLisbon\n\nThomas Reed\t\tGeneva\n",
          ("Helen Park", "PER"), ("Lisbon", "LOC"), ("Thomas Reed", "PER"), ("Geneva", "LOC"))
    check("| Name | City |\n|---|---|\n| Helen Park | Lisbon |\n| Thomas Reed | Geneva |",
          ("Helen Park", "PER"), ("Lisbon", "LOC"), ("Thomas Reed", "PER"), ("Geneva", "LOC"))
    check("1. Helen Park\n2. Thomas Reed\n3. Grace Kim\n", ("Helen Park", "PER"), ("Thomas Reed", "PER"), ("Grace Kim", "PER"))
    # A name that a line break is in, because the line was full.
    found = entities(rest, "The contract was signed by the managers in the office in New\nYork, and then sent to Helen Park by mail.")
    assert found == [("New\nYork", "LOC"), ("Helen Park", "PER")]


def test_lists_over_grpc(stub, proto, metadata):
    text = "Helen Park\nThomas Reed\nGrace Kim"
    request = proto.ExtractEntitiesRequest(inputs=[text])
    (result,) = stub.ExtractEntities(request, metadata=metadata).results
    assert [entity.text for entity in result.entities] == text.split("\n")


def test_tokens_by_themselves_keep_their_labels(rest, stub, proto, metadata):
    text = "Angela Merkel lives in Berlin."
    found = entities(rest, text, aggregation="none")
    assert found[0] == ("Angela", "B-PER") and found[1][1] == "I-PER" and found[-1] == ("Berlin", "B-LOC")
    request = proto.ExtractEntitiesRequest(inputs=[text], aggregation=proto.AGGREGATION_NONE)
    (result,) = stub.ExtractEntities(request, metadata=metadata).results
    assert [(entity.text, entity.label) for entity in result.entities] == found


@pytest.mark.parametrize("truncation", ["end", "start"])
def test_cut_texts_have_no_parts_of_names(rest, truncation):
    """The text was cut within a name, and its first letters were one."""
    name = "Szczepankiewicz"
    texts = []
    for words in range(498, 512):
        filler = "the ship sailed home and then " * 90
        filler = " ".join(filler.split()[:words])
        texts.append(f"{filler} {name} of Oslo left." if truncation == "end" else f"In Oslo {name} {filler}")
    for text, result in zip(texts, post(rest, "entities", texts, truncation=truncation)):
        words = set(text.replace(".", "").split())
        for entity in result["entities"]:
            assert set(entity["text"].split()) <= words, entity


def test_sentences(rest):
    """The segmenter's table, through the server: a summary of as many sentences as there are is all of them."""
    texts, expected = zip(*cases(PROSE))
    assert len(texts) > 80
    for batch in batched(zip(texts, expected), 32):
        results = post(rest, "summarize", [text for text, _ in batch], max_sentences=50)
        for (text, sentences), result in zip(batch, results):
            assert [sentence["text"] for sentence in result["sentences"]] == sentences, text


@pytest.mark.parametrize("width", [30, 45, 60, 72, 80])
def test_wrapped_lines(rest, width):
    texts, expected = zip(*cases(PROSE[:1]))
    paragraphs = [" ".join(group) for group in batched(texts, 4)]
    # A summary has each sentence once.
    whole = [list(dict.fromkeys(itertools.chain(*group))) for group in batched(expected, 4)]
    wrapped = [textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False) for text in paragraphs]
    for text, sentences, result in zip(wrapped, whole, post(rest, "summarize", wrapped, max_sentences=50)):
        assert [" ".join(sentence["text"].split()) for sentence in result["sentences"]] == sentences, text


FACTS = ["The harbour sold two old cranes to a yard in Narvik last week.",
         "Fuel costs fell by four percent while the number of ships grew.",
         "A third dock will be built in Bergen by the end of the year.",
         "The council asked for a new plan because the road is too narrow.",
         "Three pilots left the service and nobody took their place."]


def test_summaries_do_not_repeat(rest):
    repeated = "The rent is late and has to be paid this week."
    assert summary(rest, " ".join([repeated] * 6), 3) == [repeated]
    assert summary(rest, " ".join([repeated] * 6 + FACTS[:1]), 2) == [repeated, FACTS[0]]
    # The same but for case, marks and white space.
    text = f"{repeated} {FACTS[1]}\n\nTHE RENT IS LATE, AND HAS TO BE  PAID THIS WEEK!"
    assert summary(rest, text, 3) == [repeated, FACTS[1]]
    found = summary(rest, " ".join(FACTS + ["Please do not print this message."] * 5), 3)
    assert len(found) == 3 and set(found) <= set(FACTS)


def test_summaries_leave_out_what_is_not_of_the_matter(rest):
    def check(text, allowed=FACTS, count=3):
        found = summary(rest, text, count)
        assert len(found) == count and set(found) <= set(allowed), found

    check("\n\n".join(f"Bay Shipping Ltd. - Internal - Page {page} of 5\n\n{fact}" for page, fact in enumerate(FACTS, 1)))
    check("\n\n".join(f"Annual Review\n\n{fact}\n\n{page}" for page, fact in enumerate(FACTS, 1)))
    log = "\n".join(f"2026-03-0{day} 10:0{day}:00 WARN queue {day} is full after {day * 7} ms" for day in range(1, 10))
    check(f"{log}\n\n{' '.join(FACTS)}\n\n{log}")
    code = "def cost(ships):\n    total = sum(ship.fuel for ship in ships)\n    return total * 1.2\n\nprint(cost(load()))"
    check(f"{FACTS[0]} {FACTS[1]}\n\n{code}\n\n```\nx = cost([])\n```\n\n{FACTS[2]}")
    table = "Port\tShips\tTons\nBergen\t120\t9000\nNarvik\t80\t7000"
    check(f"{table}\n\n{' '.join(FACTS)}")
    check(f"{' '.join(FACTS)}\n\nThis e-mail and any attachments are confidential and intended solely for the addressee.")
    check(f"Dear Helen,\n\n{' '.join(FACTS[:3])}\n\nKind regards\nThomas Reed\nHead of Operations\nBay Shipping Ltd.", FACTS[:3])
    # Where there is nothing else, that is what there is.
    assert len(summary(rest, log, 1)) == 1


def test_summaries_of_very_many_sentences(rest):
    """Above 4,096 sentences they were taken in twos, and a summary of three had six."""
    found = summary(rest, " ".join(f"It is {number}." for number in range(4200)), 3)
    assert len(found) == 3 and all(sentence.count(".") == 1 for sentence in found)


def test_summaries_of_small_letters(rest):
    text = " ".join(f"the {n}th train was late because of the snow on the line." for n in range(20, 60))
    found = summary(rest, text, 2)
    assert len(found) == 2 and all(len(sentence.split()) == 12 for sentence in found)


def test_offset_units_of_summaries(rest, stub, proto, metadata):
    text = f"🎉 {FACTS[0]} É 🚢 {FACTS[1]}"

    def check(unit, slice_):
        (result,) = post(rest, "summarize", text, offset_unit=unit)
        over_grpc = proto.SummarizeRequest(inputs=[text], offset_unit=getattr(proto, f"OFFSET_UNIT_{unit.upper()}"))
        (message,) = stub.Summarize(over_grpc, metadata=metadata).results
        sentences = [(s["start"], s["end"], s["text"]) for s in result["sentences"]]
        assert sentences == [(s.start, s.end, s.text) for s in message.sentences]
        assert sentences and all(slice_(start, end) == part for start, end, part in sentences)

    check("codepoint", lambda start, end: text[start:end])
    check("byte", lambda start, end: text.encode()[start:end].decode())
    check("utf16", lambda start, end: text.encode("utf-16-le")[2 * start:2 * end].decode("utf-16-le"))


@pytest.mark.parametrize("labels", [
    ["astronomy", "astronomy "], ["astronomy", "Astronomy"], ["tax law", "tax\u00a0 law"], ["cooking", "coo\u200bking"],
    ["office", "o\ufb03ce"], ["music", "ｍｕｓｉｃ"], ["my 🐱", "my 🚗"],
])
def test_labels_that_cannot_be_told_apart(rest, labels):
    body = {"inputs": "The comet was seen.", "parameters": {"labels": ["football", *labels]}}
    response = rest.post("/v1/ml/classify", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "invalid_parameter")
    assert "label 2" in error["message"] and "label 1" in error["message"]
    assert not any(label in error["message"] for label in labels), "labels are not quoted"


def test_markup_is_not_held_against_the_limit_of_tokens(rest):
    """64 KB of it, where a text may have far fewer tokens."""
    for markup in "<style>" + "a{color:red} " * 5000 + "</style>", "<!--" + " not read" * 7000 + "-->", "<i></i>" * 9000:
        text = f"{markup}<p>Anna Schmidt lives in Oslo.</p>"
        (result,) = post(rest, "entities", text)
        assert result["tokens"] < 20, markup[:9]
        assert [entity["text"] for entity in result["entities"]] == ["Anna Schmidt", "Oslo"], markup[:9]
