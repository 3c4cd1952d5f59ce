"""What the two papers evaluate, measured again: `python -m training.paper COMMAND --output_dir=docs/papers`.

tables                  V1's tables 2 to 9 and V2's tables 2 to 7, counted in our models beside the printed figures
manifold                V2's figure 1, with what is lost in n dimensions
dead_kernels [FILE...]  share of depthwise kernels and channels that carry nothing, by layer
curve                   accuracy against multiply-adds, parameters and latency
ablation NAME           trains the variants that the papers compare; `all` for all of them
all                     everything above

Documents are Markdown, figures PNG; those of an earlier run are replaced.
"""

import dataclasses
from pathlib import Path

from absl import app, flags

from training import console
from training.paper import ablation, curve, dead_kernels, manifold, measurements, runs, tables
from training.recipe import Recipe

# --data (weights/ and imagenet/ccby400/) and --pictures (for accuracy and dead channels) are those of training.parity.
COMMANDS = ("tables", "manifold", "dead_kernels", "curve", "ablation", "all")

_OUTPUT = flags.DEFINE_string("output_dir", "docs/papers", "Folder of the documents and figures.")
_RUNS = flags.DEFINE_string("runs", "runs/paper", "Folder of the trained networks and the converted ones.")
_LATENCY = flags.DEFINE_bool("latency", False, "tables, curve, all: measure latency here; otherwise the last measured.")
_ROUNDS = flags.DEFINE_integer("rounds", 30, "Pictures that each network gets for its latency.", lower_bound=3)
_ACCURACY = flags.DEFINE_bool("accuracy", False, "curve, all: measure the weights files of --data.")
_MATRICES = flags.DEFINE_integer("matrices", 1000, "manifold: random matrices for each n.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "manifold: seed of the matrices.", lower_bound=0)
_NETWORK = flags.DEFINE_string("network", None, "dead_kernels: what the files hold, such as mobilenet_v1_0.25_128.")
_MINUTES = flags.DEFINE_float("minutes", 60.0, "ablation: no run is started that would probably end later.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "ablation: runs of each network.", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", runs.BASE.epochs, "ablation: epochs of each run.", lower_bound=1)
_DATASET = flags.DEFINE_string("dataset", "tfrecord", "ablation: as in training.train.")
_DATA_DIR = flags.DEFINE_string("data_dir", "../shared/data/train", "ablation: folder of the pictures.")
_TRAIN = flags.DEFINE_string("train_files", "imagenette96_train*.tfrecord", "ablation, tfrecord: file pattern.")
_TEST = flags.DEFINE_string("test_files", "imagenette96_val*.tfrecord", "ablation, tfrecord: file pattern.")
_LABELS = flags.DEFINE_string("labels_file", "imagenette_labels.txt", "ablation, tfrecord: class names, one a line.")


def _recipe() -> Recipe:
    """What all the ablations' runs have in common."""
    records = {"train_files": _TRAIN.value, "test_files": _TEST.value, "labels_file": _LABELS.value}
    return dataclasses.replace(
        runs.BASE,
        dataset=_DATASET.value,
        data_dir=_DATA_DIR.value,
        epochs=_EPOCHS.value,
        **(records if _DATASET.value == "tfrecord" else {}),
    )


def _measure(output_dir: Path, accuracy: bool) -> None:
    """What the documents show of this machine, where it was asked for."""
    if _LATENCY.value:
        measurements.measure_latency(tables.networks(), Path(_RUNS.value) / "tflite", output_dir, _ROUNDS.value)
    if _ACCURACY.value and accuracy:
        measurements.measure_accuracy(Path(flags.FLAGS.data), output_dir, flags.FLAGS.pictures)


def run(command: str, arguments: list[str]) -> None:
    """Runs a command.

    Raises:
        ValueError: There is no such command, or it does not take these arguments.
    """
    if command not in COMMANDS:
        raise ValueError(f"There is no command {command!r}; allowed are {', '.join(COMMANDS)}.")
    if arguments and command not in ("dead_kernels", "ablation"):
        raise ValueError(f"{command} takes no arguments, and there are {', '.join(arguments)}.")
    if command == "ablation" and len(arguments) != 1:
        raise ValueError(f"ablation takes one name: {', '.join(ablation.ABLATIONS)}, or all.")
    output_dir, data, everything = Path(_OUTPUT.value), Path(flags.FLAGS.data), command == "all"
    chosen = ablation.names(arguments[0] if command == "ablation" else "all")
    files = [Path(name) for name in arguments if command == "dead_kernels"]
    files = files or [data / "weights" / name for name in dead_kernels.DEFAULT_FILES]
    if command in ("tables", "curve", "all"):
        _measure(output_dir, accuracy=command != "tables")
    if command == "tables" or everything:
        tables.run(output_dir, measurements.latencies(output_dir))
    if command == "manifold" or everything:
        manifold.run(output_dir, _MATRICES.value, _SEED.value)
    if command == "dead_kernels" or everything:
        dead_kernels.run(files, _NETWORK.value, data, flags.FLAGS.pictures, output_dir)
    if command == "curve" or everything:
        curve.run(output_dir)
    if command == "ablation" or everything:
        ablation.run(chosen, Path(_RUNS.value), _recipe(), _SEEDS.value, _MINUTES.value, output_dir)


def main(argv: list[str]) -> None:
    """Reads the command line and runs."""
    if len(argv) < 2:
        raise app.UsageError(f"give a command: {', '.join(COMMANDS)}")
    console.only_ours()
    try:
        run(argv[1], argv[2:])
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error


if __name__ == "__main__":
    app.run(main)
