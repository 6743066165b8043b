"""Checkpoints of a model hub, served by their name: the hub is a small one on this machine."""

import hashlib
import http.server
import json
import subprocess
import threading
from pathlib import Path

import httpx
import pytest
from checkpoints import Bert, near, ok, sequence_classifier, softmax, tokenizer, write
from conftest import KEY, start, stop

TEXT = "anna lives near paris and works for acme"
TOPICS = ["sea", "city", "pets"]
COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


class Hub(http.server.ThreadingHTTPServer):
    """Repositories at one commit, by https://huggingface.co/docs/hub/api."""

    def __init__(self, repositories):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories, self.asked, self.cut = repositories, [], None
        self.gated = set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub, path = self.server, self.path.split("?")[0]
        hub.asked.append((self.command, path, self.headers.get("Range"), self.headers.get("Authorization")))
        for name, files in hub.repositories.items():
            if path == f"/api/models/{name}/revision/main" or path == f"/api/models/{name}/revision/{COMMIT}":
                siblings = [{"rfilename": file, "size": len(content)} | self.lfs(file, content)
                            for file, content in files.items()]
                return self.reply(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())
            prefix = f"/{name}/resolve/{COMMIT}/"
            if path.startswith(prefix) and path[len(prefix):] in files:
                if name in hub.gated and self.headers.get("Authorization") != "Bearer hf_good":
                    return self.reply(401, b"", {"X-Error-Code": "GatedRepo"})
                return self.content(files[path[len(prefix):]])
        return self.reply(401, b"", {"X-Error-Code": "RepoNotFound"})

    @staticmethod
    def lfs(file, content):
        return {"lfs": {"sha256": hashlib.sha256(content).hexdigest()}} if file.endswith(".safetensors") else {}

    def content(self, content):
        known = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        if not (asked := self.headers.get("Range")):
            return self.reply(200, content, known)
        begin = int(asked.removeprefix("bytes=").split("-")[0])
        self.reply(206, content[begin:], known | {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"})

    def reply(self, status, body, headers={}):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            cut = self.server.cut if self.server.cut is not None and len(body) > self.server.cut else len(body)
            self.wfile.write(body[:cut])
            self.close_connection = True


def files(folder, name, model, config):
    write(folder, name, model, "entities", {}, config)
    return {path.name: path.read_bytes() for path in (folder / name / "files").iterdir()}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    labels = {"id2label": {str(index): name for index, name in enumerate(TOPICS)}}
    topics = files(folder, "topics", sequence_classifier(1, 3), {"architectures": ["BertForSequenceClassification"]} | labels)
    bare = files(folder, "bare", Bert(5), {"architectures": ["BertModel"]})
    gated = files(folder, "gated", sequence_classifier(2, 3), {"architectures": ["BertForSequenceClassification"]} | labels)
    hub = Hub({"acme/Topics": topics | {"pytorch_model.bin": b"pickle"}, "acme/bare": bare, "acme/gated": gated})
    hub.gated.add("acme/gated")
    yield hub
    hub.shutdown()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def run(request, data, hub, *arguments, **environment):
    command = [request.config.getoption("--binary"), *arguments, "--data-dir", str(data)]
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(data), "PATH": "/usr/bin:/bin"} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def classes(server, model):
    body = {"model": model, "inputs": TEXT}
    return ok(httpx.post(f"http://{server.api}/v1/ml/classify", json=body, headers={"Authorization": f"Bearer {KEY}"}))


def version_of(server, model):
    return ok(httpx.get(f"http://{server.api}/v1/ml/models/{model}", headers={"Authorization": f"Bearer {KEY}"}))["version"]


def expected():
    return dict(zip(TOPICS, softmax(sequence_classifier(1, 3).logits(tokenizer().encode(TEXT)))))


def test_a_repository_is_served_by_its_name_and_pinned(request, hub, data, tmp_path):
    weights = len(hub.repositories["acme/Topics"]["model.safetensors"])
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(data), "HF_TOKEN": ""}
    config = tmp_path / "server.toml"
    config.write_text('[models.bare]\nrepository = "acme/bare"\npooling = "mean"\nrequired = false\n')
    # Every connection breaks off early, so that the weights arrive in parts.
    hub.cut = weights // 3
    arguments = ["--no-cards", "--model", "acme/Topics", "--config", str(config)]
    server = start(request, tmp_path, *arguments, environment=environment, data=data, offline=False)
    hub.cut = None
    answer, version = classes(server, "topics"), version_of(server, "topics")
    stop(server)
    assert answer["model"] == "topics" and version == COMMIT[:12]
    labels = answer["results"][0]["labels"]
    near([label["score"] for label in labels], [expected()[label["label"]] for label in labels])
    [pinned] = data.glob("weights/acme--Topics/pins/main.json")
    assert f"acme/Topics@main is {COMMIT}, pinned in {pinned}" in server.log.read_text()
    pin = json.loads(pinned.read_text())
    assert pin["commit"] == COMMIT and pin["files"]["model.safetensors"]["size"] == weights
    fetched = {path.rsplit("/", 1)[1] for command, path, *_ in hub.asked if command == "GET" and "/resolve/" in path}
    assert fetched == {"config.json", "tokenizer.json", "model.safetensors"}
    ranges = {asked for _, path, asked, _ in hub.asked if path.endswith("model.safetensors") and asked}
    assert f"bytes={weights // 3}-{weights - 1}" in ranges

    # Later starts ask nobody, whether or not they may.
    hub.asked.clear()
    for offline in (False, True):
        server = start(request, tmp_path, *arguments, environment=environment, data=data, offline=offline)
        assert classes(server, "topics")["results"] == answer["results"]
        stop(server)
    assert hub.asked == []


