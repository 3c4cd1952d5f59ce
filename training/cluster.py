"""The devices that a run trains on: one, several of this machine, or several machines."""

import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Cluster:
    """This process's place among those that train together.

    Args:
        strategy: TensorFlow's distribution strategy.
        workers: Number of processes.
        worker: This one's number, from 0.
    """

    strategy: tf.distribute.Strategy
    workers: int = 1
    worker: int = 0

    @property
    def chief(self) -> bool:
        """Whether this is the process whose files count."""
        return self.worker == 0

    def distribute(self, batches: Callable[..., tf.data.Dataset], batch_size: int) -> tf.data.Dataset:
        """Training batches, each replica's part of the global batch.

        Args:
            batches: `batches(num_workers=..., worker=...)` gives a process's part of each global batch.
            batch_size: Of the global batch.
        """

        def pipeline(context: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
            own = batches(num_workers=self.workers, worker=self.worker)
            return own if context is None else own.rebatch(context.get_per_replica_batch_size(batch_size))

        if self.strategy.num_replicas_in_sync == 1:
            return pipeline()
        return self.strategy.distribute_datasets_from_function(pipeline)

    def publish(self, save: Callable[[str], None], path: Path) -> None:
        """Writes a file on the chief, whole or not at all, and lets the others wait for it.

        Raises:
            FileNotFoundError: A worker does not see the chief's file.
        """
        if self.chief:
            unfinished = path.with_name(f"unfinished-{path.name}")
            save(str(unfinished))
            os.replace(unfinished, path)
        self.wait()
        if not path.exists():
            raise FileNotFoundError(
                f"Worker {self.worker} does not see {path}, which the chief wrote: --output_dir has to be on a file "
                "system that all workers share."
            )

    def total(self, counts: np.ndarray) -> np.ndarray:
        """Adds up every process's counts.

        Args:
            counts: int64 [n] of this process.
        """
        if self.workers == 1:
            return counts
        local = self.strategy.num_replicas_in_sync // self.workers

        def own(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
            """This process's counts on its first device, zeros on the others."""
            return tf.constant(counts * (context.replica_id_in_sync_group % local == 0))

        values = self.strategy.experimental_distribute_values_from_function(own)
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None).numpy()

    def agree(self, number: int) -> int:
        """The chief's number, on all processes."""
        return int(self.total(np.array([number if self.chief else 0]))[0])

    def check_equal(self, variables: Sequence[keras.Variable]) -> None:
        """Makes sure that all processes hold the same values.

        Raises:
            RuntimeError: They don't.
        """
        checksum = 0
        for variable in variables:
            checksum = zlib.crc32(variable.numpy().tobytes(), checksum)
        differ = self.total(np.array([checksum != self.agree(checksum)], np.int64))[0]
        if differ:
            raise RuntimeError(
                f"{differ} of {self.workers} workers hold other weights than the chief: do all of them run the same "
                "versions, on the same kind of machine?"
            )

    def wait(self) -> None:
        """Returns when all processes have come here."""
        self.total(np.zeros(1, np.int64))


def join(name: str) -> Cluster:
    """Joins the devices of `--strategy`.

    Args:
        name: "one", "mirrored" (all GPUs of this machine) or "multi_worker" (the processes in `TF_CONFIG`).

    Raises:
        ValueError: `TF_CONFIG` does not describe a cluster.
    """
    if name == "one":
        return Cluster(tf.distribute.get_strategy())
    if name == "mirrored":
        return Cluster(tf.distribute.MirroredStrategy())
    example = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        workers, worker = len(config["cluster"]["worker"]), int(config["task"]["index"])
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"--strategy=multi_worker needs TF_CONFIG in the environment of every worker, such as {example}; it is "
            f"{os.environ.get('TF_CONFIG')!r}."
        ) from error
    return Cluster(tf.distribute.MultiWorkerMirroredStrategy(), workers, worker)
