"""Metrics, logs, readiness, refusal to start, and the end: what the person who runs the server sees."""

import concurrent.futures
import json
import signal
import subprocess
import threading
import time
from pathlib import Path

import grpc
import httpx

from conftest import KEY, PATIENT, patient, scraped, start, stop
from peers import connect, head, wait_for


def samples(server):
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in scraped(server)}


def total(found, name, **labels):
    return sum(v for (n, l), v in found.items() if n == name and labels.items() <= dict(l).items())


def has_runnable_thread(process):
    """Whether a thread computes or waits for a core to do so: field 3 of /proc/<pid>/task/<tid>/stat."""
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        try:
            if (thread / "stat").read_text().rsplit(")", 1)[1].split()[0] == "R":
                return True
        except FileNotFoundError:
            pass  # The thread has ended meanwhile.
    return False


def is_at_rest(process, looks=40):
    """Whether no thread spins: one that does is runnable at every look, however busy the machine is."""
    def look():
        time.sleep(0.025)
        return has_runnable_thread(process)
    return sum(look() for _ in range(looks)) <= looks // 8


def test_an_idle_server_burns_no_core(server, rest):
    rest.post("/v1/ml/embeddings", json={"inputs": ["Compute threads spin for a moment after this."]})
    wait_for(lambda: is_at_rest(server.process), patience=60)


def test_metrics_count_what_happened(server, rest):
    before = samples(server)
    rest.post("/v1/ml/sentiment", json={"inputs": ["one", "two", "three"]})
    rest.post("/v1/ml/sentiment", json={"inputs": []})
    after = samples(server)

    def grew(name, **labels):
        return total(after, f"ml_inference_{name}", **labels) - total(before, f"ml_inference_{name}", **labels)

    assert grew("calls_total", model="sentiment-v3", code="ok", protocol="rest") == 1
    assert grew("calls_total", code="no_inputs") == 1
    assert grew("call_duration_seconds_count", task="sentiment") == 2
    assert grew("usage_inputs_total", model="sentiment-v3", outcome="completed") == 3
    assert grew("usage_tokens_total", outcome="completed") == 9
    assert grew("batch_sequences_sum", model="sentiment-v3") == 3
    assert grew("batch_tokens_sum", model="sentiment-v3") == 9
    assert grew("queue_delay_seconds_count", model="sentiment-v3") == 3
    assert total(after, "ml_inference_calls_in_flight") == 0
    assert total(after, "ml_inference_queue_sequences") == 0
    assert total(after, "ml_inference_model_loaded") == 5


def test_health_routes(server):
    for route in ("livez", "readyz", "healthz"):
        assert httpx.get(f"http://{server.ops}/{route}").status_code == 200
        assert httpx.get(f"http://{server.api}/{route}").status_code == 404


def test_no_input_text_in_the_log(request, tmp_path):
    server = start(request, tmp_path, "--log", "debug")
    secret = "zyzzyva"
    headers = {"Authorization": f"Bearer {KEY}"}
    post = lambda route, **kw: httpx.post(f"http://{server.api}/v1/ml/{route}", headers=headers, timeout=60, **kw)
    for route in ("classify", "sentiment", "entities", "summarize", "embeddings"):
        assert post(route, json={"inputs": f"The {secret} sleeps. It is quiet."}).status_code == 200
    post("sentiment", json={"inputs": secret, "parameters": {"truncation": secret}})
    post("sentiment", json={"inputs": {secret: 1}})
    post("sentiment", json={"inputs": [secret, "\0"]})
    post("sentiment", content=f'{{"inputs": "{secret}'.encode(), )
    post("classify", json={"inputs": "a", "parameters": {"labels": [secret, secret]}})
    post("embeddings", json={"inputs": f"{secret} " * 2000})
    stop(server)
    text = server.log.read_text()
    assert secret not in text.lower()
    lines = server.log_lines()
    usage = [line for line in lines if line.get("message") == "usage"]
    assert sum(line["outcome"] == "completed" for line in usage) == 5
    assert all(line["request_id"].startswith("req_") and "timestamp" in line for line in usage)


