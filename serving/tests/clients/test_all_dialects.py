"""All dialects at once, under load: every answer is the direct one, none is lost, doubled or swapped, each is charged once; and
whoever leaves frees its place."""

import asyncio
import contextlib
import json
from collections import Counter

import pytest
from conftest import start, stop
from dialects import DIALECTS, Session, answers, ask_all, texts
from peers import metric, wait_for
from test_tenants import as_tenant, cli, limited, make, settled

ROUNDS, TEXTS = 1, 24


@pytest.fixture(scope="module")
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dialects")
    (folder / "server.toml").write_text("limits.request_timeout_ms = 300000\n")
    running = start(request, folder, "--config", str(folder / "server.toml"))
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
    assert len(done.calls) > 8 * len(DIALECTS)
    with as_tenant(server, key) as client:
        total = lambda: client.get("/v1/ml/usage").json()["total"]  # noqa: E731
        settled(lambda: total()["completed"], done.calls.total(), patience=30)
        found = total()
    assert (found["completed"], found["inputs"]) == (done.calls.total(), done.inputs)
    assert (found["refused"], found["failed"], found["cancelled"], found["cached"]) == (0, 0, 0, 0)
    # Each call has one record; those of a stream's messages have the stream's id and a number.
    ids = [record["request_id"] for record in records(server, "many")]
    assert len(set(ids)) == len(ids) and Counter(id.split(".")[0] for id in ids) == done.calls
    assert metric(server, "places_taken") == metric(server, "calls_in_flight") == 0


def test_who_leaves_frees_its_place(request, server):
    """One caller of each dialect asks for more than can be answered soon, and leaves."""
    key = tenant(request, server, "leaving")
    long = [f"{index} {text} " + "and the report was late again " * 40 for index, text in enumerate(texts(48))]

    async def ask():
        sessions = [Session(server.api, key) for _ in DIALECTS]
        calls = [asyncio.create_task(dialect.ask(session, long, f"leaving-{index}"))
                 for index, (dialect, session) in enumerate(zip(DIALECTS, sessions))]

        def taken():
            return metric(server, "places_taken")

        # Answers of a stream's messages come one by one, so it has more than one place.
        await asyncio.to_thread(wait_for, lambda: taken() >= len(DIALECTS))
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()
        for call in calls:
            with contextlib.suppress(asyncio.CancelledError):
                await call
        for session in sessions:
            await session.close()
        await asyncio.to_thread(wait_for, lambda: taken() == 0 and metric(server, "calls_in_flight") == 0)

    asyncio.run(ask())
    ended = lambda: cli(request, server, "usage", "leaving")["total"]  # noqa: E731
    wait_for(lambda: ended()["cancelled"] >= len(DIALECTS))
    assert ended()["completed"] == 0 or ended()["completed"] < 48 * 4
    # What is free is taken by the next.
    assert wait_for(lambda: metric(server, "queue_sequences") == 0) is not None
    with as_tenant(server, key) as client:
        assert client.post("/v1/ml/embeddings", json={"inputs": "next"}).status_code == 200
