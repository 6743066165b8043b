"""Connections and heads, through raw sockets and the h2 package: what peers that do nothing, or too much, can
take from others."""

import json
import socket
import ssl
import subprocess
import time

import grpc
import h2.events
import httpx
import pytest
from conftest import KEY, start, stop
from peers import (  # noqa: F401
    BOUNDS, GOAWAY, METADATA, TEXT, Http2, bounded, closes_after, connect, head, metric, post, read_all, reason, refused, small,
    wait_for)

# Connections that do nothing.


@pytest.mark.parametrize("sent", [b"", b"P", b"PRI * HT", b"POST /v1", b"POST / HTTP/1.1\r\nHost: a\r\n"])
@pytest.mark.parametrize("port", ["api", "ops"])
def test_a_peer_that_sends_no_whole_head_is_closed(small, sent, port):
    with connect(getattr(small, port)) as connection:
        connection.sendall(sent)
        assert closes_after(connection)[1] >= 0.5


def test_a_head_that_trickles_is_closed(small):
    with connect(small.api) as connection:
        connection.sendall(b"GET /v1/ml/models HTTP/1.1\r\nHost: a\r\n")
        begun = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - begun < 20:
                connection.sendall(b"X")
                time.sleep(0.05)


def test_keep_alive_has_a_timeout_of_its_own(small):
    """Idle for longer than a head may take: still good. Then for too long: closed."""
    ask = head(b"").replace(b"POST", b"GET").replace(b"sentiment", b"models")
    with connect(small.api) as connection:
        connection.sendall(ask)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        with connect(small.api) as silent:
            # It came later, and its time for a head is over.
            assert read_all(silent) == b""
        connection.sendall(ask)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        data, seconds = closes_after(connection)
        assert data == b"" and seconds < 20
    # The second head is timed again.
    late = metric(small, "connections_closed_total", reason="header_timeout")
    with connect(small.api) as connection:
        connection.sendall(ask)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /v1")
        read_all(connection)
    wait_for(lambda: metric(small, "connections_closed_total", reason="header_timeout") == late + 1)


def test_an_idle_http2_connection_is_told_to_go(small):
    peer = Http2(small.api)
    [*_, (kind, payload)] = peer.frames()
    assert (kind, payload[4:8]) == (GOAWAY, b"\0\0\0\0")
    peer.close()


@pytest.mark.parametrize("frames", [
    # HEADERS without their end, with a field `:method: GET`; CONTINUATION likewise.
    b"\0\0\1\1\0\0\0\0\1\x82", b"\0\0\1\1\0\0\0\0\1\x82" + b"\0\0\1\x09\0\0\0\0\1\x86",
], ids=["headers", "continuation"])
def test_half_a_head_over_http2_is_closed(small, frames):
    with connect(small.api) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0" + frames)
        assert closes_after(connection)[1] < 20


def test_half_closed_peers_are_answered_in_time(request, tmp_path):
    config = tmp_path / "half.toml"
    # A deadline that no slow machine makes infeasible.
    config.write_text(BOUNDS.replace("request_timeout_ms = 3000", "request_timeout_ms = 600000"))
    server = start(request, tmp_path, "--config", str(config))
    body = json.dumps(TEXT).encode()
    with connect(server.api) as connection:
        connection.sendall(head(body) + body)
        connection.shutdown(socket.SHUT_WR)
        data = read_all(connection)
    assert data.startswith(b"HTTP/1.1 200") and b'"positive"' in data
    # Whoever cannot be told from one that has left is not worked for without end.
    long = json.dumps({"inputs": ["word " * 500] * 128}).encode()
    with connect(server.api) as connection:
        connection.sendall(head(long) + long)
        connection.shutdown(socket.SHUT_WR)
        wait_for(lambda: metric(server, "connections_closed_total", reason="half_closed"))
    stop(server)


def test_answers_nobody_takes_are_bounded_and_end(small):
    """A peer without a window: its answers wait for the write timeout, and its connection with them."""
    before = metric(small, "connections_closed_total", reason="write_timeout")
    peer = Http2(small.api, window=0)
    for _ in range(20):
        peer.post({"inputs": ["one", "two", "three"]}, path="/v1/ml/embeddings")
    assert peer.is_closed_within(20)
    assert metric(small, "connections_closed_total", reason="write_timeout") == before + 1
    assert metric(small, "places_taken") == 0


