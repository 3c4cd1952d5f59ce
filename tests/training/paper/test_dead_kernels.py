import keras
import numpy as np
import pytest

import keras_mobilenet as km
from training.paper import dead_kernels
from training.paper.networks import Network


def pictures(size=32):
    yield np.random.default_rng(0).uniform(-1, 1, (4, size, size, 3)).astype(np.float32)


@pytest.mark.parametrize("build", [km.MobileNetV1, km.MobileNetV2])
def test_a_kernel_that_is_killed_is_found(build):
    model = build((32, 32, 3), 0.25, include_top=False)
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D))
    kernel = layer.kernel.numpy().copy()
    kernel[:, :, 1] = 0
    layer.kernel.assign(kernel)
    found = dead_kernels.measure(model, pictures())
    assert np.flatnonzero(found[0].norms < dead_kernels.THRESHOLD).tolist() == [1]
    assert np.flatnonzero(found[0].raw_norms < dead_kernels.THRESHOLD).tolist() == [1]
    assert found[0].deviations[1] == 0 and found[0].active[1] == 0
    assert all(layer.norms.min() > dead_kernels.THRESHOLD for layer in found[1:])


def test_a_channel_that_stays_below_zero_is_silent_though_its_kernel_lives():
    model = km.MobileNetV1((32, 32, 3), 0.25, include_top=False)
    beta = model.get_layer("conv_dw_1_bn").beta
    beta.assign(np.array([-9.0] + [1.0] * 7))
    found = dead_kernels.measure(model, pictures())[0]
    assert found.norms[0] > dead_kernels.THRESHOLD
    assert found.active[0] == 0 and found.deviations[0] == 0
    assert found.active[1:].min() > 0.5


def test_figures_are_those_of_the_activations():
    model = km.MobileNetV1((32, 32, 3), 0.25, include_top=False)
    images = next(pictures())
    outputs = np.asarray(keras.Model(model.inputs, model.get_layer("conv_dw_2_relu").output)(images))
    deviations = outputs.std(axis=(0, 1, 2))
    found = dead_kernels.measure(model, [images[:1], images[1:]])[1]
    np.testing.assert_allclose(found.deviations, deviations / np.sqrt(np.mean(deviations**2)), rtol=1e-2)
    np.testing.assert_allclose(found.active, np.mean(outputs > 0, axis=(0, 1, 2)), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("mobilenet_v1_0.25_128_slim_float.h5", Network("mobilenet_v1", 0.25, 128)),
        ("mobilenet_2_5_224_tf_no_top.h5", Network("mobilenet_v1", 0.25, 224)),
        ("tf2_mobilenet_v2_1.0_224_ptq.tflite", Network("mobilenet_v2", 1.0, 224)),
        ("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96.h5", Network("mobilenet_v2", 0.35, 96)),
    ],
)
def test_names_say_which_network_it_is(name, network, tmp_path):
    assert dead_kernels.network_of(tmp_path / name) == network


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="There is no file"):
        dead_kernels.load(tmp_path / "none.h5")
    (tmp_path / "mine.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"'mine.h5' does not say which network it is: pass --network="):
        dead_kernels.load(tmp_path / "mine.h5")


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant.tflite", "mobilenet_v1_0.25_128_slim_float.h5"])
def test_published_files(name, shared_data):
    """Few kernels are dead, whatever is said, and what is dead is in the first layers."""
    model = dead_kernels.load(shared_data / "weights" / name)
    found = dead_kernels.measure(model, dead_kernels.batches(shared_data, 128, 10))
    assert [layer.name for layer in found] == [f"conv_dw_{number}" for number in range(1, 14)]
    assert dead_kernels.share([layer.norms for layer in found], 0.01) < 1
    assert dead_kernels.share([found[0].deviations], 0.01) > 20


@pytest.mark.slow
def test_keras_files_of_all_stages(tmp_path, shared_data):
    """Whole models: float, and quantization-aware."""
    model = km.MobileNetV2((64, 64, 3), 0.35, weights=shared_data / "weights/mobilenet_v2_0.35_224_no_top_float.h5")
    aware = km.quantize_aware(model, next(dead_kernels.batches(shared_data, 64, 8)))
    model.save(tmp_path / "float.keras")
    aware.save(tmp_path / "aware.keras")
    figures = []
    for name in ("float.keras", "aware.keras"):
        loaded = dead_kernels.load(tmp_path / name)
        found = dead_kernels.measure(loaded, dead_kernels.batches(shared_data, 64, 8))
        figures.append([dead_kernels.share([layer.norms], 0.1) for layer in found])
    np.testing.assert_allclose(*figures, atol=5)
