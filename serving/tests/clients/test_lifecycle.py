"""Models come and go while the server answers: nobody's call fails for it, and memory comes back."""

import json
import shutil
import subprocess
import threading
from pathlib import Path

import grpc
import httpx
import pytest
from checkpoints import ok, sequence_classifier, write
from conftest import KEY, start, stop
from peers import wait_for

TEXT = "anna lives near paris and works for acme"
LABELS = ["sea", "city", "pets"]
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}


def checkpoint(folder, name, seed):
    """A small classifier with weights of its own."""
    config = {"architectures": ["BertForSequenceClassification"],
              "id2label": {str(index): label for index, label in enumerate(LABELS)}}
    write(folder / "of-cards", name, sequence_classifier(seed, 3), "entities", {}, config, None)
    (folder / "of-cards" / name / "files").rename(folder / name)
    return folder / name


def replace(checkpoint, other):
    """Puts another's files in a checkpoint's folder."""
    for file in other.iterdir():
        shutil.copy(file, checkpoint / file.name)


class Admin:
    """The operator."""

    def __init__(self, server):
        token = (server.state / "operator.token").read_text().strip()
        self.client = httpx.Client(base_url=f"http://{server.ops}/admin/v1", timeout=60,
                                   headers={"Authorization": f"Bearer {token}"})

    def change(self, name, verb, **body):
        return self.client.post(f"/models/{name}/{verb}", json=body)

    def models(self):
        return {model["name"]: model for model in ok(self.client.get("/models"))["models"]}

    def audit(self, action):
        return [entry for entry in ok(self.client.get("/audit"))["entries"] if entry["action"] == action]


class Load:
    """Callers who call a model all the time; what each of them was answered."""

    def __init__(self, server, model, callers=4):
        self.url, self.model, self.over = f"http://{server.api}/v1/ml/classify", model, threading.Event()
        self.answers = []
        self.threads = [threading.Thread(target=self.call) for _ in range(callers)]

    def call(self):
        with httpx.Client(headers=AUTHORIZED, timeout=60) as client:
            while not self.over.is_set():
                response = client.post(self.url, json={"model": self.model, "inputs": [TEXT]})
                self.answers.append((response.status_code, response.text))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_for(lambda: len(self.answers) > 20)
        return self

    def more(self, count=20):
        """Waits for answers to calls that began after this."""
        goal = len(self.answers) + len(self.threads) + count
        wait_for(lambda: len(self.answers) >= goal)

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()


def classify(server, model):
    return httpx.post(f"http://{server.api}/v1/ml/classify", headers=AUTHORIZED, timeout=60,
                      json={"model": model, "inputs": [TEXT]})


