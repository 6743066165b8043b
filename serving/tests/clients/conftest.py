"""Starts the real server with real weights, once for all client tests, and checks that it ends in order."""

import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[3]
KEY = "tc_test_dev"
# Without it the server computes in float32 where a card says bfloat16.
HAS_BF16 = "avx512_bf16" in Path("/proc/cpuinfo").read_text()

# Where the next free port is looked for.
PORTS = itertools.count(random.randrange(2_000))
# However slow the machine is, what is asked for is not refused for it.
PATIENT = """limits.request_timeout_ms = 300000
limits.overload_wait_max_ms = 300000
limits.predicted_wait_share_max = 100.0
batching.late_wait_max_ms = 300000
"""


def pytest_addoption(parser):
    parser.addoption("--binary", default=str(ROOT / "target/release/ml-inference"))
    parser.addoption("--data-dir", default=str(ROOT / "data"))
    parser.addoption("--authors", help="an interpreter that has transformers and sentence-transformers")


@dataclass
class Server:
    process: subprocess.Popen
    api: str
    ops: str
    log: Path
    state: Path

    def log_lines(self):
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def patient(folder):
    """Arguments of a server that is `PATIENT`."""
    path = folder / "patient.toml"
    path.write_text(PATIENT)
    return ["--config", str(path)]


def free_ports(count):
    """Ports that nobody listens on, of this worker's own: none that the system gives to a connection that goes
    out, nor that another worker takes between this call and its use."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = []
    while len(ports) < count:
        port = 10_000 + 2_000 * (worker % 10) + next(PORTS) % 2_000
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
    return ports


def start(request, folder, *arguments, cards=ROOT / "model-cards", environment=None, patience=60, addresses=None,
          data=None, offline=True, **popen):
    """Starts a server and waits until it is ready. Its log is a file, unless `popen` has another `stderr`."""
    api, ops = addresses or (f"127.0.0.1:{port}" for port in free_ports(2))
    log = folder / "server.log"
    command = [
        request.config.getoption("--binary"), "serve", *(["--offline"] if offline else []),
        "--data-dir", str(data or request.config.getoption("--data-dir")), "--cards-dir", str(cards),
        "--state-dir", str(folder / "state"), "--listen", api, "--ops-listen", ops, *arguments,
    ]
    begun = time.monotonic()
    with log.open("w") as out:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ML_INFERENCE_")}
        options = {"stdout": subprocess.DEVNULL, "stderr": out, "env": clean | (environment or {})} | popen
        process = subprocess.Popen(command, **options)
    while time.monotonic() - begun < patience:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}:\n{log.read_text()}")
        try:
            if httpx.get(f"http://{ops}/readyz").status_code == 200:
                return Server(process, api, ops, log, folder / "state")
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    process.kill()
    raise RuntimeError(f"the server was not ready in time:\n{log.read_text()}")


def scraped(server):
    """The samples of /metrics, as OpenMetrics' own parser reads them."""
    response = httpx.get(f"http://{server.ops}/metrics", headers={"Accept": "application/openmetrics-text"}, timeout=30)
    assert response.status_code == 200 and "openmetrics-text" in response.headers["content-type"]
    return [sample for family in text_string_to_metric_families(response.text) for sample in family.samples]


def stop(server):
    server.process.send_signal(signal.SIGTERM)
    code = server.process.wait(timeout=60)
    assert code == 0, f"exit code {code} after SIGTERM:\n{server.log.read_text()[-2000:]}"


class RedisServer:
    """A real Redis on a port of its own, in memory alone. It begins with what `dump.rdb` of `folder` has."""

    def __init__(self, folder=None):
        (self.port,) = free_ports(1)
        place = ["--dir", str(folder), "--dbfilename", "dump.rdb"] if folder else []
        self.process = subprocess.Popen(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                                         "--appendonly", "no", *place], stdout=subprocess.DEVNULL)
        for _ in range(3000):  # As long as a busy machine needs.
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.02)
        raise RuntimeError("redis-server did not start")

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def redis_config(tmp_path):
    """Arguments of a server whose state is in a Redis."""
    redis = RedisServer()
    secret = tmp_path / "key.secret"
    secret.write_text("0123456789abcdef" * 4)
    config = tmp_path / "redis.toml"
    config.write_text(f'[tenancy]\nkey_secret_file = "{secret}"\n'
                      f'store = {{ redis = {{ urls = ["redis://127.0.0.1:{redis.port}"] }} }}\n')
    yield ["--config", str(config)]
    redis.stop()


@pytest.fixture(scope="session")
def server(request, tmp_path_factory):
    running = start(request, tmp_path_factory.mktemp("server"))
    yield running
    stop(running)


@pytest.fixture(scope="session")
def rest(server):
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=f"http://{server.api}", headers=headers, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def proto(tmp_path_factory):
    """The service's Python stubs, generated from its definition as any client would."""
    from grpc_tools import protoc

    out = tmp_path_factory.mktemp("proto")
    source = ROOT / "serving/proto"
    # What `python -m grpc_tools.protoc` adds by itself: google.protobuf.
    known = Path(protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{source}", f"-I{known}", f"--python_out={out}", f"--grpc_python_out={out}"]
    for name in "ml/inference/v1/inference.proto", "ml/inference/v1/administration.proto", "externalscaler/externalscaler.proto":
        assert protoc.main([*arguments, str(source / name)]) == 0
    sys.path.insert(0, str(out))
    # All of it, before a test that knows it by reflection alone.
    from ml.inference.v1 import administration_pb2, administration_pb2_grpc, inference_pb2, inference_pb2_grpc

    administration_pb2.Stub = administration_pb2_grpc.AdministrationServiceStub
    inference_pb2.Stub = inference_pb2_grpc.InferenceServiceStub
    return inference_pb2


@pytest.fixture(scope="session")
def administration_proto(proto):
    """The same of what tenants manage themselves."""
    from ml.inference.v1 import administration_pb2

    return administration_pb2


@pytest.fixture(scope="session")
def scaler_proto(proto):
    """The same of KEDA's external scaler."""
    from externalscaler import externalscaler_pb2, externalscaler_pb2_grpc

    externalscaler_pb2.Stub = externalscaler_pb2_grpc.ExternalScalerStub
    return externalscaler_pb2


@pytest.fixture(scope="session")
def channel(server):
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.api, options=options) as opened:
        yield opened


@pytest.fixture(scope="session")
def stub(channel, proto):
    return proto.Stub(channel)


@pytest.fixture(scope="session")
def metadata():
    return (("authorization", f"Bearer {KEY}"),)
