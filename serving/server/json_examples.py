"""Classify and Regress over JSON: `examples` with an optional `context` in, `results` out."""

import json
from collections.abc import Mapping
from typing import Any

from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, model_pb2, regression_pb2

from serving.server import engine, examples, json_tensors, servable, status

_INT64_MAX, _UINT64_MAX = 2**63 - 1, 2**64 - 1
_FLOAT_MAX = 3.4028234663852886e38


def classify(models: engine.Engine, spec: model_pb2.ModelSpec, document: Mapping[str, Any], call: servable.Call) -> str:
    """Answers a Classify request: `{"results": [[["label", score], ...], ...]}`."""
    request = classification_pb2.ClassificationRequest(model_spec=spec)
    _fill_input(request.input, document)
    result = examples.classify(models, request, call).result
    rows = [
        [[entry.label, json_tensors.decimal(entry.score)] for entry in row.classes] for row in result.classifications
    ]
    return json.dumps({"results": rows})


def regress(models: engine.Engine, spec: model_pb2.ModelSpec, document: Mapping[str, Any], call: servable.Call) -> str:
    """Answers a Regress request: `{"results": [value, ...]}`."""
    request = regression_pb2.RegressionRequest(model_spec=spec)
    _fill_input(request.input, document)
    result = examples.regress(models, request, call).result
    return json.dumps({"results": [json_tensors.decimal(entry.value) for entry in result.regressions]})


def _fill_input(target: input_pb2.Input, document: Mapping[str, Any]) -> None:
    if "examples" not in document:
        raise status.invalid_argument("When method is classify, key 'examples' is expected and was not found")
    entries = document["examples"]
    if not isinstance(entries, list):
        raise status.invalid_argument("Expecting 'examples' value to be an list/array")
    if not entries:
        raise status.invalid_argument("'examples' value is an empty array")
    if "context" in document:
        _fill_example(target.example_list_with_context.context, document["context"])
    chosen = target.example_list_with_context if "context" in document else target.example_list
    for entry in entries:
        _fill_example(chosen.examples.add(), entry)


def _fill_example(example: example_pb2.Example, value: Any) -> None:
    if not isinstance(value, dict):
        raise status.invalid_argument(f"Example must be JSON object but got JSON {json_tensors.json_type(value)}")
    for name, content in value.items():
        feature = example.features.feature[name]
        for item in content if isinstance(content, list) else [content]:
            _add(feature, name, item)


def _add(feature: feature_pb2.Feature, name: str, item: Any) -> None:
    if item is None or isinstance(item, list) or (isinstance(item, dict) and not json_tensors.is_base64(item)):
        raise status.invalid_argument(
            f"Feature: {name} has element with unexpected JSON type: {json_tensors.json_type(item)}"
        )
    if isinstance(item, (str, dict)):
        _require_kind(feature, name, "bytes_list")
        raw = json_tensors.decode_base64(item) if isinstance(item, dict) else json_tensors.encode_text(item)
        feature.bytes_list.value.append(raw)
    elif isinstance(item, float):
        _require_kind(feature, name, "float_list")
        if _FLOAT_MAX < abs(item) < float("inf"):
            raise status.invalid_argument(f"Cannot convert JSON value: {item} to float without loss of precision.")
        feature.float_list.value.append(item)
    else:
        _require_kind(feature, name, "int64_list")
        if not -_INT64_MAX - 1 <= item <= _INT64_MAX:
            raise status.invalid_argument(f"Feature: {name} has uint64 element. Only int64 is supported.")
        feature.int64_list.value.append(int(item))


def _require_kind(feature: feature_pb2.Feature, name: str, kind: str) -> None:
    current = feature.WhichOneof("kind")
    if current not in (None, kind):
        raise status.invalid_argument(
            f"Unexpected element type in feature: {name} expecting type: {current.removesuffix('_list')}"
        )
