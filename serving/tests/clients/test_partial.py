"""Calls of which some inputs cannot be read: an error in the place of each, the others computed, and they
alone charged."""

import json
import uuid

import grpc
import pytest
from conftest import scraped, start, stop
from test_tenants import as_tenant, limited, make, settled

LONG = "word " * 600  # More than one window.
DOCUMENT = "word " * 20_001  # More than any document may have.
GOOD = "Angela Merkel visited the Siemens plant in Oslo. The workers were happy to see her there."
ROUTES = {"classify": "Classify", "sentiment": "AnalyzeSentiment", "entities": "ExtractEntities", "summarize": "Summarize",
          "embeddings": "Embed"}
REQUESTS = {"classify": "ClassifyRequest", "sentiment": "AnalyzeSentimentRequest", "entities": "ExtractEntitiesRequest",
            "summarize": "SummarizeRequest", "embeddings": "EmbedRequest"}
PARTIAL = {"on_error": "partial"}
# Micro-dollars an input, as the cards have it.
PRICES = {"classify": 100, "sentiment": 50, "entities": 150, "summarize": 500, "embeddings": 20}


@pytest.fixture(scope="module")
def limits(request, tmp_path_factory):
    running = start(request, tmp_path_factory.mktemp("partial"))
    yield running
    stop(running)


def post(rest, route, inputs, **parameters):
    return rest.post(f"/v1/ml/{route}", json={"inputs": inputs, "parameters": parameters})


def bad_inputs(route):
    return {"": "empty_input", "\u200b": "empty_input", "a\0b": "nul_character", DOCUMENT: "input_too_long"} | (
        {LONG: "input_too_long"} if route == "embeddings" else {})


@pytest.mark.parametrize("route", ROUTES)
def test_each_input_has_its_result_or_its_error(rest, route):
    (alone,) = post(rest, route, [GOOD]).json()["results"]
    inputs, codes = [], []
    for text, code in bad_inputs(route).items():
        inputs += [text, GOOD]
        codes += [code, None]
    answer = post(rest, route, inputs, **PARTIAL)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert len(body["results"]) == len(inputs)
    for index, (text, code, result) in enumerate(zip(inputs, codes, body["results"])):
        if code is None:
            assert result.keys() == alone.keys() and result["tokens"] == alone["tokens"]
            continue
        # The error that the call would have ended with, had the others been without fault.
        whole = post(rest, route, [GOOD] * index + [text])
        expected = whole.json()["error"]
        del expected["request_id"]
        assert whole.status_code == 400 and result == {"error": expected}, (text[:9], result)
        assert expected["code"] == code and f"inputs[{index}]" in expected["message"]
    good = codes.count(None)
    assert body["usage"] == {"inputs": good, "tokens": good * alone["tokens"]}
    # Fails by default, and if it is said.
    for parameters in {}, {"on_error": "fail"}:
        assert post(rest, route, inputs, **parameters).status_code == 400


@pytest.mark.parametrize("route", ROUTES)
def test_the_same_over_grpc(rest, stub, proto, metadata, route):
    inputs = [GOOD, *bad_inputs(route), GOOD]
    message = getattr(proto, REQUESTS[route])(inputs=inputs, on_error=proto.ON_ERROR_PARTIAL)
    expected = post(rest, route, inputs, **PARTIAL).json()

    def check(answer):
        assert (answer.usage.inputs, answer.usage.tokens) == (2, expected["usage"]["tokens"])
        assert len(answer.results) == len(inputs)
        for index, (result, other) in enumerate(zip(answer.results, expected["results"])):
            error = other.get("error")
            assert result.HasField("error") == (error is not None) and result.HasField("report") == (error is None)
            if error:
                found = result.error
                assert (found.code, found.message) == (error["code"], error["message"])
                assert (found.status, found.field) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], f"inputs[{index}]")

    check(getattr(stub, ROUTES[route])(message, metadata=metadata))
    name = {"embeddings": "embed"}.get(route, route)
    (answer,) = stub.InferStream(iter([proto.InferStreamRequest(correlation_id="1", **{name: message})]), metadata=metadata)
    check(getattr(answer, name))
    message.on_error = proto.ON_ERROR_FAIL
    with pytest.raises(grpc.RpcError) as error:
        getattr(stub, ROUTES[route])(message, metadata=metadata)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_errors_of_a_parameter_that_are_of_one_input(rest):
    short = "Go home. " + GOOD
    answer = post(rest, "summarize", [GOOD, short], max_tokens=6, **PARTIAL).json()
    assert answer["results"][0]["error"]["code"] == "invalid_parameter"
    assert "max_tokens" in answer["results"][0]["error"]["message"]
    assert answer["results"][1]["summary"] == "Go home."


