"""Logs: what becomes of standard error harms no call, and each call leaves one line that has none of its
text."""

import fcntl
import json
import os
import resource
import signal
import subprocess
import time

import grpc
import httpx
import pytest

from conftest import KEY, start, stop
from peers import connect, head
from test_operations import samples, total

HEADERS = {"Authorization": f"Bearer {KEY}"}
SECRET = "zyzzyva"


def call(server, **keywords):
    body = {"inputs": "Standard error is not what matters."}
    response = httpx.post(f"http://{server.api}/v1/ml/sentiment", json=body, headers=HEADERS, timeout=60, **keywords)
    return response.status_code


def dropped(server):
    return total(samples(server), "ml_inference_log_lines_dropped_total")


def wait_until(condition, seconds=60):
    """Waits for an event, for longer than any machine should need."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def end(server):
    """SIGTERM ends the server, whatever became of its log."""
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=30) == 0


def test_a_full_disk(request, tmp_path):
    with open("/dev/full", "wb") as full:
        server = start(request, tmp_path, stderr=full)
    assert [call(server) for _ in range(60)] == [200] * 60
    assert wait_until(lambda: dropped(server) >= 60)
    end(server)


def test_a_log_as_long_as_files_may_be(request, tmp_path):
    """Whose next line would end the process by SIGXFSZ."""
    longest = 64 << 20
    with open(tmp_path / "log", "ab") as log:
        log.truncate(longest)
        server = start(request, tmp_path, stderr=log,
                       preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (longest, longest)))
    assert [call(server) for _ in range(60)] == [200] * 60
    assert wait_until(lambda: dropped(server) >= 60)
    end(server)


def test_a_reader_that_dies(request, tmp_path):
    read, write = os.pipe()
    server = start(request, tmp_path, stderr=write)
    os.close(write)
    assert call(server) == 200
    os.close(read)
    assert [call(server) for _ in range(20)] == [200] * 20
    assert wait_until(lambda: dropped(server) >= 20)
    end(server)


def test_a_reader_that_stops_reading(request, tmp_path):
    config = tmp_path / "log.toml"
    config.write_text("[log]\nqueue_lines_max = 16\nflush_timeout_ms = 200\n")
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    # Both streams go where nobody reads, as with `2>&1 |`.
    server = start(request, tmp_path, "--config", str(config), stderr=write, stdout=write)
    os.close(write)
    with httpx.Client(base_url=f"http://{server.api}") as client:
        statuses = {client.get("/nowhere").status_code for _ in range(2000)}
    assert statuses == {404} and call(server) == 200
    # 4,096 bytes are in the pipe and 16 lines in the queue; all else is lost and counted.
    assert dropped(server) > 1900
    end(server)
    os.close(read)


@pytest.mark.parametrize("kind", ["no reader", "closed"])
def test_nobody_there_from_the_start(request, tmp_path, kind):
    if kind == "closed":
        server = start(request, tmp_path, stdout=None, stderr=None, preexec_fn=lambda: (os.close(1), os.close(2)))
    else:
        read, write = os.pipe()
        os.close(read)
        server = start(request, tmp_path, stdout=write, stderr=write)
        os.close(write)
    assert call(server) == 200
    end(server)


def test_an_error_nobody_reads_ends_the_process(request):
    """The message of a start that fails goes to a pipe that is full: the exit code says it."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write, b"x" * 4096)
    process = subprocess.Popen([request.config.getoption("--binary"), "serve", "--listen", "0.0.0.0:0"], stderr=write)
    os.close(write)
    assert process.wait(timeout=30) == 1
    os.close(read)


@pytest.fixture(scope="module")
def logged(request, tmp_path_factory):
    server = start(request, tmp_path_factory.mktemp("logged"))
    yield server
    stop(server)


def line_of(server, request_id):
    """The access line of a call, once it is there; there is never a second one."""
    def lines():
        complete = [text for text in server.log.read_text().splitlines(keepends=True) if text.endswith("}\n")]
        return [text for text in complete if f'"request_id":"{request_id}"' in text and '"target":"access"' in text]
    wait_until(lines)
    (line,) = [json.loads(text) for text in lines()]
    return line


