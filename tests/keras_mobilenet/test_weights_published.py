"""`weights="imagenet"`: which files there are, the cache, and downloads over a real connection."""

import dataclasses
import functools
import hashlib
import http.server
import shutil
import threading
import urllib.request
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_mobilenet as km
from keras_mobilenet.weights import published

HELD = "mobilenet_2_5_224_tf_no_top.h5"  # the published file that the shared data holds


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    folder = tmp_path / "keras" / "models"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def offline(monkeypatch) -> None:
    for name in ("http_proxy", "https_proxy"):  # nothing listens on the discard port, so this holds on any machine
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(urllib.request, "_opener", None)  # urllib reads the variables once


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder whose files a local server gives out in the place of Google's store."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(urllib.request, "_opener", None)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    releases = {key: dataclasses.replace(value, url=url) for key, value in published.RELEASES.items()}
    monkeypatch.setattr(published, "RELEASES", releases)
    yield folder
    server.shutdown()
    server.server_close()


def headless(**options):
    return km.MobileNetV1(
        **{"alpha": 0.25, "input_shape": (224, 224, 3), "include_top": False, "weights": "imagenet"} | options
    )


def test_there_are_76_files_and_sums_for_34():
    files = [file for release in published.RELEASES.values() for file in release.files()]
    assert len(files) == len(set(files)) == 76
    assert set(published.SUMS) <= set(files)
    assert len(published.SUMS) == 34
    assert {len(value) for value in published.SUMS.values()} == {32, 64}


def test_the_sum_of_the_file_at_hand(shared_data):
    content = (shared_data / "weights" / HELD).read_bytes()
    assert hashlib.sha256(content).hexdigest() == published.SUMS[HELD]


@pytest.mark.parametrize(
    ("network", "alpha", "size", "include_top"),
    [
        ("mobilenet_v1", 0.25, 128, True),
        ("mobilenet_v1", 0.75, 192, False),
        ("mobilenet_v2", 0.35, 96, False),
        ("mobilenet_v2", 1.4, 224, True),
    ],
)
def test_urls_are_those_of_keras_applications(network, alpha, size, include_top, monkeypatch):
    module, build = {
        "mobilenet_v1": (keras.src.applications.mobilenet, keras.applications.MobileNet),
        "mobilenet_v2": (keras.src.applications.mobilenet_v2, keras.applications.MobileNetV2),
    }[network]
    asked = []

    def get_file(name, url, **options):
        asked.append((name, url, options["cache_subdir"]))
        raise InterruptedError

    monkeypatch.setattr(module.file_utils, "get_file", get_file)
    with pytest.raises(InterruptedError):
        build(alpha=alpha, input_shape=(size, size, 3), include_top=include_top, weights="imagenet")
    name = published.choose(network, alpha, (size, size), include_top)
    assert asked == [(name, published.RELEASES[network].url + name, published.cache_folder().name)]


@pytest.mark.parametrize(
    ("build", "options", "messages"),
    [
        (km.MobileNetV2, {"alpha": 0.6}, ["alpha=0.6", "0.35, 0.5, 0.75, 1 at 96", "alpha=0.5, input_shape=(224"]),
        (km.MobileNetV2, {"alpha": 0.6, "include_top": False}, ["alpha=0.6", "alpha=0.5", "without the classifier"]),
        (km.MobileNetV2, {"alpha": 1.4, "input_shape": (96, 96, 3)}, ["96 x 96", "alpha=1.4, input_shape=(224, 224"]),
        (km.MobileNetV1, {"input_shape": (150, 150, 3)}, ["150 x 150", "128, 160, 192, 224", "input_shape=(160, 160"]),
        (km.MobileNetV1, {"input_shape": (None, None, 3)}, ["an open size", "input_shape=(224, 224, 3)"]),
        (km.MobileNetV1, {"input_shape": (224, 192, 3)}, ["224 x 192"]),
        (km.MobileNetV1, {"depth_multiplier": 2}, ["depth_multiplier=2"]),
        (km.MobileNetV1, {"shallow": True}, ["this variant", "conv_dw_10"]),
        (km.MobileNetV1, {"convolution": "standard"}, ["this variant"]),
        (km.MobileNetV2, {"shortcut": None}, ["this variant", "block_11_add"]),
        (km.MobileNetV2, {"shortcut": "expansion"}, ["this variant"]),
        (km.MobileNetV2, {"bottleneck_activation": "relu6"}, ["this variant", "block_10_project_relu"]),
        (km.MobileNetV2, {"input_shape": (224, 224, 1)}, ["1 channels"]),
    ],
)
def test_what_is_not_published(build, options, messages, cache, offline):
    with pytest.raises(ValueError) as error:
        build(weights="imagenet", **options)
    for message in messages:
        assert message in str(error.value)


