"""What tenants manage themselves, keys and usage: one table of what is asked and answered, over REST and over
gRPC."""

import datetime
import subprocess

import grpc
import pytest
from conftest import KEY, start, stop
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from identity import started
from peers import BOUNDS, Http2, framed, metric, reason, wait_for
from test_jwt import AUDIENCE, ISSUER, issuer  # noqa: F401
from test_tenants import as_tenant, cli, limited, make, settled

SERVICE = "ml.inference.v1.AdministrationService"


@pytest.fixture(scope="module")
def guarded(request, issuer, tmp_path_factory):  # noqa: F811
    """A server with an issuer, small bounds and no development tenant."""
    running = started(request, tmp_path_factory.mktemp("administration"), f"""
        development_tenant = false
        [tenancy]
        keys_per_tenant_max = 4
        [tenancy.jwt]
        issuer = "{ISSUER}"
        audience = "{AUDIENCE}"
        keys = "{issuer.url}"
    """)
    yield running
    stop(running)


def milliseconds(moment):
    """A moment of either protocol; none where there is none."""
    if isinstance(moment, Timestamp):
        return moment.ToMilliseconds()
    return moment and round(datetime.datetime.fromisoformat(moment).timestamp() * 1000)


class Rest:
    """Asks over REST, and tells what it is answered: the error's code, or what is shown, and whether that is
    a replay."""

    def __init__(self, server, key, _):
        self.client = as_tenant(server, key)

    def _ask(self, method, path, idempotency_key=None, **options):
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        answer = self.client.request(method, f"/v1/ml/{path}", headers=headers, **options)
        shown = answer.json()
        if "error" in shown:
            return shown["error"]["code"], shown["error"]["message"], False
        return "ok", shown, answer.headers.get("idempotency-replayed") == "true"

    @staticmethod
    def _key(shown):
        moments = {name: milliseconds(shown[name]) for name in ("created_at", "expires_at", "revoked_at")}
        return {k: v for k, v in shown.items() if k not in ("key", "code")} | moments

    def _made(self, code, shown, is_replayed):
        if code != "ok":
            return code, shown, is_replayed
        assert ("code" in shown) == is_replayed == ("key" not in shown)
        return code, {"secret": shown.get("key", ""), **self._key(shown)}, is_replayed

    def keys(self, **page):
        code, shown, _ = self._ask("GET", "keys", params=page)
        return (code, [self._key(key) for key in shown["keys"]], shown.get("next", "")) if code == "ok" else (code, shown, "")

    def create(self, idempotency_key=None, **new):
        return self._made(*self._ask("POST", "keys", idempotency_key, json=new))

    def rotate(self, id, idempotency_key=None, **how):
        return self._made(*self._ask("POST", f"keys/{id}/rotate", idempotency_key, json=how))

    def revoke(self, id):
        code, shown, _ = self._ask("DELETE", f"keys/{id}")
        return code, self._key(shown) if code == "ok" else shown

    def usage(self, by=(), **days):
        code, shown, _ = self._ask("GET", "usage", params=days | ({"by": ",".join(by)} if by else {}))
        return code, shown


