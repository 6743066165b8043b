"""The callers of `serving/examples`, against the real server."""

import asyncio
import csv
import datetime
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from decimal import Decimal

import httpx
import pytest
from conftest import KEY, ROOT, free_ports
from faulty import Faulty
from test_tenants import make, settled

EXAMPLES = ROOT / "serving/examples"
SOURCE = ROOT / "serving/clients/python/src"
sys.path[:0] = [str(SOURCE), str(EXAMPLES)]

import analytics_service
import billing_service
import document_service
import search_service
import workflow_step
from ml_inference import AsyncClient, Client, PermissionDenied

LETTER = (
    "Invoice no. 2024-118. Bill to: Harbour Freight Ltd. 40 pallets at EUR 12.50 each. "
    "Total due EUR 500.00 within 30 days. Payable to Siemens in Zürich."
)


@pytest.fixture(scope="module")
def client(server):
    with Client(f"http://{server.api}", KEY, timeout=60) as opened:
        yield opened


def example(server, name, *arguments, **options):
    """What an example prints, as a user runs it."""
    command = ["node"] if name.endswith(".mjs") else [sys.executable]
    done = subprocess.run(
        [*command, str(EXAMPLES / name), f"http://{server.api}", KEY, *arguments],
        text=True,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        timeout=120,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_search(server, client, tmp_path):
    documents = [
        "Polar bears live in the Arctic.",
        "",
        "The giant panda lives in China.",
        "Interest rates rose.",
    ]
    search = search_service.Search(client)
    assert search.query("Where do pandas live?", 1, 0.0) == []
    search.index(documents)
    assert len(search.documents) == 3
    hits = search.query("Where do pandas live?", 2, 0.0)
    assert [hit.document for hit in hits] == [documents[2], documents[0]] and hits[0].score > hits[1].score
    # Kept for five minutes, and not a second more.
    asked = []
    ask = search.asked
    search.asked = lambda *arguments: asked.append(arguments) or ask(*arguments)
    assert search.query("Where do pandas live?", 2, 299.0) is hits and not asked
    assert search.query("Where do pandas live?", 2, 300.0) is not hits and len(asked) == 1
    file = tmp_path / "documents.txt"
    file.write_text("\n".join(documents))
    assert (
        documents[2]
        in example(server, "search_service.py", str(file), "Where do pandas live?").splitlines()[0]
    )


def test_document(server, tmp_path):
    file = tmp_path / "letter.txt"
    file.write_text(LETTER)
    described = json.loads(example(server, "document_service.py", str(file)))
    assert described["kind"] == "invoice" and "Zürich" in described["names"]["LOC"] and described["summary"]

    async def again():
        async with AsyncClient(f"http://{server.api}", KEY) as client:
            replayed = []
            infer = client.infer

            async def watched(*arguments):
                answer = await infer(*arguments)
                replayed.append(answer.replayed)
                return answer

            client.infer = watched
            await document_service.describe(client, "letter.txt", LETTER)
            return replayed

    # A worker that runs again is not charged again.
    assert asyncio.run(again()) == [True] * 3


def test_analytics(client):
    count = 1_000
    source = io.StringIO()
    writer = csv.writer(source)
    writer.writerow(["id", "review", "city"])
    writer.writerows(
        [i, "" if i == 500 else ["I love it!", "Broken, and nobody answers."][i % 2], "Bonn"]
        for i in range(count)
    )
    source.seek(0)
    sink = io.StringIO()
    assert analytics_service.scored(client, source, "review", sink) == count
    rows = list(csv.DictReader(io.StringIO(sink.getvalue())))
    assert [row["id"] for row in rows] == [str(i) for i in range(count)] and rows[3]["city"] == "Bonn"
    assert rows[500]["sentiment_error"] == "empty_input" and rows[500]["sentiment"] == ""
    assert all(row["sentiment"] == ["positive", "negative"][i % 2] for i, row in enumerate(rows) if i != 500)
    with pytest.raises(ValueError, match="id, review, city"):
        analytics_service.scored(client, io.StringIO(source.getvalue()), "text", sink)


def test_workflow(server, client):
    assert workflow_step.route(client, "run-1", LETTER) == workflow_step.Outcome(
        "accounting", "invoice", True
    )
    assert workflow_step.route(client, "run-2", "") == workflow_step.Outcome("person", "empty_input", True)
    with Faulty(server.api) as proxy, Client(proxy.url, KEY, retries=workflow_step.RETRIES) as far:
        proxy.script({"status": 503, "code": "overloaded", "retry_after": 0}, {"drop": "after"})
        assert workflow_step.route(far, "run-3", LETTER).route == "accounting" and len(proxy.seen) == 3
        proxy.script({"stall": True})
        begun = time.monotonic()
        assert workflow_step.route(far, "run-4", LETTER) == workflow_step.Outcome(
            "person", "deadline_exceeded", False
        )
        # What stalls does so for a minute.
        assert time.monotonic() - begun < 30 and int(proxy.seen[0]["x-request-timeout"]) <= 1800


def test_billing(request, server):
    made = make(request, server, "invoiced")
    today = datetime.datetime.now(datetime.timezone.utc).date()
    days = [str(today - datetime.timedelta(days=1)), str(today + datetime.timedelta(days=1))]
    with Client(f"http://{server.api}", made["key"]) as owner:
        owner.sentiment(["one", "two", "three"])
        owner.embeddings("four")
        # 3 at 50 and 1 at 20 micro-dollars.
        total = lambda: billing_service.invoice(owner, *days).total
        assert settled(total, Decimal("0.000170")) == Decimal("0.000170")
        lines = billing_service.invoice(owner, *days).lines
        assert [(line.model, line.inputs, str(line.amount)) for line in lines] == [
            ("embeddings-v2", 1, "0.000020"),
            ("sentiment-v3", 3, "0.000150"),
        ]
    assert str(billing_service.dollars(1_234_567_890_123_456_789)) == "1234567890123.456789"


def test_billing_needs_an_owner(request, server):
    viewer = make(request, server, "not-invoiced", role="viewer")
    with Client(f"http://{server.api}", viewer["key"]) as client:
        with pytest.raises((PermissionError, PermissionDenied)):
            billing_service.invoice(client, "2026-11-01", "2026-11-02")


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node 20")
def test_notification(server):
    texts = ["The meeting is on Tuesday at three.", "Broken on arrival and nobody answers my emails.", ""]
    lines = "\n".join(json.dumps({"id": i, "text": text}) for i, text in enumerate(texts * 30))
    told = [
        json.loads(line) for line in example(server, "notification_service.mjs", input=lines).splitlines()
    ]
    by_id = {message["id"]: message["priority"] for message in told}
    assert [by_id[i] for i in range(90)] == ["normal", "high", "unknown"] * 30
    assert [message["priority"] for message in told[:30]] == ["high"] * 30


BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/clients.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=["client", "langchain", "llama_index", "haystack"])
def test_the_page_of_clients(server, block):
    block = block.replace("http://127.0.0.1:8080", f"http://{server.api}")
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-c", block], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    shown = done.stdout.splitlines()
    if "ml_inference" in block:
        assert shown[0] == "['positive', 'negative'] 2" and shown[1].startswith("empty_input req_")
    else:
        assert shown == ["384"]


