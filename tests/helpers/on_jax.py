"""A program: what the library computes with Keras's JAX backend, against the same recordings.

`KERAS_BACKEND=jax python -m helpers.on_jax FILE` runs every function that `check` marks, and
writes to FILE, as JSON, what each of them raised: an empty text where nothing was. In a process of
its own, as a process has one backend.
"""

import json
import random
import re
import sys
import traceback

import jax
import jax.numpy as jnp
import keras
import numpy as np

from helpers import formulas, oracle
from helpers.paths import ROOT
from helpers.variables import variable
from simclrv2_tf import objectives, optimizers
from simclrv2_tf.batch_norm import BatchNorm

CHECKS = {}
NETWORKS = ("network_r18_cifar.npz", "network_r50.npz", "network_r50_sk.npz")


def check(*cases):
    """Marks a function to call with each of `cases`, or once without arguments."""

    def mark(function):
        for case in cases or ((),):
            case = case if isinstance(case, tuple) else (case,)
            CHECKS[" ".join(map(str, (function.__name__, *case)))] = (function, case)
        return function

    return mark


@check()
def the_training_step_of_the_page_on_jax():
    """Weights, statistics and momentum move, the loss falls, and TensorFlow is not imported."""
    random.seed(0)  # of Keras's initializers; its own function imports TensorFlow
    page = (ROOT / "docs" / "jax.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {}
    exec(snippet, names)
    assert keras.backend.backend() == "jax"
    state, losses = names["state"], [float(names["loss"])]
    for _ in range(12):
        loss, *state = names["step"](*state, names["views"])
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.1, losses
    for kind, (of_encoder, _) in zip(("", "non_"), state[:2], strict=True):
        variables = getattr(names["encoder"], f"{kind}trainable_variables")
        for v, value in zip(variables, of_encoder, strict=True):
            assert not np.array_equal(v.value, value), v.path
    assert not [name for name in sys.modules if name.split(".")[0] == "tensorflow"]


@check(*((name, case) for name, row in formulas.ROWS.items() for case in row.cases))
def objective(name, case):
    """Value, gradient and state by loops, as on TensorFlow, for two kinds of inputs."""
    for kind in ("more images than dimensions", "more dimensions than images"):
        z1, z2 = formulas.KINDS[kind]
        fields, past = formulas.ROWS[name].cases[case], formulas.ROWS[name].state(z1.shape[1])
        cls = objectives.OBJECTIVES[name]
        made = cls(z1.shape[1], **fields) if past else cls(**fields)
        for key, value in past.items():
            made.variables[key].assign(value)
        given = formulas.more(name, z1)

        def loss_of(z1, z2, made=made, given=given):
            with keras.StatelessScope():  # the state is looked at without differentiation below
                return made(z1, z2, training=True, **given)[0]

        loss, gradients = jax.value_and_grad(loss_of, argnums=(0, 1))(*map(jnp.asarray, (z1, z2)))
        made(z1, z2, training=True, **given)
        wanted, wanted_state = formulas.expected(name, z1, z2, past, **fields)
        assert loss.dtype == jnp.float32
        formulas.assert_close(loss, wanted, floor=1e-6)
        for key, value in wanted_state.items():
            formulas.assert_close(np.asarray(made.variables[key].value), value)
        floor = formulas.ROWS[name].cancelling.get(kind, 1e-3)
        expected = formulas.expected_gradients(name, z1, z2, past, **fields)
        formulas.assert_close(np.stack(gradients), np.stack(expected), floor=floor)


@check(*((case, size) for case in range(3) for size in (None, 3)))
def recorded_nt_xent(case, chunk_size):
    get = oracle.case("nt_xent.npz", case)
    options = dict(
        temperature=float(get("temperature")),
        normalize=bool(get("normalize")),
        chunk_size=chunk_size,
    )

    def loss_of(projections):
        return objectives.nt_xent(*jnp.split(projections, 2), **options)[0]

    loss, gradient = jax.value_and_grad(loss_of)(jnp.asarray(get("projections")))
    np.testing.assert_allclose(loss, get("loss"), rtol=1e-5)
    scale = np.max(np.abs(get("grad")))
    np.testing.assert_allclose(gradient, get("grad"), rtol=0, atol=1e-5 * scale)


@check(*range(4))
def recorded_schedule(case):
    get = oracle.case("schedule.npz", case)
    batch = get("batch_size").item()
    examples = get("num_examples").item()
    base, scaling = get("base_learning_rate").item(), get("scaling").item()
    schedule = optimizers.WarmupCosine(
        optimizers.peak_learning_rate(base, batch, scaling),
        optimizers.warmup_steps(examples, get("warmup_epochs").item(), batch),
        optimizers.total_steps(examples, get("epochs").item(), batch),
    )
    rates = jax.vmap(schedule)(jnp.asarray(get("steps")))
    np.testing.assert_allclose(rates, get("values"), rtol=0, atol=1e-6)


@check(*range(2))
def recorded_lars(case):
    get = oracle.case("lars.npz", case)
    names = oracle.names_below("lars.npz", f"{case}/init/")
    variables = [variable(name, get(f"init/{name}")) for name in names]
    assert [v.path for v in variables] == names
    lars = optimizers.LARS(
        float(get("learning_rate")),
        momentum=float(get("momentum")),
        weight_decay=float(get("weight_decay")),
        nesterov=bool(get("nesterov")),
    )
    lars.build(variables)
    apply = jax.jit(lars.stateless_apply)
    values, slots = [v.value for v in variables], [v.value for v in lars.variables]
    for step in range(int(get("steps"))):
        gradients = [jnp.asarray(get(f"step{step}/grad/{name}")) for name in names]
        values, slots = apply(slots, gradients, values)
        for value, name in zip(values, names, strict=True):
            expected = get(f"step{step}/value/{name}")
            tolerance = 1e-6 * np.max(np.abs(expected))
            np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance, err_msg=name)