class Grpc:
    """The same over gRPC."""

    def __init__(self, server, key, proto):
        self.proto, self.metadata = proto, (("authorization", f"Bearer {key}"),)
        self.channel = grpc.insecure_channel(server.api)
        self.stub = proto.Stub(self.channel)

    def _ask(self, method, message, idempotency_key=None):
        metadata = (*self.metadata, ("idempotency-key", idempotency_key)) if idempotency_key else self.metadata
        try:
            answer, call = getattr(self.stub, method).with_call(message, metadata=metadata, timeout=30)
        except grpc.RpcError as error:
            return reason(error), error.details(), False
        return "ok", answer, dict(call.initial_metadata()).get("idempotency-replayed") == "true"

    def _key(self, key):
        name = lambda kind, value: self.proto.DESCRIPTOR.enum_types_by_name[kind].values_by_number[value].name  # noqa: E731
        moments = {name: milliseconds(getattr(key, name)) if key.HasField(name) else None
                   for name in ("created_at", "expires_at", "revoked_at")}
        return moments | {
            "id": key.id, "tenant": key.tenant, "label": key.label, "ending": key.ending,
            "mode": name("KeyMode", key.mode).removeprefix("KEY_MODE_").lower(),
            "role": name("Role", key.role).removeprefix("ROLE_").lower(),
            "state": name("KeyState", key.state).removeprefix("KEY_STATE_").lower(),
            "replaced_by": key.replaced_by or None, "is_rotation_due": key.is_rotation_due}

    def _made(self, code, answer, is_replayed):
        return code, {"secret": answer.secret, **self._key(answer.key)} if code == "ok" else answer, is_replayed

    def keys(self, **page):
        code, answer, _ = self._ask("ListKeys", self.proto.ListKeysRequest(**page))
        return (code, [self._key(key) for key in answer.keys], answer.next) if code == "ok" else (code, answer, "")

    def create(self, idempotency_key=None, label="", role="unspecified", mode="unspecified", expires_at=None):
        moment = None
        if expires_at:
            moment = Timestamp()
            moment.FromJsonString(expires_at)
        message = self.proto.CreateKeyRequest(label=label, role=f"ROLE_{role.upper()}", mode=f"KEY_MODE_{mode.upper()}",
                                              expires_at=moment)
        return self._made(*self._ask("CreateKey", message, idempotency_key))

    def rotate(self, id, idempotency_key=None, **how):
        return self._made(*self._ask("RotateKey", self.proto.RotateKeyRequest(id=id, **how), idempotency_key))

    def revoke(self, id):
        code, answer, _ = self._ask("RevokeKey", self.proto.RevokeKeyRequest(id=id))
        return code, self._key(answer) if code == "ok" else answer

    def usage(self, by=(), **days):
        renamed = {name.rstrip("_"): day for name, day in days.items()}
        by = [f"USAGE_DIMENSION_{name.upper()}" for name in by]
        code, answer, _ = self._ask("GetUsage", self.proto.GetUsageRequest(by=by, **renamed))
        if code != "ok":
            return code, answer

        def fields(message):
            shown = {}
            for field in message.DESCRIPTOR.fields:
                if field.name != "numbers" and (not field.has_presence or message.HasField(field.name)):
                    shown[field.name] = getattr(message, field.name)
            return shown

        rows = [fields(row) | fields(row.numbers) for row in answer.rows]
        return code, {"tenant": answer.tenant, "from": getattr(answer, "from"), "to": answer.to, "rows": rows,
                      "total": fields(answer.total)}


@pytest.fixture(params=[Rest, Grpc], ids=["rest", "grpc"])
def over(request, administration_proto):
    """Asks a server with a key."""
    asking = lambda server, key: request.param(server, key, administration_proto)  # noqa: E731
    asking.name = request.param.__name__.lower()
    return asking


# Roles


ROLES = ["viewer", "editor", "admin", "owner"]
# What each role is answered.
BY_ROLE = [
    ("usage", lambda ask, _: ask.usage(), ["ok", "ok", "ok", "ok"]),
    ("list", lambda ask, _: ask.keys(), ["forbidden", "forbidden", "ok", "ok"]),
    ("create an editor", lambda ask, _: ask.create(role="editor"), ["forbidden", "forbidden", "ok", "ok"]),
    ("create an administrator", lambda ask, _: ask.create(role="admin"), ["forbidden", "forbidden", "ok", "ok"]),
    ("create an owner", lambda ask, _: ask.create(role="owner"), ["forbidden", "forbidden", "forbidden", "ok"]),
    ("rotate an editor", lambda ask, ids: ask.rotate(ids["editor"]), ["forbidden", "forbidden", "ok", "key_not_active"]),
    ("rotate an owner", lambda ask, ids: ask.rotate(ids["owner"]), ["forbidden", "forbidden", "forbidden", "ok"]),
    ("rotate nobody's", lambda ask, ids: ask.rotate("key_nobody"), ["forbidden", "forbidden", "key_not_found", "key_not_found"]),
    ("rotate another's", lambda ask, ids: ask.rotate(ids["other"]), ["forbidden", "forbidden", "key_not_found", "key_not_found"]),
    ("revoke an editor", lambda ask, ids: ask.revoke(ids["editor"]), ["forbidden", "forbidden", "ok", "ok"]),
    ("revoke an owner", lambda ask, ids: ask.revoke(ids["owner"]), ["forbidden", "forbidden", "forbidden", "ok"]),
    ("revoke another's", lambda ask, ids: ask.revoke(ids["other"]), ["forbidden", "forbidden", "key_not_found", "key_not_found"]),
]


