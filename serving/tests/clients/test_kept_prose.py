"""Summaries keep prose and nothing else, however it is spaced, wrapped, marked up or put beside logs and
headers."""

import textwrap

import pytest

FACTS = ["The harbour sold two old cranes to a yard in Narvik last week.",
         "Fuel costs fell by four percent while the number of ships grew.",
         "A third dock will be built in Bergen by the end of the year.",
         "The council asked for a new plan because the road is too narrow.",
         "Three pilots left the service and nobody took their place."]


def summaries(rest, texts, max_sentences=50):
    body = {"inputs": texts, "parameters": {"max_sentences": max_sentences}}
    response = rest.post("/v1/ml/summarize", json=body)
    assert response.status_code == 200, response.text
    return response.json()["results"]


def check(rest, texts, expected):
    for text, result in zip(texts, summaries(rest, texts), strict=True):
        found = [" ".join(sentence["text"].split()) for sentence in result["sentences"]]
        assert found == expected, text
        for sentence in result["sentences"]:
            assert text[sentence["start"]:sentence["end"]] == sentence["text"]


@pytest.mark.parametrize("spaces", [1, 2, 3])
def test_spaces_behind_full_stops(rest, spaces):
    """A line with two double spaces was a row of a table, and typed letters lost most of their sentences."""
    prose = (" " * spaces).join(FACTS)
    texts = [prose] + [textwrap.fill(prose, width, drop_whitespace=True) for width in (40, 60, 72, 80)]
    check(rest, texts, FACTS)
    (letter,) = summaries(rest, [f"Dear Helen,\n\n{prose}\n\nKind regards\nThomas Reed"], 3)
    assert {sentence["text"] for sentence in letter["sentences"]} <= set(FACTS)


def test_prose_beside_what_is_none(rest):
    """Prose directly below a log went with it; what wraps a text stood in its summary."""
    beside = [
        "Nov 27 13:00:01 host sshd[1]: Failed password\nNov 27 13:00:02 host sshd[1]: Failed again",
        "INFO:root:Starting server\nERROR:app:Out of memory",
        "npm WARN deprecated foo@1.0.0\nnpm ERR! code E404",
        "$ cd /srv\n$ ls -la\ntotal 12",
        "diff --git a/x.c b/x.c\n--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-It was so.\n+It is so.",
        "Subject: Cranes\nMIME-Version: 1.0\nContent-Type: text/plain",
        "GET / HTTP/1.1\nHost: example.com\nUser-Agent: curl/8",
        "-----BEGIN PGP SIGNATURE-----\n\niQEzBAEBCAAdFiEE/def==\n-----END PGP SIGNATURE-----",
        "1 Introduction ........ 3\n2 Methods ........ 7",
        "<config>\n  <port>80</port>\n</config>",
    ]
    prose = "\n".join(FACTS)
    check(rest, [f"{part}\n{prose}" for part in beside] + [f"{prose}\n{part}" for part in beside], FACTS)


def test_markup(rest):
    """Lines with tags were code, and comments and styles were sentences."""
    page = "".join(f"<p>{fact}</p><!-- A note. It is none. -->" for fact in FACTS)
    head = "<html><head><style>p { color: red; }</style><script>say(\"It is. Yes.\");</script></head><body>"
    items = "\n".join(f"<item>{fact}</item>" for fact in FACTS)
    check(rest, [f"{head}{page}</body></html>", page.replace("</p>", "</p>\n"), items, page.replace("p>", "div>")], FACTS)


@pytest.mark.parametrize("header", ["CONFIDENTIAL", "Annual Report 2025 | {}", "12/{} THE SHIPPING REVIEW"])
def test_headers_of_pages(rest, header):
    pages = [f"{header.format(page)}\n{fact}" for page, fact in enumerate(FACTS, 1)]
    check(rest, ["\n".join(pages), "\f".join(pages)], FACTS)
    # A page ends within a sentence: the summary has the sentence without the header.
    halves = [fact.split(" in " if " in " in fact else " the ", 1) for fact in FACTS[:3]]
    text = "\n".join(f"{first} in\n{header.format(page)}\n{'the ' + rest_}" for page, (first, rest_) in enumerate(halves, 1))
    (result,) = summaries(rest, [text])
    assert len(result["sentences"]) == 3 and header[:8].format(1) not in result["summary"]


@pytest.mark.parametrize("mark", ["{}. ", "{}) ", "({}) ", "{} ", "{}: ", "Item {}: ", "Step {}. ", "[{}] ", "[10:0{}] ", "• {}. "])
def test_repeats_with_numbers(rest, mark):
    """One sentence in a list was taken as often as it had numbers."""
    lines = [mark.format(number) + FACTS[0] for number in range(1, 7)]
    (result,) = summaries(rest, ["\n".join(lines)], 4)
    assert [sentence["text"] for sentence in result["sentences"]] == lines[:1]


def test_repeats_in_other_letters(rest):
    text = "The final café is closed. The \ufb01nal cafe\u0301 is closed. The fi\u00adnal café is clo\u200bsed. <b>The final ｃａｆé is closed.</b>"
    (result,) = summaries(rest, [text])
    assert len(result["sentences"]) == 1
