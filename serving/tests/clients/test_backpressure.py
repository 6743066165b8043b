"""Streams that were admitted: what there is no room for is not read, and nothing of it is refused; deadlines
pass meanwhile."""

import gzip
import signal

import h2.events
import pytest
from conftest import start, stop
from peers import (
    BOUNDS, HEADERS, INFER, Http2, ending, framed, key_of, metric, post, wait_for)

MESSAGE = 1 << 20
# Room for two messages of a tenant that is alone: of 4 MiB it may hold as much as it leaves.
BODIES = "body_bytes_in_flight_max = 4194304\nbody_bytes_max = 1100000\n"
# Of the answers of a tenant that is alone 128 KiB may wait.
UNREAD = "unread_answer_bytes_total_max = 262144\n"
PATIENT = (BOUNDS.replace("body_timeout_ms = 700", "body_timeout_ms = 600000" + "\n" + UNREAD)
           .replace("write_timeout_ms = 1500", "write_timeout_ms = 600000").replace("[limits]", "[limits]\n" + BODIES)
           .replace("request_timeout_ms = 3000", "request_timeout_ms = 600000"))


@pytest.fixture(scope="module")
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("held")
    (folder / "held.toml").write_text(PATIENT)
    server = start(request, folder, "--config", str(folder / "held.toml"))
    server.hog = key_of(request, server, "hog", "enterprise")
    yield server
    stop(server)


def large(proto, name, length=MESSAGE):
    """A message of so many bytes: one long word."""
    text = length - 64
    while True:
        message = proto.InferStreamRequest(correlation_id=name, embed=proto.EmbedRequest(inputs=["x" * text]))
        if not (missing := length - message.ByteSize()):
            return message.SerializeToString()
        text += missing


def small(proto, name, text="a text"):
    return framed(proto.InferStreamRequest(correlation_id=name, embed=proto.EmbedRequest(inputs=[text])).SerializeToString())


def answers(peer, proto):
    """Correlation ids of all answers so far, with what each is."""
    found = {}
    for stream in {event.stream_id for event in peer.events if isinstance(event, h2.events.DataReceived)}:
        data = b"".join(event.data for event in peer.events
                        if isinstance(event, h2.events.DataReceived) and event.stream_id == stream)
        while len(data) >= 5 and len(data) >= 5 + (length := int.from_bytes(data[1:5], "big")):
            answer = proto.InferStreamResponse.FromString(data[5:5 + length])
            found[answer.correlation_id] = answer.error.code or answer.WhichOneof("response")
            data = data[5 + length:]
    return found


def answered(peer, proto, count):
    """The answers, once there are so many."""
    peer.socket.settimeout(30)
    while len(found := answers(peer, proto)) < count:
        data = peer.socket.recv(65536)
        assert data, "the server has closed"
        peer.events += peer.h2.receive_data(data)
        peer.send()
    return found


def send_all(peer, left):
    """Sends what is left for each stream as far as the windows reach, all at once, until all is sent."""
    while any(left.values()):
        sent = False
        for stream, data in left.items():
            if room := min(peer.h2.local_flow_control_window(stream), peer.h2.max_outbound_frame_size, len(data)):
                peer.h2.send_data(stream, data[:room])
                left[stream], sent = data[room:], True
        peer.send()
        if not sent:
            assert peer.receive(), "the server has closed"


def test_messages_wait_for_room(server, proto):
    """Twelve large messages at once, of which two have room: the others are not read before there is some for
    them."""
    peer = Http2(server.api)
    streams = [peer.headers(INFER, server.hog, "application/grpc") for _ in range(12)]
    left = {stream: framed(large(proto, str(stream))) for stream in streams}
    for stream in streams:
        peer.data(stream, left[stream][:16_000])
        left[stream] = left[stream][16_000:]
    wait_for(lambda: metric(server, "body_bytes_held") == 2 * MESSAGE)
    # Others have room, and small messages of the same tenant wait for their turn only.
    assert post(server, body={"inputs": ["word " * 100] * 8}).status_code == 200
    send_all(peer, left)
    expected = {str(stream): "embed" for stream in streams}
    assert answered(peer, proto, 12) == expected
    # All of them are still open, and good.
    for stream in streams:
        peer.data(stream, small(proto, f"{stream} again"))
    assert answered(peer, proto, 24) == expected | {f"{stream} again": "embed" for stream in streams}
    assert metric(server, "body_bytes_held") == 0
    assert metric(server, "calls_total", code="overloaded") == 0
    peer.close()


def test_compressed_messages_wait_for_what_they_become(server, proto):
    """Of few bytes as they come: room is taken for as many as they may become."""
    peer = Http2(server.api)
    streams = [peer.headers(INFER, server.hog, "application/grpc", more=[("grpc-encoding", "gzip")]) for _ in range(4)]
    left = {}
    for stream in streams:
        message = gzip.compress(large(proto, str(stream)))
        assert len(message) < 10_000
        whole = b"\1" + framed(message)[1:]
        peer.data(stream, whole[:-1])
        left[stream] = whole[-1:]
    # A byte of gzip becomes 1032 at most, and a message what it may have at most; of so many one has room.
    assert 2 * 1032 * len(message) > 4194304 / 2
    wait_for(lambda: metric(server, "body_bytes_held") == min(1032 * len(message), 1_100_000))
    send_all(peer, left)
    expected = {str(stream): "embed" for stream in streams}
    assert answered(peer, proto, 4) == expected
    peer.close()
    # A bomb ends its stream.
    peer = Http2(server.api)
    stream = peer.headers(INFER, server.hog, "application/grpc", more=[("grpc-encoding", "gzip")])
    peer.data(stream, b"\1" + framed(gzip.compress(large(proto, "bomb", 64 << 20)))[1:])
    assert ending(peer, stream) == ("8", "body_too_large")
    peer.close()
    wait_for(lambda: metric(server, "body_bytes_held") == 0)


