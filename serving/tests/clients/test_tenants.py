"""Tenants: from making one to reading its bill, limits over both protocols, roles, and usage that survives
any end."""

import itertools
import json
import random
import signal
import subprocess
import threading
import time
from collections import Counter

import grpc
import httpx
import pytest
from conftest import ROOT, start, stop
from google.rpc import error_details_pb2, status_pb2

PRICES = {"embeddings-v2": 20, "sentiment-v3": 50}


def cli(request, server, *arguments):
    """What `ml-inference` prints for the operator, or the error it ends with."""
    command, *rest = arguments
    options = ["--ops", server.ops, "--token", str(server.state / "operator.token")]
    done = subprocess.run([request.config.getoption("--binary"), command, *options, *rest], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def as_tenant(server, key):
    return httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {key}"}, timeout=30)


def settled(read, expected, patience=5):
    """The value once it is as expected: sums follow the records within a fraction of a second."""
    end = time.monotonic() + patience
    while (value := read()) != expected and time.monotonic() < end:
        time.sleep(0.05)
    return value


def make(request, server, name, plan="enterprise", role="owner"):
    cli(request, server, "tenants", "create", name, "--plan", plan)
    return cli(request, server, "keys", "create", name, "--role", role)


def limited(minute, **terms):
    return json.dumps({"requests_per_minute": minute, "concurrency_max": 100, "weight": 1, **terms})


def test_from_a_tenant_to_its_bill(request, server):
    made = make(request, server, "acme", "starter", "editor")
    owner = cli(request, server, "keys", "create", "acme", "--role", "owner", "--label", "billing")
    with as_tenant(server, made["key"]) as client, as_tenant(server, owner["key"]) as billing:
        for inputs in ["one"], ["two", "three"]:
            answer = client.post("/v1/ml/sentiment", json={"inputs": inputs})
            assert answer.status_code == 200, answer.text
        assert client.post("/v1/ml/embeddings", json={"inputs": "four"}).status_code == 200
        # Refused before any work, which leaves no record, and after it.
        assert client.post("/v1/ml/embeddings", json={"inputs": ""}).status_code == 400
        assert client.post("/v1/ml/embeddings", json={"inputs": "word " * 600}).status_code == 400

        def bill():
            report = billing.get("/v1/ml/usage", params={"by": "model"}).json()
            return {row["model"]: (row["inputs"], row["cost_micro_usd"], row["refused"]) for row in report["rows"]}

        expected = {"embeddings-v2": (1, 20, 1), "sentiment-v3": (3, 150, 0)}
        assert settled(bill, expected) == expected
        report = billing.get("/v1/ml/usage").json()
        assert report["total"]["cost_micro_usd"] == 170 == sum(row["cost_micro_usd"] for row in report["rows"])
        assert report["total"]["device_ms"] > 0 and report["total"]["tokens"] > 0
        # What it costs is for the owner alone.
        assert "cost_micro_usd" not in client.get("/v1/ml/usage").json()["total"]
        table = billing.get("/v1/ml/usage", params={"by": "model", "format": "csv"})
        assert table.headers["content-type"].startswith("text/csv")
        assert table.text.splitlines()[1].startswith("acme,,,embeddings-v2,1,") and table.text.splitlines()[1].endswith(",20")
    assert cli(request, server, "usage", "acme")["total"]["cost_micro_usd"] == 170

    # A rotated key and its successor are both good until the overlap ends; a revoked one is refused at once.
    rotated = cli(request, server, "keys", "rotate", made["id"], "--overlap-seconds", "60")
    for key in made["key"], rotated["key"]:
        with as_tenant(server, key) as client:
            assert client.get("/v1/ml/models").status_code == 200
    cli(request, server, "keys", "revoke", rotated["id"])
    with as_tenant(server, rotated["key"]) as client:
        refused = client.get("/v1/ml/models")
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_credentials")
        assert refused.json()["error"]["message"] == "this API key was revoked"
    cli(request, server, "tenants", "suspend", "acme")
    with as_tenant(server, made["key"]) as client:
        assert client.get("/v1/ml/models").json()["error"]["code"] == "account_suspended"
    cli(request, server, "tenants", "resume", "acme")
    with as_tenant(server, made["key"]) as client:
        assert client.get("/v1/ml/models").status_code == 200

    log = [entry for entry in cli(request, server, "audit")["entries"] if "acme" in json.dumps(entry)]
    actions = [entry["action"] for entry in log]
    assert actions == ["tenant.change", "tenant.change", "key.revoke", "key.rotate", "key.create", "key.create", "tenant.create"]
    assert all(entry["actor"] == "operator" for entry in log)
    assert made["key"] not in json.dumps(log) and made["key"] not in server.log.read_text()


def test_the_minutes_limit(request, server, proto):
    key = make(request, server, "limited", limited(5, requests_per_day=1000))["key"]
    with as_tenant(server, key) as client:
        first = client.post("/v1/ml/sentiment", json={"inputs": "fine"})
        assert first.status_code == 200
        assert first.headers["ratelimit-policy"] == '"minute";q=5;qu="inputs";w=60, "day";q=1000;qu="inputs";w=86400'
        assert first.headers["ratelimit"].startswith('"minute";r=4;t=60, "day";r=999;t=')
        # Refused work costs nothing, and a request of n inputs costs n.
        assert client.post("/v1/ml/sentiment", json={"inputs": ""}).status_code == 400
        assert client.post("/v1/ml/sentiment", json={"inputs": ["a", "b", "c"]}).status_code == 200
        refused = client.post("/v1/ml/sentiment", json={"inputs": ["d", "e"]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert 50 < int(refused.headers["retry-after"]) <= 62
        assert refused.headers["ratelimit"].startswith('"minute";r=1;t=')
        assert client.post("/v1/ml/sentiment", json={"inputs": "the fifth"}).status_code == 200
        assert client.post("/v1/ml/sentiment", json={"inputs": "the sixth"}).status_code == 429
        too_much = client.post("/v1/ml/sentiment", json={"inputs": ["x"] * 6})
        assert (too_much.status_code, too_much.json()["error"]["code"]) == (400, "over_plan_limit")
    with grpc.insecure_channel(server.api) as channel:
        message = proto.AnalyzeSentimentRequest(inputs=["again"])
        with pytest.raises(grpc.RpcError) as error:
            proto.Stub(channel).AnalyzeSentiment(message, metadata=[("authorization", f"Bearer {key}")])
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(error.value.trailing_metadata())
    details = status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details
    retry, quota = error_details_pb2.RetryInfo(), error_details_pb2.QuotaFailure()
    assert any(detail.Unpack(retry) for detail in details) and retry.retry_delay.seconds >= 50
    assert any(detail.Unpack(quota) for detail in details) and quota.violations[0].subject == "inputs/minute"


def test_the_tokens_limit(request, server):
    key = make(request, server, "frugal", limited(1000, tokens_per_minute=20))["key"]
    with as_tenant(server, key) as client:
        words = "one two three four five six seven eight nine ten"
        assert client.post("/v1/ml/embeddings", json={"inputs": words}).status_code == 200
        refused = client.post("/v1/ml/embeddings", json={"inputs": words})
        assert refused.status_code == 429 and "20 tokens in 60 s" in refused.json()["error"]["message"]
        assert client.post("/v1/ml/embeddings", json={"inputs": "few"}).status_code == 200


def test_tenants_of_a_file(request, tmp_path):
    """A file makes tenants with keys; what it says at the next start is in force then; what is wrong with it
    is said with its place."""
    binary = request.config.getoption("--binary")
    make_key = lambda: subprocess.run([binary, "generate-key"], capture_output=True, text=True, check=True).stdout.strip()  # noqa: E731
    (old, new), file, config = (make_key(), make_key()), tmp_path / "tenants.toml", tmp_path / "server.toml"
    config.write_text(f'tenancy.tenants_file = "{file}"\n')
    tenant = '[[tenants]]\nname = "acme"\nplan = "{}"\n[[tenants.keys]]\nlabel = "ci"\nkey_file = "{}"\n'

    def served(plan, key):
        (tmp_path / "ci.key").write_text(key + "\n")
        file.write_text(tenant.format(plan, tmp_path / "ci.key"))
        running = start(request, tmp_path, "--config", str(config))
        answers = {}
        for name, shown in ("old", old), ("new", new):
            with as_tenant(running, shown) as client:
                answer = client.post("/v1/ml/sentiment", json={"inputs": "Declared."})
            answers[name] = answer.status_code, answer.headers.get("ratelimit-policy", "").split(";")[1:2]
        audit = cli(request, running, "audit")["entries"]
        stop(running)
        assert old not in running.log.read_text() + json.dumps(audit)
        return answers, [(entry["actor"], entry["action"]) for entry in audit]

    answers, audit = served("free", old)
    assert answers == {"old": (200, ["q=100"]), "new": (401, [])}
    assert audit == [("tenants_file", "key.create"), ("tenants_file", "tenant.create")]
    answers, audit = served("starter", new)
    assert answers == {"old": (401, []), "new": (200, ["q=500"])}
    assert audit[:2] == [("tenants_file", "key.change"), ("tenants_file", "tenant.change")]
    file.write_text(tenant.format("gold", tmp_path / "ci.key"))
    with pytest.raises(RuntimeError, match="tenants.toml: TOML parse error at line 3, column 8"):
        start(request, tmp_path, "--config", str(config))


def test_roles(request, server):
    keys = {role: make(request, server, f"role-{role}", role=role)["key"] for role in ["viewer", "editor", "admin", "owner"]}

    def status(role, method, path, body=None):
        with as_tenant(server, keys[role]) as client:
            return client.request(method, path, json=body).status_code

    text = {"inputs": "fine"}
    assert [status(role, "GET", "/v1/ml/models") for role in keys] == [200, 200, 200, 200]
    assert [status(role, "POST", "/v1/ml/sentiment", text) for role in keys] == [403, 200, 200, 200]
    assert [status(role, "GET", "/v1/ml/keys") for role in keys] == [403, 403, 200, 200]
    assert [status(role, "POST", "/v1/ml/keys", {"role": "owner"}) for role in keys] == [403, 403, 403, 201]
    # An administrator manages its own tenant's keys and no other's.
    with as_tenant(server, keys["admin"]) as admin:
        made = admin.post("/v1/ml/keys", json={"label": "mine", "role": "viewer"}).json()
        assert {key["label"] for key in admin.get("/v1/ml/keys").json()["keys"]} == {"", "mine"}
        rotated = admin.post(f"/v1/ml/keys/{made['id']}/rotate", json={"overlap_seconds": 0})
        assert rotated.status_code == 201 and rotated.json()["key"].startswith("tc_live_")
        assert admin.delete(f"/v1/ml/keys/{rotated.json()['id']}").json()["state"] == "revoked"
        owner = cli(request, server, "keys", "create", "role-admin", "--role", "owner")["id"]
        assert admin.post(f"/v1/ml/keys/{owner}/rotate", json={}).status_code == 403, "no way up to the owner's role"
        assert admin.delete(f"/v1/ml/keys/{owner}").status_code == 403
        others = cli(request, server, "keys", "list", "role-owner")["keys"][0]["id"]
        assert admin.delete(f"/v1/ml/keys/{others}").status_code == 404


def test_bad_requests_of_the_operator(server):
    token = (server.state / "operator.token").read_text()
    assert (server.state / "operator.token").stat().st_mode & 0o077 == 0
    with httpx.Client(base_url=f"http://{server.ops}/admin/v1") as client:
        assert client.get("/tenants").status_code == 401
        assert client.get("/tenants", headers={"Authorization": "Bearer op_wrong"}).status_code == 401
        client.headers["Authorization"] = f"Bearer {token}"

        def refusal(path, body):
            answer = client.post(path, json=body)
            return answer.status_code, answer.json()["error"]["message"]

        assert refusal("/tenants", {"name": "Bad Name", "plan": "free"})[0] == 400
        assert "expected one of `free`" in refusal("/tenants", {"name": "a", "plan": "gold"})[1]
        assert refusal("/tenants", {"name": "development", "plan": "free"}) == (400, "this name is reserved")
        zero = {"requests_per_minute": 0, "concurrency_max": 1, "weight": 1}
        assert "requests_per_minute: must be 1" in refusal("/tenants", {"name": "a", "plan": {"custom": zero}})[1]
        assert refusal("/tenants/nobody/keys", {}) == (404, "no such tenant")
        past = {"expires_at": "2020-01-01T00:00:00Z"}
        assert refusal("/tenants/nobody/keys", past) == (400, "expires_at: must be in the future")
        assert client.get("/tenants/nobody/usage", params={"by": "week"}).status_code == 400
    with httpx.Client(base_url=f"http://{server.api}") as client:
        client.headers["Authorization"] = f"Bearer {token}"
        assert client.get("/admin/v1/tenants").status_code == 404, "not on the public port"


def one_model(folder):
    """Cards of one model alone, with which a server starts in a moment."""
    cards = folder / "cards"
    cards.mkdir()
    (cards / "embeddings-v2").symlink_to(ROOT / "model-cards/embeddings-v2")
    return cards


def journal(state):
    lines = (line for file in sorted((state / "usage").glob("*.ndjson")) for line in file.read_text().splitlines())
    return [json.loads(line[9:]) for line in lines]


@pytest.mark.parametrize("home", ["embedded", "redis"])
def test_killed_at_any_moment_nothing_answered_is_lost_or_counted_twice(request, tmp_path, home):
    kills = 50
    options = request.getfixturevalue("redis_config") if home == "redis" else []
    cards = one_model(tmp_path)
    chance = random.Random(17)
    numbers, receipts, key = itertools.count(), [], None
    for kill in range(kills + 1):
        running = start(request, tmp_path, *options, cards=cards)
        key = key or make(request, running, "acme")["key"]
        if kill == kills:
            break
        stopped = threading.Event()

        def ask():
            with as_tenant(running, key) as client:
                while not stopped.is_set():
                    name, inputs = f"r{next(numbers)}", chance.randint(1, 3)
                    try:
                        body = {"inputs": ["text"] * inputs}
                        if client.post("/v1/ml/embeddings", json=body, headers={"X-Request-Id": name}).status_code == 200:
                            receipts.append((name, inputs))
                    except httpx.TransportError:
                        return

        callers = [threading.Thread(target=ask) for _ in range(4)]
        for caller in callers:
            caller.start()
        time.sleep(chance.uniform(0.02, 0.4))
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
        stopped.set()
        for caller in callers:
            caller.join()

    records = journal(running.state)
    completed = [record for record in records if record["outcome"] == "completed"]
    seen = Counter(record["request_id"] for record in records)
    assert len(receipts) > kills and max(seen.values()) == 1
    inputs = {record["request_id"]: record["inputs"] for record in completed}
    assert all(inputs.get(name) == count for name, count in receipts), "an answered request was not recorded"

    def total():
        total = cli(request, running, "usage", "acme")["total"]
        return total["completed"], total["inputs"], total["cost_micro_usd"]

    count = sum(inputs.values())
    expected = (len(completed), count, count * PRICES["embeddings-v2"])
    assert settled(total, expected, patience=20) == expected
    stop(running)


def test_limits_outlast_a_restart(request, tmp_path):
    cards = one_model(tmp_path)
    running = start(request, tmp_path, cards=cards)
    key = make(request, running, "acme", limited(5))["key"]
    text = {"inputs": ["a", "b", "c", "d"]}
    with as_tenant(running, key) as client:
        assert client.post("/v1/ml/embeddings", json=text).status_code == 200
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()
    running = start(request, tmp_path, cards=cards)
    with as_tenant(running, key) as client:
        assert client.post("/v1/ml/embeddings", json={"inputs": "the fifth"}).status_code == 200
        assert client.post("/v1/ml/embeddings", json={"inputs": "the sixth"}).status_code == 429
    stop(running)


def test_two_servers_share_one_redis(request, tmp_path, redis_config):
    """Three times the plan's rate at two servers: no more is let through than the plan allows."""
    minute, cards, servers = 120, one_model(tmp_path), []
    for name in "one", "two":
        (tmp_path / name).mkdir()
        servers.append(start(request, tmp_path / name, *redis_config, cards=cards))
    key = make(request, servers[0], "acme", limited(minute))["key"]
    # The other server knows the key within its next look.
    with as_tenant(servers[1], key) as client:
        assert settled(lambda: client.get("/v1/ml/models").status_code, 200) == 200
    statuses = Counter()

    def ask(server):
        with as_tenant(server, key) as client:
            statuses.update(client.post("/v1/ml/embeddings", json={"inputs": "x"}).status_code for _ in range(90))

    callers = [threading.Thread(target=ask, args=[server]) for server in servers * 2]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    # A share is at most a sixtieth of the limit, so that much can be left with the other server.
    assert set(statuses) == {200, 429} and minute - 2 <= statuses[200] <= minute, statuses
    # Both show the same sums.
    for server in servers:
        completed = lambda: cli(request, server, "usage", "acme")["total"]["completed"]  # noqa: E731
        assert settled(completed, statuses[200]) == statuses[200]
    # A key that one server revokes is refused by the other within seconds.
    revoked = cli(request, servers[0], "keys", "list", "acme")["keys"][0]["id"]
    cli(request, servers[0], "keys", "revoke", revoked)
    with as_tenant(servers[1], key) as client:
        assert settled(lambda: client.get("/v1/ml/models").status_code, 401) == 401
    for server in servers:
        stop(server)
