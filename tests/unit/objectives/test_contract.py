"""The contract of every objective: its loops from the paper, whatever it is given."""

import dataclasses
import inspect
import math
import re

import numpy as np
import pytest
import tensorflow as tf

from helpers.formulas import (
    KINDS,
    ROWS,
    assert_close,
    expected,
    expected_gradients,
    more,
    views,
)
from simclrv2_tf import objectives, options

CASES = [(name, case) for name, row in ROWS.items() for case in row.cases]
TRACED = [(name, case) for name, row in ROWS.items() for case in row.traced]
FIELDS = [
    (name, field)
    for name, objective in objectives.OBJECTIVES.items()
    for field in options.of(objective)
]


def make(name, width, **fields):
    """The objective, by way of its flags."""
    specs = options.of(objectives.OBJECTIVES[name])
    flags = {specs[field].name: value for field, value in fields.items()}
    return objectives.make(objectives.ObjectiveOptions(objective=name, **flags), width)


def with_state(name, case, width):
    """The objective of a case, with what an earlier batch left."""
    objective = make(name, width, **ROWS[name].cases[case])
    for key, value in ROWS[name].state(width).items():
        objective.variables[key].assign(value)
    return objective


def measured(objective, z1, z2, given=None):
    """loss, metrics, new state by name, [gradients in z1, z2]."""
    z1, z2 = tf.convert_to_tensor(z1), tf.convert_to_tensor(z2)
    with tf.GradientTape() as tape:
        tape.watch([z1, z2])
        loss, metrics = objective(z1, z2, training=True, **(given or {}))
    state = {name: tf.identity(v.value) for name, v in objective.variables.items()}
    return loss, metrics, state, tape.gradient(loss, [z1, z2])


def test_every_objective_has_its_row():
    assert set(ROWS) == set(objectives.NAMES), "a new objective needs a row in helpers/formulas.py"


def test_views_are_on_both_sides_of_the_hinge():
    for z in views(12, 4):
        deviation = z.std(axis=0, ddof=1)
        assert deviation.min() < 0.9 and deviation.max() > 1.1


@pytest.mark.parametrize(
    "name, case, kind",
    [(*c, kind) for c in CASES for kind in KINDS if (c[1], kind) not in ROWS[c[0]].inexact],
)
def test_value_gradient_and_state_are_the_loops(name, case, kind):
    z1, z2 = KINDS[kind]
    fields, past = ROWS[name].cases[case], ROWS[name].state(z1.shape[1])
    objective = with_state(name, case, z1.shape[1])
    loss, metrics, state, gradients = measured(objective, z1, z2, more(name, z1))
    wanted_loss, wanted_state = expected(name, z1, z2, past, **fields)
    assert loss.shape == () and loss.dtype == tf.float32
    assert_close(loss, wanted_loss, floor=1e-6)
    assert state.keys() == wanted_state.keys()
    for key, value in state.items():
        assert value.dtype == tf.float32
        assert_close(value, wanted_state[key])
    floor = ROWS[name].cancelling.get(kind, 1e-3)
    assert_close(gradients, expected_gradients(name, z1, z2, past, **fields), floor=floor)
    assert tuple(metrics) == objective.metric_names
    assert all(m.shape == () and m.dtype == tf.float32 for m in metrics.values())


@pytest.mark.parametrize("name, case", CASES)
def test_the_object_is_its_function_also_of_numpy(name, case):
    """Outside of training its state does not change."""
    (z1, z2), fields = views(8, 5), ROWS[name].cases[case]
    objective, state = with_state(name, case, 5), ROWS[name].state(5)
    given = more(name, z1)
    found = getattr(objectives, name)(z1, z2, *state.values(), **given, **fields)
    loss, metrics = objective(z1, z2, **given)
    loss_of_function = found[0] if isinstance(found, tuple) else found
    assert float(loss) == float(loss_of_function)
    if objective.metric_names:
        assert {k: float(v) for k, v in found[1].items()} == {
            k: float(v) for k, v in metrics.items()
        }
    for key, value in state.items():
        np.testing.assert_array_equal(objective.variables[key], value)
    assert float(measured(objective, z1, z2, given)[0]) == pytest.approx(float(loss), rel=1e-6)


@pytest.mark.parametrize("name, case", CASES)
def test_rows_of_zeros_are_finite(name, case):
    """One view has a length, the other none: the steepest place of a unit vector."""
    z1, z2 = (z.copy() for z in views(6, 4))
    z1[:3], z2[2:5] = 0.0, 0.0
    loss, _, state, gradients = measured(with_state(name, case, 4), z1, z2, more(name, z1))
    wanted_loss, wanted_state = expected(
        name, z1, z2, ROWS[name].state(4), **ROWS[name].cases[case]
    )
    assert_close(loss, wanted_loss)
    for key, value in state.items():
        assert_close(value, wanted_state[key])
    assert np.all(np.isfinite(gradients)) and np.any(gradients)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("name, case", CASES)