def test_callers_own_labels(rest):
    labels = ["politics", "cooking"]
    alone = post(rest, "classify", [GOOD], labels=labels).json()
    answer = post(rest, "classify", ["", GOOD, "\0"], labels=labels, **PARTIAL).json()
    assert [("error" in result) for result in answer["results"]] == [True, False, True]
    assert [label["label"] for label in answer["results"][1]["labels"]] == [
        label["label"] for label in alone["results"][0]["labels"]]
    assert answer["usage"] == alone["usage"]
    # With no text to compare them with, labels are not read.
    assert post(rest, "classify", [""], labels=labels, **PARTIAL).json()["usage"] == {"inputs": 0, "tokens": 0}


def test_faults_of_the_call_are_the_calls(rest):
    def check(code, body, **headers):
        answer = rest.post("/v1/ml/embeddings", json=body, headers=headers)
        assert answer.json()["error"]["code"] == code, answer.text

    check("no_inputs", {"inputs": [], "parameters": PARTIAL})
    check("too_many_inputs", {"inputs": ["a"] * 129, "parameters": PARTIAL})
    check("invalid_request", {"inputs": ["a", None], "parameters": PARTIAL})
    check("invalid_parameter", {"inputs": ["a", ""], "parameters": PARTIAL | {"dimensions": 0}})
    check("model_not_found", {"inputs": ["a", ""], "model": "nobody", "parameters": PARTIAL})
    for value in "none", "Partial", 1, True, []:
        check("invalid_request", {"inputs": ["a"], "parameters": {"on_error": value}})
    # A deadline that cannot be met.
    slow = {"inputs": ["", *["word " * 19_000] * 60], "parameters": PARTIAL | {"truncation": "stride", "timeout_ms": 1}}
    answer = rest.post("/v1/ml/embeddings", json=slow)
    assert answer.status_code in (503, 504), answer.text[:200]


def test_only_what_was_computed_is_charged(request, limits):
    """Refused by a look: free. Refused after work: counts against the limit. Computed: charged."""
    key = make(request, limits, "partial", limited(40))["key"]
    with as_tenant(limits, key) as client:
        def call(route, inputs, **options):
            answer = client.post(f"/v1/ml/{route}", json={"inputs": inputs, "parameters": PARTIAL}, **options)
            assert answer.status_code == 200, answer.text
            left = int(answer.headers["ratelimit"].split("r=")[1].split(";")[0])
            return answer, left

        total = {"inputs": 0, "tokens": 0, "cost_micro_usd": 0, "completed": 0, "refused": 0}
        left_before = 40
        for route, price in PRICES.items():
            answer, left = call(route, [GOOD, "a\0b", DOCUMENT, GOOD])
            assert left_before - left == 3, (route, left_before, left)
            left_before = left
            usage = answer.json()["usage"]
            assert usage["inputs"] == 2
            total["inputs"] += 2
            total["tokens"] += usage["tokens"]
            total["cost_micro_usd"] += 2 * price
            total["completed"] += 1
        # Nothing computed: an answer, no charge. Refused by a look alone: not even a record.
        records = sample(limits, "usage_journal_records")
        answer, left = call("sentiment", ["a\0", "b\0"])
        assert (answer.json()["usage"], left) == ({"inputs": 0, "tokens": 0}, left_before)
        assert sample(limits, "usage_journal_records") == records
        answer, left = call("sentiment", ["a\0", DOCUMENT])
        assert (answer.json()["usage"], left_before - left) == ({"inputs": 0, "tokens": 0}, 1)
        assert sample(limits, "usage_journal_records") == records + 1
        total["refused"] += 1
        left_before = left

        # Sent again: the same answer, no charge, one of the limit.
        again = {"Idempotency-Key": uuid.uuid4().hex}
        first, left = call("embeddings", [GOOD, "", "a\0"], headers=again)
        replay, left_then = call("embeddings", [GOOD, "", "a\0"], headers=again)
        assert replay.json() == first.json() and replay.headers["idempotency-replayed"] == "true"
        assert left - left_then == 1
        total["inputs"] += 1
        total["tokens"] += first.json()["usage"]["tokens"]
        total["cost_micro_usd"] += PRICES["embeddings"]
        total["completed"] += 1
        # Also an answer of errors alone.
        again = {"Idempotency-Key": uuid.uuid4().hex}
        first, _ = call("embeddings", ["a\0"], headers=again)
        replay, _ = call("embeddings", ["a\0"], headers=again)
        assert replay.json() == first.json() and replay.headers["idempotency-replayed"] == "true"

        def report():
            found = client.get("/v1/ml/usage").json()["total"]
            return {name: found[name] for name in total}

        assert settled(report, total) == total


