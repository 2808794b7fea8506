"""LARS, the schedule and the L2 rules against the recorded reference, and across replicas."""

import contextlib
import json
import math
import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import oracle
from simclrv2_tf import heads, optimizers, resnet
from simclrv2_tf.optimizers import LARS, WarmupCosine


def variable(path, value, dtype="float32"):
    """A Keras variable with that path."""
    *scopes, name = path.split("/")
    with contextlib.ExitStack() as stack:
        for scope in scopes:
            stack.enter_context(keras.name_scope(scope))
        return keras.Variable(value, name=name, dtype=dtype)


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


def small_network(se_ratio=0.25):
    encoder = resnet.resnet(
        depth=50, width_multiplier=1 / 16, sk_ratio=0.0625, se_ratio=se_ratio, image_size=32
    )
    width = encoder.output_shape[-1]
    head = heads.projection_head(width, out_dim=8)
    return [
        *encoder.trainable_variables,
        *head.trainable_variables,
        *heads.classifier(width, 5).trainable_variables,
    ]


def test_every_variable_of_a_network_is_decided():
    """Each is in exactly one group, by what it is rather than by its path."""
    variables = small_network()
    groups = {"batch_norm": [], "bias": [], "supervised_kernel": [], "kernel": []}
    for v in variables:
        layer, name = v.path.split("/")[-2:]
        if name in ("gamma", "beta"):
            groups["batch_norm"].append(v)
        elif name == "bias":
            groups["bias"].append(v)
        elif layer == "classifier":
            groups["supervised_kernel"].append(v)
        else:
            assert name == "kernel" and len(v.shape) in (2, 4), v.path
            groups["kernel"].append(v)
    sizes = {name: len(group) for name, group in groups.items()}
    assert sum(sizes.values()) == len(variables)
    # 16 blocks with squeeze-excitation: two biases each, and the classifier's.
    assert sizes["bias"] == 16 * 2 + 1 and sizes["supervised_kernel"] == 1
    assert all(sizes.values())
    paths = lambda group: {v.path for v in group}  # noqa: E731

    lars = LARS(0.1, weight_decay=1e-4)
    before = [v.numpy() for v in variables]
    lars.apply([tf.ones(v.shape) for v in variables], variables)
    plain = [
        v
        for v, start in zip(variables, before, strict=True)
        if np.allclose(v, start - 0.1, rtol=0, atol=1e-6)
    ]
    excluded = groups["batch_norm"] + groups["bias"] + groups["supervised_kernel"]
    assert paths(plain) == paths(excluded)

    in_loss = optimizers.l2_variables(lars, variables)
    assert paths(in_loss) == paths(groups["supervised_kernel"])
    decays_all_itself = LARS(0.1, weight_decay=1e-4, exclude=())
    assert optimizers.l2_variables(decays_all_itself, variables) == []
    for name in ("momentum", "adam"):
        in_loss = optimizers.l2_variables(optimizers.make_optimizer(name, 0.1), variables)
        assert paths(in_loss) == paths(variables) - paths(groups["batch_norm"])
    wrapped = keras.optimizers.LossScaleOptimizer(lars)
    assert paths(optimizers.l2_variables(wrapped, variables)) == {"classifier/kernel"}


def test_l2_loss():
    a, b = variable("a", np.array([1.0, -2.0])), variable("b", np.array([[3.0]]), "bfloat16")
    loss = optimizers.l2_loss([a, b])
    assert loss.dtype == tf.float32 and float(loss) == (1 + 4 + 9) / 2
    assert float(optimizers.l2_loss([])) == 0.0
    with tf.GradientTape() as tape:
        loss = optimizers.l2_loss([a])
    np.testing.assert_array_equal(tape.gradient(loss, a.value), a)


@pytest.mark.parametrize("rate", [1, np.float32(1), np.int64(1), np.array(1.0), 1.0])
@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_learning_rate_may_be_any_number(name, rate):
    assert float(optimizers.make_optimizer(name, rate).learning_rate) == 1.0


