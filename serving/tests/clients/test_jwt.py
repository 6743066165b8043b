"""JWTs of an issuer, signed by PyJWT, with the keys served over HTTP: what is accepted, what is refused and
why, and keys that change or cannot be had."""

import base64
import hashlib
import hmac
import http.server
import json
import threading
import time

import grpc
import httpx
import jwt
import pytest
from conftest import ROOT, start, stop
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from peers import wait_for
from test_tenants import make

ISSUER, AUDIENCE = "https://auth.company.com", "api.company.com"


class Issuer:
    """Keys by id, and a server of their public halves that can be told to fail."""

    def __init__(self):
        self.keys = {"rsa-1": rsa.generate_private_key(65537, 2048), "ec-1": ec.generate_private_key(ec.SECP256R1())}
        self.is_down, self.fetches = False, 0
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.fetches += 1
                body = json.dumps(issuer.key_set()).encode()
                self.send_response(500 if issuer.is_down else 200)
                self.end_headers()
                self.wfile.write(b"" if issuer.is_down else body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks.json"

    def key_set(self):
        def public(name, key):
            algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
            return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": name, "use": "sig"}

        return {"keys": [public(name, key) for name, key in self.keys.items()]}

    def token(self, kid="rsa-1", signed_by=None, algorithm=None, without=(), **changes):
        now = time.time()
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "user|17", "iat": now, "exp": now + 900, "tenant": "jwt-tenant",
                  "plan": "enterprise", "roles": ["Viewer", "Editor"], **changes}
        claims = {name: value for name, value in claims.items() if name not in without}
        key = self.keys[signed_by or kid]
        algorithm = algorithm or ("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
        return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid} if kid else {})


@pytest.fixture(scope="module")
def issuer():
    running = Issuer()
    yield running
    running.server.shutdown()


@pytest.fixture(scope="module")
def guarded(request, issuer, tmp_path_factory):
    """A server that accepts the issuer's tokens."""
    folder = tmp_path_factory.mktemp("jwt")
    cards = folder / "cards"
    cards.mkdir()
    (cards / "embeddings-v2").symlink_to(ROOT / "model-cards/embeddings-v2")
    config = folder / "jwt.toml"
    config.write_text(f'[tenancy.jwt]\nissuer = "{ISSUER}"\naudience = "{AUDIENCE}"\nkeys = "{issuer.url}"\n'
                      "leeway_seconds = 5\nkeys_pause_seconds = 1\n")
    running = start(request, folder, "--config", str(config), cards=cards)
    yield running
    stop(running)


def ask(server, token):
    """Status and message of a request that invokes a model."""
    answer = httpx.post(f"http://{server.api}/v1/ml/embeddings", json={"inputs": "text"}, timeout=30,
                        headers={"Authorization": f"Bearer {token}"})
    body = answer.json()
    return answer.status_code, body["error"]["message"] if "error" in body else ""


def test_tokens_that_are_accepted(guarded, issuer, proto):
    for token in (issuer.token(), issuer.token("ec-1"), issuer.token(aud=["other", AUDIENCE]),
                  issuer.token(roles="viewer editor"), issuer.token(exp=time.time() - 2)):
        assert ask(guarded, token) == (200, "")
    with grpc.insecure_channel(guarded.api) as channel:
        metadata = [("authorization", f"Bearer {issuer.token()}")]
        answer = proto.Stub(channel).Embed(proto.EmbedRequest(inputs=["text"]), metadata=metadata)
    assert len(answer.results) == 1
    # It is the tenant's usage like any other, and the log names the subject without telling it.
    usage = {"Authorization": f"Bearer {issuer.token(roles=['Owner'])}"}
    total = lambda: httpx.get(f"http://{guarded.api}/v1/ml/usage", headers=usage).json()["total"]
    wait_for(lambda: total()["inputs"] >= 6)
    assert (total()["inputs"], total()["cost_micro_usd"]) == (6, 120)
    assert "user|17" not in guarded.log.read_text() and '"key":"jwt_' in guarded.log.read_text()


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(issuer, algorithm, secret):
    """A token without a signature, or signed with the public key as a shared secret."""
    head = b64(json.dumps({"alg": algorithm, "kid": "rsa-1", "typ": "JWT"}).encode())
    message = f"{head}.{issuer.token().split('.')[1]}"
    signature = b64(hmac.new(secret, message.encode(), hashlib.sha256).digest()) if secret else "AA"
    return f"{message}.{signature}"


