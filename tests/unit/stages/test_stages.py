"""Stages, loop, checkpoints: labels stay out of the encoder, replicas agree, resuming is exact."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.stages import batches_from, pretrainer, random_views, tiny, weights
from simclrv2_tf import heads, loop, objectives, optimizers, resnet, stages
from simclrv2_tf import weights as checkpoints
from simclrv2_tf.callbacks import SaveCheckpoints

pytestmark = pytest.mark.usefixtures("short_networks")


def test_labels_never_reach_encoder_or_head():
    (view1, view2), labels = random_views()
    after = []
    for garbage in (labels, (labels + 1) % 3):
        stage = pretrainer()
        for _ in range(2):
            stage.train_step(((view1, view2), garbage))
        after.append(weights(stage.encoder, stage.head))
        probe = stage.classifier.get_weights()
    for path, value in after[0].items():
        np.testing.assert_array_equal(value, after[1][path], err_msg=path)
    assert any(np.any(value != 0) for value in probe)


def test_examples_without_a_label_are_nothing_to_the_probe():
    (view1, view2), labels = random_views()
    kernels = []
    for mixed, count in ((tf.constant([-1, 1, 2, -1, 0, -1], tf.int64), 6), (labels * 0 - 1, 6)):
        stage = pretrainer()
        before = stage.classifier.get_weights()[0]
        logits = stage.classifier(stage.encoder(tf.concat([view1, view2], 0), training=True))
        doubled = np.concatenate([mixed, mixed])
        rows = np.flatnonzero(doubled >= 0)
        picked = tf.nn.log_softmax(logits).numpy()[rows, doubled[rows]]
        logs = stage.train_step(((view1, view2), mixed))
        np.testing.assert_allclose(logs["probe_loss"], -picked.sum() / (2 * count), rtol=1e-4)
        kernels.append(np.any(stage.classifier.get_weights()[0] != before))
    assert kernels == [True, False]


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_probe_trains_on_the_selected_layer(layer):
    encoder, head, classifier = tiny(classifier_layer=layer)
    stage = stages.Pretrainer(encoder, head, objectives.NTXent(), classifier, layer)
    data = random_views()
    with tf.GradientTape() as tape:
        loss = stage.training_loss(data)
    gradients = tape.gradient(loss, classifier.trainable_variables)
    assert all(np.any(g != 0) for g in gradients)


def test_loss_is_the_objective_plus_the_probe_plus_the_penalty():
    data = random_views()
    (view1, view2), labels = data
    stage = pretrainer(penalty=lambda variables: tf.constant(7.0))
    hiddens = stage.head(stage.encoder(tf.concat([view1, view2], 0), training=True), training=True)
    logits = stage.classifier(hiddens[0])
    doubled = tf.concat([labels, labels], 0)
    picked = tf.gather(tf.nn.log_softmax(logits), doubled, batch_dims=1)
    expected = objectives.nt_xent(*tf.split(hiddens[-1], 2), 0.5)[0] - tf.reduce_mean(picked) + 7.0
    logs = stage.train_step(data)
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)
    accuracy = np.mean(np.argmax(logits, -1) == doubled.numpy())
    np.testing.assert_allclose(logs["probe_accuracy"], accuracy, rtol=1e-6)


def test_frozen_encoder_stays_bit_equal_with_its_statistics():
    encoder, head, classifier = tiny()
    resnet.freeze(encoder, 4)
    stage = stages.Classifier(encoder, classifier)
    optimizer = optimizers.make_optimizer("momentum", 0.1)
    stage.compile(optimizer, jit_compile=False)
    before, kernel = weights(encoder), classifier.get_weights()[0]
    (images, _), labels = random_views()
    stage.train_step((images, labels))
    for path, value in weights(encoder).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)
    assert np.any(classifier.get_weights()[0] != kernel)


def test_freezing_after_a_block_trains_what_follows():
    encoder = resnet.resnet(18, 1 / 16, image_size=8)
    resnet.freeze(encoder, 2)
    assert {v.path[:12] for v in encoder.trainable_variables} == {"block_group3", "block_group4"}
    resnet.freeze(encoder, -1)
    assert any(v.path.startswith("stem") for v in encoder.trainable_variables)
    with pytest.raises(ValueError, match="after_block=5"):
        resnet.freeze(encoder, 5)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_classifier_stage_trains_only_the_head_below_it(layer):
    encoder, head, classifier = tiny(classifier_layer=layer)
    stage = stages.Classifier(encoder, classifier, heads.up_to(head, layer) if layer else None)
    paths = {v.path for v in stage.trainable_variables}
    for k in (1, 2):
        assert (f"projection{k}_dense/kernel" in paths) == (k <= layer)


def test_evaluation_counts_padding_as_nothing():
    encoder, _, classifier = tiny()
    stage = stages.Classifier(encoder, classifier)
    (images, more), labels = random_views(6)
    logits = stage(images).numpy()
    losses = -tf.gather(tf.nn.log_softmax(logits), labels, batch_dims=1).numpy()
    right = np.argmax(logits, -1) == labels.numpy()
    stage.reset_metrics()
    stage.test_step((images[:4], labels[:4], tf.ones(4)))
    padded = tf.concat([images[4:], more[:2]], 0)
    padded_labels = tf.concat([labels[4:], tf.zeros(2, tf.int64)], 0)
    logs = stage.test_step((padded, padded_labels, tf.constant([1.0, 1.0, 0.0, 0.0])))
    np.testing.assert_allclose(logs["loss"], losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(logs["top_1_accuracy"], right.mean(), rtol=1e-6)
    np.testing.assert_allclose(logs["top_5_accuracy"], 1.0)  # of 3 classes


def run_loop(stage, start, stop, epochs=2, callbacks=()):
    return loop.train(
        stage,
        tf.distribute.get_strategy(),
        batches_from(6, start),
        schedule=lambda step: 0.5,
        total_steps=stop,
        epochs=epochs,
        start_step=start,
        callbacks=callbacks,
        verbose=0,
    )


def test_stop_and_resume_equals_not_stopping(tmp_path):
    def make():
        stage = pretrainer(optimizer=optimizers.LARS(0.5, weight_decay=1e-4))
        models = (stage.encoder, stage.head, stage.classifier)
        state = checkpoints.named([v for m in models for v in m.weights], stage.optimizer)
        return stage, models, checkpoints.Checkpoints(str(tmp_path / "checkpoints"), state, 2)

    straight, models, _ = make()
    run_loop(straight, 0, 6)
    expected = weights(*models)

    first, _, store = make()
    assert not store.restore()
    run_loop(first, 0, 3)
    store.save(3)
    second, models, store = make()
    assert store.restore()
    assert int(second.optimizer.iterations.numpy()) == 3
    run_loop(second, 3, 6)
    for path, value in weights(*models).items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-5, atol=1e-7, err_msg=path)


def test_checkpoints_keep_the_newest_and_refuse_another_network(tmp_path):
    encoder, head, _ = tiny()
    store = checkpoints.Checkpoints(str(tmp_path), checkpoints.named(encoder.weights), keep=2)
    for step in (1, 2, 3):
        store.save(step)
    assert sorted(p.name for p in tmp_path.glob("*.index")) == ["ckpt-2.index", "ckpt-3.index"]
    both = checkpoints.named([*encoder.weights, *head.weights])
    with pytest.raises(checkpoints.CheckpointError, match="projection1"):
        checkpoints.Checkpoints(str(tmp_path), both, keep=2).restore()
    wider = resnet.resnet(10, 1 / 8, image_size=8)
    before = weights(wider)
    with pytest.raises(checkpoints.CheckpointError, match="stem"):
        checkpoints.load(str(tmp_path), [wider])
    assert all(np.array_equal(before[p], v) for p, v in weights(wider).items())
    with pytest.raises(checkpoints.CheckpointError, match="none"):
        checkpoints.load(str(tmp_path / "nothing"), [encoder])


def test_checkpoint_with_a_nan_is_not_written(tmp_path):
    encoder, _, _ = tiny()
    store = checkpoints.Checkpoints(str(tmp_path), checkpoints.named(encoder.weights), keep=2)
    encoder.weights[0].assign(np.full(encoder.weights[0].shape, np.nan))
    with pytest.raises(FloatingPointError, match="stem_conv/kernel"):
        store.save(1)
    assert not list(tmp_path.glob("*.index"))


def test_damaged_checkpoint_is_an_error_of_ours(tmp_path):
    encoder, _, _ = tiny()
    state = checkpoints.named(encoder.weights)
    checkpoints.Checkpoints(str(tmp_path), state, keep=2).save(1)
    first = checkpoints.fingerprint(str(tmp_path))
    encoder.weights[0].assign(encoder.weights[0] + 1)
    checkpoints.Checkpoints(str(tmp_path), state, keep=2).save(1)
    assert checkpoints.fingerprint(str(tmp_path)) != first
    (tmp_path / "ckpt-1.index").write_bytes(b"short")
    with pytest.raises(checkpoints.CheckpointError, match="cannot be read"):
        checkpoints.Checkpoints(str(tmp_path), state, keep=2).restore()
    with pytest.raises(checkpoints.CheckpointError, match="cannot be read"):
        checkpoints.load(str(tmp_path), [encoder])


def test_nan_loss_stops_the_loop_before_callbacks_see_it():
    stage = pretrainer(penalty=lambda variables: tf.constant(float("nan")))
    seen = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: seen.append(b))
    with pytest.raises(loop.NonFiniteError, match="step 1 of 6"):
        run_loop(stage, 0, 6, callbacks=[watch])
    assert not seen


def test_loop_calls_callbacks_as_fit_does():
    events = []

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            events.append("begin")

        def on_epoch_begin(self, epoch, logs=None):
            events.append(("epoch", epoch, self.params["steps"]))

        def on_train_batch_end(self, batch, logs=None):
            events.append((batch, sorted(logs)))

        def on_epoch_end(self, epoch, logs=None):
            events.append(("end", epoch))

        def on_train_end(self, logs=None):
            events.append("end")

    history = run_loop(pretrainer(), 0, 5, callbacks=[Watch()])
    names = sorted(
        ["loss", "contrast_loss", "contrast_accuracy", "contrast_entropy", "probe_loss"]
        + ["probe_accuracy", "learning_rate"]
    )
    assert events == [
        "begin",
        ("epoch", 0, 2),
        (0, names),
        (1, names),
        ("end", 0),
        ("epoch", 1, 3),
        (0, names),
        (1, names),
        (2, names),
        ("end", 1),
        "end",
    ]
    assert len(history.history["contrast_loss"]) == 2


@pytest.fixture(scope="module")
def one_by_one(short_networks):
    """Weights after ten steps in calls of one, and the loss of the last epoch."""
    alone = pretrainer()
    run_loop(alone, 0, 10)
    return [v.numpy() for v in alone.weights], float(alone.get_metrics_result()["loss"])


@pytest.mark.parametrize("steps", [3, 50])
def test_several_steps_in_a_call_are_the_same_steps(steps, one_by_one, tmp_path):
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append((batch, int(self.model.optimizer.iterations.numpy()), logs["loss"]))

    stage = pretrainer()
    store = checkpoints.Checkpoints(str(tmp_path), checkpoints.named(stage.weights), keep=9)
    loop.train(
        stage,
        tf.distribute.get_strategy(),
        batches_from(6),
        schedule=lambda step: 0.5,
        total_steps=10,
        epochs=2,
        start_step=0,
        steps_per_execution=steps,
        callbacks=[Seen(), SaveCheckpoints(store, 4, 1)],
        verbose=0,
    )
    # Every call ends with its epoch, which has 5 steps.
    ends = [min(i + steps, 5) for i in range(0, 5, steps)]
    assert [(batch, step) for batch, step, _ in seen] == [
        (end - 1, 5 * epoch + end) for epoch in (0, 1) for end in ends
    ]
    # A checkpoint at each fourth step, or at the end of the call that it falls in; and at the end.
    made = [5 * epoch + end for epoch in (0, 1) for end in ends]
    due = sorted({min(step for step in made if step >= wanted) for wanted in (4, 8)} | {10})
    assert sorted(int(f.stem[5:]) for f in tmp_path.glob("ckpt-*.index")) == due
    weights, loss = one_by_one
    for v, w in zip(stage.weights, weights, strict=True):
        np.testing.assert_allclose(v.numpy(), w, rtol=1e-5, atol=1e-6)
    assert seen[-1][2] == pytest.approx(loss, rel=1e-5)


def test_stages_work_with_keras_fit():
    stage = pretrainer()
    data = batches_from(6)(None).take(4)
    history = stage.fit(data, epochs=1, verbose=0)
    assert np.isfinite(history.history["contrast_loss"][0])
