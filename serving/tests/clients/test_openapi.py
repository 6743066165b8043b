"""The OpenAPI documents: valid to others, true of the server, and nothing found by schemathesis in ours."""

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from conftest import ROOT, start, stop
from openapi_spec_validator import validate
from test_tenants import make

OWN = json.loads((ROOT / "docs/openapi/own.json").read_text())
DIALECTS = sorted(path.stem for path in (ROOT / "docs/openapi").glob("*.json") if path.stem != "own")
METHODS = {"get", "post", "put", "delete"}


@pytest.mark.parametrize("name", ["own", *DIALECTS])
def test_documents_are_valid_and_served_as_committed(server, name):
    path = "/openapi.json" if name == "own" else f"/openapi/{name}.json"
    answer = httpx.get(f"http://{server.api}{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    # In examples of errors a server says where it explains them itself.
    document = json.loads(answer.text.replace(f"http://{server.api}/docs/errors", "/docs/errors"))
    assert document == json.loads((ROOT / f"docs/openapi/{name}.json").read_text())
    validate(document)


@pytest.mark.parametrize("name", ["own", *DIALECTS])
def test_methods_are_those_of_the_router(server, name):
    """`Allow` is of the router's own table: a path that several dialects share has the methods of all."""
    allowed = {}
    for other in ["own", *DIALECTS]:
        for path, methods in json.loads((ROOT / f"docs/openapi/{other}.json").read_text())["paths"].items():
            key = re.sub(r"{\w+}", "{}", path)
            allowed.setdefault(key, set()).update(method.upper() for method in methods if method in METHODS)
    for path in json.loads((ROOT / f"docs/openapi/{name}.json").read_text())["paths"]:
        somewhere = re.sub(r"{\w+}", "x", path)
        refused = httpx.request("PROPFIND", f"http://{server.api}{somewhere}")
        assert refused.status_code == 405, path
        found = {method.strip() for method in refused.headers["allow"].split(",")} - {"HEAD"}
        assert found == allowed[re.sub(r"{\w+}", "{}", path)], path


def test_a_dialect_that_is_off_has_no_document(request, tmp_path):
    config = tmp_path / "server.toml"
    config.write_text("[protocols]\ntei = false\n")
    other = start(request, tmp_path, "--config", str(config))
    try:
        for path in "/openapi/tei.json", "/docs/reference-tei":
            answer = httpx.get(f"http://{other.api}{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        assert httpx.get(f"http://{other.api}/openapi/oip.json").status_code == 200
    finally:
        stop(other)


# Requests that the document allows are refused with these codes alone: for what only the server knows, such
# as a model's bounds.
KNOWN_TO_THE_SERVER = {
    "empty_input", "nul_character", "input_too_long", "too_many_inputs", "invalid_parameter", "unreadable_input", "no_inputs",
    "wrong_task", "model_required", "idempotency_key_reused", "idempotency_in_progress",
}
# Of a deadline that cannot be met, of which some are a millisecond away, and of a server that is busy.
IN_TIME = {"deadline_infeasible", "deadline_exceeded", "overloaded"}

HOOKS = f"""
import schemathesis

@schemathesis.hook
def filter_case(ctx, case):
    # Of headers those that are not known are ignored, as in all of HTTP.
    return "x-schemathesis-unknown-property" not in (case.headers or {{}})

@schemathesis.check
def refusals_for_want_of_time_say_so(ctx, response, case):
    assert response.status_code < 500 or response.json()["error"]["code"] in {sorted(IN_TIME)!r}, response.text

@schemathesis.check
def allowed_requests_are_understood(ctx, response, case):
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code not in (400, 413, 422):
        return
    error = response.json()["error"]
    # Schemas cannot tell 1.0 from 1, nor which token ids a model has, when it is, or how many days there are
    # between two.
    of_server = ("got floating point", "token id", "expires_at", "must be at most 366 days", "expected an array of token ids")
    is_known = error["code"] in {sorted(KNOWN_TO_THE_SERVER)!r} or any(part in error["message"] for part in of_server)
    assert is_known, f"refused though the document allows it: {{error}}"
"""

CONFIG = """
hooks = "hooks.py"
seed = 18
generation.max-examples = 25
generation.deterministic = true
phases.stateful.generation.max-examples = 15
output.sanitization.enabled = false
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]
positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "422", "429", "5xx"]
"""


@pytest.fixture(scope="module")
def explored(request, tmp_path_factory):
    """A server of its own, whose keys come and go."""
    running = start(request, tmp_path_factory.mktemp("explored"))
    running.key = make(request, running, "acme", "enterprise")["key"]
    yield running
    stop(running)


def test_schemathesis_finds_nothing(explored, tmp_path):
    """Every operation of ours: examples, values at the bounds, what is allowed and what is not, and calls in
    a row."""
    # As a file: of a document that it fetches it leaves out the route of the document.
    (tmp_path / "openapi.json").write_text(httpx.get(f"http://{explored.api}/openapi.json").text)
    (tmp_path / "hooks.py").write_text(HOOKS)
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    command = [str(Path(sys.executable).parent / "schemathesis"), "--config-file", "schemathesis.toml", "run", "--continue-on-failure",
               "openapi.json", "--url", f"http://{explored.api}", "-H", f"Authorization: Bearer {explored.key}", "--workers", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    operations = sum(len(METHODS & methods.keys()) for methods in OWN["paths"].values())
    assert f"{operations} selected / {operations} total" in done.stdout, done.stdout