def test_tokens_that_are_refused(guarded, issuer):
    def check(token, part, status=401):
        given, message = ask(guarded, token)
        assert given == status and part in message, (given, message)

    public = issuer.keys["rsa-1"].public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    check(forged(issuer, "none", None), "JWT")
    check(forged(issuer, "HS256", public), "algorithm is not accepted")
    check(issuer.token(algorithm="RS512"), "algorithm is not accepted")
    check(issuer.token("ec-1", signed_by="rsa-1"), "algorithm is not accepted")
    check(issuer.token("nobody", signed_by="rsa-1"), "not one of the issuer's")
    check(issuer.token(None, signed_by="rsa-1"), "not one of the issuer's")
    check(issuer.token()[:-8] + "AAAAAAAA", "signature is not valid")
    header, claims, signature = issuer.token().split(".")
    other = issuer.token(tenant="somebody-else").split(".")[1]
    check(f"{header}.{other}.{signature}", "signature is not valid")
    for claim in "iss", "aud", "exp", "sub", "tenant", "roles":
        check(issuer.token(without=[claim]), f"claim `{claim}`")
    check(issuer.token(iss="https://evil.example"), "claim `iss`")
    check(issuer.token(iss=ISSUER + "/"), "claim `iss`")
    check(issuer.token(aud="other"), "claim `aud`")
    check(issuer.token(exp=time.time() - 10), "has expired")
    check(issuer.token(nbf=time.time() + 60), "not valid yet")
    check(issuer.token(iat=time.time() + 60), "not valid yet")
    check(issuer.token(tenant="Not A Name"), "claim `tenant`")
    check(issuer.token(tenant="development"), "claim `tenant`")
    check(issuer.token(plan="gold"), "claim `plan`")
    check(issuer.token(roles=["Guest"]), "claim `roles`")
    check(issuer.token(without=["plan"]), "name no plan", status=403)
    check(issuer.token(roles=["Viewer"]), "the editor role is needed", status=403)
    check("a.b.c", "malformed")


def signed(issuer, text):
    """A token whose claims are this text, to the letter."""
    return jwt.PyJWS().encode(text.encode(), issuer.keys["rsa-1"], algorithm="RS256", headers={"kid": "rsa-1"})


def test_claims_that_stand_there_twice_or_in_no_time(guarded, issuer):
    claims = jwt.decode(issuer.token(), options={"verify_signature": False})
    assert ask(guarded, signed(issuer, json.dumps(claims))) == (200, "")
    for name in *claims, "whatever":
        text = json.dumps(claims | {"whatever": 1})
        for second in json.dumps((claims | {"whatever": 1})[name]), '"other"':
            twice = f'{text[:-1]}, "{name}": {second}}}'
            assert ask(guarded, signed(issuer, twice)) == (401, "malformed JWT"), twice
    terms = '{"requests_per_minute": 5, "concurrency_max": 1, "weight": 1, "weight": 64}'
    text = json.dumps(claims | {"plan": 0}).replace('"plan": 0', f'"plan": {terms}')
    assert ask(guarded, signed(issuer, text)) == (401, "malformed JWT")
    for subject in "user\n17", "user\u000017", "\u007f", "":
        status, message = ask(guarded, issuer.token(sub=subject))
        assert status == 401 and "claim `sub`" in message
    now = time.time()
    for later in 0, 3:
        status, message = ask(guarded, issuer.token(exp=now + 600, nbf=now + 600 + later))
        assert status == 401 and "claim `nbf`" in message


def test_who_has_another_role_by_then_is_told_nothing(request, guarded, issuer):
    """What an owner made under an Idempotency-Key is not shown to the same subject who is an administrator
    now."""
    def ask(path, body, roles, name):
        headers = {"Authorization": f"Bearer {issuer.token(tenant='acme', roles=roles)}", "Idempotency-Key": name}
        answer = httpx.post(f"http://{guarded.api}/v1/ml/keys{path}", json=body, headers=headers, timeout=30)
        return answer.status_code, answer.json()

    made = make(request, guarded, "acme")
    for path, body in ("", {"role": "owner"}), (f"/{made['id']}/rotate", {}):
        name = f"idempotent{len(path)}"
        assert ask(path, body, ["Owner"], name)[0] == 201
        assert ask(path, body, ["Owner"], name)[1]["code"] == "secret_shown_once"
        for role in "Admin", "Editor":
            status, answer = ask(path, body, [role], name)
            assert (status, set(answer)) == (403, {"error"}), answer


def test_keys_that_change_and_an_issuer_that_is_down(guarded, issuer):
    # A new key is fetched for when it is met and the pause since the last time is over, once for many
    # callers.
    issuer.keys["rsa-2"] = rsa.generate_private_key(65537, 2048)
    before = issuer.fetches
    results, token = [], issuer.token("rsa-2")

    def is_known():
        return (answer := ask(guarded, token)) == (200, "") and answer

    callers = [threading.Thread(target=lambda: results.append(wait_for(is_known))) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [(200, "")] * 8 and issuer.fetches == before + 1
    # Unknown keys do not make the server ask again and again.
    unknown, begun = issuer.token("nobody", signed_by="rsa-1"), time.monotonic()
    assert all(ask(guarded, unknown)[0] == 401 for _ in range(20))
    # Once a second, which is the configured pause.
    assert issuer.fetches <= before + 1 + (time.monotonic() - begun) // 1 + 1
    # While the issuer is down what is known is good.
    issuer.is_down, before = True, issuer.fetches
    wait_for(lambda: ask(guarded, unknown)[0] == 401 and issuer.fetches > before)
    assert ask(guarded, issuer.token()) == (200, "")
    # A key that was taken away is refused once the keys were fetched again.
    token = issuer.token("rsa-2")
    del issuer.keys["rsa-2"]
    issuer.is_down, before = False, issuer.fetches
    wait_for(lambda: ask(guarded, unknown)[0] == 401 and issuer.fetches > before)
    assert ask(guarded, token)[0] == 401