def fill(server, proto):
    """Leaves more unread than the tenant may have."""
    peer = Http2(server.api, window=0)
    stream = peer.headers(INFER, server.hog, "application/grpc")
    message = proto.InferStreamRequest(correlation_id="x", embed=proto.EmbedRequest(inputs=[f"text {i}" for i in range(100)]))
    peer.data(stream, framed(message.SerializeToString()))
    wait_for(lambda: metric(server, "unread_answer_bytes", port="api") > 131_072)
    assert post(server, server.hog).json()["error"]["code"] == "answers_unread"
    return peer


def test_streams_wait_for_unread_answers_to_be_read(server, proto):
    """What an open stream sends while its tenant has too much unread elsewhere is answered afterwards, and
    never refused."""
    before = metric(server, "calls_total", code="answers_unread")
    reads = Http2(server.api)
    streams = [reads.headers(INFER, server.hog, "application/grpc") for _ in range(3)]
    for stream in streams:
        reads.data(stream, small(proto, f"{stream} first"))
    answered(reads, proto, 3)
    unread = fill(server, proto)
    for number in range(5):
        for stream in streams:
            reads.data(stream, small(proto, f"{stream} {number}"))
    # Whoever reads is served, whatever one tenant leaves.
    assert post(server).status_code == 200
    counted = metric(server, "calls_total", code="answers_unread")
    unread.close()
    assert set(answered(reads, proto, 18).values()) == {"embed"}
    assert counted == before + 1, "the one that was no message of a stream"
    assert metric(server, "calls_total", code="answers_unread") == counted
    reads.close()


def test_deadlines_of_streams_pass_while_they_wait(server, proto):
    """Read by nobody, or waiting for room: the deadline of the whole stream ends it."""
    first = Http2(server.api)
    stream = first.headers(INFER, server.hog, "application/grpc", more=[("grpc-timeout", "5S")])
    idle = first.headers(INFER, server.hog, "application/grpc", more=[("grpc-timeout", "100m")])
    assert ending(first, idle) == ("4", "deadline_exceeded")
    unread = fill(server, proto)
    first.data(stream, small(proto, "late"))
    assert ending(first, stream) == ("4", "deadline_exceeded")
    assert answers(first, proto) == {}
    # And one that is none is told so.
    bad = first.headers(INFER, server.hog, "application/grpc", more=[("grpc-timeout", "soon")])
    assert ending(first, bad) == ("3", "invalid_request")
    unread.close()
    first.close()


def test_messages_that_do_not_end_give_their_room_back(request, tmp_path, proto):
    """A message that has begun has a deadline, as a body has; a stream that sends nothing has none."""
    (tmp_path / "short.toml").write_text(PATIENT.replace("body_timeout_ms = 600000", "body_timeout_ms = 4000"))
    server = start(request, tmp_path, "--config", str(tmp_path / "short.toml"))
    server.hog = key_of(request, server, "hog", "enterprise")
    peer = Http2(server.api)
    idle, *halves, last = [peer.headers(INFER, key, "application/grpc") for key in [server.hog] * 4]
    for stream in halves:
        peer.data(stream, framed(large(proto, str(stream)))[:16_000])
    send_all(peer, {last: framed(large(proto, "last"))})
    for stream in halves:
        assert ending(peer, stream) == ("1", "body_incomplete")
    answered(peer, proto, 1)
    peer.data(idle, small(proto, "idle"))
    assert answered(peer, proto, 2) == {"last": "embed", "idle": "embed"}
    peer.close()
    wait_for(lambda: metric(server, "body_bytes_held") == 0)
    stop(server)


def test_streams_that_wait_do_not_hold_up_the_end(request, tmp_path, proto):
    """Of three messages two have begun and one waits for room: all streams hear of the end, and the server
    does not wait for them."""
    (tmp_path / "held.toml").write_text(PATIENT)
    server = start(request, tmp_path, "--config", str(tmp_path / "held.toml"))
    hog = key_of(request, server, "hog", "enterprise")
    peer = Http2(server.api)
    streams = [peer.headers(INFER, hog, "application/grpc") for _ in range(3)]
    for stream in streams:
        peer.data(stream, framed(large(proto, str(stream)))[:16_000])
    wait_for(lambda: metric(server, "body_bytes_held") == 2 * MESSAGE)
    server.process.send_signal(signal.SIGTERM)
    # Frame by frame: the package takes nothing more after the first goodbye. The statuses are in the last
    # ones.
    assert sum(kind == HEADERS for kind, _ in peer.frames()) >= 3
    peer.close()
    assert server.process.wait(timeout=60) == 0
    ends = [line["code"] for line in server.log_lines() if line.get("route") == INFER]
    assert ends == ["shutting_down"] * 3


def test_who_leaves_gives_room_to_the_next(server, proto):
    """Peers that leave in the middle of what they hold, and in the queue for it."""
    gone = [Http2(server.api) for _ in range(4)]
    for number, peer in enumerate(gone):
        peer.data(peer.headers(INFER, server.hog, "application/grpc"), framed(large(proto, str(number)))[:16_000])
    wait_for(lambda: metric(server, "body_bytes_held") == 2 * MESSAGE)
    peer = Http2(server.api)
    stream = peer.headers(INFER, server.hog, "application/grpc")
    for left in reversed(gone):
        left.close()
    send_all(peer, {stream: framed(large(proto, "next"))})
    assert answered(peer, proto, 1) == {"next": "embed"}
    peer.close()
    wait_for(lambda: metric(server, "body_bytes_held") == 0)
    assert metric(server, "streams_open") == 0
