"""What km.prune makes of a model, what it refuses, and what km.sparsity counts."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_mobilenet as km
from keras_mobilenet.optimization import pruning_constraint
from keras_mobilenet.optimization.pruning_constraint import PruningConstraint

NOW = {"begin_step": 0, "frequency": 1}


def network(**options):
    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(8, 3, use_bias=False, name="stem")(inputs)
    x = km.BatchNormalization(name="stem_bn")(x)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = keras.layers.Conv2D(12, 1, activation="relu", name="pointwise")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(4, name="logits", **options)(x), name="network")


def zeros(model):
    return {row.layer: row.sparsity for row in km.sparsity(model).layers}


def test_the_model_is_new_made_of_keras_layers_and_pruned_at_once():
    model = network()
    before = model.get_weights()
    pruned = km.prune(model, km.ConstantSparsity(0.5, **NOW))
    assert [type(layer) for layer in pruned.layers] == [type(layer) for layer in model.layers]
    assert [layer.name for layer in pruned.layers] == [layer.name for layer in model.layers]
    assert zeros(pruned) == {"stem": 0.5, "depthwise": 0.0, "pointwise": 0.5, "logits": 0.5}
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    kernel = np.asarray(pruned.get_layer("stem").kernel)
    expected = np.asarray(model.get_layer("stem").kernel)
    np.testing.assert_array_equal(kernel[kernel != 0], expected[kernel != 0])
    assert np.abs(expected[kernel == 0]).max() <= np.abs(expected[kernel != 0]).min()


def test_layers_and_depthwise_choose():
    assert zeros(km.prune(network(), km.ConstantSparsity(0.5, **NOW), depthwise=True))["depthwise"] == 0.5
    assert zeros(km.prune(network(), km.ConstantSparsity(0.5, **NOW), layers=["logits"])) == {
        "stem": 0.0,
        "depthwise": 0.0,
        "pointwise": 0.0,
        "logits": 0.5,
    }


def test_lamp_shares_out_the_same_number_of_zeros(tmp_path):
    schedule = km.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=4, frequency=1)
    pruned = km.prune(network(), schedule, allocation="lamp")
    pruned.compile(keras.optimizers.SGD(0.0), "mse")
    pruned.save(tmp_path / "pruned.keras")
    for model in (pruned, keras.models.load_model(tmp_path / "pruned.keras", compile=True)):
        model.fit(np.zeros((8, 8, 8, 3)), np.zeros((8, 4)), batch_size=1, verbose=0)
        report = km.sparsity(model)
        uniform = km.sparsity(km.prune(network(), km.ConstantSparsity(0.8, **NOW)))
        assert report.zeros == pytest.approx(uniform.zeros, abs=2)  # each kernel is rounded by itself
        assert len({round(row.sparsity, 2) for row in report.layers if row.zeros}) == 3


def test_two_of_four_and_blocks():
    pruned = km.prune(network(), km.ConstantSparsity(0.9, 0), sparsity_m_by_n=(2, 4))
    rows = {row.layer: row for row in km.sparsity(pruned).layers}
    assert rows["pointwise"].two_of_four and rows["logits"].two_of_four and not rows["depthwise"].two_of_four
    assert rows["pointwise"].sparsity == 0.5  # what the pattern says, not the schedule
    blocks = km.prune(network(), km.ConstantSparsity(0.5, **NOW), block_size=(4, 1), block_pooling="MAX")
    kernel = np.asarray(blocks.get_layer("logits").kernel)
    assert set(np.count_nonzero(kernel.reshape(3, 4, 4), axis=1).ravel()) == {0, 4}


def test_two_of_four_waits_for_the_schedules_begin():
    pruned = km.prune(network(), km.ConstantSparsity(0.5, begin_step=5), sparsity_m_by_n=(2, 4))
    assert km.sparsity(pruned).zeros == 0


def test_nested_and_sequential_models():
    inner = network()
    sequential = keras.Sequential([keras.Input((8, 8, 3)), inner, keras.layers.Dense(3, name="top")])
    assert zeros(km.prune(sequential, km.ConstantSparsity(0.5, **NOW))) == {
        "stem": 0.5,
        "depthwise": 0.0,
        "pointwise": 0.5,
        "logits": 0.5,
        "top": 0.5,
    }


def test_pruning_again_goes_on_from_what_is_zero():
    once = km.prune(network(), km.ConstantSparsity(0.5, **NOW))
    again = km.prune(once, km.PolynomialDecay(0.0, 0.8, 0, 10, frequency=1))
    assert zeros(again) == zeros(once)
    mask = np.asarray(again.get_layer("stem").kernel_constraint.mask)
    np.testing.assert_array_equal(mask, np.asarray(once.get_layer("stem").kernel) != 0)
    assert int(again.get_layer("stem").kernel_constraint.step.numpy()) == 1
    more = km.prune(once, km.ConstantSparsity(0.75, **NOW))
    np.testing.assert_array_equal(np.asarray(more.get_layer("stem").kernel)[~mask], 0.0)
    assert zeros(more)["stem"] == 0.75


def test_a_layers_own_constraint_stays():
    model = network(kernel_constraint="non_neg")
    pruned = km.prune(km.prune(model, km.ConstantSparsity(0.25, **NOW)), km.ConstantSparsity(0.5, **NOW))
    constraint = pruned.get_layer("logits").kernel_constraint
    assert isinstance(constraint.constraint, keras.constraints.NonNeg)
    assert float(np.asarray(constraint(-np.ones((12, 4), "float32"))).max()) == 0.0
    config = pruned.get_layer("logits").get_config()
    stripped = keras.layers.Dense.from_config(pruning_constraint.stripped(config))
    assert isinstance(stripped.kernel_constraint, keras.constraints.NonNeg)


def test_stripped_and_frozen_configurations():
    pruned = km.prune(network(), km.ConstantSparsity(0.5, **NOW), depthwise=True)
    for name in ("stem", "depthwise"):
        layer = pruned.get_layer(name)
        plain = type(layer).from_config(pruning_constraint.stripped(layer.get_config()))
        plain.build(layer.input.shape)
        assert len(plain.weights) == len(layer.weights) - 2
        frozen = type(layer).from_config(pruning_constraint.frozen(layer.get_config()))
        key = "kernel_constraint" if name == "stem" else "depthwise_constraint"
        assert getattr(frozen, key).schedule_json is None
        assert isinstance(getattr(frozen, key), PruningConstraint)


def test_files_and_clones(tmp_path):
    pruned = km.prune(network(), km.ConstantSparsity(0.5, **NOW), block_size=(3, 2))
    pruned.save(tmp_path / "pruned.keras")
    clone = keras.models.clone_model(pruned)
    clone.set_weights(pruned.get_weights())
    pictures = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    for model in (keras.models.load_model(tmp_path / "pruned.keras"), clone):
        np.testing.assert_array_equal(np.asarray(model(pictures)), np.asarray(pruned(pictures)))
        assert km.sparsity(model) == km.sparsity(pruned)
        constraint = model.get_layer("stem").kernel_constraint
        assert constraint.get_config() == pruned.get_layer("stem").kernel_constraint.get_config()
        np.testing.assert_array_equal(constraint.mask, pruned.get_layer("stem").kernel_constraint.mask)


@pytest.mark.slow
def test_loading_a_pruned_file_does_not_import_tfmot(tmp_path):
    km.prune(network(), km.ConstantSparsity(0.5, **NOW)).save(tmp_path / "pruned.keras")
    code = (
        "import sys, keras, keras_mobilenet as km; km.BatchNormalization, km.prune;"
        f"model = keras.models.load_model({str(tmp_path / 'pruned.keras')!r}); print(km.sparsity(model).sparsity);"
        "assert 'tensorflow_model_optimization' not in sys.modules and 'tf_keras' not in sys.modules"
    )
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=300)


def test_sparsity_is_a_table_of_frozen_rows():
    report = km.sparsity(km.prune(network(), km.ConstantSparsity(0.5, **NOW)))
    assert report.weights == 3 * 3 * 3 * 8 + 3 * 3 * 8 + 8 * 12 + 12 * 4
    assert report.zeros == sum(row.zeros for row in report.layers) == (216 + 96 + 48) // 2
    assert report.sparsity == pytest.approx(180 / 432)
    lines = str(report).splitlines()
    assert lines[1].split() == ["layer", "kernel", "weights", "zeros", "sparsity", "2:4"]
    assert lines[-1].split() == ["total", "432", "180", "41.7%"]
    with pytest.raises(AttributeError):
        report.name = "other"
    with pytest.raises(ValueError, match="no weights yet"):
        km.sparsity(keras.Sequential([keras.layers.Dense(2)]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": (0, 4)}, "block_size=\\(0, 4\\).*1 or more"),
        ({"block_size": 4}, "block_size=4.*pair"),
        ({"block_size": (4, 16)}, "does not fit `stem`.*27 x 8"),
        ({"block_pooling": "MIN"}, "'MIN'.*AVG"),
        ({"sparsity_m_by_n": (4, 4)}, "\\(4, 4\\).*0 < m < n"),
        ({"sparsity_m_by_n": (2, 4), "block_size": (2, 2)}, "exclude each other"),
        ({"allocation": "global"}, "'global'.*'uniform' or 'lamp'"),
        ({"sparsity_m_by_n": (2, 4), "allocation": "lamp"}, "leave one of them out"),
        ({"layers": ["stem", "nowhere"]}, "nowhere.*stem, pointwise, logits"),
        ({"layers": ["depthwise"]}, "depthwise=True"),
        ({"layers": []}, "nothing to prune"),
    ],
)
def test_arguments_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        km.prune(network(), km.ConstantSparsity(0.5, 0), **options)


def test_schedules_out_of_range_are_named():
    with pytest.raises(TypeError, match=r"schedule=0\.5.*km\.PolynomialDecay"):
        km.prune(network(), 0.5)
    with pytest.raises(ValueError, match="begins at step 5 and ends at step 5"):
        km.prune(network(), km.PolynomialDecay(0.0, 0.5, 5, 5))
    schedule = km.ConstantSparsity(0.5, 10, 20)
    schedule.end_step = 4
    with pytest.raises(ValueError, match="begins at step 10 and ends at step 4"):
        km.prune(network(), schedule)
    schedule = km.ConstantSparsity(0.5, 0)
    schedule.target_sparsity = 1.0
    with pytest.raises(ValueError, match=r"target_sparsity=1\.0"):
        km.prune(network(), schedule)


def test_models_without_anything_to_prune_are_refused():
    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match="nothing to prune"):
        km.prune(keras.Model(inputs, keras.layers.ReLU()(inputs)), km.ConstantSparsity(0.5, 0))
    model = network()
    model.trainable = False
    with pytest.raises(ValueError, match="frozen"):
        km.prune(model, km.ConstantSparsity(0.5, 0))
