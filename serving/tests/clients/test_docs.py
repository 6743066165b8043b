"""What documents and errors promise, asked of the real server: the page of errors, routes and methods,
services, metrics."""

import json
import os
import re
import subprocess

import grpc
import httpx
import pytest
from conftest import ROOT, start, stop
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from test_rest import REFUSALS
from test_tenants import make, settled

API = (ROOT / "docs/api.md").read_text()
EXAMPLES = (ROOT / "docs/error-examples.md").read_text()
CODES = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
ROUTE = re.compile(r"^\| ([A-Z, ]+) \| `(/\S+)` \|", re.MULTILINE)


def anchors(url):
    answer = httpx.get(url)
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    return re.findall(r'<section id="(\w+)">', answer.text)


def test_every_code_has_its_place_on_the_page(server):
    assert len(CODES) > 50
    for port in server.api, server.ops:
        assert anchors(f"http://{port}/docs/errors") == CODES


def test_docs_urls_of_errors_lead_there(server, rest):
    pages = {}
    for route, body, headers, status, code in REFUSALS:
        answer = rest.post(f"/v1/ml/{route}", content=body, headers=headers)
        url, _, anchor = answer.json()["error"]["docs_url"].partition("#")
        assert (answer.status_code, anchor) == (status, code)
        pages[url] = pages.get(url) or anchors(url)
        assert anchor in pages[url]
    unknown = httpx.get(f"http://{server.ops}/nothing").json()["error"]["docs_url"].partition("#")
    assert unknown[0] in pages and unknown[2] == "not_found"


def test_so_do_those_of_parts_and_statuses(rest, stub, proto, metadata):
    body = {"inputs": ["Fine.", ""], "parameters": {"on_error": "partial"}}
    error = rest.post("/v1/ml/sentiment", json=body).json()["results"][1]["error"]
    with pytest.raises(grpc.RpcError) as raised:
        stub.Embed(proto.EmbedRequest(inputs=[""]), metadata=metadata)
    link = error_details_pb2.Help()
    assert any(detail.Unpack(link) for detail in rpc_status.from_call(raised.value).details)
    for url in error["docs_url"], link.links[0].url:
        assert url.partition("#")[2] == "empty_input" and "empty_input" in anchors(url)


