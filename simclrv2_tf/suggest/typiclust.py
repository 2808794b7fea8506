"""Finds typical and diverse images from representations: TypiClust (arXiv 2202.02794).

Section 3.2 of the paper: cluster all images into as many clusters as there will be labels, then
choose the most typical image of each of the largest clusters without a label.
"""

from __future__ import annotations

import bisect
import dataclasses
import heapq
import importlib.util
import warnings
from collections.abc import Iterator, Sequence

from etils import epy

from simclrv2_tf.errors import UserError

with epy.lazy_imports():
    import numpy as np
    import sklearn.cluster
    import sklearn.exceptions
    import sklearn.neighbors
    import threadpoolctl

# As in the paper and its released code.
_NEIGHBOURS = 20
_MOST_CLUSTERS = 500
_SMALLEST = 6  # images of a cluster; smaller ones are mostly outliers
_MOST_EXACT = 50  # clusters for exact k-means, without mini-batches
_BATCH = 5_000

_LEAST_DISTANCE = 1e-6  # smaller distances are rounding
_SAME = 1e-4  # distance of unit-length rows below which two images are copies


class PackageError(UserError):
    """Raised if the package of an extra is not installed."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """A suggested image.

    Attributes:
        row: Row of the image.
        cluster: Number of its cluster, from 0, the largest cluster first.
        size: Images in the cluster.
        typicality: Result of `typicality` within the cluster.
    """

    row: int
    cluster: int
    size: int
    typicality: float


def check_installed() -> None:
    """Checks that scikit-learn is installed, without importing it.

    Raises:
        PackageError: scikit-learn is missing; the message shows how to install it.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise PackageError(
            "Suggestions need scikit-learn, which is not installed: "
            "pip install 'simclrv2-tf[suggest]'."
        )


def choose(x: np.ndarray, labelled: np.ndarray, count: int, seed: int = 0) -> list[Choice]:
    """Chooses the images to label next.

    All images are clustered, into as many clusters as there will be labels, at most 500. Each step
    chooses from the cluster with the fewest labels, with ties the largest, its most typical image
    without a label. So each choice covers another cluster as long as there are clusters without
    labels.

    Clusters of fewer than six images, which the paper's released code excludes, come last. If
    clusters are small on average, those under half the average come last instead. An image with the
    same representation as a labelled or chosen image is never chosen, because a copy needs no
    second label.

    Args:
        x: (n, d) float32 representations, rows of unit length.
        labelled: (n,) bool, the images that have a label.
        count: Number of images to choose, at least 1.
        seed: Seed of k-means; the same arguments give the same choice.

    Returns:
        At most `count` choices, in order; fewer if no more different images are left.

    Raises:
        ValueError: An argument is out of range.
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1. Received: count={count}")
    if x.ndim != 2 or labelled.shape != (len(x),):
        raise ValueError(
            "`labelled` must have one entry for each row of `x`. "
            f"Received: x.shape={x.shape}, labelled.shape={labelled.shape}"
        )
    if not len(x):
        return []
    wanted = min(int(labelled.sum()) + count, _MOST_CLUSTERS, len(x))
    members = _members(clusters(x, wanted, seed))
    least = min(_SMALLEST, len(x) / len(members) / 2)
    queue = [
        (len(own) < least, int(labelled[own].sum()), number) for number, own in enumerate(members)
    ]
    heapq.heapify(queue)
    known = _Known(x, np.flatnonzero(labelled))
    candidates = [_candidates(x, own, labelled, known) for own in members]
    chosen: list[Choice] = []
    while queue and len(chosen) < count:
        small, labels, number = heapq.heappop(queue)
        found = next(candidates[number], None)
        if found is not None:
            row, typical = found
            chosen.append(Choice(row, number, len(members[number]), typical))
            heapq.heappush(queue, (small, labels + 1, number))
    return chosen


def clusters(x: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Clusters rows by k-means; returns (n,) int64, each row's cluster, the largest cluster first.

    Above 50 clusters uses mini-batches, as in the paper. Finds fewer than `count` clusters if there
    are fewer different rows.

    Args:
        x: (n, d) float32.
        count: Number of clusters, in [1, n].
        seed: Seed of the first centers.
    """
    if count <= _MOST_EXACT:
        kmeans = sklearn.cluster.KMeans(count, random_state=seed)
    else:
        kmeans = sklearn.cluster.MiniBatchKMeans(count, random_state=seed, batch_size=_BATCH)
    # Several threads would sum the centers in an order that varies between calls.
    with threadpoolctl.threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        found = kmeans.fit_predict(x)
    _, numbers, sizes = np.unique(found, return_inverse=True, return_counts=True)
    places = np.empty(len(sizes), np.int64)
    places[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return places[numbers]


def typicality(x: np.ndarray) -> np.ndarray:
    """Returns the typicality of each row, (n,) float64; higher is more typical.

    The inverse of the mean Euclidean distance to its k nearest neighbours (equation 4 of the
    paper). k is 20, or half the number of rows if that is less. Rows that equal their neighbours
    have 10^6; a single row has 0.

    Args:
        x: (n, d), the representations of one cluster.
    """
    if len(x) < 2:
        return np.zeros(len(x))
    near = sklearn.neighbors.NearestNeighbors(
        n_neighbors=min(_NEIGHBOURS, len(x) // 2), algorithm="brute"
    )
    with threadpoolctl.threadpool_limits(1):
        distances, _ = near.fit(x).kneighbors()  # excludes each row itself
    return 1 / np.maximum(distances.mean(1, dtype=np.float64), _LEAST_DISTANCE)


def _members(assigned: np.ndarray) -> Sequence[np.ndarray]:
    """Returns the rows of each cluster, in ascending order."""
    order = np.argsort(assigned, kind="stable")
    return np.split(order, np.cumsum(np.bincount(assigned))[:-1])


def _candidates(
    x: np.ndarray, members: np.ndarray, labelled: np.ndarray, known: _Known
) -> Iterator[tuple[int, float]]:
    """Yields the candidate rows of a cluster, and their typicality, in descending order."""
    typical = typicality(x[members])
    for place in np.argsort(-typical, kind="stable"):
        row = int(members[place])
        if not labelled[row] and not known.has_copy(row):
            known.add(row)
            yield row, float(typical[place])


class _Known:
    """The rows that need no further label, because they have one or are chosen.

    Copies of an image differ by rounding, so k-means may separate them. Only rows with similar
    projections onto one direction are compared, because projections are never farther apart than
    the rows.
    """

    def __init__(self, x: np.ndarray, rows: np.ndarray):
        direction = np.asarray(np.random.default_rng(0).normal(size=x.shape[1]), x.dtype)
        self._x = x
        self._along = x @ (direction / np.linalg.norm(direction))
        self._rows = sorted((float(self._along[row]), int(row)) for row in rows)

    def add(self, row: int) -> None:
        bisect.insort(self._rows, (float(self._along[row]), row))

    def has_copy(self, row: int) -> bool:
        """Whether a known row equals this one, up to rounding."""
        place = float(self._along[row])
        begin = bisect.bisect_left(self._rows, (place - _SAME, -1))
        end = bisect.bisect_left(self._rows, (place + _SAME, len(self._x)))
        near = (other for _, other in self._rows[begin:end])
        return any(np.linalg.norm(self._x[row] - self._x[other]) < _SAME for other in near)
