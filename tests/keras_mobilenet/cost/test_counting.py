import keras
import numpy as np
import pytest
from keras import layers

import keras_mobilenet as km

# Multiply-adds in millions as published; sizes 224, 192, 160, 128 (and 96 for V2). The lists round or cut.
V1_PUBLISHED = {
    1.0: (569, 418, 291, 186),
    0.75: (325, 239, 166, 107),
    0.5: (150, 110, 77, 49),
    0.25: (41, 30, 21, 14),
}
V2_PUBLISHED = {
    1.4: (582,),
    1.3: (509,),
    1.0: (300, 221, 154, 99, 56),
    0.75: (209, 153, 107, 69, 39),
    0.5: (97, 71, 50, 32, 18),
    0.35: (59, 43, 30, 20, 11),
}
SIZES = (224, 192, 160, 128, 96)


@pytest.mark.parametrize(
    ("build", "alpha", "published"),
    [
        pytest.param(build, alpha, row, marks=[] if alpha == 1 else pytest.mark.slow)
        for build, published in ((km.MobileNetV1, V1_PUBLISHED), (km.MobileNetV2, V2_PUBLISHED))
        for alpha, row in published.items()
    ],
)
def test_multiply_adds_of_the_published_networks(build, alpha, published):
    model = build(alpha=alpha, input_shape=(None, None, 3))
    for size, millions in zip(SIZES, published, strict=False):
        assert km.cost.count(model, (size, size, 3)).multiply_adds / 1e6 == pytest.approx(millions, abs=1)


@pytest.mark.parametrize(
    ("options", "parameters", "millions"),
    [
        ({}, 4_231_976, 568.74),
        ({"convolution": "standard"}, 29_294_088, 4867.3),
        ({"shallow": True}, 2_887_976, 307.3),
        ({"alpha": 0.75}, 2_585_560, 325.4),
        ({"alpha": 0.5, "input_shape": (160, 160, 3)}, 1_331_592, 76.5),  # table 9
    ],
)
def test_tables_of_the_first_paper(options, parameters, millions):
    cost = km.cost.count(km.MobileNetV1(**options))
    assert cost.parameters == parameters
    assert cost.multiply_adds / 1e6 == pytest.approx(millions, abs=0.5)


def test_shares_of_table_2():
    cost = km.cost.count(km.MobileNetV1())

    def shares(kind):
        rows = [row for row in cost.layers if kind(row)]
        multiply_adds = sum(row.multiply_adds for row in rows) / cost.multiply_adds
        # The paper's parameters are those of the kernels, and the classifier's bias.
        kernels = sum(row.parameters for row in cost.layers if row.multiply_adds)
        return 100 * multiply_adds, 100 * sum(row.parameters for row in rows) / kernels

    def classifier(row):
        return row.name == "conv_preds"

    assert shares(lambda row: row.kind == "pointwise" and not classifier(row)) == pytest.approx((94.86, 74.59), abs=0.3)
    assert shares(lambda row: row.kind == "depthwise") == pytest.approx((3.06, 1.06), abs=0.01)
    # Printed as 1.19: two digits changed places.
    assert shares(lambda row: row.kind == "convolution") == pytest.approx((1.91, 0.02), abs=0.01)
    assert shares(classifier) == pytest.approx((0.18, 24.33), abs=0.2)


def test_rows():
    cost = km.cost.count(km.MobileNetV2(input_shape=(64, 48, 3), classes=5))
    rows = {row.name: row for row in cost.layers}
    assert rows["Conv1"] == km.cost.LayerCost(
        name="Conv1",
        kind="convolution",
        output_shape=(32, 24, 32),
        parameters=3 * 3 * 3 * 32,
        multiply_adds=32 * 24 * 32 * 3 * 3 * 3,
        activation_bytes=32 * 24 * 32 * 4,
    )
    assert rows["bn_Conv1"].parameters == 64 and rows["bn_Conv1"].multiply_adds == 0
    assert rows["predictions"].kind == "dense" and rows["predictions"].parameters == 1280 * 5 + 5
    assert rows["predictions"].multiply_adds == 1280 * 5
    for total in ("parameters", "multiply_adds", "activation_bytes"):
        assert getattr(cost, total) == sum(getattr(row, total) for row in cost.layers)
    with pytest.raises(AttributeError):
        cost.layers[0].parameters = 1


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.Conv2D(8, 3, groups=2, padding="same"), 10 * 12 * 9 * 2 * 8),
        (layers.Conv2D(8, 3, strides=2, padding="same"), 5 * 6 * 9 * 4 * 8),
        (layers.Conv2D(8, 3, dilation_rate=4, padding="same"), 10 * 12 * 9 * 4 * 8),
        (layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), 10 * 12 * 9 * 4 * 2),
        (layers.DepthwiseConv2D((5, 1)), 6 * 12 * 5 * 4),
        (layers.SeparableConv2D(8, 3, padding="same"), 10 * 12 * (9 * 4 + 4 * 8)),
        (layers.Conv2DTranspose(8, 3, strides=2, padding="same"), 10 * 12 * 9 * 4 * 8),
        (layers.Dense(7), 10 * 12 * 4 * 7),
        (layers.BatchNormalization(), 0),
    ],
)
def test_kinds_of_layers(layer, expected):
    image = keras.Input((10, 12, 4))
    model = keras.Model(image, layer(image))
    cost = km.cost.count(model)
    assert cost.multiply_adds == expected
    assert cost.parameters == sum(weight.numpy().size for weight in model.trainable_weights)


