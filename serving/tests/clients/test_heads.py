"""Heads and bodies that are not as they should be: who sends them is told what is wrong, in our form, and the
log and metrics know."""

import json

import grpc
import h2.events
import httpx
import pytest
from conftest import KEY, free_ports, start, stop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from peers import TEXT, Http2, cli, connect, metric, post, read_all, wait_for

BODY = json.dumps(TEXT).encode()
HEAD = b"GET /v1/ml/models HTTP/1.1\r\nHost: localhost\r\n"
POST = f"POST /v1/ml/sentiment HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n".encode()
JSON = b"Content-Type: application/json\r\n"
LENGTH = f"Content-Length: {len(BODY)}\r\n".encode()


def answers(address, sent):
    """Status, headers and body of each answer to what is sent, to the end of the connection."""
    with connect(address) as connection:
        connection.sendall(sent)
        left, found = read_all(connection), []
    while left:
        head, _, left = left.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        assert len(headers) == len(lines), lines
        length = int(headers["content-length"])
        found.append((int(status.split()[1]), headers, left[:length]))
        left = left[length:]
    return found


def check(server, address, sent, status, code):
    """The last answer is the refusal, and its line and its count are where those of others are."""
    counted = metric(server, "calls_total", code=code)
    found, headers, body = answers(address, sent)[-1]
    error = json.loads(body)["error"]
    assert (found, error["code"]) == (status, code), body
    assert error["request_id"] == headers["x-request-id"] and headers["content-type"] == "application/json" and headers["date"]
    (line,) = wait_for(lambda: [line for line in server.log_lines() if line.get("request_id") == error["request_id"]])
    assert (line["status"], line["code"], line["target"]) == (status, code, "access")
    if address == server.api:
        wait_for(lambda: metric(server, "calls_total", code=code) == counted + 1)
    return error["message"]


