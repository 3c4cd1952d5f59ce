"""DeepLabv3 beside table 7 of the MobileNetV2 paper, and beside Coral's file run by LiteRT."""

import math

import keras
import numpy as np
import pytest

import keras_mobilenet as km
from keras_mobilenet import cost, deeplab_v3

V1, V2 = "mobilenet_v1", "mobilenet_v2"
DM05 = "deeplabv3_mnv2_dm05_pascal_quant.tflite"
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # of the evaluation at several scales: arXiv:1706.05587, section 4.1


def warmed_up(model, pictures):
    """Gives batch norm the statistics of pictures, without which a new network puts out next to nothing."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(pictures, training=True)
    return model


def noise(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


def counted(backbone, aspp, output_stride, size):
    model = km.DeepLabV3(backbone, image_size=None, output_stride=output_stride, aspp=aspp)
    return model, cost.count(model, (size, size, 3))


def as_counted_in_the_paper(backbone, aspp, output_stride, size, rates=None):
    """Multiply-adds with what the paper's count has more than ours: atrous convolutions on padded maps, and resizing.

    TensorFlow 1 ran an atrous convolution by cutting the map into rate x rate pieces of equal size, for which it was
    padded to the next multiple of the rate. Each score of the enlarged map counts as one.
    """
    model, total = counted(backbone, aspp, output_stride, size)
    added = math.prod(total.layers[-1].output_shape)
    for row in total.layers:
        rate = getattr(model.get_layer(row.name), "dilation_rate", (1, 1))[0]
        if rates and row.name in ("aspp1", "aspp2", "aspp3"):
            rate = rates[int(row.name[-1]) - 1]
        if rate > 1:
            side = row.output_shape[0]
            added += row.multiply_adds * ((math.ceil(side / rate) * rate / side) ** 2 - 1)
    return total.multiply_adds + added


@pytest.mark.parametrize(
    ("backbone", "aspp", "parameters", "multiply_adds", "formula"),
    [(V2, False, 2.11e6, 2.75e9, 2.741e9), (V2, True, 4.52e6, 5.8e9, 5.364e9), (V1, True, 11.15e6, 14.25e9, 12.761e9)],
)
def test_counts_are_those_of_table_7(backbone, aspp, parameters, multiply_adds, formula):
    _, total = counted(backbone, aspp, 16, 513)
    assert total.parameters == pytest.approx(parameters, abs=5e3)
    assert total.multiply_adds == pytest.approx(formula, abs=1e6)
    rel = 0.01 if aspp and backbone == V2 else 0.002  # 5.8 has two digits
    assert as_counted_in_the_paper(backbone, aspp, 16, 513) == pytest.approx(multiply_adds, rel=rel)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "aspp", "multiply_adds", "rates"),
    [
        (V2, False, 152.6e9, None),
        (V2, True, 387e9, None),
        # The row fits rates of 12, 18, 24; with 12, 24, 36, which fit the row above, it would be 990.9.
        (V1, True, 941.9e9, (12, 18, 24)),
    ],
)
def test_counts_at_stride_8_over_scales_and_flips(backbone, aspp, multiply_adds, rates):
    sizes = [int(512 * scale) + 1 for scale in SCALES]
    once = sum(as_counted_in_the_paper(backbone, aspp, 8, size, rates) for size in sizes)
    assert 2 * once == pytest.approx(multiply_adds, rel=0.002)


def test_the_head_reads_the_320_channel_map():
    model = km.DeepLabV3(image_size=65)
    assert model.get_layer("aspp0").input.shape[-1] == 320
    assert all(layer.name != "Conv_1" for layer in model.layers)
    assert model.get_layer("concat").output.shape == (None, 5, 5, 512)
    assert model.output_shape == (None, 65, 65, 21)


@pytest.mark.slow
@pytest.mark.parametrize(("output_stride", "rates"), [(16, [6, 12, 18]), (8, [12, 24, 36])])
def test_atrous_rates_double_at_stride_8(output_stride, rates):
    model = km.DeepLabV3(V1, 0.25, 65, output_stride, aspp=True)
    assert [model.get_layer(f"aspp{number}").dilation_rate[0] for number in (1, 2, 3)] == rates
    assert model.get_layer("logits").output.shape[1] == 64 // output_stride + 1


@pytest.mark.slow
@pytest.mark.parametrize("image_size", [(65, 97), (50, 77)])
@pytest.mark.parametrize("opened", [False, True])
def test_other_sizes(image_size, opened):
    pictures = noise(2, *image_size, 3)
    model = warmed_up(km.DeepLabV3(V1, 0.25, None if opened else image_size, classes=3, aspp=True), pictures)
    answer = model(pictures).numpy()
    assert answer.shape == (2, *image_size, 3) and np.isfinite(answer).all()
    assert np.abs(answer - answer.mean((1, 2), keepdims=True)).max() > 1e-6  # not the pooled branch alone


def test_scores_keep_their_place():
    """Over 16 times as many pixels every 16th score is one of the map's."""
    scores = np.random.default_rng(0).normal(size=(1, 5, 7, 3)).astype("float32")
    enlarged = deeplab_v3.ResizeLike()([scores, np.zeros((1, 65, 97, 1), "float32")])
    np.testing.assert_allclose(enlarged[:, ::16, ::16], scores, atol=1e-6)
    between = (scores[:, 0, 0] + scores[:, 1, 0]) / 2
    np.testing.assert_allclose(enlarged[:, 8, 0], between, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet"}, "backbone='resnet'. is not one of 'mobilenet_v1', 'mobilenet_v2'"),
        ({"output_stride": 32}, "output_stride=32. is not one of 16, 8"),
        ({"aspp": "yes"}, "aspp='yes'. is not one of False, True"),
        ({"aspp": 1}, "aspp=1. is not one of"),
        ({"classes": 0}, "classes=0"),
        ({"alpha": -1}, "alpha=-1"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"image_size": "513"}, "image_size='513'. is neither the side"),
        ({"image_size": (513,)}, r"image_size=\(513,\). is neither the side"),
        ({"image_size": 16}, "is not an image shape"),
        ({"image_size": True}, "image_size=True"),
        ({"backbone": V1, "divisor": 1}, "V1 rounds no channel counts"),
        ({"divisor": 0}, "divisor=0"),
        ({"weights": "no_such_file.h5"}, "there is no file no_such_file.h5"),
        ({"batch_norm_momentum": 2}, "batch_norm_momentum=2"),
    ],
)
def test_unknown_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        km.DeepLabV3(**{"image_size": 65} | options)


