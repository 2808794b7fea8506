"""VICReg, Barlow Twins, TiCo and their hybrid against loops in float64, alone and on replicas."""

import json
import math
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from simclrv2_tf import objectives

# --- The definitions, entry by entry: rows are lists of Python floats -----------------------------


def dot(x, y):
    return sum(p * q for p, q in zip(x, y, strict=True))


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def deviations(z):
    """Each column of z, its mean subtracted."""
    columns = [list(column) for column in zip(*z, strict=True)]
    return [[x - mean(column) for x in column] for column in columns]


def unit(z):
    lengths = [math.sqrt(dot(row, row)) for row in z]
    return [[x / (length or 1.0) for x in row] for row, length in zip(z, lengths, strict=True)]


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


def tico(z1, z2, past, beta=0.9, rho=8):
    z1, z2 = unit(z1), unit(z2)
    matrix = running(z1, past, beta)
    agreement = mean(dot(x, y) for x, y in zip(z1, z2, strict=True))
    return -agreement + rho * contrast(z1, matrix), matrix


def vicreg_tico(
    z1, z2, past, beta=0.9, invariance=25, variance=25, rho=1, diagonal=True, normalize=False
):
    total = invariance_and_variance(z1, z2, invariance, variance)
    z1 = unit(z1) if normalize else z1
    matrix = running(z1, past, beta)
    counted = [
        [x if diagonal or i != j else 0.0 for j, x in enumerate(row)]
        for i, row in enumerate(matrix)
    ]
    return total + rho * contrast(z1, counted), matrix


# --- What is compared -----------------------------------------------------------------------------

# The weights are such that no term hides behind another.
CASES = {
    "vicreg": ("vicreg", {}),
    "vicreg weights": ("vicreg", dict(invariance=0.5, variance=2.0, covariance=3.0)),
    "vicreg hinge alone": ("vicreg", dict(invariance=0, variance=1, covariance=0)),
    "barlow": ("barlow_twins", {}),
    "barlow weight": ("barlow_twins", dict(off_diagonal=0.7)),
    "tico": ("tico", {}),
    "tico weights": ("tico", dict(beta=0.3, rho=20.0)),
    "tico first batch": ("tico", dict(beta=0)),
    "hybrid": ("vicreg_tico", {}),
    "hybrid weights": ("vicreg_tico", dict(beta=0.4, invariance=0.5, variance=2.0, rho=3.0)),
    "hybrid off diagonal": ("vicreg_tico", dict(diagonal=False, variance=1.0, rho=5.0)),
    "hybrid normalized": ("vicreg_tico", dict(normalize=True, variance=1.0, rho=5.0)),
    "hybrid both": (
        "vicreg_tico",
        dict(diagonal=False, normalize=True, beta=0.5, invariance=0.1, variance=1.0, rho=5.0),
    ),
}
STATEFUL = ("tico", "vicreg_tico")
# Where a gradient is what remains of larger ones that cancel: the size of those.
CANCELLING = {("barlow_twins", "two images"): 1.0, ("tico", "one image"): 1.0}


def views(n, d, seed=0, noise=0.5):
    """z1, z2 (n, d), correlated as views are, of columns correlated with each other.

    The columns' deviations lie on both sides of 1.
    """
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) * np.geomspace(0.1, 2, d) / math.sqrt(d)
    shared = rng.normal(size=(n, d))
    made = [(shared + noise * rng.normal(size=(n, d))) @ mix + 0.3 for _ in range(2)]
    return [z.astype("float32") for z in made]


def test_views_are_on_both_sides_of_the_hinge():
    for z in views(12, 4):
        deviation = z.std(axis=0, ddof=1)
        assert deviation.min() < 0.9 and deviation.max() > 1.1


def past_covariance(d, seed=5):
    z = np.random.default_rng(seed).normal(size=(3, d))
    return (z.T @ z / 3 / d).astype("float32")


def constant(n, d):
    """Rows that are all the same, of numbers that no mean over rows leaves as they are."""
    row = np.random.default_rng(2).normal(size=d) * np.geomspace(0.1, 1000, d)
    return np.tile(row, (n, 1)).astype("float32")


