"""The objectives as loops over Python floats, written from the papers: a row for each of them."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np


def dot(x, y):
    return sum(p * q for p, q in zip(x, y, strict=True))


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def unit(z):
    lengths = [math.sqrt(dot(row, row)) for row in z]
    return [[x / (length or 1.0) for x in row] for row, length in zip(z, lengths, strict=True)]


def deviations(z):
    """Each column of z, its mean subtracted."""
    columns = [list(column) for column in zip(*z, strict=True)]
    return [[x - mean(column) for x in column] for column in columns]


def nt_xent(
    z1, z2, temperature=0.1, normalize=True, negatives=(), negatives_valid=None, chunk_size=None
):
    """Equation 1 of both papers: l(i, j) over the 2N views, twice its mean."""
    valid = [True] * len(negatives) if negatives_valid is None else negatives_valid
    extra = [n for n, counts in zip(negatives, valid, strict=True) if counts]
    views = [*z1, *z2]
    if normalize:
        views, extra = unit(views), unit(extra)
    total = 0.0
    for i, anchor in enumerate(views):
        logits = [dot(anchor, view) / temperature for view in [*views, *extra]]
        positive = logits[(i + len(z1)) % len(views)]
        del logits[i]
        top = max(logits)
        total += top + math.log(sum(math.exp(x - top) for x in logits)) - positive
    return 2 * total / len(views)


def decoupled(
    z1,
    z2,
    temperature=0.1,
    normalize=True,
    weighted=False,
    sigma=0.5,
    negatives=(),
    chunk_size=None,
):
    """Equations 5 and 6 of the paper over the 2N views, twice its mean."""
    views, extra = [*z1, *z2], list(negatives)
    if normalize:
        views, extra = unit(views), unit(extra)
    n = len(z1)
    similar = [dot(views[i], views[i + n]) for i in range(n)]
    top = max(similar) / sigma
    weights = [math.exp(x / sigma - top) for x in similar]
    weights = [2 - x / mean(weights) if weighted else 1 for x in weights]
    total = 0.0
    for i, anchor in enumerate(views):
        others = [v for j, v in enumerate(views) if j % n != i % n]
        others = [dot(anchor, v) / temperature for v in [*others, *extra]]
        total -= weights[i % n] * similar[i % n] / temperature
        if others:
            top = max(others)
            total += top + math.log(sum(math.exp(x - top) for x in others))
    return 2 * total / len(views)


def invariance_and_variance(z1, z2, invariance, variance):
    n, d = len(z1), len(z1[0])
    squares = [(p - q) ** 2 for x, y in zip(z1, z2, strict=True) for p, q in zip(x, y, strict=True)]
    total = invariance * sum(squares) / (n * d)
    for z in (z1, z2):
        short = [
            max(0.0, 1 - math.sqrt(dot(column, column) / max(n - 1, 1) + 1e-4))
            for column in deviations(z)
        ]
        total += variance * 0.5 * mean(short)
    return total


def vicreg(z1, z2, invariance=25, variance=25, covariance=1):
    n, d = len(z1), len(z1[0])
    total = invariance_and_variance(z1, z2, invariance, variance)
    for z in (z1, z2):
        y = deviations(z)
        entries = [dot(y[i], y[j]) / max(n - 1, 1) for i in range(d) for j in range(d) if i != j]
        total += covariance * dot(entries, entries) / d
    return total


def barlow_twins(z1, z2, off_diagonal=5e-3):
    n, d = len(z1), len(z1[0])
    s1, s2 = (
        [[x / math.sqrt(dot(y, y) / n + 1e-5) for x in y] for y in deviations(z)] for z in (z1, z2)
    )
    total = 0.0
    for i in range(d):
        for j in range(d):
            c = dot(s1[i], s2[j]) / n
            total += (1 - c) ** 2 if i == j else off_diagonal * c**2
    return total


def running(z, past, beta):
    n, d = len(z), len(z[0])
    return [
        [beta * past[i][j] + (1 - beta) * sum(x[i] * x[j] for x in z) / n for j in range(d)]
        for i in range(d)
    ]


def contrast(z, matrix):
    columns = list(zip(*matrix, strict=True))
    return mean(dot([dot(x, column) for column in columns], x) for x in z)


def tico(z1, z2, covariance, beta=0.9, rho=8):
    z1, z2 = unit(z1), unit(z2)
    matrix = running(z1, covariance, beta)
    agreement = mean(dot(x, y) for x, y in zip(z1, z2, strict=True))
    return -agreement + rho * contrast(z1, matrix), matrix


def vicreg_tico(
    z1, z2, covariance, beta=0.9, invariance=25, variance=25, rho=1, diagonal=True, normalize=False
):
    total = invariance_and_variance(z1, z2, invariance, variance)
    z1 = unit(z1) if normalize else z1
    matrix = running(z1, covariance, beta)
    counted = [
        [x if diagonal or i != j else 0.0 for j, x in enumerate(row)]
        for i, row in enumerate(matrix)
    ]
    return total + rho * contrast(z1, counted), matrix


def cosine(x, y):
    return dot(unit([x])[0], unit([y])[0])


def byol(p1, p2, targets):
    """Equation 2 of the paper, of both directions."""
    t1, t2 = targets
    rows = zip(p1, p2, t1, t2, strict=True)
    return mean((2 - 2 * cosine(a, y)) + (2 - 2 * cosine(b, x)) for a, b, x, y in rows)


def simsiam(p1, p2, targets):
    """Equation 4 of the paper."""
    z1, z2 = targets
    rows = zip(p1, p2, z1, z2, strict=True)
    return mean(-cosine(a, y) / 2 - cosine(b, x) / 2 for a, b, x, y in rows)


# --- The rows -------------------------------------------------------------------------------------


def past_covariance(d):
    z = np.random.default_rng(5).normal(size=(3, d))
    return (z.T @ z / 3 / d).astype("float32")


@dataclasses.dataclass(frozen=True)
class Row:
    """What the tests of an objective are made of.

    Attributes:
        formula: From two views, lists of rows of floats, the state by name and the options to the
            loss; with a state to the loss and the new state's one value.
        cases: Options, by the names of the fields. With weights such that no term hides another.
        traced: Cases that are traced, compiled and run on replicas too.
        state: From the width to the variables' values, by name.
        cancelling: Where a gradient remains of larger ones that cancel, by the kind of inputs: the
            size of those.
        inexact: Pairs (case, kind of inputs) of which float32 keeps too few digits.
        targets: Whether the objective takes targets: the views are then a predictor's outputs.
    """

    formula: Callable
    cases: dict[str, dict]
    traced: tuple[str, ...] = ("default",)
    state: Callable[[int], dict[str, np.ndarray]] = lambda width: {}
    cancelling: dict[str, float] = dataclasses.field(default_factory=dict)
    inexact: tuple[tuple[str, str], ...] = ()
    targets: bool = False


def more(name, z1):
    """The objective's other inputs, for predictions of the shape of z1: arrays by name."""
    if not ROWS[name].targets:
        return {}
    n, d = z1.shape
    return {"targets": tuple(views(n, d, seed=7))}


