"""Measures of collapse that need no labels, computed with NumPy in float64.

h (n, f) are representations and z (n, d) embeddings of two views of the same n images.
"""

import math

import numpy as np

# One point has spread 0 and rank 0, a line rank 1; rounding and noise add a little.
_LEAST_SPREAD, _LEAST_RANK = 0.01, 1.5


def unit_rows(x: np.ndarray, dtype: type = np.float64) -> np.ndarray:
    """Returns the rows of `x` (n, d), each divided by its length; zero rows stay zero."""
    x = np.asarray(x, dtype)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def effective_rank(x: np.ndarray) -> float:
    """Returns the effective rank of the rows of `x` (n, d): exp of their singular values' entropy.

    RankMe (Garrido et al., arXiv 2210.02885, equation 1) of centered rows: from 1, all rows on a
    line, to min(n - 1, d); 0 if all rows are equal.
    """
    x = np.asarray(x, np.float64)
    values = np.linalg.svd(x - x.mean(0), compute_uv=False)
    # Equal rows leave rounding errors after their mean is subtracted.
    if values.max(initial=0) <= 1e-6 * np.linalg.norm(x):
        return 0.0
    p = values[values > 0] / values.sum()
    return float(np.exp(-np.sum(p * np.log(p))))


def spread(x: np.ndarray) -> float:
    """Returns the mean over dimensions of the standard deviation of unit-length rows, times
    sqrt(d).

    For rows (n, d), as in SimSiam (arXiv 2011.10566, section 4.1), but scaled: 1 if the rows point
    equally in all directions, 0 if they point in one direction.
    """
    x = unit_rows(x)
    return float(x.std(0).mean() * np.sqrt(x.shape[1]))


def alignment(z1: np.ndarray, z2: np.ndarray) -> float:
    """Returns the mean squared distance of the unit-length embeddings of two views: 0 to 4.

    Wang and Isola, arXiv 2005.10242, section 4, with alpha = 2. Collapse makes it 0.
    """
    return float(np.mean(np.sum((unit_rows(z1) - unit_rows(z2)) ** 2, axis=1)))


def uniformity(z: np.ndarray) -> float:
    """Returns the log of the mean Gaussian potential of all pairs of unit-length rows: -4 to 0.

    Wang and Isola, arXiv 2005.10242, section 4, with t = 2. 0 for one row, or equal rows.
    """
    z = unit_rows(z)
    i, j = np.triu_indices(len(z), 1)
    if not len(i):
        return 0.0
    squared = np.maximum(2 - 2 * (z @ z.T)[i, j], 0)
    return float(np.log(np.mean(np.exp(-2 * squared))))


def measure(h1, h2, z1, z2) -> dict[str, float]:
    """Returns all measures of two views' representations (n, f) and embeddings (n, d), by name.

    Raises:
        FloatingPointError: a number is NaN or infinite.
    """
    if not all(np.isfinite(x).all() for x in (h1, h2, z1, z2)):
        raise FloatingPointError("The network's representations became NaN or infinite.")
    h, z = np.concatenate([h1, h2]), np.concatenate([z1, z2])
    return {
        "representation_rank": effective_rank(h),
        "representation_spread": spread(h),
        "embedding_rank": effective_rank(z),
        "embedding_spread": spread(z),
        "alignment": alignment(z1, z2),
        "uniformity": uniformity(z1),
    }


def settled_after(batch_norm_decay: float) -> int:
    """Returns the number of steps after which batch norm's initial statistics weigh 1%."""
    return math.ceil(math.log(0.01) / math.log(batch_norm_decay)) if batch_norm_decay else 1


def collapsed(numbers: dict[str, float], settled: bool = True) -> str | None:
    """Describes what has collapsed, from the numbers of `measure`; None if nothing has.

    Args:
        numbers: Measured in inference mode.
        settled: Whether batch norm's moving statistics have left their initial values. Before that,
            the last batch norm does not remove the embeddings' mean, so that they look similar:
            only representations are checked.
    """
    for what in ("representation", "embedding")[: 1 + settled]:
        spread, rank = numbers[f"{what}_spread"], numbers[f"{what}_rank"]
        if spread < _LEAST_SPREAD:
            return f"the {what}s of all images are one point (spread {spread:.2g})"
        if rank < _LEAST_RANK:
            return f"the {what}s vary along one line (effective rank {rank:.2g})"
    return None
