"""Our Node client against the real server: its own tests, run by Node."""

import os
import shutil
import subprocess

import pytest
from conftest import KEY, ROOT
from faulty import Faulty


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node 20")
def test_node_client(server):
    with Faulty(server.api) as proxy:
        environment = os.environ | {"API": f"http://{server.api}", "PROXY": proxy.url, "KEY": KEY}
        done = subprocess.run(["node", "--test", "test/"], cwd=ROOT / "serving/clients/node", env=environment,
                              capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout and "# pass 0" not in done.stdout
