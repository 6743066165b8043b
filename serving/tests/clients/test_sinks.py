"""Usage events in other systems, read with their own clients: a file, a signed webhook, a Redis stream.
Nothing is lost when the server is killed or a receiver fails, and an event that comes twice says so by its
id."""

import http.server
import json
import signal
import threading
import time
from base64 import b64encode

import httpx
import pytest
import redis
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from conftest import KEY, RedisServer, start, stop
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

SECRET = "whsec_" + b64encode(bytes(range(32))).decode()


class Receiver:
    """A webhook's receiver that verifies what it gets and, as told, refuses it first."""

    def __init__(self):
        self.events, self.batches, self.refusals, self.problems = [], [], 0, []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.take(dict(self.headers), body)
                self.send_response(status)
                if status == 503:
                    self.send_header("Retry-After", "1")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/usage"

    def take(self, headers, body):
        headers = {name.lower(): value for name, value in headers.items()}
        try:
            Webhook(SECRET).verify(body, headers)
        except WebhookVerificationError as error:
            self.problems.append(error)
            return 401
        self.batches.append(headers["webhook-id"])
        if self.refusals > 0:
            self.refusals -= 1
            return 503
        assert headers["content-type"].startswith("application/cloudevents-batch+json")
        self.events.extend(json.loads(body))
        return 204


def ask(server, count):
    with httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}, timeout=30) as client:
        answers = [client.post("/v1/ml/sentiment", json={"inputs": ["One.", "Two."]}) for _ in range(count)]
    assert all(answer.status_code == 200 for answer in answers)
    return {answer.headers["x-request-id"] for answer in answers}


def eventually(read, expected, patience=20):
    end = time.monotonic() + patience
    while (value := read()) != expected and time.monotonic() < end:
        time.sleep(0.1)
    assert value == expected


@pytest.fixture
def sinks(tmp_path):
    """Arguments of a server with three sinks, and the other ends of them."""
    receiver, store = Receiver(), RedisServer()
    (tmp_path / "webhook.secret").write_text(SECRET + "\n")
    config = tmp_path / "sinks.toml"
    config.write_text(f"""
[usage.sinks]
archive = {{ file = {{ path = "{tmp_path}/usage.ndjson" }} }}
billing = {{ webhook = {{ url = "{receiver.url}", secret_file = "{tmp_path}/webhook.secret" }} }}
analytics = {{ redis_stream = {{ redis = {{ urls = ["redis://127.0.0.1:{store.port}"] }} }} }}
""")
    yield ["--config", str(config)], receiver, store
    store.stop()


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def stream(store):
    with redis.Redis(port=store.port) as client:
        return [json.loads(fields[b"event"]) for _, fields in client.xrange("ml:events:{usage}:stream")]


def ids(events):
    return {event["data"]["request_id"] for event in events}


def test_every_record_reaches_every_sink_whatever_fails(request, tmp_path, sinks):
    arguments, receiver, store = sinks
    receiver.refusals = 2
    server = start(request, tmp_path, *arguments)
    asked = ask(server, 20)
    eventually(lambda: ids(lines(tmp_path / "usage.ndjson")), asked)
    eventually(lambda: ids(stream(store)), asked)
    eventually(lambda: ids(receiver.events), asked)
    assert receiver.problems == [] and receiver.batches[0] == receiver.batches[1] == receiver.batches[2]
    metrics = httpx.get(f"http://{server.ops}/metrics").text
    assert 'usage_journal_records_behind{follower="sink-billing"} 0' in metrics
    assert 'usage_delivery_failures_total{follower="sink-billing"} 2' in metrics
    # Killed while the receiver refuses everything.
    receiver.refusals = 10**9
    asked |= ask(server, 20)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    receiver.refusals = 0
    server = start(request, tmp_path, *arguments)
    eventually(lambda: ids(receiver.events), asked)
    eventually(lambda: ids(lines(tmp_path / "usage.ndjson")), asked)
    eventually(lambda: ids(stream(store)), asked)
    # A stream has each event once; elsewhere one that comes twice has the same id.
    found = [event["id"] for event in stream(store)]
    assert len(found) == len(set(found)) == 40
    for events in receiver.events, lines(tmp_path / "usage.ndjson"):
        assert len({event["id"] for event in events}) == 40
    # What is pending when the server is told to stop goes out before it ends.
    asked |= ask(server, 5)
    stop(server)
    assert ids(receiver.events) == ids(lines(tmp_path / "usage.ndjson")) == ids(stream(store)) == asked
    assert all(part not in server.log.read_text() for part in (SECRET, "Two."))


def test_events_are_cloud_events(request, tmp_path, sinks):
    arguments, receiver, store = sinks
    server = start(request, tmp_path, *arguments)
    (request_id,) = ask(server, 1)
    eventually(lambda: len(lines(tmp_path / "usage.ndjson")), 1)
    stop(server)
    (event,) = lines(tmp_path / "usage.ndjson")
    parsed = from_structured(event)
    assert parsed.get_type() == "com.techcorp.ml.usage.recorded" and parsed.get_specversion() == "1.0"
    assert parsed.get_subject() == "development" and abs(parsed.get_time().timestamp() - time.time()) < 60
    assert parsed.get_source().startswith("/ml-inference/") and parsed.get_id().endswith("-0")
    data = parsed.get_data()
    assert data["tokens"] > 2 and data["device_us"] > 0
    known = {"request_id": request_id, "tenant": "development", "key": "dev", "model": "sentiment-v3", "inputs": 2,
             "is_cached": False, "outcome": "completed", "price_micro_usd": 100}
    assert known.items() <= data.items()
    assert stream(store) == receiver.events == [event]


def from_structured(event):
    message = HTTPMessage(headers={"content-type": "application/cloudevents+json"}, body=json.dumps(event).encode())
    return from_http_event(message)


def test_a_sink_that_cannot_work_is_said_at_the_start(request, tmp_path):
    config = tmp_path / "bad.toml"
    (tmp_path / "short").write_text("whsec_c2hvcnQ=")
    for secret, expected in ("none", "No such file"), ("short", "at least 24 bytes"):
        config.write_text(f'usage.sinks.x = {{ webhook = {{ url = "http://127.0.0.1:1", secret_file = "{tmp_path}/{secret}" }} }}')
        with pytest.raises(RuntimeError, match=f"usage.sinks.x: secret_file: .*{expected}"):
            start(request, tmp_path, "--config", str(config))
