import os
import subprocess
import sys
import time

import pytest

pytest.importorskip("apache_beam", reason="batch prediction needs apache-beam")

from serving.batch import progress

from .jobs import ROOT

WORKER = """
import sys, time
from serving.batch import progress
counts = progress.reporter(sys.argv[1], int(sys.argv[2]))
counts.add(done=3, bad=1)
counts.add(done=2)
print(flush=True)
time.sleep(60)
"""


def worker(folder, launcher):
    started = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder), str(launcher)], cwd=ROOT, stdout=subprocess.PIPE
    )
    started.stdout.readline()
    return started


def test_counts_of_all_processes_are_added_up(tmp_path, capsys):
    with progress.Line(str(tmp_path), 20):
        progress.reporter(str(tmp_path), os.getpid()).add(done=4)
        workers = [worker(tmp_path, os.getpid()) for _ in range(2)]
        assert progress.counted(str(tmp_path)) == (14, 2)
    for one in workers:
        one.kill()
        one.wait()
    shown = capsys.readouterr().err
    assert "16/20" in shown and "bad=2" in shown


def test_a_worker_ends_with_the_process_that_started_the_job(tmp_path):
    launcher = subprocess.Popen(["sleep", "60"])
    left = worker(tmp_path, launcher.pid)
    time.sleep(1.2)
    assert left.poll() is None
    launcher.kill()
    launcher.wait()
    assert left.wait(timeout=10) == 1
