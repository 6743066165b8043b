"""A proxy before the real server that does wrong what it is told to: for tests of what clients do then."""

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

# What a test waits for at most, in seconds.
BOUND = 60


class Faulty:
    """`faults`: one for each of the next calls, then none is left:

    - {"status": 503, "code": "overloaded", "retry_after": 0}: answered so; without a code, as a gateway does.
    - {"drop": "before"} or {"drop": "after"}: the connection is closed instead of an answer, before or after
      the server has given one.
    - {"stall": true}: no answer until the proxy is closed. {"drip": true}: the head of one, byte by byte.

    `seen`: the headers of the calls that came, names in lower case. POST /_faults takes a list of them, GET
    /_seen gives those seen since, for tests in other languages."""

    def __init__(self, upstream):
        self.faults, self.seen, self.closing = deque(), [], threading.Event()
        self.client = httpx.Client(base_url=f"http://{upstream}", timeout=BOUND)
        handler = type("Bound", (Handler,), {"proxy": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.client.close()

    def script(self, *faults):
        self.faults.clear()
        self.faults.extend(faults)
        self.seen.clear()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/_seen":
            return self.reply(200, {}, json.dumps(self.proxy.seen).encode())
        self.do_POST()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path == "/_faults":
            self.proxy.script(*json.loads(body))
            return self.reply(200, {}, b"{}")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.proxy.seen.append(headers)
        fault = self.proxy.faults.popleft() if self.proxy.faults else {}
        self.close_connection = bool({"drop", "stall", "drip"} & set(fault))
        if "stall" in fault:
            self.proxy.closing.wait(BOUND)
        elif "drip" in fault:
            self.drip()
        elif "status" in fault:
            code = fault.get("code")
            told = {"error": {"code": code, "message": "as told", "request_id": "req_told", "docs_url": ""}}
            wait = {"Retry-After": str(fault["retry_after"])} if "retry_after" in fault else {}
            self.reply(fault["status"], wait, json.dumps(told).encode() if code else b"<h1>Bad gateway</h1>")
        elif fault.get("drop") != "before":
            forwarded = {name: value for name, value in headers.items() if name not in ("host", "connection")}
            answer = self.proxy.client.request(self.command, self.path, content=body, headers=forwarded)
            if fault.get("drop") != "after":
                kept = {
                    n: v
                    for n, v in answer.headers.items()
                    if n not in ("content-length", "content-encoding", "transfer-encoding", "date")
                }
                self.reply(answer.status_code, kept, answer.content)

    def drip(self):
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000:
            try:
                self.wfile.write(bytes([byte]))
            except OSError:
                return
            if self.proxy.closing.wait(0.05):
                return

    def reply(self, status, headers, body):
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