def test_dilation_is_counted_at_its_resolution():
    rows = {
        stride: {row.name: row for row in km.cost.count(km.MobileNetV1(output_stride=stride)).layers}
        for stride in (32, 16)
    }
    for name in ("conv_dw_13", "conv_pw_13"):
        assert rows[16][name].output_shape[:2] == (14, 14)
        assert rows[16][name].multiply_adds == 4 * rows[32][name].multiply_adds
        assert rows[16][name].parameters == rows[32][name].parameters


def test_models_in_models_and_several_outputs():
    backbone = km.MobileNetV2(alpha=0.1, include_top=False)
    image = keras.Input((64, 64, 3))
    head = keras.Sequential([keras.Input((2, 2, 1280)), layers.Conv2D(6, 1)], name="head")
    features = backbone(image)
    first, second = head(features), layers.Dense(3)(head(features))
    cost = km.cost.count(keras.Model(image, {"first": first, "second": second}))
    inside = km.cost.count(backbone, (64, 64, 3))
    head_rows = [row for row in cost.layers if row.name.startswith("conv2d")]
    assert [row.parameters for row in head_rows] == [1280 * 6 + 6, 0]  # the weights are shared
    assert [row.multiply_adds for row in head_rows] == [4 * 1280 * 6] * 2
    assert cost.multiply_adds == inside.multiply_adds + 2 * 4 * 1280 * 6 + 4 * 6 * 3
    assert cost.parameters == inside.parameters + 1280 * 6 + 6 + 6 * 3 + 3
    assert len(backbone.layers[1]._inbound_nodes) == 1  # counting adds no calls to the model


def test_freezing_and_folding_change_the_parameters_only_by_batch_norm():
    model = km.MobileNetV1(alpha=0.25, input_shape=(64, 64, 3))
    cost = km.cost.count(model)
    model.trainable = False
    assert km.cost.count(model) == cost
    folded = km.cost.count(km.fold_batch_norm(model))
    norms = sum(row.parameters for row in cost.layers if row.kind == "BatchNormalization")
    assert folded.multiply_adds == cost.multiply_adds
    assert folded.parameters == cost.parameters - norms // 2  # gamma goes, beta becomes the bias


def test_subclasses_count_as_what_they_are():
    class Quantized(layers.Conv2D):
        def build(self, shape):
            super().build(shape)
            self.range = self.add_weight(shape=(2,), trainable=False, name="range")

    image = keras.Input((8, 8, 3))
    cost = km.cost.count(keras.Model(image, Quantized(4, 3)(image)))
    row = cost.layers[-1]
    assert (row.kind, row.parameters, row.multiply_adds) == ("convolution", 112, 6 * 6 * 108)


def test_activation_bytes_follow_the_dtype():
    with_float = km.cost.count(km.MobileNetV1(alpha=0.25, input_shape=(32, 32, 3))).activation_bytes
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert km.cost.count(km.MobileNetV1(alpha=0.25, input_shape=(32, 32, 3))).activation_bytes * 2 == with_float
    finally:
        keras.config.set_dtype_policy("float32")


def test_printed():
    cost = km.cost.count(km.MobileNetV1(alpha=0.25, input_shape=(128, 128, 3)))
    lines = str(cost).splitlines()
    assert lines[0] == "mobilenet_0.25_128"
    assert " ".join(lines[1].split()) == "name kind output shape parameters multiply adds activation bytes"
    assert " ".join(lines[3].split()) == "conv1 convolution 64 x 64 x 8 216 884,736 131,072"
    assert lines[-1].split()[:3] == ["total", "470,072", f"{cost.multiply_adds:,}"]
    assert len({len(line) for line in lines[1:]}) == 1 and len(lines) == len(cost.layers) + 5


def test_unknown_sizes_are_refused_with_the_way_out():
    model = km.MobileNetV2(alpha=0.35, input_shape=(None, None, 3))
    with pytest.raises(
        ValueError, match=r"size of its input, \(None, None, 3\), which is not known: pass `input_shape="
    ):
        km.cost.count(model)
    with pytest.raises(ValueError, match=r"`input_shape=\(64, 64, 4\)` contradicts `mobilenetv2_0.35_None`"):
        km.cost.count(model, (64, 64, 4))
    with pytest.raises(ValueError, match=r"`input_shape=\(64, 64\)` contradicts"):
        km.cost.count(model, (64, 64))
    with pytest.raises(ValueError, match="which is not known"):
        km.cost.count(model, (0, 64, 3))


def test_what_cannot_be_seen_is_refused():
    frames = keras.Input((5, 8, 8, 3))
    model = keras.Model(frames, layers.TimeDistributed(layers.Conv2D(4, 3))(frames))
    with pytest.raises(ValueError, match=r"holds `conv2d.*` \(Conv2D\), whose calls can't be seen"):
        km.cost.count(model)

    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="has no graph of layers to read"):
        km.cost.count(Subclassed())
    first, second = keras.Input((None,)), keras.Input((3,))
    two = keras.Model([first, second], [first, second])
    with pytest.raises(ValueError, match="is for a model with one input"):
        km.cost.count(two, (4,))


def test_counting_leaves_the_model_as_it_was():
    model = km.MobileNetV1(alpha=0.1, input_shape=(32, 32, 3))
    before = model.to_json(), [layer.output.shape for layer in model.layers]
    km.cost.count(model)
    assert (model.to_json(), [layer.output.shape for layer in model.layers]) == before
    assert np.isfinite(model(np.zeros((1, 32, 32, 3)))).all()