@pytest.fixture
def weights(shared_data):
    return shared_data / "weights"


def test_loads_a_backbone(weights):
    with pytest.warns(
        UserWarning,
        match="no weights that fit `image_pooling`, `image_pooling_bn`, `aspp0`.*left at their initial values",
    ):
        model = km.DeepLabV3(V2, 0.35, 65, weights=weights / "mobilenet_v2_0.35_224_no_top_float.h5")
    backbone = km.MobileNetV2(alpha=0.35, include_top=False, weights=weights / "mobilenet_v2_0.35_224_no_top_float.h5")
    for name in ("Conv1", "block_7_depthwise", "block_16_project"):
        assert np.array_equal(model.get_layer(name).kernel, backbone.get_layer(name).kernel)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "alpha", "file"),
    [(V1, 0.25, "mobilenet_v1_0.25_128_quant.tflite"), (V2, 1.0, "mobilenet_v2_1.0_224_quant.tflite")],
)
def test_loads_the_backbone_of_a_classifier(backbone, alpha, file, weights):
    with pytest.warns(UserWarning, match="`image_pooling`, `image_pooling_bn`, `aspp0`, .*`logits`: left"):
        model = km.DeepLabV3(backbone, alpha, 65, weights=weights / file)
    build = km.MobileNetV1 if backbone == V1 else km.MobileNetV2
    last = "conv_pw_13" if backbone == V1 else "block_16_project"
    expected = build(alpha=alpha, weights=weights / file).get_layer(last).kernel
    assert np.array_equal(model.get_layer(last).kernel, expected)


@pytest.mark.slow
def test_loads_a_whole_segmenter(tmp_path):
    options = {"backbone": V1, "alpha": 0.25, "image_size": 65, "aspp": True, "classes": 4}
    picture = noise(1, 65, 65, 3)
    model = warmed_up(km.DeepLabV3(**options), noise(2, 65, 65, 3))
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    for name in ("model.keras", "model.weights.h5"):
        again = km.DeepLabV3(**options, weights=tmp_path / name)
        np.testing.assert_allclose(again(picture), model(picture), atol=1e-6)
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(loaded(picture), model(picture), atol=1e-6)
    with pytest.warns(UserWarning, match="`logits`: left"):
        other = km.DeepLabV3(**options | {"classes": 5}, weights=tmp_path / "model.keras")
    assert np.array_equal(other.get_layer("aspp2").kernel, model.get_layer("aspp2").kernel)


@pytest.mark.slow
def test_corals_widths_are_not_rounded(weights):
    model = km.DeepLabV3(alpha=0.5, image_size=65, weights=weights / DM05)
    assert model.get_layer("block_2_project").filters == 12
    with pytest.raises(ValueError, match="model wants"):
        km.DeepLabV3(alpha=0.5, image_size=65, weights=weights / DM05, divisor=8)
    with pytest.raises(ValueError, match="does not fit"):
        km.DeepLabV3(alpha=0.35, image_size=65, weights=weights / DM05)


def test_branches_of_corals_file_are_told_apart(weights):
    """The picture's mean goes to `image_pooling`, whose kernel has the same shape as that of `aspp0`."""
    from keras_mobilenet import tflite_file

    model = km.DeepLabV3(alpha=0.5, image_size=65, weights=weights / DM05)
    graph = tflite_file.read(weights / DM05).main
    for operator in graph.operators:
        tensors = graph.input_tensors(operator)
        if operator.name == "CONV_2D" and tensors[1].shape == (256, 1, 1, 160):
            name = "image_pooling" if tensors[0].shape[1] == 1 else "aspp0"
            expected = tensors[1].dequantized().transpose(1, 2, 3, 0)
            np.testing.assert_array_equal(model.get_layer(name).kernel, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "aspp", "output_stride"), [(V1, True, 16), (V2, False, 8)])
def test_a_converted_segmenter_comes_back(backbone, aspp, output_stride, tmp_path):
    """Written by `km.convert_tflite`, with batch norm folded."""
    options = {"backbone": backbone, "alpha": 0.1, "image_size": 65, "aspp": aspp, "output_stride": output_stride}
    model = warmed_up(km.DeepLabV3(**options), noise(2, 65, 65, 3))
    km.convert_tflite(model, path=tmp_path / "model.tflite")
    again = km.DeepLabV3(**options, weights=tmp_path / "model.tflite")
    picture = noise(1, 65, 65, 3)
    np.testing.assert_allclose(again(picture), model(picture), atol=2e-3)
