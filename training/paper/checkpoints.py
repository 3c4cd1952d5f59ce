"""The ImageNet checkpoints that were published with the two papers, as their lists print them."""

from dataclasses import dataclass

from training.paper.networks import Network


@dataclass(frozen=True)
class Checkpoint:
    """A row of the lists.

    Attributes:
        network: Which network, at which size.
        multiply_adds: As printed, in millions; an empty text where the list has a misprint that is noted instead.
        top_1: Top-1 accuracy on ImageNet's validation pictures, in percent.
        top_5: Top-5 accuracy, in percent.
        int8_top_1: Top-1 accuracy of the 8-bit file, in percent, where one was published.
        note: What is wrong with the printed figures.
    """

    network: Network
    multiply_adds: str
    top_1: float
    top_5: float
    int8_top_1: float | None = None
    note: str = ""


def _v1(
    alpha: float, size: int, multiply_adds: str, top_1: float, top_5: float, int8: float, note: str = ""
) -> Checkpoint:
    return Checkpoint(Network("mobilenet_v1", alpha, size), multiply_adds, top_1, top_5, int8, note)


def _v2(alpha: float, size: int, multiply_adds: str, top_1: float, top_5: float) -> Checkpoint:
    return Checkpoint(Network("mobilenet_v2", alpha, size), multiply_adds, top_1, top_5)


MISPRINT = "misprint"

CHECKPOINTS = (
    # MobileNetV1: multiply-adds, top-1, top-5, top-1 of the 8-bit file.
    _v1(1.0, 224, "569", 70.9, 89.9, 69.7),
    _v1(1.0, 192, "418", 70.0, 89.2, 69.0),
    _v1(1.0, 160, "291", 68.0, 87.7, 67.3),
    _v1(1.0, 128, "186", 65.2, 85.8, 64.0),
    _v1(0.75, 224, "317", 68.4, 88.2, 67.9, MISPRINT),
    _v1(0.75, 192, "233", 67.2, 87.3, 66.2, MISPRINT),
    _v1(0.75, 160, "162", 65.3, 86.0, 63.9, MISPRINT),
    _v1(0.75, 128, "104", 62.1, 83.9, 59.8, MISPRINT),
    _v1(0.5, 224, "150", 63.3, 84.9, 62.2, "149.497, rounded up"),
    _v1(0.5, 192, "110", 61.7, 83.6, 60.4),
    _v1(0.5, 160, "77", 59.1, 81.9, 57.7),
    _v1(0.5, 128, "49", 56.3, 79.4, 54.9),
    _v1(0.25, 224, "41", 49.8, 74.2, 48.2),
    _v1(0.25, 192, "34", 47.7, 72.3, 45.8, MISPRINT),
    _v1(0.25, 160, "21", 45.5, 70.3, 43.5),
    _v1(0.25, 128, "14", 41.5, 66.3, 39.9),
    # MobileNetV2: multiply-adds, top-1, top-5.
    _v2(1.4, 224, "582", 75.0, 92.5),
    _v2(1.3, 224, "509", 74.4, 92.1),
    _v2(1.0, 224, "300", 71.8, 91.0),
    _v2(1.0, 192, "221", 70.7, 90.1),
    _v2(1.0, 160, "154", 68.8, 89.0),
    _v2(1.0, 128, "99", 65.3, 86.9),
    _v2(1.0, 96, "56", 60.3, 83.2),
    _v2(0.75, 224, "209", 69.8, 89.6),
    _v2(0.75, 192, "153", 68.7, 88.9),
    _v2(0.75, 160, "107", 66.4, 87.3),
    _v2(0.75, 128, "69", 63.2, 85.3),
    _v2(0.75, 96, "39", 58.8, 81.6),
    _v2(0.5, 224, "97", 65.4, 86.4),
    _v2(0.5, 192, "71", 63.9, 85.4),
    _v2(0.5, 160, "50", 61.0, 83.2),
    _v2(0.5, 128, "32", 57.7, 80.8),
    _v2(0.5, 96, "18", 51.2, 75.8),
    _v2(0.35, 224, "59", 60.3, 82.9),
    _v2(0.35, 192, "43", 58.2, 81.2),
    _v2(0.35, 160, "30", 55.7, 79.1),
    _v2(0.35, 128, "20", 50.8, 75.0),
    _v2(0.35, 96, "11", 45.5, 70.4),
)