def test_roles(request, server, over):
    tenant = f"roles-{over.name}"
    cli(request, server, "tenants", "create", tenant, "--plan", "enterprise")
    keys = {role: cli(request, server, "keys", "create", tenant, "--role", role)["key"] for role in ROLES}
    # What is rotated and revoked is nobody's who asks.
    ids = {role: cli(request, server, "keys", "create", tenant, "--role", role)["id"] for role in ("editor", "owner")}
    ids["other"] = make(request, server, f"other-{tenant}", role="editor")["id"]
    asking = {role: over(server, key) for role, key in keys.items()}
    for name, ask, expected in BY_ROLE:
        assert [ask(asking[role], ids)[0] for role in ROLES] == expected, name
    log = [entry for entry in cli(request, server, "audit")["entries"] if entry["actor"].startswith(f"{tenant}/")]
    actions = ["key.revoke"] * 2 + ["key.rotate"] * 2 + ["key.create"] * 5
    assert [entry["action"] for entry in log] == actions


def test_credentials(server, over):
    for key, expected in ("tc_live_unknown", "invalid_credentials"), ("nonsense", "malformed_credentials"):
        ask = over(server, key)
        asked = [ask.keys(), ask.create(), ask.rotate("key_1"), ask.revoke("key_1"), ask.usage()]
        assert {found[0] for found in asked} == {expected}, key


def test_the_development_tenant_has_no_keys(server, over):
    ask = over(server, KEY)
    assert ask.keys() == ("ok", [], "") and ask.create()[0] == "tenant_not_managed"


# Keys


def test_a_key_from_its_making_to_its_end(request, server, over):
    owner = make(request, server, f"life-{over.name}")
    ask = over(server, owner["key"])
    code, made, is_replayed = ask.create(label="ci", role="viewer", expires_at="2100-01-01T00:00:00.123Z")
    assert (code, is_replayed) == ("ok", False)
    secret = made.pop("secret")
    assert secret.startswith("tc_live_") and secret.endswith(made["ending"])
    expected = {"label": "ci", "mode": "live", "role": "viewer", "state": "active", "tenant": f"life-{over.name}",
                "expires_at": 4102444800123, "revoked_at": None, "replaced_by": None, "is_rotation_due": False}
    assert expected.items() <= made.items()
    code, rotated, _ = ask.rotate(made["id"], overlap_seconds=3600)
    assert code == "ok" and rotated["secret"].startswith("tc_live_") and rotated["label"] == "ci"
    for key in secret, rotated["secret"]:
        assert over(server, key).usage()[0] == "ok"
    code, revoked = ask.revoke(rotated["id"])
    assert (code, revoked["state"]) == ("ok", "revoked") and ask.revoke(rotated["id"]) == (code, revoked)
    assert over(server, rotated["secret"]).usage()[0] == "invalid_credentials"
    code, keys, _ = ask.keys()
    assert [key["id"] for key in keys] == sorted([owner["id"], made["id"], rotated["id"]])
    [old] = [key for key in keys if key["id"] == made["id"]]
    assert old["replaced_by"] == rotated["id"] and old["created_at"] == made["created_at"]
    # In pages.
    pages, after = [], ""
    while True:
        code, page, after = ask.keys(limit=2, **({"after": after} if after else {}))
        pages.append([key["id"] for key in page])
        if not after:
            break
    assert pages == [[key["id"] for key in keys[:2]], [key["id"] for key in keys[2:]]]
    # No key is in a file or a line of the log.
    for key in secret, rotated["secret"]:
        assert subprocess.run(["grep", "-rq", key, str(server.state), str(server.log)]).returncode == 1


