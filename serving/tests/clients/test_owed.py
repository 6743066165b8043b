"""An answer that was kept under its Idempotency-Key is charged once before anybody gets it again, whichever
server was killed in between, and whichever is asked."""

import json
import signal
from datetime import timedelta

import httpx
import pytest
from conftest import start, stop
from test_ledger import kill
from test_stores import Redis, config, until
from test_tenants import as_tenant, cli, make, one_model, settled

KEPT = timedelta(days=1)
BODY = {"inputs": ["one", "two", "three"]}


@pytest.fixture
def pair(request, tmp_path):
    """A Redis, and what starts either of two servers."""
    store, cards = Redis(tmp_path / "redis"), one_model(tmp_path)

    def begin(name):
        (tmp_path / name).mkdir(exist_ok=True)
        return start(request, tmp_path / name, *config(tmp_path, store.port), cards=cards)

    yield store.client, begin
    store.stop()


def post(server, key, name):
    with as_tenant(server, key) as client:
        return client.post("/v1/ml/embeddings", json=BODY, headers={"Idempotency-Key": name})


def kept(client):
    """The one request that is kept."""
    (found,) = [key for key in client.keys("ml:idempotency:{acme}:*") if not key.endswith(":room")]
    return found


def last_record(server):
    """The last record that has an attempt, and what names it."""
    lines = [line for file in sorted((server.state / "usage").glob("*.ndjson")) for line in file.read_text().splitlines()]
    record = json.loads([line for line in lines if '"attempt"' in line][-1][9:])
    return record.pop("n"), record.pop("e"), record


def as_if_not_written(client, server):
    """The state that a server leaves that is killed between keeping an answer and recording it: what is owed
    stands with the answer, and the record is in no journal. Made of one that was recorded: what is owed is
    another record of it."""
    number, epoch, record = last_record(server)
    record |= {"attempt": "0" * 32, "request_id": "owed"}
    journal = (server.state / "usage/name").read_text().strip()
    client.hset(kept(client), "owed", json.dumps({"journal": journal, "epoch": epoch, "from": number + 1, "record": record}))


def charged(request, server):
    return cli(request, server, "usage", "acme")["total"]["inputs"]


def all_charged(request, server, count):
    assert settled(lambda: charged(request, server), count, patience=30) == count


def settled_in(client):
    until("nothing is owed", lambda: client.hget(kept(client), "owed") is None or client.hkeys(kept(client)))


def test_what_was_not_written_is_written_before_it_is_answered(request, pair):
    client, begin = pair
    server = begin("one")
    key = make(request, server, "acme")["key"]
    assert post(server, key, "a").status_code == 200
    settled_in(client)
    kill(server)
    # It was written, and that was not noted.
    number, epoch, record = last_record(server)
    journal = (server.state / "usage/name").read_text().strip()
    client.hset(kept(client), "owed", json.dumps({"journal": journal, "epoch": epoch, "from": number, "record": record}))
    server = begin("one")
    for _ in range(3):
        again = post(server, key, "a")
        assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
        settled_in(client)
    all_charged(request, server, 3)
    # It was not.
    kill(server)
    as_if_not_written(client, server)
    server = begin("one")
    for _ in range(3):
        assert post(server, key, "a").headers["idempotency-replayed"] == "true"
        settled_in(client)
    all_charged(request, server, 6)
    assert "was not written before; it is now" in server.log.read_text()
    stop(server)
    text = "".join(file.read_text() for file in (server.state / "usage").glob("*.ndjson"))
    assert text.count('"request_id":"owed"') == 1


def test_another_server_has_it_written(request, pair):
    """It waits for as long as the first could be about to write it; then it answers, and the first writes it
    when it is there again."""
    client, begin = pair
    one, two = begin("one"), begin("two")
    key = make(request, one, "acme")["key"]
    assert post(one, key, "a").status_code == 200
    settled_in(client)
    all_charged(request, two, 3)
    kill(one)
    as_if_not_written(client, one)
    until("the key is known", lambda: post(two, key, "a").status_code != 401 or "401")
    refused = post(two, key, "a")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "idempotency_in_progress")
    assert 0 < int(refused.headers["retry-after"]) <= 35
    # A minute later.
    client.pexpire(kept(client), KEPT - timedelta(minutes=1))
    for _ in range(3):
        assert post(two, key, "a").headers["idempotency-replayed"] == "true"
    assert charged(request, two) == 3
    one = begin("one")
    all_charged(request, two, 6)
    settled_in(client)
    assert not client.keys("*:owed")
    # Once for all.
    assert post(one, key, "a").headers["idempotency-replayed"] == "true"
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(timeout=60) == 0
    all_charged(request, two, 6)
    stop(two)


def test_what_is_owed_cannot_be_read(request, pair):
    client, begin = pair
    server = begin("one")
    key = make(request, server, "acme")["key"]
    assert post(server, key, "a").status_code == 200
    settled_in(client)
    client.hset(kept(client), "owed", "{not json")
    assert post(server, key, "a").status_code == 200
    assert "cannot be read" in server.log.read_text()
    assert httpx.get(f"http://{server.ops}/readyz").status_code == 200
    stop(server)
