"""Who may do what: JWTs by the letter, answers that are given again to nobody else, keys and test keys."""

import http.server
import json
import threading
import time

import grpc
import httpx
import pytest
from conftest import KEY, stop
from google.rpc import error_details_pb2, status_pb2
from identity import code, over_http2, started, warnings
from test_jwt import AUDIENCE, ISSUER, Issuer, issuer  # noqa: F401
from test_tenants import as_tenant, cli, limited, make, settled


@pytest.fixture(scope="module")
def guarded(request, issuer, tmp_path_factory):  # noqa: F811
    """A server with an issuer, small bounds and no development tenant."""
    running = started(request, tmp_path_factory.mktemp("identity"), f"""
        development_tenant = false
        [limits]
        idempotent_answers_per_tenant_max = 5
        [tenancy]
        keys_per_tenant_max = 4
        [tenancy.jwt]
        issuer = "{ISSUER}"
        audience = "{AUDIENCE}"
        keys = "{issuer.url}"
        leeway_seconds = 5
        lifetime_max_seconds = 3600
    """)
    yield running
    stop(running)


# JWTs


def ask(server, token):
    answer = httpx.get(f"http://{server.api}/v1/ml/models", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code, answer.json()["error"]["message"] if "error" in answer.text else ""


def signed(issuer, headers=None, kid="rsa-1", without=(), **changes):
    """A token with headers of one's own."""
    import jwt

    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "user|17", "iat": now, "exp": now + 900, "tenant": "jwt-tenant",
              "plan": "enterprise", "roles": ["viewer"], **changes}
    claims = {name: value for name, value in claims.items() if name not in without}
    return jwt.encode(claims, issuer.keys[kid], algorithm="RS256" if kid.startswith("rsa") else "ES256",
                      headers={"kid": kid, **(headers or {})})


def test_tokens_by_the_letter(guarded, issuer):
    now = int(time.time())
    terms = {"requests_per_minute": 5, "concurrency_max": 1, "weight": 1}
    good = [
        signed(issuer),
        *(signed(issuer, {"typ": kind}) for kind in ("JWT", "jwt", "at+jwt", "application/at+jwt", "application/JWT")),
        signed(issuer, nbf=now - 1), signed(issuer, nbf=now + 3.5), signed(issuer, without=["iat"]),
        signed(issuer, exp=now + 3599), signed(issuer, iat=now - 1800, exp=now + 1800),
        signed(issuer, plan={"custom": terms}),
    ]
    for token in good:
        assert ask(guarded, token) == (200, ""), token
    bad = [
        ("header `crit`", signed(issuer, {"crit": ["exp"], "exp": now})),
        ("header `crit`", signed(issuer, {"crit": ["b64"], "b64": True})),
        ("header `crit`", signed(issuer, {"crit": []})),
        ("malformed", signed(issuer, {"crit": "exp"})),
        *(("header `typ`", signed(issuer, {"typ": kind})) for kind in ("logout+jwt", "dpop+jwt", "JWE", "application/json")),
        *((f"claim `{name}`", signed(issuer, **{name: wrong}))
          for name in ("nbf", "iat", "exp") for wrong in (str(now), True, None, -1)),
        ("JWT", signed(issuer, nbf=[now])), ("JWT", signed(issuer, iat={"at": now})),
        ("not valid yet", signed(issuer, nbf=now + 60)),
        ("longer time", signed(issuer, exp=now + 4000)),
        ("longer time", signed(issuer, exp=now + 10 * 366 * 86_400)),
        ("longer time", signed(issuer, exp=1e300)),
        ("longer time", signed(issuer, without=["iat"], exp=now + 4000)),
        ("longer time", signed(issuer, iat=now - 86_400, exp=now + 60)),
        ("longer time", signed(issuer, without=["iat"], nbf=now - 86_400, exp=now + 60)),
        ("claim `aud`", signed(issuer, aud=[AUDIENCE, 7])),
        ("claim `aud`", signed(issuer, aud={"a": AUDIENCE})),
        ("claim `sub`", signed(issuer, sub="")),
        ("claim `roles`", signed(issuer, roles=["viewer", 7])),
        *(("claim `plan`", signed(issuer, plan={"custom": {**terms, name: wrong}}))
          for name, wrong in (("requests_per_minute", 0), ("weight", 0), ("weight", 1_000_000), ("concurrency_max", 0))),
    ]
    for part, token in bad:
        status, message = ask(guarded, token)
        assert status == 401 and part in message, (part, message)