@pytest.mark.parametrize("shape", [None, (150, 150, 3), (224, 192, 3), (None, None, 3)])
def test_without_a_classifier_other_sizes_take_the_file_of_224(shape, cache, offline, shared_data):
    shutil.copyfile(shared_data / "weights" / HELD, cache / HELD)
    with pytest.warns(UserWarning, match="loading those of 224 x 224") as caught:
        model = headless(input_shape=shape)
    assert caught[0].filename == __file__
    expected = km.MobileNetV1(alpha=0.25, include_top=False, weights=shared_data / "weights" / HELD)
    assert np.array_equal(model.get_layer("conv_pw_13").kernel, expected.get_layer("conv_pw_13").kernel)


def test_a_cached_file_needs_no_network(cache, offline, shared_data):
    shutil.copyfile(shared_data / "weights" / HELD, cache / HELD)
    theirs = keras.applications.MobileNet((224, 224, 3), 0.25, include_top=False, weights=str(cache / HELD))
    ours = headless()
    assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True))
    assert np.abs(headless(output_stride=16).get_layer("conv1").kernel).max() > 0


def test_offline_the_error_says_how_to_go_on(cache, offline):
    with pytest.raises(OSError, match="not in the cache") as error:
        headless()
    for message in (
        "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/" + HELD,
        str(cache / HELD),
        "`weights=<file>`",
        "`weights=None`",
    ):
        assert message in str(error.value)
    assert list(cache.iterdir()) == []


def test_offline_a_broken_cached_file_is_kept(cache, offline, shared_data):
    content = (shared_data / "weights" / HELD).read_bytes()[:100_000]
    (cache / HELD).write_bytes(content)
    with pytest.raises(OSError, match="has the sha256"):
        headless()
    assert (cache / HELD).read_bytes() == content
    assert [path.name for path in cache.iterdir()] == [HELD]


def test_a_download_lands_in_the_cache(cache, served, shared_data):
    shutil.copyfile(shared_data / "weights" / HELD, served / HELD)
    (cache / HELD).write_bytes(b"broken")
    model = headless()
    assert model.get_layer("conv1").kernel.shape == (3, 3, 3, 8)
    assert (cache / HELD).read_bytes() == (served / HELD).read_bytes()
    assert [path.name for path in cache.iterdir()] == [HELD]


def test_a_download_with_a_wrong_sum_leaves_nothing(cache, served, shared_data):
    content = bytearray((shared_data / "weights" / HELD).read_bytes())
    content[-5000] ^= 0xFF
    (served / HELD).write_bytes(content)
    with pytest.raises(OSError, match="hash does not match"):
        headless()
    assert list(cache.iterdir()) == []


def test_a_file_of_which_no_sum_is_known(cache, served):
    name = published.choose("mobilenet_v2", 0.35, (96, 96), False)
    assert name not in published.SUMS
    model = km.MobileNetV2((96, 96, 3), 0.35, include_top=False)
    model.save(served / name)
    content = (served / name).read_bytes()
    (cache / name).write_bytes(content[:-1000])  # a download that another program broke off
    loaded = km.MobileNetV2((96, 96, 3), 0.35, include_top=False, weights="imagenet")
    assert all(np.array_equal(a, b) for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True))
    assert (cache / name).read_bytes() == content
    (served / name).write_bytes(content[:-1000])
    (cache / name).unlink()
    with pytest.raises(OSError, match="truncated file"):
        km.MobileNetV2((96, 96, 3), 0.35, include_top=False, weights="imagenet")
    assert list(cache.iterdir()) == []
