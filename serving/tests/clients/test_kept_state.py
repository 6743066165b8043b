"""What a server keeps beside the sums: tenants and keys of which a part is lost, the secret they are hashed
under, the time by which they expire; and what callers are told of their limits."""

import json
import threading
import time

import httpx
import pytest
from conftest import start, stop
from test_identity import signed
from test_jwt import ask as ask_with
from test_jwt import guarded, issuer  # noqa: F401
from test_ledger import CALL, cards, kill, store  # noqa: F401
from test_money import second
from test_tenants import as_tenant, cli, limited, make, settled


def status(server, key):
    return httpx.post(f"http://{server.api}/v1/ml/embeddings", json=CALL, timeout=30,
                      headers={"Authorization": f"Bearer {key}"}).status_code


def without_development(tmp_path, options=None):
    """Arguments of a server that knows its own tenants alone."""
    config = tmp_path / "own.toml"
    text = (tmp_path / "redis.toml").read_text() if options else ""
    config.write_text("development_tenant = false\n" + text)
    return ["--config", str(config)]


@pytest.mark.parametrize("part", ["keys", "tenants"])
def test_a_part_of_the_accounts_that_is_lost_comes_back(request, tmp_path, cards, store, part):  # noqa: F811
    client, options = store
    options = without_development(tmp_path, options)
    one = second(request, tmp_path, "one", *options, cards=cards)
    two = second(request, tmp_path, "two", *options, cards=cards)
    made = [make(request, one, name)["key"] for name in ("acme", "globex")]
    name = f"{{ml:accounts}}:{part}"

    def good():
        return [status(server, key) for server in (one, two) for key in made]

    assert settled(good, [200] * 4, patience=30) == [200] * 4
    records = client.hlen(name)
    client.delete(name)
    assert settled(lambda: client.hlen(name), records, patience=30) == records
    assert good() == [200] * 4, "what is known stays in force"
    # The next change is one of all.
    made.append(cli(request, two, "keys", "create", "acme", "--role", "editor")["key"])
    assert settled(good, [200] * 6, patience=30) == [200] * 6
    # One record alone.
    (field, *_), records = client.hkeys(name), client.hlen(name)
    client.hdel(name, field)
    assert settled(lambda: client.hlen(name), records, patience=30) == records
    assert good() == [200] * 6
    assert cli(request, one, "keys", "list", "acme") is not None
    stop(one)
    stop(two)
    # With nobody who knows it is said.
    client.delete(name)
    one = second(request, tmp_path, "one", *options, cards=cards)
    assert "tenants and keys were lost from Redis" in one.log.read_text()
    stop(one)
    client.flushall()
    one = second(request, tmp_path, "one", *options, cards=cards)
    assert "the store is another one than before, or was emptied" in one.log.read_text()
    stop(one)


def test_another_secret_than_the_keys_were_hashed_under(request, tmp_path, cards):  # noqa: F811
    server = start(request, tmp_path, *without_development(tmp_path), cards=cards)
    key = make(request, server, "acme")["key"]
    stop(server)
    path = server.state / "key.secret"
    right = path.read_bytes()
    for wrong in (None, b"0123456789abcdef" * 4, bytes(64)):
        path.unlink() if wrong is None else path.write_bytes(wrong)
        with pytest.raises(RuntimeError, match="key.secret.*backup"):
            start(request, tmp_path, *without_development(tmp_path), cards=cards)
    path.write_bytes(right)
    server = start(request, tmp_path, *without_development(tmp_path), cards=cards)
    assert status(server, key) == 200
    stop(server)


def test_servers_that_share_redis_share_the_secret(request, tmp_path, cards, store):  # noqa: F811
    _, _ = store
    options = without_development(tmp_path, True)
    one = second(request, tmp_path, "one", *options, cards=cards)
    make(request, one, "acme")
    (tmp_path / "key.secret").write_text("fedcba9876543210" * 4)
    with pytest.raises(RuntimeError, match="not the secret that the stored keys were hashed under"):
        second(request, tmp_path, "two", *options, cards=cards)
    stop(one)


