"""Messages and bodies on their way in, the places of calls, and the bulk stream: what one caller can hold,
and who is served beside."""

import time
import signal

import grpc
import h2.events
import httpx
from conftest import KEY, start, stop
from peers import (  # noqa: F401
    BOUNDS, TEXT, Http2, cli, connect, framed, head, key_of, metric, post, read_all, reason, refused, small, wait_for)

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
    wait_for(lambda: metric(server, "calls_total", code="concurrency_limit_exceeded") == 14)
    assert metric(server, "places_taken") == 16
    half_sent(big, 60)
    # 64 places, 16 taken: 24 for one more tenant, 24 are free then.
    wait_for(lambda: metric(server, "calls_total", code="overloaded") == 60 - 24)
    assert post(server, free).json()["error"]["code"] == "concurrency_limit_exceeded"
    assert post(server, big).json()["error"]["code"] == "overloaded"
    assert post(server).status_code == 200
    peer.close()
    wait_for(lambda: metric(server, "places_taken") == 0)
    assert post(server, free).status_code == 200
    stop(server)


def hoarded(request, tmp_path):
    """A server with room for 4 MiB of bodies, a tenant's key, and a peer that holds 1,500,000 bytes of them
    in its name."""
    config = BOUNDS.replace("body_timeout_ms = 700", "body_timeout_ms = 600000").replace(
        "request_timeout_ms = 3000", "request_timeout_ms = 600000").replace(
        "[limits]", "[limits]\nbody_bytes_in_flight_max = 4194304")
    path = tmp_path / "bytes.toml"
    path.write_text(config)
    server = start(request, tmp_path, "--config", str(path))
    big = key_of(request, server, "hoarder", "enterprise")
    peer = Http2(server.api)
    for _ in range(3):
        peer.data(peer.headers("/v1/ml/sentiment", big), b" " * 500_000)
    wait_for(lambda: metric(server, "body_bytes_held") == 1_500_000)
    return server, big, peer


def test_bytes_of_bodies_are_bounded(request, tmp_path):
    """Of 4 MiB one tenant has half, however many calls it makes, over either protocol; others are served."""
    server, big, peer = hoarded(request, tmp_path)
    stream = peer.headers("/ml.inference.v1.InferenceService/Embed", big, "application/grpc")
    peer.data(stream, framed(b"x" * 700_000)[:600_000])
    answer = dict(peer.until(h2.events.ResponseReceived, stream).headers)
    assert answer["grpc-status"] == "14" and "grpc-status-details-bin" in answer
    assert metric(server, "body_bytes_held") == 1_500_000
    assert post(server, body={"inputs": ["word " * 100] * 64}).status_code == 200
    peer.close()
    wait_for(lambda: metric(server, "body_bytes_held") == 0)
    stop(server)


def test_compressed_messages_are_charged_for_what_they_become(request, tmp_path, proto):
    """A call of few bytes that become many has no more room than one that came as it is."""
    server, big, peer = hoarded(request, tmp_path)
    with grpc.insecure_channel(server.api) as channel:
        stub, metadata = proto.Stub(channel), [("authorization", f"Bearer {big}")]
        # 2,097,152 for it in all, of which 597,152 are left.
        for compression in grpc.Compression.Gzip, grpc.Compression.Deflate:
            error = refused(stub.Embed, proto.EmbedRequest(inputs=["x" * 700_000]), metadata=metadata, compression=compression)
            assert (error.code().name, reason(error)) == ("UNAVAILABLE", "overloaded")
            assert stub.Embed(proto.EmbedRequest(inputs=["x" * 500_000]), metadata=metadata, compression=compression).results
    assert metric(server, "body_bytes_held") == 1_500_000
    peer.close()
    wait_for(lambda: metric(server, "body_bytes_held") == 0)
    stop(server)


def test_changes_of_keys_take_a_place(request, tmp_path):
    """Half bodies for keys take the places of their tenant, as calls do, and nobody else's; each gives its
    own back."""
    path = tmp_path / "keys.toml"
    path.write_text(BOUNDS.replace("body_timeout_ms = 700", "body_timeout_ms = 600000"))
    server = start(request, tmp_path, "--config", str(path))
    cli(request, server, "tenants", "create", "acme", "--plan", "free")
    owner = cli(request, server, "keys", "create", "acme", "--role", "owner")["key"]
    peer = Http2(server.api)
    paths = ["/v1/ml/keys", "/v1/ml/keys/key_1/rotate"]
    for number in range(16):
        peer.data(peer.headers(paths[number % 2], owner), b"{")
    wait_for(lambda: metric(server, "places_taken") == 16)
    assert metric(server, "body_bytes_held") == 16
    for route in "keys", "keys/key_1/rotate", "sentiment":
        answer = post(server, owner, {}, route)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "concurrency_limit_exceeded"), route
    # What has no body to read needs no place.
    assert httpx.get(f"http://{server.api}/v1/ml/keys", headers={"Authorization": f"Bearer {owner}"}).status_code == 200
    assert post(server).status_code == 200
    peer.close()
    wait_for(lambda: metric(server, "places_taken") == 0)
    assert post(server, owner, {"label": "second"}, "keys").status_code == 201
    assert metric(server, "places_taken") == 0 and metric(server, "body_bytes_held") == 0
    stop(server)


def test_streams_that_are_not_read_hold_no_places(small, proto):
    """A peer without a window: what it asks is answered or ends at its deadline; its places are free while it
    is still there."""
    peer = Http2(small.api, window=0)
    message = proto.InferStreamRequest(correlation_id="x", embed=proto.EmbedRequest(inputs=["a text"])).SerializeToString()
    ok = metric(small, "calls_total", code="ok")
    for _ in range(4):
        stream = peer.headers("/ml.inference.v1.InferenceService/InferStream", small.big, "application/grpc")
        peer.data(stream, framed(message) * 20)
    wait_for(lambda: metric(small, "calls_total", code="ok") - ok == 80)
    wait_for(lambda: metric(small, "places_taken") == 0)
    assert post(small).status_code == 200
    assert peer.is_closed_within(20)
    wait_for(lambda: metric(small, "streams_open") == 0)


def test_peers_that_read_nothing_do_not_hold_up_the_end(request, tmp_path, proto):
    """Answers wait that nobody takes when the server is told to stop: it does not wait for
    `shutdown.drain_timeout_ms`."""
    server = start(request, tmp_path)
    peer = Http2(server.api, window=0)
    message = proto.InferStreamRequest(correlation_id="x", embed=proto.EmbedRequest(inputs=["a text"])).SerializeToString()
    stream = peer.headers("/ml.inference.v1.InferenceService/InferStream", KEY, "application/grpc")
    peer.data(stream, framed(message) * 20)
    wait_for(lambda: metric(server, "calls_total", code="ok") == 20)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=60) == 0
    assert "closed unfinished" not in server.log.read_text()


# The bulk stream.


def test_a_hundred_thousand_messages(server, proto, metadata):
    """As fast as the client can send, most of them refused cheaply, one in a hundred computed; calls beside
    it live."""
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
    """Sixteen streams hold all that a free tenant has, each with as many small messages before it as its
    window takes."""
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
