"""The papers' tables of costs as they are printed, each row with the network here that it is about.

Sources: arXiv:1704.04861 (MobileNetV1) and arXiv:1801.04381 (MobileNetV2).
"""

from dataclasses import dataclass, replace

from training.paper.networks import Cost, Network, cost

MILLION, BILLION = 1e6, 1e9


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: As printed.
        network: What is built for it here; None where Keras does not have it, and the figures are only quoted.
        accuracy: As printed: top-1 in percent, mAP or mIoU.
        multiply_adds: As printed, in the table's unit.
        parameters: As printed, in millions.
        milliseconds: As printed, on the phone that the paper names.
        note: What explains a figure that is not ours.
        without: A network whose cost is taken off: what is printed is the head's alone.
        scales: Sides of the pictures, in pixels, that are looked at twice each, the second time mirrored; empty for the
            network's own size, once.
    """

    name: str
    network: Network | None = None
    accuracy: str = ""
    multiply_adds: str = ""
    parameters: str = ""
    milliseconds: str = ""
    note: str = ""
    without: Network | None = None
    scales: tuple[int, ...] = ()

    def cost(self) -> Cost | None:
        """What is counted for it here; None where nothing is built."""
        if self.network is None:
            return None
        whole = cost(self.network)
        if self.scales:
            passes = (cost(replace(self.network, size=side)).multiply_adds for side in self.scales)
            whole = replace(whole, multiply_adds=2 * sum(passes))
        if self.without:
            whole = whole.less(cost(self.without))
        return whole


@dataclass(frozen=True)
class Table:
    """A table of costs.

    Attributes:
        title: Paper, number and subject.
        rows: In their order.
        accuracy: What its accuracy is called.
        unit: What its multiply-adds are counted in: `MILLION` or `BILLION`.
    """

    title: str
    rows: tuple[Row, ...]
    accuracy: str = "top-1"
    unit: float = MILLION


def _v1(alpha: float = 1.0, size: int = 224, **variant: object) -> Network:
    return Network("mobilenet_v1", alpha, size, tuple(variant.items()))


def _v2(alpha: float = 1.0, size: int = 224) -> Network:
    return Network("mobilenet_v2", alpha, size)


MOBILENET = Row("1.0 MobileNet-224", _v1(), "70.6", "569", "4.2")
ONLY_QUOTED = "quoted: neither Keras nor this package has it"

V1_TABLES = (
    Table(
        "MobileNetV1, table 4: depthwise separable and full convolutions",
        (
            Row(
                "Conv MobileNet",
                _v1(convolution="standard"),
                "71.7",
                "4866",
                "29.3",
                note="4866 leaves out the classifier's 1.0 M; the 569 below has it",
            ),
            Row("MobileNet", _v1(), "70.6", "569", "4.2"),
        ),
    ),
    Table(
        "MobileNetV1, table 5: thin and shallow",
        (
            Row("0.75 MobileNet", _v1(0.75), "68.4", "325", "2.6"),
            Row("Shallow MobileNet", _v1(shallow=True), "65.3", "307", "2.9"),
        ),
    ),
    Table(
        "MobileNetV1, table 6: width multiplier",
        (
            MOBILENET,
            Row("0.75 MobileNet-224", _v1(0.75), "68.4", "325", "2.6"),
            Row("0.5 MobileNet-224", _v1(0.5), "63.7", "149", "1.3"),
            Row("0.25 MobileNet-224", _v1(0.25), "50.6", "41", "0.5"),
        ),
    ),
    Table(
        "MobileNetV1, table 7: resolution",
        (
            MOBILENET,
            Row("1.0 MobileNet-192", _v1(size=192), "69.1", "418", "4.2"),
            Row("1.0 MobileNet-160", _v1(size=160), "67.2", "290", "4.2"),
            Row("1.0 MobileNet-128", _v1(size=128), "64.4", "186", "4.2"),
        ),
    ),
    Table(
        "MobileNetV1, table 8: beside popular networks",
        (
            MOBILENET,
            Row("GoogLeNet", None, "69.8", "1550", "6.8", note=ONLY_QUOTED),
            Row(
                "VGG 16",
                Network("vgg16"),
                "71.5",
                "15300",
                "138",
                note="15300 are its convolutions alone (15347), to three digits; 124 M are its dense layers",
            ),
        ),
    ),
    Table(
        "MobileNetV1, table 9: small MobileNets beside popular networks",
        (
            Row("0.50 MobileNet-160", _v1(0.5, 160), "60.2", "76", "1.32"),
            Row("SqueezeNet", None, "57.5", "1700", "1.25", note=ONLY_QUOTED),
            Row("AlexNet", None, "57.2", "720", "60", note=ONLY_QUOTED),
        ),
    ),
)

V2_TABLE_4 = Table(
    "MobileNetV2, table 4: ImageNet",
    (
        Row("MobileNetV1", _v1(), "70.6", "575", "4.2", "113", note="misprint: 569 in its own paper, and here"),
        Row("ShuffleNet (1.5)", None, "71.5", "292", "3.4", note=ONLY_QUOTED),
        Row("ShuffleNet (x2)", None, "73.7", "524", "5.4", note=ONLY_QUOTED),
        Row("NasNet-A", Network("nasnet_mobile"), "74.0", "564", "5.3", "183"),
        Row("MobileNetV2", _v2(), "72.0", "300", "3.4", "75"),
        Row(
            "MobileNetV2 (1.4)",
            _v2(1.4),
            "74.7",
            "585",
            "6.9",
            "143",
            note="misprints: the published checkpoint has 6.1 M and 582 M, as here",
        ),
    ),
)


def _detector(family: str, backbone: str) -> Network:
    return Network(family, 1.0, 320, (("backbone", backbone), ("classes", 80), ("scores", "softmax")))


def _headless(backbone: str) -> Network:
    return Network(backbone, 1.0, 320, (("include_top", False),))


V2_TABLE_5 = Table(
    "MobileNetV2, table 5: heads of SSD and SSDLite on MobileNetV2, for 80 classes",
    (
        Row(
            "SSD",
            _detector("ssd", "mobilenet_v2"),
            multiply_adds="1.25",
            parameters="14.8",
            without=_headless("mobilenet_v2"),
        ),
        Row(
            "SSDLite",
            _detector("ssdlite", "mobilenet_v2"),
            multiply_adds="0.35",
            parameters="2.1",
            without=_headless("mobilenet_v2"),
            note="0.35 are multiplications and additions, each by itself: with 0.35 B multiply-adds in the heads the "
            "whole could not have the 0.8 of table 6",
        ),
    ),
    accuracy="",
    unit=BILLION,
)

V2_TABLE_6 = Table(
    "MobileNetV2, table 6: COCO",
    (
        Row("SSD300", None, "23.2", "35.2", "36.1", note=ONLY_QUOTED),
        Row("SSD512", None, "26.8", "99.5", "36.1", note=ONLY_QUOTED),
        Row("YOLOv2", None, "21.6", "17.5", "50.7", note=ONLY_QUOTED),
        Row("MNet V1 + SSDLite", _detector("ssdlite", "mobilenet_v1"), "22.2", "1.3", "5.1", "270"),
        Row("MNet V2 + SSDLite", _detector("ssdlite", "mobilenet_v2"), "22.1", "0.8", "4.3", "200"),
    ),
    accuracy="mAP on test-dev",
    unit=BILLION,
)

SCALES = tuple(int(512 * scale) + 1 for scale in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75))
PADDING = (
    "the paper's count has TensorFlow 1's padding of atrous convolutions and the resizing in it: with them ours is"
)
"""tests/keras_mobilenet/test_deeplab_v3.py counts as the paper does, and holds that to 0.2 % of what is printed."""


def _deeplab(backbone: str, aspp: bool, output_stride: int) -> Network:
    return Network("deeplab_v3", 1.0, 513, (("backbone", backbone), ("output_stride", output_stride), ("aspp", aspp)))


def _segmentation(
    name: str, backbone: str, aspp: bool, figures: tuple[str, str, str, str, str], notes: tuple[str, str]
) -> tuple[Row, Row]:
    """Two rows: output stride 16; and 8, over six sizes and their mirror images.

    Args:
        name: As printed.
        backbone: Of the network.
        aspp: Whether it has atrous convolutions.
        figures: Parameters, then mIoU and multiply-adds of each row.
        notes: Of each row.
    """
    parameters, coarse, coarse_cost, fine, fine_cost = figures
    return (
        Row(name, _deeplab(backbone, aspp, 16), coarse, coarse_cost, parameters, note=notes[0]),
        Row(
            f"{name}, stride 8, six sizes, mirrored",
            _deeplab(backbone, aspp, 8),
            fine,
            fine_cost,
            parameters,
            note=notes[1],
            scales=SCALES,
        ),
    )


V2_TABLE_7 = Table(
    "MobileNetV2, table 7: PASCAL VOC 2012, DeepLabv3",
    (
        *_segmentation(
            "MNet V1 + ASPP",
            "mobilenet_v1",
            True,
            ("11.15", "75.29", "14.25", "78.56", "941.9"),
            (f"{PADDING} 14.25", f"{PADDING} 941 where ASPP has rates of 12, 18, 24, and 990.9 with 12, 24, 36"),
        ),
        *_segmentation(
            "MNet V2, 320 channels, + ASPP",
            "mobilenet_v2",
            True,
            ("4.52", "75.70", "5.8", "78.42", "387"),
            (f"{PADDING} 5.8", f"{PADDING} 387"),
        ),
        *_segmentation(
            "MNet V2, 320 channels",
            "mobilenet_v2",
            False,
            ("2.11", "75.32", "2.75", "77.33", "152.6"),
            (f"{PADDING} 2.75", f"{PADDING} 152.6"),
        ),
        Row("ResNet-101 + ASPP", None, "80.49", "81.0", "58.16", note=ONLY_QUOTED),
        Row("ResNet-101 + ASPP, stride 8, six sizes, mirrored", None, "82.70", "4870.6", "58.16", note=ONLY_QUOTED),
    ),
    accuracy="mIoU",
    unit=BILLION,
)

V2_TABLES = (V2_TABLE_4, V2_TABLE_5, V2_TABLE_6, V2_TABLE_7)
