"""Tables and plots of the ablations: means over seeds, spread, training cost, and the papers' order."""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from training.paper import contestants, document, runs
from training.paper.contestants import ABLATIONS
from training.recipe import Recipe

FIGURE = "ablations.png"
DOCUMENT = "ablations.md"
SIGNIFICANT = 0.05
PASSES = 3
"""Multiply-adds of a training step over those of inference: forward, and twice that backward."""


@dataclass(frozen=True)
class Contestant:
    """All runs of a network.

    Attributes:
        label: What it is called in its ablation.
        results: One for each seed that is done.
    """

    label: str
    results: Sequence[runs.Result]

    @property
    def accuracies(self) -> np.ndarray:
        """Top-1 accuracy of each seed, in percent."""
        return np.array([100 * result.accuracy for result in self.results])

    @property
    def mean(self) -> float:
        """Of the seeds."""
        return float(self.accuracies.mean())

    @property
    def deviation(self) -> float:
        """Standard deviation between seeds; nan where there is one only."""
        return float(self.accuracies.std(ddof=1)) if len(self.results) > 1 else math.nan


def gather(name: str, root: Path, base: Recipe, seeds: int) -> list[Contestant]:
    """What is done of an ablation, in the papers' order; contestants without a run are left out."""
    found = []
    for label, network in ABLATIONS[name].contestants.items():
        each = (runs.finished(runs.Run(network, seed), root, base) for seed in range(seeds))
        results = [result for result in each if result is not None]
        if results:
            found.append(Contestant(label, results))
    return found


def verdict(better: Contestant, worse: Contestant) -> str:
    """Whether two contestants stand in the papers' order: difference of the means, and Student's t-test over seeds."""
    text = f"{better.label} − {worse.label}: {better.mean - worse.mean:+.1f} points"
    if min(len(better.results), len(worse.results)) < 2:
        return f"{text}; a single seed decides nothing"
    p = float(stats.ttest_ind(better.accuracies, worse.accuracies).pvalue)
    text = f"{text}, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    if p >= SIGNIFICANT:
        return f"{text}: **not resolved** by these seeds"
    return f"{text}: {'**as in the paper**' if better.mean > worse.mean else '**the other way round**'}"


def section(name: str, found: Sequence[Contestant], base: Recipe, pictures: int) -> str:
    """An ablation as Markdown."""
    about = ABLATIONS[name]
    rows = [_row(contestant, base, pictures) for contestant in found]
    titles = ["network", "top-1, %: mean ± deviation", "seeds", "parameters, k", "multiply-adds, M"]
    titles += ["training, T multiply-adds", "training, s"]
    pairs = itertools.pairwise(found)
    missing = [label for label in about.contestants if label not in {one.label for one in found}]
    lines = [f"- {verdict(better, worse)}" for better, worse in pairs]
    lines += [f"- not trained yet: {label}" for label in missing]
    return (
        f"## {about.title}\n\n`{name}`; {about.source}: {about.statement}.\n\n"
        + document.table(titles, rows)
        + "\n"
        + "\n".join(lines)
        + "\n"
    )


def _row(one: Contestant, base: Recipe, pictures: int) -> list[str]:
    result = one.results[0]
    cost = PASSES * result.multiply_adds * pictures * base.epochs / 1e12
    seconds = np.median([each.seconds for each in one.results])
    return [
        one.label,
        f"{one.mean:.1f} ± {one.deviation:.1f}" if len(one.results) > 1 else f"{one.mean:.1f}",
        f"{len(one.results)}: {', '.join(f'{value:.1f}' for value in one.accuracies)}",
        f"{result.parameters / 1e3:,.0f}",
        f"{result.multiply_adds / 1e6:.2f}",
        f"{cost:.2f}",
        f"{seconds:,.0f}",
    ]