REST = [
    # name, method, path, headers, body, what the line says
    ("ok", "POST", "/v1/ml/sentiment", HEADERS, {"inputs": ["one two", "three"]},
     {"method": "POST", "route": "/v1/ml/sentiment", "protocol": "rest", "status": 200, "code": "ok", "tenant": "development",
      "key": "dev", "model": "sentiment-v3", "inputs": 2, "tokens": 7}),
    ("refused", "POST", "/v1/ml/sentiment", HEADERS, {"inputs": [SECRET, ""]},
     {"status": 400, "code": "empty_input", "tenant": "development", "model": "sentiment-v3", "inputs": 2}),
    ("malformed", "POST", "/v1/ml/sentiment", HEADERS, {"inputs": {SECRET: 1}},
     {"status": 400, "code": "invalid_request", "tenant": "development"}),
    ("unauthenticated", "POST", "/v1/ml/sentiment", {}, {"inputs": SECRET}, {"status": 401, "code": "missing_credentials"}),
    ("read", "GET", "/v1/ml/models/ner-v2", HEADERS, None, {"route": "/v1/ml/models/{name}", "status": 200, "code": "ok"}),
    ("head", "HEAD", "/v1/ml/models", HEADERS, None, {"method": "HEAD", "status": 200, "code": "ok", "bytes_out": 0}),
    ("nowhere", "GET", f"/v1/ml/{SECRET}?{SECRET}={SECRET}", HEADERS, None,
     {"route": "unknown", "status": 404, "code": "not_found"}),
    ("not allowed", "DELETE", "/v1/ml/usage", HEADERS, None, {"status": 405, "code": "method_not_allowed"}),
    ("made up", SECRET.upper(), "/v1/ml/usage", HEADERS, None, {"method": "other", "status": 405}),
    ("no text", "GET", "/v1/ml/models/%FF", HEADERS, None, {"status": 400, "code": "invalid_request"}),
]


@pytest.mark.parametrize("name, method, path, headers, body, expected", REST, ids=[case[0] for case in REST])
def test_a_line_a_call_over_rest(logged, name, method, path, headers, body, expected):
    request_id = f"rest-{name.replace(' ', '-')}"
    response = httpx.request(method, f"http://{logged.api}{path}", headers=headers | {"X-Request-ID": request_id}, json=body)
    line = line_of(logged, request_id)
    assert {key: line.get(key) for key in expected} == expected
    assert line["duration_ms"] > 0 and line["level"] == "INFO" and line["bytes_out"] == len(response.content)


def grpc_call(logged, proto, method, message, metadata, answer=lambda data: data):
    with grpc.insecure_channel(logged.api) as channel:
        call = channel.unary_unary(method, request_serializer=lambda m: m.SerializeToString(), response_deserializer=answer)
        try:
            call(message, metadata=metadata)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name


SERVICE = "/ml.inference.v1.InferenceService"
GRPC = [
    ("ok", "Embed", True, ["one"], {"route": f"{SERVICE}/Embed", "protocol": "grpc", "status": 200, "grpc_status": "OK",
                                    "code": "ok", "tenant": "development", "model": "embeddings-v2", "inputs": 1, "tokens": 3}),
    ("refused", "Embed", True, [], {"grpc_status": "INVALID_ARGUMENT", "code": "no_inputs", "tenant": "development"}),
    ("unauthenticated", "Embed", False, [SECRET], {"grpc_status": "UNAUTHENTICATED", "code": "missing_credentials"}),
    ("unknown", SECRET, True, [SECRET], {"route": f"{SERVICE}/{{*method}}", "grpc_status": "UNIMPLEMENTED"}),
]


