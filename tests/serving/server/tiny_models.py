"""Tiny SavedModels that the tests write and serve."""

from pathlib import Path

import ml_dtypes
import numpy as np
import tensorflow as tf


def half_plus_two(path: Path, offset: float = 2.0) -> Path:
    """x[N] * 0.5 + offset; `serving_default`, and `both` with two inputs and two outputs."""

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.offset = tf.Variable(offset)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def default(self, x):
            return {"y": x * 0.5 + self.offset}

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.float32, name="a"),
                tf.TensorSpec([None, 2], tf.int64, name="b"),
            ]
        )
        def both(self, a, b):
            return {"sum": a + tf.cast(tf.reduce_sum(b, 1), tf.float32), "b_twice": b * 2}

    module = Module()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.default, "both": module.both})
    return path


def product(path: Path, weights: np.ndarray) -> Path:
    """relu(x[N, rows] @ weights)."""

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, len(weights)], tf.float32, name="x")])
        def default(self, x):
            return {"y": tf.nn.relu(x @ tf.constant(weights))}

    module = Module()
    tf.saved_model.save(module, str(path), signatures=module.default)
    return path


def echo(path: Path, dtype: tf.DType) -> Path:
    """Returns its input, of any shape."""

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec(None, dtype, name="x")])
        def default(self, x):
            return {"y": tf.identity(x), "y_bytes": tf.identity(x)} if dtype == tf.string else {"y": tf.identity(x)}

    module = Module()
    tf.saved_model.save(module, str(path), signatures=module.default)
    return path


def decoder(path: Path) -> Path:
    """Decodes a picture in the graph: the op itself reports bad pictures."""

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def default(self, image_bytes):
            def one(encoded):
                return tf.reduce_mean(tf.cast(tf.io.decode_jpeg(encoded, channels=3), tf.float32))

            return {"mean": tf.map_fn(one, image_bytes, fn_output_signature=tf.float32)}

    module = Module()
    tf.saved_model.save(module, str(path), signatures=module.default)
    return path


def counter(path: Path) -> Path:
    """Counts its calls in a variable."""

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.count = tf.Variable(0)

        @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="step")])
        def default(self, step):
            return {"count": self.count.assign_add(step)}

    module = Module()
    tf.saved_model.save(module, str(path), signatures=module.default)
    return path


def slow(path: Path, rounds: int = 40_000) -> Path:
    """Takes a while: a loop of `rounds` small steps."""

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def default(self, x):
            step = lambda i, value: (i + 1, value + 1e-9)  # noqa: E731
            _, value = tf.while_loop(lambda i, value: i < rounds, step, (tf.constant(0), x), parallel_iterations=1)
            return {"y": value}

    module = Module()
    tf.saved_model.save(module, str(path), signatures=module.default)
    return path


def examples_tf1(path: Path) -> Path:
    """A TF 1 SavedModel with classify, regress and predict signatures over one tf.Example placeholder."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, [None], name="tf_example")
        x = tf.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([], tf.float32, 0.0)})["x"]
        weight = v1.get_variable("weight", initializer=0.5)
        y = x * weight + 2.0
        scores = tf.stack([y, -y], 1)
        labels = tf.tile([["plus", "minus"]], [tf.shape(x)[0], 1])
        info = v1.saved_model.build_tensor_info
        signatures = {
            "serving_default": v1.saved_model.predict_signature_def({"x": x}, {"y": y}),
            "classify": v1.saved_model.build_signature_def(
                {"inputs": info(serialized)},
                {"classes": info(labels), "scores": info(scores)},
                "tensorflow/serving/classify",
            ),
            "regress": v1.saved_model.build_signature_def(
                {"inputs": info(serialized)}, {"outputs": info(y)}, "tensorflow/serving/regress"
            ),
        }
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.builder.SavedModelBuilder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
    return path


def lite(path: Path, batch: int | None = 1, signatures: bool = True, uint8: bool = False) -> Path:
    """A `model.tflite` that halves and adds two, [batch, 2]; with TF Serving's signature metadata, or without."""

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([batch, 2], tf.uint8 if uint8 else tf.float32, name="x")])
        def default(self, x):
            return {"y": tf.cast(x, tf.float32) * 0.5 + 2.0}

    module = Module()
    function = module.default.get_concrete_function()
    content = tf.lite.TFLiteConverter.from_concrete_functions([function], module).convert()
    path.mkdir(parents=True)
    (path / "model.tflite").write_bytes(with_signatures(content) if signatures else content)
    return path


def with_signatures(content: bytes) -> bytes:
    """Adds the buffer `signature_defs_metadata`: a FlexBuffer map from key to serialized SignatureDef."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import flexbuffers
    from tensorflow.core.protobuf import meta_graph_pb2

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    graph = model.subgraphs[0]
    definition = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    definition.inputs["x"].name = graph.tensors[graph.inputs[0]].name.decode()
    definition.outputs["y"].name = graph.tensors[graph.outputs[0]].name.decode()
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Key("serving_default")
        # As TensorFlow's C++ does: a string that is no text, which the public `String` does not take.
        builder._WriteBlob(definition.SerializeToString(), append_zero=True, type_=flexbuffers.Type.STRING)
    buffer = schema.BufferT()
    buffer.data = bytes(builder.Finish())
    model.buffers.append(buffer)
    metadata = schema.MetadataT()
    metadata.name, metadata.buffer = b"signature_defs_metadata", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), metadata]
    packed = flatbuffers.Builder()
    packed.Finish(model.Pack(packed), b"TFL3")
    return bytes(packed.Output())


DTYPES = {
    "float32": (tf.float32, np.array([[1.5, -2.0]], np.float32)),
    "float64": (tf.float64, np.array([[1.5, -2.0]], np.float64)),
    "float16": (tf.float16, np.array([[1.5, -2.0]], np.float16)),
    "bfloat16": (tf.bfloat16, np.array([[1.5, -2.0]], ml_dtypes.bfloat16)),
    "int8": (tf.int8, np.array([[-128, 127]], np.int8)),
    "int16": (tf.int16, np.array([[-32768, 32767]], np.int16)),
    "int32": (tf.int32, np.array([[-(2**31), 2**31 - 1]], np.int32)),
    "int64": (tf.int64, np.array([[-(2**63), 2**63 - 1]], np.int64)),
    "uint8": (tf.uint8, np.array([[0, 255]], np.uint8)),
    "uint16": (tf.uint16, np.array([[0, 65535]], np.uint16)),
    "uint32": (tf.uint32, np.array([[0, 2**32 - 1]], np.uint32)),
    "uint64": (tf.uint64, np.array([[0, 2**64 - 1]], np.uint64)),
    "bool": (tf.bool, np.array([[True, False]])),
    "string": (tf.string, np.array([[b"caf\xc3\xa9", b""]], object)),
    "complex64": (tf.complex64, np.array([[1 + 2j, -3j]], np.complex64)),
    "complex128": (tf.complex128, np.array([[1 + 2j, -3j]], np.complex128)),
}
