"""All dialects at once for a minute: every answer is the direct one, none is lost, doubled or swapped, each
is charged once, and whoever leaves meanwhile frees its place.

    data/venv/bin/python benches/dialects/soak.py [--seconds 60] [--data-dir data]

What `serving/tests/clients/test_all_dialects.py` does for a count of calls in `make test`, for as long as
one likes; callers leave in the middle of their calls all the while. Prints what was asked, and fails where
something is not as it should be.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import httpx

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "serving/tests/clients"), str(ROOT / "benches/served")]
from dialects import DIALECTS, Session, answers, ask_all, texts  # noqa: E402
from peers import metric, wait_for  # noqa: E402
from run import served  # noqa: E402

PLAN = json.dumps({"requests_per_minute": 10_000_000, "concurrency_max": 10_000, "weight": 1})
# Callers who leave, at any time.
LEAVING = 8


def operator(options, server, *arguments):
    command, *rest = arguments
    done = subprocess.run([options.binary, command, "--ops", server.ops, "--token", str(server.state / "operator.token"), *rest],
                          capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def tenant(options, server, name):
    operator(options, server, "tenants", "create", name, "--plan", PLAN)
    return operator(options, server, "keys", "create", name, "--role", "owner")["key"]


async def leave(server, key, is_over, seed):
    """Calls of every dialect, each given up at some moment; returns how many were."""
    draw, left = random.Random(seed), 0
    some = texts(6, seed=seed)
    session = Session(server.api, key)
    for number in itertools.count():
        if is_over():
            break
        dialect = draw.choice(DIALECTS)
        call = asyncio.create_task(dialect.ask(session, some, f"leaving-{seed}-{number}"))
        await asyncio.wait([call], timeout=draw.uniform(0.0, 0.3))
        left += call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
    await session.close()
    return left


async def soak(server, keys, seconds):
    session = Session(server.api, keys["direct"])
    direct = await answers(session, texts(400), 40)
    await session.close()
    end = time.monotonic() + seconds
    is_over = lambda: time.monotonic() >= end  # noqa: E731
    leaving = [asyncio.create_task(leave(server, keys["leaving"], is_over, seed)) for seed in range(LEAVING)]
    session = Session(server.api, keys["many"])
    done = await ask_all(session, direct, is_over=is_over)
    await session.close()
    return done, sum(await asyncio.gather(*leaving))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--data-dir", default=str(ROOT / "data"))
    parser.add_argument("--binary", default=str(ROOT / "target/release/ml-inference"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as state:
        settings = ["limits.request_timeout_ms = 300000", "batching.late_wait_max_ms = 300000"]
        with served(18088, options.data_dir, settings, binary=options.binary, state=state) as (api, _):
            host, port = api.split(":")
            server = SimpleNamespace(api=api, ops=f"{host}:{int(port) + 1010}", state=Path(state))
            keys = {name: tenant(options, server, name) for name in ("direct", "many", "leaving")}
            done, left = asyncio.run(soak(server, keys, options.seconds))
            wait_for(lambda: metric(server, "places_taken") == metric(server, "calls_in_flight") == 0)
            with httpx.Client(base_url=f"http://{api}", headers={"Authorization": f"Bearer {keys['many']}"}) as client:
                total = lambda: client.get("/v1/ml/usage").json()["total"]  # noqa: E731
                wait_for(lambda: total()["completed"] >= done.calls.total())
                found = total()
        expected = {"completed": done.calls.total(), "inputs": done.inputs, "refused": 0, "failed": 0, "cancelled": 0, "cached": 0}
        assert {name: found[name] for name in expected} == expected, (found, expected)
        lines = (line for file in (Path(state) / "usage").glob("*.ndjson") for line in file.read_text().splitlines())
        ids = [record["request_id"] for record in (json.loads(line[9:]) for line in lines) if record["tenant"] == "many"]
        assert len(set(ids)) == len(ids) and Counter(id.split(".")[0] for id in ids) == done.calls
    by_dialect = Counter(id.rsplit("-", 1)[0] for id in done.calls)
    print(f"{done.calls.total()} calls with {done.inputs} inputs in {options.seconds:g} s, all answered as directly; {left} callers left")
    print(", ".join(f"{name} {count}" for name, count in sorted(by_dialect.items())))
    assert len(by_dialect) == len(DIALECTS), "some dialect had no turn"


if __name__ == "__main__":
    main()
