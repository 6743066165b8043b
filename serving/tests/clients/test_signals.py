"""Signals: what asks for an end drains, what asks for nothing ends nothing; and who shows no credentials does
not hold up the end."""

import signal
import time

import httpx
import pytest
from conftest import start, stop
from peers import INFER, KEY, Http2, bounded, connect, framed, head, metric, post, wait_for
from test_tenants import one_model

# All that would end a process and can be handled, but for those of faults of its own, and SIGKILL.
IGNORED = ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGSTKFLT", "SIGPIPE"]
ENDING = ["SIGQUIT", "SIGPWR", "SIGXCPU"]
REAL_TIME = [signal.SIGRTMIN, signal.SIGRTMIN + 3, signal.SIGRTMAX]
UNARY, HEALTH = INFER.replace("InferStream", "Embed"), "/grpc.health.v1.Health/Check"


def test_what_asks_for_nothing_ends_nothing(request, tmp_path):
    server = start(request, tmp_path, cards=one_model(tmp_path))
    for name in IGNORED:
        server.process.send_signal(getattr(signal, name))
        if name != "SIGPIPE":
            wait_for(lambda name=name: name in server.log.read_text())
    for number in REAL_TIME:
        server.process.send_signal(number)
    assert post(server, route="embeddings").status_code == 200
    stop(server)


@pytest.mark.parametrize("name", ENDING)
def test_what_asks_for_an_end_drains(request, tmp_path, name):
    """A call that is being read when the signal comes is answered."""
    server = start(request, tmp_path, cards=one_model(tmp_path))
    body = b'{"inputs": "All good."}'
    with connect(server.api) as connection:
        connection.sendall(head(body, path="/v1/ml/embeddings") + body[:5])
        wait_for(lambda: metric(server, "places_taken") == 1)
        server.process.send_signal(getattr(signal, name))
        wait_for(lambda: "shutting down" in server.log.read_text())
        connection.sendall(body[5:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert server.process.wait(timeout=60) == 0


def test_nobody_holds_up_the_end(request, tmp_path):
    """Messages of callers without credentials that never come, while bodies may take very long."""
    bounds = "[connections]\nbody_timeout_ms = 600000\nkeep_alive_timeout_ms = 600000\n[limits]\nrequest_timeout_ms = 600000\n"
    (tmp_path / "long.toml").write_text(bounds + "[shutdown]\ndrain_timeout_ms = 600000\n")
    server = start(request, tmp_path, "--config", str(tmp_path / "long.toml"), cards=one_model(tmp_path))
    peers = []
    for path, sent in (HEALTH, b""), (HEALTH, framed(b"x" * 100)[:20]), (UNARY, framed(b"x" * 100)[:20]), (INFER, b""):
        peers.append(Http2(server.api))
        peers[-1].data(peers[-1].headers(path, None, "application/grpc"), sent)
    half = connect(server.api)
    half.sendall(head(b"x" * 100, key="nobody") + b"{")
    assert httpx.get(f"http://{server.ops}/livez").status_code == 200
    wait_for(lambda: metric(server, "connections_open", port="api") >= 4)
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    # Two seconds for the message and two for a goodbye; far below the 600 that any other bound has.
    assert server.process.wait(timeout=120) == 0 and time.monotonic() - begun < 100


def test_who_is_known_has_the_bodys_time_at_the_end(request, tmp_path):
    server = bounded(request, tmp_path, more="drain_timeout_ms = 600000\n", cards=one_model(tmp_path))
    peer = Http2(server.api)
    peer.data(peer.headers(UNARY, KEY, "application/grpc"), framed(b"x" * 100)[:20])
    wait_for(lambda: metric(server, "places_taken") == 1)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=120) == 0