@check(*NETWORKS)
def recorded_network(file):
    """Inference; with one of them a training pass, its gradients and its statistics."""
    from helpers import recorded  # which reads by TensorFlow

    arrays = oracle.load(file)
    models = encoder, head, classifier = recorded.loaded(arrays)
    layer = int(arrays["ft_proj_selector"])
    images = arrays["images_two_views"]

    def infer(images):
        hiddens = head(encoder(images, training=False), training=False)
        return hiddens[-1], classifier(hiddens[layer])

    projection, logits = jax.jit(infer)(images[..., :3])
    recorded.assert_close(projection, arrays["projection"], 1e-4, name="projection")
    recorded.assert_close(logits, arrays["logits"], 1e-4, name="logits")
    if file != "network_r50_sk.npz":  # which has all that the others have, and more
        return

    views = jnp.concatenate([images[..., :3], images[..., 3:]], 0)
    labels = jnp.concatenate([jnp.arange(3), jnp.arange(3)], 0)

    def loss_of(trainable, other):
        inputs, new = views, []
        for model, mine, rest in zip(models[:2], trainable, other, strict=False):
            inputs, rest = model.stateless_call(mine, rest, inputs, training=True)
            new.append(rest)
        features = jax.lax.stop_gradient(inputs[layer])
        logits, rest = classifier.stateless_call(trainable[2], other[2], features)
        contrastive, _ = objectives.nt_xent(*jnp.split(inputs[-1], 2), temperature=0.1)
        supervised = -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(6), labels])
        outputs = dict(
            train_projection=inputs[-1],
            train_logits=logits,
            contrastive_loss=contrastive,
            supervised_loss=supervised,
        )
        return contrastive + supervised, (outputs, (*new, rest))

    trainable = tuple([v.value for v in model.trainable_variables] for model in models)
    other = tuple([v.value for v in model.non_trainable_variables] for model in models)
    found = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(trainable, other)
    (_, (outputs, statistics)), gradients = found
    for name, value in outputs.items():
        recorded.assert_close(value, arrays[name], 1e-3, float(arrays[f"noise/{name}"]), name)
    by_path = {}
    for kind, values in (
        ("trainable_variables", gradients),
        ("non_trainable_variables", statistics),
    ):
        for model, of_model in zip(models, values, strict=True):
            for v, value in zip(getattr(model, kind), of_model, strict=True):
                by_path[v.path] = value
    expected, allowed = recorded.gradients_and_statistics(arrays, models)
    assert set(expected) == set(by_path)
    for path, value in by_path.items():
        recorded.assert_close(value, expected[path], 1e-3, allowed[path], path)


@check()
def batch_norm_by_its_formula():
    """Trained layers average the biased variance; frozen ones keep their statistics."""
    x = np.random.default_rng(0).normal(3, 2, (64, 5, 5, 3)).astype("float32")
    layer = BatchNorm(momentum=0.75)
    outputs = layer(x, training=True)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(outputs, (x - mean) / np.sqrt(variance + 1e-5), atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean.value, 0.25 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.value, 0.75 + 0.25 * variance, rtol=1e-5)
    layer.trainable = False
    before = np.asarray(layer.moving_mean.value)
    layer(x, training=True)
    np.testing.assert_array_equal(layer.moving_mean.value, before)


def main(file: str) -> None:
    """Runs all checks, in the order of this file."""
    found = {}
    for name, (function, case) in CHECKS.items():
        try:
            function(*case)
            found[name] = ""
        except Exception:
            found[name] = traceback.format_exc()
    with open(file, "w") as opened:
        json.dump(found, opened)


if __name__ == "__main__":
    main(sys.argv[1])
