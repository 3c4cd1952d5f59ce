"""Post-training quantization: from a trained float model to 8 bits, with pictures and without training."""

from typing import Any

import keras

from keras_mobilenet.optimization.bias_correction import correct_biases
from keras_mobilenet.optimization.calibration import METHODS, calibrate
from keras_mobilenet.optimization.equalization import equalize
from keras_mobilenet.optimization.folding import fold_batch_norm
from keras_mobilenet.optimization.quantization import quantize_aware
from keras_mobilenet.optimization.representative import representative_pictures


def quantize_post_training(
    model: keras.Model,
    representative_data: Any,
    *,
    ranges: str = "extremes",
    equalization: bool = False,
    bias_correction: bool = True,
) -> keras.Model:
    """Quantizes a trained float model to 8 bits without training.

    Kernels get a scale per channel; the ranges of activations are measured on pictures. It is the path of a
    quantization-aware model (km.quantize_aware, km.calibrate, km.fold_batch_norm) with a step on either side: channels
    can be equalized before, and biases are corrected after.

    Args:
        model: Functional or Sequential float model of the zoo's layers. It is left as it is.
        representative_data: A few hundred pictures, of at most 512 of which use is made: float [N, H, W, C] in [-1, 1]
            or uint8, an array, a `tf.data.Dataset` or an iterable of pictures or batches.
        ranges: How ranges follow from the values seen, as in `km.calibrate`: "extremes", which ReLU6 keeps from
            straying, or for networks with outliers "percentile", "squared_error" or "average".
        equalization: Whether channels that use little of their tensor's range are scaled up to it first. Where kernels
            had one scale it was needed; with one per channel MobileNetV1 0.25 gained nothing measurable.
        bias_correction: Whether biases make up for the mean error of each channel that rounding leaves. It is what
            brought MobileNetV1 0.25 from 47 back to 50 %.

    Returns:
        The inference model with rounded kernels and fixed ranges, as `km.fold_batch_norm` returns it for a
        quantization-aware model; `km.convert_tflite(..., "int8")` writes it.

    Raises:
        ValueError: The model can't be quantized, or the pictures are empty, of another shape or range.

    Example:
    ```python
    quantized = km.quantize_post_training(model, train_images[:256])
    content = km.convert_tflite(quantized, "int8")
    ```

    Source: arXiv:1906.04721 (equalization, bias correction); arXiv:1806.08342, section 3.
    """
    if ranges not in METHODS:
        raise ValueError(f"`ranges={ranges!r}` is not one of {', '.join(METHODS)}.")
    folded = fold_batch_norm(model)
    pictures = representative_pictures(representative_data, folded.input_shape)
    if equalization:
        equalize(folded, pictures)
    quantized = fold_batch_norm(calibrate(quantize_aware(folded), pictures, method=ranges))
    if bias_correction:
        correct_biases(quantized, folded, pictures)
    return quantized
