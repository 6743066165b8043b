"""All dialects at once, under load: every answer is the direct one, none is lost, doubled or swapped, each is
charged once; and whoever leaves frees its place."""

import asyncio
import contextlib
import json
from collections import Counter

import pytest
from conftest import patient, start, stop
from dialects import DIALECTS, Session, answers, ask_all, texts
from peers import metric, wait_for
from test_tenants import as_tenant, limited, make, settled

ROUNDS, TEXTS = 2, 24


@pytest.fixture(scope="module")
def server(request, tmp_path_factory):
    """A server with patience: however slow the machine, no call is refused for being late."""
    folder = tmp_path_factory.mktemp("dialects")
    running = start(request, folder, *patient(folder))
    yield running
    stop(running)


def tenant(request, server, name):
    return make(request, server, name, limited(10_000_000, concurrency_max=10_000))["key"]


def records(server, tenant):
    lines = (line for file in sorted((server.state / "usage").glob("*.ndjson")) for line in file.read_text().splitlines())
    every = (json.loads(line[9:]) for line in lines)
    return [record for record in every if record["tenant"] == tenant]


def test_every_answer_is_the_direct_one(request, server):
    direct_key, key = tenant(request, server, "direct"), tenant(request, server, "many")

    async def ask():
        session = Session(server.api, direct_key)
        direct = await answers(session, texts(160), TEXTS)
        await session.close()
        session = Session(server.api, key)
        done = await ask_all(session, direct, ROUNDS)
        await session.close()
        return done

    done = asyncio.run(ask())
    assert len(done.calls) > 20 * len(DIALECTS)
    with as_tenant(server, key) as client:
        total = lambda: client.get("/v1/ml/usage").json()["total"]  # noqa: E731
        settled(lambda: total()["completed"], done.calls.total(), patience=30)
        found = total()
    assert (found["completed"], found["inputs"]) == (done.calls.total(), done.inputs)
    assert (found["refused"], found["failed"], found["cancelled"], found["cached"]) == (0, 0, 0, 0)
    # Each call has one record; those of a stream's messages have the stream's id and a number.
    ids = [record["request_id"] for record in records(server, "many")]
    assert len(set(ids)) == len(ids) and Counter(id.split(".")[0] for id in ids) == done.calls
    wait_for(lambda: metric(server, "places_taken") == metric(server, "calls_in_flight") == 0)


def groups():
    """Dialects that leave at once: each has one place. Each message of a stream has one, so a stream leaves
    by itself."""
    is_stream = lambda dialect: dialect.name.endswith("stream")  # noqa: E731
    calls = [dialect for dialect in DIALECTS if not is_stream(dialect)]
    return [calls, *([dialect] for dialect in DIALECTS if is_stream(dialect))]


@pytest.mark.parametrize("dialects", groups(), ids=lambda dialects: dialects[0].name if len(dialects) == 1 else "calls")
def test_who_leaves_frees_its_place(request, server, dialects):
    """Callers ask for more than can be answered soon, and leave."""
    key = tenant(request, server, f"leaving-{dialects[0].name.replace(' ', '-')}")
    long = [f"{index} {text} " + "and the report was late again " * 40 for index, text in enumerate(texts(48))]
    cancelled = lambda: metric(server, "calls_total", code="cancelled")  # noqa: E731
    before = cancelled()

    async def ask():
        sessions = [Session(server.api, key) for _ in dialects]
        calls = [asyncio.create_task(dialect.ask(session, long, f"leaving-{index}"))
                 for index, (dialect, session) in enumerate(zip(dialects, sessions))]
        await asyncio.to_thread(wait_for, lambda: metric(server, "places_taken") >= len(dialects))
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()
        for call in calls:
            with contextlib.suppress(asyncio.CancelledError):
                await call
        for session in sessions:
            await session.close()

    asyncio.run(ask())
    wait_for(lambda: metric(server, "places_taken") == metric(server, "calls_in_flight") == metric(server, "queue_sequences") == 0)
    assert cancelled() - before >= len(dialects)
    # What is free is taken by the next.
    with as_tenant(server, key) as client:
        assert client.post("/v1/ml/embeddings", json={"inputs": "next"}).status_code == 200