def test_learning_rate_may_be_a_schedule():
    kernel, bias = random_variables("a/kernel", "a/bias")
    start = bias.numpy()
    lars = LARS(WarmupCosine(1.0, 2, 10), momentum=0.0)
    for expected_drop in (0.0, 0.5, 1.5):
        lars.apply([tf.ones((3, 2))] * 2, [kernel, bias])
        np.testing.assert_allclose(bias, start - expected_drop, atol=1e-6)
    assert float(lars.learning_rate) == pytest.approx(0.5 * (1 + math.cos(math.pi / 8)))


def test_make_optimizer():
    lars = optimizers.make_optimizer("lars", 0.1, momentum=0.8, weight_decay=1e-4)
    assert (type(lars), lars.momentum, lars.coupled_weight_decay) == (LARS, 0.8, 1e-4)
    assert lars.weight_decay is None
    sgd = optimizers.make_optimizer("momentum", 0.1, momentum=0.8, weight_decay=1e-4)
    assert (type(sgd), sgd.momentum, sgd.nesterov) == (keras.optimizers.SGD, 0.8, True)
    adam = optimizers.make_optimizer("adam", 0.1, weight_decay=1e-4)
    assert type(adam) is keras.optimizers.Adam
    assert sgd.weight_decay is None and adam.weight_decay is None
    with pytest.raises(ValueError, match="`optimizer` .* Received: optimizer='sgd'"):
        optimizers.make_optimizer("sgd", 0.1)


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
    model.compile(LARS(20.0, momentum=0.5), loss="mse")
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
    model.compile(LARS(schedule, weight_decay=0.1, nesterov=True), loss="mse")
    return model


def train(model, steps):
    rng = np.random.default_rng(5)
    model.fit(rng.normal(size=(8, 4)), rng.normal(size=(8, 3)), epochs=steps, verbose=0)
    return [v.numpy() for v in model.variables]


@pytest.mark.parametrize("how", ["keras", "checkpoint"])
def test_resumes_as_if_never_stopped(how, tmp_path):
    expected = train(small_model(), 6)
    stopped = small_model()
    train(stopped, 3)
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


# Logical devices are set before TensorFlow first runs, so this is a process of its own.
REPLICAS = """
    import json, sys
    import numpy as np
    import keras, tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    from simclrv2_tf.optimizers import LARS, WarmupCosine

    data = json.load(sys.stdin)
    strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    with strategy.scope():
        variables = []
        for path in data["paths"]:
            scope, name = path.split("/")
            with keras.name_scope(scope):
                variables.append(keras.Variable(data["values"][path], name=name))
        lars = LARS(WarmupCosine(1.0, 2, 10), weight_decay=0.1, nesterov=data["nesterov"])
        lars.build(variables)

    @tf.function
    def run(grads):
        def step(grads):
            # Gradients are summed over replicas: uneven shares of the whole.
            first = tf.distribute.get_replica_context().replica_id_in_sync_group == 0
            lars.apply([g * tf.where(first, 0.25, 0.75) for g in grads])
        strategy.run(step, args=(grads,))

    for grads in data["grads"]:
        run([tf.constant(g) for g in grads])
    copies = [strategy.experimental_local_results(v.value) for v in variables]
    print(json.dumps([[c.numpy().tolist() for c in replicas] for replicas in copies]))
"""


