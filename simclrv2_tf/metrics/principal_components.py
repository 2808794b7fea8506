"""Principal components in the plane, for a map of representations, in NumPy."""

from typing import NamedTuple

import numpy as np


class Plane(NamedTuple):
    """Principal components.

    Attributes:
        points: (n, 2) float64, centered.
        explained: (2,), the share of the variance along each axis, in [0, 1].
    """

    points: np.ndarray
    explained: np.ndarray


def principal_plane(x: np.ndarray) -> Plane:
    """Projects rows (n, d) onto the two directions in which they vary most.

    The largest entry of each direction is positive, so that the same rows give the same map.
    Directions without variance give zeros.
    """
    x = np.asarray(x, np.float64)
    centered = x - x.mean(0)
    # From the smaller of the two products, in a fraction of the time of an SVD.
    wide = x.shape[1] > len(x)
    product = centered @ centered.T if wide else centered.T @ centered
    values, vectors = np.linalg.eigh(product)
    values, vectors = np.maximum(values[:-3:-1], 0), vectors[:, :-3:-1]
    total = np.sum(centered**2)
    points, explained = np.zeros((len(x), 2)), np.zeros(2)
    for axis, (value, vector) in enumerate(zip(values, vectors.T, strict=True)):
        if value <= 1e-12 * total or value == 0:  # rounding
            continue
        direction = centered.T @ vector / np.sqrt(value) if wide else vector
        sign = np.sign(direction[np.abs(direction).argmax()])
        points[:, axis] = sign * (centered @ direction)
        explained[axis] = value / total
    return Plane(points, explained)
