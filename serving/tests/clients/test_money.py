"""No record is summed twice and none answered is lost, whatever becomes of the files and keys around: names,
copies, locks, moves."""

import shutil
import subprocess

import httpx
import pytest
from conftest import start, stop
from test_ledger import CALL, ask, assert_summed, cards, check, kill, metrics, segments, store  # noqa: F401
from test_tenants import cli, settled


def total(request, server):
    return cli(request, server, "usage", "development")["total"]["completed"]


def ready(server):
    return httpx.get(f"http://{server.ops}/readyz?verbose")


def copy(place, target):
    subprocess.run(["cp", "-a", str(place), str(target)], check=True)


def second(request, tmp_path, name, *options, cards):  # noqa: F811
    """A server with a state folder of this name."""
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    return start(request, folder, *options, cards=cards)


def test_the_journals_name_bills_nothing_twice(request, tmp_path, cards):  # noqa: F811
    server = start(request, tmp_path, cards=cards)
    ask(server, 8)
    assert_summed(request, server, 8)
    stop(server)
    name = server.state / "usage/name"
    right = name.read_text()
    changed = [b"\xff" * 25, right[:20].encode(), right.lower().encode(), b"0" + right[1:].encode(), bytes(26), None]
    for count, written in enumerate(changed, 1):
        name.unlink() if written is None else name.write_bytes(written)
        code, said = check(request, server.state, "verify")
        assert code == 0, said
        code, said = check(request, server.state, "repair")
        assert code == 0, said
        name.unlink() if written is None else name.write_bytes(written)
        server = start(request, tmp_path, cards=cards)
        ask(server, 1)
        assert_summed(request, server, 8 + count)
        stop(server)
        assert name.read_text() == right
    # All that is not a segment.
    for path in (server.state / "usage").iterdir():
        if path.suffix != ".ndjson":
            path.unlink()
    server = start(request, tmp_path, cards=cards)
    ask(server, 1)
    assert_summed(request, server, 9 + len(changed))
    stop(server)
    assert check(request, server.state, "verify")[0] == 0


def test_clones_of_a_state_folder_are_summed_each(request, tmp_path, cards, store):  # noqa: F811
    _, options = store
    one = second(request, tmp_path, "one", *options, cards=cards)
    ask(one, 5)
    assert_summed(request, one, 5)
    # Of a server that runs.
    (tmp_path / "two").mkdir()
    copy(one.state, tmp_path / "two/state")
    two = second(request, tmp_path, "two", *options, cards=cards)
    for count in range(1, 4):
        ask(one, 5)
        ask(two, 5)
        assert_summed(request, one, 5 + 10 * count)
    stop(one)
    stop(two)
    for server in one, two:
        code, said = check(request, server.state, "repair", *options)
        assert code == 0, said
        assert check(request, server.state, "verify", *options)[0] == 0
    one = second(request, tmp_path, "one", *options, cards=cards)
    ask(one, 1)
    assert_summed(request, one, 36)
    stop(one)


@pytest.mark.parametrize("way", ["lock removed", "by a link"])
def test_a_journal_has_one_server_by_whichever_way(request, tmp_path, cards, store, way):  # noqa: F811
    _, options = store
    one = second(request, tmp_path, "one", *options, cards=cards)
    ask(one, 2)
    if way == "lock removed":
        # Both are in the same folder; the log of the first is its own again afterwards.
        (one.state / "lock").unlink()
        name, log = "one", one.log.rename(tmp_path / "first.log")
    else:
        (tmp_path / "two/state").mkdir(parents=True)
        (tmp_path / "two/state/usage").symlink_to(one.state / "usage")
        name, log = "two", one.log
    with pytest.raises(RuntimeError, match="in use by another process, by this path or another one"):
        second(request, tmp_path, name, *options, cards=cards)
    one.log = log
    if way == "by a link":
        ask(one, 2)
        assert_summed(request, one, 4)
    kill(one)


@pytest.mark.parametrize("way", ["removed", "moved", "lock removed"])
def test_what_is_written_where_nobody_finds_it_is_not_answered(request, tmp_path, cards, store, way):  # noqa: F811
    _, options = store
    server = start(request, tmp_path, *options, cards=cards)
    ask(server, 5)
    assert_summed(request, server, 5)
    aside = tmp_path / "aside"
    if way == "removed":
        shutil.rmtree(server.state)
    elif way == "moved":
        server.state.rename(aside)
        copy(aside, server.state)
    else:
        (server.state / "lock").rename(aside)
    # At once, not only when it was looked at.
    ask(server, 10, expected=503)
    answer = ready(server)
    assert answer.status_code == 503 and "journal" in answer.text and str(server.state) in answer.text, answer.text
    lines = [line for line in server.log_lines() if line["level"] == "ERROR" and "cannot be written" in line["message"]]
    assert len(lines) == 1, lines
    if way == "lock removed":
        aside.rename(server.state / "lock")
        assert settled(lambda: ready(server).status_code, 200, patience=30) == 200
        ask(server, 5)
        assert_summed(request, server, 10)
        stop(server)
    else:
        kill(server)
        server = start(request, tmp_path, *options, cards=cards)
        assert_summed(request, server, 5)
        stop(server)


