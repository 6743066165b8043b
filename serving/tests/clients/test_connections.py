"""Connections, places, streams and the end, through raw sockets, the h2 package and grpcio: what peers that do nothing, or too
much, can take from others, and what a well-behaved one is told."""

import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time

import grpc
import h2.config
import h2.connection
import h2.events
import h2.settings
import httpx
import pytest
from conftest import KEY, ROOT, scraped, start, stop
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

METADATA = (("authorization", f"Bearer {KEY}"),)
TEXT = {"inputs": "All good."}
# Small bounds, so that nothing has to be waited for.
BOUNDS = """
[connections]
header_timeout_ms = 700
keep_alive_timeout_ms = 2500
body_timeout_ms = 700
write_timeout_ms = 1500
half_close_timeout_ms = 1500
header_bytes_max = 32768
[limits]
request_timeout_ms = 3000
requests_in_flight_max = 64
[shutdown]
ship_timeout_ms = 1500
"""


def wait_for(condition, patience=30):
    end = time.monotonic() + patience
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    assert value, "waited in vain"
    return value


def metric(server, name, **labels):
    return sum(sample.value for sample in scraped(server)
               if sample.name == f"ml_inference_{name}" and labels.items() <= sample.labels.items())


def cli(request, server, command, *arguments):
    command = [request.config.getoption("--binary"), command, "--ops", server.ops, "--token", str(server.state / "operator.token"),
               *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def key_of(request, server, tenant, plan):
    cli(request, server, "tenants", "create", tenant, "--plan", plan)
    return cli(request, server, "keys", "create", tenant)["key"]


def bounded(request, folder, more="", **options):
    config = folder / "bounds.toml"
    config.write_text(BOUNDS + more)
    return start(request, folder, "--config", str(config), **options)


@pytest.fixture(scope="module")
def small(request, tmp_path_factory):
    """A server with small bounds, and keys of a free and an enterprise tenant."""
    server = bounded(request, tmp_path_factory.mktemp("small"))
    server.free = key_of(request, server, "small-free", "free")
    server.big = key_of(request, server, "big", "enterprise")
    yield server
    stop(server)


def connect(address, timeout=30):
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=timeout)


def read_all(connection):
    data = b""
    try:
        while chunk := connection.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def closes_after(connection):
    begun = time.monotonic()
    data = read_all(connection)
    return data, time.monotonic() - begun


def post(server, key=KEY, body=TEXT, route="sentiment", **options):
    return httpx.post(f"http://{server.api}/v1/ml/{route}", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=30,
                      **options)


def head(body, more="", path="/v1/ml/sentiment", key=KEY):
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{more}\r\n").encode()


# Kinds of HTTP/2 frames.
DATA, HEADERS, PING, GOAWAY = 0, 1, 6, 7


