"""Whose connections and waiting answers are: what one tenant holds, or peers without credentials, takes
nothing from others."""

import json

import grpc
import h2.events
import httpx
import pytest
from conftest import KEY, start, stop
from peers import METADATA, Http2, connect, framed, head, key_of, metric, post, read_all, reason, refused, wait_for

# Nothing ends by itself.
PATIENT = """
[connections]
header_timeout_ms = 600000
keep_alive_timeout_ms = 600000
body_timeout_ms = 600000
write_timeout_ms = 600000
open_max = 16
operations_open_max = 8
unread_answer_bytes_total_max = 262144
unread_answer_bytes_anonymous_max = 1048576
[limits]
request_timeout_ms = 600000
[shutdown]
drain_timeout_ms = 1000
"""
INFER = "/ml.inference.v1.InferenceService/InferStream"
SCALER = "/externalscaler.ExternalScaler"
# About 90 kB each as JSON, of 256 KiB of which a lone tenant has half.
LARGE = {"inputs": [f"text {i}" for i in range(20)]}


@pytest.fixture(scope="module")
def patient(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("patient")
    (folder / "patient.toml").write_text(PATIENT)
    server = start(request, folder, "--config", str(folder / "patient.toml"))
    server.free, server.hog = (key_of(request, server, name, plan) for name, plan in (("one", "free"), ("hog", "enterprise")))
    yield server
    stop(server)


def get(path):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()


# Answers that wait.


def unread(server, port="api"):
    return metric(server, "unread_answer_bytes", port=port)


def replayed(server, peer, key, count):
    """Asks for a kept answer so many times on a connection that reads none of them; the status of each."""
    streams = []
    for _ in range(count):
        stream = peer.headers("/v1/ml/embeddings", key, more=[("idempotency-key", "kept")])
        peer.data(stream, json.dumps(LARGE).encode(), end=True)
        streams.append(dict(peer.until(h2.events.ResponseReceived, stream).headers)[":status"])
    return streams


def test_a_tenant_that_does_not_read_is_refused_and_nobody_else(patient, proto):
    first = httpx.post(f"http://{patient.api}/v1/ml/embeddings", content=json.dumps(LARGE), timeout=60, headers={
        "Authorization": f"Bearer {patient.hog}", "Content-Type": "application/json", "Idempotency-Key": "kept"})
    assert first.status_code == 200
    peers = [Http2(patient.api, window=0) for _ in range(3)]
    statuses = [status for peer in peers for status in replayed(patient, peer, patient.hog, 4)]
    # As many as are within half of what is free, and the one that is over it; of what others have none.
    assert statuses.count("200") in (2, 3) and set(statuses[3:]) == {"429"}, statuses
    answer = post(patient, patient.hog)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "answers_unread")
    assert answer.headers["retry-after"] == "1"
    with grpc.insecure_channel(patient.api) as channel:
        stub = proto.Stub(channel)
        error = refused(stub.Embed, proto.EmbedRequest(inputs=["a"]), metadata=[("authorization", f"Bearer {patient.hog}")])
        assert (error.code().name, reason(error)) == ("RESOURCE_EXHAUSTED", "answers_unread")
        assert stub.Embed(proto.EmbedRequest(inputs=["a"]), metadata=METADATA).results
    assert [post(patient, key).status_code for key in (patient.free, KEY)] == [200, 200]
    for peer in peers:
        peer.close()
    wait_for(lambda: unread(patient) == 0)
    assert post(patient, patient.hog).status_code == 200


def test_answers_of_streams_count_as_well(patient, proto):
    peer = Http2(patient.api, window=0)
    message = proto.InferStreamRequest(correlation_id="x", embed=proto.EmbedRequest(inputs=LARGE["inputs"] * 4))
    stream = peer.headers(INFER, patient.hog, "application/grpc")
    peer.data(stream, framed(message.SerializeToString()) * 2)
    wait_for(lambda: unread(patient) > 200_000)
    wait_for(lambda: post(patient, patient.hog).status_code == 429)
    assert post(patient).status_code == 200
    peer.close()
    wait_for(lambda: unread(patient) == 0)
    assert post(patient, patient.hog).status_code == 200


