"""Start and end: what is answered meanwhile, who is told what, and that nobody holds it up."""

import json
import os
import signal
import socket
import subprocess
import threading
import time

import grpc
import httpx
import pytest
from conftest import ROOT, start, stop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from peers import (
    DATA, GOAWAY, HEADERS, METADATA, TEXT, Http2, bounded, connect, head, metric, post, read_all, refused, wait_for)

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
    """While the balancer has not heard yet: not ready, new connections are still good, and every answer says
    goodbye."""
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
    idle.post(TEXT)
    # Frame by frame: a slow answer comes after the goodbye. Its first header is the eighth of HPACK's table,
    # `:status: 200`.
    assert any(kind == HEADERS and payload.startswith(b"\x88") for kind, payload in idle.frames())
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
