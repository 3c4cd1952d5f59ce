"""Classify, Regress and MultiInference: tf.Examples in, labels and scores out."""

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    regression_pb2,
)

from serving.server import engine, inference, lifecycle, metrics, servable, status, tensors
from serving.server.servable import DEFAULT_SIGNATURE

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
_INPUTS, _CLASSES, _SCORES, _OUTPUTS = "inputs", "classes", "scores", "outputs"
_KINDS = {CLASSIFY_METHOD: "classification", REGRESS_METHOD: "regression"}


def classify(
    models: engine.Engine, request: classification_pb2.ClassificationRequest, call: servable.Call
) -> classification_pb2.ClassificationResponse:
    """Answers Classify.

    Args:
        models: The engine.
        request: Model, signature and examples.
        call: Deadline and cancellation.

    Returns:
        Labels and scores for each example.

    Raises:
        ServingError: As the wire contract says.
    """
    inference.require_model_spec(request)
    with models.acquire(request.model_spec) as model:
        return classify_on(model, request, call)


def classify_on(
    model: lifecycle.LoadedModel, request: classification_pb2.ClassificationRequest, call: servable.Call
) -> classification_pb2.ClassificationResponse:
    """Answers Classify on a model at hand."""
    key = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = _signature(model, key, CLASSIFY_METHOD)
    names = _classify_outputs(signature)
    count, outputs = _run(model, key, names, request.input, call, "Classify")
    response = classification_pb2.ClassificationResponse()
    _fill_classifications(response.result, count, dict(zip(names, outputs, strict=True)))
    inference.fill_model_spec(response.model_spec, model, key)
    return response


def regress(
    models: engine.Engine, request: regression_pb2.RegressionRequest, call: servable.Call
) -> regression_pb2.RegressionResponse:
    """Answers Regress: one value for each example; see `classify`."""
    inference.require_model_spec(request)
    with models.acquire(request.model_spec) as model:
        return regress_on(model, request, call)


def regress_on(
    model: lifecycle.LoadedModel, request: regression_pb2.RegressionRequest, call: servable.Call
) -> regression_pb2.RegressionResponse:
    """Answers Regress on a model at hand."""
    key = request.model_spec.signature_name or DEFAULT_SIGNATURE
    _check_regression(_signature(model, key, REGRESS_METHOD))
    count, (output,) = _run(model, key, [_OUTPUTS], request.input, call, "Regress")
    response = regression_pb2.RegressionResponse()
    _fill_regressions(response.result, count, output)
    inference.fill_model_spec(response.model_spec, model, key)
    return response


def multi_inference(
    models: engine.Engine, request: inference_pb2.MultiInferenceRequest, call: servable.Call
) -> inference_pb2.MultiInferenceResponse:
    """Answers MultiInference: several classify and regress signatures of one model over the same examples."""
    if not request.tasks:
        raise status.invalid_argument("Inference request is empty.")
    with models.acquire(request.tasks[0].model_spec) as model:
        return multi_inference_on(model, request, call)


def multi_inference_on(
    model: lifecycle.LoadedModel, request: inference_pb2.MultiInferenceRequest, call: servable.Call
) -> inference_pb2.MultiInferenceResponse:
    """Answers MultiInference on a model at hand."""
    _check_tasks(model, request)
    response = inference_pb2.MultiInferenceResponse()
    for task in request.tasks:
        result = response.results.add()
        if task.method_name == CLASSIFY_METHOD:
            part = classification_pb2.ClassificationRequest(model_spec=task.model_spec, input=request.input)
            answer = classify_on(model, part, call)
            result.classification_result.CopyFrom(answer.result)
        else:
            part = regression_pb2.RegressionRequest(model_spec=task.model_spec, input=request.input)
            answer = regress_on(model, part, call)
            result.regression_result.CopyFrom(answer.result)
        result.model_spec.CopyFrom(answer.model_spec)
    return response


def serialize(examples: input_pb2.Input) -> np.ndarray:
    """Turns a request's examples into the string tensor that the graph parses.

    Args:
        examples: A list, or a list with a context whose features every example gets as well.

    Returns:
        Serialized tf.Examples, shape [N].

    Raises:
        ServingError: INVALID_ARGUMENT where there is none.
    """
    kind = examples.WhichOneof("kind")
    entries = getattr(examples, kind).examples if kind else ()
    if not entries:
        raise status.invalid_argument("Input is empty.")
    # Concatenated messages merge on parsing, the example's own features last.
    context = (
        examples.example_list_with_context.context.SerializeToString() if kind == "example_list_with_context" else b""
    )
    serialized = np.empty(len(entries), object)
    serialized[:] = [context + entry.SerializeToString() for entry in entries]
    return serialized


def _run(
    model: lifecycle.LoadedModel,
    key: str,
    names: list[str],
    examples: input_pb2.Input,
    call: servable.Call,
    api: str,
) -> tuple[int, list[np.ndarray]]:
    serialized = serialize(examples)
    metrics.examples(model.name, len(serialized))
    return len(serialized), inference.run(model, key, {_INPUTS: serialized}, names, call, api)


def _signature(model: lifecycle.LoadedModel, key: str, method: str) -> meta_graph_pb2.SignatureDef:
    signature = model.servable.signatures.get(key)
    if signature is None:
        raise status.invalid_argument(f"No signature was found with the name: {key}")
    _check_method(model, signature, method)
    return signature


