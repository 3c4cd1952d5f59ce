"""The policy that the server's threads are scheduled by."""

import os
import subprocess
import sys

import pytest

# A process of its own: pytest's threads stay as they are.
PROGRAM = """
import os
import sys
import threading
from serving.server import scheduling
os.sched_setscheduler(0, int(sys.argv[1]), os.sched_param(0))
scheduling.prefer_throughput()
thread = threading.Thread(target=lambda: print(os.sched_getscheduler(0)))
thread.start()
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="this system has no SCHED_BATCH")
def test_threads_do_not_interrupt_others_unless_another_policy_was_chosen():
    def policy(before):
        done = subprocess.run([sys.executable, "-c", PROGRAM, str(before)], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert policy(os.SCHED_OTHER) == os.SCHED_BATCH
    assert policy(os.SCHED_IDLE) == os.SCHED_IDLE