def inputs(kind):
    if kind == "collapsed to one row":
        return constant(7, 4), constant(7, 4) + np.float32(0.5)
    if kind == "collapsed to zeros":
        return [np.zeros((5, 4), "float32")] * 2
    if kind == "one view collapsed":
        return views(7, 4)[0], constant(7, 4)
    if kind == "far from zero":
        return [z + np.float32(1000) for z in views(9, 4)]
    if kind == "huge":
        return [z * np.float32(1e4) for z in views(9, 4)]
    n, d, noise = {
        "more images than dimensions": (12, 4, 0.5),
        "more dimensions than images": (4, 9, 0.5),
        "unrelated views": (6, 5, 20.0),
        "equal views": (6, 5, 0.0),
        "two images": (2, 3, 0.5),
        "one image": (1, 5, 0.5),
    }[kind]
    return views(n, d, noise=noise)


KINDS = [
    "more images than dimensions",
    "more dimensions than images",
    "unrelated views",
    "equal views",
    "two images",
    "one image",
    "collapsed to one row",
    "collapsed to zeros",
    "one view collapsed",
    "far from zero",
    "huge",
]


def expected(case, z1, z2, past):
    """The loops' loss and new covariance, or None."""
    name, options = CASES[case]
    rows = [np.asarray(x, "float64").tolist() for x in (z1, z2, past)]
    found = globals()[name](*rows[: 3 if name in STATEFUL else 2], **options)
    return found if name in STATEFUL else (found, None)


def expected_gradients(case, z1, z2, past):
    """Central differences of the loops, in z1 and z2."""
    arrays = [np.array(z, "float64") for z in (z1, z2)]
    found = []
    for z in arrays:
        step = 1e-6 * max(1.0, np.abs(z - z.mean(axis=0)).max())
        gradient = np.zeros_like(z)
        for index in np.ndindex(*z.shape):
            value = z[index]
            ends = []
            for shift in (step, -step):
                z[index] = value + shift
                ends.append(expected(case, *arrays, past)[0])
            z[index] = value
            gradient[index] = (ends[0] - ends[1]) / (2 * step)
        found.append(gradient)
    return found


def ours(case, z1, z2, past):
    """loss, new covariance or None, [gradients in z1, z2]."""
    name, options = CASES[case]
    z1, z2 = tf.convert_to_tensor(z1), tf.convert_to_tensor(z2)
    with tf.GradientTape() as tape:
        tape.watch([z1, z2])
        state = (past,) if name in STATEFUL else ()
        found = getattr(objectives, name)(z1, z2, *state, **options)
    loss, covariance = found if name in STATEFUL else (found, None)
    return loss, covariance, tape.gradient(loss, [z1, z2])


def assert_close(got, wanted, tolerance=1e-5, floor=0.0):
    """To the tolerance, relative to the largest entry."""
    wanted = np.asarray(wanted)
    scale = max(np.abs(wanted).max(), floor)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * scale)


# --- Alone ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_value_gradient_and_covariance_are_the_loops(case, kind):
    z1, z2 = inputs(kind)
    past = past_covariance(z1.shape[1])
    loss, covariance, gradients = ours(case, z1, z2, past)
    wanted_loss, wanted_covariance = expected(case, z1, z2, past)
    assert loss.shape == () and loss.dtype == tf.float32
    assert_close(loss, wanted_loss, floor=1e-6)
    if wanted_covariance is not None:
        assert covariance.dtype == tf.float32
        assert_close(covariance, wanted_covariance)
    wanted = expected_gradients(case, z1, z2, past)
    floor = CANCELLING.get((CASES[case][0], kind), 1e-3)
    assert_close(gradients, wanted, floor=floor)