def test_files_are_held_to_the_pin(request, hub, data, tmp_path):
    spoilt = data / "weights" / "acme--bare" / COMMIT / "config.json"
    spoilt.write_bytes(spoilt.read_bytes() + b" ")
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(data)}
    config = tmp_path / "server.toml"
    config.write_text('[models.bare]\nrepository = "acme/bare"\npooling = "mean"\nrequired = false\n')
    arguments = ["--no-cards", "--model", "acme/Topics", "--config", str(config)]
    server = start(request, tmp_path, *arguments, environment=environment, data=data)
    stop(server)
    assert "config.json: SHA-256 is" in server.log.read_text()


def test_models_are_pulled_and_listed(request, hub, data):
    """Of a repository that is served by no line, and of one whose weights are damaged."""
    def models(*arguments, **environment):
        ended = run(request, data, hub, "models", *arguments, "--no-cards", **environment)
        return ended.stdout + ended.stderr

    pulled = models("pull", "acme/gated", HF_TOKEN="hf_good")
    assert f"acme/gated@main is {COMMIT}: 3 files" in pulled, pulled
    hub.asked.clear()
    listed = models("list", HF_HUB_OFFLINE="1")
    assert f"acme/gated@main = {COMMIT[:12]}" in listed and "acme/Topics@main" in listed, listed
    assert "config.json: SHA-256 is" in listed
    shown = models("show", "acme/gated")
    assert '"gated"' in shown and f'"{COMMIT[:12]}"' in shown and "(its commit)" in shown, shown
    assert hub.asked == []
    # What is damaged is fetched again, at the commit that is pinned.
    assert "acme/bare@main is " in models("pull", "acme/bare")
    assert not [path for _, path, *_ in hub.asked if "/api/" in path]
    mended = data / "weights" / "acme--bare" / COMMIT / "config.json"
    assert mended.read_bytes() == hub.repositories["acme/bare"]["config.json"]
    assert "there is no repository acme/none" in models("pull", "acme/none")


@pytest.mark.parametrize("name, environment, reason", [
    ("acme/none", {}, "there is no repository acme/none, or it is private: check the name, or set HF_TOKEN"),
    ("acme/gated", {}, "acme/gated is gated: accept its terms at"),
    ("acme/gated", {"HF_TOKEN": "hf_other"}, "acme/gated is gated: accept its terms at"),
    ("acme/new", {"HF_HUB_OFFLINE": "1"}, "run `ml-inference models pull acme/new@main` once"),
])
def test_what_cannot_be_had_is_said_with_what_to_do(request, hub, tmp_path, name, environment, reason):
    arguments = ["serve", "--no-cards", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--model", name]
    ended = run(request, tmp_path, hub, *arguments, **environment)
    assert ended.returncode == 1 and reason in ended.stderr, ended.stderr
    assert "hf_other" not in ended.stderr


def test_a_token_may_be_in_a_file(request, hub, data, tmp_path):
    token = tmp_path / "token"
    token.write_text("hf_good\n")
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(data), "HF_TOKEN_PATH": str(token)}
    server = start(request, tmp_path, "--no-cards", "--model", "acme/gated", environment=environment, data=data, offline=False)
    assert version_of(server, "gated") == COMMIT[:12] and classes(server, "gated")["results"]
    stop(server)
    assert "hf_good" not in server.log.read_text()
    assert not any("hf_good" in path.read_text(errors="ignore") for path in Path(data).glob("weights/acme--gated/pins/*"))
