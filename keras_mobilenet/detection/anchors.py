"""The boxes that a single-shot detector starts from: some at each cell of each of its feature maps."""

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

LOWEST_SCALE = 0.1  # of the square in a reduced first map


@dataclass(frozen=True)
class Anchors:
    """Anchors over square feature maps, from the finest to the coarsest.

    The scale, the side of a square anchor over the picture's, rises evenly from map to map. Each cell has one anchor
    of each aspect ratio, and one square more between its map's scale and the next one's.

    Attributes:
        sizes: Cells along a side of each map.
        lowest_scale: Scale of the first map, above 0.
        highest_scale: Scale of the last map.
        aspect_ratios: Width over height.
        reduce_lowest: Whether the first map has three anchors only: a square of scale 0.1, and the ratios 2 and 1/2 at
            its own scale.

    Source: arXiv:1512.02325, section 2.2; scales 0.2 to 0.95 and the reduced first map are those of the TensorFlow
    object detection API, with which the paper of MobileNetV2 was measured.
    """

    sizes: tuple[int, ...]
    lowest_scale: float = 0.2
    highest_scale: float = 0.95
    aspect_ratios: tuple[float, ...] = (1.0, 2.0, 1 / 2, 3.0, 1 / 3)
    reduce_lowest: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.lowest_scale <= self.highest_scale:
            raise ValueError(
                f"The anchors' scales are {self.lowest_scale} to {self.highest_scale}: pass 0 < lowest <= highest, "
                "such as 0.2 and 0.95."
            )
        if not self.aspect_ratios or min(self.aspect_ratios) <= 0:
            raise ValueError(f"`aspect_ratios={self.aspect_ratios}` are not ratios above 0, such as (1.0, 2.0, 0.5).")

    @cached_property
    def shapes(self) -> tuple[tuple[tuple[float, float], ...], ...]:
        """(scale, aspect ratio) of the anchors at a cell, for each map."""
        scales = [*np.linspace(self.lowest_scale, self.highest_scale, len(self.sizes)).tolist(), 1.0]
        reduced = ((LOWEST_SCALE, 1.0), (self.lowest_scale, 2.0), (self.lowest_scale, 1 / 2))
        maps: list[tuple[tuple[float, float], ...]] = []
        for number, (scale, following) in enumerate(itertools.pairwise(scales)):
            if number == 0 and self.reduce_lowest:
                maps.append(reduced)
            else:
                between = (scale * following) ** 0.5
                maps.append((*((scale, ratio) for ratio in self.aspect_ratios), (between, 1.0)))
        return tuple(maps)

    @property
    def per_cell(self) -> tuple[int, ...]:
        """How many anchors a cell has, for each map."""
        return tuple(len(shapes) for shapes in self.shapes)

    @cached_property
    def boxes(self) -> np.ndarray:
        """All anchors, float32 [anchors, 4]: centre y, centre x, height, width as shares of the picture's sides.

        They stand map by map, row by row, cell by cell.

        Example:
            >>> from keras_mobilenet.detection import Anchors
            >>> Anchors(sizes=(20, 10, 5, 3, 2, 1)).boxes.shape
            (2034, 4)
        """
        return np.concatenate([_grid(size, shapes) for size, shapes in zip(self.sizes, self.shapes, strict=True)])

    def config(self) -> dict[str, Any]:
        """The attributes, as a file keeps them."""
        return {
            "sizes": list(self.sizes),
            "lowest_scale": self.lowest_scale,
            "highest_scale": self.highest_scale,
            "aspect_ratios": list(self.aspect_ratios),
            "reduce_lowest": self.reduce_lowest,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Anchors":
        """The anchors of `config()`."""
        lists = {name: tuple(config[name]) for name in ("sizes", "aspect_ratios")}
        return cls(**(config | lists))


def _grid(size: int, shapes: tuple[tuple[float, float], ...]) -> np.ndarray:
    centres = (np.arange(size) + 0.5) / size
    rows, columns, numbers = np.meshgrid(centres, centres, np.arange(len(shapes)), indexing="ij")
    scales, ratios = np.array(shapes).T
    heights, widths = scales / np.sqrt(ratios), scales * np.sqrt(ratios)
    boxes = np.stack([rows, columns, heights[numbers], widths[numbers]], axis=-1)
    return boxes.reshape(-1, 4).astype(np.float32)
