"""A client for threads in a real child of fork(): it connects there by itself, and follows what the parent's did."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.kit.loops import node_thread

ROOT = Path(__file__).parents[2]

SCRIPT = """
import os, sys, time
import softstate

def fresh(soft, topic):
    while True:
        try:
            return soft.known(topic)
        except softstate.Stale:
            time.sleep(0.01)

soft = softstate.sync.connect(sys.argv[1])
soft.follow("p/")
soft.publish("p/a", 1)
assert fresh(soft, "p/a") is not None
child = os.fork()
if not child:
    assert soft.mode == "closed", soft.mode
    assert fresh(soft, "p/a").value == 1
    assert soft.publish("p/child", 2) > 0
    soft.close()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert soft.read("p/child").value == 2
print("done")
"""


def test_a_child_has_a_client_of_its_own() -> None:
    with node_thread() as node:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, node.url], cwd=ROOT, capture_output=True, text=True, timeout=40, check=False
        )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
