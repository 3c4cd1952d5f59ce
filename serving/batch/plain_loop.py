"""What the job is compared with, a plain loop: `python -m serving.batch.plain_loop FOLDER MODEL PROCESSES`."""

import multiprocessing
import sys

from keras_mobilenet.runtime import Predictor
from serving.batch import pictures
from serving.classify_pictures import find_pictures


def judge(paths: list[str], model: str) -> int:
    """Judges pictures one after the other, and returns how many."""
    predictor = Predictor(model)
    (shape,) = (spec.shape for spec in predictor.inputs.values())
    for path in paths:
        picture = pictures.decode(pictures.read(path), shape[1:3])
        predictor.predict(predictor.image_input(picture.data))
    return len(paths)


def main(folder: str, model: str, processes: int) -> None:
    """Judges a folder's pictures in several processes."""
    paths = [str(path) for path in find_pictures([folder])]
    shares = [(paths[i::processes], model) for i in range(processes)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        print(sum(pool.starmap(judge, shares)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
