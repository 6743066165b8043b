"""Backup and restore, by the steps of docs/deployment.md: accounts and bills of a Redis from its snapshot, with
the servers' journals and without them; and a lone server from its folder."""

import shutil
import subprocess
import time

import httpx
import pytest
from conftest import ROOT, RedisServer, start, stop
from peers import cli, key_of

SECRET = "0123456789abcdef" * 4


def back_up(redis, path):
    subprocess.run(["redis-cli", "-p", str(redis.port), "--rdb", str(path)], check=True, capture_output=True)


@pytest.fixture
def cards(tmp_path):
    folder = tmp_path / "cards"
    folder.mkdir()
    (folder / "embeddings-v2").symlink_to(ROOT / "model-cards/embeddings-v2")
    return folder


def started(request, folder, cards, redis):
    folder.mkdir(exist_ok=True)
    (folder / "key.secret").write_text(SECRET)
    (folder / "server.toml").write_text(
        f'development_tenant = false\n[tenancy]\nkey_secret_file = "{folder}/key.secret"\n'
        + (f'store = {{ redis = {{ urls = ["redis://127.0.0.1:{redis.port}"] }} }}\n' if redis else ""))
    return start(request, folder, "--config", str(folder / "server.toml"), cards=cards)


def ask(server, key):
    answer = httpx.post(f"http://{server.api}/v1/ml/embeddings", headers={"Authorization": f"Bearer {key}"},
                        json={"inputs": "A fine day."}, timeout=60)
    assert answer.status_code == 200, answer.text


def inputs(request, server):
    """What the bills have, once the sums have everything."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        metrics = httpx.get(f"http://{server.ops}/metrics").text
        if 'records_behind{follower="shipped"} 0\n' in metrics:
            break
        time.sleep(0.05)
    return sum(row["inputs"] for row in cli(request, server, "usage", "--by", "tenant")["rows"])


def verify(request, folder):
    command = [request.config.getoption("--binary"), "usage", "verify", "--config", str(folder / "server.toml"),
               "--state-dir", str(folder / "state")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_redis_is_restored_with_the_journals_and_without_them(request, tmp_path, cards):
    first = RedisServer()
    server = started(request, tmp_path / "server", cards, first)
    key = key_of(request, server, "acme", "starter")
    ask(server, key)
    assert inputs(request, server) == 1
    backup = tmp_path / "backup.rdb"
    back_up(first, backup)
    ask(server, key)
    assert inputs(request, server) == 2
    stop(server)
    first.stop()

    # With the journals also what came after the snapshot is there.
    for name, folder, expected in ("with", tmp_path / "server", 2), ("without", tmp_path / "new", 1):
        (tmp_path / name).mkdir()
        shutil.copy(backup, tmp_path / name / "dump.rdb")
        redis = RedisServer(tmp_path / name)
        server = started(request, folder, cards, redis)
        assert inputs(request, server) == expected, name
        ask(server, key)
        assert inputs(request, server) == expected + 1, name
        stop(server)
        done = verify(request, folder)
        assert done.returncode == 0, done.stdout + done.stderr
        redis.stop()


def test_a_state_folder_is_restored_from_its_copy(request, tmp_path, cards):
    """Of a lone server with the embedded store, stopped while it is copied."""
    folder = tmp_path / "server"
    server = started(request, folder, cards, None)
    key = key_of(request, server, "acme", "starter")
    ask(server, key)
    assert inputs(request, server) == 1
    stop(server)
    shutil.copytree(folder / "state", tmp_path / "backup")
    shutil.rmtree(folder / "state")
    shutil.copytree(tmp_path / "backup", folder / "state")
    assert verify(request, folder).returncode == 0
    server = started(request, folder, cards, None)
    ask(server, key)
    assert inputs(request, server) == 2
    assert any(entry["action"].startswith("tenant") for entry in cli(request, server, "audit")["entries"])
    stop(server)
