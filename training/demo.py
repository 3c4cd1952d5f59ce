"""From nothing to an answer over gRPC, on this machine: `make demo`.

Trains a MobileNetV2 on scikit-learn's scanned digits, exports it, serves it, and classifies held-out pictures as any
client of TF Serving would.
"""

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import tqdm
from absl import app

from keras_mobilenet.client import Client
from training import data

NAME = "digits"
START_SECONDS = 120  # what a loaded machine may need
BATCH = 60

YOUR_OWN = """
The same with pictures of your own, a folder for each class (pictures/train/daisy/1.jpg, ...):
  .venv/bin/python -m training.train --dataset=folder --data_dir=pictures --model=mobilenet_v2 --alpha=0.35 \\
      --image_size=96 --epochs=20 --output_dir=runs/flowers --export_dir=savedmodels/flowers
  .venv/bin/python -m serving.server --model_name=flowers --model_base_path=$PWD/savedmodels/flowers
  .venv/bin/python -m serving.client --server=localhost:8500 --model_name=flowers PICTURE.jpg"""


def main(argv: list[str]) -> None:
    """Train, serve, ask."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    versions = Path("savedmodels") / NAME
    with tempfile.TemporaryDirectory(prefix="demo-") as run:
        command = ["-m", "training.train", f"--recipe={NAME}", f"--output_dir={run}", f"--export_dir={versions}"]
        print(f"Training: python {' '.join(command[:-2])} ...", flush=True)
        subprocess.run([sys.executable, *command], check=True)
    with served(versions) as target:
        print(f"\nServing {versions} at {target}; asking over gRPC, as a client of TF Serving would.")
        with Client(target, model_name=NAME, timeout=60) as client:
            ask(client)
    print(YOUR_OWN)


def ask(client: Client) -> None:
    """Shows the answer for one held-out picture, and the accuracy over all of them."""
    test = data.load("digits")["test"]
    pictures = [test.read(index) for index in range(test.count)]
    shown = pictures[np.random.default_rng().integers(test.count)]
    answer = client.predict([shown[0]])
    print(f"\nA held-out picture of a {test.class_names[shown[1]]}:\n{drawing(shown[0])}\n")
    for score, number in zip(answer["scores"][0], answer["class_ids"][0], strict=True):
        print(f"  {test.class_names[number]}  {score:6.1%}  {'#' * round(40 * score)}")
    hits = 0
    for first in tqdm.trange(0, test.count, BATCH, desc="held out", unit=" requests"):
        batch = pictures[first : first + BATCH]
        best = client.predict([contents for contents, _ in batch])["class_ids"][:, 0]
        hits += int(np.sum(best == [label for _, label in batch]))
    print(f"\n{hits} of {test.count} held-out pictures right over gRPC: {hits / test.count:.1%}")


def drawing(contents: bytes) -> str:
    """A grey picture in characters, two for each pixel."""
    from keras_mobilenet import preprocessing

    grey = preprocessing.decode_image(contents).numpy()[..., 0]
    shades = np.array(list(" .:-=+*#%@"))
    return "\n".join("    " + "".join(np.repeat(row, 2)) for row in shades[grey.astype(int) * 9 // 255])


@contextmanager
def served(versions: Path) -> Iterator[str]:
    """The embedded server on a free port, ended in any case; gives its address."""
    command = [sys.executable, "-m", "serving.server", "--port=0"]
    command += [f"--model_name={NAME}", f"--model_base_path={versions.resolve()}"]
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stderr=log) as server:
        try:
            yield _address(server, log)
        finally:
            server.terminate()
            server.wait(timeout=30)


def _address(server: subprocess.Popen, log: IO[bytes]) -> str:
    """Waits for the line that the server writes when it is ready."""
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        log.seek(0)
        if found := re.search(rb"Running gRPC ModelServer at 0\.0\.0\.0:(\d+)", log.read()):
            return f"localhost:{int(found[1])}"
        time.sleep(0.1)
    log.seek(0)
    raise SystemExit(f"The server did not start within {START_SECONDS} s:\n{log.read().decode(errors='replace')}")


if __name__ == "__main__":
    # An exit by way of Python, so that the processes started here end too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    app.run(main)