def test_it_is_noticed_while_nobody_calls(request, tmp_path, cards):  # noqa: F811
    server = start(request, tmp_path, cards=cards)
    server.state.rename(tmp_path / "aside")
    assert settled(lambda: ready(server).status_code, 503, patience=30) == 503
    (tmp_path / "aside").rename(server.state)
    assert settled(lambda: ready(server).status_code, 200, patience=30) == 200
    stop(server)


def test_sums_that_are_lost_alone_come_back(request, tmp_path, cards, store):  # noqa: F811
    client, options = store
    server = start(request, tmp_path, *options, cards=cards)
    ask(server, 5)
    assert_summed(request, server, 5)

    def day():
        (key,) = [key for key in client.keys("ml:usage:{development}:2*")]
        return key

    client.delete(day())
    assert_summed(request, server, 5)
    field = next(name for name in client.hkeys(day()) if b"|0|" in name)
    client.hset(day(), field, 99)
    assert_summed(request, server, 5)
    stop(server)
    for change in (lambda: client.delete(day()), lambda: client.hset(day(), field, 99)):
        change()
        code, said = check(request, server.state, "verify", *options)
        assert code == 1, said
        code, said = check(request, server.state, "repair", *options)
        assert code == 0, said
        assert check(request, server.state, "verify", *options)[0] == 0
        assert int(client.hget(day(), field)) == 5
    client.delete(day())
    server = start(request, tmp_path, *options, cards=cards)
    assert_summed(request, server, 5)
    stop(server)
    # Without the configuration of the server it would be summed elsewhere too.
    code, said = check(request, server.state, "repair")
    assert code == 1 and "Redis" in said and "--config" in said, said
    assert not (server.state / "store.redb").exists()


def test_gaps_and_copies_of_segments(request, tmp_path, cards):  # noqa: F811
    config = tmp_path / "small.toml"
    config.write_text("usage.segment_bytes_max = 4096\n")
    options = ["--config", str(config)]
    server = start(request, tmp_path, *options, cards=cards)
    ask(server, 50)
    assert_summed(request, server, 50)
    stop(server)
    # A copy under another number is nothing new.
    first, middle, *_ = segments(server.state)
    shutil.copy(first, first.with_name(f"{1:020}.ndjson"))
    code, said = check(request, server.state, "verify", *options)
    assert code == 1 and "begins before the end" in said, said
    code, said = check(request, server.state, "repair", *options)
    assert code == 0 and "set aside" in said, said
    assert check(request, server.state, "verify", *options)[0] == 0
    # What is missing is said, by all three.
    lost = int(segments(server.state)[2].stem) - int(middle.stem)
    middle.unlink()
    for command in "verify", "repair", "verify":
        code, said = check(request, server.state, command, *options)
        assert code == 1 and "are missing" in said, said
    server = start(request, tmp_path, *options, cards=cards)
    assert metrics(server)["ml_inference_usage_journal_missing_records"] == lost
    assert "records of the usage journal are missing" in server.log.read_text()
    assert_summed(request, server, 50)
    stop(server)


def test_damage_is_judged_by_what_the_store_has(request, tmp_path, cards):  # noqa: F811
    server = start(request, tmp_path, cards=cards)
    ask(server, 6)
    assert_summed(request, server, 6)
    stop(server)
    (segment,) = segments(server.state)
    data = bytearray(segment.read_bytes())
    data[100] ^= 1
    segment.write_bytes(data)
    # It was shipped to a store that is gone.
    (server.state / "store.redb").unlink()
    with pytest.raises(RuntimeError, match="damaged at record .* `ml-inference usage repair`"):
        start(request, tmp_path, cards=cards)
    code, said = check(request, server.state, "repair")
    assert code == 0 and "5 records were added to the sums" in said, said
    server = start(request, tmp_path, cards=cards)
    assert_summed(request, server, 5)
    stop(server)


def test_verify_on_what_cannot_be_written(request, tmp_path, cards):  # noqa: F811
    server = start(request, tmp_path, cards=cards)
    ask(server, 4)
    assert_summed(request, server, 4)
    stop(server)
    subprocess.run(["mount", "--bind", str(server.state), str(server.state)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(server.state)], check=True)
        code, said = check(request, server.state, "verify")
        assert code == 0 and "without its lock" in said and "nothing is wrong" in said, said
    finally:
        subprocess.run(["umount", "-l", str(server.state)], check=True)


def test_calls_that_cannot_be_recorded_do_not_count(request, tmp_path, cards):  # noqa: F811
    config = tmp_path / "few.toml"
    config.write_text("development_tenant = false\n")
    server = start(request, tmp_path, "--config", str(config), cards=cards)
    cli(request, server, "tenants", "create", "acme", "--plan", "free")
    key = cli(request, server, "keys", "create", "acme", "--role", "editor", "--label", "x")["key"]
    (server.state / "lock").rename(tmp_path / "aside")
    with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        # More than the limit of a minute.
        assert {client.post("/v1/ml/embeddings", json=CALL).status_code for _ in range(150)} == {503}
        (tmp_path / "aside").rename(server.state / "lock")
        assert settled(lambda: ready(server).status_code, 200, patience=30) == 200
        answer = client.post("/v1/ml/embeddings", json=CALL)
        assert answer.status_code == 200, answer.text
    stop(server)
