"""What is summed equals what was answered, whatever happens to the store, to the journal, or to the disk
beneath them."""

import json
import os
import shutil
import signal
import subprocess

import httpx
import pytest
import redis
from conftest import KEY, RedisServer, start, stop
from test_tenants import cli, one_model, settled

CALL = {"inputs": "text"}


def ask(server, count, expected=200):
    with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}, timeout=30) as client:
        answers = [client.post("/v1/ml/embeddings", json=CALL) for _ in range(count)]
    assert [answer.status_code for answer in answers] == [expected] * count, answers[-1].text


def assert_summed(request, server, count):
    summed = lambda: cli(request, server, "usage", "development")["total"]["completed"]  # noqa: E731
    assert settled(summed, count, patience=30) == count


def metrics(server):
    lines = httpx.get(f"http://{server.ops}/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line.startswith("ml_inference_usage"))}


def check(request, state, command, *options):
    """What `ml-inference usage verify` or `repair` prints and exits with."""
    arguments = [request.config.getoption("--binary"), "usage", command, "--state-dir", str(state), *options]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def kill(server):
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


def segments(state):
    return sorted((state / "usage").glob("*.ndjson"))


@pytest.fixture
def cards(tmp_path):
    return one_model(tmp_path)


@pytest.fixture
def store(tmp_path):
    """A Redis, and the arguments of a server that keeps its state there."""
    running = RedisServer()
    (tmp_path / "key.secret").write_text("0123456789abcdef" * 4)
    config = tmp_path / "redis.toml"
    config.write_text(f'[tenancy]\nkey_secret_file = "{tmp_path / "key.secret"}"\n'
                      f'store = {{ redis = {{ urls = ["redis://127.0.0.1:{running.port}"] }} }}\n')
    with redis.Redis(port=running.port) as client:
        yield client, ["--config", str(config)]
    running.stop()


@pytest.mark.parametrize("home", ["embedded", "redis"])
def test_a_second_server_on_the_same_folder_is_refused_and_told_who_has_it(request, tmp_path, cards, home):
    options = request.getfixturevalue("store")[1] if home == "redis" else []
    server = start(request, tmp_path, *options, cards=cards)
    log = server.log.rename(tmp_path / "first.log")
    with pytest.raises(RuntimeError, match=f"in use by process {server.process.pid} on .*, since .*; give each server"):
        start(request, tmp_path, *options, cards=cards)
    # The first one's log is its own again.
    server.log = log
    ask(server, 3)
    assert_summed(request, server, 3)
    # However it ends, the folder is free.
    kill(server)
    server = start(request, tmp_path, *options, cards=cards)
    assert_summed(request, server, 3)
    stop(server)


def test_a_store_from_a_backup_or_none_gets_what_the_journal_has(request, tmp_path, cards):
    server = start(request, tmp_path, cards=cards)
    ask(server, 5)
    assert_summed(request, server, 5)
    stop(server)
    shutil.copy(server.state / "store.redb", tmp_path / "backup.redb")
    server = start(request, tmp_path, cards=cards)
    ask(server, 7)
    assert_summed(request, server, 12)
    stop(server)
    shutil.copy(tmp_path / "backup.redb", server.state / "store.redb")
    code, said = check(request, server.state, "verify")
    assert code == 1 and "7 records are not in the sums" in said, said
    server = start(request, tmp_path, cards=cards)
    ask(server, 3)
    assert_summed(request, server, 15)
    assert metrics(server)["ml_inference_usage_sums_went_back_total"] == 1
    stop(server)
    (server.state / "store.redb").write_bytes(b"")
    server = start(request, tmp_path, cards=cards)
    ask(server, 1)
    assert_summed(request, server, 16)
    assert "store.redb" in server.log.read_text() and "keys are lost" in server.log.read_text()
    stop(server)
    # A file that is none is refused, with its name and what to do.
    (server.state / "store.redb").write_bytes(b"no database" * 1000)
    with pytest.raises(RuntimeError, match="store.redb is damaged .*backup"):
        start(request, tmp_path, cards=cards)


def test_a_redis_that_goes_back_or_is_emptied_while_the_server_runs_gets_it_again(request, tmp_path, cards, store):
    client, options = store
    server = start(request, tmp_path, *options, cards=cards)
    ask(server, 5)
    assert_summed(request, server, 5)
    snapshot = {key: client.dump(key) for key in client.keys("ml:usage:*")}
    ask(server, 7)
    assert_summed(request, server, 12)

    def set_back():
        with client.pipeline(transaction=True) as change:
            for key in client.keys("ml:usage:*"):
                change.delete(key)
            for key, value in snapshot.items():
                change.restore(key, 0, value)
            change.execute()

    # Without another call of the tenant.
    set_back()
    assert_summed(request, server, 12)
    set_back()
    ask(server, 3)
    assert_summed(request, server, 15)
    client.flushall()
    assert_summed(request, server, 15)
    # While no server runs.
    stop(server)
    set_back()
    code, said = check(request, server.state, "verify", *options)
    assert code == 1 and "10 records are not in the sums" in said, said
    server = start(request, tmp_path, *options, cards=cards)
    assert_summed(request, server, 15)
    assert check(request, server.state, "verify", *options)[0] == 0, "while the server runs"
    stop(server)


def test_calls_after_a_power_failure_are_billed(request, tmp_path, cards):
    server = start(request, tmp_path, cards=cards)
    ask(server, 40)
    assert_summed(request, server, 40)
    kill(server)
    (segment,) = segments(server.state)
    lines = segment.read_bytes().splitlines(keepends=True)
    assert len(lines) == 40
    # The end was with the operating system alone. It was shipped.
    segment.write_bytes(b"".join(lines[:10]) + lines[10][:50])
    server = start(request, tmp_path, cards=cards)
    ask(server, 50)
    assert_summed(request, server, 90)
    assert metrics(server)['ml_inference_usage_journal_records_behind{follower="shipped"}'] == 0
    stop(server)
    # A position that is nonsense stops nothing either.
    (server.state / "usage/shipped").write_text("999999999")
    server = start(request, tmp_path, cards=cards)
    ask(server, 5)
    assert_summed(request, server, 95)
    stop(server)
    for path in [*segments(server.state), server.state / "usage/shipped", server.state / "lock"]:
        assert path.stat().st_mode & 0o077 == 0, path


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_damage(request, tmp_path, cards):
    config = tmp_path / "small.toml"
    config.write_text("usage.segment_bytes_max = 4096\n")
    options = ["--config", str(config)]
    server = start(request, tmp_path, *options, cards=cards)
    ask(server, 40)
    assert_summed(request, server, 40)
    stop(server)
    first, *_, last = segments(server.state)
    flip(first, 100)
    code, said = check(request, server.state, "verify", *options)
    assert code == 1 and "1 damaged lines, from record 0 on" in said, said
    # All of it is in the sums: it is set aside, and the start goes on.
    server = start(request, tmp_path, *options, cards=cards)
    damaged = lambda: metrics(server)["ml_inference_usage_journal_damaged_segments"]  # noqa: E731
    assert settled(damaged, 1, patience=30) == 1
    assert "was set aside" in server.log.read_text() and first.with_name(first.name + ".damaged").exists()
    ask(server, 2)
    assert_summed(request, server, 42)
    stop(server)
    # Records that nobody has are another matter.
    (server.state / "store.redb").unlink()
    (server.state / "usage/shipped").unlink()
    flip(last, 100)
    with pytest.raises(RuntimeError, match="damaged at record .* `ml-inference usage repair`"):
        start(request, tmp_path, *options, cards=cards)
    code, said = check(request, server.state, "repair", *options)
    assert code == 0 and "1 damaged lines" in said and "40 records were added to the sums" in said, said
    assert check(request, server.state, "verify", *options)[0] == 0
    server = start(request, tmp_path, *options, cards=cards)
    code, said = check(request, server.state, "repair", *options)
    assert code == 1 and f"in use by process {server.process.pid}" in said
    assert_summed(request, server, 40)
    stop(server)


def test_a_full_disk_makes_the_server_unready_and_room_makes_it_ready(request, tmp_path, cards):
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(state)], check=True)
    try:
        server = start(request, tmp_path, cards=cards)
        ask(server, 5)
        assert_summed(request, server, 5)
        ready = lambda: httpx.get(f"http://{server.ops}/readyz").status_code  # noqa: E731
        with (state / "ballast").open("wb", buffering=0) as ballast:
            while True:
                try:
                    ballast.write(bytes(1 << 16))
                except OSError:
                    break
        # Also while nobody calls.
        assert settled(ready, 503, patience=60) == 503
        assert metrics(server)["ml_inference_usage_journal_writable"] == 0
        # There may be room for some more records in what was allotted before; without, nothing is answered.
        with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}, timeout=30) as client:
            answers = [client.post("/v1/ml/embeddings", json=CALL) for _ in range(60)]
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) <= {200, 503} and statuses[-1] == 503, statuses
        assert answers[-1].json()["error"]["code"] == "store_unavailable" and "retry-after" in answers[-1].headers
        answered = statuses.count(200)
        os.unlink(state / "ballast")
        assert settled(ready, 200, patience=60) == 200
        ask(server, 3)
        journal = [json.loads(line[9:]) for path in segments(state) for line in path.read_text().splitlines()]
        assert sum(record["outcome"] == "completed" for record in journal) == 8 + answered
        stop(server)
        # Whatever became of the store meanwhile.
        server = start(request, tmp_path, cards=cards)
        assert_summed(request, server, 8 + answered)
        stop(server)
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)