@pytest.mark.parametrize(("sent", "status", "code"), [
    # More than hyper parses, or what it does not parse.
    (HEAD + b"".join(b"X-%d: y\r\n" % i for i in range(101)) + b"\r\n", 431, "headers_too_large"),
    (HEAD + b"".join(b"X-%d: y\r\n" % i for i in range(2000)) + b"\r\n", 431, "headers_too_large"),
    (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri_too_long"),
    (b"GET /v1/ml/models?" + b"a" * 17_000 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 414, "uri_too_long"),
    (HEAD + b"x y: 1\r\n\r\n", 400, "malformed_request"),
    (b"GET /v1/ml/\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed_request"),
    (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "malformed_request"),
    (HEAD + b"Content-Length: -1\r\n\r\n", 400, "malformed_request"),
    (HEAD + b"Transfer-Encoding: identity\r\n\r\n", 400, "malformed_request"),
    (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 400, "malformed_request"),
    (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", 400, "malformed_request"),
    (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed_request"),
], ids=["101 fields", "2000 fields", "long path", "long query", "name", "byte", "lengths", "length", "coding", "version", "tls",
        "method"])
@pytest.mark.parametrize("port", ["api", "ops"])
def test_what_is_no_request(server, port, sent, status, code):
    message = check(server, getattr(server, port), sent, status, code)
    assert "aaa" not in message


@pytest.mark.parametrize("path", ["/", "/v2/health/live", "/embed", "/v1/embeddings", "/v1/models/x", "/api/embed", "/ping",
                                  "/v2/embed", "/hf/x", "/rerank"])
def test_operations_have_one_form(server, path):
    """A dialect's paths are those of the other port: here whatever is wrong is said in our own form."""
    check(server, server.ops, f"GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode(), 400, "invalid_request")
    check(server, server.ops, f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode(), 404, "not_found")


def test_what_is_no_request_after_one_that_is(server):
    """On a connection that is kept alive, and sent together with the one before."""
    good = HEAD.replace(b"\r\n\r\n", b"\r\n") + f"Authorization: Bearer {KEY}\r\n\r\n".encode()
    before = metric(server, "connections_closed_total", reason="malformed")
    for parts in ([good + b"G@T / HTTP/1.1\r\n\r\n"], [good, b"G@T / HTTP/1.1\r\n\r\n"]):
        with connect(server.api) as connection:
            for part in parts:
                connection.sendall(part)
                first = connection.recv(1 << 20)
                assert first.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400"))
            text = first + read_all(connection)
        status, _, rest = text.rpartition(b"HTTP/1.1 400")
        assert b'"malformed_request"' in rest and (len(parts) > 1 or status.startswith(b"HTTP/1.1 200"))
    wait_for(lambda: metric(server, "connections_closed_total", reason="malformed") == before + 2)


@pytest.mark.parametrize(("more", "status", "code"), [
    (JSON + LENGTH + b"Authorization: Bearer other\r\n", 400, "invalid_request"),
    (JSON + LENGTH + b"X-Request-Timeout: 1000\r\nX-Request-Timeout: 2000\r\n", 400, "invalid_request"),
    (JSON + JSON + LENGTH, 400, "invalid_request"),
    (b"Content-Type: application/json; charset=utf-16\r\n" + LENGTH, 415, "unsupported_media_type"),
    (b"Content-Type: application/json; charset=UTF-8\r\n" + LENGTH, 200, None),
])
def test_fields_of_two_meanings(server, more, status, code):
    sent = POST + b"Connection: close\r\n" + more + b"\r\n" + BODY
    if code:
        check(server, server.api, sent, status, code)
    else:
        assert answers(server.api, sent)[0][0] == status


@pytest.mark.parametrize("host", [b"a b", b"a/b", b"user@localhost"])
def test_hosts_that_are_none(server, host):
    sent = b"GET /v1/ml/models HTTP/1.1\r\nConnection: close\r\nHost: " + host + b"\r\n\r\n"
    check(server, server.api, sent, 400, "invalid_request")


def test_metadata_of_two_meanings(server):
    for name in "authorization", "grpc-timeout":
        peer = Http2(server.api)
        stream = peer.headers("/ml.inference.v1.InferenceService/ListModels", KEY, "application/grpc",
                              more=[(name, "1S"), (name, "2S")])
        answer = dict(peer.until(h2.events.ResponseReceived, stream).headers)
        assert answer["grpc-status"] == "3" and "grpc-status-details-bin" in answer
        peer.close()


@pytest.mark.parametrize("chunk", [b"xyz\r\n{}\r\n0\r\n\r\n", b"-1\r\n", b"fffffffffffffffff\r\n", b"2\r\n{}xx0\r\n\r\n", b"\r\n\r\n"])
@pytest.mark.parametrize("path", ["sentiment", "keys"])
def test_chunks_that_are_none(server, chunk, path):
    """What came is at fault, not that nothing came."""
    sent = POST.replace(b"sentiment", path.encode()) + JSON + b"Transfer-Encoding: chunked\r\n\r\n" + chunk
    check(server, server.api, sent, 400, "invalid_request")


def test_long_queries_that_are_allowed(server):
    answer = httpx.get(f"http://{server.api}/v1/ml/models?{'a' * 16_000}", headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 200


CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY)
LAST = b"0\r\n\r\n"


@pytest.mark.parametrize("sent", [
    POST + JSON + CHUNKED + b"\r\n" + CHUNKS + LAST,
    POST + JSON + CHUNKED + b"Trailer: X\r\n\r\n" + CHUNKS + b"0\r\nX: y\r\nAuthorization: Bearer other\r\n\r\n",
    POST + JSON + CHUNKED + b"\r\n" + b"%x;name=value\r\n" % len(BODY) + BODY + b"\r\n" + LAST,
    POST + JSON + LENGTH + b"\r\n" + BODY,
    POST.replace(b"POST /", b"POST http://localhost/") + JSON + LENGTH + b"\r\n" + BODY,
    b"\r\n" + POST + JSON + LENGTH + b"\r\n" + BODY,
    POST.replace(b"Host: localhost", b"Host: [::1]:80") + JSON + LENGTH + b"\r\n" + BODY,
    POST + JSON + LENGTH + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n" + BODY,
], ids=["chunked", "trailers", "extensions", "length", "absolute", "empty line", "IPv6", "upgrade"])
def test_forms_of_one_request(server, sent):
    """Each is answered, and so is what follows on the connection."""
    last = HEAD + f"Authorization: Bearer {KEY}\r\nConnection: close\r\n\r\n".encode()
    assert [status for status, _, _ in answers(server.api, sent * 3 + last)] == [200] * 4


@pytest.mark.parametrize("lengths", [LENGTH + CHUNKED, CHUNKED + LENGTH])
def test_two_lengths_end_the_connection(server, lengths):
    """Read as it is chunked, and nothing that follows is taken for a request (RFC 9112, section 6.1)."""
    found = answers(server.api, POST + JSON + lengths + b"\r\n" + CHUNKS + LAST + HEAD + b"\r\n")
    assert [status for status, _, _ in found] == [200]


@pytest.mark.parametrize("more, status", [
    (f"Authorization: Bearer {KEY}\r\n".encode() + JSON, None), (JSON, 401), (f"Authorization: Bearer {KEY}\r\n".encode(), 415)])
def test_bodies_are_asked_for_when_they_are_wanted(server, more, status):
    """`Expect: 100-continue`: what is refused by its head is refused before its body is sent."""
    with connect(server.api) as connection:
        connection.sendall(b"POST /v1/ml/sentiment HTTP/1.1\r\nHost: localhost\r\n" + LENGTH + more + b"Expect: 100-continue\r\n\r\n")
        first = connection.recv(1 << 16)
        if status:
            assert first.startswith(b"HTTP/1.1 %d " % status), first
            return
        assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "CONNECT", "PROPFIND"])
@pytest.mark.parametrize("port", ["api", "ops"])
def test_methods_that_no_route_takes(server, port, method):
    path = "/v1/ml/models" if port == "api" else "/metrics"
    target = "localhost:80" if method == "CONNECT" else path
    sent = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nX-Own: secret7\r\nConnection: close\r\n\r\n".encode()
    [(status, headers, body)] = answers(getattr(server, port), sent)
    error = json.loads(body)["error"]
    expected = (404, "not_found", None) if method == "CONNECT" else (405, "method_not_allowed", "GET,HEAD")
    assert (status, error["code"], headers.get("allow")) == expected and b"secret7" not in body


def test_a_server_on_ipv6(request, tmp_path):
    """Both ports, over both versions."""
    api, ops = free_ports(2)
    server = start(request, tmp_path, addresses=(f"[::1]:{api}", f"[::1]:{ops}"))
    assert post(server).status_code == 200
    with grpc.insecure_channel(server.api) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert cli(request, server, "tenants", "list")["tenants"] == []
    stop(server)


REFUSED = [(b"POST /v1/ml/sentiment", JSON, 401), (b"POST /v1/ml/sentiment", b"Authorization: Bearer %s\r\n" % KEY.encode(), 415),
           (b"POST /nowhere", JSON, 404), (b"PUT /v1/ml/sentiment", JSON, 405)]


@pytest.mark.parametrize("target, more, status", REFUSED)
def test_a_refused_body_does_not_cut_off_the_next_request(server, target, more, status):
    """One that is there is read, and the connection stays good."""
    refused = target + b" HTTP/1.1\r\nHost: localhost\r\n" + more + LENGTH + b"\r\n" + BODY
    last = HEAD + f"Authorization: Bearer {KEY}\r\nConnection: close\r\n\r\n".encode()
    found = answers(server.api, refused * 5 + last)
    assert [found_status for found_status, _, _ in found] == [status] * 5 + [200]
    assert not any("connection" in headers for _, headers, _ in found[:-1])


@pytest.mark.parametrize("length", [b"Content-Length: 5\r\n", b"Content-Length: 1000000\r\n", CHUNKED,
                                    LENGTH + b"Expect: 100-continue\r\n"])
@pytest.mark.parametrize("target, more, status", REFUSED)
def test_whoever_is_cut_off_is_told(server, target, more, status, length):
    """A body that does not come: the answer says that the connection ends with it."""
    [(found, headers, _)] = answers(server.api, target + b" HTTP/1.1\r\nHost: localhost\r\n" + more + length + b"\r\n")
    assert (found, headers["connection"]) == (status, "close")
