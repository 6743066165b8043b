"""Files that are read while the server runs and turn into what blocks or cannot be used: everything else goes
on."""

import os

import httpx
import pytest
from conftest import stop
from identity import started
from peers import metric, wait_for
from test_ledger import ask, cards  # noqa: F401

FIRST, SECOND = "first-token-0123456789", "second-token-0123456789"


def files(server):
    lines = httpx.get(f"http://{server.ops}/readyz?verbose").text.splitlines()
    return next(line for line in lines if line.startswith("files "))


def tenants(server, token):
    return httpx.get(f"http://{server.ops}/admin/v1/tenants", headers={"Authorization": f"Bearer {token}"}).status_code


def put(path, text):
    draft = path.with_name("draft")
    draft.write_text(text)
    draft.chmod(0o600)
    draft.rename(path)


@pytest.mark.parametrize("kind", ["pipe", "folder", "gone", "device"])
def test_a_token_file_that_is_none_any_more(request, tmp_path, kind, cards):  # noqa: F811
    path = tmp_path / "operator"
    put(path, FIRST)
    server = started(request, tmp_path, f'[tenancy]\noperator_token_file = "{path}"\n', cards=cards)
    assert (tenants(server, FIRST), files(server)) == (200, "files ok")
    path.unlink()
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
    wait_for(lambda: files(server).startswith("files degraded: operator token: "))
    assert metric(server, "files_faulty") == 1
    wait_for(lambda: "the operator's token was changed and cannot be used" in server.log.read_text())
    # Everything goes on, with the old token.
    ask(server, 3)
    summed = httpx.get(f"http://{server.ops}/admin/v1/usage", headers={"Authorization": f"Bearer {FIRST}"})
    assert summed.status_code == 200 and tenants(server, FIRST) == 200
    path.rmdir() if kind == "folder" else path.unlink(missing_ok=True)
    put(path, SECOND)
    wait_for(lambda: tenants(server, SECOND) == 200)
    wait_for(lambda: files(server) == "files ok" and metric(server, "files_faulty") == 0)
    assert tenants(server, FIRST) == 401
    stop(server)


def test_a_pipe_with_a_token_is_a_refused_start(request, tmp_path, cards):  # noqa: F811
    os.mkfifo(tmp_path / "operator")
    with pytest.raises(RuntimeError, match="it is no regular file"):
        started(request, tmp_path, f'[tenancy]\noperator_token_file = "{tmp_path}/operator"\n', cards=cards)
