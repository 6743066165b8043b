"""Shares of the device between tenants whose callers wait for their answers, by counts of one and the same
run."""

import json
import threading

import httpx
import pytest
from conftest import patient, start, stop
from test_tenants import cli

# About 270 tokens: a few of them take longer than any target, so that the device, not the protocol, is what
# is shared.
TEXT = "the new report was sent to our office " * 34
# Answers of the first tenant before counting starts, and while it lasts.
WARM_UP, COUNTED = 60, 100


@pytest.fixture(scope="module")
def shared(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shares")
    running = start(request, folder, *patient(folder))
    yield running
    stop(running)


def tenant(request, server, name, weight):
    terms = {"requests_per_minute": 1_000_000, "concurrency_max": 1000, "weight": weight}
    cli(request, server, "tenants", "create", name, "--plan", json.dumps(terms))
    return cli(request, server, "keys", "create", name, "--role", "editor")["key"]


def answered(server, callers):
    """What each of `callers` (key, class, connections, routes) was answered while the first got `COUNTED`
    answers."""
    counts, counting, done = [0] * len(callers), threading.Event(), threading.Event()
    warm_up, lock, failures = [0], threading.Lock(), []

    def call(index, key, priority, routes, connection):
        headers = {"Authorization": f"Bearer {key}"}
        body = {"inputs": [TEXT], "parameters": {"priority": priority}}
        with httpx.Client(base_url=f"http://{server.api}", headers=headers, timeout=120) as client:
            turn = connection
            while not done.is_set():
                turn += 1
                response = client.post(f"/v1/ml/{routes[turn % len(routes)]}", json=body)
                with lock:
                    if response.status_code != 200:
                        failures.append(response.text)
                        done.set()
                    elif counting.is_set():
                        counts[index] += not done.is_set()
                        if counts[0] >= COUNTED:
                            done.set()
                    elif index == 0:
                        warm_up[0] += 1
                        if warm_up[0] >= WARM_UP:
                            counting.set()

    threads = [threading.Thread(target=call, args=(index, key, priority, routes, connection))
               for index, (key, priority, connections, routes) in enumerate(callers)
               for connection in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    return counts


@pytest.mark.parametrize(("name", "weights", "classes", "connections", "routes", "ratio_min"), [
    # Shares by weight are 8 to 1.
    ("payer", (8, 1), ("normal", "low"), (8, 16), (["classify"], ["classify"]), 4),
    ("models", (8, 1), ("normal", "low"), (8, 16), (["sentiment"], ["classify"]), 2),
    ("weights", (8, 1), ("normal", "normal"), (12, 24), (["classify"], ["classify"]), 3),
    # What a caller states of its class takes nothing from other tenants.
    ("stated", (8, 1), ("normal", "critical"), (8, 16), (["classify"], ["classify"]), 3),
    # One tenant's classes are 4 to 1.
    ("classes", (1,), ("normal", "low"), (12, 24), (["classify"], ["classify"]), 2),
])
def test_shares_are_by_weight_not_by_connections(request, shared, name, weights, classes, connections, routes, ratio_min):
    keys = [tenant(request, shared, f"{name}-{index}", weight) for index, weight in enumerate(weights)]
    keys += keys[:1] * (len(classes) - len(keys))
    mine, others = answered(shared, list(zip(keys, classes, connections, routes)))
    assert mine >= ratio_min * others, f"{mine} beside {others}"
