"""What operators see of tenants: refusals by limit, a store that does not answer, keys that grew old, and
everybody's usage at once."""

import json
import time

import httpx
import redis
from conftest import RedisServer, scraped, start, stop
from test_tenants import as_tenant, cli, limited, make, settled


def metrics(server):
    return {(sample.name.removeprefix("ml_inference_"), *sorted(sample.labels.values())): sample.value
            for sample in scraped(server)}


def test_everybodys_usage(request, tmp_path):
    server = start(request, tmp_path)
    for tenant, count in ("acme", 1), ("globex", 2):
        with as_tenant(server, make(request, server, tenant)["key"]) as client:
            for _ in range(count):
                assert client.post("/v1/ml/sentiment", json={"inputs": "Well."}).status_code == 200
    assert settled(lambda: cli(request, server, "usage")["total"]["cost_micro_usd"], 150) == 150
    report = cli(request, server, "usage", "--by", "tenant,day")
    assert [(row["tenant"], row["inputs"], row["cost_micro_usd"]) for row in report["rows"]] == [
        ("acme", 1, 50), ("globex", 2, 100)]
    assert "tenant" not in report and all(row["day"] == report["to"] for row in report["rows"])
    token = (server.state / "operator.token").read_text()
    table = httpx.get(f"http://{server.ops}/admin/v1/usage", params={"by": "tenant,model", "format": "csv"},
                      headers={"Authorization": f"Bearer {token}"})
    assert table.text.splitlines()[1:] == [f"{name},,,sentiment-v3,{n},{table.text.splitlines()[n].split(',')[5]},{n},0,0,0,0,"
                                           f"{table.text.splitlines()[n].split(',')[11]},{50 * n}"
                                           for n, name in ((1, "acme"), (2, "globex"))]
    assert httpx.get(f"http://{server.ops}/admin/v1/usage").status_code == 401
    stop(server)


def test_lists_have_pages(request, server):
    make(request, server, "paged")
    token = (server.state / "operator.token").read_text()
    with httpx.Client(base_url=f"http://{server.ops}/admin/v1", headers={"Authorization": f"Bearer {token}"}) as operator:
        for _ in range(104):
            assert operator.post("/tenants/paged/keys", json={}).status_code == 201
        first = operator.get("/tenants/paged/keys").json()
        assert len(first["keys"]) == 100 and first["next"] == first["keys"][-1]["id"]
        second = operator.get("/tenants/paged/keys", params={"after": first["next"]}).json()
        assert len(second["keys"]) == 5 and "next" not in second
        few = operator.get("/keys", params={"limit": 2, "after": first["keys"][0]["id"]}).json()
        assert [key["id"] for key in few["keys"]] == [key["id"] for key in first["keys"][1:3]]
        for query in {"limit": 0}, {"limit": 101}, {"page": 2}:
            assert operator.get("/tenants", params=query).status_code == 400
    assert len(cli(request, server, "keys", "list", "paged")["keys"]) == 105


def test_refusals_are_counted_by_limit(request, server):
    made = make(request, server, "limited-by-minute", limited(1))
    with as_tenant(server, made["key"]) as client:
        assert [client.post("/v1/ml/sentiment", json={"inputs": "Well."}).status_code for _ in range(3)] == [200, 429, 429]
    # Whose they are is shown to the operator alone.
    assert metrics(server)["limits_refusals_total", "requests_per_minute"] >= 2
    token = (server.state / "operator.token").read_text()
    detailed = httpx.get(f"http://{server.ops}/admin/v1/metrics", headers={"Authorization": f"Bearer {token}"}).text
    assert 'limits_refusals_total{tenant="limited-by-minute",limit="requests_per_minute"} 2' in detailed


def test_a_redis_that_dies_is_seen_and_old_keys_are_told_of(request, tmp_path):
    store = RedisServer()
    (tmp_path / "key.secret").write_text("0123456789abcdef" * 4)
    config = tmp_path / "redis.toml"
    config.write_text(f'[tenancy]\nkey_secret_file = "{tmp_path}/key.secret"\n'
                      f'store = {{ redis = {{ urls = ["redis://127.0.0.1:{store.port}"] }} }}\n')
    server = start(request, tmp_path, "--config", str(config))
    made = make(request, server, "acme")
    assert settled(lambda: metrics(server)["keys_rotation_due",], 0) == 0
    stop(server)
    with redis.Redis(port=store.port, decode_responses=True) as client:
        record = json.loads(client.hget("{ml:accounts}:keys", made["id"]))
        client.hset("{ml:accounts}:keys", made["id"], json.dumps({**record, "created_at": "2026-01-01T00:00:00Z"}))
    server = start(request, tmp_path, "--config", str(config))
    assert settled(lambda: metrics(server)["keys_rotation_due",], 1) == 1
    (warning,) = [line for line in server.log_lines() if line["message"] == "this key is due to be rotated"]
    assert (warning["level"], warning["key"], warning["tenant"]) == ("WARN", made["id"], "acme")
    assert (metrics(server)["store_unreachable",], metrics(server)["limits_degraded_total",]) == (0, 0)
    store.stop()
    # Within its part of the limits it goes on, and stays ready.
    with as_tenant(server, made["key"]) as client:
        def is_seen():
            seen = metrics(server)
            return seen["store_unreachable",] == 1 and seen["limits_degraded_total",] > 0

        end = time.monotonic() + 60
        while not is_seen() and time.monotonic() < end:
            assert client.post("/v1/ml/sentiment", json={"inputs": "Well."}).status_code == 200
    assert is_seen()
    assert metrics(server)["usage_journal_records_behind", "shipped"] > 0
    assert httpx.get(f"http://{server.ops}/readyz").status_code == 200
    server.process.terminate()
    server.process.wait(timeout=60)
