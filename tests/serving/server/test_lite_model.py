"""`model.tflite` behind --prefer_tflite_model."""

import concurrent.futures

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving.server import backends, config, lite_model, servable, status
from tests.serving.server import tiny_models
from tests.serving.server.calls import get, post, predict, spec


@pytest.fixture(scope="module")
def served_lite(start, tmp_path_factory):
    root = tmp_path_factory.mktemp("lite")
    tiny_models.lite(root / "m" / "1")
    tiny_models.half_plus_two(root / "m" / "2", offset=3.0)
    file = root / "models.config"
    file.write_text(
        f"model_config_list {{ config {{ name: 'm' base_path: '{root / 'm'}' model_platform: 'tensorflow' "
        f"model_version_policy {{ all {{}} }} }} }}"
    )
    return start(model_config_file=str(file), prefer_tflite_model=True)


def test_the_file_runs_where_there_is_one_else_the_saved_model(served_lite):
    x = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    response = predict(served_lite, spec("m", version=1), x=x)
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["y"]), x / 2 + 2)
    assert response.model_spec.signature_name == "serving_default"
    assert predict(served_lite, spec("m", version=2), x=x[0]).outputs["y"].float_val == [3.5, 4.0]
    url = f"{served_lite.url}/v1/models/m/versions/1"
    assert post(f"{url}:predict", {"instances": x.tolist()}) == (200, {"predictions": (x / 2 + 2).tolist()})
    inputs = get(f"{url}/metadata")[1]["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
    assert inputs["x"]["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in inputs["x"]["tensor_shape"]["dim"]] == ["-1", "2"]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 3), np.float32), "expected [?,2], got [1,3]"),
        (np.zeros((1, 2), np.int32), "to be float but int32 is provided"),
        (np.zeros((0, 2), np.float32), "have no rows"),
    ],
)
def test_bad_tensors(served_lite, x, message):
    with pytest.raises(grpc.RpcError) as caught:
        predict(served_lite, spec("m", version=1), x=x)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in caught.value.details()


def test_without_the_metadata_clients_see_raw_tensor_names(tmp_path):
    loaded = lite_model.LiteRTBackend(interpreters=1).load(tiny_models.lite(tmp_path / "1", signatures=False))
    (name,) = loaded.signatures["serving_default"].inputs
    assert name != "x"
    assert loaded.signatures["serving_default"].inputs[name].name == name


@pytest.mark.parametrize(("batch", "rows"), [(1, 3), (4, 6), (None, 5)])
def test_any_number_of_rows(tmp_path, batch, rows):
    loaded = lite_model.LiteRTBackend(interpreters=2).load(tiny_models.lite(tmp_path / "1", batch=batch))

    def ask(start):
        x = np.arange(start, start + rows * 2, dtype=np.float32).reshape(rows, 2)
        (y,) = loaded.run("serving_default", {"x": x}, ["y"], servable.Call())
        np.testing.assert_array_equal(y, x / 2 + 2)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(40)))


def test_uint8_goes_in_as_it_is(tmp_path):
    loaded = lite_model.LiteRTBackend(interpreters=1).load(tiny_models.lite(tmp_path / "1", uint8=True))
    assert loaded.signatures["serving_default"].inputs["x"].dtype == tf.uint8.as_datatype_enum
    (y,) = loaded.run("serving_default", {"x": np.array([[0, 255]], np.uint8)}, ["y"], servable.Call())
    np.testing.assert_array_equal(y, [[2.0, 129.5]])


def test_files_that_do_not_load(tmp_path):
    tiny_models.lite(tmp_path / "1")
    (tmp_path / "1" / "model.tflite").write_bytes(b"no tflite file")
    with pytest.raises(status.ServingError, match="FAILED_PRECONDITION"):
        lite_model.LiteRTBackend().load(tmp_path / "1")


def test_an_edge_tpu_is_asked_for_by_device(tmp_path):
    chosen = backends.choose(config.Options(device="edgetpu"))[0]
    assert chosen.accepts(tmp_path)
    with pytest.raises(status.ServingError, match="NOT_FOUND"):
        chosen.load(tmp_path)
    with pytest.raises(status.ServingError, match="compile"):
        chosen.load(tiny_models.lite(tmp_path / "1"))


def test_real_quantized_weights(shared_data, tmp_path):
    (tmp_path / "1").mkdir()
    file = shared_data / "weights" / "mobilenet_v1_0.25_128_quant.tflite"
    (tmp_path / "1" / "model.tflite").symlink_to(file)
    loaded = lite_model.LiteRTBackend(interpreters=1).load(tmp_path / "1")
    definition = loaded.signatures["serving_default"]
    (name,), (output,) = definition.inputs, definition.outputs
    assert definition.inputs[name].dtype == tf.uint8.as_datatype_enum
    pictures = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)
    (together,) = loaded.run("serving_default", {name: pictures}, [output], servable.Call())
    assert together.shape == (3, 1001)
    for picture, row in zip(pictures, together, strict=True):
        (alone,) = loaded.run("serving_default", {name: picture[None]}, [output], servable.Call())
        np.testing.assert_array_equal(alone[0], row)
