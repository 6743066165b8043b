"""How scripts drive `target/release/callers`, which makes the load, and `target/release/engine`."""

import json
import os
import struct
import subprocess
import sys


class Lines:
    """A process that answers a line of JSON with one."""

    def __init__(self, *command, environment=None):
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=dict(os.environ, **(environment or {})))

    def ask(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} ended with {self.process.wait()}")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def write_bodies(path, bodies):
    """A file of bodies as `callers` reads it: its name."""
    path.write_bytes(b"".join(struct.pack("<I", len(body)) + body for body in bodies))
    return str(path)