@pytest.mark.parametrize("case", CASES)
def test_rows_of_zeros_are_finite(case):
    """One view has a length, the other none: the steepest place of a unit vector."""
    z1, z2 = (z.copy() for z in views(6, 4))
    z1[:3], z2[2:5] = 0.0, 0.0
    past = past_covariance(4)
    loss, covariance, gradients = ours(case, z1, z2, past)
    wanted_loss, wanted_covariance = expected(case, z1, z2, past)
    assert_close(loss, wanted_loss)
    if covariance is not None:
        assert_close(covariance, wanted_covariance)
    assert np.all(np.isfinite(gradients)) and np.any(gradients)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_computes_in_float32_whatever_the_inputs_are(case, dtype):
    z1, z2, past = (tf.cast(x, dtype) for x in (*views(8, 5), past_covariance(5)))
    exact = [tf.cast(x, "float64").numpy() for x in (z1, z2, past)]
    loss, covariance, gradients = ours(case, z1, z2, past)
    wanted_loss, wanted_covariance = expected(case, *exact)
    assert loss.dtype == tf.float32 and all(g.dtype == dtype for g in gradients)
    assert_close(loss, wanted_loss)
    if covariance is not None:
        assert covariance.dtype == tf.float32
        assert_close(covariance, wanted_covariance)
    rounding = {"bfloat16": 2**-8, "float16": 2**-10, "float64": 1e-5}[dtype]
    gradients = [tf.cast(g, "float64").numpy() for g in gradients]
    assert_close(gradients, expected_gradients(case, *exact), rounding)


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0] in STATEFUL])
def test_steps_carry_the_covariance_and_no_gradient(case):
    name, options = CASES[case]
    carried = theirs = np.zeros((4, 4))
    batches = [[tf.constant(z) for z in views(5 + step, 4, seed=step)] for step in range(4)]
    for step, (z1, z2) in enumerate(batches):
        with tf.GradientTape(persistent=True) as tape:
            before = tf.constant(carried, tf.float32)
            tape.watch([z1, z2, before])
            loss, carried = getattr(objectives, name)(z1, z2, before, **options)
            next_loss, _ = getattr(objectives, name)(*batches[0], carried, **options)
        wanted_loss, after = expected(case, z1, z2, theirs)
        assert_close(loss, wanted_loss)
        assert_close(carried, after)
        assert tape.gradient(loss, before) is None
        assert tape.gradient(carried, [z1, z2, before]) == [None] * 3
        if step > 0:  # the first batch is the next one too
            assert tape.gradient(next_loss, [z1, z2, before]) == [None] * 3
        gradients = tape.gradient(loss, [z1, z2])
        assert_close(gradients, expected_gradients(case, z1, z2, theirs))
        theirs = after


@pytest.mark.parametrize("normalize", [False, True])
def test_hybrid_without_the_diagonal_returns_the_whole_covariance(normalize):
    z1, z2 = views(6, 4)
    past, weights = past_covariance(4), dict(invariance=0.0, variance=0.0, normalize=normalize)
    found = {
        diagonal: objectives.vicreg_tico(z1, z2, past, diagonal=diagonal, **weights)
        for diagonal in (True, False)
    }
    np.testing.assert_array_equal(found[True][1], found[False][1])
    rows = unit(z1.astype("float64").tolist()) if normalize else z1.astype("float64").tolist()
    matrix = np.asarray(found[True][1], "float64")
    removed = mean(sum(matrix[i, i] * x**2 for i, x in enumerate(row)) for row in rows)
    assert_close(found[True][0] - found[False][0], removed)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("case", ["vicreg", "barlow", "tico", "hybrid both"])
def test_compiles_for_any_batch_size(case, jit_compile):
    signature = [tf.TensorSpec((None, 4))] * 2 + [tf.TensorSpec((4, 4))]

    @tf.function(input_signature=signature, jit_compile=jit_compile)
    def compiled(z1, z2, past):
        loss, covariance, gradients = ours(case, z1, z2, past)
        return loss, past if covariance is None else covariance, tf.stack(gradients)

    for count in (7, 1):
        inputs = (*views(count, 4), past_covariance(4))
        loss, covariance, gradients = ours(case, *inputs)
        got = compiled(*inputs)
        assert_close(got[0], loss)
        assert_close(got[1], inputs[2] if covariance is None else covariance)
        assert_close(got[2], gradients, floor=1e-3)


Z = np.ones((4, 3), "float32")
C = np.eye(3, dtype="float32")
WEIGHTS = {
    "vicreg": ("invariance", "variance", "covariance"),
    "barlow_twins": ("off_diagonal",),
    "tico": ("rho",),
    "vicreg_tico": ("invariance", "variance", "rho"),
}


def call(name, **arguments):
    state = {"covariance": C} if name in STATEFUL else {}
    return getattr(objectives, name)(**{"z1": Z, "z2": Z, **state, **arguments})


@pytest.mark.parametrize("wrong", [-1, -1e-3, math.nan, math.inf, np.float32(-1)])
@pytest.mark.parametrize("name, weight", [(n, w) for n, ws in WEIGHTS.items() for w in ws])
def test_bad_weights(name, weight, wrong):
    with pytest.raises(ValueError, match=f"`{weight}` must .* Received: {weight}={wrong}$"):
        call(name, **{weight: wrong})
    call(name, **{weight: 0})


