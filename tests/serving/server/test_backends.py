"""Session configuration: options that contradict each other, and what --mixed_precision=bfloat16 does to answers."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import keras_mobilenet as km
from serving.server import backends, config, saved_model, servable, status
from tests.serving.server import tiny_models

BATCH = 4


def load(version, mixed_precision):
    session = backends.session_config(config.Options(mixed_precision=mixed_precision))
    return saved_model.SavedModelBackend(config=session).load(version)


def test_contradicting_options_are_refused(tmp_path):
    with pytest.raises(status.ServingError, match="You cannot configure all"):
        backends.session_config(config.Options(tensorflow_session_parallelism=1, tensorflow_intra_op_parallelism=1))
    chosen = backends.session_config(config.Options(tensorflow_session_parallelism=3))
    assert (chosen.intra_op_parallelism_threads, chosen.inter_op_parallelism_threads) == (3, 3)


def test_mixed_precision(tmp_path):
    random = np.random.default_rng(0)
    x, weights = random.random((4, 64), np.float32), random.random((64, 64), np.float32)
    version = tiny_models.product(tmp_path / "1", weights)

    def answer(mode):
        loaded = load(version, mode)
        return loaded.run("serving_default", {"x": x}, ["y"], servable.Call())[0]

    exact = x @ weights
    x_rounded, weights_rounded = (array.astype(tf.bfloat16.as_numpy_dtype).astype(np.float32) for array in (x, weights))
    np.testing.assert_allclose(answer(""), exact, rtol=1e-5)
    if bfloat16_cpu():
        np.testing.assert_allclose(answer("bfloat16"), x_rounded @ weights_rounded, rtol=2**-8)
        assert np.abs(answer("bfloat16") / exact - 1).max() > 1e-4
    else:
        np.testing.assert_allclose(answer("bfloat16"), exact, rtol=1e-5)
    with pytest.raises(status.ServingError, match="--mixed_precision=float16 is not supported; bfloat16 is"):
        backends.session_config(config.Options(mixed_precision="float16"))


def bfloat16_cpu():
    """Whether TensorFlow takes bfloat16 on this CPU."""
    return "avx512f" in Path("/proc/cpuinfo").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not bfloat16_cpu(), reason="TensorFlow does not take bfloat16 on this CPU")
def test_bfloat16_keeps_the_classes_of_real_photos(shared_data, imagenet_photos, tmp_path):
    encoded, classes = imagenet_photos
    model = km.MobileNetV2(weights=shared_data / "weights" / "mobilenet_v2_1.0_224_quant.tflite")
    version = km.export_saved_model(model, tmp_path)
    pieces = [encoded[start : start + BATCH] for start in range(0, len(encoded), BATCH)]
    batches = [np.asarray(km.decode_and_resize(piece, (224, 224))).astype(np.uint8) for piece in pieces]

    def probabilities(mode):
        loaded = load(version, mode)
        (name,) = loaded.signatures["serving_default"].inputs
        answers = [
            loaded.run("serving_default", {name: batch}, ["probabilities"], servable.Call())[0] for batch in batches
        ]
        loaded.close()
        return np.concatenate(answers)

    exact, rounded = probabilities(""), probabilities("bfloat16")
    same = np.sum(exact.argmax(1) == rounded.argmax(1))
    right = [100 * np.mean(scores.argmax(1) == classes) for scores in (exact, rounded)]
    print(f"same best class in {same} of {len(classes)}; top-1 {right[0]:.1f} %, in bfloat16 {right[1]:.1f} %")
    assert 0.96 * len(classes) <= same
    assert right[1] >= right[0] - 2
    # It was honoured: bfloat16 has 8 bits of mantissa.
    assert np.abs(exact - rounded).max() > 1e-3
