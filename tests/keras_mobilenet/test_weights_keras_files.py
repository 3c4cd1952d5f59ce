"""`.keras`, `.weights.h5` and `.h5` files, whole, broken and of other models."""

import shutil
import warnings
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

import keras_mobilenet as km

SIZE = (32, 32, 3)
KINDS = ("model.keras", "model.weights.h5", "model.h5", "weights_only.h5")


def build(**options):
    return km.MobileNetV2(**{"input_shape": SIZE, "alpha": 0.35, "classes": 7} | options)


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.1, 1, weight.shape) for weight in model.weights])
    return model


def assert_equal(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    assert len(one) == len(other)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def save(model: keras.Model, path: Path) -> None:
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    elif path.name.startswith("weights_only"):
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
    else:
        model.save(path)


@pytest.fixture(scope="module")
def source() -> keras.Model:
    return randomize(build())


@pytest.fixture(scope="module")
def files(tmp_path_factory, source) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    for kind in KINDS:
        save(source, folder / kind)
    return {kind: folder / kind for kind in KINDS}


@pytest.fixture(scope="module")
def target() -> keras.Model:
    return build()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_gives_the_weights_that_were_saved(kind, files, source):
    assert_equal(build(weights=files[kind]).get_weights(), source.get_weights())


def test_a_name_counts_for_nothing(files, source, tmp_path):
    for number, kind in enumerate(KINDS):
        model = build()
        km.load_weights(model, shutil.copy(files[kind], tmp_path / f"checkpoint_{number}"))
        assert_equal(model.get_weights(), source.get_weights())


@pytest.mark.parametrize("kind", ["model.weights.h5", "weights_only.h5"])
def test_files_of_keras_applications(kind, tmp_path, source):
    theirs = keras.applications.MobileNetV2(input_shape=SIZE, alpha=0.35, classes=7, weights=None)
    theirs.set_weights(source.get_weights())
    save(theirs, tmp_path / kind)
    assert_equal(build(weights=tmp_path / kind).get_weights(), source.get_weights())


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_changes_nothing(kind, files, target, tmp_path):
    content, before = files[kind].read_bytes(), target.get_weights()
    path = tmp_path / kind
    for length in (0, 1, 7, 100, len(content) // 4, len(content) // 2, len(content) * 99 // 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=kind):
            km.load_weights(target, path)
    assert_equal(target.get_weights(), before)


def test_damage_inside_an_archive_is_found(files, target, tmp_path):
    content = bytearray(files["model.keras"].read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "model.keras").write_bytes(content)
    before = target.get_weights()
    with pytest.raises(ValueError, match=r"truncated or damaged.*Copy"):
        km.load_weights(target, tmp_path / "model.keras")
    assert_equal(target.get_weights(), before)


@pytest.mark.parametrize("kind", ["model.keras", "weights_only.h5"])
@pytest.mark.parametrize(
    ("make", "holds"),
    [
        (lambda: build(alpha=0.5), "alpha=0.5"),
        (lambda: km.MobileNetV1(input_shape=SIZE, alpha=0.25, classes=7), "MobileNetV1 with alpha=0.25"),
        (lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="mine")]), "`mine`"),
    ],
    ids=["alpha", "network", "foreign"],
)
def test_another_network_changes_nothing(kind, make, holds, target, tmp_path):
    save(make(), tmp_path / kind)
    before = target.get_weights()
    with pytest.raises(ValueError, match=holds) as error:
        km.load_weights(target, tmp_path / kind)
    assert "MobileNetV2 with alpha=0.35 and 7 classes" in str(error.value)
    assert_equal(target.get_weights(), before)


