"""The health numbers against their definitions, and the alarm."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.command_line import SMALL
from helpers.stages import batches_from, pretrainer
from simclrv2_tf import callbacks, health, loop, run


def vectors(n=40, d=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def test_effective_rank_is_the_entropy_of_singular_values():
    x = vectors()
    values = np.sqrt(np.linalg.eigvalsh(np.cov(x.T, bias=True) * len(x)))
    p = values / values.sum()
    assert health.effective_rank(x) == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert health.effective_rank(x + 1000) == pytest.approx(health.effective_rank(x))


def test_effective_rank_of_known_shapes():
    square = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    assert health.effective_rank(square) == pytest.approx(2)
    assert health.effective_rank(np.outer(np.arange(5), [1, 2, 3])) == pytest.approx(1)
    for point in (np.zeros((5, 3)), np.full((5, 3), 0.1), np.ones((1, 3))):
        assert health.effective_rank(point) == 0


def test_spread_is_1_in_all_directions_and_0_in_one():
    assert health.spread(vectors(4000)) == pytest.approx(1, abs=0.02)
    assert health.spread(7 * vectors()) == pytest.approx(health.spread(vectors()))
    assert health.spread(np.tile([[1.0, 2.0]], (5, 1))) == pytest.approx(0, abs=1e-7)


def test_alignment_and_uniformity_by_loops():
    z1, z2 = vectors(7), vectors(7, seed=1)
    u1, u2 = ([row / np.sqrt((row**2).sum()) for row in z] for z in (z1, z2))
    aligned = [((a - b) ** 2).sum() for a, b in zip(u1, u2, strict=True)]
    assert health.alignment(z1, z2) == pytest.approx(np.mean(aligned))
    pairs = [np.exp(-2 * ((u1[i] - u1[j]) ** 2).sum()) for i in range(7) for j in range(i)]
    assert health.uniformity(z1) == pytest.approx(np.log(np.mean(pairs)))
    assert health.alignment(z1, 3 * z1) == pytest.approx(0)
    assert health.uniformity(np.ones((4, 3))) == pytest.approx(0)
    assert health.uniformity(np.ones((1, 3))) == 0


@pytest.mark.parametrize("broken", ["point", "line"])
@pytest.mark.parametrize("where", ["representation", "embedding"])
def test_collapse_of_either_is_named(broken, where):
    h, z = vectors(d=8), vectors(d=5)
    assert health.collapsed(health.measure(h, h, z, z)) is None
    bad = np.ones((40, 4)) if broken == "point" else np.outer(np.linspace(-1, 1, 40), np.ones(4))
    h, z = (bad, z) if where == "representation" else (h, bad)
    assert where in health.collapsed(health.measure(h, h, z, z))


def test_embeddings_say_nothing_before_the_moving_statistics_do():
    h, point = vectors(d=8), np.ones((40, 4))
    assert health.collapsed(health.measure(h, h, point, point), settled=False) is None
    assert health.collapsed(health.measure(point, point, h, h), settled=False)
    for decay in (0.9, 0.99, 0.5):
        steps = health.settled_after(decay)
        assert decay**steps <= 0.01 < decay ** (steps - 1)
    assert health.settled_after(0.0) == 1


@pytest.mark.usefixtures("less_output")
def test_a_healthy_networks_first_steps_raise_no_alarm(images, tmp_path, caplog):
    """Its embeddings have one direction while batch norm does not know their mean."""
    command = ["run", "--mode=train", f"--dataset=folder:{images}", *SMALL, "--train_steps=4"]
    assert run.main([*command, "--train_summary_steps=1", f"--model_dir={tmp_path}"]) == 0
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert min(float(row["embedding_spread"]) for row in rows) < 0.01
    assert "Collapse" not in caplog.text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_no_number(value):
    broken = vectors()
    broken[3, 2] = value
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        health.measure(vectors(), vectors(), vectors(), broken)


def train(stage, every_steps, total_steps=4):
    """Trains with the alarm on; what every batch's and epoch's logs held."""
    strategy = tf.distribute.get_strategy()
    seen = {"batch": [], "epoch": []}

    class Seen(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen["batch"].append(dict(logs))

        def on_epoch_end(self, epoch, logs=None):
            seen["epoch"].append(dict(logs))

    representations = loop.gather(stage.representations, strategy, batches_from(6))

    def measure():
        return health.measure(*representations())

    loop.train(
        stage,
        strategy,
        batches_from(6),
        schedule=lambda step: 0.1,
        total_steps=total_steps,
        epochs=2,
        callbacks=[callbacks.Health(measure, every_steps, settled_after=3), Seen()],
        verbose=0,
    )
    return seen


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr(callbacks.logging, "warning", lambda text, *args: found.append(text % args))
    return found


def test_numbers_are_logged_and_a_healthy_network_raises_no_alarm(warnings):
    seen = train(pretrainer(), 1)
    names = {"representation_rank", "embedding_spread", "alignment", "uniformity"}
    assert all(names <= logs.keys() for logs in (*seen["batch"], *seen["epoch"]))
    assert not warnings


def test_without_an_interval_they_are_of_epochs(warnings):
    seen = train(pretrainer(), 0)
    assert all("alignment" in logs for logs in seen["epoch"])
    assert not any("alignment" in logs for logs in seen["batch"])


def test_a_constant_encoder_raises_the_alarm_once_within_an_interval(warnings):
    stage = pretrainer()
    for variable in stage.encoder.weights:
        if variable.path.endswith(("gamma", "beta")):
            variable.assign(np.zeros(variable.shape))
            variable.trainable = False
    stage.optimizer.built = False
    stage.compile(type(stage.optimizer)(0.0), jit_compile=False)
    stage.optimizer.build(stage.trainable_variables)
    train(stage, 2)
    [warning] = warnings
    assert "Collapse at step 2" in warning and "one point" in warning
