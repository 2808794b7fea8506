"""LARS against the recorded reference and its equations."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import oracle
from helpers.variables import variable
from simclrv2_tf.optimizers import LARS, WarmupCosine


def random_variables(*paths, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    return [variable(path, rng.normal(size=(3, 2)).astype("float32"), dtype) for path in paths]


def random_gradients(variables, seed=1):
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.normal(size=v.shape).astype("float32")) for v in variables]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("case", [0, 1])
def test_lars_is_the_references_after_every_step(case, compiled):
    recorded = oracle.load("lars.npz")
    get = lambda key: recorded[f"{case}/{key}"]  # noqa: E731
    start = f"{case}/init/"
    names = [key[len(start) :] for key in recorded if key.startswith(start)]
    variables = [variable(name, get(f"init/{name}")) for name in names]
    assert [v.path for v in variables] == names
    lars = LARS(
        float(get("learning_rate")),
        momentum=float(get("momentum")),
        weight_decay=float(get("weight_decay")),
        nesterov=bool(get("nesterov")),
    )
    lars.build(variables)
    apply = lambda *grads: lars.apply(grads)  # noqa: E731
    apply = tf.function(apply) if compiled else apply
    for step in range(int(get("steps"))):
        apply(*[tf.constant(get(f"step{step}/grad/{name}")) for name in names])
        for v, name in zip(variables, names, strict=True):
            expected = get(f"step{step}/value/{name}")
            scale = np.max(np.abs(expected))
            np.testing.assert_allclose(
                v, expected, rtol=0, atol=1e-6 * scale, err_msg=f"{name} after step {step}"
            )


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_is_the_equations(nesterov):
    """Scalar arithmetic in float64, for an adapted and an excluded variable."""
    adapted, excluded = random_variables("conv/kernel", "conv/bias")
    lars = LARS(0.5, momentum=0.8, weight_decay=0.1, eta=0.02, nesterov=nesterov)
    expected = [adapted.numpy().astype("float64"), excluded.numpy().astype("float64")]
    buffers = [0.0, 0.0]
    for step in range(3):
        grads = random_gradients([adapted, excluded], seed=step)
        lars.apply(grads, [adapted, excluded])
        for i, g in enumerate(np.array(x, "float64") for x in grads):
            p = expected[i]
            trust = 1.0
            if i == 0:
                g = g + 0.1 * p
                trust = 0.02 * math.sqrt((p**2).sum()) / math.sqrt((g**2).sum())
            buffers[i] = 0.8 * buffers[i] + 0.5 * trust * g
            expected[i] = p - (0.8 * buffers[i] + 0.5 * trust * g if nesterov else buffers[i])
    for v, value in zip((adapted, excluded), expected, strict=True):
        np.testing.assert_allclose(v, value, rtol=1e-6)


def test_trust_ratio_is_1_where_a_norm_is_0():
    zero, still = variable("a/kernel", np.zeros(3)), variable("b/kernel", np.ones(3))
    LARS(0.5).apply([tf.constant([1.0, 2.0, 3.0]), tf.zeros(3)], [zero, still])
    np.testing.assert_allclose(zero, [-0.5, -1.0, -1.5])
    np.testing.assert_array_equal(still, np.ones(3))


def test_lars_moves_only_the_variables_it_is_given_gradients_for():
    first, second, third = random_variables("a/kernel", "b/kernel", "c/bias")
    before = second.numpy()
    lars = LARS(1.0)
    lars.build([first, second, third])
    with pytest.warns(UserWarning, match="b/kernel"):
        lars.apply_gradients([(tf.ones((3, 2)), first), (None, second), (tf.ones((3, 2)), third)])
    np.testing.assert_array_equal(second, before)
    # The third is excluded, the first is not: indices did not shift.
    before = random_variables("a/kernel", "b/kernel", "c/bias")[2].numpy()
    np.testing.assert_allclose(third, before - 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    "path, excluded",
    [
        ("stem_conv/kernel", False),
        ("block_group1_block0_bn1/gamma", True),
        ("block_group1_block0_bn1/beta", True),
        ("block_group1_block0_se_reduce/bias", True),
        ("block_group1_block0_se_reduce/kernel", False),
        ("classifier/kernel", True),
        ("online/classifier/dense/kernel", True),
        ("head_supervised/linear_layer/dense/kernel", True),
        ("resnet/batch_normalization_3/gamma", True),
        ("resnet/batch_normalization/scale", True),
        ("classifier_free/kernel", False),
        ("debias/kernel", False),
        ("alphabeta", False),
        ("gamma", True),
    ],
)
def test_what_lars_excludes(path, excluded):
    """An excluded variable takes the plain step; another one is decayed and adapted."""
    [v] = random_variables(path)
    start = v.numpy()
    LARS(0.5, weight_decay=0.1).apply(random_gradients([v]), [v])
    plain = start - 0.5 * np.array(random_gradients([v])[0])
    assert np.allclose(v, plain, atol=1e-6) == excluded


def test_exclude_can_be_set():
    kernel, bias = random_variables("conv/kernel", "conv/bias")
    starts = kernel.numpy(), bias.numpy()
    grads = random_gradients([kernel, bias])
    LARS(1.0, exclude=("kernel",)).apply(grads, [kernel, bias])
    np.testing.assert_allclose(kernel, starts[0] - grads[0], rtol=1e-6)
    assert not np.allclose(bias, starts[1] - grads[1])


def test_learning_rate_may_be_a_schedule():
    kernel, bias = random_variables("a/kernel", "a/bias")
    start = bias.numpy()
    lars = LARS(WarmupCosine(1.0, 2, 10), momentum=0.0)
    for expected_drop in (0.0, 0.5, 1.5):
        lars.apply([tf.ones((3, 2))] * 2, [kernel, bias])
        np.testing.assert_allclose(bias, start - expected_drop, atol=1e-6)
    assert float(lars.learning_rate) == pytest.approx(0.5 * (1 + math.cos(math.pi / 8)))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(momentum=1.0), "`momentum`"),
        (dict(momentum=-0.1), "`momentum`"),
        (dict(weight_decay=-1e-4), "`weight_decay`"),
        (dict(weight_decay=float("nan")), "`weight_decay`"),
        (dict(eta=0), "`eta`"),
        (dict(exclude="bias"), "`exclude`"),
        (dict(exclude=("(",)), "`exclude`"),
        (dict(learning_rate=-1), "`learning_rate` .* Received: learning_rate=-1"),
        (dict(learning_rate=float("inf")), "`learning_rate`"),
    ],
)
def test_bad_lars_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LARS(**{"learning_rate": 0.1, **arguments})


def test_low_precision_variables():
    """The update is made in float32: a norm above float16's range does not overflow."""
    value = np.full((300, 2), 100.0, "float32")
    variables = {d: variable("a/kernel", value, d) for d in ("float32", "float16", "bfloat16")}
    for dtype, v in variables.items():
        lars = LARS(100.0)
        for _ in range(2):
            lars.apply([tf.cast(tf.fill(v.shape, 50.0), dtype)], [v])
        assert v.dtype == dtype
    expected = variables["float32"].numpy()
    assert not np.allclose(expected, value, rtol=0.01)
    np.testing.assert_allclose(variables["float16"].numpy().astype("float32"), expected, rtol=2e-3)
    bfloat16 = tf.cast(variables["bfloat16"].value, "float32")
    np.testing.assert_allclose(bfloat16, expected, rtol=2e-2)


