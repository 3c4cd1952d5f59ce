"""A small server for the client's tests: TensorFlow Serving's own stubs over a real SavedModel that TensorFlow runs."""

import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.apis.classification_pb2 import ClassificationResponse

LABELS = ["red", "green", "blue", "grey", "black", "white"]
IMAGE = tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")


class ColourModel(tf.Module):
    """Tells a picture's colour from the mean of its pixels; its signatures are those of an exported MobileNet."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.constant([[4, -2, -2, 0, -1, 1], [-2, 4, -2, 0, -1, 1], [-2, -2, 4, 0, -1, 1]], tf.float32)

    def answer(self, image):
        means = tf.reduce_mean(tf.cast(image, tf.float32) / 255, axis=[1, 2])
        probabilities = tf.nn.softmax(means @ self.kernel)
        scores, class_ids = tf.math.top_k(probabilities, 5)
        return {"probabilities": probabilities, "class_ids": class_ids, "scores": scores}

    @tf.function(input_signature=[IMAGE])
    def serve(self, image):
        return self.answer(image)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve_encoded(self, image_bytes):
        return self.answer(decode(image_bytes))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])  # the name that Classify insists on
    def classify(self, inputs):
        features = tf.io.parse_example(inputs, {"image/encoded": tf.io.FixedLenFeature([], tf.string)})
        answer = self.answer(decode(features["image/encoded"]))
        return {"classes": tf.gather(tf.constant(LABELS), answer["class_ids"]), "scores": answer["scores"]}

    # Every kind of tensor, and a name for each input that says nothing of pictures.
    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="text"),
            tf.TensorSpec([None, 2], tf.float16, name="half"),
            tf.TensorSpec([None], tf.bfloat16, name="brain"),
            tf.TensorSpec([], tf.int64, name="whole"),
            tf.TensorSpec(None, tf.bool, name="flag"),
        ]
    )
    def kinds(self, text, half, brain, whole, flag):
        return {
            "text_bytes": tf.strings.join([text, "!"]),
            "half": half * 2,
            "brain": brain + 1,
            "whole": whole + 1,
            "flag": tf.logical_not(flag),
        }


def decode(image_bytes):
    """Decode and resize encoded pictures."""

    def one(data):
        return tf.image.resize(tf.io.decode_image(data, 3, expand_animations=False), [8, 8])

    return tf.map_fn(one, image_bytes, fn_output_signature=tf.TensorSpec([8, 8, 3], tf.float32))


def write_model(directory):
    """Write version 3 of the colour model below a folder."""
    model, path = ColourModel(), Path(directory) / "3"
    signatures = {
        "serving_default": model.serve,
        "encoded_image": model.serve_encoded,
        "classify": model.classify,
        "kinds": model.kinds,
    }
    tf.saved_model.save(model, str(path), signatures)
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    signature = saved.meta_graphs[0].signature_def["classify"]
    signature.method_name = "tensorflow/serving/classify"
    (path / "saved_model.pb").write_bytes(saved.SerializeToString())
    return path


class Peer(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """The server; it keeps count, and fails when it is told to."""

    def __init__(self, path, name="colours", port=0, credentials=None):
        self.name, self.version = name, int(Path(path).name)
        self.load(path)
        self.lock = threading.Lock()
        self.delay = 0
        self.addition = predict_pb2.PredictResponse()
        self.calls, self.headers, self.failures, self.configs = [], {}, [], []
        self.server = grpc.server(
            futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, self.server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, self.server)
        if credentials:
            self.port = self.server.add_secure_port(f"localhost:{port}", credentials)
        else:
            self.port = self.server.add_insecure_port(f"localhost:{port}")
        self.target = f"localhost:{self.port}"
        self.server.start()

    def load(self, path):
        self.functions = tf.saved_model.load(str(path)).signatures
        saved = saved_model_pb2.SavedModel.FromString((Path(path) / "saved_model.pb").read_bytes())
        self.signatures = {
            name: definition
            for name, definition in saved.meta_graphs[0].signature_def.items()
            if not name.startswith("__")
        }

    def fail(self, code, text, times=1):
        """Answer the next requests with an error."""
        self.failures += [(code, text)] * times

    def stop(self):
        self.server.stop(0).wait()

    def enter(self, method, spec, context):
        with self.lock:
            self.calls.append(method)
            self.headers = dict(context.invocation_metadata())
            failure = self.failures.pop(0) if self.failures else None
        time.sleep(self.delay)
        if failure:
            context.abort(*failure)
        if spec.name != self.name or (spec.HasField("version") and spec.version.value != self.version):
            wanted = (
                f"Specific({spec.name}, {spec.version.value})" if spec.HasField("version") else f"Latest({spec.name})"
            )
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
        if spec.version_label and spec.version_label != "stable":
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"Unrecognized servable version label: {spec.version_label}"
            )

    def fill(self, response, spec):
        response.model_spec.name = self.name
        response.model_spec.version.value = self.version
        response.model_spec.signature_name = spec.signature_name

    def Predict(self, request, context):
        self.enter("Predict", request.model_spec, context)
        name = request.model_spec.signature_name
        if name not in self.functions:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        wanted = self.signatures[name].inputs
        if set(wanted) != set(request.inputs):
            missing = set(wanted) - set(request.inputs)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"input size does not match signature: {missing}")
        try:
            inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
            outputs = self.functions[name](**inputs)
        except tf.errors.InvalidArgumentError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message[:1024])
        response = predict_pb2.PredictResponse()
        self.fill(response, request.model_spec)
        for key in request.output_filter or outputs:
            response.outputs[key].CopyFrom(tf.make_tensor_proto(outputs[key].numpy()))
        response.MergeFrom(self.addition)
        return response

    def Classify(self, request, context):
        self.enter("Classify", request.model_spec, context)
        examples = [example.SerializeToString() for example in request.input.example_list.examples]
        try:
            outputs = self.functions[request.model_spec.signature_name](inputs=tf.constant(examples))
        except tf.errors.InvalidArgumentError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message[:1024])
        response = ClassificationResponse()
        self.fill(response, request.model_spec)
        for labels, scores in zip(outputs["classes"].numpy(), outputs["scores"].numpy(), strict=True):
            classes = response.result.classifications.add().classes
            for label, score in zip(labels, scores, strict=True):
                classes.add(label=label.decode(), score=score)
        return response

    def GetModelMetadata(self, request, context):
        self.enter("GetModelMetadata", request.model_spec, context)
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=self.signatures)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        self.fill(response, request.model_spec)
        response.metadata["signature_def"].Pack(signatures)
        return response

    def GetModelStatus(self, request, context):
        self.enter("GetModelStatus", request.model_spec, context)
        response = get_model_status_pb2.GetModelStatusResponse()
        entry = response.model_version_status.add(version=self.version, state="AVAILABLE")
        entry.status.error_code = 0
        failed = response.model_version_status.add(version=1, state="END")
        failed.status.error_code, failed.status.error_message = 5, "no such file"
        return response

    def HandleReloadConfigRequest(self, request, context):
        self.calls.append("HandleReloadConfigRequest")
        response = model_management_pb2.ReloadConfigResponse()
        if any(not config.base_path.startswith("/") for config in request.config.model_config_list.config):
            response.status.error_code, response.status.error_message = 3, "base_path must be absolute"
        else:
            self.configs.append(request.config)
        return response
