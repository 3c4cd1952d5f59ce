import inspect

import keras
import numpy as np
import pytest

import keras_mobilenet as km
from keras_mobilenet import mobilenet_v2
from tests.keras_mobilenet.peers import assert_equal_outputs, randomize, structure

PARAMETERS = {1.4: 6_108_776, 1.3: 5_386_792, 1.0: 3_504_872, 0.75: 2_636_424, 0.5: 1_968_680, 0.35: 1_677_128}
SIZES = (224, 192, 160, 128, 96)
SMALL = (km.Stage(1, 16, 1, 1), km.Stage(6, 24, 2, 2), km.Stage(6, 32, 2, 2), km.Stage(6, 32, 2, 2))


def trainable(model):
    return sum(weight.numpy().size for weight in model.trainable_weights)


def test_table_2():
    rows = [(row.expansion, row.filters, row.repeats, row.stride) for row in mobilenet_v2.STAGES]
    assert rows == [
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
        *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    ]
    assert sum(row.repeats for row in mobilenet_v2.STAGES) == 17


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [pytest.param(*row, marks=[] if row[0] == 1 else pytest.mark.slow) for row in PARAMETERS.items()],
)
def test_parameters(alpha, expected):
    assert trainable(km.MobileNetV2(alpha=alpha)) == expected


@pytest.mark.parametrize(("alpha", "last"), [(0.1, 1280), (1.0, 1280), (1.3, 1664), (1.4, 1792), (2.0, 2560)])
def test_the_last_convolution_is_widened_and_never_narrowed(alpha, last):
    assert km.MobileNetV2(alpha=alpha, include_top=False, stages=SMALL).output_shape == (None, None, None, last)


def test_arguments_stand_in_the_order_of_keras_applications():
    ours = list(inspect.signature(km.MobileNetV2).parameters.values())
    theirs = list(inspect.signature(keras.applications.MobileNetV2).parameters.values())
    positional = [parameter for parameter in ours if parameter.kind is not parameter.KEYWORD_ONLY]
    assert [p.name for p in positional] == [p.name for p in theirs]
    assert {p.name for p, q in zip(positional, theirs, strict=True) if p.default != q.default} == {"weights"}
    assert inspect.signature(km.MobileNetV2).parameters["weights"].default is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param(
            {"alpha": 0.35, "include_top": False, "input_shape": (96, 96, 3), "pooling": "avg"}, marks=pytest.mark.slow
        ),
        pytest.param({"alpha": 1.4, "include_top": False, "input_shape": (None, None, 3)}, marks=pytest.mark.slow),
    ],
)
def test_layers_are_those_of_keras_applications(options):
    ours, theirs = km.MobileNetV2(**options), keras.applications.MobileNetV2(weights=None, **options)
    assert structure(ours) == structure(theirs)
    assert ours.output_shape == theirs.output_shape
    named = [layer.name for layer in theirs.layers if not layer.name.startswith(("input_layer", "global_"))]
    assert [layer.name for layer in ours.layers if not layer.name.startswith(("input_layer", "global_"))] == named
    if not options:
        assert ours.name == theirs.name == "mobilenetv2_1.00_224"


@pytest.mark.parametrize(
    ("alpha", "size"),
    [
        pytest.param(alpha, size, marks=[] if (alpha, size) == (0.35, 96) else pytest.mark.slow)
        for alpha in PARAMETERS
        for size in (SIZES if alpha <= 1 else (224,))
    ],
)
def test_outputs_equal_keras_applications(alpha, size):
    options = {"alpha": alpha, "input_shape": (size, size, 3)}
    assert_equal_outputs(km.MobileNetV2(**options), keras.applications.MobileNetV2(weights=None, **options), size)


@pytest.mark.slow
def test_files_of_keras_applications_load(tmp_path):
    options = {"alpha": 0.35, "input_shape": (32, 32, 3), "classes": 5}
    theirs = keras.applications.MobileNetV2(weights=None, **options)
    theirs.save(tmp_path / "model.h5")
    theirs.save_weights(tmp_path / "model.weights.h5")
    ours = km.MobileNetV2(**options)
    for name in ("model.h5", "model.weights.h5"):
        ours.set_weights([np.zeros(weight.shape) for weight in ours.weights])
        ours.load_weights(tmp_path / name)
        for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_published_weights_give_the_outputs_of_keras_applications(shared_data):
    options = {"alpha": 0.35, "include_top": False, "input_shape": (96, 96, 3)}
    ours, theirs = km.MobileNetV2(**options), keras.applications.MobileNetV2(weights=None, **options)
    for model in (ours, theirs):
        model.load_weights(shared_data / "weights" / "mobilenet_v2_0.35_224_no_top_float.h5")
    pictures = km.decode_and_resize([(shared_data / "photos" / "cat_720p.jpg").read_bytes()], (96, 96))
    expected = theirs(km.preprocess_input(pictures)).numpy()
    np.testing.assert_allclose(ours(km.preprocess_input(pictures)), expected, atol=1e-5)
    assert expected.max() > 1


