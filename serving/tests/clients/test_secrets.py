"""Secrets of the server: the operator's token and where it comes from, the secret of keys, passwords, and
what they open."""

import itertools
import os
import subprocess

import grpc
import httpx
import pytest
import redis
from conftest import RedisServer, start, stop
from identity import code, over_http2, started, warnings
from test_tenants import as_tenant, cli, make, one_model

def test_an_empty_token_opens_nothing(request, tmp_path):
    """As a full disk left it at the first start of an earlier version: another is made, and said to be."""
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    (state / "operator.token").touch()
    server = started(request, tmp_path)
    token = (state / "operator.token").read_text()
    assert len(token) == 31 and len(warnings(server, "this secret was empty")) == 1
    for shown in "Bearer ", "Bearer", "bearer  ", "", " ", "Bearer op_", f"Bearer {token[:-1]}", f"Basic {token}":
        assert over_http2(server.ops, "/admin/v1/tenants", shown) == 401, shown
    # The scheme's case is free.
    for scheme in "Bearer", "bearer", "BEARER":
        assert over_http2(server.ops, "/admin/v1/tenants", f"{scheme} {token}") == 200
        answer = httpx.get(f"http://{server.ops}/admin/v1/tenants", headers={"Authorization": f"{scheme} {token}"})
        assert answer.status_code == 200
    # Nobody else on the machine may look.
    assert state.stat().st_mode & 0o777 == 0o700
    assert [(state / name).stat().st_mode & 0o777 for name in ("operator.token", "key.secret", "usage/name")] == [0o600] * 3
    stop(server)
    (state / "operator.token").chmod(0o644)
    server = start(request, tmp_path, cards=tmp_path / "cards")
    (warning,) = warnings(server, "others may read this secret")
    assert warning["mode"] == "644" and warning["path"].endswith("operator.token")
    assert cli(request, server, "tenants", "list") == {"tenants": []}
    stop(server)


@pytest.fixture
def small_disk(tmp_path):
    """A state folder on a disk of 16 MB."""
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", state], check=True)
    yield state
    subprocess.run(["umount", "-l", state], check=True)


def test_a_full_disk_leaves_no_empty_secret(request, tmp_path, small_disk):
    """Wherever the first start runs out of room, the second one has whole secrets."""
    room, cards, failures, is_started = os.statvfs(small_disk), one_model(tmp_path), "", False
    pages_left = iter(range(200))
    while not is_started:
        with (small_disk / "filler").open("wb") as filler:
            filler.write(b"x" * (room.f_bavail - next(pages_left)) * room.f_frsize)
        try:
            stop(start(request, tmp_path, cards=cards, patience=10))
            is_started = True
        except RuntimeError as error:
            assert "No space left" in str(error), error
            if "not ready in time" in str(error):
                # It runs, and waits for room to record calls.
                pages_left = itertools.chain([next(pages_left) + 40], pages_left)
            failures += str(error).splitlines()[-1]
        for name in "operator.token", "key.secret", "usage/name":
            file = small_disk / name
            assert not file.exists() or file.stat().st_size > 25, name
        (small_disk / "filler").unlink()
    assert "cannot write" in failures, "a secret met the full disk"
    server = start(request, tmp_path, cards=cards)
    assert over_http2(server.ops, "/admin/v1/tenants", "Bearer ") == 401
    assert cli(request, server, "tenants", "list") == {"tenants": []}
    stop(server)


