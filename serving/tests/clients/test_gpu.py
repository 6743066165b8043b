"""The server on GPUs: emulated ones, which run the real kernels on the CPU
(models/runtimes/cuda/kernels/emulation/driver.cpp). The same binary that computes on the CPU elsewhere
finds them in place of the driver."""

import concurrent.futures
import math
import subprocess

import httpx
import pytest
from conftest import KEY, ROOT, start, stop

TEXTS = {
    "classify": ["The tenant shall pay the deposit before the lease begins.", "Patients took the tablet twice a day."],
    "sentiment": ["The new release is a joy to use.", "The parcel never came and nobody answers my letters."],
    "entities": ["Angela Merkel met engineers of Siemens in Munich.", "Nothing happened."],
    "embeddings": ["a", "A sentence about boats, and another one about the sea and all that is in it."],
    "summarize": ["The council met on Monday. It voted for the bridge. The bridge will cost nine million. Work begins in May. "
                  "Residents had asked for it for years."],
}


@pytest.fixture(scope="module")
def gpus():
    """Builds the emulated driver, if the Rust tests have not; gives the environment of a process that is to
    find it."""
    folder = ROOT / "target/tmp/emulation"
    subprocess.run([ROOT / "models/runtimes/cuda/kernels/emulation/build.sh", folder], check=True)

    def environment(**settings):
        return {"LD_LIBRARY_PATH": str(folder)} | {f"EMULATED_{name}": str(value) for name, value in settings.items()}

    return environment


def client(server):
    return httpx.Client(base_url=f"http://{server.api}", headers={"Authorization": f"Bearer {KEY}"}, timeout=60)


def results(rest, task):
    answer = rest.post(f"/v1/ml/{task}", json={"inputs": TEXTS[task]})
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_answers_are_those_of_the_cpu(request, tmp_path, gpus, rest):
    server = start(request, tmp_path, environment=gpus(GPUS=2), patience=300)
    ready = [line["device"] for line in server.log_lines() if line["message"] == "device ready"]
    assert ready == ["emulated GPU 0", "emulated GPU 1"]
    with client(server) as gpu:
        for found, expected in zip(results(gpu, "classify"), results(rest, "classify"), strict=True):
            found, expected = (max(result["labels"], key=lambda label: label["score"]) for result in (found, expected))
            assert found["label"] == expected["label"] and found["score"] == pytest.approx(expected["score"], abs=0.02)
        for found, expected in zip(results(gpu, "sentiment"), results(rest, "sentiment"), strict=True):
            assert found["label"] == expected["label"] and found["score"] == pytest.approx(expected["score"], abs=0.02)
        for found, expected in zip(results(gpu, "embeddings"), results(rest, "embeddings"), strict=True):
            assert cosine(found["embedding"], expected["embedding"]) > 0.9999

        def spans(of):
            return [[(entity["label"], entity["text"]) for entity in result["entities"]] for result in results(of, "entities")]

        assert spans(gpu) == spans(rest)
        assert [result["summary"] for result in results(gpu, "summarize")] == \
            [result["summary"] for result in results(rest, "summarize")]
    metrics = httpx.get(f"http://{server.ops}/metrics").text
    for device in 0, 1:
        uuid = f"GPU-00000000-0000-0000-0000-00000000000{device}"
        used = next(line for line in metrics.splitlines() if line.startswith(
            f'ml_inference_gpu_memory_used_bytes{{device="{device}",uuid="{uuid}"}}'))
        # Five encoders of 22 million numbers of 16 bits each.
        assert float(used.split()[-1]) > 220e6
    assert 'ml_inference_gpu_throttled{device="1",reason="software_power_cap"} 1' in metrics
    stop(server)


def test_a_gpu_that_dies_takes_the_server_with_it_and_no_request(request, tmp_path, gpus):
    server = start(request, tmp_path, environment=gpus(GPUS=2, GPU_DIES=3000), patience=300)
    with client(server) as rest, concurrent.futures.ThreadPoolExecutor(4) as pool:
        def ask(_):
            return rest.post("/v1/ml/embeddings", json={"inputs": TEXTS["embeddings"]})

        answers = []
        while server.process.poll() is None and len(answers) < 400:
            for answer in [pool.submit(ask, n) for n in range(4)]:
                try:
                    answers.append(answer.result().status_code)
                except httpx.TransportError:
                    # Not accepted any more.
                    pass
    code = server.process.wait(timeout=60)
    assert code == 1, code
    # What was on the lost one was computed by the other.
    assert answers.count(200) > 4 and set(answers) <= {200, 503}, answers
    log = server.log.read_text()
    for part in "CUDA_ERROR_ILLEGAL_ADDRESS", "a device failed for good; shutting down", "a device was lost":
        assert part in log


@pytest.mark.parametrize("settings, device, expected", [
    ({"GPUS": 1, "GPU_MEMORY": 300_000_000}, '"auto"', ["do not fit emulated GPU 0", "ner-v2 44", "MiB are free"]),
    ({"GPUS": 1}, '["cuda:0", "cuda:1"]', ["there is no CUDA device 1"]),
    ({"GPUS": 1}, '["cuda:0", "cpu"]', ["line 1", "cuda:<number>"]),
    ({"GPUS": 1, "GPU_OLD": 1}, '"cuda:0"', ["CUDA_ERROR_NO_BINARY_FOR_GPU"]),
])
def test_what_cannot_be_is_said(request, tmp_path, gpus, settings, device, expected):
    config = tmp_path / "gpu.toml"
    config.write_text(f"device = {device}\n")
    with pytest.raises(RuntimeError) as error:
        start(request, tmp_path, "--config", str(config), environment=gpus(**settings))
    for part in expected:
        assert part in str(error.value)


@pytest.mark.parametrize("settings, device, warnings", [
    ({"GPUS": 1}, "cpu", []),
    ({"GPUS": 0}, "auto", ["there is no usable GPU: models are computed on the CPU"]),
    ({"GPUS": 1, "GPU_OLD": 1}, "auto", ["a GPU cannot be used", "there is no usable GPU: models are computed on the CPU"]),
])
def test_where_no_gpu_is_to_be_used_the_cpu_computes(request, tmp_path, gpus, settings, device, warnings):
    config = tmp_path / "gpu.toml"
    config.write_text(f'device = "{device}"\n')
    server = start(request, tmp_path, "--config", str(config), environment=gpus(**settings))
    assert [line["message"] for line in server.log_lines() if line["level"] == "WARN" and "GPU" in line["message"]] == warnings
    assert [line["device"] for line in server.log_lines() if line["message"] == "device ready"] == ["CPU"]
    with client(server) as cpu:
        results(cpu, "sentiment")
    assert "gpu_memory_used_bytes{" not in httpx.get(f"http://{server.ops}/metrics").text
    stop(server)