def draw(gathered: Mapping[str, Sequence[Contestant]]) -> Figure:
    """A panel for each ablation: accuracy of every seed, and the mean."""
    columns = min(4, max(1, len(gathered)))
    lines = math.ceil(max(1, len(gathered)) / columns)
    figure, axes = plt.subplots(lines, columns, figsize=(3.6 * columns, 3.2 * lines), layout="constrained", sharey=True)
    for axis in np.ravel(axes)[len(gathered) :]:
        axis.set_visible(False)
    for axis, (name, found) in zip(np.ravel(axes), gathered.items(), strict=False):
        for place, one in enumerate(found):
            axis.plot([place] * len(one.results), one.accuracies, "o", alpha=0.6)
            axis.plot([place - 0.25, place + 0.25], [one.mean] * 2, color="black")
        labels = [f"{one.label}\n{one.results[0].multiply_adds / 1e6:.1f} M" for one in found]
        axis.set_xticks(range(len(found)), labels, fontsize=7)
        axis.set_xlim(-0.5, len(found) - 0.5)
        axis.set_title(textwrap.fill(ABLATIONS[name].title, 48), fontsize=8)
        axis.grid(axis="y", alpha=0.3)
    for axis in np.ravel(axes)[:: columns or 1]:
        axis.set_ylabel("top-1, %")
    return figure


def setting(base: Recipe, pictures: int, tested: int) -> str:
    """What all the runs have in common."""
    size, v2 = contestants.SIZE, dict(contestants.V2.variant)["stages"]
    rows = ", ".join(f"({row.expansion}, {row.filters}, {row.repeats}, {row.stride})" for row in v2)
    return (
        f"Every network is trained from random weights on the {pictures:,} training pictures of "
        f"`{base.train_files or base.dataset}` for {base.epochs} epochs ({base.optimizer}, learning rate "
        f"{base.learning_rate}, {base.schedule} decay, batch {base.batch_size}, weight decay {base.weight_decay}, "
        f"mirrored and shifted pictures), and measured once, after the last epoch, on the {tested:,} test pictures. "
        "The learning rate and the small MobileNetV2 were chosen by these pictures too, in short trials. "
        f"Input {size} px where nothing else is said. MobileNetV1 is the paper's "
        f"table at alpha 0.25 to 0.5. MobileNetV2 at its full depth and stride of 32 learns next to nothing in so few "
        f"steps from so small pictures; here it is the start of its table with half of its strides, (t, c, n, s) = "
        f"{rows}, at alpha {contestants.V2.alpha}.\n\n"
        "Training cost: multiply-adds of all steps, three times those of inference; seconds by the clock, the median "
        "of the seeds. ± stands for the standard deviation between seeds; p is that of Student's t-test over the "
        f"seeds, and an order counts as found below {SIGNIFICANT}."
    )


def run(names: Sequence[str], root: Path, base: Recipe, seeds: int, minutes: float, output_dir: Path) -> None:
    """Trains what is missing, as long as the time lasts, and writes the document and the figure of what is done."""
    networks = [network for name in names for network in ABLATIONS[name].contestants.values()]
    for done, result in runs.train(runs.planned(networks, seeds), root, base, minutes):
        print(f"{done.network.key}, seed {done.seed}: {result.accuracy:.1%} in {result.seconds:.0f} s", flush=True)
    gathered = {name: gather(name, root, base, seeds) for name in names}
    gathered = {name: found for name, found in gathered.items() if found}
    if not gathered:
        print(f"--minutes={minutes:g} left no time for a single run.")
        return
    counts = runs.picture_counts(root, base)
    document.save(output_dir, FIGURE, draw(gathered))
    sections = [section(name, found, base, counts[0]) for name, found in gathered.items()]
    head = f"# Ablations\n\n{document.stamp()}\n\n![Accuracy of every seed]({FIGURE})\n\n{setting(base, *counts)}\n\n"
    document.write(output_dir, DOCUMENT, head + "\n".join(sections))


def names(argument: str) -> list[str]:
    """The ablations of a command line: a name, or `all`.

    Raises:
        ValueError: There is none of this name.
    """
    if argument == "all":
        return list(ABLATIONS)
    contestants.ablation(argument)
    return [argument]