class Http2:
    """A connection that does no more than it is told, and opens no window by itself."""

    def __init__(self, address, window=65535):
        self.socket = connect(address)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.local_settings = h2.settings.Settings(initial_values={
            h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window, h2.settings.SettingCodes.ENABLE_PUSH: 0})
        self.h2.initiate_connection()
        self.send()
        self.events = []

    def send(self):
        self.socket.sendall(self.h2.data_to_send())

    def headers(self, path, key, content_type="application/json", end=False, more=()):
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", path),
                ("content-type", content_type), *more]
        head += [("authorization", f"Bearer {key}")] if key else []
        self.h2.send_headers(stream, head, end_stream=end)
        self.send()
        return stream

    def post(self, body, key=KEY, path="/v1/ml/sentiment"):
        stream = self.headers(path, key)
        self.data(stream, json.dumps(body).encode(), end=True)
        return stream

    def data(self, stream, data, end=False):
        """Sends as far as the windows reach, and waits for more."""
        while data:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if not room:
                self.receive()
                continue
            self.h2.send_data(stream, data[:room], end_stream=end and room >= len(data))
            self.send()
            data = data[room:]

    def receive(self, timeout=30):
        """Events of what comes next; none if the server has closed."""
        self.socket.settimeout(timeout)
        data = self.socket.recv(65536)
        events = self.h2.receive_data(data) if data else []
        self.events += events
        self.send()
        return data and events

    def until(self, kind, stream=None, patience=30):
        """The first event of a kind."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            for event in self.events:
                if isinstance(event, kind) and (stream is None or event.stream_id == stream):
                    return event
            if not self.receive(patience):
                break
        raise AssertionError(f"no {kind.__name__}; there were {self.events}")

    def frames(self):
        """Kind and payload of every frame to the end, one by one: the package takes nothing more after the first goodbye."""
        buffer = b""
        while chunk := self.socket.recv(65536):
            buffer += chunk
            while len(buffer) >= 9 and len(buffer) >= 9 + (length := int.from_bytes(buffer[:3], "big")):
                kind, flags, payload = buffer[3], buffer[4], buffer[9:9 + length]
                buffer = buffer[9 + length:]
                if kind == PING and not flags & 1:
                    self.socket.sendall(b"\0\0\x08\x06\x01\0\0\0\0" + payload)
                yield kind, payload

    def is_closed_within(self, seconds):
        end = time.monotonic() + seconds
        self.socket.settimeout(0.2)
        while time.monotonic() < end:
            try:
                if not self.socket.recv(65536):
                    return True
            except TimeoutError:
                pass
            except OSError:
                return True
        return False

    def close(self):
        self.socket.close()


def framed(message):
    return b"\0" + len(message).to_bytes(4, "big") + message


def reason(error):
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return None


def refused(call, *arguments, **keywords):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **keywords)
    return caught.value


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
        for _ in range(2):
            connection.sendall(ask)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(1.2)
        data, seconds = closes_after(connection)
        assert data == b"" and seconds < 20
    # The second head is timed again.
    with connect(small.api) as connection:
        connection.sendall(ask)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /v1")
        assert closes_after(connection)[1] < 2


def test_an_idle_http2_connection_is_told_to_go(small):
    peer = Http2(small.api)
    [*_, (kind, payload)] = peer.frames()
    assert (kind, payload[4:8]) == (GOAWAY, b"\0\0\0\0")
    peer.close()


def test_half_closed_peers_are_answered_in_time(small):
    body = json.dumps(TEXT).encode()
    with connect(small.api) as connection:
        connection.sendall(head(body) + body)
        connection.shutdown(socket.SHUT_WR)
        data = read_all(connection)
    assert data.startswith(b"HTTP/1.1 200") and b'"positive"' in data
    # Whoever cannot be told from one that has left is not worked for without end.
    long = json.dumps({"inputs": ["word " * 500] * 64}).encode()
    with connect(small.api) as connection:
        connection.sendall(head(long) + long)
        connection.shutdown(socket.SHUT_WR)
        wait_for(lambda: metric(small, "connections_closed_total", reason="half_closed"))


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
    wait_for(lambda: metric(server, "requests_total", code="ok") == 3)
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
    assert metric(server, "connections_refused_total", port="api", reason="open_max") == 200 - 74
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


# Messages.


def test_messages_that_cannot_be_read_have_their_row(channel, stub, proto, metadata):
    raw = channel.unary_unary("/ml.inference.v1.InferenceService/Embed")
    check = [
        (proto.EmbedRequest(inputs=["x" * 9_000_000]).SerializeToString(), "RESOURCE_EXHAUSTED", "body_too_large"),
        (b"\xff\xff\xff", "INVALID_ARGUMENT", "invalid_request"),
        (b"\x0a\x02\xff\xfe", "INVALID_ARGUMENT", "invalid_request"),
    ]
    for message, status, code in check:
        error = refused(raw, message, metadata=metadata)
        assert (error.code().name, reason(error)) == (status, code)
    # A bomb: small as it comes, too large as it is.
    bomb = proto.EmbedRequest(inputs=["x" * 9_000_000])
    for compression in grpc.Compression.Gzip, grpc.Compression.Deflate:
        error = refused(stub.Embed, bomb, metadata=metadata, compression=compression)
        assert (error.code().name, reason(error)) == ("RESOURCE_EXHAUSTED", "body_too_large")
        [result] = stub.Embed(proto.EmbedRequest(inputs=["text " * 100]), metadata=metadata, compression=compression).results
        assert result.report.tokens > 100


def test_unknown_compression_says_what_is_known(server, proto):
    peer = Http2(server.api)
    stream = peer.headers("/ml.inference.v1.InferenceService/Embed", KEY, "application/grpc", more=[("grpc-encoding", "zstd")])
    peer.data(stream, framed(b""), end=True)
    answer = dict(peer.until(h2.events.ResponseReceived, stream).headers)
    assert (answer["grpc-status"], answer["grpc-accept-encoding"]) == ("12", "identity,gzip,deflate")
    assert "grpc-status-details-bin" in answer
    peer.close()


def test_grpc_callers_are_known_before_their_messages_are_read(small):
    """Eight streams of messages that never end: refused by their heads, at once, whoever sends nothing more."""
    peer = Http2(small.api)
    for key, status in (None, "16"), ("tc_live_nobody", "16"):
        for method in "Embed", "InferStream", "ListModels", "GetModel":
            stream = peer.headers(f"/ml.inference.v1.InferenceService/{method}", key, "application/grpc")
            answer = dict(peer.until(h2.events.ResponseReceived, stream).headers)
            assert answer["grpc-status"] == status, method
    peer.close()


def test_bodies_have_a_deadline(small):
    begun = time.monotonic()
    with connect(small.api) as connection:
        connection.sendall(head(b"x" * 100) + b"{")
        assert read_all(connection).startswith(b"HTTP/1.1 408")
    peer = Http2(small.api)
    stream = peer.headers("/ml.inference.v1.InferenceService/Embed", KEY, "application/grpc")
    peer.data(stream, framed(b"x" * 100)[:20])
    answer = dict(peer.until(h2.events.ResponseReceived, stream).headers)
    assert answer["grpc-status"] == "1" and "grpc-status-details-bin" in answer
    peer.close()
    assert time.monotonic() - begun < 20
    wait_for(lambda: metric(small, "places_taken") == 0)


# Places.


def test_slow_bodies_take_only_their_tenants_places(request, tmp_path):
    """A free tenant has its plan's sixteen, an enterprise tenant half of what there is; a third is served."""
    config = BOUNDS.replace("body_timeout_ms = 700", "body_timeout_ms = 600000")
    path = tmp_path / "slow.toml"
    path.write_text(config)
    server = start(request, tmp_path, "--config", str(path))
    free, big = key_of(request, server, "free-one", "free"), key_of(request, server, "big-one", "enterprise")
    peer = Http2(server.api)

    def half_sent(key, count):
        for _ in range(count):
            peer.data(peer.headers("/v1/ml/sentiment", key), b"{")

    half_sent(free, 30)
    wait_for(lambda: metric(server, "requests_total", code="concurrency_limit_exceeded") == 14)
    assert metric(server, "places_taken") == 16
    half_sent(big, 60)
    # 64 places, 16 taken: 24 for one more tenant, 24 are free then.
    wait_for(lambda: metric(server, "requests_total", code="overloaded") == 60 - 24)
    assert post(server, free).json()["error"]["code"] == "concurrency_limit_exceeded"
    assert post(server, big).json()["error"]["code"] == "overloaded"
    assert post(server).status_code == 200
    peer.close()
    wait_for(lambda: metric(server, "places_taken") == 0)
    assert post(server, free).status_code == 200
    stop(server)


