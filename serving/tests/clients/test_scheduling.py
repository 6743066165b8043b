"""Deadlines, bulk callers and policies, through the real server."""

import concurrent.futures
import time

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from conftest import KEY, start, stop
from test_runtimes import ROUTES, TEXT, answers, assert_alike

HEADERS = {"Authorization": f"Bearer {KEY}"}
# About 400 tokens: longer to compute than the deadlines below, and quick to tokenise.
LONG = "the new report was sent to our office " * 50
POLICIES = [
    "preferred_size = { sequences = 8, queue_delay_max_ms = 2 }",
    "token_budget = { tokens = 2048 }",
]


def test_a_deadline_that_cannot_be_met_is_refused_at_once(rest):
    # Longer than it takes to tokenise, shorter than it takes to compute: how long that is depends on the
    # machine, so it is measured first.
    body = {"inputs": [LONG] * 8}
    begun = time.monotonic()
    assert rest.post("/v1/ml/entities", json=body).status_code == 200
    took_ms = (time.monotonic() - begun) * 1000
    # Several times from long to short: on a busy machine neither takes as long twice.
    for attempt in range(80):
        timeout_ms = max(int(took_ms * 0.9 * 0.87 ** (attempt % 20)), 1)
        response = rest.post("/v1/ml/entities", json=body, headers={"X-Request-Timeout": str(timeout_ms)})
        if response.status_code == 503:
            break
    assert response.status_code == 503, "no deadline was found too short"
    assert response.json()["error"]["code"] == "deadline_infeasible"
    assert int(response.headers["retry-after"]) >= 1


def test_the_same_over_grpc(stub, proto, metadata):
    request = proto.ExtractEntitiesRequest(inputs=[LONG] * 8)
    with pytest.raises(grpc.RpcError) as caught:
        # Until it is too short for this machine.
        for halvings in range(16):
            stub.ExtractEntities(request, metadata=metadata, timeout=0.5 / 2 ** halvings)
    # The client's own clock may end the call before the refusal is back.
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    if caught.value.code() == grpc.StatusCode.UNAVAILABLE:
        details = rpc_status.from_call(caught.value).details
        assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in details)


def test_targets_refuse_nobody_unless_they_are_deadlines(request, tmp_path, rest):
    bulk = {"inputs": [LONG] * 16}
    assert rest.post("/v1/ml/sentiment", json=bulk).status_code == 200, "16 texts take longer than 30 ms"
    config = tmp_path / "ml-inference.toml"
    config.write_text("models.sentiment-v3 = { p99_target_is_deadline = true }\n")
    server = start(request, tmp_path, "--config", str(config))
    try:
        refused = httpx.post(f"http://{server.api}/v1/ml/sentiment", json=bulk, headers=HEADERS, timeout=60)
        assert refused.status_code in (503, 504), refused.text
        assert refused.json()["error"]["code"] in ("deadline_infeasible", "deadline_exceeded")
        single = httpx.post(f"http://{server.api}/v1/ml/sentiment", json={"inputs": ["fine"]}, headers=HEADERS)
        assert single.status_code == 200, single.text
    finally:
        stop(server)


def test_a_bulk_caller_does_not_stall_a_single_one(server):
    def post(route, inputs):
        return httpx.post(f"http://{server.api}/v1/ml/{route}", json={"inputs": inputs}, headers=HEADERS, timeout=60)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        bulk = pool.submit(post, "classify", [LONG] * 24)
        answered = 0
        while not bulk.done():
            assert post("embeddings", ["a short one"]).status_code == 200
            answered += 1
        assert bulk.result().status_code == 200
    # A single one that waited for the 24 would be the only one, or the second.
    assert answered >= 3, answered


@pytest.mark.parametrize("policy", POLICIES)
def test_one_line_changes_the_policy_and_no_answer(request, tmp_path, server, policy):
    found = answers(request, tmp_path, [f"batching.policy = {{ {policy} }}"])
    expected = {route: httpx.post(f"http://{server.api}/v1/ml/{route}", headers=HEADERS, timeout=60,
                                  json={"inputs": [TEXT]}).json() for route in ROUTES}
    assert_alike(found, expected)


def test_what_the_scheduler_predicts_is_on_the_operations_port(server, rest):
    rest.post("/v1/ml/sentiment", json={"inputs": ["fine"]})
    metrics = httpx.get(f"http://{server.ops}/metrics").text
    for name in ["drain_seconds", 'device_busy_seconds{device="0"}', 'device_lost{device="0"} 0',
                 'queue_oldest_wait_seconds{model="sentiment-v3"}', 'queue_device_time_seconds{model="ner-v2"}',
                 'batch_prediction_error_ratios{model="sentiment-v3",device="0"}']:
        assert f"ml_inference_{name}" in metrics, name