@pytest.mark.parametrize("name", STATEFUL)
def test_bad_beta(name):
    for wrong in (-0.1, 1.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"`beta` must .* Received: beta={wrong}$"):
            call(name, beta=wrong)
    for right in (0, 1):
        call(name, beta=right)


@pytest.mark.parametrize("name", WEIGHTS)
def test_bad_embeddings(name):
    message = r"`z1` and `z2` must .* Received: z1.shape=\(4, 3\), z2.shape=\(3, 3\)$"
    with pytest.raises(ValueError, match=message):
        call(name, z2=Z[:3])
    for wrong in (dict(z2=Z[:, :2]), dict(z1=Z[0], z2=Z[0]), dict(z1=Z[None], z2=Z[None])):
        with pytest.raises(ValueError, match="`z1` and `z2` must"):
            call(name, **wrong)


@pytest.mark.parametrize("name", STATEFUL)
def test_bad_covariance(name):
    message = r"`covariance` must .* Received: covariance.shape=\(4, 3\), z1.shape=\(4, 3\)$"
    with pytest.raises(ValueError, match=message):
        call(name, covariance=Z)
    for wrong in (C[0], C[:2, :2], C[None], 1.0):
        with pytest.raises(ValueError, match="`covariance` must"):
            call(name, covariance=wrong)


# --- On replicas ----------------------------------------------------------------------------------

# Logical devices are set before TensorFlow first runs, so this is a process of its own.
REPLICAS = """
    import json, sys
    from simclrv2_tf import distribute
    strategy = distribute.make_strategy("mirrored", 2)
    import numpy as np
    import tensorflow as tf
    from test_statistics_objectives import ON_REPLICAS, ours_of_images

    data = {k: np.array(v, "float32") for k, v in json.load(sys.stdin).items()}
    with strategy.scope():
        w = tf.Variable(data["w"])

    @tf.function(autograph=False)
    def run(x1, x2):
        def step(x1, x2):
            found = {}
            for case in ON_REPLICAS:
                loss, gradient, *covariance = ours_of_images(case, x1, x2, w, data["past"])
                mean = tf.distribute.get_replica_context().all_reduce("MEAN", [loss, gradient])
                found[case] = [*mean, *covariance]
            return found
        return strategy.run(step, args=(x1, x2))

    def halves(x):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(np.split(x, 2)[context.replica_id_in_sync_group])
        )

    results = {}
    for images in (2, 10):
        found = run(halves(data["x1"][:images]), halves(data["x2"][:images]))
        for case, outputs in found.items():
            local = map(strategy.experimental_local_results, outputs)
            results[f"{case}, {images}"] = [[x.numpy().tolist() for x in xs] for xs in local]
    print(json.dumps(results))
"""
ON_REPLICAS = ("vicreg", "barlow", "tico", "hybrid both")


def ours_of_images(case, x1, x2, w, past):
    """loss, gradient in w, and the new covariance where there is one, of x1 w and x2 w."""
    name, options = CASES[case]
    with tf.GradientTape() as tape:
        tape.watch(w)
        state = (past,) if name in STATEFUL else ()
        found = getattr(objectives, name)(tf.matmul(x1, w), tf.matmul(x2, w), *state, **options)
    loss, *covariance = found if name in STATEFUL else (found,)
    return loss, tape.gradient(loss, w), *covariance


def test_two_replicas_equal_one():
    """With one image each, replicas that took their own for the whole would see no variance."""
    x1, x2 = views(10, 6)
    w = np.random.default_rng(3).normal(size=(6, 6)).astype("float32")
    past = past_covariance(6)
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(REPLICAS)],
        input=json.dumps({k: v.tolist() for k, v in dict(x1=x1, x2=x2, w=w, past=past).items()}),
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "",
        },
    )
    assert run.returncode == 0, run.stderr[-3000:]
    results = json.loads(run.stdout.splitlines()[-1])
    for case in ON_REPLICAS:
        for images in (2, 10):
            found = results.pop(f"{case}, {images}")
            wanted = ours_of_images(case, x1[:images], x2[:images], tf.constant(w), past)
            for values, value in zip(found, wanted, strict=True):
                assert_close(values, [value] * 2)  # on both replicas
    assert not results