def test_bytes_of_bodies_are_bounded(request, tmp_path):
    """Of 4 MiB one tenant has half, however many calls it makes, over either protocol; others are served."""
    config = BOUNDS.replace("body_timeout_ms = 700", "body_timeout_ms = 600000").replace(
        "[limits]", "[limits]\nbody_bytes_in_flight_max = 4194304")
    path = tmp_path / "bytes.toml"
    path.write_text(config)
    server = start(request, tmp_path, "--config", str(path))
    big = key_of(request, server, "hoarder", "enterprise")
    peer = Http2(server.api)
    for _ in range(3):
        peer.data(peer.headers("/v1/ml/sentiment", big), b" " * 500_000)
    wait_for(lambda: metric(server, "body_bytes_held") == 1_500_000)
    stream = peer.headers("/ml.inference.v1.InferenceService/Embed", big, "application/grpc")
    peer.data(stream, framed(b"x" * 700_000)[:600_000])
    answer = dict(peer.until(h2.events.ResponseReceived, stream).headers)
    assert answer["grpc-status"] == "14" and "grpc-status-details-bin" in answer
    assert metric(server, "body_bytes_held") == 1_500_000
    assert post(server, body={"inputs": ["word " * 100] * 64}).status_code == 200
    peer.close()
    wait_for(lambda: metric(server, "body_bytes_held") == 0)
    stop(server)


