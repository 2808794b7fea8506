"""t-SNE of representations with openTSNE, which the extra `map` installs."""

import importlib.util

import numpy as np
from etils import epy

with epy.lazy_imports():
    import openTSNE

_PERPLEXITY = 30.0  # the library's default
_LEAST = 50  # rows; fewer need no t-SNE


def installed() -> bool:
    """Whether openTSNE can be imported."""
    return importlib.util.find_spec("openTSNE") is not None


def fits(x: np.ndarray) -> bool:
    """Whether t-SNE can place rows (n, d): at least 50, and not all equal."""
    return len(x) >= _LEAST and bool(np.ptp(x, axis=0).any())


def t_sne_plane(x: np.ndarray) -> np.ndarray:
    """Returns points in the plane that keep the nearest neighbours of rows together.

    t-SNE (van der Maaten and Hinton, JMLR 2008) from the first two principal components, on one
    thread and with a fixed seed: the same rows give the same map on the same machine.

    Args:
        x: (n, d) rows that `fits` accepts, compared by their distances.

    Returns:
        (n, 2) float64.
    """
    perplexity = min(_PERPLEXITY, (len(x) - 1) / 3)
    transformer = openTSNE.TSNE(
        perplexity=perplexity, initialization="pca", random_state=0, n_jobs=1
    )
    return np.asarray(transformer.fit(np.asarray(x, np.float64)), np.float64)