def test_too_many_unread_answers_refuse_more(request, tmp_path):
    config = tmp_path / "unread.toml"
    config.write_text(BOUNDS.replace("write_timeout_ms = 1500", "write_timeout_ms = 20000\nunread_answer_bytes_max = 65536"))
    server = start(request, tmp_path, "--config", str(config))
    peer = Http2(server.api, window=0)
    texts = {"inputs": [f"text {i}" for i in range(20)]}
    for _ in range(3):
        peer.post(texts, path="/v1/ml/embeddings")
    wait_for(lambda: metric(server, "calls_total", code="ok") == 3)
    stream = peer.post(texts, path="/v1/ml/embeddings")
    answer = peer.until(h2.events.ResponseReceived, stream)
    assert dict(answer.headers)[":status"] == "503"
    # Others are served.
    assert post(server).status_code == 200
    peer.close()
    stop(server)


def test_connections_are_bounded_and_operations_are_not_in_it(request, tmp_path):
    """With few descriptors: the API has what is left, operations and others always find one."""
    binary = request.config.getoption("--binary")
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f"#!/bin/bash\nulimit -n 330\nexec {binary} \"$@\"\n")
    wrapper.chmod(0o755)

    class Wrapped:
        class config:
            getoption = staticmethod(lambda name: str(wrapper) if name == "--binary" else request.config.getoption(name))

    server = start(Wrapped, tmp_path)
    silent = [connect(server.api) for _ in range(200)]
    wait_for(lambda: metric(server, "connections_open", port="api") == 330 - 128 - 128)
    # Of peers that nobody knows the last ones stay.
    wait_for(lambda: metric(server, "connections_closed_total", port="api", reason="gave_way")
             + metric(server, "connections_refused_total", port="api", reason="open_max") == 200 - 74)
    assert httpx.get(f"http://{server.ops}/livez").status_code == 200
    assert sum("too many" in line["message"] for line in server.log_lines()) == 1
    for connection in silent:
        connection.close()
    wait_for(lambda: metric(server, "connections_open", port="api") == 0)
    assert post(server).status_code == 200
    stop(server)


def test_silence_after_a_tls_handshake(request, tmp_path):
    key, certificate = tmp_path / "server.key", tmp_path / "server.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key),
                    "-out", str(certificate), "-days", "1", "-subj", "/CN=localhost"], check=True, capture_output=True)
    tls = f'[tls]\ncertificate_file = "{certificate}"\nkey_file = "{key}"\n'
    server = bounded(request, tmp_path, more=tls)
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    with connect(server.api) as connection:
        # No handshake at all.
        assert closes_after(connection)[0] == b""
    with made.wrap_socket(connect(server.api)) as connection:
        assert closes_after(connection)[0] == b""
    assert httpx.post(f"https://{server.api}/v1/ml/sentiment", json=TEXT, headers={"Authorization": f"Bearer {KEY}"},
                      verify=False).status_code == 200
    # What is no request is answered through it too.
    with made.wrap_socket(connect(server.api)) as connection:
        connection.sendall(b"G@T / HTTP/1.1\r\n\r\n")
        assert b'"malformed_request"' in read_all(connection)
    stop(server)


# Heads.


@pytest.mark.parametrize("request_head, status", [
    (b"GET /v1/ml/models HTTP/1.1\r\n\r\n", 400),
    (b"GET /v1/ml/models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"POST /v1/ml/sentiment HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST /v1/ml/sentiment HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000\r\nExpect: 100-continue\r\n\r\n", 413),
    (b"GET /v1/ml/models HTTP/1.1\r\nHost: a\r\nX-Big: " + b"x" * 40_000 + b"\r\n\r\n", 431),
    (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
])
def test_heads_that_are_refused(small, request_head, status):
    with connect(small.ops if b"metrics" in request_head else small.api) as connection:
        connection.sendall(request_head)
        data = connection.recv(65536)
    assert data.startswith(f"HTTP/1.1 {status} ".encode()) and b"100 Continue" not in data
    assert b'"code"' in data and b'"request_id":"req_' in data


def test_grpc_metadata_is_bounded_with_a_row(small, proto):
    with grpc.insecure_channel(small.api, options=[("grpc.max_metadata_size", 1 << 20)]) as channel:
        stub = proto.Stub(channel)
        message = proto.EmbedRequest(inputs=["a"])
        assert stub.Embed(message, metadata=(*METADATA, ("x-big", "x" * 20_000))).results
        error = refused(stub.Embed, message, metadata=(*METADATA, ("x-big", "x" * 60_000)))
        assert (error.code(), reason(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "headers_too_large")
