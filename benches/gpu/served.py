"""The server on a GPU under load, load generators on the same machine: start-up, one model at a time, five at
once, REST and gRPC, and tokens a second of a BERT-base-shaped embedding model.

    python3 benches/gpu/served.py --binary PROGRAM --data-dir FOLDER --shapes FOLDER --out FILE [--smoke]

Needs wrk and h2load on the path. Tokens are the server's own count of answered requests.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "served"))
from run import ROUTES, corpus, result, served, texts, wrk  # noqa: E402

PORT = 18300
METHODS = {"classify": "Classify", "sentiment": "AnalyzeSentiment", "entities": "ExtractEntities", "summarize": "Summarize",
           "embeddings": "Embed"}


def metric(api, name, **labels):
    """Sum of a counter's series with these labels."""
    host, port = api.split(":")
    text = urllib.request.urlopen(f"http://{host}:{int(port) + 1010}/metrics").read().decode()
    lines = (line for line in text.splitlines() if line.startswith(f"ml_inference_{name}{{"))
    return sum(float(line.split()[-1]) for line in lines if all(f'{k}="{v}"' in line for k, v in labels.items()))


def framed(inputs):
    """A request of the service with these inputs, as gRPC sends it: five bytes before a message whose field 1
    they are."""
    message = b""
    for text in inputs:
        data, length = text.encode(), len(text.encode())
        size = b""
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        message += b"\x0a" + size + bytes([length]) + data
    return b"\0" + len(message).to_bytes(4, "big") + message


def grpc(api, route, connections, streams, seconds, inputs):
    """h2load's requests a second and percentiles in milliseconds; all its requests are the same."""
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(framed(inputs))
        before = metric(api, "calls_total", protocol="grpc", code="ok")
        command = ["h2load", f"-c{connections}", f"-m{streams}", f"-t{min(4, connections)}", f"-D{seconds}", f"--log-file={log}", "-d",
                   str(body), "-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "authorization: Bearer tc_test_dev",
                   f"http://{api}/ml.inference.v1.InferenceService/{METHODS[route]}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        done = metric(api, "calls_total", protocol="grpc", code="ok") - before
        times = sorted(int(line.split("\t")[2]) / 1e3 for line in log.read_text().splitlines())
    at = lambda share: times[min(len(times) - 1, math.ceil(share * len(times)) - 1)]  # noqa: E731
    return {"requests": done, "seconds": seconds, "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "sent": len(times)}


def attempt(results, what, work):
    try:
        results[what] = work()
    except Exception as error:  # noqa: BLE001 - the other cells are worth having
        results.setdefault("failed", {})[what] = str(error)
    print(f"{what}: {results.get(what, 'FAILED')}"[:200], flush=True)


def five_models(options, results):
    seconds = 2 if options.smoke else 8
    begun = time.monotonic()
    with served(PORT, options.data_dir, options.setting, binary=options.binary) as (api, _), corpus() as lines:
        results["seconds to ready"] = time.monotonic() - begun
        few, many = (2, 4) if options.smoke else (1, 256)
        for route in ROUTES:
            for callers in (few, many):
                attempt(results, f"REST, {route}, {callers} callers",
                        lambda r=route, c=callers: result(wrk(api, r, c, seconds, lines, threads=4)))

        def together(callers):
            running = {route: wrk(api, route, callers, seconds, lines) for route in ROUTES}
            return {route: result(process) for route, process in running.items()}

        for callers in [2] if options.smoke else [8, 64]:
            attempt(results, f"REST, five models at once, {callers} callers each", lambda c=callers: together(c))
        text = statistics.median_low(sorted(texts(99, seed=2), key=len))
        for route in ROUTES:
            for connections, streams in [(1, 1), (2, 2)] if options.smoke else [(1, 1), (16, 16)]:
                attempt(results, f"gRPC, {route}, {connections} x {streams}",
                        lambda r=route, c=connections, s=streams: grpc(api, r, c, s, seconds, [text]))


def tokens_per_second(options, results):
    """An embedding model of another shape alone, in requests of several texts."""
    seconds = 2 if options.smoke else 10
    for name in ["minilm"] if options.smoke else ["minilm", "bert-base", "bert-large"]:
        with tempfile.TemporaryDirectory() as folder:
            cards = Path(folder)
            (cards / name).symlink_to(options.shapes / name)
            with served(PORT, options.data_dir, options.setting, binary=options.binary, cards=cards) as (api, _), corpus() as lines:
                def loaded(callers, inputs):
                    before = metric(api, "usage_tokens_total", outcome="completed")
                    found = result(wrk(api, "embeddings", callers, seconds, lines, inputs=inputs, threads=6))
                    found["tokens/s"] = (metric(api, "usage_tokens_total", outcome="completed") - before) / found["seconds"]
                    return found

                for callers, inputs in [(4, 1)] if options.smoke else [(64, 1), (512, 1), (128, 16)]:
                    attempt(results, f"tokens/s, {name}, {callers} callers, {inputs} texts a request",
                            lambda c=callers, i=inputs: loaded(c, i))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--shapes", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--setting", action="append", default=[], help="a line of configuration")
    parser.add_argument("--smoke", action="store_true", help="little load, to try the script without a GPU")
    options = parser.parse_args()
    options.binary = options.binary.resolve()
    results = {}
    for part in five_models, tokens_per_second:
        part(options, results)
        options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
