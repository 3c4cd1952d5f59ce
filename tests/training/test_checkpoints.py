import keras
import numpy as np
import pytest

from tests.training import tiny
from training.checkpoints import Checkpoints


def checkpoints(folder, trainer, **options):
    return Checkpoints(folder, trainer.model, trainer.optimizer, **options)


def test_restores_the_newest_of_two_kept(tmp_path):
    trainer = tiny.trainer()
    kept = checkpoints(tmp_path, trainer)
    for step in (1, 2, 3):
        trainer.step(*tiny.pictures(step))
        kept.save(step, np.array([step, 2.0], np.float32), seconds=10.0 * step)
    weights = [np.asarray(variable) for variable in trainer.model.variables]

    other = tiny.trainer(seed=2)
    again = checkpoints(tmp_path, other)
    assert again.newest() == 3
    step, sums, seconds = again.restore()
    assert (step, sums.tolist(), seconds) == (3, [3.0, 2.0], 30.0)
    for variable, expected in zip(other.model.variables, weights, strict=True):
        np.testing.assert_array_equal(np.asarray(variable), expected)
    assert sorted({path.name.partition(".")[0] for path in tmp_path.glob("ckpt-*")}) == ["ckpt-2", "ckpt-3"]
    assert again.restore(2)[0] == 2


def test_nothing_to_restore(tmp_path):
    kept = checkpoints(tmp_path, tiny.trainer())
    assert kept.newest() == 0
    step, sums, seconds = kept.restore()
    assert (step, sums.tolist(), seconds) == (0, [0.0, 0.0], 0.0)


def test_leftovers_of_a_killed_process_go(tmp_path):
    trainer = tiny.trainer()
    checkpoints(tmp_path, trainer).save(1, np.zeros(2), 0.0)
    (tmp_path / "ckpt-2.data-00000-of-00001").write_bytes(b"cut short")
    (tmp_path / "ckpt-3_temp").mkdir()
    (tmp_path / "ckpt-3_temp" / "part-00000-of-00001").write_bytes(b"cut short")
    kept = checkpoints(tmp_path, trainer)
    assert kept.restore()[0] == 1
    assert {path.name.partition(".")[0] for path in tmp_path.iterdir()} == {"checkpoint", "ckpt-1"}


def test_another_model_is_refused(tmp_path):
    checkpoints(tmp_path, tiny.trainer()).save(1, np.zeros(2), 0.0)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    optimizer = keras.optimizers.SGD()
    optimizer.build(model.trainable_variables)
    with pytest.raises(ValueError, match="of another model or optimizer than the flags ask for"):
        Checkpoints(tmp_path, model, optimizer).restore()


def test_only_the_chief_writes(tmp_path):
    trainer = tiny.trainer()
    checkpoints(tmp_path, trainer, write=False).save(1, np.zeros(2), 0.0)
    assert list(tmp_path.iterdir()) == []