def test_both_protocols_show_the_same(request, server, administration_proto):
    owner = make(request, server, "both")
    rest, over_grpc = (kind(server, owner["key"], administration_proto) for kind in (Rest, Grpc))
    rest.create(label="one", role="admin", expires_at="2100-01-01T00:00:00Z")
    _, made, _ = over_grpc.create(label="two", role="owner")
    rest.rotate(made["id"])
    assert len(rest.keys()[1]) == 4 and rest.keys() == over_grpc.keys()
    with as_tenant(server, owner["key"]) as client:
        for inputs in ["one"], ["two", "three"]:
            assert client.post("/v1/ml/sentiment", json={"inputs": inputs}).status_code == 200
        assert client.post("/v1/ml/embeddings", json={"inputs": "four"}).status_code == 200
    assert settled(lambda: rest.usage()[1]["total"]["completed"], 3) == 3
    editor = cli(request, server, "keys", "create", "both", "--role", "editor")["key"]
    for by in (), ("model",), ("day",), ("hour", "model"), ("tenant", "model"):
        found = rest.usage(by), over_grpc.usage(by)
        assert found[0] == found[1], by
        assert found[0][1]["total"]["cost_micro_usd"] == 170
        # What it costs is for the owner alone.
        found = [kind(server, editor, administration_proto).usage(by) for kind in (Rest, Grpc)]
        assert found[0] == found[1] and "cost_micro_usd" not in str(found)
    days = {"from": "2020-01-01", "to": "2020-01-31"}
    assert rest.usage(**days) == over_grpc.usage(**days) and rest.usage(**days)[1]["rows"] == []


@pytest.mark.parametrize("moment, expected", [
    ("9999-12-31T23:59:59Z", "ok"), ("2020-01-01T00:00:00Z", "invalid_request"), ("1969-12-31T23:59:59Z", "invalid_request")])
def test_moments(request, server, over, moment, expected):
    owner = make(request, server, f"moments-{over.name}-{moment[:4]}")
    assert over(server, owner["key"]).create(expires_at=moment)[0] == expected


def test_keys_a_tenant_are_bounded(request, guarded, over):
    owner = make(request, guarded, f"collector-{over.name}")
    ask = over(guarded, owner["key"])
    made = [ask.create() for _ in range(4)]
    assert [code for code, *_ in made] == ["ok"] * 3 + ["too_many_keys"] and "4 keys" in made[3][1]
    # One that was revoked just now still counts, and one that leaked can be rotated.
    assert ask.revoke(made[0][1]["id"])[0] == "ok" and ask.create()[0] == "too_many_keys"
    assert ask.rotate(made[1][1]["id"])[0] == "ok"


def test_test_keys_are_for_a_sandbox(request, guarded, over):
    owner = make(request, guarded, f"tester-{over.name}")
    assert over(guarded, owner["key"]).create(mode="test")[0] == "invalid_request"


# Requests that come again


def test_secrets_are_shown_once(request, guarded, over):
    """Who sends the request for a key again learns which key it made and not the key; another principal
    learns nothing."""
    tenant = f"secretive-{over.name}"
    owner = make(request, guarded, tenant)
    admin = cli(request, guarded, "keys", "create", tenant, "--role", "admin")
    ask, other = over(guarded, owner["key"]), over(guarded, admin["key"])

    def twice(ask_so):
        code, first, is_replayed = ask_so(ask)
        assert (code, is_replayed) == ("ok", False) and first["secret"].startswith("tc_live_")
        for _ in range(2):
            assert ask_so(ask) == ("ok", first | {"secret": ""}, True)
        code, message, _ = ask_so(other)
        assert code == "idempotency_key_reused" and first["id"] not in message
        return first

    first = twice(lambda ask: ask.create("k-1", label="made once", role="admin"))
    assert ask.create("k-1", label="another", role="admin")[0] == "idempotency_key_reused"
    assert len(ask.keys()[1]) == 3
    twice(lambda ask: ask.rotate(first["id"], "r-1"))
    assert ask.rotate(first["id"], "r-1", overlap_seconds=1)[0] == "idempotency_key_reused"
    assert len(ask.keys()[1]) == 4
    assert ask.create("a b")[0] == "invalid_request"
    # What failed is not kept.
    assert ask.rotate("key_nobody", "r-2")[0] == "key_not_found"
    # A replay passes the checks of the first request.
    cli(request, guarded, "keys", "revoke", owner["id"])
    assert ask.create("k-1", label="made once", role="admin")[0] == "invalid_credentials"


