"""NT-Xent against loops written from the paper, the recorded reference, and itself in blocks."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import formulas, oracle
from simclrv2_tf.objectives import NTXent, nt_xent

METRICS = ("contrast_accuracy", "contrast_entropy")


def embeddings(b, d=6, k=0, seed=0):
    """z1, z2 (b, d), correlated as two views are, and negatives (k, d)."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(b, d))
    views = [shared + 0.7 * rng.normal(size=(b, d)) for _ in range(2)]
    return [x.astype("float32") for x in (*views, rng.normal(size=(k, d)))]


def loops(z1, z2, temperature, normalize=True, negatives=(), valid=None):
    """Equation 1 of the paper, term by term in float64: the mean of l(i, j) over the 2N views."""
    inputs = (np.asarray(x, "float64").tolist() for x in (z1, z2, negatives))
    z1, z2, negatives = inputs
    return formulas.nt_xent(z1, z2, temperature, normalize, negatives, valid) / 2


def with_gradients(z1, z2, negatives=None, compile=None, **options):
    """loss, metrics, [gradients of z1, z2 (and negatives)], optionally through a tf.function."""

    def step(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            extra = {"negatives": inputs[2]} if len(inputs) == 3 else {}
            loss, metrics = nt_xent(inputs[0], inputs[1], **extra, **options)
        return loss, metrics, tape.gradient(loss, inputs)

    inputs = [tf.convert_to_tensor(x) for x in (z1, z2, negatives) if x is not None]
    return (compile(step) if compile else step)(*inputs)


def assert_same(got, expected, rtol=2e-5):
    np.testing.assert_allclose(got[0], expected[0], rtol=rtol, atol=1e-6)
    for name in METRICS:
        np.testing.assert_allclose(got[1][name], expected[1][name], rtol=rtol, atol=1e-6)
    assert len(got[2]) == len(expected[2])
    for mine, theirs in zip(got[2], expected[2], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=rtol * np.max(np.abs(theirs)))


@pytest.mark.parametrize("chunk_size", [None, 5])
@pytest.mark.parametrize("case", range(4))
def test_reference_value_gradient_and_metrics(case, chunk_size):
    recorded = oracle.load("nt_xent.npz")
    get = lambda key: recorded[f"{case}/{key}"]  # noqa: E731
    z1, z2 = np.split(get("projections"), 2)
    loss, metrics, grads = with_gradients(
        z1,
        z2,
        temperature=float(get("temperature")),
        normalize=bool(get("normalize")),
        chunk_size=chunk_size,
    )
    np.testing.assert_allclose(loss, get("loss"), rtol=1e-5)
    scale = np.max(np.abs(get("grad")))
    np.testing.assert_allclose(np.concatenate(grads), get("grad"), rtol=0, atol=1e-5 * scale)
    for name in METRICS:
        np.testing.assert_allclose(metrics[name], get(name), rtol=1e-5)


@pytest.mark.parametrize("chunk_size", [None, 3])
@pytest.mark.parametrize("normalize", [True, False])
def test_value_is_twice_the_papers_mean_with_negatives(normalize, chunk_size):
    z1, z2, negatives = embeddings(5, k=4)
    valid = [True, False, True, True]
    options = dict(temperature=0.3, normalize=normalize, negatives=negatives)
    loss, _ = nt_xent(z1, z2, chunk_size=chunk_size, negatives_valid=valid, **options)
    expected = loops(z1, z2, valid=valid, **options)
    np.testing.assert_allclose(loss, 2 * expected, rtol=1e-6)


@pytest.mark.parametrize("chunk_size", [None, 4])
def test_gradient_is_the_papers_with_negatives(chunk_size):
    z1, z2, negatives = embeddings(3, d=4, k=2)
    _, _, grads = with_gradients(z1, z2, negatives, temperature=0.4, chunk_size=chunk_size)

    def papers(z1, z2, negatives):
        return 2 * loops(z1, z2, 0.4, negatives=negatives)

    for grad, numeric in zip(
        grads, formulas.numeric_gradients(papers, z1, z2, negatives), strict=True
    ):
        formulas.assert_close(grad, numeric)


@pytest.mark.parametrize("chunk_size", [None, 4])
def test_metrics_are_over_view_1_against_view_2_alone(chunk_size):
    z1, z2, negatives = embeddings(9, seed=1)[0], embeddings(9, seed=2)[1], embeddings(1, k=5)[2]
    z2[:4] = z1[:4]  # four that are found for certain, the rest at random
    _, metrics = nt_xent(z1, z2, 0.2, negatives=negatives, chunk_size=chunk_size)
    hits, entropies = [], []
    for i, anchor in enumerate(z1.astype("float64")):
        cosines = [anchor @ z / np.linalg.norm(anchor) / np.linalg.norm(z) for z in z2]
        p = np.exp(np.array(cosines) / 0.2)
        p /= p.sum()
        hits.append(np.argmax(p) == i)
        entropies.append(-np.sum(p * np.log(p + 1e-8)))
    assert 4 <= sum(hits) < 9
    np.testing.assert_allclose(metrics["contrast_accuracy"], np.mean(hits), rtol=1e-6)
    np.testing.assert_allclose(metrics["contrast_entropy"], np.mean(entropies), rtol=1e-5)


@pytest.mark.parametrize("extra", ["none", "negatives", "masked"])
@pytest.mark.parametrize("chunk_size", [1, 3, 7, 11, 27])
def test_streamed_equals_plain(chunk_size, extra):
    z1, z2, negatives = embeddings(11, k=10)
    negatives = None if extra == "none" else negatives
    options = {"negatives_valid": np.arange(10) % 3 > 0} if extra == "masked" else {}
    plain = with_gradients(z1, z2, negatives, **options)
    streamed = with_gradients(z1, z2, negatives, chunk_size=chunk_size, **options)
    assert_same(streamed, plain)
    if extra == "masked":
        assert not np.any(streamed[2][2].numpy()[::3])


@pytest.mark.parametrize("chunk_size", [None, 4])
def test_no_valid_negative_is_no_negative(chunk_size):
    z1, z2, negatives = embeddings(6, k=5)
    without = with_gradients(z1, z2, chunk_size=chunk_size)
    masked = with_gradients(
        z1, z2, negatives, negatives_valid=np.zeros(5, bool), chunk_size=chunk_size
    )
    assert_same((masked[0], masked[1], masked[2][:2]), without)
    assert not np.any(masked[2][2])


@pytest.mark.parametrize("chunk_size", [None, 5])
def test_compiles_with_negatives(chunk_size):
    z1, z2, negatives = embeddings(8, k=6)
    valid = np.arange(6) != 2
    plain = with_gradients(z1, z2, negatives, negatives_valid=valid)
    compiled = with_gradients(
        z1,
        z2,
        negatives,
        compile=lambda f: tf.function(f, jit_compile=True),
        negatives_valid=valid,
        chunk_size=chunk_size,
    )
    assert_same(compiled, plain)


@pytest.mark.parametrize("chunk_size", [None, 5, 100])
def test_unknown_batch_size(chunk_size):
    z1, z2, negatives = embeddings(8, k=6)
    unknown = tf.TensorSpec((None, 6))
    traced = with_gradients(
        z1,
        z2,
        negatives,
        compile=lambda f: tf.function(f, input_signature=[unknown] * 3),
        chunk_size=chunk_size,
    )
    assert_same(traced, with_gradients(z1, z2, negatives))


def test_streamed_never_holds_all_logits():
    b, k = 32, 16
    specs = [tf.TensorSpec((n, 4)) for n in (b, b, k)]

    def nodes(chunk_size):
        def step(*inputs):
            return with_gradients(*inputs, chunk_size=chunk_size)

        graph = tf.function(step).get_concrete_function(*specs).graph.as_graph_def(add_shapes=True)
        return [*graph.node, *(node for f in graph.library.function for node in f.node_def)]

    def largest_tensor(nodes):
        shapes = [s for node in nodes for s in node.attr["_output_shapes"].list.shape]
        shapes = [[dim.size for dim in s.dim] for s in shapes if not s.unknown_rank]
        assert len(shapes) > 50 and all(size >= 0 for shape in shapes for size in shape)
        return max(map(math.prod, shapes))

    assert largest_tensor(nodes(None)) >= 2 * b * (2 * b + k)
    streamed = nodes(5)
    assert largest_tensor(streamed) < b * b  # not even the logits of the metrics
    # Nor does a loop collect its blocks, or the executor run several of them at once.
    assert not any("TensorList" in node.op for node in streamed)
    loops = [node for node in streamed if node.op in ("While", "StatelessWhile")]
    assert loops and all(node.attr["parallel_iterations"].i == 1 for node in loops)


@pytest.mark.parametrize("chunk_size", [None, 3])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_computes_in_float32_and_returns_gradients_in_the_inputs_dtype(dtype, chunk_size):
    z1, z2, negatives = (tf.cast(x, dtype) for x in embeddings(7, k=4))
    loss, metrics, grads = with_gradients(z1, z2, negatives, chunk_size=chunk_size)
    exact = with_gradients(*(tf.cast(x, "float32") for x in (z1, z2, negatives)))
    assert loss.dtype == metrics["contrast_accuracy"].dtype == tf.float32
    assert metrics["contrast_entropy"].dtype == tf.float32
    assert all(g.dtype == dtype for g in grads)
    np.testing.assert_allclose(loss, exact[0], rtol=1e-6)
    rounding = {"bfloat16": 2**-8, "float16": 2**-10, "float64": 1e-5}[dtype]
    for mine, theirs in zip(grads, exact[2], strict=True):
        theirs = theirs.numpy()
        mine = tf.cast(mine, "float32").numpy()
        np.testing.assert_allclose(
            mine, theirs, rtol=rounding, atol=rounding * np.abs(theirs).max()
        )


@pytest.mark.parametrize("chunk_size", [None, 1, 4])
def test_one_image_has_nothing_to_tell_apart(chunk_size):
    z1, z2, _ = embeddings(1)
    loss, metrics, grads = with_gradients(z1, z2, temperature=1e-3, chunk_size=chunk_size)
    assert float(loss) == 0.0
    assert float(metrics["contrast_accuracy"]) == 1.0
    assert float(metrics["contrast_entropy"]) == pytest.approx(0.0, abs=1e-7)
    assert not np.any(grads)


@pytest.mark.parametrize("chunk_size", [None, 1, 4])
def test_one_image_against_a_memory(chunk_size):
    z1, z2, negatives = embeddings(1, k=5)
    loss, _ = nt_xent(z1, z2, negatives=negatives, chunk_size=chunk_size)
    np.testing.assert_allclose(loss, 2 * loops(z1, z2, 0.1, negatives=negatives), rtol=1e-5)


@pytest.mark.parametrize("chunk_size", [None, 3])
@pytest.mark.parametrize("options", [dict(temperature=1e-3), dict(normalize=False, scale=300)])
def test_huge_logits(options, chunk_size):
    options = dict(options)
    z1, z2, _ = embeddings(6)
    scale = options.pop("scale", 1)
    z1, z2 = z1 * scale, z2 * scale
    loss, metrics, grads = with_gradients(z1, z2, chunk_size=chunk_size, **options)
    expected = 2 * loops(z1, z2, options.get("temperature", 0.1), options.get("normalize", True))
    assert expected > 10
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert np.all(np.isfinite(grads)) and np.any(grads)
    assert np.isfinite(metrics["contrast_entropy"])


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_small_losses_keep_their_digits(chunk_size):
    z = np.eye(4, dtype="float32")
    loss, _ = nt_xent(z, z, temperature=0.04, chunk_size=chunk_size)
    # Each anchor: positive 1, six negatives at cosine 0.
    np.testing.assert_allclose(loss, 2 * math.log1p(6 * math.exp(-25)), rtol=1e-5)


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_zero_embeddings_are_finite(chunk_size):
    z = np.zeros((4, 3), "float32")
    loss, metrics, grads = with_gradients(z, z, chunk_size=chunk_size)
    np.testing.assert_allclose(loss, 2 * math.log(7), rtol=1e-6)
    np.testing.assert_allclose(metrics["contrast_entropy"], math.log(4), rtol=1e-5)
    assert float(metrics["contrast_accuracy"]) == 0.25  # equal logits: the first one is taken
    assert np.all(np.isfinite(grads))


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_metrics_carry_no_gradient(chunk_size):
    z1, z2, _ = embeddings(5)
    z1 = tf.convert_to_tensor(z1)
    with tf.GradientTape() as tape:
        tape.watch(z1)
        _, metrics = nt_xent(z1, z2, chunk_size=chunk_size)
        total = metrics["contrast_entropy"] + metrics["contrast_accuracy"]
    assert tape.gradient(total, z1) is None


def test_temperature_may_be_learned():
    z1, z2, _ = embeddings(5)
    slope = (2 * loops(z1, z2, 0.3 + 1e-5) - 2 * loops(z1, z2, 0.3 - 1e-5)) / 2e-5
    for chunk_size in (None, 4):
        temperature = tf.constant(0.3)
        with tf.GradientTape() as tape:
            tape.watch(temperature)
            loss, _ = nt_xent(z1, z2, temperature, chunk_size=chunk_size)
        np.testing.assert_allclose(tape.gradient(loss, temperature), slope, rtol=1e-4)


def test_object_passes_negatives_on():
    z1, z2, negatives = embeddings(6, k=5)
    more = dict(negatives=negatives, negatives_valid=np.arange(5) > 1)
    options = dict(temperature=0.3, normalize=False, chunk_size=4)
    got, metrics = NTXent(**options)(z1, z2, **more)
    expected, expected_metrics = nt_xent(z1, z2, **more, **options)
    assert float(got) == float(expected) != float(nt_xent(z1, z2)[0])
    assert {k: float(v) for k, v in metrics.items()} == {
        k: float(v) for k, v in expected_metrics.items()
    }
    assert NTXent(0.3) == NTXent(temperature=0.3) and NTXent(chunk_size=None) == NTXent()


def test_keras_mixed_precision_does_not_lower_the_logits():
    z1, z2, _ = embeddings(6)
    expected = float(nt_xent(z1, z2)[0])
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        assert float(nt_xent(z1, z2)[0]) == expected
    finally:
        keras.mixed_precision.set_dtype_policy(policy)


Z = np.ones((4, 3), "float32")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(chunk_size=0), "`chunk_size` .* Received: chunk_size=0"),
        (dict(chunk_size=2.0), "`chunk_size`"),
        (dict(chunk_size=True), "`chunk_size`"),
        (dict(negatives_valid=[True] * 4), "`negatives_valid`"),
        (dict(negatives=Z[0]), "`negatives`"),
        (dict(negatives=Z[:, :2]), "`negatives`"),
        (dict(negatives=Z, negatives_valid=[True] * 3), "`negatives_valid`"),
        (dict(negatives=Z, negatives_valid=[[True] * 4]), "`negatives_valid`"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        nt_xent(**{"z1": Z, "z2": Z, **arguments})