def _check_method(model: lifecycle.LoadedModel, signature: meta_graph_pb2.SignatureDef, method: str) -> None:
    if not model.check_method_name or signature.method_name == method:
        return
    raise status.invalid_argument(
        f"Expected {_KINDS[method]} signature method_name to be {method}. Was: {signature.method_name}"
    )


def _classify_outputs(signature: meta_graph_pb2.SignatureDef) -> list[str]:
    _check_one_input(signature, "classification")
    if len(signature.outputs) not in (1, 2):
        raise status.invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    names = [name for name in (_CLASSES, _SCORES) if name in signature.outputs]
    if not names:
        raise status.failed_precondition(
            f'Expected classification signature outputs to contain at least one of "{_CLASSES}" or "{_SCORES}". '
            f"Signature was: {signature}"
        )
    return names


def _check_regression(signature: meta_graph_pb2.SignatureDef) -> None:
    _check_one_input(signature, "regression")
    if len(signature.outputs) != 1:
        raise status.invalid_argument("Expected one output Tensor.")
    if _OUTPUTS not in signature.outputs:
        raise status.failed_precondition(f"No regression outputs found in SignatureDef: {signature}")


def _check_one_input(signature: meta_graph_pb2.SignatureDef, kind: str) -> None:
    if len(signature.inputs) != 1:
        raise status.invalid_argument("Expected one input Tensor.")
    if _INPUTS not in signature.inputs:
        raise status.failed_precondition(f"No {kind} inputs found in SignatureDef: {signature}")
    if signature.inputs[_INPUTS].dtype != types_pb2.DT_STRING:
        raise status.invalid_argument(
            f"Expects arg[0] to be {tensors.type_name(signature.inputs[_INPUTS].dtype)} but string is provided "
            f"(serialized tf.Examples)"
        )


def _check_tasks(model: lifecycle.LoadedModel, request: inference_pb2.MultiInferenceRequest) -> None:
    seen: set[str] = set()
    tensor_name = None
    for task in request.tasks:
        key = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if not task.model_spec.name:
            raise status.invalid_argument("Found ModelSpec with an empty model name.")
        if task.model_spec.name != model.name:
            raise status.invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        if key in seen:
            raise status.invalid_argument(f"Duplicate evaluation of signature: {key}")
        seen.add(key)
        signature = model.servable.signatures.get(key)
        if signature is None:
            raise status.invalid_argument(f"Requested signature not found in model graph: {key}")
        if task.method_name not in _KINDS:
            raise status.ServingError(
                status.grpc.StatusCode.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
            )
        _check_method(model, signature, task.method_name)
        if task.method_name == CLASSIFY_METHOD:
            _classify_outputs(signature)
        else:
            _check_regression(signature)
        if tensor_name not in (None, signature.inputs[_INPUTS].name):
            raise status.invalid_argument("Input tensor must be the same for all Signatures.")
        tensor_name = signature.inputs[_INPUTS].name


def _fill_classifications(
    result: classification_pb2.ClassificationResult, count: int, outputs: dict[str, np.ndarray]
) -> None:
    for name, kind, dtype_name in ((_CLASSES, "O", "DT_STRING"), (_SCORES, "f", "DT_FLOAT")):
        if name in outputs:
            _check_classification(name, outputs[name], kind, dtype_name, count)
    columns = {array.shape[1] for array in outputs.values()}
    if len(columns) > 1:
        raise status.invalid_argument(
            f"Tensors class and score should match in dim_size(1). Got {outputs[_CLASSES].shape[1]} vs. "
            f"{outputs[_SCORES].shape[1]}"
        )
    labels = outputs[_CLASSES].tolist() if _CLASSES in outputs else None
    scores = outputs[_SCORES].tolist() if _SCORES in outputs else None
    for row in range(count):
        classes = result.classifications.add().classes
        for column in range(next(iter(columns))):
            entry = classes.add()
            if labels:
                entry.label = _label(labels[row][column])
            if scores:
                entry.score = scores[row][column]


def _label(raw: bytes | str) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw


def _check_classification(name: str, array: np.ndarray, kind: str, dtype_name: str, count: int) -> None:
    if array.ndim != 2:
        raise status.invalid_argument(
            f"Expected Tensor shape: [batch_size num_classes] but got {tensors.shape_string(array.shape)}"
        )
    if array.dtype.kind != kind:
        raise status.invalid_argument(f"Expected {name} Tensor of {dtype_name}. Got: {array.dtype.name}")
    if array.shape[0] != count:
        raise status.invalid_argument(f"Expected {name} output batch size of {count}. Got: {array.shape[0]}")


def _fill_regressions(result: regression_pb2.RegressionResult, count: int, output: np.ndarray) -> None:
    if not (output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1)):
        raise status.invalid_argument(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{tensors.shape_string(output.shape)}"
        )
    if output.shape[0] != count:
        raise status.invalid_argument(
            f"Input batch size did not match output batch size: {count} vs. {output.shape[0]}"
        )
    if output.dtype != np.float32:
        raise status.invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {output.dtype.name}")
    for value in output.ravel().tolist():
        result.regressions.add().value = value
