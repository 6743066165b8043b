"""Signals to scale on: as JSON, as metrics, and to KEDA through a generated client; of one server and of
several."""

import queue
import threading
import time

import grpc
import httpx
import pytest
from conftest import KEY, scraped, start, stop


def signals(server):
    answer = httpx.get(f"http://{server.ops}/scaling")
    return answer.json() if answer.status_code == 200 else None


def wait_for(condition, patience=60):
    end = time.monotonic() + patience
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    assert value, "waited in vain"
    return value


class Work:
    """Callers that ask as long as the block lasts."""

    def __init__(self, server, callers=8):
        self.server, self.is_over = server, False
        self.threads = [threading.Thread(target=self.ask) for _ in range(callers)]

    def ask(self):
        with httpx.Client(base_url=f"http://{self.server.api}", headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
            while not self.is_over:
                client.post("/v1/ml/classify", json={"inputs": "The tenant shall pay the rent on the first day of each month. " * 8})

    def __enter__(self):
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_):
        self.is_over = True
        for thread in self.threads:
            thread.join()


@pytest.fixture
def scaler(request, tmp_path, scaler_proto):
    """A server that wants one at least, and KEDA's view of it."""
    config = tmp_path / "scaling.toml"
    config.write_text("[scaling]\nreplicas_min = 1\nreplicas_max = 5\n")
    server = start(request, tmp_path, "--config", str(config))
    with grpc.insecure_channel(server.ops) as channel:
        yield server, scaler_proto.Stub(channel), scaler_proto
    stop(server)


def test_a_busy_server_asks_for_others(scaler):
    server, keda, proto = scaler
    idle = wait_for(lambda: signals(server))
    assert (idle["desired_replicas"], idle["ready_replicas"], idle["offered_6s"], idle["reason"]) == (1, 1, 0, "steady")
    ref = proto.ScaledObjectRef(name="ml-inference", namespace="ml")
    changes = queue.Queue()

    def watch():
        try:
            for change in keda.StreamIsActive(ref):
                changes.put(change.result)
        except grpc.RpcError:
            pass

    threading.Thread(target=watch, daemon=True).start()
    assert changes.get(timeout=60) is False and keda.IsActive(ref).result is False
    with Work(server):
        busy = wait_for(lambda: (now := signals(server)) and now["desired_replicas"] > 1 and now["busy_ratio"] > 0.5 and now)
        assert busy["offered_6s"] > 0.3 and busy["reason"] in ("demand", "backlog", "attainment", "panic", "steady")
        assert changes.get(timeout=60) is True and keda.IsActive(ref).result is True
        (spec,) = keda.GetMetricSpec(ref).metricSpecs
        assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == ("desired_replicas", 1, 1.0)
        (value,) = keda.GetMetrics(proto.GetMetricsRequest(scaledObjectRef=ref, metricName=spec.metricName)).metricValues
        assert value.metricName == spec.metricName and 2 <= value.metricValue == value.metricValueFloat <= 5
        # The metrics say the same.
        values = {sample.name: sample.value for sample in scraped(server)
                  if sample.name.startswith("ml_inference_scaling")}
        assert 2 <= values["ml_inference_scaling_desired_replicas"] <= 5 and values["ml_inference_scaling_busy_ratios"] > 0.5
        assert len(values) == 13, values


def test_other_metrics_for_keda(scaler):
    server, keda, proto = scaler
    wait_for(lambda: signals(server))
    for metric, target in ("queued_requests", "1000"), ("queued_tokens", "5e4"), ("offered_device_seconds", "0.7"), (
            "queued_device_seconds", "30"):
        ref = proto.ScaledObjectRef(name="x", namespace="y", scalerMetadata={"metric": metric, "target": target})
        (spec,) = keda.GetMetricSpec(ref).metricSpecs
        assert (spec.metricName, spec.targetSizeFloat) == (metric, float(target))
        (value,) = keda.GetMetrics(proto.GetMetricsRequest(scaledObjectRef=ref, metricName=metric)).metricValues
        assert (value.metricName, value.metricValueFloat) == (metric, 0)
    for metadata in {"metric": "load"}, {"metric": "queued_tokens"}, {"target": "0"}, {"target": "nan"}, {"target": "many"}:
        with pytest.raises(grpc.RpcError) as error:
            keda.GetMetricSpec(proto.ScaledObjectRef(scalerMetadata=metadata))
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT, metadata
    with pytest.raises(grpc.RpcError) as error:
        keda.GetMetrics(proto.GetMetricsRequest(metricName="load"))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT and "desired_replicas" in error.value.details()


def test_servers_that_share_redis_add_up(request, tmp_path, redis_config):
    """Each server tells of all: so it does not matter which one is asked. One that is gone is forgotten."""
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    first, second = (start(request, folder, *redis_config) for folder in folders)
    wait_for(lambda: all((now := signals(server)) and now["ready_replicas"] == 2 for server in (first, second)))
    with Work(first, callers=4):
        wait_for(lambda: signals(first)["offered_6s"] > 0.2)
        wait_for(lambda: signals(second)["offered_6s"] > 0.2)
    stop(first)
    wait_for(lambda: signals(second)["ready_replicas"] == 1)
    stop(second)