def test_a_key_of_one_protocol_is_another_request_over_the_other(request, guarded, administration_proto):
    owner = make(request, guarded, "bilingual")
    rest, over_grpc = (kind(guarded, owner["key"], administration_proto) for kind in (Rest, Grpc))
    assert rest.create("k-1", label="one")[0] == "ok" and over_grpc.create("k-2", label="one")[0] == "ok"
    assert over_grpc.create("k-1", label="one")[0] == rest.create("k-2", label="one")[0] == "idempotency_key_reused"
    assert len(rest.keys()[1]) == 3


def test_who_has_another_role_by_then_is_told_nothing(request, guarded, issuer, over):
    """What an owner made under an Idempotency-Key is not shown to the same subject who is an administrator
    now."""
    tenant = f"fallen-{over.name}"
    made = make(request, guarded, tenant)
    asking = lambda role: over(guarded, issuer.token(tenant=tenant, roles=[role]))  # noqa: E731
    for ask_so in (lambda ask: ask.create("k-1", role="owner")), (lambda ask: ask.rotate(made["id"], "k-2")):
        code, first, _ = ask_so(asking("Owner"))
        assert code == "ok" and ask_so(asking("Owner")) == ("ok", first | {"secret": ""}, True)
        for role in "Admin", "Editor":
            code, message, _ = ask_so(asking(role))
            assert code == "forbidden" and first["id"] not in message


# Bad requests


BAD = [
    ("ListKeys", {"limit": 0}, "invalid_request"),
    ("ListKeys", {"limit": 101}, "invalid_request"),
    ("CreateKey", {"role": 9}, "invalid_request"),
    ("CreateKey", {"mode": -1}, "invalid_request"),
    ("CreateKey", {"label": "x" * 300}, "invalid_request"),
    ("CreateKey", {"label": "x" * 17_000}, "body_too_large"),
    ("CreateKey", {"expires_at": {"seconds": 1 << 60}}, "invalid_request"),
    ("CreateKey", {"expires_at": {"seconds": -1}}, "invalid_request"),
    ("RotateKey", {"id": "", "overlap_seconds": 0}, "key_not_found"),
    ("RotateKey", {"id": "key_1", "overlap_seconds": 1 << 40}, "invalid_request"),
    ("RevokeKey", {"id": "key_1"}, "key_not_found"),
    ("GetUsage", {"by": [0]}, "invalid_request"),
    ("GetUsage", {"by": [17]}, "invalid_request"),
    ("GetUsage", {"from": "yesterday"}, "invalid_request"),
    ("GetUsage", {"from": "2020-01-01", "to": "2021-06-01"}, "invalid_request"),
    ("GetUsage", {"to": "2026-13-01"}, "invalid_request"),
]
STATUSES = {"invalid_request": "INVALID_ARGUMENT", "key_not_found": "NOT_FOUND", "body_too_large": "RESOURCE_EXHAUSTED"}


@pytest.fixture(scope="module")
def careless(request, server):
    return make(request, server, "careless")["key"]


@pytest.mark.parametrize("method, fields, expected", BAD, ids=[f"{case[0]}-{str(case[1])[:30]}" for case in BAD])
def test_bad_requests(server, careless, administration_proto, method, fields, expected):
    message = getattr(administration_proto, f"{method}Request")(**fields)
    with grpc.insecure_channel(server.api) as channel, pytest.raises(grpc.RpcError) as error:
        getattr(administration_proto.Stub(channel), method)(message, metadata=(("authorization", f"Bearer {careless}"),))
    assert (reason(error.value), error.value.code().name) == (expected, STATUSES[expected])


def test_messages_that_cannot_be_read(server, careless, administration_proto):
    metadata = (("authorization", f"Bearer {careless}"),)
    with grpc.insecure_channel(server.api) as channel:
        raw = channel.unary_unary(f"/{SERVICE}/CreateKey")
        for message in b"\xff\xff\xff", b"\x0a\x02\xff\xfe":
            with pytest.raises(grpc.RpcError) as error:
                raw(message, metadata=metadata)
            assert reason(error.value) == "invalid_request"
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(f"/{SERVICE}/DropTenant")(b"", metadata=metadata)
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
        # A bomb: small as it comes, too large as it is.
        bomb = administration_proto.CreateKeyRequest(label="x" * 1_000_000)
        for compression in grpc.Compression.Gzip, grpc.Compression.Deflate:
            stub = administration_proto.Stub(channel)
            with pytest.raises(grpc.RpcError) as error:
                stub.CreateKey(bomb, metadata=metadata, compression=compression)
            assert reason(error.value) == "body_too_large"
            assert stub.ListKeys(administration_proto.ListKeysRequest(), metadata=metadata, compression=compression).keys