def test_streams_that_are_not_read_hold_no_places(small, proto):
    """A peer without a window: what it asks is answered or ends at its deadline; its places are free while it is still there."""
    peer = Http2(small.api, window=0)
    message = proto.InferStreamRequest(correlation_id="x", embed=proto.EmbedRequest(inputs=["a text"])).SerializeToString()
    ok = metric(small, "requests_total", code="ok")
    for _ in range(4):
        stream = peer.headers("/ml.inference.v1.InferenceService/InferStream", small.big, "application/grpc")
        peer.data(stream, framed(message) * 20)
    wait_for(lambda: metric(small, "requests_total", code="ok") - ok == 80)
    wait_for(lambda: metric(small, "places_taken") == 0)
    assert post(small).status_code == 200
    assert peer.is_closed_within(20)
    wait_for(lambda: metric(small, "streams_open") == 0)


def test_peers_that_read_nothing_do_not_hold_up_the_end(request, tmp_path, proto):
    """Answers wait that nobody takes when the server is told to stop: it does not wait for `shutdown.drain_timeout_ms`."""
    server = start(request, tmp_path)
    peer = Http2(server.api, window=0)
    message = proto.InferStreamRequest(correlation_id="x", embed=proto.EmbedRequest(inputs=["a text"])).SerializeToString()
    stream = peer.headers("/ml.inference.v1.InferenceService/InferStream", KEY, "application/grpc")
    peer.data(stream, framed(message) * 20)
    wait_for(lambda: metric(server, "requests_total", code="ok") == 20)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=60) == 0
    assert "closed unfinished" not in server.log.read_text()


# The bulk stream.