def test_answers_nobody_is_known_for_have_room_of_their_own(patient):
    """On the operations port too: who leaves most unread goes, and whoever reads is answered."""
    before = metric(patient, "connections_closed_total", port="operations", reason="unread_answers")
    peer = Http2(patient.ops, window=0)
    with pytest.raises((OSError, AssertionError)):
        for _ in range(200):
            stream = peer.h2.get_next_available_stream_id()
            peer.h2.send_headers(stream, [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"),
                                          (":path", "/metrics")], end_stream=True)
            peer.send()
            peer.until(h2.events.ResponseReceived, stream)
    wait_for(lambda: metric(patient, "connections_closed_total", port="operations", reason="unread_answers") == before + 1)
    wait_for(lambda: unread(patient, "operations") < 1_000_000)
    assert post(patient).status_code == 200
    peer.close()


# Seats.


def silent(server, port):
    return connect(getattr(server, port))


def half_a_head(server, port):
    peer = connect(getattr(server, port))
    peer.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\n")
    return peer


def call(path, message=None, key=None):
    def opened(server, port):
        peer = Http2(getattr(server, port))
        stream = peer.headers(path, getattr(server, key) if key else None, "application/grpc")
        if message is not None:
            peer.data(stream, framed(message))
        return peer
    return opened


def reads_nothing(server, port):
    peer = connect(getattr(server, port))
    peer.sendall(get("/livez"))
    return peer


HOLDERS = {
    "silent": silent,
    "half a head": half_a_head,
    "health without a message": call("/grpc.health.v1.Health/Check"),
    "watch": call("/grpc.health.v1.Health/Watch", b""),
    "reflection": call("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
    "a stream of a free tenant": call(INFER, key="free"),
    "kept alive": reads_nothing,
}
OPS_HOLDERS = {
    "silent": silent,
    "half a head": half_a_head,
    "a scaler's call without a message": call(f"{SCALER}/IsActive"),
    "a scaler's stream": call(f"{SCALER}/StreamIsActive", b""),
    "kept alive": reads_nothing,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_callers_find_a_seat(patient, holder):
    """Whoever takes all seats, and as many again."""
    held = [HOLDERS[holder](patient, "api") for _ in range(32)]
    wait_for(lambda: metric(patient, "connections_open", port="api") == 16)
    assert [post(patient).status_code for _ in range(3)] == [200] * 3
    # Also while more of them come.
    for _ in range(5):
        held.append(HOLDERS[holder](patient, "api"))
        assert post(patient).status_code == 200
    assert metric(patient, "connections_open", port="api") <= 16
    for peer in held:
        peer.close()
    wait_for(lambda: metric(patient, "connections_open", port="api") == 0)


@pytest.mark.parametrize("holder", OPS_HOLDERS)
def test_probes_find_a_seat(patient, holder):
    held = []
    for _ in range(24):
        held.append(OPS_HOLDERS[holder](patient, "ops"))
        assert httpx.get(f"http://{patient.ops}/livez", timeout=30).text == "ok\n"
    assert httpx.get(f"http://{patient.ops}/readyz", timeout=30).status_code == 200
    for peer in held:
        peer.close()


def test_who_is_known_keeps_the_seat(patient):
    """A caller with a key, idle between two calls, while all other seats are taken again and again."""
    with connect(patient.api) as known:
        known.sendall(get("/v1/ml/models"))
        assert known.recv(1 << 20).startswith(b"HTTP/1.1 200")
        held = [silent(patient, "api") for _ in range(50)]
        wait_for(lambda: metric(patient, "connections_open", port="api") == 16)
        known.sendall(get("/v1/ml/models"))
        assert known.recv(1 << 20).startswith(b"HTTP/1.1 200")
        # Of the others those that came last are still there.
        held[-1].sendall(get("/v1/ml/models"))
        assert held[-1].recv(1 << 20).startswith(b"HTTP/1.1 200")
        assert read_all(held[0]) == b""
        for peer in held:
            peer.close()


def test_calls_at_work_are_not_closed_for_newcomers(patient):
    """A call of somebody known is answered, whoever comes meanwhile."""
    body = json.dumps({"inputs": ["word " * 200] * 32}).encode()
    with connect(patient.api, timeout=120) as working:
        working.sendall(head(body) + body)
        wait_for(lambda: metric(patient, "places_taken") == 1)
        held = [silent(patient, "api") for _ in range(40)]
        assert working.recv(12) == b"HTTP/1.1 200"
        for peer in held:
            peer.close()
