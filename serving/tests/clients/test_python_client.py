"""Our Python client against the real server: every task, faults between the two, and bulk."""

import asyncio
import io
import itertools
import os
import re
import sys
import threading
import time

import grpc
import pytest
from conftest import KEY, ROOT
from faulty import Faulty
from test_tenants import make, settled

FOLDER = ROOT / "serving/clients/python"
sys.path.insert(0, str(FOLDER / "src"))

import ml_inference
from ml_inference import AsyncClient, Client, RetryPolicy, columns, retry
from ml_inference.errors import from_answer, seconds_of
from ml_inference.progress import Bar, Progress

TEXTS = ["The new release is a joy to use.", "Broken on arrival and nobody answers my emails."]
# Waits are drawn at their longest, and still short.
QUICK = RetryPolicy(attempts=4, backoff=0.01)


@pytest.fixture(scope="module")
def client(server):
    with Client(f"http://{server.api}", KEY, timeout=60) as opened:
        yield opened


@pytest.fixture(scope="module")
def proxy(server):
    with Faulty(server.api) as running:
        yield running


@pytest.fixture
def faulty(proxy):
    proxy.script()
    with Client(proxy.url, KEY, timeout=60, retries=QUICK) as opened:
        yield opened


def test_every_task(client):
    assert [r.label for r in client.sentiment(TEXTS).results] == ["positive", "negative"]
    [classes] = client.classify(
        "The telescope found a new comet.", labels=["cooking", "astronomy"], top_k=1
    ).results
    assert [label.label for label in classes.labels] == ["astronomy"]
    [found] = client.entities("Angela Merkel visited Zürich.", offset_unit="byte").results
    assert [(e.text, e.label, e.start, e.end) for e in found.entities] == [
        ("Angela Merkel", "PER", 0, 13),
        ("Zürich", "LOC", 22, 29),
    ]
    [summary] = client.summarize("It rained all day. " + TEXTS[0], max_sentences=1).results
    assert len(summary.sentences) == 1 and summary.summary == summary.sentences[0].text
    answer = client.embeddings(iter(TEXTS), dimensions=8)
    assert [len(r.embedding) for r in answer.results] == [8, 8] and answer.usage.inputs == 2
    assert isinstance(client.embeddings("one", encoding_format="base64").results[0].embedding, str)
    scores = client.rerank(
        "Where do pandas live?", ["Bears live in the Arctic.", "The panda lives in China."]
    ).results
    assert scores[0].score < scores[1].score
    assert client.similarity(TEXTS[0], TEXTS).results[0].score == pytest.approx(1, abs=1e-3)
    [tokens] = client.tokenize("Hello, World").results
    assert [token.id for token in tokens.tokenization] == [101, 7592, 1010, 2088, 102]
    assert tokens.tokenization[0].start is None and tokens.tokenization[1].end == 5
    assert client.detokenize([[7592, 2088]]).results[0].text == "hello world"
    assert client.classify([[101, 7592, 102]]).usage.inputs == 1


def test_models_and_usage(request, server, client):
    models = {model.name: model for model in client.models()}
    assert models["sentiment-v3"] == client.model("sentiment-v3")
    assert (models["sentiment-v3"].inputs_max, models["sentiment-v3"].price_micro_usd) == (128, 50_000)
    with pytest.raises(ml_inference.NotFound, match="model_not_found"):
        client.model("nothing")
    made = make(request, server, "client-usage")
    with Client(f"http://{server.api}", lambda: made["key"]) as owner:
        owner.sentiment(TEXTS)
        total = lambda: owner.usage(by="model,day").total.cost_micro_usd
        assert settled(total, 100) == 100
        assert [row.model for row in owner.usage(by="model").rows] == ["sentiment-v3"]


def test_errors_say_what_happened(server, client):
    with pytest.raises(ml_inference.InvalidRequest) as refused:
        client.sentiment(["fine", ""], request_id="client-test-1")
    error = refused.value
    assert (error.code, error.status, error.request_id, error.attempts) == (
        "empty_input",
        400,
        "client-test-1",
        1,
    )
    assert "inputs[1]" in error.message and "client-test-1" in str(error)
    with (
        Client(f"http://{server.api}", "tc_test_nobody") as stranger,
        pytest.raises(ml_inference.Unauthenticated),
    ):
        stranger.models()
    answer = client.sentiment([TEXTS[0], ""], on_error="partial")
    assert (answer.outcomes[0].label, answer.outcomes[1].code) == ("positive", "empty_input")
    with pytest.raises(ml_inference.InputRefused) as missing:
        answer.results
    assert missing.value.index == 1
    with pytest.raises(ValueError):
        client.sentiment("x", timeout=0)


