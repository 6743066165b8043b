"""Work before the scheduler: bounded, fair between tenants, counted; long calls; which model answers;
readiness."""

import concurrent.futures
import gzip
import json
import shutil
import time

import grpc
import httpx
import pytest
from conftest import KEY, ROOT, start, stop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from peers import connect, head, read_all, wait_for
from test_operations import is_at_rest
from test_tenants import as_tenant, limited, make, settled

HEADERS = {"Authorization": f"Bearer {KEY}"}
MIB = 1 << 20
# Texts that are slow to read, or large in memory, for those who read them carelessly.
HOSTILE = {
    "numbers signs": "#" * (2 * MIB),
    "letters": "a b " * (MIB // 2),
    "ellipses": "... # " * (MIB // 3),
    "initials": "A. # " * (MIB // 3),
    "one word": "a" * (2 * MIB),
    "marks": "e" + "\u0301" * MIB,
    "nothing": "\u200b" * (MIB // 2) + "x",
    "spaces": "a." + " " * MIB + "b",
    "quotes": "a." + '"' * MIB,
    "ideographs": "你" * (MIB // 2),
    "stops": "。" * (MIB // 2),
    "lines": "- a\n" * (MIB // 4),
}


def post(server, route, body, timeout=60, headers=HEADERS):
    return httpx.post(f"http://{server.api}/v1/ml/{route}", json=body, headers=headers, timeout=timeout)


def metric(server, name):
    """Sum of a metric's samples."""
    lines = httpx.get(f"http://{server.ops}/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"ml_inference_{name}"))


def code(answer):
    return answer.status_code if answer.status_code == 200 else answer.json()["error"]["code"]


@pytest.fixture(scope="module")
def limits(request, tmp_path_factory):
    """A server with few worker threads, whose tenants are made by each test."""
    folder = tmp_path_factory.mktemp("work")
    config = folder / "work.toml"
    config.write_text("threads.tokenizer = 1\nconnections.half_close_timeout_ms = 100\n")
    running = start(request, folder, "--config", str(config))
    yield running
    stop(running)


@pytest.mark.parametrize("route", ["embeddings", "summarize", "sentiment"])
@pytest.mark.parametrize("shape", HOSTILE)
def test_hostile_texts_are_answered_or_refused(limits, route, shape):
    answer = post(limits, route, {"inputs": HOSTILE[shape]})
    assert code(answer) in (200, "input_too_long", "empty_input"), answer.text[:300]
    assert len(answer.content) < 5 * MIB


def test_long_texts_of_one_tenant_do_not_hold_up_another(request, limits):
    """One thread, eight long texts at a time: a short one of another tenant waits for a slice of them, not
    for all of one."""
    hog, other = (make(request, limits, name)["key"] for name in ("hog", "other"))
    # Cut off at the end, so that each is read to its end.
    long = {"inputs": "aaa bbb " * (MIB // 16), "parameters": {"truncation": "end"}}
    with as_tenant(limits, hog) as hog, as_tenant(limits, other) as other:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            running = [pool.submit(hog.post, "/v1/ml/embeddings", json=long) for _ in range(8)]
            answered = 0
            while not any(call.done() for call in running):
                assert other.post("/v1/ml/embeddings", json={"inputs": "short"}).status_code == 200
                answered += 1
            answers = [call.result() for call in running]
    assert {answer.status_code for answer in answers} == {200}, {answer.text[:200] for answer in answers}
    # In turns of whole texts there would be none before the first long one is read.
    assert answered >= 5, answered


def test_refusals_after_work_count_and_those_before_are_free(request, limits):
    key = make(request, limits, "limited-work", limited(5))["key"]
    with as_tenant(limits, key) as client:
        for body in {"inputs": []}, {"inputs": "a\0b"}, {"inputs": "a", "model": "nobody"}, {"inputs": ["a"] * 129}:
            for _ in range(10):
                assert client.post("/v1/ml/embeddings", json=body).status_code in (400, 404)
        written = metric(limits, "usage_journal_records ")
        refused = [code(client.post("/v1/ml/embeddings", json={"inputs": "word " * 600})) for _ in range(7)]
        assert refused == ["input_too_long"] * 5 + ["rate_limit_exceeded"] * 2

        def report():
            total = client.get("/v1/ml/usage").json()["total"]
            return total["refused"], total["inputs"], total["cost_micro_usd"]

        assert settled(report, (5, 0, 0)) == (5, 0, 0)
    # Nothing that cost nothing is in the journal.
    assert metric(limits, "usage_journal_records ") - written == 5


# Read and parsed, and refused for what is in them.
LARGE = {
    "nobody's model": ("embeddings", {"inputs": "a" * MIB, "model": "nobody"}),
    "another task's model": ("embeddings", {"inputs": "a" * MIB, "model": "ner-v2"}),
    "dimensions": ("embeddings", {"inputs": "a" * MIB, "parameters": {"dimensions": 100_000}}),
    "labels": ("classify", {"inputs": "a" * MIB, "parameters": {"labels": ["a"]}}),
    "no query": ("rerank", {"inputs": ["a" * MIB], "parameters": {"query": ""}}),
    "a nul": ("sentiment", {"inputs": "a\0" * (MIB // 2)}),
    "many": ("sentiment", {"inputs": ["a"] * (MIB // 4)}),
    "many ids": ("detokenize", {"inputs": [[101] * (MIB // 4)]}),
    "each by itself": ("sentiment", {"inputs": ["\0" * MIB], "on_error": "partial"}),
}


@pytest.mark.parametrize("kind", LARGE)
def test_refusals_after_much_was_read_count(request, limits, kind):
    key = make(request, limits, f"large-{list(LARGE).index(kind)}", limited(3))["key"]
    route, body = LARGE[kind]
    with as_tenant(limits, key) as client:
        answers = [client.post(f"/v1/ml/{route}", json=body) for _ in range(5)]
    assert [answer.status_code == 429 for answer in answers] == [False] * 3 + [True] * 2, [
        answer.text[:200] for answer in answers]


def test_a_body_that_cannot_be_decompressed_counts(request, limits):
    key = make(request, limits, "large-gzip", limited(3))["key"]
    body = bytearray(gzip.compress(b"{" + b" " * MIB + b"}"))
    body[-8] ^= 1
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    with as_tenant(limits, key) as client:
        answers = [code(client.post("/v1/ml/embeddings", content=bytes(body), headers=headers)) for _ in range(5)]
    assert answers == ["invalid_content_encoding"] * 3 + ["rate_limit_exceeded"] * 2


def test_refused_messages_of_a_stream_count(request, limits, proto):
    key = make(request, limits, "large-messages", limited(3))["key"]
    embed = proto.EmbedRequest(inputs=["a" * MIB], model="nobody")
    messages = [proto.InferStreamRequest(correlation_id=str(i), embed=embed) for i in range(5)]
    with grpc.insecure_channel(limits.api) as channel:
        answers = list(proto.Stub(channel).InferStream(iter(messages), metadata=[("authorization", f"Bearer {key}")]))
    codes = sorted(answer.error.code for answer in answers)
    assert codes == ["model_not_found"] * 3 + ["rate_limit_exceeded"] * 2, codes


def test_not_much_is_read_for_a_tenant_that_has_nothing_left(request, limits):
    key = make(request, limits, "spent", limited(1))["key"]
    with as_tenant(limits, key) as client:
        assert client.post("/v1/ml/embeddings", json={"inputs": "a"}).status_code == 200
    body = b"{" + b" " * (7 * MIB)
    with connect(limits.api) as caller:
        # Answered though the rest of the body never comes.
        caller.sendall(head(body, path="/v1/ml/embeddings", key=key) + body[:MIB])
        assert read_all(caller).startswith(b"HTTP/1.1 429 ")


def test_work_ends_when_the_caller_has_left_and_when_it_is_late(limits):
    # Read to its end, this takes the thread seconds.
    long = {"inputs": ["aaa bbb " * (7 * MIB // 8 // 16)] * 16, "parameters": {"truncation": "end"}}
    body = json.dumps(long).encode()
    with connect(limits.api) as caller:
        caller.sendall(head(body, path="/v1/ml/embeddings") + body)
        wait_for(lambda: metric(limits, "calls_in_flight") == 1)
    late = post(limits, "embeddings", long, headers=HEADERS | {"X-Request-Timeout": "300"})
    assert code(late) in ("deadline_exceeded", "deadline_infeasible"), late.text
    assert post(limits, "embeddings", {"inputs": "short"}).status_code == 200
    # The thread does not go on with what nobody waits for.
    wait_for(lambda: is_at_rest(limits.process), patience=60)


@pytest.mark.parametrize("sentences", [600, 1200])
def test_a_long_call_is_never_refused_as_overloaded(server, sentences):
    """More windows than the channel to the scheduler has places."""
    body = {"inputs": [f"The weather was mild in week {i}. " * sentences for i in range(8)]}
    answer = post(server, "summarize", body, timeout=120)
    assert code(answer) in (200, "deadline_exceeded"), answer.text[:300]
    if answer.status_code == 200:
        assert [result["windows"] for result in answer.json()["results"]] == [sentences] * 8


def test_windows_wait_outside_a_small_queue(request, tmp_path):
    """Whatever the bounds of the queue and of the channel, a call within the published limits is answered, in
    order."""
    config = tmp_path / "small.toml"
    config.write_text("[batching]\nqueue_sequences_max = 4\nqueue_tokens_max = 1024\nbatch_tokens_max = 512\ncommands_max = 16\n")
    small = start(request, tmp_path, "--config", str(config))
    try:
        texts = [f"shipment {i} arrived " * (i % 7 + 1) for i in range(100)]
        together = post(small, "embeddings", {"inputs": texts})
        assert together.status_code == 200, together.text[:300]
        for i in 0, 41, 99:
            alone = post(small, "embeddings", {"inputs": texts[i]}).json()["results"][0]["embedding"]
            difference = max(abs(a - b) for a, b in zip(alone, together.json()["results"][i]["embedding"]))
            assert difference < 1e-2, (i, difference)
    finally:
        stop(small)


def test_what_cannot_be_done_in_time_is_refused_before_any_work(request, tmp_path):
    config = tmp_path / "load.toml"
    config.write_text("limits.request_timeout_ms = 20000\nlimits.predicted_wait_share_max = 0.05\n")
    server = start(request, tmp_path, "--config", str(config))
    try:
        body = {"inputs": ["the new report was sent to our office " * 40] * 4}
        assert post(server, "entities", body).status_code == 200
        tokenized = metric(server, "tokenization_duration_seconds_count")
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            codes = [code(answer) for answer in pool.map(lambda _: post(server, "entities", body), range(64))]
        refused = codes.count("overloaded")
        assert refused > 0 and codes.count(200) > 0, codes
        # None of the refused ones was tokenised.
        assert metric(server, "tokenization_duration_seconds_count") - tokenized == 64 - refused
    finally:
        stop(server)


def test_labels_count_as_tokens(rest):
    body = {"inputs": ["A text.", "Another text."], "parameters": {"labels": ["cooking", "astronomy"]}}
    answer = rest.post("/v1/ml/classify", json=body).json()
    tokens = [result["tokens"] for result in answer["results"]]
    # "This text is about cooking." has eight tokens with its special ones, as has the other.
    assert answer["usage"]["tokens"] == sum(tokens) + 2 * 8


def cards_with(tmp_path, change):
    """A copy of the cards of embeddings and sentiment, with a change made to it."""
    folder = tmp_path / "cards"
    for name in "embeddings-v2", "sentiment-v3":
        shutil.copytree(ROOT / "model-cards" / name, folder / name)
    change(folder)
    return folder


def second_embedder(folder):
    """A model that comes first in the alphabet."""
    shutil.copytree(folder / "embeddings-v2", folder / "another")
    card = folder / "another/README.md"
    card.write_text(card.read_text().replace("name: embeddings-v2", "name: another").replace("  default: true\n", ""))


def test_the_default_is_stated_and_no_other_takes_over(request, tmp_path):
    def no_default(folder):
        second_embedder(folder)
        card = folder / "embeddings-v2/README.md"
        card.write_text(card.read_text().replace("  default: true\n", ""))

    for change, configured, expected in [
        (second_embedder, "", "embeddings-v2"),
        (second_embedder, 'defaults.embeddings = "another"\n', "another"),
        (no_default, "", "model_required"),
    ]:
        place = tmp_path / f"{change.__name__}{len(configured)}"
        place.mkdir()
        config = place / "c.toml"
        config.write_text(configured)
        server = start(request, place, "--config", str(config), cards=cards_with(place, change))
        try:
            answer = post(server, "embeddings", {"inputs": "a"})
            found = answer.json()["model"] if answer.status_code == 200 else code(answer)
            assert found == expected, answer.text[:300]
            if expected == "model_required":
                assert "another, embeddings-v2" in answer.text
        finally:
            stop(server)

    def two(folder):
        second_embedder(folder)
        card = folder / "another/README.md"
        card.write_text(card.read_text().replace("name: another\n", "name: another\n  default: true\n"))

    place = tmp_path / "two"
    place.mkdir()
    with pytest.raises(RuntimeError, match="another and embeddings-v2"):
        start(request, place, cards=cards_with(place, two))


def test_a_required_model_that_does_not_serve_keeps_the_server_from_being_ready(request, tmp_path):
    def spoil(folder):
        (folder / "sentiment-v3/head.safetensors").write_bytes(b"not weights")

    cards = cards_with(tmp_path, spoil)
    with pytest.raises(RuntimeError, match="not ready in time"):
        start(request, tmp_path, cards=cards, patience=4)
    config = tmp_path / "c.toml"
    config.write_text("models.sentiment-v3.required = false\n")
    server = start(request, tmp_path, "--config", str(config), cards=cards)
    try:
        assert code(post(server, "sentiment", {"inputs": "a"})) == "model_unavailable"
        assert post(server, "embeddings", {"inputs": "a"}).status_code == 200
        with grpc.insecure_channel(server.api) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            status = {name: check(health_pb2.HealthCheckRequest(service=name)).status
                      for name in ("", "embeddings-v2", "sentiment-v3")}
        assert status == {"": 1, "embeddings-v2": 1, "sentiment-v3": 2}
    finally:
        stop(server)


def test_a_checkpoint_that_a_card_does_not_describe_is_named(request, tmp_path):
    def unsaid(folder):
        card = folder / "sentiment-v3/README.md"
        lines = card.read_text().splitlines(keepends=True)
        card.write_text("".join(line for line in lines if "ignore_tensors" not in line))

    config = tmp_path / "c.toml"
    config.write_text("models.sentiment-v3.required = false\n")
    server = start(request, tmp_path, "--config", str(config), cards=cards_with(tmp_path, unsaid))
    try:
        models = httpx.get(f"http://{server.api}/v1/ml/models", headers=HEADERS).json()["models"]
        reason = {model["name"]: model.get("reason") for model in models}
        assert "pooler.dense.bias is used by no part of the card" in json.dumps(reason["sentiment-v3"])
        assert reason["embeddings-v2"] is None
    finally:
        stop(server)
