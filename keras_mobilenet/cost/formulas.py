"""The cost formulas of the MobileNetV1 paper (arXiv:1704.04861, section 3), without bias and batch norm."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConvolutionCost:
    """Cost of one layer.

    Attributes:
        multiply_adds: For one picture.
        parameters: Weights of its kernels.
    """

    multiply_adds: int
    parameters: int


def standard_convolution(
    kernel_size: int, channels: int, filters: int, size: int, *, alpha: float = 1.0, rho: float = 1.0
) -> ConvolutionCost:
    """Cost of a standard convolution: Dk x Dk x (alpha M) x (alpha N) x (rho Df)^2.

    Args:
        kernel_size: Dk, height and width of the kernel.
        channels: M, channels that come in.
        filters: N, channels that go out.
        size: Df, height and width of the feature map that goes out, in pixels.
        alpha: Width multiplier, > 0; channel counts are rounded down, as the network's are.
        rho: Resolution multiplier, > 0; the size is rounded to whole pixels.

    Returns:
        Its multiply-adds and parameters.

    Raises:
        ValueError: An argument isn't above 0.

    Example: `km.cost.standard_convolution(3, 512, 512, 14).multiply_adds` is 462,422,016.

    Source: arXiv:1704.04861, section 3.1, equation 2.
    """
    channels, filters, size = _scaled(kernel_size, channels, filters, size, alpha, rho)
    return _cost(kernel_size**2 * channels * filters, size)


def depthwise_separable(
    kernel_size: int, channels: int, filters: int, size: int, *, alpha: float = 1.0, rho: float = 1.0
) -> ConvolutionCost:
    """Cost of a depthwise separable convolution: Dk x Dk x (alpha M) x (rho Df)^2 + (alpha M) x (alpha N) x (rho Df)^2.

    Args:
        kernel_size: Dk, height and width of the depthwise kernel.
        channels: M, channels that come in.
        filters: N, channels that go out.
        size: Df, height and width of the feature map that goes out, in pixels.
        alpha: Width multiplier, > 0; channel counts are rounded down, as the network's are.
        rho: Resolution multiplier, > 0; the size is rounded to whole pixels.

    Returns:
        Its multiply-adds and parameters, depthwise and pointwise together.

    Raises:
        ValueError: An argument isn't above 0.

    Example: `km.cost.depthwise_separable(3, 512, 512, 14, alpha=0.75).multiply_adds` is 29,578,752.

    Source: arXiv:1704.04861, sections 3.1 (equation 5), 3.3 (6) and 3.4 (7).
    """
    channels, filters, size = _scaled(kernel_size, channels, filters, size, alpha, rho)
    return _cost(kernel_size**2 * channels + channels * filters, size)


def reduction(kernel_size: int, filters: int) -> float:
    """Cost of a depthwise separable convolution as a share of the standard one's: 1 / N + 1 / Dk^2.

    Args:
        kernel_size: Dk, height and width of the kernel.
        filters: N, channels that go out.

    Returns:
        The share, the same for multiply-adds and parameters.

    Raises:
        ValueError: An argument isn't above 0.

    Example: `km.cost.reduction(3, 512)` is 0.113: a ninth of the cost, and a little.

    Source: arXiv:1704.04861, section 3.1.
    """
    _check_positive(kernel_size=kernel_size, filters=filters)
    return 1 / filters + 1 / kernel_size**2


def _cost(weights: int, size: int) -> ConvolutionCost:
    return ConvolutionCost(multiply_adds=weights * size**2, parameters=weights)


def _scaled(kernel_size: int, channels: int, filters: int, size: int, alpha: float, rho: float) -> tuple[int, int, int]:
    _check_positive(kernel_size=kernel_size, channels=channels, filters=filters, size=size, alpha=alpha, rho=rho)
    return max(1, int(alpha * channels)), max(1, int(alpha * filters)), max(1, round(rho * size))


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"`{name}={value!r}` is not above 0, as every size, count and multiplier here has to be.")
