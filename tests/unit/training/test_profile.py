"""What a run says of its speed: a profile, and the share of the time it waited for data."""

import time

import keras
import pytest
import tensorflow as tf

from helpers.stages import batches_from, conv_encoder, pretrainer, train
from simclrv2_tf.training import loop
from simclrv2_tf.training.callbacks import Profile

DELAY = 0.05  # seconds


def test_a_profile_has_the_steps_after_the_first(tmp_path, capsys):
    train(pretrainer(encoder=conv_encoder), 0, 6, callbacks=[Profile(tmp_path, 2, 3)])
    (trace,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    assert (
        trace.stat().st_size > 1000 and f"Wrote a profile to {tmp_path}" in capsys.readouterr().out
    )


def test_a_run_that_ends_within_the_profile_ends_it(tmp_path):
    for folder in ("first", "second"):  # TensorFlow refuses a second profile at the same time
        train(pretrainer(encoder=conv_encoder), 0, 3, callbacks=[Profile(tmp_path / folder, 1, 9)])
        assert list(tmp_path.glob(f"{folder}/plugins/profile/*/*.xplane.pb"))


def slow_batches(context):
    def delayed(number):
        time.sleep(DELAY)
        return number

    def wait(data, label):
        number = tf.py_function(delayed, [tf.constant(0)], tf.int32)
        with tf.control_dependencies([number]):
            return tf.nest.map_structure(tf.identity, data), tf.identity(label)

    return batches_from(6)(context).map(wait)


def waited(several):
    stage, strategy = pretrainer(encoder=conv_encoder), tf.distribute.get_strategy()
    run = loop.train_function(stage, strategy, several)
    iterator = iter(slow_batches(tf.distribute.InputContext()))
    return float(run(iterator, tf.constant(3))[1])


def test_a_step_counts_the_seconds_that_it_waits():
    assert waited(several=False) >= DELAY
    assert waited(several=True) >= 3 * DELAY


@pytest.mark.parametrize("several", [False, True])
def test_no_operation_of_the_update_begins_before_the_clock_is_read(several):
    """On one core it would else run between the two readings, and count as waiting."""
    stage, strategy = pretrainer(encoder=conv_encoder), tf.distribute.get_strategy()
    run = loop.train_function(stage, strategy, several)
    iterator = iter(slow_batches(tf.distribute.InputContext()))
    graph = run.get_concrete_function(iterator, tf.constant(1)).graph
    graphs = [graph, *map(inner_graph, graph.get_operations())]
    (graph,) = [g for g in graphs if g and any(op.type == "Timestamp" for op in g.get_operations())]
    found = [op for op in graph.get_operations() if op.type in ("Conv2D", "MatMul")]
    assert len(found) > 2
    for op in found:
        assert sum(other.type == "Timestamp" for other in before(op)) == 2, op.name


def inner_graph(op):
    """The graph of a loop's body."""
    return op.graph._get_function(op.get_attr("body").name).graph if op.type == "While" else None


def before(op):
    """The operations that have ended when one begins."""
    seen, waiting = set(), [op]
    while waiting:
        op = waiting.pop()
        others = {tensor.op for tensor in op.inputs} | {*op.control_inputs}
        waiting += others - seen
        seen |= others
    return seen


def test_a_process_that_has_become_deterministic_trains_without_a_clock():
    """As the process stays for the runs after one with --deterministic, in a notebook."""
    from tensorflow.python.framework import config as tensorflow_config

    keras.utils.set_random_seed(1)
    tf.config.experimental.enable_op_determinism()
    try:
        stage = pretrainer(encoder=conv_encoder)
        train(stage, 0, 2)
        assert stage.optimizer.iterations.numpy() == 2 and stage.waits is None
    finally:
        tensorflow_config.disable_op_determinism()
    train(stage := pretrainer(encoder=conv_encoder), 0, 3)
    assert stage.waits.share is not None


def test_the_share_of_the_waits_is_said_without_the_first_call():
    waits = loop.Waits()
    for seconds in (9.0, 0.5, 0.0):  # the first call traces
        waits.add(seconds, 10.0 if seconds == 9 else 2.0)
        assert waits.share is None or waits.share <= 0.25
    assert waits.share == 0.125 and waits.advice is None
    waits.add(2.0, 2.0)
    assert 'took 42% of the training time: see "A slow input' in waits.advice


def test_a_run_too_short_for_a_profile_is_told(tmp_path, caplog):
    train(pretrainer(encoder=conv_encoder), 0, 3, callbacks=[Profile(tmp_path, skipped=3)])
    assert "starts after 3 calls of the training step. Received: 3 calls" in caplog.text
    assert not list(tmp_path.iterdir())