def sample(server, name, **labels):
    found = [sample.value for sample in scraped(server)
             if sample.name == f"ml_inference_{name}" and labels.items() <= sample.labels.items()]
    return sum(found)


def test_metrics_and_access_lines_say_it(request, limits):
    key = make(request, limits, "partial-lines")["key"]
    with as_tenant(limits, key) as client:
        def refused(code):
            return sample(limits, "inputs_refused_total", model="ner-v2", code=code)

        before = {code: refused(code) for code in ("empty_input", "nul_character")}
        calls = sample(limits, "calls_total", model="ner-v2", code="ok")
        ids = []
        for inputs in [GOOD, "", "a\0", ""], [GOOD], ["a\0"]:
            answer = client.post("/v1/ml/entities", json={"inputs": inputs, "parameters": PARTIAL})
            ids.append(answer.headers["x-request-id"])
        assert refused("empty_input") - before["empty_input"] == 2
        assert refused("nul_character") - before["nul_character"] == 2
        assert sample(limits, "calls_total", model="ner-v2", code="ok") - calls == 3

        def lines():
            # The last one may be half written.
            complete = [json.loads(line) for line in limits.log.read_text().split("\n")[:-1]]
            found = {line["request_id"]: line for line in complete if line.get("target") == "access"}
            return [[found[id].get(name) for name in ("status", "code", "inputs", "inputs_refused")] for id in ids
                    if id in found]

        expected = [[200, "ok", 4, 3], [200, "ok", 1, None], [200, "ok", 1, 1]]
        assert settled(lines, expected) == expected, json.dumps(lines())


@pytest.mark.parametrize("route, text, parameter", [
    ("embeddings", LONG, '"stride" reads it whole'),
    ("embeddings", DOCUMENT, '"end" or "start" cuts'),
    ("classify", DOCUMENT, '"end" or "start" cuts'),
    ("sentiment", DOCUMENT, '"end" or "start" cuts'),
    ("entities", DOCUMENT, '"end" or "start" cuts'),
])
def test_what_would_read_a_text_that_is_too_long(rest, route, text, parameter):
    """What the message names reads the text."""
    error = post(rest, route, text).json()["error"]
    assert error["code"] == "input_too_long" and f"parameters.truncation {parameter}" in error["message"], error
    for value in "stride", "end", "start":
        if f'"{value}"' in error["message"]:
            (result,) = post(rest, route, text, truncation=value).json()["results"]
            assert result["truncated"] == (value != "stride")


def test_a_summary_of_a_text_that_is_too_long(rest):
    error = post(rest, "summarize", DOCUMENT).json()["error"]
    assert error["message"].startswith("inputs[0] has at least 20001 words, the limit is 20000")
    assert "there is no parameter" in error["message"]
