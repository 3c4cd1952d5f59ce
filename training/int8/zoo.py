"""What `km.edge_tpu.check` says of the int8 file of every published network."""

from collections.abc import Iterator

import keras

import keras_mobilenet as km
from training import network as networks
from training import parity


def checked(network: str, alpha: float, size: int) -> tuple[int, km.edge_tpu.CheckReport]:
    """Size in bytes and check of a network's int8 file; its weights are random, as they change neither."""
    keras.backend.clear_session()
    model = networks.BUILDERS[network](alpha=alpha, input_shape=(size, size, 3), weights=None)
    content = km.convert_tflite(km.quantize_aware(model), "int8")
    return len(content), km.edge_tpu.check(content)


def table() -> Iterator[str]:
    """Lines of Markdown, each as soon as it is measured."""
    yield "| network | alpha | size | operators | left on the CPU | cached bytes | streamed bytes | file |"
    yield "|---|---|---|---|---|---|---|---|"
    for network, alpha, size in parity.published_networks():
        length, report = checked(network, alpha, size)
        yield (
            f"| {network} | {alpha} | {size} | {len(report.operators)} | {', '.join(report.cpu_operators) or 'none'} "
            f"| {report.cached_bytes:,} | {report.streamed_bytes:,} | {length:,} |"
        )
    yield "\nForetold by km.edge_tpu.check from the int8 file; the compiler itself was not at hand.\n"
