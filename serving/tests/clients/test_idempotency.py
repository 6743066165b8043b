"""`Idempotency-Key`: a request that is sent again is answered again, not computed and not charged again; on
one server, after a restart, on another server that shares its Redis, and when the server is killed in
between."""

import json
import random
import signal
import subprocess
import threading
import time
import uuid
from collections import Counter

import httpx
import pytest
from conftest import start, stop
from test_tenants import as_tenant, cli, make, settled

TEXTS = {"inputs": ["The delivery was late.", "Thank you!"]}


def post(client, key, json=TEXTS, path="/v1/ml/sentiment", **headers):
    return client.post(path, json=json, headers={"Idempotency-Key": key, **headers})


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def total(request, server, tenant):
    return cli(request, server, "usage", tenant)["total"]


def test_a_replay_is_the_same_answer_and_free(request, server):
    made = make(request, server, "replayer")
    with as_tenant(server, made["key"]) as client:
        first, second = post(client, "order-17"), post(client, '"order-17"')
        assert (first.status_code, second.status_code) == (200, 200)
        assert first.content == second.content and "idempotency-replayed" not in first.headers
        assert second.headers["idempotency-replayed"] == "true" and second.headers["content-type"] == "application/json"
        assert code(post(client, "order-17", {"inputs": "Something else."})) == (422, "idempotency_key_reused")
        assert code(post(client, "order-17", path="/v1/ml/classify")) == (422, "idempotency_key_reused")
        assert post(client, "order-18").status_code == 200
        # A failure is not kept: the same key may be used for what is sent next.
        assert post(client, "order-19", {"inputs": ""}).status_code == 400
        assert settled(lambda: post(client, "order-19").status_code, 200) == 200
        for bad in "", "a b", "x" * 256:
            assert code(post(client, bad)) == (400, "invalid_request"), bad
    # Two inputs each, three requests: what was given again was not charged.
    assert settled(lambda: total(request, server, "replayer")["cost_micro_usd"], 300) == 300
    # Keys of tenants have nothing to do with each other.
    other = make(request, server, "other-replayer")
    with as_tenant(server, other["key"]) as client:
        assert "idempotency-replayed" not in post(client, "order-17").headers


def test_at_the_same_time_one_is_computed(request, server):
    made = make(request, server, "hasty")
    results = []

    def ask():
        with as_tenant(server, made["key"]) as client:
            while True:
                answer = post(client, "once", {"inputs": "word " * 400})
                if answer.status_code != 409:
                    results.append(answer)
                    return
                assert code(answer) == (409, "idempotency_in_progress") and answer.headers["retry-after"] == "1"
                time.sleep(0.01)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer.content for answer in results}) == 1 and {answer.status_code for answer in results} == {200}
    assert sum("idempotency-replayed" in answer.headers for answer in results) == 7
    assert settled(lambda: total(request, server, "hasty")["completed"], 1) == 1


def test_keys_and_tenants_are_made_once(request, server):
    token = (server.state / "operator.token").read_text()
    with httpx.Client(base_url=f"http://{server.ops}/admin/v1", headers={"Authorization": f"Bearer {token}"}) as operator:
        answers = [post(operator, "t-1", {"name": "once", "plan": "free"}, "/tenants") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 201] and answers[0].content == answers[1].content
        keys = [post(operator, "k-1", {"label": "ci", "role": "admin"}, "/tenants/once/keys") for _ in range(2)]
        # The key itself is shown once.
        assert [answer.status_code for answer in keys] == [201, 200] and keys[0].json()["id"] == keys[1].json()["id"]
    with as_tenant(server, keys[0].json()["key"]) as client:
        own = [post(client, "k-1", {"label": "own"}, "/v1/ml/keys") for _ in range(2)]
        assert own[0].status_code == 201 and own[0].json()["id"] == own[1].json()["id"]
        assert len(client.get("/v1/ml/keys").json()["keys"]) == 2
    # What is kept is sealed: not one of the keys is in a file.
    for secret in keys[0].json()["key"], own[0].json()["key"]:
        assert subprocess.run(["grep", "-rq", secret, str(server.state)]).returncode == 1


@pytest.mark.parametrize("home", ["file", "redis"])
def test_answers_outlast_the_server_and_are_shared(request, tmp_path, home):
    arguments = request.getfixturevalue("redis_config") if home == "redis" else []
    first = start(request, tmp_path, *arguments)
    made = make(request, first, "acme")
    with as_tenant(first, made["key"]) as client:
        answer = post(client, "again")
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    folder = tmp_path / "second" if home == "redis" else tmp_path
    folder.mkdir(exist_ok=True)
    second = start(request, folder, *arguments)
    with as_tenant(second, made["key"]) as client:
        again = post(client, "again")
    assert again.content == answer.content and again.headers["idempotency-replayed"] == "true"
    stop(second)


def test_killed_at_any_moment_nobody_is_charged_twice(request, tmp_path):
    """Callers send every request until it is answered; the server is killed again and again. However often
    each was sent, it was charged once at most, and each that was answered, for the first time or again,
    was charged."""
    server = start(request, tmp_path)
    made = make(request, server, "stubborn")
    current, is_over, answered = {"server": server}, threading.Event(), {"computed": [], "replayed": []}

    def ask():
        while not is_over.is_set():
            key = str(uuid.uuid4())
            while True:
                try:
                    with as_tenant(current["server"], made["key"]) as client:
                        answer = post(client, key, {"inputs": f"Order {key} is fine."}, **{"X-Request-ID": key})
                except httpx.TransportError:
                    time.sleep(0.02)
                    continue
                if answer.status_code == 200:
                    answered["replayed" if "idempotency-replayed" in answer.headers else "computed"].append(key)
                    break
                # The key of a request that was cut off is held until it would have timed out.
                if answer.status_code == 409:
                    break

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    draw = random.Random(5)
    for _ in range(10):
        time.sleep(draw.uniform(0.05, 0.4))
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        server = current["server"] = start(request, tmp_path)
    # However slow the machine is: enough to tell of.
    end = time.monotonic() + 60
    while len(answered["computed"]) <= 20 and time.monotonic() < end:
        time.sleep(0.02)
    is_over.set()
    for thread in threads:
        thread.join()
    with as_tenant(server, made["key"]) as client:
        for key in answered["computed"][:10]:
            again = post(client, key, {"inputs": f"Order {key} is fine."})
            assert again.status_code == 200 and again.headers["idempotency-replayed"] == "true"
    stop(server)
    charged = Counter()
    for file in (server.state / "usage").glob("*.ndjson"):
        records = (json.loads(line[9:]) for line in file.read_text().splitlines())
        charged.update(record["request_id"] for record in records if record["outcome"] == "completed")
    assert max(charged.values()) == 1
    assert len(answered["computed"]) > 20
    assert [key for keys in answered.values() for key in keys if charged[key] != 1] == []
