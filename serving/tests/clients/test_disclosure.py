"""What is not shown to those without a right to it: tenants, files, texts; and logs that callers cannot fill."""

import json
import socket

import h2.config
import h2.connection
import h2.events
import httpx
from conftest import KEY, ROOT, stop
from identity import code, started
from test_tenants import as_tenant, limited, make, one_model

def test_metrics_without_tenants(request, server):
    name = "a-customer-of-ours"
    key = make(request, server, name, limited(1))["key"]
    with as_tenant(server, key) as client:
        assert [client.post("/v1/ml/sentiment", json={"inputs": "Well."}).status_code for _ in range(2)] == [200, 429]
    shown = httpx.get(f"http://{server.ops}/metrics").text
    assert name not in shown and "cost" not in shown and "development" not in shown
    assert 'ml_inference_usage_inputs_total{model="sentiment-v3",outcome="completed"}' in shown
    assert httpx.get(f"http://{server.ops}/admin/v1/metrics").status_code == 401
    token = (server.state / "operator.token").read_text()
    detailed = httpx.get(f"http://{server.ops}/admin/v1/metrics", headers={"Authorization": f"Bearer {token}"}).text
    assert (f'ml_inference_tenant_usage_cost_usd_total{{tenant="{name}",model="sentiment-v3",outcome="completed"}} 0.00005'
            in detailed)
    assert f'ml_inference_tenant_limits_refusals_total{{tenant="{name}",limit="requests_per_minute"}} 1' in detailed


def test_a_broken_model_is_explained_to_the_operator(request, tmp_path):
    """Who may look at models learns that one cannot be loaded, and nothing of files; calls do not fill the
    log."""
    cards = one_model(tmp_path)
    broken = cards / "sentiment-v3"
    broken.mkdir()
    for file in (ROOT / "model-cards/sentiment-v3").iterdir():
        if file.name == "README.md":
            (broken / file.name).write_text(file.read_text())
    server = started(request, tmp_path, "models.sentiment-v3.required = false", cards=cards)
    with as_tenant(server, KEY) as client:
        (model,) = [model for model in client.get("/v1/ml/models").json()["models"] if model["name"] == "sentiment-v3"]
        assert model["status"] == "unavailable" and len(model["reason"]) > 10
        assert str(tmp_path) not in json.dumps(model) and "/" not in model["reason"]
        for _ in range(5):
            assert code(client.post("/v1/ml/sentiment", json={"inputs": "a"})) == (503, "model_unavailable")
    errors = [line for line in server.log_lines() if line["level"] == "ERROR"]
    assert len(errors) == 1 and errors[0]["model"] == "sentiment-v3"
    token = (server.state / "operator.token").read_text()
    told = httpx.get(f"http://{server.ops}/admin/v1/models", headers={"Authorization": f"Bearer {token}"}).json()
    assert {model["name"]: model.get("reason") for model in told["models"]} == {
        "embeddings-v2": None, "sentiment-v3": errors[0]["reason"]}
    stop(server)


def test_no_library_logs_text(request, tmp_path):
    """At the most detailed level that there is."""
    server = started(request, tmp_path, "", "--log", "trace")
    canary = "xylophone7q3 zebra8w5"
    with as_tenant(server, KEY) as client:
        assert client.post("/v1/ml/embeddings", json={"inputs": [canary]}).status_code == 200
        client.post("/v1/ml/embeddings", json={"inputs": ["xylophone7q3 " * 600]})
    stop(server)
    log = server.log.read_text()
    assert "xylophone" not in log and "##lo" not in log
    # A tokenizer would print characters and their offsets.
    ours = ("access", "batching", "ml_inference", "models", "router", "serving")
    foreign = [line for line in server.log_lines() if line["target"].split("::")[0] not in ours]
    assert all(line["level"] in ("WARN", "ERROR") for line in foreign)
    assert any(line["level"] == "TRACE" or line["level"] == "DEBUG" for line in server.log_lines())


def test_floods_do_not_fill_the_log(request, tmp_path):
    """Streams that are opened and reset at once, by somebody without credentials: many connections, few
    lines."""
    server = started(request, tmp_path)
    host, port = server.api.split(":")
    before = len(server.log_lines())
    for _ in range(20):
        connection = h2.connection.H2Connection(h2.config.H2Configuration())
        with socket.create_connection((host, int(port)), timeout=10) as peer:
            connection.initiate_connection()
            for stream in range(1, 401, 2):
                connection.send_headers(stream, [(":method", "POST"), (":scheme", "http"), (":authority", server.api),
                                                 (":path", "/v1/ml/embeddings")])
                connection.reset_stream(stream)
            connection.ping(b"are over")
            try:
                peer.sendall(connection.data_to_send())
                # Until all of it was read, or the server had enough.
                is_over = False
                while not is_over and (data := peer.recv(65_536)):
                    is_over = any(isinstance(event, (h2.events.PingAckReceived, h2.events.ConnectionTerminated))
                                  for event in connection.receive_data(data))
            except OSError:
                continue
    assert httpx.get(f"http://{server.ops}/readyz").status_code == 200
    foreign = [line for line in server.log_lines()[before:] if line["target"].startswith(("h2", "hyper"))]
    assert len(foreign) <= 5, len(foreign)
    stop(server)
