"""What peers may hold while they do nothing, whatever they asked for; and the end, for peers that are frozen
or that never stop."""

import signal
import threading

import grpc
import h2.events
import httpx
import pytest
from conftest import KEY
from peers import (  # noqa: F401
    GOAWAY, METADATA, TEXT, Http2, bounded, connect, post, read_all, small, wait_for)

HEALTH, REFLECTION = "/grpc.health.v1.Health", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


@pytest.mark.parametrize(("port", "path"), [
    ("api", f"{HEALTH}/Check"), ("api", f"{HEALTH}/Watch"), ("api", REFLECTION),
    ("ops", "/externalscaler.ExternalScaler/IsActive"), ("ops", "/externalscaler.ExternalScaler/StreamIsActive"),
])
def test_messages_that_never_come_are_not_waited_for(small, port, path):  # noqa: F811
    """Without credentials; an open call keeps a connection from being idle."""
    peer = Http2(getattr(small, port))
    stream = peer.headers(path, None, "application/grpc")
    peer.until(h2.events.StreamEnded, stream)
    peer.close()


@pytest.mark.parametrize(("port", "path"), [("api", "/v1/ml/keys"), ("ops", "/admin/v1/tenants")])
def test_half_bodies_are_not_waited_for(small, port, path):  # noqa: F811
    token = KEY if port == "api" else (small.state / "operator.token").read_text().strip()
    with connect(getattr(small, port)) as peer:
        peer.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
                     "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode())
        assert read_all(peer).startswith(b"HTTP/1.1 4")


def test_a_frozen_peer_does_not_hold_up_the_end(request, tmp_path):
    """It was answered, and answers nothing itself: no ping, no goodbye."""
    server = bounded(request, tmp_path, more="drain_timeout_ms = 600000\n")
    peer = Http2(server.api)
    peer.until(h2.events.StreamEnded, peer.post(TEXT))
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=120) == 0
    peer.close()


def test_who_calls_all_the_time_sees_no_failure_before_sockets_close(request, tmp_path, proto):
    server = bounded(request, tmp_path, more="not_ready_wait_ms = 600000\n")
    peer = Http2(server.api)
    peer.until(h2.events.StreamEnded, peer.post(TEXT))
    with grpc.insecure_channel(server.api) as channel:
        call = channel.unary_unary("/ml.inference.v1.InferenceService/AnalyzeSentiment",
                                   request_serializer=proto.AnalyzeSentimentRequest.SerializeToString,
                                   response_deserializer=proto.AnalyzeSentimentResponse.FromString)
        failures, counts, done = [], [0], threading.Event()

        def ask():
            while not done.is_set():
                try:
                    call(proto.AnalyzeSentimentRequest(inputs=["All good."]), metadata=METADATA, timeout=60)
                    counts[0] += 1
                except grpc.RpcError as error:
                    failures.append(error)
                    return

        thread = threading.Thread(target=ask)
        thread.start()
        wait_for(lambda: counts[0] >= 5 or failures)
        server.process.send_signal(signal.SIGTERM)
        assert any(kind == GOAWAY for kind, _ in peer.frames())
        told_at = counts[0]
        wait_for(lambda: counts[0] >= told_at + 30 or failures)
        done.set()
        thread.join()
    assert not failures, failures[0]
    assert post(server).status_code == 200, "and new connections are still taken"
    server.process.kill()
    server.process.wait()
    peer.close()


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/healthz", "/scaling"])
def test_methods_that_operations_do_not_have(small, path):  # noqa: F811
    answer = httpx.put(f"http://{small.ops}{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET,HEAD"