def command(request, *arguments, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ML_INFERENCE_")}
    return subprocess.run([request.config.getoption("--binary"), *arguments], capture_output=True, text=True,
                          env=clean | environment)


def test_a_token_of_ones_own(request, tmp_path):
    """The same on every node, from a file or the environment; the client finds it where the server does."""
    token, file = "fedcba9876543210" * 2, tmp_path / "own.token"
    file.write_text(f"{token}\n")
    file.chmod(0o600)
    config = f'tenancy.operator_token_file = "{file}"\n'
    server = started(request, tmp_path, config)
    assert not (server.state / "operator.token").exists() and not warnings(server, "secret")
    named = server.ops.replace("127.0.0.1", "localhost")
    options = ["--ops", named, "--config", str(tmp_path / "server.toml")]
    for arguments in (["tenants", *options, "list"], ["tenants", "list", *options], ["audit", *options],
                      ["keys", "list", "--token", str(file), "--ops", named]):
        done = command(request, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    # In the file of the configuration, too, is where the server's operations are.
    (tmp_path / "server.toml").write_text(config + f'ops_listen = "{server.ops}"\n')
    assert command(request, "tenants", "list", "--config", str(tmp_path / "server.toml")).returncode == 0
    assert command(request, "tenants", "list", "--ops", server.ops, ML_INFERENCE_OPERATOR_TOKEN=token).returncode == 0
    assert command(request, "tenants", "list", "--ops", server.ops,
                   ML_INFERENCE_OPERATOR_TOKEN_FILE=str(file)).returncode == 0
    wrong = command(request, "tenants", "list", "--ops", server.ops, ML_INFERENCE_OPERATOR_TOKEN="x" * 32)
    assert wrong.returncode == 1 and "invalid API key" in wrong.stderr and "x" * 32 not in wrong.stderr
    lost = command(request, "tenants", "list", "--ops", server.ops, "--state-dir", str(tmp_path / "nowhere"))
    assert lost.returncode == 1 and "nowhere/operator.token" in lost.stderr
    stop(server)
    by_environment = start(request, tmp_path, cards=tmp_path / "cards", environment={"ML_INFERENCE_OPERATOR_TOKEN": token})
    for shown, status in ((token, 200), ("", 401), (token[:-1], 401)):
        assert over_http2(by_environment.ops, "/admin/v1/tenants", f"Bearer {shown}") == status
    assert token not in by_environment.log.read_text()
    stop(by_environment)


@pytest.mark.parametrize("token", ["", "\n", "short", "with spaces 0123456789"])
def test_a_token_that_is_none_is_a_refused_start(request, tmp_path, token):
    file = tmp_path / "own.token"
    file.write_text(token)
    with pytest.raises(RuntimeError, match="own.token: .*"):
        started(request, tmp_path, f'tenancy.operator_token_file = "{file}"\n')
    with pytest.raises(RuntimeError, match="ML_INFERENCE_OPERATOR_TOKEN: .*at least 16"):
        start(request, tmp_path, cards=tmp_path / "cards", environment={"ML_INFERENCE_OPERATOR_TOKEN": token})


def test_the_secret_of_keys(request, tmp_path):
    """Its form is said or raw; the same secret in another form recognises the same keys; an empty one is not
    made anew over keys."""
    secret, file = bytes(range(200, 232)), tmp_path / "key.secret"
    config, key = f'tenancy.key_secret_file = "{file}"\n', None
    cards = one_model(tmp_path)
    for form in secret, b"hex:" + secret.hex().encode() + b"\n":
        file.write_bytes(form)
        server = started(request, tmp_path, config, cards=cards)
        key = key or make(request, server, "acme")["key"]
        with as_tenant(server, key) as client:
            assert client.get("/v1/ml/models").status_code == 200, form
        stop(server)
    for form, problem in (b"", "empty"), (b"hex:12345", "hexadecimal"), (b"base64:AAAA", "at least 32"):
        file.write_bytes(form)
        with pytest.raises(RuntimeError, match=f"key.secret: .*{problem}"):
            started(request, tmp_path, config, cards=cards)
    (tmp_path / "state/key.secret").touch()
    with pytest.raises(RuntimeError, match="state/key.secret: .*restore it from a backup"):
        started(request, tmp_path, cards=cards)


def test_a_password_from_a_file(request, tmp_path):
    store, password = RedisServer(), "p@ss/w:rd é"
    with redis.Redis(port=store.port) as client:
        client.config_set("requirepass", password)
    (tmp_path / "password").write_text(f"{password}\n")
    (tmp_path / "key.secret").write_text("0123456789abcdef" * 2)
    file = f', password_file = "{tmp_path}/password"'
    config = (f'[tenancy]\nkey_secret_file = "{tmp_path}/key.secret"\n'
              f'store = {{ redis = {{ urls = ["redis://127.0.0.1:{store.port}"]%s }} }}\n')
    server = started(request, tmp_path, config % file)
    assert cli(request, server, "tenants", "create", "acme")["name"] == "acme"
    assert password not in server.log.read_text()
    stop(server)
    store.stop()


def test_what_the_operations_port_does_not_have(server, proto):
    for path in "/", "/metrics/", "/favicon.ico", "/health", "/nope", "/admin", "/admin/v1", "/admin/v1/nope", "/v1/ml/models":
        answer = httpx.get(f"http://{server.ops}{path}")
        assert code(answer) == (404, "not_found") and answer.headers["x-request-id"], path
    assert code(httpx.get(f"http://{server.ops}/admin/v1/tenants")) == (401, "missing_credentials")
    token = (server.state / "operator.token").read_text()
    answer = httpx.put(f"http://{server.ops}/admin/v1/tenants", headers={"Authorization": f"Bearer {token}"})
    assert code(answer) == (405, "method_not_allowed") and set(answer.headers["allow"].split(",")) >= {"GET", "POST"}
    with grpc.insecure_channel(server.ops) as channel, pytest.raises(grpc.RpcError) as error:
        proto.Stub(channel).ListModels(proto.ListModelsRequest())
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
