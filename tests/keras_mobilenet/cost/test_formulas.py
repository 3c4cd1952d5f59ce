import keras
import pytest
from keras import layers

import keras_mobilenet as km


@pytest.mark.parametrize(
    ("formula", "options", "multiply_adds", "parameters"),
    [
        (km.cost.standard_convolution, {}, 462, 2.36),
        (km.cost.depthwise_separable, {}, 52.3, 0.27),
        (km.cost.depthwise_separable, {"alpha": 0.75}, 29.6, 0.15),
        (km.cost.depthwise_separable, {"alpha": 0.75, "rho": 0.714}, 15.1, 0.15),
    ],
)
def test_table_3(formula, options, multiply_adds, parameters):
    cost = formula(3, 512, 512, 14, **options)
    assert cost.multiply_adds / 1e6 == pytest.approx(multiply_adds, abs=0.5 if multiply_adds == 462 else 0.05)
    assert cost.parameters / 1e6 == pytest.approx(parameters, abs=0.005)


@pytest.mark.parametrize(("kernel_size", "filters"), [(3, 512), (3, 64), (5, 100), (1, 7)])
def test_reduction_is_the_ratio_of_the_two(kernel_size, filters):
    separable = km.cost.depthwise_separable(kernel_size, 96, filters, 10)
    standard = km.cost.standard_convolution(kernel_size, 96, filters, 10)
    ratio = km.cost.reduction(kernel_size, filters)
    assert separable.multiply_adds / standard.multiply_adds == pytest.approx(ratio)
    assert separable.parameters / standard.parameters == pytest.approx(ratio)


@pytest.mark.parametrize(("alpha", "rho"), [(1.0, 1.0), (0.75, 6 / 7), (0.35, 0.5)])
def test_formulas_agree_with_counted_layers(alpha, rho):
    channels, filters, size = int(64 * alpha), int(96 * alpha), round(28 * rho)
    image = keras.Input((size, size, channels))
    options = {"padding": "same", "use_bias": False}
    standard = km.cost.count(keras.Model(image, layers.Conv2D(filters, 3, **options)(image)))
    depthwise = layers.DepthwiseConv2D(3, **options)(image)
    separable = km.cost.count(keras.Model(image, layers.Conv2D(filters, 1, **options)(depthwise)))
    for counted, formula in ((standard, km.cost.standard_convolution), (separable, km.cost.depthwise_separable)):
        cost = formula(3, 64, 96, 28, alpha=alpha, rho=rho)
        assert (counted.multiply_adds, counted.parameters) == (cost.multiply_adds, cost.parameters)


@pytest.mark.parametrize("wrong", [{"alpha": 0}, {"rho": -1}, {"alpha": float("nan")}])
def test_multipliers_are_above_0(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"`{name}={value!r}` is not above 0"):
        km.cost.depthwise_separable(3, 512, 512, 14, **wrong)
    with pytest.raises(ValueError, match="`filters=0` is not above 0"):
        km.cost.reduction(3, 0)
