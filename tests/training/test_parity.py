"""Our networks beside keras.applications, and our accuracy beside the originals'."""

import numpy as np
import pytest

from training import parity

QUICK = [("mobilenet_v1", 0.25, 128), ("mobilenet_v2", 0.35, 96)]
PUBLISHED = list(parity.published_networks())


def check(row: parity.Parity) -> None:
    assert row.parameters == row.their_parameters
    assert row.same_names
    assert row.highest > 0.02  # 1/1000 for every class would agree without meaning anything
    assert row.difference <= 1e-5


@pytest.mark.parametrize(("network", "alpha", "size"), QUICK)
def test_parity(network, alpha, size):
    check(parity.compare(network, alpha, size))


@pytest.mark.slow
@pytest.mark.parametrize(("network", "alpha", "size"), [row for row in PUBLISHED if row not in QUICK])
def test_parity_of_all_that_is_published(network, alpha, size):
    check(parity.compare(network, alpha, size))


def test_38_networks_are_published():
    assert len(PUBLISHED) == 38


def test_accuracy_counts():
    scores = np.array([[0.1, 0.5, 0.2, 0.1, 0.05, 0.05], [0.3, 0.3, 0.1, 0.1, 0.1, 0.1]])
    assert parity.accuracy(scores, np.array([1, 1])) == (50.0, 100.0)  # of equal scores the first class counts first
    assert parity.accuracy(scores, np.array([5, 5])) == (0.0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("file", [file for file in parity.FILES if file.stated], ids=lambda file: file.name)
def test_accuracy_on_ccby400(file, shared_data):
    pictures = parity.read_pictures(shared_data, 400)
    top1, _ = parity.accuracy(parity.our_scores(parity.build(file, shared_data), pictures, file.size), pictures.labels)
    if file.name.endswith(".h5"):
        assert abs(top1 - file.stated[0]) <= 1.0
    else:  # activations are not rounded here, which may well classify better than the original
        assert top1 >= file.stated[0] - 1.5


@pytest.mark.parametrize("file", [file for file in parity.FILES if not file.include_top], ids=lambda file: file.name)
def test_headless_files_give_the_features_of_keras_applications(file, shared_data):
    assert parity.headless_difference(file, shared_data, parity.read_pictures(shared_data, 4)) < 1e-3