def test_a_late_misfit_changes_nothing(files, target, tmp_path):
    path = shutil.copy(files["weights_only.h5"], tmp_path / "late.h5")
    with h5py.File(path, "r+") as file:
        kernel = next(name for name in file["Conv_1"].attrs["weight_names"])
        del file["Conv_1"][kernel]
        file["Conv_1"][kernel] = np.zeros((1, 1, 112, 1279), np.float32)
    before = target.get_weights()
    with pytest.raises(ValueError, match=r"`Conv_1`.*1279"):
        km.load_weights(target, path)
    assert_equal(target.get_weights(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_of_other_classes_keeps_its_values(kind, files, source):
    model = build(classes=3)
    classifier = model.get_layer("predictions").get_weights()
    with pytest.warns(UserWarning, match=r"`predictions`: left at their initial values") as caught:
        km.load_weights(model, files[kind])
    assert caught[0].filename == __file__
    assert_equal(model.get_layer("predictions").get_weights(), classifier)
    assert_equal(model.get_weights()[:-2], source.get_weights()[:-2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_headless_model_takes_the_backbone(kind, files, source):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = build(include_top=False, weights=files[kind])
    assert_equal(model.get_weights(), source.get_weights()[:-2])


@pytest.mark.parametrize("kind", ["model.keras", "model.h5"])
def test_a_backbone_inside_another_model(kind, source, tmp_path):
    backbone = build(include_top=False, pooling="avg")
    nested = keras.Sequential([backbone, keras.layers.Dense(4, name="mine")])
    backbone.set_weights(source.get_weights()[:-2])
    save(nested, tmp_path / kind)
    assert_equal(build(include_top=False, weights=tmp_path / kind).get_weights(), source.get_weights()[:-2])
    again = keras.Sequential([build(include_top=False, pooling="avg"), keras.layers.Dense(4, name="mine")])
    km.load_weights(again, tmp_path / kind)
    assert_equal(again.get_weights(), nested.get_weights())


def test_keras_3_files_without_layer_names(files, source, tmp_path):
    path = shutil.copy(files["model.weights.h5"], tmp_path / "old.weights.h5")
    with h5py.File(path, "r+") as file:
        groups = []
        file.visititems(lambda _, item: groups.append(item) if "name" in item.attrs else None)
        assert len(groups) > 100
        for group in groups:
            del group.attrs["name"]
    assert_equal(build(weights=path).get_weights(), source.get_weights())


def test_bfloat16_weights(source, tmp_path):
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("bfloat16")
        half = build()
    finally:
        keras.config.set_dtype_policy(before)
    half.set_weights(source.get_weights())
    half.save_weights(tmp_path / "half.weights.h5")
    for ours, exact in zip(
        build(weights=tmp_path / "half.weights.h5").get_weights(), source.get_weights(), strict=True
    ):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, exact, rtol=2**-8)


def test_an_hdf5_file_of_something_else(target, tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["measurements"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"without a Keras model's layers: it holds `measurements`"):
        km.load_weights(target, tmp_path / "data.h5")


def test_a_zip_archive_of_something_else(target, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("data.pkl", b"...")
    with pytest.raises(ValueError, match=r"no model.weights.h5, only data.pkl"):
        km.load_weights(target, tmp_path / "model.keras")


def test_an_archive_that_unpacks_to_gigabytes(target, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(2_000_000))
    monkeypatch.setattr("keras_mobilenet.weights.keras_files.MAX_WEIGHTS_BYTES", 1_000_000)
    with pytest.raises(ValueError, match=r"declares 2,000,000 bytes of weights"):
        km.load_weights(target, tmp_path / "model.keras")


def test_links_out_of_the_file_are_not_followed(files, target, tmp_path):
    path = shutil.copy(files["weights_only.h5"], tmp_path / "linked.h5")
    with h5py.File(path, "r+") as file:
        del file["Conv1"]
        file["Conv1"] = h5py.ExternalLink(str(files["weights_only.h5"]), "/Conv1")
    before = target.get_weights()
    with pytest.raises(ValueError, match="is missing or a link"):
        km.load_weights(target, path)
    assert_equal(target.get_weights(), before)


def test_what_is_no_file_of_weights(target, tmp_path):
    (tmp_path / "notes.txt").write_text("not weights at all")
    cases = {
        tmp_path / "missing.h5": "there is no file",
        tmp_path: "is a folder",
        tmp_path / "notes.txt": "begin with b'not weig'",
    }
    for path, message in cases.items():
        with pytest.raises(ValueError, match=message) as error:
            km.load_weights(target, path)
        assert str(path) in str(error.value)
        assert ".weights.h5" in str(error.value)


@pytest.mark.parametrize("weights", ["imagnet", "", 5, True, b"model.h5"])
def test_builders_refuse_what_is_no_weights(weights):
    with pytest.raises(ValueError, match="imagenet"):
        build(weights=weights)


def test_an_unbuilt_model():
    with pytest.raises(ValueError, match="not built yet"):
        km.load_weights(keras.Sequential([keras.layers.Dense(2)]), "weights.h5")
