"""Another peer: NVIDIA's Triton through pytriton, which runs a SavedModel's signature on batches that Triton makes.

It needs an environment of its own, with nvidia-pytriton and tensorflow; nothing else of this project is imported in it.
"""

import json
import sys
from typing import Any

import numpy as np

from serving.benchmark import orders

MODEL = "mobilenet"


def main(settings: dict[str, Any]) -> None:
    """Starts on the ports given, and tells the request's bytes and the method's name."""
    answers = orders.answering()
    import tensorflow as tf
    from pytriton.decorators import batch
    from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig

    signature = tf.saved_model.load(settings["version"]).signatures["serving_default"]
    (image,) = signature.structured_input_signature[1].values()
    outputs = dict(signature.structured_outputs)

    @batch
    def infer(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        return {
            name: value.numpy() for name, value in signature(**{image.name: tf.constant(inputs[image.name])}).items()
        }

    http, grpc, metrics = settings["ports"]
    with Triton(config=TritonConfig(http_port=http, grpc_port=grpc, metrics_port=metrics)) as triton:
        triton.bind(
            model_name=MODEL,
            infer_func=[infer] * settings["threads"],
            inputs=[Tensor(name=image.name, dtype=image.dtype.as_numpy_dtype, shape=tuple(image.shape[1:]))],
            outputs=[
                Tensor(name=name, dtype=spec.dtype.as_numpy_dtype, shape=tuple(spec.shape[1:]))
                for name, spec in outputs.items()
            ],
            config=ModelConfig(
                max_batch_size=settings["batch"], batcher=DynamicBatcher(max_queue_delay_microseconds=0)
            ),
        )
        triton.run()
        request = _request(image.name, np.load(settings["picture"]), list(outputs)).hex()
        orders.carry_out(answers, lambda order: order, request=request)


def _request(name: str, picture: np.ndarray, outputs: list[str]) -> bytes:
    """A ModelInferRequest of the KServe protocol, which Triton speaks."""
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name=name, datatype="UINT8", shape=picture.shape)
    request.raw_input_contents.append(picture.tobytes())
    for output in outputs:
        request.outputs.add(name=output)
    return request.SerializeToString()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