def test_retryable_codes_are_those_of_the_table():
    rows = re.findall(
        r"^\| `(\w+)` \|.*?\|.*?\| (with backoff|after `Retry-After`) \|",
        (ROOT / "docs/errors.md").read_text(),
        re.MULTILINE,
    )
    own = {code for code in retry.RETRYABLE if code == "connection_failed" or code.startswith("http_")}
    assert {code for code, _ in rows} == retry.RETRYABLE - own and len(rows) > 15


@pytest.mark.parametrize(
    "fault, attempts",
    [
        ({"status": 429, "code": "rate_limit_exceeded", "retry_after": 0}, 2),
        ({"status": 503, "code": "overloaded", "retry_after": 0}, 2),
        ({"status": 502}, 2),
        ({"drop": "before"}, 2),
        ({"drop": "after"}, 2),
    ],
)
def test_faults_are_retried_under_one_key(proxy, faulty, fault, attempts):
    proxy.script(fault)
    answer = faulty.sentiment(TEXTS)
    assert [r.label for r in answer.results] == ["positive", "negative"]
    keys = {headers["idempotency-key"] for headers in proxy.seen}
    assert len(proxy.seen) == attempts and len(keys) == 1
    # The answer that was lost is given again, and not charged again.
    assert answer.replayed == (fault.get("drop") == "after")


def test_the_last_error_is_raised(proxy, faulty):
    proxy.script(*[{"status": 503, "code": "starting", "retry_after": 0}] * 9)
    with pytest.raises(ml_inference.Unavailable) as raised:
        faulty.sentiment(TEXTS)
    assert (raised.value.code, raised.value.attempts, len(proxy.seen)) == ("starting", 4, 4)
    assert raised.value.request_id == "req_told"


def test_retry_after_is_obeyed(proxy, faulty):
    proxy.script({"status": 429, "code": "rate_limit_exceeded", "retry_after": 1})
    begun = time.monotonic()
    faulty.sentiment(TEXTS)
    assert time.monotonic() - begun >= 1 and len(proxy.seen) == 2
    # One that would outlive the deadline is not waited for.
    proxy.script({"status": 429, "code": "rate_limit_exceeded", "retry_after": 3600})
    with pytest.raises(ml_inference.RateLimited) as raised:
        faulty.sentiment(TEXTS, timeout=30)
    assert raised.value.retry_after == 3600 and len(proxy.seen) == 1


@pytest.mark.parametrize("fault", [{"stall": True}, {"drip": True}])
def test_a_deadline_holds_whatever_the_network_does(proxy, faulty, fault):
    proxy.script(fault)
    begun = time.monotonic()
    with pytest.raises(ml_inference.DeadlineExceeded):
        faulty.sentiment(TEXTS, timeout=0.5)
    # A stalled answer lasts a minute, a dripping one longer.
    assert 0.5 <= time.monotonic() - begun < 30 and len(proxy.seen) == 1
    assert int(proxy.seen[0]["x-request-timeout"]) <= 500


def test_what_may_have_been_answered_is_not_sent_again_without_a_key(server, proxy):
    with Client(proxy.url, KEY, idempotent=False, retries=QUICK) as client:
        proxy.script({"drop": "after"})
        with pytest.raises(ml_inference.ConnectionFailed):
            client.sentiment(TEXTS)
        assert len(proxy.seen) == 1 and "idempotency-key" not in proxy.seen[0]
        proxy.script({"drop": "before"})
        assert client.models() and len(proxy.seen) == 2


def test_where_no_more_answers_are_kept_calls_go_on_without_a_key(proxy, faulty):
    full = {"status": 429, "code": "idempotency_full", "retry_after": 80000}
    proxy.script(full)
    assert faulty.sentiment(TEXTS).usage.inputs == 2
    assert ["idempotency-key" in headers for headers in proxy.seen] == [True, False]
    # Whoever gave the key wants it kept.
    proxy.script(full)
    with pytest.raises(ml_inference.RateLimited):
        faulty.sentiment(TEXTS, idempotency_key="order-1")


def test_a_client_in_an_outage_runs_out_of_retries(proxy):
    policy = RetryPolicy(attempts=3, backoff=0.001, budget=5, budget_ratio=0.5)
    with Client(proxy.url, KEY, retries=policy) as client:
        proxy.script(*[{"status": 503, "code": "overloaded", "retry_after": 0}] * 99)
        for _ in range(10):
            with pytest.raises(ml_inference.Unavailable):
                client.models()
        # Ten calls and five retries, not thirty.
        assert len(proxy.seen) == 15
        proxy.script()
        client.models(), client.models()
        proxy.script({"status": 503, "code": "overloaded", "retry_after": 0})
        assert client.models() and len(proxy.seen) == 2