def test_an_expired_key_stays_expired_with_the_clock_set_back(request, tmp_path, cards):  # noqa: F811
    server = start(request, tmp_path, *without_development(tmp_path), cards=cards)
    cli(request, server, "tenants", "create", "acme", "--plan", "enterprise")
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    key = cli(request, server, "keys", "create", "acme", "--role", "editor", "--expires-at", at)["key"]
    assert status(server, key) == 200
    assert settled(lambda: (server.state / "time").exists(), True, patience=30)
    stop(server)
    # As a process whose clock was two hours ahead left it.
    ahead = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 7200))
    (server.state / "time").write_text(ahead)
    server = start(request, tmp_path, *without_development(tmp_path), cards=cards)
    assert status(server, key) == 401 and "clock was set back" in server.log.read_text()
    stop(server)
    # Nonsense, or a clock that was years ahead, locks nobody out.
    for text in ("", "x", "2099-01-01T00:00:00Z"):
        (server.state / "time").write_text(text)
        server = start(request, tmp_path, *without_development(tmp_path), cards=cards)
        assert status(server, key) == 200, text
        kill(server)


def test_every_limit_has_a_name_in_the_header(request, tmp_path, cards):  # noqa: F811
    server = start(request, tmp_path, *without_development(tmp_path), cards=cards)
    key = make(request, server, "acme", limited(100, tokens_per_minute=20))["key"]
    with as_tenant(server, key) as client:
        answer = client.post("/v1/ml/embeddings", json=CALL)
        tokens = answer.json()["usage"]["tokens"]
        policies = dict(part.strip().split(";", 1) for part in answer.headers["ratelimit-policy"].split(","))
        assert policies == {'"minute"': 'q=100;qu="inputs";w=60', '"tokens-minute"': 'q=20;qu="tokens";w=60'}
        left = dict(part.strip().split(";", 1) for part in answer.headers["ratelimit"].split(","))
        assert left == {'"minute"': "r=99;t=60", '"tokens-minute"': f"r={20 - tokens};t=60"}
        answers = [client.post("/v1/ml/embeddings", json=CALL) for _ in range(20)]
        assert answers[-1].status_code == 429
        assert answers[-1].headers["ratelimit-policy"].startswith('"tokens-minute";q=20;qu="tokens"')
    stop(server)


def test_refusals_after_much_reading_count(request, tmp_path, cards):  # noqa: F811
    server = start(request, tmp_path, *without_development(tmp_path), cards=cards)
    key = make(request, server, "acme", limited(10))["key"]
    large, small = '{"inputs": "' + "x " * 100_000 + '"', '{"inputs": "x"'
    with as_tenant(server, key) as client:
        def post(text, **headers):
            return client.post("/v1/ml/embeddings", content=text, headers={"Content-Type": "application/json", **headers})

        assert [post(small).status_code for _ in range(20)] == [400] * 20, "what is small is refused before any work"
        assert post(json.dumps(CALL), **{"Idempotency-Key": "one"}).status_code == 200
        statuses = [post(large + "}", **{"Idempotency-Key": "one"}).status_code for _ in range(4)]
        statuses += [post(large).status_code for _ in range(10)]
        assert statuses == [422] * 4 + [400] * 5 + [429] * 5
    stop(server)


def test_headers_that_have_to_be_understood(guarded, issuer):  # noqa: F811
    for name, value in (("crit", None), ("crit", []), ("zip", "DEF"), ("zip", None), ("cty", "JWT")):
        assert ask_with(guarded, signed(issuer, {name: value})) == (401, f"the JWT's header `{name}` is not accepted here"), value


def test_a_slow_issuer_keeps_nobody_waiting(guarded, issuer):  # noqa: F811
    assert ask_with(guarded, issuer.token())[0] == 200
    release = threading.Event()
    key_set = issuer.key_set
    issuer.key_set = lambda: release.wait(60) and key_set()
    try:
        # Answered while the issuer has not: it is held until after that.
        status, message = ask_with(guarded, issuer.token("unknown", signed_by="rsa-1"))
        assert (status, "not one of the issuer's" in message) == (401, True)
        assert ask_with(guarded, issuer.token())[0] == 200
        assert not release.is_set()
    finally:
        release.set()
        issuer.key_set = key_set