def test_gateway(server, tmp_path):
    (port,) = free_ports(1)
    text = (EXAMPLES / "gateway.conf").read_text()
    config = tmp_path / "gateway.conf"
    config.write_text(text.replace("LISTEN", f"127.0.0.1:{port}").replace("SERVER", server.api))
    log = tmp_path / "nginx.log"
    with log.open("w") as out:
        command = ["nginx", "-p", str(tmp_path), "-c", str(config), "-e", "stderr", "-g", "daemon off;"]
        process = subprocess.Popen(command, stderr=out)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(500):
            assert process.poll() is None, log.read_text()
            try:
                assert httpx.get(f"{url}/metrics").status_code == 404
                break
            except httpx.TransportError:
                time.sleep(0.02)
        with Client(url, KEY) as client:
            answer = client.sentiment("I love it!", request_id="through-nginx-1")
            assert (answer.results[0].label, answer.request_id) == ("positive", "through-nginx-1")
            # One that nginx made.
            assert len(client.sentiment("I love it!").request_id) == 32
        # Identity goes through, and so does what the server says of it.
        refused = httpx.get(f"{url}/v1/ml/models", headers={"Authorization": "Bearer tc_test_nobody"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_credentials")
        assert httpx.get(f"{url}/v1/ml/models").json()["error"]["code"] == "missing_credentials"
    finally:
        process.terminate()
        process.wait()