def test_calls_take_a_place(request, tmp_path):
    """Half messages take the places of their tenant, as calls do, and nobody else's; each gives its own back."""
    path = tmp_path / "administration.toml"
    path.write_text(BOUNDS.replace("body_timeout_ms = 700", "body_timeout_ms = 600000"))
    server = start(request, tmp_path, "--config", str(path))
    cli(request, server, "tenants", "create", "acme", "--plan", "free")
    owner = cli(request, server, "keys", "create", "acme", "--role", "owner")["key"]
    peer = Http2(server.api)
    for method in ["CreateKey", "RotateKey", "ListKeys", "GetUsage"] * 4:
        peer.data(peer.headers(f"/{SERVICE}/{method}", owner, "application/grpc"), framed(b"x" * 100)[:6])
    wait_for(lambda: metric(server, "places_taken") == 16)
    peer.close()
    wait_for(lambda: metric(server, "places_taken") == 0 and metric(server, "body_bytes_held") == 0)
    stop(server)


# Limits


def test_limits_are_shown_over_grpc(request, server, proto):
    """The same as over REST: with answers, with answers that are given again, and with refusals; in dialects
    too."""
    key = make(request, server, "told", limited(8, requests_per_day=1000))["key"]
    metadata = (("authorization", f"Bearer {key}"),)
    policy = '"minute";q=8;qu="inputs";w=60, "day";q=1000;qu="inputs";w=86400'
    left = lambda call: int(dict(call.initial_metadata())["ratelimit"].split(";")[1].removeprefix("r="))  # noqa: E731
    with grpc.insecure_channel(server.api) as channel:
        embed, message = proto.Stub(channel).Embed, proto.EmbedRequest(inputs=["a"])
        _, call = embed.with_call(message, metadata=metadata)
        assert dict(call.initial_metadata())["ratelimit-policy"] == policy and left(call) == 7
        for is_replayed in False, True:
            _, call = embed.with_call(message, metadata=(*metadata, ("idempotency-key", "t-1")))
            assert ("idempotency-replayed" in dict(call.initial_metadata())) == is_replayed
        assert left(call) == 5
        database = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        made = lambda name: message_factory.GetMessageClass(database.FindMessageTypeByName(name))  # noqa: E731
        infer = made("inference.ModelInferRequest")(model_name="embeddings-v2")
        tensor = infer.inputs.add(name="text", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(b"a")
        for path, asked in ("inference.GRPCInferenceService/ModelInfer", infer), ("tei.v1.Embed/Embed", made("tei.v1.EmbedRequest")(inputs="a")):
            method = channel.unary_unary(f"/{path}", request_serializer=lambda sent: sent.SerializeToString())
            _, call = method.with_call(asked, metadata=metadata)
            assert dict(call.initial_metadata())["ratelimit-policy"] == policy, path
        assert left(call) == 3
        with pytest.raises(grpc.RpcError) as error:
            embed(proto.EmbedRequest(inputs=["a"] * 4), metadata=metadata)
        shown = dict(error.value.trailing_metadata()) | dict(error.value.initial_metadata())
        assert reason(error.value) == "rate_limit_exceeded"
        assert shown["ratelimit"].startswith('"minute";r=3;t=') and shown["ratelimit-policy"] == '"minute";q=8;qu="inputs";w=60'


def test_it_is_found(server):
    with grpc.insecure_channel(server.api) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert SERVICE in set(database.get_services())
        methods = descriptor_pool.DescriptorPool(database).FindServiceByName(SERVICE).methods_by_name
        assert set(methods) == {"ListKeys", "CreateKey", "RotateKey", "RevokeKey", "GetUsage"}
        status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE)).status
        assert status == health_pb2.HealthCheckResponse.SERVING
