"""Forms: metrics as scrapers ask for them, refusals that say what is wrong and repeat nothing, codings,
methods, options."""

import gzip
import json
import shutil
import subprocess
import zlib

import httpx
import pytest
from google.protobuf import descriptor_pb2
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as plain_families

from conftest import KEY, ROOT, free_ports, start, stop
from test_rest import check_envelope

JSON = {"Content-Type": "application/json"}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"


# Routes and their methods


API_ROUTES = {
    "/v1/ml/classify": {"POST"},
    "/v1/ml/sentiment": {"POST"},
    "/v1/ml/entities": {"POST"},
    "/v1/ml/summarize": {"POST"},
    "/v1/ml/embeddings": {"POST"},
    "/v1/ml/models": {"GET", "HEAD"},
    "/v1/ml/models/ner-v2": {"GET", "HEAD"},
    "/v1/ml/usage": {"GET", "HEAD"},
    "/v1/ml/keys": {"GET", "HEAD", "POST"},
    "/v1/ml/keys/key_1": {"DELETE"},
    "/v1/ml/keys/key_1/rotate": {"POST"},
}
OPS_ROUTES = {
    "/metrics": {"GET", "HEAD"},
    "/livez": {"GET", "HEAD"},
    "/readyz": {"GET", "HEAD"},
    "/healthz": {"GET", "HEAD"},
    "/scaling": {"GET", "HEAD"},
    "/admin/v1/tenants": {"GET", "HEAD", "POST"},
    "/admin/v1/tenants/acme": {"PATCH"},
    "/admin/v1/tenants/acme/keys": {"GET", "HEAD", "POST"},
    "/admin/v1/tenants/acme/usage": {"GET", "HEAD"},
    "/admin/v1/usage": {"GET", "HEAD"},
    "/admin/v1/keys": {"GET", "HEAD"},
    "/admin/v1/keys/key_1": {"DELETE"},
    "/admin/v1/keys/key_1/rotate": {"POST"},
    "/admin/v1/audit": {"GET", "HEAD"},
}


@pytest.mark.parametrize("path", [*API_ROUTES, *OPS_ROUTES])
def test_methods(server, rest, path):
    if path in API_ROUTES:
        base, allowed, headers = f"http://{server.api}", API_ROUTES[path], dict(rest.headers)
    else:
        token = (server.state / "operator.token").read_text().strip()
        base, allowed, headers = f"http://{server.ops}", OPS_ROUTES[path], {"Authorization": f"Bearer {token}"}
    for method in METHODS:
        response = httpx.request(method, base + path, headers=headers, timeout=60)
        if method in allowed:
            assert response.status_code != 405, (method, path)
        else:
            assert response.status_code == 405, (method, path, response.text)
            assert {name.strip() for name in response.headers["allow"].split(",")} == allowed, (method, path)
            if path in API_ROUTES and method != "HEAD":
                check_envelope(response, 405, "method_not_allowed")


@pytest.mark.parametrize("path", ["/v1/ml/models/%FF", "/v1/ml/models/%ff%fe"])
def test_paths_that_are_no_text(server, rest, path):
    check_envelope(httpx.get(f"http://{server.api}{path}"), 401, "missing_credentials")
    check_envelope(rest.get(path), 400, "invalid_request")


@pytest.mark.parametrize("method, path", [
    ("PATCH", "tenants/%FF"), ("GET", "tenants/%FF/keys"), ("GET", "tenants/%ff%fe/usage"), ("DELETE", "keys/%FF"),
    ("POST", "keys/%FF/rotate")])
def test_paths_of_operators_that_are_no_text(server, method, path):
    url, token = f"http://{server.ops}/admin/v1/{path}", (server.state / "operator.token").read_text().strip()
    check_envelope(httpx.request(method, url, json={}), 401, "missing_credentials")
    response = httpx.request(method, url, json={}, headers={"Authorization": f"Bearer {token}"})
    check_envelope(response, 400, "invalid_request")
    assert "percent-encoding" in response.json()["error"]["message"]