def test_waits():
    def check(expected, attempt=1, remaining=60.0, code="overloaded", **fields):
        error = ml_inference.InferenceError(code, "", **fields)
        wait = RetryPolicy(attempts=4, backoff=0.5, backoff_max=1.5).wait(error, attempt, remaining, 1.0)
        assert wait == expected, (attempt, remaining, code, fields)

    check(0.5)
    check(1.0, attempt=2)
    check(1.5, attempt=3)
    check(None, attempt=4)
    check(None, code="empty_input")
    check(2.5, retry_after=2.0)
    check(None, retry_after=2.0, remaining=2.5)
    assert seconds_of("3", 0) == 3 and seconds_of("soon", 0) is None and seconds_of(None, 0) is None
    assert seconds_of("Thu, 01 Jan 1970 00:00:10 GMT", 4) == 6
    told = from_answer(502, {"x-request-id": "r"}, b"<html>", 0)
    assert (told.code, told.message, told.request_id) == ("http_502", "<html>", "r")


def test_async(server):
    async def many():
        async with AsyncClient(f"http://{server.api}", KEY, timeout=60) as client:
            answers = await asyncio.gather(*(client.sentiment(text) for text in TEXTS * 8))
            rows = [row async for row in client.bulk(TEXTS, "sentiment")]
            return [a.results[0].label for a in answers], [row.result.label for row in rows]

    assert asyncio.run(many()) == (["positive", "negative"] * 8, ["positive", "negative"])