def test_a_hundred_thousand_messages(server, proto, metadata):
    """As fast as the client can send, most of them refused cheaply, one in a hundred computed; calls beside it live."""
    count, every = 100_000, 100
    empty = proto.EmbedRequest(inputs=[""])
    computed = proto.EmbedRequest(inputs=["a short text"])

    def messages():
        for i in range(count):
            yield proto.InferStreamRequest(correlation_id=str(i), embed=empty if i % every else computed)

    with grpc.insecure_channel(server.api) as channel:
        stub = proto.Stub(channel)
        seen, kinds = bytearray(count), {}
        call = stub.InferStream(messages(), metadata=metadata)
        for n, answer in enumerate(call):
            seen[int(answer.correlation_id)] += 1
            kind = answer.WhichOneof("response")
            kinds[kind] = kinds.get(kind, 0) + 1
            if n % 20_000 == 0:
                assert stub.Embed(computed, metadata=metadata).results
        assert call.code() == grpc.StatusCode.OK
    assert seen == bytearray(b"\1") * count
    assert kinds == {"error": count - count // every, "embed": count // every}


def test_many_streams_that_wait_do_not_end_their_connection(small, proto):
    """Sixteen streams hold all that a free tenant has, each with as many small messages before it as its window takes."""
    peer = Http2(small.api)
    message = framed(proto.InferStreamRequest(correlation_id="x", embed=proto.EmbedRequest(inputs=[""])).SerializeToString())
    streams = [peer.headers("/ml.inference.v1.InferenceService/InferStream", small.free, "application/grpc") for _ in range(16)]
    # Never more than windows allow, in frames as small as messages are.
    for stream in streams:
        sent = 0
        while peer.h2.local_flow_control_window(stream) >= len(message) and sent < 5000:
            peer.h2.send_data(stream, message)
            sent += 1
        peer.send()
    # The connection still answers: a call beside them, and no GOAWAY.
    stream = peer.post(TEXT)
    assert dict(peer.until(h2.events.ResponseReceived, stream).headers)[":status"] == "200"
    assert not any(isinstance(event, h2.events.ConnectionTerminated) for event in peer.events)
    peer.close()
    wait_for(lambda: metric(small, "streams_open") == 0)


# Health, reflection, scaling.


def test_watch_of_an_unknown_service(channel):
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="nobody"))
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    assert watch.is_active()
    watch.cancel()


def test_reflection_lists_what_answers(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    [answer] = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    assert "externalscaler.ExternalScaler" not in {s.name for s in answer.list_services_response.service}


def test_names_of_metrics_as_keda_gives_them(server, scaler_proto):
    with grpc.insecure_channel(server.ops) as channel:
        stub = scaler_proto.Stub(channel)
        wait_for(lambda: httpx.get(f"http://{server.ops}/scaling").status_code == 200)
        for name in "desired_replicas", "s0-desired_replicas", "s1-external-desired_replicas":
            [value] = stub.GetMetrics(scaler_proto.GetMetricsRequest(metricName=name)).metricValues
            assert value.metricName in (name, "desired_replicas") and value.metricValueFloat >= 1


# Start and end.


def test_alive_and_not_ready_while_models_load(request, tmp_path):
    """From the first answer on, every one says one of the two; nothing hangs."""
    seen = []

    def watch(ops):
        try:
            seen.append((httpx.get(f"http://{ops}/livez", timeout=5).status_code,
                         httpx.get(f"http://{ops}/readyz", timeout=5).status_code))
        except httpx.ConnectError:
            pass

    original = httpx.get

    def get(url, **options):
        if url.endswith("/readyz") and "timeout" not in options:
            watch(url.split("/")[2])
        return original(url, **options)

    httpx.get = get
    try:
        server = start(request, tmp_path)
    finally:
        httpx.get = original
    assert (200, 503) in seen and {live for live, _ in seen} == {200}
    stop(server)


def process(request, folder, *arguments, prefix=()):
    command = [*prefix, request.config.getoption("--binary"), "serve", "--offline", "--data-dir",
               request.config.getoption("--data-dir"), "--state-dir", str(folder / "state"), "--listen", "127.0.0.1:0",
               "--ops-listen", "127.0.0.1:0", "--cards-dir", str(ROOT / "model-cards"), *arguments]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ML_INFERENCE_")}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=clean)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_models_load(request, tmp_path, number):
    running = process(request, tmp_path)
    # Its handlers are there before its first line.
    assert running.stderr.readline()
    running.send_signal(number)
    assert running.wait(timeout=10) == 0


def test_hangup_changes_nothing(request, tmp_path):
    server = start(request, tmp_path)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "SIGHUP" in server.log.read_text())
    assert post(server).status_code == 200
    stop(server)