def test_two_replicas_equal_one():
    paths = ["a/kernel", "a/gamma", "b/kernel", "classifier/kernel"]
    variables = random_variables(*paths)
    values = {path: v.numpy().tolist() for path, v in zip(paths, variables, strict=True)}
    grads = [random_gradients(variables, seed=step) for step in range(4)]
    lars = LARS(WarmupCosine(1.0, 2, 10), weight_decay=0.1, nesterov=True)
    for step in grads:
        lars.apply(step, variables)
    grads = [[g.numpy().tolist() for g in step] for step in grads]
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(REPLICAS)],
        input=json.dumps(dict(paths=paths, values=values, grads=grads, nesterov=True)),
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert run.returncode == 0, run.stderr
    for v, replicas in zip(variables, json.loads(run.stdout.splitlines()[-1]), strict=True):
        assert len(replicas) == 2
        for replica in replicas:
            np.testing.assert_allclose(replica, v, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", range(4))
def test_schedule_is_the_references(case):
    recorded = oracle.load("schedule.npz")
    get = lambda key: recorded[f"{case}/{key}"].item()  # noqa: E731
    num_examples, batch_size = get("num_examples"), get("batch_size")
    total = optimizers.total_steps(num_examples, get("epochs"), batch_size)
    assert total == get("total_steps")
    schedule = WarmupCosine(
        optimizers.peak_learning_rate(get("base_learning_rate"), batch_size, get("scaling")),
        optimizers.warmup_steps(num_examples, get("warmup_epochs"), batch_size),
        total,
    )
    rates = [float(schedule(tf.constant(step))) for step in recorded[f"{case}/steps"]]
    np.testing.assert_allclose(rates, recorded[f"{case}/values"], rtol=0, atol=1e-6)


def cosine(peak, warmup, total, step):
    """The schedule in float64."""
    if step < warmup:
        return peak * step / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def test_schedule_keeps_its_digits_late_in_long_runs():
    schedule = WarmupCosine(6.4, 62_500, 1_250_000)
    for step in (1, 62_499, 62_500, 62_501, 1_000_000, 1_000_001, 1_249_000):
        for value in (step, tf.constant(step, tf.int64), tf.Variable(step)):
            rate = schedule(value)
            assert rate.dtype == tf.float32
            np.testing.assert_allclose(rate, cosine(6.4, 62_500, 1_250_000, step), rtol=1e-6)
    # One plus a cosine would give 0 in float32 here.
    np.testing.assert_allclose(schedule(1_249_999), 6.4 * (math.pi / 2 / 1_187_500) ** 2, rtol=1e-6)


@pytest.mark.parametrize(
    "warmup, total, expected",
    [
        (0, 4, [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0, 0]),
        (2, 4, [0, 0.5, 1, 0.5, 0, 0]),
        (8, 4, [0, 0.125, 0.25, 0.375]),  # a ramp longer than the run
        (4, 4, [0, 0.25, 0.5, 0.75, 0, 0]),
        (0, 0, [0, 0]),
    ],
)
def test_short_schedules(warmup, total, expected):
    schedule = WarmupCosine(1.0, warmup, total)
    rates = [float(schedule(step)) for step in range(len(expected))]
    np.testing.assert_allclose(rates, expected, atol=1e-7)


def test_schedule_in_a_graph_and_from_its_configuration():
    original = WarmupCosine(3.2, 10, 100)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(original)))
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == original.get_config()
    for schedule in (tf.function(original), tf.function(copy)):
        np.testing.assert_allclose(schedule(tf.constant(40)), cosine(3.2, 10, 100, 40), rtol=1e-6)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((-1.0, 0, 1), "`peak` .* Received: peak=-1.0"),
        ((float("nan"), 0, 1), "`peak`"),
        ((1.0, -1, 1), "`warmup_steps`"),
        ((1.0, 0.5, 1), "`warmup_steps`"),
        ((1.0, 0, -1), "`total_steps`"),
    ],
)
def test_bad_schedules(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmupCosine(*arguments)


def test_peak_learning_rate():
    # The papers' own figures: 0.3 * 4096 / 256, and 0.1 * sqrt(4096).
    assert optimizers.peak_learning_rate(0.3, 4096, "linear") == pytest.approx(4.8)
    assert optimizers.peak_learning_rate(0.1, 4096, "sqrt") == pytest.approx(6.4)
    with pytest.raises(ValueError, match="`scaling` .* Received: scaling='cubic'"):
        optimizers.peak_learning_rate(0.1, 4096, "cubic")
    with pytest.raises(ValueError, match="`batch_size`"):
        optimizers.peak_learning_rate(0.1, 0, "linear")


def test_step_counts():
    # ImageNet, 100 epochs of which 10 of warm-up.
    assert optimizers.total_steps(1_281_167, 100, 4096) == 31_279
    assert optimizers.warmup_steps(1_281_167, 10, 4096) == 3_127
    assert optimizers.warmup_steps(1_000, 0.5, 256) == 1
    assert optimizers.total_steps(512, 1, 256) == 3
