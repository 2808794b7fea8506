"""t-SNE of representations by openTSNE, which the extra `map` installs."""

import importlib.util

import numpy as np
from etils import epy

with epy.lazy_imports():
    import openTSNE

_PERPLEXITY = 30.0  # the library's default
_LEAST = 50  # rows: fewer are seen at a glance wherever they lie


def installed() -> bool:
    """Whether openTSNE can be imported."""
    return importlib.util.find_spec("openTSNE") is not None


def fits(x: np.ndarray) -> bool:
    """Whether rows (n, d) can be placed by t-SNE: at least 50, and not all the same."""
    return len(x) >= _LEAST and bool(np.ptp(x, axis=0).any())


def t_sne_plane(x: np.ndarray) -> np.ndarray:
    """Points in the plane that keep the nearest neighbours of rows together.

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
