"""Pretraining with a predictor: what BYOL and SimSiam compare, what trains, and how fast."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import formulas
from helpers.stages import compare, conv_encoder, random_views, tiny, without_batch_norm
from simclrv2_tf import heads, memory, objectives, optimizers, stages
from simclrv2_tf.metrics import representations

OBJECTIVES = [objectives.BYOL(), objectives.SimSiam()]


def small():
    return tiny(encoder=conv_encoder)


def predicting(objective, networks=small, optimizer=None, decay=0.5, **options):
    keras.utils.set_random_seed(1)
    encoder, head, classifier = networks()
    predictor = heads.predictor(head.outputs[-1].shape[-1], 5)
    momentum = None
    if objective.momentum_targets:
        momentum = memory.MomentumNetwork((encoder, head), networks()[:2], decay)
        momentum.begin()
    stage = stages.Pretrainer(
        encoder,
        head,
        objective,
        classifier,
        classifier_layer=1,
        momentum=momentum,
        predictor=predictor,
        **options,
    )
    stage.compile(optimizer or keras.optimizers.SGD(0.5), jit_compile=False)
    stage.optimizer.build(stage.trainable_variables)
    return stage


def embeddings(encoder, head, views):
    return head(encoder(tf.concat(views, 0), training=True), training=True)[-1]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_is_the_papers_of_predictions_and_targets(objective):
    data = random_views(6)
    stage = predicting(objective)
    z = embeddings(stage.encoder, stage.head, data[0])
    predicted = np.split(stage.predictor(z, training=True), 2)
    targets = np.split(z, 2)
    if objective.momentum_targets:
        for variable in stage.momentum.encoder.trainable_variables:
            variable.assign_add(0.1 * np.ones(variable.shape))
        targets = np.split(embeddings(stage.momentum.encoder, stage.momentum.head, data[0]), 2)
    formula = formulas.ROWS[type(objective).__name__.lower()].formula
    wanted = formula(*(p.tolist() for p in predicted), [t.tolist() for t in targets])
    logs = stage.train_step(data)
    np.testing.assert_allclose(logs["contrast_loss"], wanted, rtol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_evaluation_is_the_same_in_inference_mode(objective):
    data = random_views(6)
    stage = predicting(objective)
    target = stage.momentum if objective.momentum_targets else stage
    z, t = (of.head(of.encoder(tf.concat(data[0], 0)))[-1] for of in (stage, target))
    predicted = np.split(stage.predictor(z), 2)
    wanted = objective(*predicted, targets=tf.split(t, 2))[0]
    logs = stage.test_step(data)
    np.testing.assert_allclose(logs["contrast_loss"], wanted, rtol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_stop_at_the_targets(objective):
    """By a tape in which the targets are constants."""
    data = random_views(6)
    stage = predicting(objective)
    source = stage.momentum if objective.momentum_targets else stage
    targets = [t.numpy() for t in tf.split(embeddings(source.encoder, source.head, data[0]), 2)]
    names = [v for m in (stage.encoder, stage.head, stage.predictor) for v in m.trainable_variables]
    with tf.GradientTape() as tape:
        z = embeddings(stage.encoder, stage.head, data[0])
        loss = objective(*tf.split(stage.predictor(z, training=True), 2), targets=targets)[0]
    wanted = dict(zip(map(id, names), tape.gradient(loss, [v.value for v in names]), strict=True))
    _, gradients = stage.loss_and_gradients(data)
    found = dict(zip(map(id, stage.trainable_variables), gradients, strict=True))
    compare([found[key] for key in wanted], list(wanted.values()), 1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_micro_batches_are_the_whole_batch(objective):
    def plain():
        encoder, head, classifier = without_batch_norm()
        return encoder, head, classifier

    data = random_views(6)
    whole, parts = (predicting(objective, plain, micro_batch_size=size) for size in (None, 2))
    # Its batch norm would take the statistics of a part.
    for stage in (whole, parts):
        stage.predictor.trainable = True
        for layer in stage.predictor.layers:
            if "bn" in layer.name:
                layer.trainable = False
    (loss, gradients), (expected_loss, expected) = (
        stage.loss_and_gradients(data) for stage in (parts, whole)
    )
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    compare(gradients, expected, 1e-5)


def test_byols_network_follows_ever_more_slowly():
    """Section 3.3 of the paper: decay 1 - (1 - base) (cos(pi k / K) + 1) / 2 at step k of K."""
    decay = memory.cosine_decay_to_1(0.6, 4)
    stage = predicting(objectives.BYOL(), decay=decay, optimizer=keras.optimizers.Adam(0.05))
    path = "stem_conv/kernel"
    theirs = next(v for v in stage.encoder.weights if v.path == path)
    ours = stage.momentum.variables[path]
    expected = ours.numpy()
    for k in range(4):
        stage.train_step(random_views(6, seed=k))
        weight = 1 - 0.4 * (math.cos(math.pi * k / 4) + 1) / 2
        expected = weight * expected + (1 - weight) * theirs.numpy()
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(decay(tf.constant(4)), 1.0)
    np.testing.assert_allclose(decay(tf.constant(9)), 1.0)


def test_simsiams_predictor_trains_at_the_peak_after_warm_up():
    schedule = optimizers.WarmupCosine(0.4, 2, 4)
    stage = predicting(objectives.SimSiam(), optimizer=keras.optimizers.SGD(schedule))
    stage.predictor_optimizer = keras.optimizers.SGD(optimizers.HeldAtPeak(schedule))
    stage.predictor_optimizer.build(stage.predictor.trainable_variables)
    rates = {"network": [0.0, 0.2, 0.4, 0.2, 0.0], "predictor": [0.0, 0.2, 0.4, 0.4, 0.4]}
    parts = {
        "network": [*stage.encoder.trainable_variables, *stage.head.trainable_variables],
        "predictor": stage.predictor.trainable_variables,
    }
    for step in range(5):
        before = {id(v): v.numpy() for v in stage.trainable_variables}
        data = random_views(6, seed=step)
        _, gradients = stage.loss_and_gradients(data)
        gradients = dict(zip(map(id, stage.trainable_variables), gradients, strict=True))
        stage.apply(list(gradients.values()))
        for part, variables in parts.items():
            for v in variables:
                wanted = before[id(v)] - rates[part][step] * gradients[id(v)].numpy()
                np.testing.assert_allclose(v, wanted, rtol=1e-4, atol=1e-6, err_msg=v.path)


def test_what_belongs_together():
    encoder, head, _ = small()
    predictor = heads.predictor(8, 5)
    for objective, model in ((objectives.SimSiam(), None), (objectives.NTXent(), predictor)):
        with pytest.raises(
            ValueError, match="`predictor` must only be given with an objective that"
        ):
            stages.Pretrainer(encoder, head, objective, predictor=model)
    with pytest.raises(ValueError, match="`momentum` must be given with objective=BYOL"):
        stages.Pretrainer(encoder, head, objectives.BYOL(), predictor=predictor)
    with pytest.raises(ValueError, match="hidden_dim"):
        heads.predictor(8, 0)


def waves(count, seed):
    """Two views of images of waves, each with its own noise."""
    rng = np.random.default_rng(seed)
    phase, slope = rng.uniform(0, 6, (count, 1, 1, 1)), rng.uniform(-2, 2, (count, 2, 1, 1, 3))
    y, x = np.mgrid[:8, :8][..., None]
    clean = 0.5 + 0.5 * np.sin(phase + slope[:, 0] * x + slope[:, 1] * y)
    noisy = (clean + 0.2 * rng.normal(size=clean.shape) for _ in range(2))
    return tuple(tf.constant(view, tf.float32) for view in noisy), tf.zeros(count, tf.int64)


def all_of(stage, views, labels):
    """A step on each of the batches, in one graph: calls would take most of the time."""
    for index in tf.range(len(views[0])):
        stage.update((tuple(view[index] for view in views), labels))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_predictor_keeps_from_collapse_and_the_alarm_tells_its_absence(objective):
    """Sections 3.2 and 4.2 of the papers; a batch norm at the head's end would hide it."""

    def networks():
        encoder = conv_encoder(16)
        head = heads.projection_head(16, 2, 8, hidden_dim=16, output_batch_norm=False)
        return encoder, head, None

    batches = [waves(32, seed) for seed in range(50)]
    views = [tf.stack([pair[view] for pair, _ in batches]) for view in range(2)]
    labels = batches[0][1]
    spreads = {}
    for kept in (True, False):
        stage = predicting(objective, networks, keras.optimizers.Adam(0.02), decay=0.9)
        if not kept:
            embedding = keras.Input((8,))
            stage.predictor = keras.Model(embedding, keras.layers.Identity()(embedding))
        train = tf.function(lambda stage=stage: all_of(stage, views, labels))
        for _ in range(4 if kept else 12):
            train()
        numbers = representations.measure(
            *(x.numpy() for x in stage.representations(waves(64, 999)))
        )
        spreads[kept] = numbers["embedding_spread"]
        said = representations.collapsed(numbers)
        assert said is None if kept else "embeddings" in said, (kept, numbers)
    assert spreads[True] > 10 * spreads[False]