def test_trains_a_model_under_mixed_precision():
    keras.utils.set_random_seed(0)
    options = dict(dtype=keras.DTypePolicy("mixed_bfloat16"), use_bias=False)
    model = keras.Sequential([keras.layers.Dense(8, **options), keras.layers.Dense(1, **options)])
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    model.compile(LARS(20.0, momentum=0.5), loss="mse", jit_compile=False)
    history = model.fit(x, x[:, :1], epochs=30, verbose=0).history["loss"]
    slots = [v for v in model.optimizer.variables if v.path.endswith("momentum")]
    assert [v.dtype for v in slots] == ["float32", "float32"]
    assert history[-1] < 0.5 * history[0]


def test_configuration_round_trip():
    original = LARS(
        WarmupCosine(3.2, 10, 100),
        momentum=0.8,
        weight_decay=1e-4,
        eta=0.01,
        nesterov=True,
        exclude=("bias$", "gamma$"),
        clipnorm=1.0,
    )
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(original)))
    assert config["registered_name"] == "simclrv2_tf>LARS"
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is LARS and copy.get_config() == original.get_config()
    assert copy.coupled_weight_decay == 1e-4 and copy.exclude == ("bias$", "gamma$")
    copies = []
    for lars in (original, copy):
        variables = random_variables("a/kernel", "a/gamma")
        for step in range(3):
            lars.apply(random_gradients(variables, seed=step), variables)
        copies.append(variables)
    for mine, theirs in zip(*copies, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def small_model():
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, name="dense"),
            keras.layers.BatchNormalization(name="bn"),
            keras.layers.Dense(3, name="classifier"),
        ]
    )
    schedule = WarmupCosine(1.0, 2, 10)
    optimizer = LARS(schedule, weight_decay=0.1, nesterov=True)
    model.compile(optimizer, loss="mse", run_eagerly=True)
    return model


def train(model, steps):
    rng = np.random.default_rng(5)
    model.fit(rng.normal(size=(8, 4)), rng.normal(size=(8, 3)), epochs=steps, verbose=0)
    return [v.numpy() for v in model.variables]


@pytest.fixture(scope="module")
def stopped_and_whole():
    """A model after three steps, and the variables of one after six."""
    whole = train(small_model(), 6)
    stopped = small_model()
    train(stopped, 3)
    return stopped, whole


@pytest.mark.parametrize("how", ["keras", "checkpoint"])
def test_resumes_as_if_never_stopped(how, stopped_and_whole, tmp_path):
    stopped, expected = stopped_and_whole
    if how == "keras":
        stopped.save(tmp_path / "model.keras")
        resumed = keras.saving.load_model(tmp_path / "model.keras")
    else:
        save = tf.train.Checkpoint(model=stopped, optimizer=stopped.optimizer)
        path = save.write(str(tmp_path / "checkpoint"))
        resumed = small_model()
        resumed.optimizer.build(resumed.trainable_variables)
        restore = tf.train.Checkpoint(model=resumed, optimizer=resumed.optimizer)
        restore.read(path).assert_consumed()
    assert int(resumed.optimizer.iterations.numpy()) == 3
    for mine, theirs in zip(resumed.optimizer.variables, stopped.optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for mine, theirs in zip(train(resumed, 3), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)