def test_threads_and_forks(client):
    labels = []
    threads = [
        threading.Thread(target=lambda: labels.append(client.sentiment(TEXTS[0]).results[0].label))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert labels == ["positive"] * 8
    child = os.fork()
    if child == 0:
        # No test framework in the child: it ends at once, with what it found.
        os._exit(0 if client.sentiment(TEXTS[0], timeout=60).usage.inputs == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert client.sentiment(TEXTS[0]).usage.inputs == 1


def test_bulk_is_ordered_and_reads_no_further_than_it_may(client):
    read = []

    def texts():
        for number in range(500):
            read.append(number)
            yield "" if number % 100 == 7 else f"Text {number}. " * (1 + number % 5)

    rows = client.bulk(
        texts(),
        "embeddings",
        inputs_per_call=4,
        calls_max=5,
        parameters={"dimensions": 4},
        model="embeddings-v2",
        timeout=60,
    )
    for expected, row in enumerate(rows):
        assert row.index == expected and len(read) <= expected + 4 * 6
        if expected % 100 == 7:
            assert row.result is None and row.outcome.code == "empty_input"
        else:
            assert len(row.result.embedding) == 4
    assert len(read) == 500


@pytest.mark.parametrize(
    "task, parameters",
    [
        ("classify", {"top_k": 2}),
        ("sentiment", {}),
        ("entities", {"offset_unit": "utf16"}),
        ("summarize", {"max_sentences": 1}),
        ("embeddings", {"truncation": "end"}),
        ("rerank", {"query": "panda"}),
        ("similarity", {"reference": "panda"}),
        ("tokenize", {"add_special_tokens": True}),
    ],
)
def test_bulk_gives_what_single_calls_give(client, task, parameters):
    text = "Angela Merkel saw a panda in Zürich. It slept."
    [row] = client.bulk([text], task, parameters=parameters)
    named = dict(parameters)
    first = [named.pop(name) for name in ("query", "reference") if name in named]
    [single] = getattr(client, task)(*first, text, **named).results
    assert rounded(row.result) == rounded(single)


def rounded(value):
    """Scores as the last digits of 32-bit floats are written differently."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: rounded(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return pytest.approx(value, abs=1e-3) if isinstance(value, float) else value


def test_bulk_sends_again_what_is_refused():
    """Asked of a server that refuses each message once, and answers the later ones first."""
    from concurrent.futures import ThreadPoolExecutor

    from ml_inference import messages

    def answered(requests, _):
        seen, waiting = set(), []
        for asked in requests:
            answer = messages.Response(correlation_id=asked.correlation_id)
            if asked.correlation_id not in seen:
                seen.add(asked.correlation_id)
                answer.error.code, answer.error.retry_after_ms = "overloaded", 1
                yield answer
                continue
            for text in asked.sentiment.inputs:
                answer.sentiment.results.add(label=text)
            waiting.append(answer)
            if len(waiting) == 4:
                yield from reversed(waiting)
                waiting.clear()

    handler = grpc.stream_stream_rpc_method_handler(
        answered, messages.Request.FromString, messages.Response.SerializeToString
    )
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("ml.inference.v1.InferenceService", {"InferStream": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    texts = [f"Text {i}" for i in range(80)]
    with Client(f"http://127.0.0.1:{port}", KEY) as client:
        rows = list(client.bulk(texts, "sentiment", inputs_per_call=2, calls_max=4))
        assert [row.result.label for row in rows] == texts
        with pytest.raises(ml_inference.InferenceError, match="overloaded"):
            list(client.bulk(texts, "sentiment", retries=RetryPolicy(attempts=1)))
    server.stop(None)


def test_bulk_ends_at_faults(server, client):
    with pytest.raises(ml_inference.InferenceError, match="model_not_found"):
        list(client.bulk(TEXTS, "sentiment", model="nothing"))
    with Client(f"http://{server.api}", "tc_test_nobody") as stranger:
        with pytest.raises(ml_inference.InferenceError, match="unauthenticated"):
            list(stranger.bulk(TEXTS, "sentiment"))
    for bad in {"top_k": 1}, {"truncation": "sideways"}:
        with pytest.raises(ValueError):
            client.bulk(TEXTS, "sentiment", parameters=bad)
    with pytest.raises(ValueError):
        client.bulk("one text", "sentiment")
    # Leaving in the middle leaves nothing behind.
    rows = client.bulk(itertools.repeat(TEXTS[0]), "sentiment")
    assert next(rows).index == 0
    rows.close()


def test_bulk_outlives_a_broken_connection(request, server):
    import socket

    class Cut:
        """Passes bytes on; `cut` closes what is open."""

        def __init__(self):
            self.listener, self.open = socket.create_server(("127.0.0.1", 0)), []
            self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
            threading.Thread(target=self.accept, daemon=True).start()

        def accept(self):
            while True:
                try:
                    near = self.listener.accept()[0]
                except OSError:
                    return
                far = socket.create_connection(tuple(server.api.split(":")))
                self.open += [near, far]
                for pair in (near, far), (far, near):
                    threading.Thread(target=self.pump, args=pair, daemon=True).start()

        def pump(self, source, sink):
            try:
                while data := source.recv(65536):
                    sink.sendall(data)
            except OSError:
                pass

        def cut(self):
            for end in self.open:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self.open.clear()

    between = Cut()
    with Client(between.url, KEY) as client:
        indexes = []
        for row in client.bulk(
            (f"Text {i}." for i in range(300)), "sentiment", inputs_per_call=3, calls_max=4
        ):
            indexes.append(row.index)
            if row.index in (30, 150):
                between.cut()
        assert indexes == list(range(300))
        with pytest.raises(ml_inference.ConnectionFailed):
            for row in client.bulk(itertools.repeat("Text."), "sentiment", resend=False):
                if row.index == 30:
                    between.cut()
    between.listener.close()


def test_progress(client):
    told = []
    rows = client.bulk(["Text."] * 20, "sentiment", inputs_per_call=5, progress=told.append)
    assert len(list(rows)) == 20 and [(p.done, p.total) for p in told] == [
        (5, 20),
        (10, 20),
        (15, 20),
        (20, 20),
    ]
    out, now = io.StringIO(), iter([10.0, 10.0, 10.1, 10.1, 10.1, 10.1])
    bar = Bar(out, lambda: next(now))
    for done in 10, 15, 20:
        bar(Progress(done, 20, 2.0))
    assert out.getvalue() == (
        "\r[###############...............] 10/20 rows, 5/s, 2 s left"
        "\r[##############################] 20/20 rows, 10/s, 0 s left\n"
    )


class Column:
    """What a pandas Series has of use here."""

    def __init__(self, values):
        self.values = values

    def tolist(self):
        return self.values


class ArrowColumn(Column):
    """The same of an Arrow array."""

    tolist = property()

    def to_pylist(self):
        return self.values


class Frame:
    """What a pandas DataFrame has of use here."""

    def assign(self, **added):
        return added


class Table:
    """The same of an Arrow table."""

    def __init__(self, added=()):
        self.added = added

    def append_column(self, name, chunks):
        return Table((*self.added, (name, chunks)))


def test_columns(client):
    for column in Column(["a", None, float("nan")]), ArrowColumn(["a", None, None]):
        assert columns.texts(column) == ["a", "", ""]
    answer = client.sentiment([TEXTS[0], ""], on_error="partial")
    expected = {"mood_label": ["positive", None], "mood_error": [None, "empty_input"]}
    assert columns.with_columns(Frame(), answer, ["label"], "mood_") == expected
    table = columns.with_columns(Table(), answer, ["label"], "mood_")
    assert dict((name, chunk) for name, [chunk] in table.added) == expected
    assert columns.records(answer.outcomes, ["label"])[0] == {"label": "positive", "error": None}
    with pytest.raises(TypeError):
        columns.with_columns([], answer, ["label"])