@pytest.mark.parametrize("name, method, has_key, inputs, expected", GRPC, ids=[case[0] for case in GRPC])
def test_a_line_a_call_over_grpc(logged, proto, metadata, name, method, has_key, inputs, expected):
    given = (*(metadata if has_key else ()), ("x-request-id", f"grpc-{name}"))
    status = grpc_call(logged, proto, f"{SERVICE}/{method}", proto.EmbedRequest(inputs=inputs), given)
    line = line_of(logged, f"grpc-{name}")
    assert line["grpc_status"] == status
    assert {key: line.get(key) for key in expected} == expected


def test_a_line_a_message(logged, proto, metadata):
    messages = [
        proto.InferStreamRequest(correlation_id="a", embed=proto.EmbedRequest(inputs=["one"])),
        proto.InferStreamRequest(correlation_id="b", sentiment=proto.AnalyzeSentimentRequest(inputs=[""])),
        proto.InferStreamRequest(correlation_id="c"),
    ]
    with grpc.insecure_channel(logged.api) as channel:
        answers = proto.Stub(channel).InferStream(iter(messages), metadata=(*metadata, ("x-request-id", "stream")))
        assert len(list(answers)) == 3
    expected = [("ok", "OK", "embeddings-v2"), ("empty_input", "INVALID_ARGUMENT", "sentiment-v3"),
                ("invalid_request", "INVALID_ARGUMENT", None)]
    lines = [line_of(logged, f"stream.{index}") for index in range(3)]
    assert [(line["code"], line["grpc_status"], line.get("model")) for line in lines] == expected
    whole = line_of(logged, "stream")
    assert (whole["route"], whole["grpc_status"], whole["code"]) == (f"{SERVICE}/InferStream", "OK", "ok")


def test_a_line_for_who_leaves(logged, proto, metadata):
    long = ["word " * 500] * 64
    body = json.dumps({"inputs": long}).encode()
    with connect(logged.api) as caller:
        caller.sendall(head(body, more="X-Request-ID: left-rest\r\n") + body)
        wait_until(lambda: total(samples(logged), "ml_inference_queue_sequences") > 0)
    line = line_of(logged, "left-rest")
    assert (line["status"], line["code"], line["inputs"]) == (499, "cancelled", 64)
    # Without a deadline, of which the server would know: it refuses what cannot be answered in time.
    with grpc.insecure_channel(logged.api) as channel:
        request = proto.AnalyzeSentimentRequest(inputs=long)
        given = (*metadata, ("x-request-id", "left-grpc"))
        answer = proto.Stub(channel).AnalyzeSentiment.future(request, metadata=given)
        wait_until(lambda: total(samples(logged), "ml_inference_calls_in_flight") > 0)
        answer.cancel()
        line = line_of(logged, "left-grpc")
    assert (line["grpc_status"], line["code"]) == ("CANCELLED", "cancelled")


def test_calls_that_no_route_takes_are_counted(logged):
    labels = {"task": "unknown", "code": "not_found", "protocol": "rest"}
    before = total(samples(logged), "ml_inference_calls_total", **labels)
    for _ in range(3):
        httpx.get(f"http://{logged.api}/nowhere/{SECRET}")
    assert wait_until(lambda: total(samples(logged), "ml_inference_calls_total", **labels) == before + 3)


def test_probes_leave_no_lines_and_refusals_do(logged):
    for route in ("livez", "readyz", "metrics"):
        assert httpx.get(f"http://{logged.ops}/{route}", headers={"X-Request-ID": f"ops-{route}"}).status_code == 200
    httpx.get(f"http://{logged.ops}/admin/v1/tenants", headers={"X-Request-ID": "ops-admin"})
    line = line_of(logged, "ops-admin")
    assert (line["route"], line["status"], line["code"]) == ("/admin/v1/tenants", 401, "missing_credentials")
    text = logged.log.read_text()
    assert not any(f"ops-{route}" in text for route in ("livez", "readyz", "metrics"))


def test_lines_have_no_text(logged):
    """The last test of the server: nothing of what the others sent is in its log."""
    assert SECRET not in logged.log.read_text().lower()
