"""What a request means: Predict, metadata and status, shared by both faces and by warm-up."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

from serving.server import engine, lifecycle, metrics, status, tensors
from serving.server.servable import DEFAULT_SIGNATURE, Call

SIGNATURE_DEF = "signature_def"


def predict(
    models: engine.Engine,
    request: predict_pb2.PredictRequest,
    call: Call,
    as_content: bool = False,
) -> predict_pb2.PredictResponse:
    """Answers Predict.

    Args:
        models: The engine.
        request: Model, signature, inputs and output_filter.
        call: Deadline and cancellation.
        as_content: Tensors in `tensor_content` instead of typed fields.

    Returns:
        The outputs, with the model_spec that was used.

    Raises:
        ServingError: As the wire contract says.
        tf.errors.OpError: From the graph.
    """
    require_model_spec(request)
    with models.acquire(request.model_spec) as model:
        return predict_on(model, request, call, as_content)


def predict_on(
    model: lifecycle.LoadedModel, request: predict_pb2.PredictRequest, call: Call, as_content: bool = False
) -> predict_pb2.PredictResponse:
    """Answers Predict on a model at hand; see `predict`."""
    key = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = model.signatures.get(key)
    if signature is None:
        raise status.failed_precondition(f'Serving signature key "{key}" not found.')
    inputs = signature.read_inputs(request.inputs)
    names = signature.wanted_outputs(request.output_filter)
    outputs = run(model, key, inputs, names, call, "Predict")
    response = predict_pb2.PredictResponse()
    fill_model_spec(response.model_spec, model, key)
    for name, array in zip(names, outputs, strict=True):
        tensors.from_numpy(array, signature.output_dtypes[name], response.outputs[name], as_content)
    return response


def predict_arrays(
    models: engine.Engine,
    spec: model_pb2.ModelSpec,
    read: Callable[[meta_graph_pb2.SignatureDef], Mapping[str, np.ndarray]],
    call: Call,
) -> tuple[dict[str, np.ndarray], meta_graph_pb2.SignatureDef]:
    """Answers Predict for a caller with arrays of its own, such as the REST face.

    Args:
        models: The engine.
        spec: Model, version and signature.
        read: Makes the inputs, given the signature.
        call: Deadline and cancellation.

    Returns:
        The outputs by name, and the signature.
    """
    key = spec.signature_name or DEFAULT_SIGNATURE
    with models.acquire(spec) as model:
        signature = model.signatures.get(key)
        if signature is None:
            raise status.invalid_argument(f'Serving signature name: "{key}" not found in signature def')
        inputs = signature.check_inputs(read(signature.definition))
        names = signature.wanted_outputs(())
        return dict(zip(names, run(model, key, inputs, names, call, "Predict"), strict=True)), signature.definition


def run(
    model: lifecycle.LoadedModel,
    key: str,
    inputs: Mapping[str, np.ndarray],
    names: Sequence[str],
    call: Call,
    api: str,
) -> list[np.ndarray]:
    """Runs a signature and records how long it took."""
    start = time.perf_counter()
    outputs = model.servable.run(key, inputs, names, call)
    metrics.runtime_latency(model.name, api, time.perf_counter() - start)
    return outputs


def get_model_metadata(
    models: engine.Engine, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Answers GetModelMetadata: the signatures of a model."""
    require_model_spec(request)
    if not request.metadata_field:
        raise status.invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise status.invalid_argument(f"Metadata field {field} is not supported")
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    with models.acquire(request.model_spec) as model:
        definitions = get_model_metadata_pb2.SignatureDefMap()
        for key, definition in model.servable.signatures.items():
            definitions.signature_def[key].CopyFrom(definition)
        response.metadata[SIGNATURE_DEF].Pack(definitions)
        response.model_spec.name = model.name
        response.model_spec.version.value = model.version
    return response


def get_model_status(
    models: engine.Engine, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """Answers GetModelStatus: the states of one or all versions, latest first."""
    require_model_spec(request)
    spec = request.model_spec
    number = models.version_for(spec)
    states = [entry for entry in models.states(spec.name) if number in (None, entry[0])]
    if not states and number is None:
        raise status.not_found(f"Could not find any versions of model {spec.name}")
    if not states:
        raise status.not_found(f"Could not find version {number} of model {spec.name}")
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, state, error in states:
        entry = response.model_version_status.add(version=version, state=state.value)
        entry.status.error_code = error.code.value[0] if error else 0
        entry.status.error_message = error.message if error else ""
    return response


def require_model_spec(request: object) -> None:
    """Refuses a request without a model_spec."""
    if not request.HasField("model_spec"):
        raise status.invalid_argument("Missing ModelSpec")


def fill_model_spec(spec: model_pb2.ModelSpec, model: lifecycle.LoadedModel, key: str) -> None:
    """Writes name, version and resolved signature into a response's model_spec."""
    spec.name = model.name
    spec.version.value = model.version
    spec.signature_name = key
