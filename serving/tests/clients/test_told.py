"""What is lost, refused or held is told as it is: by the start, by /readyz, by metrics, and by Retry-After."""

import shutil
import subprocess
import threading
import time

import httpx
import pytest
from conftest import start, stop
from test_ledger import ask, assert_summed, cards, check, kill, metrics, segments, store  # noqa: F401
from test_outages import store_says, verbose
from test_stores import Redis, config, until
from test_tenants import as_tenant, cli, make

BEHIND = 'ml_inference_usage_journal_records_behind{follower="shipped"}'
MISSING = "ml_inference_usage_journal_missing_records"


@pytest.mark.parametrize("gone", ["last", "all", "cut"])
def test_an_end_that_nothing_else_remembers(request, tmp_path, cards, gone):  # noqa: F811
    """The server is killed, and with an older store nothing but the journal knows of the records since."""
    small = tmp_path / "small.toml"
    small.write_text("[usage]\nsegment_bytes_max = 4096\n")
    options = ["--config", str(small)]
    server = start(request, tmp_path, *options, cards=cards)
    ask(server, 5)
    assert_summed(request, server, 5)
    stop(server)
    shutil.copytree(server.state, tmp_path / "backup")
    server = start(request, tmp_path, *options, cards=cards)
    ask(server, 40)
    kill(server)
    state = server.state
    # The store, and what the shipper knew of it, from the backup.
    for name in "store.redb", "usage/tenants.json", "usage/shipped":
        shutil.copy(tmp_path / "backup" / name, state / name)
    records = {path: path.read_text().splitlines(keepends=True) for path in segments(state)}
    last = max(records)
    if gone == "cut":
        last.write_text("".join(records[last][:-1]))
        lost = 1
    else:
        taken = [last] if gone == "last" else list(records)
        lost = sum(len(records[path]) for path in taken)
        for path in taken:
            path.unlink()
    for _ in range(2):
        code, said = check(request, state, "verify", *options)
        assert code == 1 and "are missing" in said, said
        server = start(request, tmp_path, *options, cards=cards)
        assert metrics(server)[MISSING] == lost
        assert "records of the usage journal are missing" in server.log.read_text()
        ask(server, 1)
        stop(server)


def test_a_damaged_first_line_is_damaged_and_not_missing(request, tmp_path, cards):  # noqa: F811
    server = start(request, tmp_path, cards=cards)
    ask(server, 3)
    stop(server)
    path = segments(server.state)[0]
    text = bytearray(path.read_bytes())
    text[40] ^= 1
    path.write_bytes(text)
    code, said = check(request, server.state, "verify")
    assert code == 1 and "damaged" in said and "are missing" not in said, said


@pytest.mark.parametrize("home", ["file", "redis"])
def test_the_key_of_a_killed_call_is_free_when_it_says(request, tmp_path, home):
    arguments = request.getfixturevalue("redis_config") if home == "redis" else ["--config", str(tmp_path / "c.toml")]
    path = tmp_path / ("redis.toml" if home == "redis" else "c.toml")
    path.write_text((path.read_text() if path.exists() else "") + "\n[limits]\nrequest_timeout_ms = 4000\n")
    server = start(request, tmp_path, *arguments)
    key = make(request, server, "acme")["key"]
    long = {"inputs": ["The weather was mild. " * 800] * 8}

    def send(body):
        with as_tenant(server, key) as client:
            return client.post("/v1/ml/summarize", json=body, headers={"Idempotency-Key": "cut"})

    def cut():
        try:
            send(long)
        except httpx.TransportError:
            pass

    caller = threading.Thread(target=cut)
    caller.start()
    until("it is being answered", lambda: 'calls_in_flight 1' in httpx.get(f"http://{server.ops}/metrics").text)
    # What says that it has begun is on the disk with whatever is written next.
    with as_tenant(server, key) as client:
        short = client.post("/v1/ml/sentiment", json={"inputs": "a"})
        assert short.status_code in (200, 503)
    if short.status_code == 200:
        until("it is in the sums", lambda: metrics(server)[BEHIND] == 0)
    kill(server)
    caller.join()
    server = start(request, tmp_path, *arguments)
    answer = send(long)
    if answer.status_code == 409:
        after = int(answer.headers["retry-after"])
        assert 1 <= after <= 9, answer.headers
        time.sleep(after + 1)
        answer = send(long)
    assert answer.status_code != 409, answer.text
    stop(server)


def test_a_redis_that_cannot_persist(request, tmp_path):
    folder = tmp_path / "redis"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], check=True)
    try:
        store = Redis(folder)  # noqa: F811
        store.client.config_set("save", "3600 1000000")
        server = start(request, tmp_path, *config(tmp_path, store.port))
        key = make(request, server, "acme")["key"]
        with (folder / "filler").open("wb", buffering=0) as file:
            try:
                while file.write(b"\0" * 4096):
                    pass
            except OSError:
                pass

        def saves(status):
            info = store.client.info("persistence")
            if not info["rdb_bgsave_in_progress"]:
                store.client.bgsave()
            return info["rdb_last_bgsave_status"] == status or info

        until("it cannot save", lambda: saves("err"))
        store_says(server, "store degraded: Redis: ", "MISCONF")
        with as_tenant(server, key) as client:
            assert [client.post("/v1/ml/sentiment", json={"inputs": "a"}).status_code for _ in range(5)] == [200] * 5
        (folder / "filler").unlink()
        until("it saves", lambda: saves("ok"))
        until("ok again", lambda: verbose(server) == (200, "store ok") or verbose(server))
        summed = lambda: cli(request, server, "usage", "acme")["total"]["completed"]  # noqa: E731
        until("all are summed", lambda: summed() == 5 or summed())
        stop(server)
        store.stop()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_tenants_that_are_lost_while_no_server_runs(request, tmp_path, cards, store):  # noqa: F811
    client, options = store
    server = start(request, tmp_path, *options, cards=cards)
    make(request, server, "acme")
    stop(server)
    client.delete("{ml:accounts}:tenants")
    server = start(request, tmp_path, *options, cards=cards)
    store_says(server, "store degraded: ", "gone from the store")
    assert any(line["level"] == "ERROR" and "not whole" in line["message"] for line in server.log_lines())
    cli(request, server, "tenants", "create", "acme", "--plan", "starter")
    until("whole again", lambda: verbose(server) == (200, "store ok") or verbose(server))
    stop(server)


def test_a_first_start_without_room_names_what_lacks_it(request, tmp_path, cards):  # noqa: F811
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "none", str(state)], check=True)
    try:
        with pytest.raises(RuntimeError, match="No space left on device") as failed:
            start(request, tmp_path, cards=cards)
        assert "Redis" not in str(failed.value)
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)