def with_covariance(width):
    return {"covariance": past_covariance(width)}


ROWS = {
    "nt_xent": Row(
        nt_xent,
        {
            "default": {},
            "temperature": dict(temperature=0.4),
            "streamed": dict(temperature=0.3, chunk_size=4),
            "dot product": dict(temperature=0.5, normalize=False),
        },
        traced=("default", "streamed"),
        inexact=tuple(
            ("dot product", kind)
            for kind in ("far from zero", "collapsed to one row", "one view collapsed")
        ),
    ),
    "decoupled": Row(
        decoupled,
        {
            "default": {},
            "temperature": dict(temperature=0.4),
            "streamed": dict(temperature=0.3, chunk_size=4),
            "dot product": dict(temperature=0.5, normalize=False),
            "weighted": dict(temperature=0.4, weighted=True),
            "weighted, streamed": dict(temperature=0.2, weighted=True, sigma=0.2, chunk_size=3),
        },
        traced=("default", "weighted, streamed"),
        # The two terms cancel.
        inexact=(
            ("dot product", "collapsed to one row"),
            ("weighted, streamed", "two images"),
        ),
    ),
    "byol": Row(byol, {"default": {}}, targets=True),
    "simsiam": Row(simsiam, {"default": {}}, targets=True),
    "vicreg": Row(
        vicreg,
        {
            "default": {},
            "weights": dict(invariance=0.5, variance=2.0, covariance=3.0),
            "only the hinge": dict(invariance=0, variance=1, covariance=0),
        },
    ),
    "barlow_twins": Row(
        barlow_twins,
        {"default": {}, "weight": dict(off_diagonal=0.7)},
        cancelling={"two images": 1.0},
    ),
    "tico": Row(
        tico,
        {"default": {}, "weights": dict(beta=0.3, rho=20.0), "first batch": dict(beta=0)},
        state=with_covariance,
        cancelling={"one image": 1.0},
    ),
    "vicreg_tico": Row(
        vicreg_tico,
        {
            "default": {},
            "weights": dict(beta=0.4, invariance=0.5, variance=2.0, rho=3.0),
            "off diagonal": dict(diagonal=False, variance=1.0, rho=5.0),
            "normalized": dict(normalize=True, variance=1.0, rho=5.0),
            "both": dict(
                diagonal=False, normalize=True, beta=0.5, invariance=0.1, variance=1.0, rho=5.0
            ),
        },
        traced=("both",),
        state=with_covariance,
    ),
}