def test_computes_in_float32_whatever_the_inputs_are(name, case, dtype):
    z1, z2 = (tf.cast(z, dtype) for z in views(8, 5))
    exact = [tf.cast(z, "float64").numpy() for z in (z1, z2)]
    fields, past = ROWS[name].cases[case], ROWS[name].state(5)
    loss, metrics, state, gradients = measured(
        with_state(name, case, 5), z1, z2, more(name, exact[0])
    )
    wanted_loss, wanted_state = expected(name, *exact, past, **fields)
    assert loss.dtype == tf.float32 and all(g.dtype == dtype for g in gradients)
    assert all(m.dtype == tf.float32 for m in metrics.values())
    assert_close(loss, wanted_loss)
    for key, value in state.items():
        assert value.dtype == tf.float32
        assert_close(value, wanted_state[key])
    rounding = {"bfloat16": 2**-8, "float16": 2**-10, "float64": 1e-5}[dtype]
    gradients = [tf.cast(g, "float64").numpy() for g in gradients]
    assert_close(gradients, expected_gradients(name, *exact, past, **fields), rounding)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name, case", TRACED)
def test_compiles_for_any_batch_size(name, case, jit_compile):
    compiled = with_state(name, case, 4)
    step = tf.function(
        lambda z1, z2, *targets: measured(
            compiled, z1, z2, {"targets": targets} if ROWS[name].targets else {}
        ),
        input_signature=[tf.TensorSpec((None, 4))] * 4,
        jit_compile=jit_compile,
        autograph=False,
    )
    for count in (7, 1):
        z1, z2 = views(count, 4)
        given = more(name, z1)
        for key, value in ROWS[name].state(4).items():
            compiled.variables[key].assign(value)
        loss, metrics, state, gradients = measured(with_state(name, case, 4), z1, z2, given)
        got = step(z1, z2, *given.get("targets", (z1, z2)))
        assert_close(got[0], loss, floor=1e-6)
        for found, wanted in ((got[1], metrics), (got[2], state)):
            assert found.keys() == wanted.keys()
            for key in wanted:
                assert_close(found[key], wanted[key], floor=1e-6)
        assert_close(got[3], gradients, floor=1e-3)


# --- Bad arguments --------------------------------------------------------------------------------


def construct(name, **fields):
    """The objective by its class, for embeddings of width 3."""
    objective = objectives.OBJECTIVES[name]
    stateful = any(field.name == "width" for field in dataclasses.fields(objective))
    return objective(**({"width": 3} if stateful else {}), **fields)


def bad_values(spec):
    if spec.kind is bool:
        return ["yes", 2]
    bad = [-1, math.nan, math.inf, np.float32(-1)]
    return [*bad, 0.5] if spec.kind is int else [*bad, -1e-3, *([0] if spec.positive else [])]


def refused(field, value, call):
    with pytest.raises(ValueError, match=f"`{field}` must .*{re.escape(f'{field}={value!r}')}$"):
        call()


@pytest.mark.parametrize("name, field", FIELDS)
def test_bad_options(name, field):
    spec = options.of(objectives.OBJECTIVES[name])[field]
    bad = bad_values(spec)
    for value in [*bad, *([spec.below] if spec.below is not None else [])]:
        refused(field, value, lambda value=value: construct(name, **{field: value}))
    function = getattr(objectives, name)
    if spec.kind is float and field in inspect.signature(function).parameters:
        z, state = np.ones((4, 3), "float32"), ROWS[name].state(3)
        for value in bad:
            refused(field, value, lambda v=value: function(z, z, **state, **{field: v}))
        if not spec.positive:
            function(z, z, **state, **{field: 0})


@pytest.mark.parametrize("name", ROWS)
def test_bad_embeddings(name):
    objective, z = construct(name), np.ones((4, 3), "float32")
    message = r"`[zp]1` and `[zp]2` must .* Received: [zp]1.shape=\(4, 3\), [zp]2.shape=\(3, 3\)$"
    with pytest.raises(ValueError, match=message):
        objective(z, z[:3])
    for z1, z2 in ((z, z[:, :2]), (z[0], z[0]), (z[None], z[None])):
        with pytest.raises(ValueError, match="`[zp]1` and `[zp]2` must"):
            objective(z1, z2)


@pytest.mark.parametrize("name", ROWS)
def test_what_a_trainer_asks_of_an_objective(name):
    objective = construct(name)
    takes = "negatives" in inspect.signature(objective.__call__).parameters
    assert objective.takes_negatives == takes
    takes = "targets" in inspect.signature(objective.__call__).parameters
    assert objective.takes_targets == takes == ROWS[name].targets
    assert objective.takes_targets or not objective.momentum_targets
    assert objective.smallest_batch in (1, 2) and objective.momentum_views is False
    assert set(objective.variables) == set(ROWS[name].state(3))
    assert objective.summary and not objective.summary.endswith(".")