def scores(answer):
    """What was found, without what differs from call to call."""
    return json.dumps(json.loads(answer)["results"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lifecycle")


@pytest.fixture(scope="module")
def server(request, folder):
    topics, other = checkpoint(folder, "topics", 1), checkpoint(folder, "other", 2)
    running = start(request, folder, "--no-cards", "--model", str(topics), "--model", str(other))
    yield running
    stop(running)


@pytest.fixture(scope="module")
def admin(server):
    return Admin(server)


def test_nobody_notices_a_reload(server, admin):
    before = scores(ok_text(classify(server, "topics")))
    with Load(server, "topics") as load, Load(server, "other", callers=1) as beside:
        for _ in range(5):
            assert admin.change("topics", "reload").status_code == 200
            load.more()
    assert {status for status, _ in load.answers + beside.answers} == {200}
    assert {scores(text) for _, text in load.answers} == {before}
    reloads = admin.audit("model.reload")
    assert len(reloads) == 5 and reloads[0]["subject"] == "topics" and reloads[0]["actor"] == "operator"
    assert reloads[0]["before"] == reloads[0]["after"] and reloads[0]["after"]["status"] == "loaded"


def test_a_version_takes_over_from_another(server, admin, folder):
    old, kept = scores(ok_text(classify(server, "topics"))), admin.models()["topics"]
    spare = folder / "spare"
    shutil.copytree(folder / "topics", spare)
    replace(folder / "topics", checkpoint(folder, "newer", 3))
    with Load(server, "topics") as load:
        changed = ok(admin.change("topics", "reload"))
        load.more()
    new = scores(ok_text(classify(server, "topics")))
    assert new != old and changed["version"] != kept["version"] and changed["digest"] != kept["digest"]
    assert {status for status, _ in load.answers} == {200}
    found = [scores(text) for _, text in load.answers]
    assert set(found) == {old, new}, "each call is answered by one version"
    (entry, *_) = admin.audit("model.reload")
    assert (entry["before"]["version"], entry["after"]["version"]) == (kept["version"], changed["version"])
    replace(folder / "topics", spare)
    assert ok(admin.change("topics", "reload"))["digest"] == kept["digest"]
    assert scores(ok_text(classify(server, "topics"))) == old


def test_what_cannot_be_loaded_changes_nothing(server, admin, folder):
    before = scores(ok_text(classify(server, "topics")))
    weights = folder / "topics" / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-4])
    try:
        refused = admin.change("topics", "reload")
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "model_not_loadable")
        assert "model.safetensors" in refused.json()["error"]["message"]
        assert scores(ok_text(classify(server, "topics"))) == before
    finally:
        weights.write_bytes(kept)
    for name, status, code in (("nothing", 404, "model_not_found"), ("..", 404, "not_found"), ("a%2Fb", 404, "model_not_found")):
        refused = admin.change(name, "load")
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, code), name
    refused = admin.change("new", "load", checkpoint=str(folder / "nowhere"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "model_not_loadable")
    refused = admin.change("new", "load", checkpoint="x,size=3")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
    assert httpx.post(f"http://{server.ops}/admin/v1/models/topics/unload", json={}).status_code == 401
    assert admin.models().keys() == {"topics", "other"}


def test_unloaded_and_loaded_again(server, admin):
    with Load(server, "topics") as load, Load(server, "other", callers=1) as beside:
        unloaded = ok(admin.change("topics", "unload"))
        load.more()
        assert ok(admin.change("topics", "unload")) == admin.models()["topics"], "it is already"
        assert unloaded["status"] == "unloaded"
        refused = classify(server, "topics")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_unavailable")
        assert httpx.get(f"http://{server.ops}/readyz").status_code == 200, "as it is wanted"
        listed = {m["name"]: m["status"] for m in ok(httpx.get(f"http://{server.api}/v1/ml/models", headers=AUTHORIZED))["models"]}
        assert listed == {"topics": "unavailable", "other": "loaded"}
        assert ok(admin.change("topics", "load"))["status"] == "loaded"
        load.more()
    assert {status for status, _ in beside.answers} == {200}
    assert {status for status, _ in load.answers} == {200, 503}
    codes = {json.loads(text)["error"]["code"] for status, text in load.answers if status == 503}
    assert codes == {"model_unavailable"}, "nothing but that it is not there"
    statuses = [status for status, _ in load.answers]
    assert statuses[0] == statuses[-1] == 200
    (entry, *_) = admin.audit("model.unload")
    assert (entry["before"]["status"], entry["after"]["status"]) == ("loaded", "unloaded")


def test_many_who_want_a_model_load_it_once(server, admin):
    ok(admin.change("topics", "unload"))
    before = len(admin.audit("model.load"))
    threads = [threading.Thread(target=lambda: ok(admin.change("topics", "load"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admin.audit("model.load")) == before + 1
    ok(classify(server, "topics"))


def resident(server):
    """Bytes of memory that a server has."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) << 10


def test_memory_comes_back(request, server, admin, folder):
    weights = Path(request.config.getoption("--data-dir")).resolve() / "weights"
    (revision,) = (path for path in weights.glob("*MiniLM*/*") if path.is_dir())
    large = folder / "large"
    large.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (large / name).symlink_to(revision / name)
    size = (large / "model.safetensors").stat().st_size
    given = f"{large},task=embeddings,pooling=mean"
    without = resident(server)
    for _ in range(3):
        ok(admin.change("large", "load", checkpoint=given))
        assert resident(server) - without > size * 0.8
        ok(admin.change("large", "unload"))
        # The allocator gives pages back a second after they are free, when somebody asks it for others.
        wait_for(lambda: classify(server, "other") and resident(server) - without < size * 0.3)


def test_a_server_that_starts_again_has_the_same(request, tmp_path):
    topics, other = checkpoint(tmp_path, "topics", 1), checkpoint(tmp_path, "other", 2)
    arguments = ("--no-cards", "--model", str(topics))
    server = start(request, tmp_path, *arguments)
    admin = Admin(server)
    ok(admin.change("topics", "unload"))
    ok(admin.change("later", "load", checkpoint=str(other)))
    expected = scores(ok_text(classify(server, "later")))
    stop(server)
    server = start(request, tmp_path, *arguments)
    try:
        models = Admin(server).models()
        assert {name: model["status"] for name, model in models.items()} == {"topics": "unloaded", "later": "loaded"}
        assert scores(ok_text(classify(server, "later"))) == expected
    finally:
        stop(server)


def test_servers_that_share_a_store_do_the_same(request, tmp_path, redis_config):
    topics, other = checkpoint(tmp_path, "topics", 1), checkpoint(tmp_path, "other", 2)
    servers = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        servers.append(start(request, tmp_path / name, "--no-cards", "--model", str(topics), *redis_config))
    one, two = servers
    statuses = lambda server: {name: model["status"] for name, model in Admin(server).models().items()}  # noqa: E731
    try:
        ok(Admin(one).change("later", "load", checkpoint=str(other)))
        wait_for(lambda: statuses(two).get("later") == "loaded")
        assert scores(ok_text(classify(two, "later"))) == scores(ok_text(classify(one, "later")))
        ok(Admin(two).change("topics", "unload"))
        wait_for(lambda: statuses(one)["topics"] == "unloaded")
        wait_for(lambda: classify(one, "topics").status_code == 503)
    finally:
        for server in servers:
            stop(server)


def test_the_command_line_changes_models(request, server, admin):
    def run(*arguments):
        command = [request.config.getoption("--binary"), "models", *arguments, "--ops", server.ops,
                   "--token", str(server.state / "operator.token")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    code, told, _ = run("unload", "topics")
    assert code == 0 and json.loads(told)["status"] == admin.models()["topics"]["status"] == "unloaded"
    code, told, _ = run("load", "topics")
    assert code == 0 and json.loads(told) == admin.models()["topics"]
    assert run("reload", "topics")[0] == 0
    code, _, error = run("load", "nothing")
    assert code == 1 and "no such model" in error


def test_clients_of_triton_change_models(server, admin):
    http = pytest.importorskip("tritonclient.http")
    triton_grpc = pytest.importorskip("tritonclient.grpc")
    for client in (http.InferenceServerClient(server.api), triton_grpc.InferenceServerClient(server.api)):
        client.unload_model("topics", headers={"authorization": f"Bearer {KEY}"})
        assert admin.models()["topics"]["status"] == "unloaded"
        # Health is told within a moment.
        wait_for(lambda: not client.is_model_ready("topics", headers={"authorization": f"Bearer {KEY}"}))
        client.load_model("topics", headers={"authorization": f"Bearer {KEY}"})
        assert admin.models()["topics"]["status"] == "loaded"
        client.close()
    (entry, *_) = admin.audit("model.reload")
    assert entry["actor"].startswith("development/")


def test_only_managers_change_models_of_all_tenants(server, admin):
    assert admin.client.post("/tenants", json={"name": "acme", "plan": "enterprise"}).status_code == 201
    key = admin.client.post("/tenants/acme/keys", json={"role": "owner"}).json()["key"]
    authorized = {"Authorization": f"Bearer {key}"}
    url = f"http://{server.api}/v2/repository/models/topics"
    assert httpx.post(f"{url}/unload", headers=authorized).status_code == 403
    assert httpx.post(f"{url}/load", headers=authorized).status_code == 200, "it is loaded"
    assert httpx.post(f"{url}/unload").status_code == 401
    with grpc.insecure_channel(server.api) as channel:
        unload = channel.unary_unary("/inference.GRPCInferenceService/RepositoryModelUnload")
        with pytest.raises(grpc.RpcError) as raised:
            unload(b"\x12\x06topics", metadata=(("authorization", f"Bearer {key}"),))
    assert raised.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert admin.models()["topics"]["status"] == "loaded"


def ok_text(response):
    assert response.status_code == 200, response.text
    return response.text