@pytest.mark.parametrize("method, path", [("DELETE", "/v1/ml/keys/%FF"), ("POST", "/v1/ml/keys/%FF/rotate")])
def test_paths_of_keys_that_are_no_text(server, rest, method, path):
    check_envelope(httpx.request(method, f"http://{server.api}{path}"), 401, "missing_credentials")
    response = rest.request(method, path, json={})
    assert response.status_code in (400, 403) and set(response.json()["error"]) >= {"code", "message", "request_id"}


# Metrics


ACCEPT = [
    (None, PLAIN),
    ("*/*", PLAIN),
    ("text/plain;version=0.0.4", PLAIN),
    ("text/html", PLAIN),
    ("application/openmetrics-text;version=1.0.0", OPEN),
    ("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
     "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OPEN),
    ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,"
     "text/plain;version=0.0.4;q=0.3,*/*;q=0.1", PLAIN),
    ("application/openmetrics-text;q=0.4,text/plain;q=0.6", PLAIN),
]


@pytest.mark.parametrize("accept, expected", ACCEPT)
def test_metrics_are_what_is_asked_for(server, accept, expected):
    request = httpx.Request("GET", f"http://{server.ops}/metrics", headers={} if accept is None else {"Accept": accept})
    with httpx.Client() as client:
        response = client.send(request)
    assert (response.status_code, response.headers["content-type"]) == (200, expected)
    assert response.headers["vary"].lower() == "accept"
    families = (text_string_to_metric_families if expected == OPEN else plain_families)(response.text)
    assert len(list(families)) > 30