def test_open_streams_end_with_the_server(request, tmp_path, proto, scaler_proto):
    """Watches and tools hear of the end and do not hold it up."""
    server = start(request, tmp_path)
    with grpc.insecure_channel(server.api) as channel, grpc.insecure_channel(server.ops) as operations:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        over = threading.Event()

        def asks():
            yield reflection_pb2.ServerReflectionRequest(list_services="")
            over.wait(60)

        def messages():
            yield proto.InferStreamRequest(correlation_id="x", embed=proto.EmbedRequest(inputs=["a"]))
            over.wait(60)

        reflection = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asks())
        assert next(reflection)
        bulk = proto.Stub(channel).InferStream(messages(), metadata=METADATA)
        assert next(bulk).correlation_id == "x"
        active = scaler_proto.Stub(operations).StreamIsActive(scaler_proto.ScaledObjectRef(name="a", namespace="b"))
        wait_for(lambda: httpx.get(f"http://{server.ops}/scaling").status_code == 200)
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0
        # Far below the drain's 30 s, with room for a slow machine.
        assert time.monotonic() - begun < 15
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for stream in watch, reflection, bulk:
            assert refused(lambda stream=stream: list(stream)).code() == grpc.StatusCode.UNAVAILABLE
        try:
            list(active)
        except grpc.RpcError:
            pass
        over.set()


def test_a_second_signal_ends_at_once(request, tmp_path):
    """One body never comes; the second signal does not wait for it."""
    config = tmp_path / "long.toml"
    config.write_text("[connections]\nbody_timeout_ms = 600000\n[shutdown]\ndrain_timeout_ms = 600000\n[limits]\nrequest_timeout_ms = 600000")
    server = start(request, tmp_path, "--config", str(config))
    with connect(server.api) as connection:
        connection.sendall(head(b"x" * 100) + b"{")
        wait_for(lambda: metric(server, "places_taken") == 1)
        server.process.send_signal(signal.SIGINT)
        wait_for(lambda: "shutting down" in server.log.read_text())
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=10) == 1


def test_a_sink_that_hangs_does_not_delay_the_end(request, tmp_path):
    with socket.create_server(("127.0.0.1", 0), backlog=16) as hanging:
        secret = tmp_path / "secret"
        secret.write_text("whsec_" + "A" * 40)
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}/"
        sink = f'[usage.sinks]\nslow = {{ webhook = {{ url = "{url}", secret_file = "{secret}", timeout_ms = 60000 }} }}\n'
        server = bounded(request, tmp_path, more=sink)
        assert post(server).status_code == 200
        hanging.accept()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=20) == 0


def test_callers_are_told_before_sockets_close(request, tmp_path):
    """While the balancer has not heard yet: not ready, new connections are still good, and every answer says goodbye."""
    server = bounded(request, tmp_path, more="not_ready_wait_ms = 600000\n")
    idle = Http2(server.api)
    with connect(server.api) as kept:
        body = json.dumps(TEXT).encode()
        kept.sendall(head(body) + body)
        assert b"connection: close" not in kept.recv(65536).lower()
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(f"http://{server.ops}/readyz").status_code == 503)
        kept.sendall(head(body) + body)
        answer = read_all(kept)
        assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer.lower()
    answer = post(server)
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    stream = idle.post(TEXT)
    assert dict(idle.until(h2.events.ResponseReceived, stream).headers)[":status"] == "200"
    server.process.kill()
    server.process.wait()
    idle.close()


def test_http2_peers_are_told_before_sockets_close(request, tmp_path):
    server = start(request, tmp_path)
    peer = Http2(server.api)
    stream = peer.post({"inputs": ["word " * 400] * 16})
    wait_for(lambda: metric(server, "places_taken") == 1)
    server.process.send_signal(signal.SIGTERM)
    frames = list(peer.frames())
    kinds = [kind for kind, _ in frames]
    assert kinds.index(GOAWAY) < kinds.index(HEADERS) < kinds.index(DATA), kinds
    assert {payload[4:8] for kind, payload in frames if kind == GOAWAY} == {b"\0\0\0\0"}
    assert stream == 1 and server.process.wait(timeout=60) == 0
    peer.close()
