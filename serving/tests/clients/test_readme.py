"""The examples of README and API guide, run as they stand: the answers shown are the answers given."""

import json
import re

import pytest
from conftest import HAS_BF16, ROOT

# The examples were made in bfloat16, and CPUs differ in how they round it.
TOLERANCE = 2e-3 if HAS_BF16 else 5e-3
EXAMPLE = re.compile(r"^\$ ml (\w+) '(.*)'\n((?:[{ ].*\n)+)", re.MULTILINE)


PAGES = "README.md", "docs/api.md"


def examples():
    found = [example for page in PAGES for example in EXAMPLE.findall((ROOT / page).read_text())]
    return [pytest.param(route, body, answer, id=f"{route}-{i}") for i, (route, body, answer) in enumerate(found)]


def test_there_is_one_for_each_model():
    routes = {parameter.values[0] for parameter in examples()}
    assert routes == {"classify", "sentiment", "entities", "summarize", "embeddings", "rerank", "tokenize"}


@pytest.mark.parametrize("route, body, shown", examples())
def test_example(rest, route, body, shown):
    headers = {"Content-Type": "application/json"}
    given = rest.post(f"/v1/ml/{route}", content=body.encode(), headers=headers).json()
    assert_alike(given, json.loads(shown.replace("\n", "")))


def assert_alike(given, shown, path=""):
    """Equal, but for the ids of requests and for what CPUs with and without products of bfloat16 give."""
    if isinstance(shown, dict):
        assert given.keys() == shown.keys(), path
        for key in shown:
            if key == "docs_url":
                # Its beginning is the server's address.
                assert given[key].partition("/docs/")[2] == shown[key].partition("/docs/")[2], path
            elif key != "request_id":
                assert_alike(given[key], shown[key], f"{path}.{key}")
    elif isinstance(shown, list):
        assert len(given) == len(shown), path
        for i, (left, right) in enumerate(zip(given, shown)):
            assert_alike(left, right, f"{path}[{i}]")
    elif isinstance(shown, float):
        assert given == pytest.approx(shown, abs=TOLERANCE), path
    else:
        assert given == shown, path