def test_promtool_has_nothing_to_say(server, rest):
    rest.post("/v1/ml/sentiment", json={"inputs": "fine"})
    rest.post("/v1/ml/sentiment", json={"inputs": ""})
    rest.get("/nowhere")
    metrics = httpx.get(f"http://{server.ops}/metrics").text
    promtool = shutil.which("promtool")
    assert promtool, "scripts/setup.sh installs promtool"
    checked = subprocess.run([promtool, "check", "metrics"], input=metrics, capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_both_forms_tell_the_same(server, rest):
    rest.post("/v1/ml/sentiment", json={"inputs": "fine"})
    open_ = httpx.get(f"http://{server.ops}/metrics", headers={"Accept": "application/openmetrics-text"}).text
    plain = httpx.get(f"http://{server.ops}/metrics").text
    names = lambda text, parse: {s.name for family in parse(text) for s in family.samples}
    assert names(open_, text_string_to_metric_families) == names(plain, plain_families)
    (build,) = [s for f in plain_families(plain) for s in f.samples if s.name == "ml_inference_build_info"]
    assert build.labels["version"] and build.labels["commit"]
    process = {s.name: s.value for f in plain_families(plain) for s in f.samples if s.name.startswith("process_")}
    assert process["process_cpu_seconds_total"] > 0 and process["process_resident_memory_bytes"] > 1 << 24
    assert 0 < process["process_open_fds"] < process["process_max_fds"]
    durations = [s.labels for f in plain_families(plain) for s in f.samples
                 if s.name == "ml_inference_call_duration_seconds_count"]
    assert any(labels["model"] == "sentiment-v3" for labels in durations)


def test_readiness_by_parts(server):
    ready = httpx.get(f"http://{server.ops}/readyz")
    assert (ready.status_code, ready.text) == (200, "ok\n")
    verbose = httpx.get(f"http://{server.ops}/readyz?verbose")
    lines = verbose.text.splitlines()
    assert verbose.status_code == 200 and {"server ok", "devices ok", "models ok"} <= set(lines)
    assert all(line.endswith(" ok") for line in lines)


# Bodies


ENUMS = [
    ("classify", "truncation"), ("sentiment", "truncation"), ("entities", "truncation"), ("embeddings", "truncation"),
    ("entities", "aggregation"), ("entities", "offset_unit"), ("summarize", "method"), ("embeddings", "encoding_format"),
    ("sentiment", "priority"),
]


@pytest.mark.parametrize("route, name", ENUMS)
@pytest.mark.parametrize("value", [5, 1.5, True, [], ["end"], {}, {"end": None}, "my secret text"])
def test_values_of_the_wrong_type(rest, route, name, value):
    """They are not invalid JSON, the field is named, and the value is not repeated."""
    response = rest.post(f"/v1/ml/{route}", json={"inputs": "x", "parameters": {name: value}})
    check_envelope(response, 400, "invalid_request")
    message = response.json()["error"]["message"]
    assert f"parameters.{name}: " in message and "secret" not in message


@pytest.mark.parametrize("field, value", [("plan", 5), ("plan", []), ("plan", "my secret"), ("plan", {"my secret": 1}),
                                          ("plan", {"free": None, "x": 1}), ("name", 7)])
def test_values_of_the_wrong_type_for_operators(server, field, value):
    token = (server.state / "operator.token").read_text().strip()
    body = {"name": "acme", "plan": "free"} | {field: value}
    response = httpx.post(f"http://{server.ops}/admin/v1/tenants", json=body, headers={"Authorization": f"Bearer {token}"})
    check_envelope(response, 400, "invalid_request")
    message = response.json()["error"]["message"]
    assert f"invalid request: {field}" in message and "secret" not in message


LONG = "A" * 2_000_000


@pytest.mark.parametrize("body", [
    {"inputs": "x", LONG: 1},
    {"inputs": "x", "parameters": {LONG: 1}},
    {"inputs": "x", "parameters": {"truncation": LONG}},
    {"inputs": "x", "parameters": {"truncation": {LONG: 1}}},
    {"inputs": "x", "parameters": {"priority": LONG}},
    {"inputs": "x", "parameters": {"timeout_ms": LONG}},
    {"inputs": "x", "parameters": LONG},
    {"inputs": {LONG: 1}},
    {"inputs": "x", "model": LONG},
])
def test_answers_are_bounded_whatever_came(rest, body):
    response = rest.post("/v1/ml/sentiment", json=body)
    assert response.status_code in (400, 404) and len(response.content) < 1000, len(response.content)


@pytest.mark.parametrize("query", [f"{'A' * 5000}=1", f"limit={'A' * 5000}", "limit=1&limit=2", f"by={'A' * 5000}",
                                   f"from={'A' * 5000}", f"{'a' * 5000}%60,%20expected%20{'a' * 5000}=1"])
def test_answers_to_queries_are_bounded(rest, query):
    for route in ("usage", "keys"):
        response = rest.get(f"/v1/ml/{route}?{query}")
        assert response.status_code in (400, 403) and len(response.content) < 1000


def test_a_byte_order_mark(rest):
    response = rest.post("/v1/ml/sentiment", content=b'\xef\xbb\xbf{"inputs": "fine"}', headers=JSON)
    assert response.status_code == 200, response.text


BODY = json.dumps({"inputs": "A text that is coded."}).encode()
BOMB = gzip.compress(b'{"inputs": "' + b"a" * (64 << 20) + b'"}')
CODINGS = [
    ("gzip", gzip.compress(BODY), 200, None),
    ("x-gzip", gzip.compress(BODY), 200, None),
    ("deflate", zlib.compress(BODY), 200, None),
    ("identity", BODY, 200, None),
    ("br", BODY, 415, "unsupported_content_encoding"),
    ("gzip, gzip", gzip.compress(gzip.compress(BODY)), 415, "unsupported_content_encoding"),
    ("gzip", BODY, 400, "invalid_content_encoding"),
    ("deflate", gzip.compress(BODY), 400, "invalid_content_encoding"),
    ("gzip", gzip.compress(BODY)[:-6], 400, "invalid_content_encoding"),
    ("gzip", BOMB, 413, "body_too_large"),
    ("gzip", gzip.compress(b"\xff\xfe"), 400, "invalid_utf8"),
]


@pytest.mark.parametrize("coding, body, status, code", CODINGS)
def test_content_encoding(rest, coding, body, status, code):
    response = rest.post("/v1/ml/sentiment", content=body, headers=JSON | {"Content-Encoding": coding})
    assert response.status_code == status, response.text
    if code:
        check_envelope(response, status, code)
    if status == 415:
        assert response.headers["accept-encoding"] == "gzip, deflate, identity"
        assert "Content-Encoding" in response.json()["error"]["message"]


# Options and definitions


def run(request, *arguments, environment=None):
    command = [request.config.getoption("--binary"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment or {})


@pytest.mark.parametrize("value", ["1", "true"])
def test_a_server_on_a_host_name_offline_by_environment(request, tmp_path, value):
    api, ops = free_ports(2)
    command = [request.config.getoption("--binary"), "serve", "--listen", f"localhost:{api}", "--cards-dir", ROOT / "model-cards",
               "--data-dir", request.config.getoption("--data-dir"), "--state-dir", tmp_path / "state"]
    config = tmp_path / "named.toml"
    config.write_text(f'ops_listen = "localhost:{ops}"\n')
    environment = {"ML_INFERENCE_OFFLINE": value, "ML_INFERENCE_CONFIG": str(config)}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    # The first thing that it prints is where it listens.
    shown = "".join(process.stdout.readline() for _ in range(3))
    assert f"http://127.0.0.1:{api}" in shown and f"http://127.0.0.1:{ops}" in shown, shown
    assert httpx.get(f"http://127.0.0.1:{ops}/livez").status_code == 200
    process.terminate()
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("address", ["localhost", "localhost:x", "8080", ":8080"])
def test_addresses_that_are_none(request, address):
    ended = run(request, "serve", "--listen", address)
    assert ended.returncode == 2 and "localhost:8080" in ended.stderr


@pytest.mark.parametrize("form", ["{}", "http://{}", "http://{}/"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_operations_by_name_before_and_after_the_command(request, server, host, form):
    ops = ["--ops", form.format(f"{host}:{server.ops.split(':')[1]}")]
    token = ["--token", str(server.state / "operator.token")]
    for arguments in (["tenants", "list", *ops], ["tenants", *ops, "list"]):
        shown = run(request, *arguments, *token)
        assert shown.returncode == 0 and "tenants" in json.loads(shown.stdout), shown.stderr


@pytest.mark.parametrize("address, code, part", [
    ("localhost", 2, "localhost:9090"), ("9090", 2, "localhost:9090"), ("https://localhost:9090", 2, "over http"),
    ("127.0.0.1:1", 1, "refused"), ("nowhere.invalid:9090", 1, "nowhere.invalid:9090"),
])
def test_operations_that_are_not_there(request, server, address, code, part):
    ended = run(request, "tenants", "list", "--ops", address, "--token", str(server.state / "operator.token"))
    assert ended.returncode == code and part in ended.stderr, ended.stderr


def test_a_switch_that_is_neither_on_nor_off(request):
    ended = run(request, "serve", environment={"ML_INFERENCE_OFFLINE": "perhaps"})
    assert ended.returncode == 2 and "true" in ended.stderr


@pytest.mark.parametrize("text, parts", [
    ('models.ner-v2 = { runtime = "onxx" }', ["line 1, column", "onxx", "`onnx`"]),
    ('\nmodels.ner-v2.dtype = "float8"', ["line 2, column", "float8", "`bfloat16`"]),
    ('\n\nlisten = "nowhere"', ["line 3, column", "localhost:8080"]),
])
def test_configuration_that_cannot_be_meant(request, tmp_path, text, parts):
    config = tmp_path / "bad.toml"
    config.write_text(text)
    ended = run(request, "serve", "--config", str(config))
    assert ended.returncode == 1 and all(part in ended.stderr for part in parts), ended.stderr


def test_help_is_about_the_server(request):
    shown = run(request, "--help").stdout
    assert shown.startswith("Text-inference server: ") and "Examples:\n  ml-inference serve" in shown


def test_definitions_say_where_generated_code_goes(tmp_path):
    from grpc_tools import protoc

    source = ROOT / "serving/proto"
    for name in ("ml/inference/v1/inference.proto", "externalscaler/externalscaler.proto"):
        out = tmp_path / "descriptors"
        assert protoc.main(["protoc", f"-I{source}", f"--descriptor_set_out={out}", str(source / name)]) == 0
        (file,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
        assert file.options.go_package and file.options.java_package and file.options.java_multiple_files