def test_refuses_to_expose_the_development_key(request, tmp_path):
    binary = request.config.getoption("--binary")
    ended = subprocess.run([binary, "serve", "--listen", "0.0.0.0:0"], capture_output=True, text=True, timeout=30)
    assert ended.returncode != 0
    assert all(part in ended.stderr for part in ("0.0.0.0:0", "development", "127.0.0.1:8080", "development_tenant"))


def test_says_when_the_port_is_taken(request, server):
    binary = request.config.getoption("--binary")
    command = [binary, "serve", "--listen", server.api, "--ops-listen", "127.0.0.1:0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode != 0 and server.api in ended.stderr


def test_sigterm_answers_what_was_accepted(request, tmp_path, proto):
    """32 requests are in flight over REST and 50 on a stream when SIGTERM comes; every one is answered."""
    server = start(request, tmp_path, *patient(tmp_path))
    headers = {"Authorization": f"Bearer {KEY}"}
    # Enough that the first answer comes when all have been accepted.
    body = {"inputs": ["A long sentence about the harbour and its cranes. " * 20] * 4}
    answered = threading.Semaphore(0)

    def call(_):
        with httpx.Client(timeout=60) as client:
            response = client.post(f"http://{server.api}/v1/ml/sentiment", json=body, headers=headers)
        answered.release()
        return response

    with concurrent.futures.ThreadPoolExecutor(32) as pool, grpc.insecure_channel(server.api) as channel:
        calls = [pool.submit(call, i) for i in range(32)]
        held = threading.Event()

        def requests():
            for i in range(50):
                embed = proto.EmbedRequest(inputs=[f"line {i} " * 50])
                yield proto.InferStreamRequest(correlation_id=str(i), embed=embed)
            held.wait(60)

        stream = proto.Stub(channel).InferStream(requests(), metadata=(("authorization", f"Bearer {KEY}"),))
        first = next(stream)
        answered.acquire()  # Requests are running, most of them waiting.

        def accepted():
            names = "ml_inference_calls_total", "ml_inference_calls_in_flight"
            return sum(sample.value for sample in scraped(server) if sample.name in names)

        # All calls, and all messages of the stream.
        wait_for(lambda: accepted() >= 82)
        server.process.send_signal(signal.SIGTERM)
        ids, ending = {first.correlation_id}, None
        try:
            for answer in stream:
                assert answer.WhichOneof("response") == "embed"
                ids.add(answer.correlation_id)
        except grpc.RpcError as error:
            ending = error.code()
        held.set()
        # A connection still in the listener's backlog when it closes is reset: that request was never
        # accepted.
        outcomes = []
        for future in calls:
            try:
                outcomes.append(future.result().status_code)
            except httpx.TransportError as error:
                outcomes.append(repr(error))
    assert outcomes == [200] * 32, outcomes
    assert ending == grpc.StatusCode.UNAVAILABLE
    assert server.process.wait(timeout=60) == 0
    with_error = [line for line in server.log_lines() if line["level"] == "ERROR"]
    assert not with_error, with_error


def test_a_caller_who_leaves_frees_the_queue(request, tmp_path):
    """Four callers ask for a lot and hang up once they are being answered: the queue empties, nobody gets an
    answer."""
    config = tmp_path / "leave.toml"
    # Whoever closes has left: otherwise a fast machine may answer some of them after all.
    config.write_text(PATIENT + "connections.half_close_timeout_ms = 0\n")
    server = start(request, tmp_path, "--config", str(config))
    body = json.dumps({"inputs": ["word " * 500] * 128}).encode()

    def now(name, **labels):
        return total(samples(server), f"ml_inference_{name}", **labels)

    callers = [connect(server.api) for _ in range(4)]
    for caller in callers:
        caller.sendall(head(body) + body)
    wait_for(lambda: now("calls_in_flight") == 4 and now("queue_sequences") > 0)
    for caller in callers:
        caller.close()
    wait_for(lambda: now("queue_sequences") == 0 and now("calls_in_flight") == 0, patience=60)
    assert now("queue_departures_total", reason="cancelled") > 0
    assert now("calls_total", code="cancelled") == 4 and now("calls_total", code="ok") == 0
    stop(server)
