"""What lies in each patch of a picture: labels to teach a vision tower where to look. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.world.drawing import place
from training.world.scenes import SHAPES, TEXTURES, Look

NOTHING = 0  # the label of a patch without a shape
COVERED = 0.85  # of a radius: patches whose middle is nearer show the shape
LABELS = (SHAPES, TEXTURES)  # one column each; a label is 1 + the value's index
Labels = NDArray[np.int64]


def patch_labels(looks: Sequence[Look], times_s: Sequence[float], patches: int) -> Labels:
    """Return which shape and texture each patch shows.

    Args:
        looks: of the pictures.
        times_s: one a look.
        patches: across, and down.

    Returns:
        (looks, patches², 2): columns as in LABELS, NOTHING where there is no shape.
    """
    middles = (np.arange(patches) + 0.5) / patches * 2 - 1
    y, x = (axis.ravel() for axis in np.meshgrid(middles, middles, indexing="ij"))
    labels = np.zeros((len(looks), patches * patches, len(LABELS)), np.int64)
    for row, look, time_s in zip(labels, looks, times_s, strict=True):
        for shape in place(look, time_s):
            covered = np.hypot(x - shape.x, y - shape.y) < COVERED * shape.radius
            row[covered] = (1 + SHAPES.index(shape.shape), 1 + TEXTURES.index(shape.texture))
    return labels