@pytest.mark.parametrize("output_stride", [16, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", [(65, 97)])
def test_dilated_network_computes_the_same_between_the_strides(output_stride, size):
    """At sizes of 1 + 32 k every stride samples the odd pixels, so the dilated map holds the other one."""
    models = [
        km.MobileNetV2(alpha=0.35, include_top=False, input_shape=(None, None, 3), output_stride=stride)
        for stride in (32, output_stride)
    ]
    randomize(models[0], batch_norm=False)
    models[1].set_weights(models[0].get_weights())
    picture = np.random.default_rng(0).uniform(-1, 1, (1, *size, 3)).astype("float32")
    coarse, fine = (model(picture) for model in models)
    step = 32 // output_stride
    assert fine.shape[1:3] == tuple((side - 1) // output_stride + 1 for side in size)
    np.testing.assert_allclose(fine[:, ::step, ::step], coarse, atol=1e-4)
    assert np.mean(np.abs(coarse - fine[:, 1:2, 1:2])) > 1e-2


def test_variants_are_fields():
    """Figure 6: the variants differ from the network in their activations and shortcuts alone."""
    options = {"alpha": 0.5, "input_shape": (64, 64, 3), "classes": 4, "stages": SMALL}
    plain = km.MobileNetV2(**options)
    names = {layer.name for layer in plain.layers}
    relu = {layer.name for layer in km.MobileNetV2(bottleneck_activation="relu6", **options).layers}
    assert {name for name in relu - names if "input" not in name and "pooling" not in name} == {
        "expanded_conv_project_relu",
        *(f"block_{number}_project_relu" for number in range(1, 7)),
    }
    bare = {layer.name for layer in km.MobileNetV2(shortcut=None, **options).layers}
    assert {name for name in names - bare if "input" not in name and "pooling" not in name} == {
        f"block_{number}_add" for number in (2, 4, 6)
    }
    for variant in ({"bottleneck_activation": "relu6"}, {"shortcut": "expansion"}, {"shortcut": None}):
        assert structure(km.MobileNetV2(**options, **variant)) == structure(plain)


def test_shortcuts_between_expansions_stand_where_their_shapes_are_equal():
    model = km.MobileNetV2(shortcut="expansion")
    adds = {layer.name: layer.output.shape[1:] for layer in model.layers if isinstance(layer, keras.layers.Add)}
    # A block expands the bottleneck that comes in, before its stride: the expansions of two blocks are equal where both
    # read the same stage, which the first block of the next stage does too.
    assert adds == {
        "block_3_expand_add": (56, 56, 144),
        **{f"block_{number}_expand_add": (28, 28, 192) for number in (5, 6)},
        **{f"block_{number}_expand_add": (14, 14, 384) for number in (8, 9, 10)},
        **{f"block_{number}_expand_add": (14, 14, 576) for number in (12, 13)},
        **{f"block_{number}_expand_add": (7, 7, 960) for number in (15, 16)},
    }


def test_any_list_of_stages():
    model = km.MobileNetV2(stages=[km.Stage(2, 12, 1, 1), km.Stage(3, 20, 3, 2)], input_shape=(64, 64, 3), classes=3)
    depthwise = [layer for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
    assert [layer.input.shape[-1] for layer in depthwise] == [64, 48, 72, 72]
    assert [layer.strides[0] for layer in depthwise] == [1, 2, 1, 1]
    assert model.get_layer("Conv_1").input.shape == (None, 16, 16, 24)
    assert model(np.zeros((1, 64, 64, 3))).shape == (1, 3)


def test_dropout_before_the_classifier():
    options = {"alpha": 0.1, "input_shape": (32, 32, 3), "stages": SMALL, "classes": 4}
    assert km.MobileNetV2(dropout=0.3, **options).get_layer("dropout").rate == 0.3
    assert "dropout" not in [layer.name for layer in km.MobileNetV2(**options).layers]


def test_expansions_of_different_resolutions_are_not_added_at_open_sizes():
    def additions(size):
        model = km.MobileNetV2((size, size, 3), 0.35, include_top=False, shortcut="expansion")
        return [layer.name for layer in model.layers if layer.name.endswith("_add")]

    assert additions(None) == additions(224)
