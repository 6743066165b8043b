"""What tests of identity and secrets share."""

import socket

import h2.config
import h2.connection
import h2.events
from conftest import start
from test_tenants import one_model


def started(request, folder, config="", *arguments, **options):
    """A server of one model with a configuration."""
    (folder / "server.toml").write_text(config)
    cards = options.pop("cards", None) or one_model(folder)
    return start(request, folder, "--config", str(folder / "server.toml"), *arguments, cards=cards, **options)


def code(answer):
    return answer.status_code, answer.json()["error"]["code"] if "error" in answer.text else ""


def over_http2(address, path, authorization, authority=None):
    """Status of a GET over HTTP/2 whose headers are sent exactly as they are here."""
    config = h2.config.H2Configuration(normalize_outbound_headers=False, validate_outbound_headers=False)
    connection, (host, port) = h2.connection.H2Connection(config), address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as peer:
        connection.initiate_connection()
        connection.send_headers(1, [(":method", "GET"), (":scheme", "http"), (":authority", authority or address), (":path", path),
                                    ("authorization", authorization)], end_stream=True)
        peer.sendall(connection.data_to_send())
        while data := peer.recv(65_536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    return int({bytes(k): v for k, v in event.headers}.get(b":status", b"0"))
            peer.sendall(connection.data_to_send())


def warnings(server, part):
    return [line for line in server.log_lines() if line["level"] == "WARN" and part in line["message"]]