class Keys:
    """A server of a key set, which can be told to send something else. Counts what it sent."""

    def __init__(self, key_set):
        self.sent, self.path, outer = 0, "/keys", self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if outer.path == "/redirect" and self.path == "/keys":
                    self.send_response(302)
                    self.send_header("Location", "/elsewhere")
                    self.end_headers()
                    return
                self.send_response(200)
                self.end_headers()
                if outer.path == "/endless":
                    try:
                        while True:
                            outer.sent += self.wfile.write(b" " * 65_536)
                    except OSError:
                        return
                self.wfile.write(json.dumps(key_set()).encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"


def test_key_sets(request, tmp_path, issuer):
    """Keys for other uses are no keys for signatures; a redirect is not followed; no more is read than a key
    set may have."""
    from copy import deepcopy

    from cryptography.hazmat.primitives.asymmetric import rsa

    extra = Issuer()
    extra.keys = {f"rsa-{name}": rsa.generate_private_key(65537, 2048) for name in ("ops", "enc", "sign", "verify", "alg")}
    changes = {"rsa-ops": {"key_ops": ["encrypt"]}, "rsa-enc": {"use": "enc"}, "rsa-sign": {"key_ops": ["sign"]},
               "rsa-verify": {"key_ops": ["verify"]}, "rsa-alg": {"alg": "PS256"}}

    def key_set():
        keys = deepcopy(extra.key_set()["keys"])
        for key in keys:
            del key["use"]
            key.update(changes[key["kid"]])
            # What PyJWT says of it is replaced, not added to.
            key["key_ops"] = changes[key["kid"]].get("key_ops") or key.pop("key_ops", None) or ["verify"]
        # What cannot be read is left out.
        return {"keys": [{"kty": "strange", "kid": "x"}, 7, {"kty": "RSA"}, *keys]}

    source = Keys(key_set)
    server = started(request, tmp_path, f"""
        [tenancy.jwt]
        issuer = "{ISSUER}"
        audience = "{AUDIENCE}"
        keys = "{source.url}"
        keys_refresh_seconds = 1
        keys_pause_seconds = 0
    """)
    for name in extra.keys:
        status, message = ask(server, signed(extra, kid=name))
        assert (status == 200) == (name == "rsa-verify"), (name, message)
    unknown = signed(issuer)
    for path in "/redirect", "/endless":
        source.path = path
        # The known keys stay, and a failure is logged once however often it comes.
        for _ in range(3):
            assert ask(server, unknown)[0] == 401
        assert ask(server, signed(extra, kid="rsa-verify"))[0] == 200
    assert 0 < source.sent < 200 << 20, "more was read than what the sockets hold"
    failures = warnings(server, "the issuer's keys cannot be fetched")
    assert len(failures) == 1 and "302" in failures[0]["error"]
    source.path = "/keys"
    assert settled(lambda: any("can be fetched again" in line["message"] for line in server.log_lines()), True)
    stop(server)
    source.server.shutdown()
    extra.server.shutdown()


# Answers that are given again


def post(client, key, json, path="/v1/ml/embeddings"):
    return client.post(path, json=json, headers={"Idempotency-Key": key})


def test_secrets_are_shown_once(request, guarded):
    """Who sends the request for a key again learns which key it made and not the key; another principal
    learns nothing."""
    owner = make(request, guarded, "secretive")
    admin = cli(request, guarded, "keys", "create", "secretive", "--role", "admin")
    body = {"label": "made once", "role": "admin"}
    with as_tenant(guarded, owner["key"]) as client, as_tenant(guarded, admin["key"]) as other:
        first = post(client, "k-1", body, "/v1/ml/keys")
        assert first.status_code == 201 and first.json()["key"].startswith("tc_live_") and "code" not in first.json()
        for _ in range(2):
            again = post(client, "k-1", body, "/v1/ml/keys")
            assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
            assert again.json() == {k: v for k, v in first.json().items() if k != "key"} | {"code": "secret_shown_once"}
        refused = post(other, "k-1", body, "/v1/ml/keys")
        assert code(refused) == (422, "idempotency_key_reused") and first.json()["id"] not in refused.text
        assert len(client.get("/v1/ml/keys").json()["keys"]) == 3
        rotated = post(client, "r-1", {}, f"/v1/ml/keys/{first.json()['id']}/rotate")
        again = post(client, "r-1", {}, f"/v1/ml/keys/{first.json()['id']}/rotate")
        assert (rotated.status_code, again.status_code) == (201, 200)
        assert "key" not in again.json() and again.json()["id"] == rotated.json()["id"]
        assert len(client.get("/v1/ml/keys").json()["keys"]) == 4
        # The same of an answer to what a model was asked.
        assert post(client, "e-1", {"inputs": "mine"}).status_code == 200
        assert post(client, "e-1", {"inputs": "mine"}).headers["idempotency-replayed"] == "true"
        assert code(post(other, "e-1", {"inputs": "mine"})) == (422, "idempotency_key_reused")
        # A replay passes the checks of the first request.
        cli(request, guarded, "tenants", "suspend", "secretive")
        assert code(post(client, "e-1", {"inputs": "mine"})) == (403, "account_suspended")
        cli(request, guarded, "tenants", "resume", "secretive")
        cli(request, guarded, "keys", "revoke", owner["id"])
        assert code(post(client, "e-1", {"inputs": "mine"})) == (401, "invalid_credentials")


def test_a_role_that_was_lost_gets_no_replay(guarded, issuer):
    def asked(role):
        headers = {"Authorization": f"Bearer {signed(issuer, sub='fallen', roles=[role])}"}
        with httpx.Client(base_url=f"http://{guarded.api}", headers=headers, timeout=30) as client:
            return post(client, "j-1", {"inputs": "mine"})

    assert asked("editor").status_code == 200
    assert asked("editor").headers["idempotency-replayed"] == "true"
    assert code(asked("viewer")) == (403, "forbidden")


def test_a_replay_is_a_call(request, guarded):
    """It takes one of the minute's limit, whatever it answers, and costs nothing."""
    key = make(request, guarded, "replayer", limited(4))["key"]
    with as_tenant(guarded, key) as client:
        # Two of the first, and one each of the replays.
        answers = [post(client, "r", {"inputs": ["a", "b"]}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert [answer.headers["ratelimit"].split(";")[1] for answer in answers[:3]] == ["r=2", "r=1", "r=0"]
    assert settled(lambda: cli(request, guarded, "usage", "replayer")["total"]["cost_micro_usd"], 40) == 40


def test_answers_are_bounded_a_tenant(request, guarded):
    key, other = (make(request, guarded, name)["key"] for name in ("keeper", "other-keeper"))
    with as_tenant(guarded, key) as client:
        assert [post(client, f"k-{i}", {"inputs": "a"}).status_code for i in range(5)] == [200] * 5
        full = post(client, "k-5", {"inputs": "a"})
        assert code(full) == (429, "idempotency_full") and full.headers["retry-after"] == "3600"
        # What was kept is not given up for it, and a request without a key is answered.
        assert post(client, "k-0", {"inputs": "a"}).headers["idempotency-replayed"] == "true"
        assert client.post("/v1/ml/embeddings", json={"inputs": "a"}).status_code == 200
    with as_tenant(guarded, other) as client:
        assert post(client, "k-5", {"inputs": "a"}).status_code == 200
    assert settled(lambda: cli(request, guarded, "usage", "keeper")["total"]["completed"], 6) == 6


def test_grpc_honours_the_key(request, guarded, proto):
    made = make(request, guarded, "caller")
    second = cli(request, guarded, "keys", "create", "caller")["key"]
    with grpc.insecure_channel(guarded.api) as channel:
        stub = proto.Stub(channel)

        def embed(text, key, credential=made["key"]):
            metadata = [("authorization", f"Bearer {credential}"), ("idempotency-key", key)]
            answer, call = stub.Embed.with_call(proto.EmbedRequest(inputs=[text]), metadata=metadata)
            return answer, dict(call.initial_metadata()).get("idempotency-replayed")

        def refused(call):
            with pytest.raises(grpc.RpcError) as error:
                call()
            trailers = dict(error.value.trailing_metadata())
            info = error_details_pb2.ErrorInfo()
            details = status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details
            assert any(detail.Unpack(info) for detail in details)
            return error.value.code().name, info.reason

        (first, is_replayed), (again, is_replayed_again) = embed("one", "g-1"), embed("one", "g-1")
        assert first == again and (is_replayed, is_replayed_again) == (None, "true")
        assert refused(lambda: embed("two", "g-1")) == ("FAILED_PRECONDITION", "idempotency_key_reused")
        assert refused(lambda: embed("one", "g-1", second)) == ("FAILED_PRECONDITION", "idempotency_key_reused")
        assert refused(lambda: embed("one", "a b")) == ("INVALID_ARGUMENT", "invalid_request")
        # A failure is not kept.
        assert refused(lambda: embed("", "g-2")) == ("INVALID_ARGUMENT", "empty_input")
        settled(lambda: embed("three", "g-2")[1], "true")
        # The same key over another protocol is another request.
        with as_tenant(guarded, made["key"]) as client:
            assert code(post(client, "g-1", {"inputs": "one"})) == (422, "idempotency_key_reused")
        metadata = [("authorization", f"Bearer {made['key']}"), ("idempotency-key", "g-3")]
        assert refused(lambda: list(stub.InferStream(iter([]), metadata=metadata))) == ("INVALID_ARGUMENT", "invalid_request")
    assert settled(lambda: cli(request, guarded, "usage", "caller")["total"]["completed"], 2) == 2


# Keys


def test_keys_a_tenant_are_bounded(request, guarded):
    owner = make(request, guarded, "collector")
    with as_tenant(guarded, owner["key"]) as client:
        made = [client.post("/v1/ml/keys", json={}) for _ in range(4)]
        assert [answer.status_code for answer in made] == [201, 201, 201, 409]
        assert made[3].json()["error"]["code"] == "too_many_keys" and "4 keys" in made[3].json()["error"]["message"]
        # One that was revoked just now still counts, and one that leaked can be rotated.
        revoked = [client.delete(f"/v1/ml/keys/{made[0].json()['id']}") for _ in range(3)]
        assert {answer.status_code for answer in revoked} == {200} and len({answer.text for answer in revoked}) == 1
        assert [line["action"] for line in cli(request, guarded, "audit")["entries"][:2]] == ["key.revoke", "key.create"]
        assert code(client.post("/v1/ml/keys", json={})) == (409, "too_many_keys")
        assert client.post(f"/v1/ml/keys/{made[1].json()['id']}/rotate", json={}).status_code == 201


@pytest.mark.parametrize("moment, status", [
    ("9999-12-31T23:59:59-01:00", 400), ("9999-12-31T23:59:59Z", 201), ("9999-12-31T23:59:59+14:00", 201),
    ("10000-01-01T00:00:00Z", 400), ("1969-12-31T23:59:59Z", 400), ("0000-01-01T00:00:00Z", 400), ("2027-02-30T00:00:00Z", 400)])
def test_moments_that_cannot_be_written(request, server, moment, status):
    name = f"moments-{abs(hash(moment))}"
    owner = make(request, server, name)
    with as_tenant(server, owner["key"]) as client:
        answer = client.post("/v1/ml/keys", json={"expires_at": moment})
        assert answer.status_code == status, answer.text
        assert client.get("/v1/ml/keys").status_code == 200


def test_test_keys_are_for_a_sandbox(request, guarded, tmp_path):
    make(request, guarded, "tester")
    token = (guarded.state / "operator.token").read_text()
    with httpx.Client(base_url=f"http://{guarded.ops}/admin/v1", headers={"Authorization": f"Bearer {token}"}) as operator:
        refused = operator.post("/tenants/tester/keys", json={"mode": "test"})
        assert code(refused) == (400, "invalid_request") and "test keys" in refused.json()["error"]["message"]
    sandbox = started(request, tmp_path, 'tenancy.test_keys = "accept"\n')
    cli(request, sandbox, "tenants", "create", "tester")
    test, live = (cli(request, sandbox, "keys", "create", "tester", "--mode", mode)["key"] for mode in ("test", "live"))
    for key in test, live:
        with as_tenant(sandbox, key) as client:
            assert client.post("/v1/ml/embeddings", json={"inputs": "a"}).status_code == 200
    # Both are recorded, and the live key's alone has a price.
    expected = 2, 20
    assert settled(lambda: tuple(cli(request, sandbox, "usage", "tester")["total"][name]
                                 for name in ("completed", "cost_micro_usd")), expected) == expected
    stop(sandbox)
    # The same store in production: the key is known and not accepted.
    cards = tmp_path / "cards"
    production = started(request, tmp_path, 'development_tenant = false\n', cards=cards)
    for key, expected in (test, (401, "test_key_refused")), (live, (200, "")):
        with as_tenant(production, key) as client:
            assert code(client.get("/v1/ml/models")) == expected
    stop(production)


def test_keys_of_the_development_tenant(rest):
    assert rest.get("/v1/ml/keys").json() == {"keys": []}
    assert code(rest.post("/v1/ml/keys", json={})) == (409, "tenant_not_managed")


@pytest.mark.parametrize("host, status", [
    ("localhost", 200), ("127.0.0.1:8080", 200), ("[::1]:8080", 200), ("ml.localhost:1", 200),
    ("evil.example", 401), ("evil.example:8080", 401), ("localhost.evil.example", 401), ("192.168.0.1", 401)])
def test_the_development_key_by_host(server, host, status):
    """A page of another site can lead its own name here (DNS rebinding), and cannot forge the Host header."""
    answer = httpx.get(f"http://{server.api}/v1/ml/models", headers={"Host": host, "Authorization": f"Bearer {KEY}"})
    assert answer.status_code == status and (status == 200 or "Host" in answer.json()["error"]["message"])
    assert over_http2(server.api, "/v1/ml/models", f"Bearer {KEY}", host) == status


def test_other_keys_do_not_care_for_the_host(request, server):
    key = make(request, server, "by-name")["key"]
    answer = httpx.get(f"http://{server.api}/v1/ml/models", headers={"Host": "ml.example", "Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