def test_the_page_needs_nobody_else(server):
    base = f"http://{server.api}"
    page = httpx.get(f"{base}/docs/errors")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
    assert (page.headers["x-content-type-options"], page.headers["x-frame-options"]) == ("nosniff", "DENY")
    found = re.findall(r'(?:href|src)="([^"#]+)', page.text)
    assert found and all(link.startswith("/") for link in found)
    for link in found:
        assert httpx.get(base + link).status_code == 200
    again = httpx.get(f"{base}/docs/errors", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", page.headers["etag"])


def test_pages_lead_to_each_other(server):
    """Whoever follows links from `/docs` reaches every page, on either port."""
    for port in server.api, server.ops:
        seen, open_ = {}, ["/docs"]
        while open_:
            path = open_.pop()
            answer = httpx.get(f"http://{port}{path}")
            assert answer.status_code == 200, path
            seen[path] = answer.headers["content-type"]
            if seen[path].startswith("text/html"):
                links = set(re.findall(r'href="(/[^"#]*)', answer.text))
                open_ += [link for link in links - seen.keys() if link not in open_]
        assert sum(kind.startswith("text/html") for kind in seen.values()) == 18
        assert sum(kind == "application/json" for kind in seen.values()) == 8
    missing = httpx.get(f"http://{server.api}/docs/nothing")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


def test_tables_scroll_within_their_boxes(server):
    """On a telephone no page is wider than the screen: what can be, has a box of its own."""
    base, tables = f"http://{server.api}", 0
    for path in set(re.findall(r'href="(/docs/[^"#.]*)"', httpx.get(f"{base}/docs").text)):
        page = httpx.get(base + path).text
        tables += page.count("<table")
        assert page.count("<table") == page.count('<div class="wide"><table'), path
        assert 'name="viewport" content="width=device-width, initial-scale=1"' in page
    style = httpx.get(f"{base}/docs/style.css").text
    assert tables > 100 and re.search(r"\.wide \{[^}]*overflow-x: auto", style) and re.search(r"pre \{[^}]*overflow-x: auto", style)


def test_where_errors_are_explained_can_be_said(request, tmp_path):
    config = tmp_path / "server.toml"
    config.write_text('docs_url = "https://ml.example.com/errors"\n')
    other = start(request, tmp_path, "--config", str(config))
    try:
        error = httpx.get(f"http://{other.api}/v1/ml/models").json()["error"]
        assert error["docs_url"] == "https://ml.example.com/errors#missing_credentials"
    finally:
        stop(other)


@pytest.mark.parametrize("page, port", [("api.md", "api"), ("operations.md", "ops")])
def test_routes_take_the_methods_that_are_documented(server, page, port):
    """`Allow` is of the router's own table, and so is what documents say."""
    routes = ROUTE.findall((ROOT / "docs" / page).read_text())
    assert len(routes) > 10
    token = (server.state / "operator.token").read_text()
    for methods, path in routes:
        expected = set(methods.split(", "))
        expected |= {"HEAD"} if "GET" in expected else set()
        url = f"http://{getattr(server, port)}{re.sub('{[a-z]+}', 'x', path)}"
        refused = httpx.request("PROPFIND", url, headers={"Authorization": f"Bearer {token}"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (405, "method_not_allowed"), path
        assert {method.strip() for method in refused.headers["allow"].split(",")} == expected, path


def test_methods_of_the_service_are_documented(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    file = database.FindFileContainingSymbol("ml.inference.v1.InferenceService")
    methods = {method.name for service in file.service for method in service.method}
    table = API.partition("| method of `ml.inference.v1.InferenceService` |")[2]
    assert set(re.findall(r"^\| `(\w+)` \|", table.partition("\n\n")[0], re.MULTILINE)) == methods


def test_metrics_are_documented(server, rest):
    rest.post("/v1/ml/sentiment", json={"inputs": "Counted."})
    rows = re.findall(r"^\| (`(?:ml_inference|process)_[^|]+) \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    documented = {name: kind for names, kind in rows for name in re.findall(r"`(\w+)`", names)}
    token = (server.state / "operator.token").read_text()
    count = 0
    for path in "/metrics", "/admin/v1/metrics":
        text = httpx.get(f"http://{server.ops}{path}", headers={"Authorization": f"Bearer {token}"}).text
        for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
            assert documented.get(name) == kind, f"docs/metrics.md lacks {name} or its type"
            count += 1
    assert count > 50


# What every answer has of its own.
OWN = {"request_id", "docs_url", "id", "key", "ending", "created_at", "expires_at", "revoked_at", "replaced_by", "tenant",
       "from", "to", "device_ms"}


def assert_alike(given, shown):
    if isinstance(shown, dict):
        assert given.keys() == shown.keys()
        for field in shown.keys() - OWN:
            assert_alike(given[field], shown[field])
    elif isinstance(shown, list):
        assert len(given) == len(shown)
        for left, right in zip(given, shown):
            assert_alike(left, right)
    else:
        assert given == shown


def run(command, environment, folder):
    return subprocess.run(["bash", "-c", command], env=os.environ | environment, cwd=folder, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def guided(request, tmp_path_factory):
    """A server of their own for examples that make tenants and keys."""
    running = start(request, tmp_path_factory.mktemp("guided"))
    yield running
    stop(running)


def test_the_examples_of_errors(guided, tmp_path):
    """Each request as it stands, by the real curl; together with those that need more they are all codes."""
    shell = re.search(r"```sh\n.*?\n(field.*?)```", EXAMPLES, re.DOTALL).group(1)
    environment = {"API": f"http://{guided.api}", "OPS": f"http://{guided.ops}",
                   "TOKEN": (guided.state / "operator.token").read_text().strip()}
    blocks = re.findall(r"^### (\w+)\n```console\n(.*?)```", EXAMPLES, re.MULTILINE | re.DOTALL)
    for code, block in blocks:
        *commands, answer = block.splitlines()
        assert len(commands) <= 2 and all(command.startswith("$ ") for command in commands)
        for command in commands:
            given = run(shell + command[2:], environment, tmp_path)
        shown = json.loads(answer)
        assert code in (shown.get("code"), shown.get("error", {}).get("code"))
        assert_alike(json.loads(given), shown)
    others = EXAMPLES.partition("| code | how it comes about |")[2]
    rows = [name for row in others.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1] if row[:1] == "|" else "")]
    assert sorted([code for code, _ in blocks] + rows) == sorted(CODES)


def test_the_examples_of_models_usage_and_keys(request, guided, tmp_path):
    environment = {"API": f"http://{guided.api}", "KEY": make(request, guided, "acme", "starter")["key"]}
    section = API.partition("## Models, usage and keys")[2]
    examples = re.findall(r"^\$ (curl .*|ID=.*)\n(\{.*)?", section, re.MULTILINE)
    assert len(examples) == 6
    for command, answer in examples:
        shown = json.loads(answer) if answer else None
        if "/usage" in command:
            # Sums follow the records within a fraction of a second.
            settled(lambda: len(json.loads(run(command, environment, tmp_path))["rows"]), 1)
        given = run(command, environment, tmp_path)
        if shown:
            assert_alike(json.loads(given), shown)


PROGRAMS = re.findall(r"```python\n(.*?)```\nprints[^\n]*\n```\n(.*?)```", API + EXAMPLES, re.DOTALL)


@pytest.mark.parametrize("code, shown", PROGRAMS, ids=["every method", "the stream", "an error"])
def test_programs_print_what_is_shown(server, stub, capsys, code, shown):
    """With the stubs that any client generates, which `stub` has put into the path."""
    exec(compile(code.replace("127.0.0.1:8080", server.api), "docs", "exec"), {})
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(shown.splitlines())
