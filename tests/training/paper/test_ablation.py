import dataclasses
import math

import pytest

import keras_mobilenet as km
from training.paper import ablation, runs
from training.paper.contestants import ABLATIONS
from training.paper.networks import Network, cost

TINY = dataclasses.replace(runs.BASE, dataset="digits", epochs=1, batch_size=128, evaluation_crop=0.0)


def contestant(label, *accuracies):
    return ablation.Contestant(label, [runs.Result(one, 10.0, 1000, 2_000_000, "2026-11-24") for one in accuracies])


@pytest.mark.slow
@pytest.mark.parametrize("name", ABLATIONS)
def test_contestants_can_be_built_and_have_the_cost_that_is_compared(name):
    networks = ABLATIONS[name].contestants
    costs = {label: cost(network).multiply_adds for label, network in networks.items()}
    if name in ("bottleneck", "shortcut"):
        assert len(set(costs.values())) == 1
    elif name == "residual":
        assert costs["residual between wide layers"] == pytest.approx(costs["inverted residual"], rel=0.03)
    elif name == "depth":
        assert max(costs.values()) < 1.1 * min(costs.values())
    else:
        assert list(costs.values()) == sorted(costs.values(), reverse=True)
    assert len({network.key for network in networks.values()}) == len(networks)


def test_verdicts():
    high, low, noisy = contestant("high", 0.9, 0.91, 0.92), contestant("low", 0.5, 0.51, 0.52), (0.3, 0.9, 0.6)
    assert "**as in the paper**" in ablation.verdict(high, low)
    assert "**the other way round**" in ablation.verdict(low, high)
    assert "**not resolved**" in ablation.verdict(contestant("noisy", *noisy), low)
    assert "decides nothing" in ablation.verdict(contestant("one", 0.9), low)
    # t = 40 / (1 * sqrt(2 / 3)) with four degrees of freedom
    assert ablation.verdict(high, low).startswith("high − low: +40.0 points, p < 0.001:")
    close = ablation.verdict(contestant("a", 0.50, 0.51, 0.52), contestant("b", 0.48, 0.49, 0.50))
    assert close == "a − b: +2.0 points, p = 0.070: **not resolved** by these seeds"  # t = 2.449: 0.0705 in tables


def test_section():
    found = [contestant("linear", 0.50, 0.52, 0.54)]
    text = ablation.section("bottleneck", found, TINY, pictures=1000)
    assert "| linear | 52.0 ± 2.0 | 3: 50.0, 52.0, 54.0 | 1 | 2.00 | 0.01 | 10 |" in text
    assert "- not trained yet: ReLU6" in text
    assert math.isnan(contestant("one", 0.5).deviation)


def test_runs_go_seed_by_seed_and_none_twice():
    first, second = Network("mobilenet_v1"), Network("mobilenet_v2")
    planned = runs.planned([first, second, first], 2)
    assert [(run.network, run.seed) for run in planned] == [(first, 0), (second, 0), (first, 1), (second, 1)]


def test_a_name_that_is_unknown():
    with pytest.raises(ValueError, match="There is no ablation 'magic'; allowed are convolution, depth"):
        ablation.names("magic")
    assert ablation.names("all") == list(ABLATIONS)


@pytest.mark.slow
def test_runs_are_kept_and_not_repeated(tmp_path):
    variant = (("shortcut", None), ("stages", (km.Stage(1, 16, 1, 1), km.Stage(6, 24, 2, 2))))
    planned = runs.planned([Network("mobilenet_v2", 0.35, 32, variant)], 2)
    assert [run for run, _ in runs.train(planned, tmp_path, TINY, minutes=1e-3)] == planned[:1]
    first = runs.finished(planned[0], tmp_path, TINY)
    assert 0 < first.accuracy <= 1 and first.seconds > 0
    both = dict(runs.train(planned, tmp_path, TINY, minutes=60))
    assert both[planned[0]] == first
    assert first.multiply_adds == cost(planned[0].network).multiply_adds - 990 * 1280  # ten classes, not a thousand
    other = dataclasses.replace(TINY, learning_rate=0.5)
    (planned[0].folder(tmp_path, TINY) / "results.json").unlink()
    with pytest.raises(ValueError, match=r"holds a run with learning_rate=0\.05"):
        list(runs.train(planned, tmp_path, other, minutes=60))