# --- Inputs and expected values -------------------------------------------------------------------


def views(n, d, seed=0, noise=0.5):
    """z1, z2 (n, d), correlated as views are, of columns correlated with each other.

    The columns' deviations lie on both sides of 1.
    """
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) * np.geomspace(0.1, 2, d) / math.sqrt(d)
    shared = rng.normal(size=(n, d))
    made = [(shared + noise * rng.normal(size=(n, d))) @ mix + 0.3 for _ in range(2)]
    return [z.astype("float32") for z in made]


def constant(n, d):
    """Rows that are all the same, of numbers that no mean over rows leaves as they are."""
    row = np.random.default_rng(2).normal(size=d) * np.geomspace(0.1, 1000, d)
    return np.tile(row, (n, 1)).astype("float32")


KINDS = {
    "more images than dimensions": views(12, 4),
    "more dimensions than images": views(4, 9),
    "unrelated views": views(6, 5, noise=20.0),
    "equal views": views(6, 5, noise=0.0),
    "two images": views(2, 3),
    "one image": views(1, 5),
    "collapsed to one row": [constant(7, 4), constant(7, 4) + np.float32(0.5)],
    "collapsed to zeros": [np.zeros((5, 4), "float32")] * 2,
    "one view collapsed": [views(7, 4)[0], constant(7, 4)],
    "far from zero": [z + np.float32(1000) for z in views(9, 4)],
    "huge": [z * np.float32(1e4) for z in views(9, 4)],
}


def expected(name, z1, z2, state, **options):
    """The loss by the loops in float64, and the new state by name."""
    given = {key: [x.tolist() for x in pair] for key, pair in more(name, z1).items()}
    z1, z2, *past = (np.asarray(x, "float64").tolist() for x in (z1, z2, *state.values()))
    found = ROWS[name].formula(z1, z2, *past, **given, **options)
    return (found[0], dict(zip(state, found[1:], strict=True))) if state else (found, {})


def numeric_gradients(loss, *arrays):
    """Central differences of `loss(*arrays)` in each of the arrays, in float64."""
    arrays = [np.array(z, "float64") for z in arrays]
    found = []
    for z in arrays:
        step = 1e-6 * max(1.0, np.abs(z - z.mean(axis=0)).max())
        gradient = np.zeros_like(z)
        for index in np.ndindex(*z.shape):
            value = z[index]
            ends = []
            for shift in (step, -step):
                z[index] = value + shift
                ends.append(loss(*arrays))
            z[index] = value
            gradient[index] = (ends[0] - ends[1]) / (2 * step)
        found.append(gradient)
    return found


def expected_gradients(name, z1, z2, state, **options):
    return numeric_gradients(lambda *zs: expected(name, *zs, state, **options)[0], z1, z2)


def assert_close(got, wanted, tolerance=1e-5, floor=0.0):
    """To the tolerance, relative to the largest entry."""
    wanted = np.asarray(wanted)
    scale = max(np.abs(wanted).max(), floor)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * scale)
