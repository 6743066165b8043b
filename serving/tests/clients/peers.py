"""Peers of a server as tests need them: raw sockets and the h2 package, which do no more than they are told,
and what they share."""

import base64
import json
import socket
import subprocess
import time

import grpc
import h2.config
import h2.connection
import h2.events
import h2.settings
import httpx
import pytest
from conftest import KEY, scraped, start, stop
from google.rpc import error_details_pb2, status_pb2
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
calls_in_flight_max = 64
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


INFER = "/ml.inference.v1.InferenceService/InferStream"
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
        """Kind and payload of every frame to the end, one by one: the package takes nothing more after the
        first goodbye."""
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


def ending(peer, stream):
    """The gRPC status that ends a stream, and the reason of its details."""
    peer.until(h2.events.StreamEnded, stream)
    fields = {}
    for event in peer.events:
        if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)) and event.stream_id == stream:
            fields |= dict(event.headers)
    encoded = fields.get("grpc-status-details-bin", "")
    status = status_pb2.Status.FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
    infos = [error_details_pb2.ErrorInfo.FromString(detail.value) for detail in status.details
             if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    return fields["grpc-status"], infos[0].reason if infos else None


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
