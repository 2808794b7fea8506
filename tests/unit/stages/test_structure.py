"""The structure of a batch: what is not meant is refused when traced; -1 is never a class."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.distillation import batch, distiller
from helpers.stages import conv_encoder, pretrainer, random_views, tiny
from simclrv2_tf import heads, optimizers, stages

LABELS = tf.constant([0, 1, 2, 1, 0, 2], tf.int64)
VIEW1, VIEW2 = batch(6, seed=1), batch(6, seed=2)


def classifier_stage():
    encoder, _, classifier = tiny(encoder=conv_encoder)
    stage = stages.Classifier(encoder, classifier)
    optimizer = optimizers.make_optimizer(optimizers.OptimizerOptions(optimizer="momentum"), 0.1)
    stage.compile(optimizer, jit_compile=False)
    return stage


def evaluation():
    return stages.Evaluation(lambda images, training: tf.reduce_mean(images, (1, 2)), 3)


def whole():
    return pretrainer(encoder=conv_encoder)


def cached():
    return pretrainer(encoder=conv_encoder, micro_batch_size=3)


NOT_VIEWS = {
    "only views": (VIEW1, VIEW2),
    "a tensor": VIEW1,
    "views stacked": (tf.stack([VIEW1, VIEW2]), LABELS),
    "one view": ((VIEW1,), LABELS),
    "three views": ((VIEW1, VIEW2, VIEW1), LABELS),
    "views without labels": ((VIEW1, VIEW2),),
    "views of two sizes": ((VIEW1, VIEW2[:, :4]), LABELS),
    "views of one image": ((VIEW1[0], VIEW2[0]), LABELS),
    "float labels": ((VIEW1, VIEW2), tf.cast(LABELS, tf.float32)),
    "one-hot labels": ((VIEW1, VIEW2), tf.one_hot(LABELS, 3, dtype=tf.int32)),
    "fewer labels": ((VIEW1, VIEW2), LABELS[:3]),
    "views by name": {"view1": VIEW1, "view2": VIEW2},
}
NOT_IMAGES = {
    "only views": (VIEW1, VIEW2),
    "views and labels": ((VIEW1, VIEW2), LABELS),
    "only images": VIEW1,
    "images in a tuple": (VIEW1,),
    "float labels": (VIEW1, tf.cast(LABELS, tf.float32)),
    "one-hot labels": (VIEW1, tf.one_hot(LABELS, 3)),
    "fewer labels": (VIEW1, LABELS[:4]),
    "labels first": (LABELS, VIEW1),
    "weights of another shape": (VIEW1, LABELS, tf.ones((6, 1))),
    "too many": (VIEW1, LABELS, tf.ones(6), tf.ones(6)),
}
NOT_UNLABELLED = {
    "only views": (VIEW1, VIEW2),
    "labels": (VIEW1, LABELS),
    "labelled images": (VIEW1, (VIEW2, LABELS)),
    "one image": VIEW1[0],
}
NOT_MIXED = {
    "only images": VIEW1,
    "labels of the images": (VIEW1, LABELS),
    "views": (VIEW1, (VIEW1, VIEW2)),
    "float labels": (VIEW1, (VIEW2, tf.cast(LABELS, tf.float32))),
    "labelled images first": ((VIEW2, LABELS), VIEW1),
    "one too many": (VIEW1, VIEW2, LABELS),
}


@functools.cache
def of(make):
    """One stage for all batches that it refuses."""
    return make()


def cases(made, wrong):
    return [pytest.param(made, data, id=f"{made.__name__}-{name}") for name, data in wrong.items()]


def half_labelled():
    return distiller(alpha=0.5)


@pytest.mark.parametrize(
    ("make", "data"),
    [
        *cases(whole, NOT_VIEWS),
        *cases(cached, NOT_VIEWS),
        *cases(classifier_stage, NOT_IMAGES),
        *cases(distiller, NOT_UNLABELLED),
        *cases(half_labelled, NOT_MIXED),
    ],
)
def test_a_training_batch_of_another_structure_is_refused(make, data):
    stage = of(make)
    with pytest.raises(ValueError, match="`data` must be .*Received: .*data=.*") as raised:
        stage.train_step(data)
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="`data` must be"):
        stage.training_loss(data)


@pytest.mark.parametrize(
    ("make", "data"),
    [
        (whole, (VIEW1, VIEW2)),
        (cached, (VIEW1, VIEW2)),
        (classifier_stage, (VIEW1, tf.one_hot(LABELS, 3))),
        (distiller, (VIEW1, LABELS)),
    ],
)
def test_it_is_refused_where_the_batch_size_is_not_known(make, data):
    signature = tf.nest.map_structure(lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), data)
    step = tf.function(of(make).train_step, input_signature=[signature], autograph=False)
    with pytest.raises(ValueError, match="`data` must be"):
        step.get_concrete_function()


@pytest.mark.parametrize(
    ("make", "data"),
    [
        *cases(cached, NOT_VIEWS),
        *cases(classifier_stage, NOT_IMAGES),
        *cases(evaluation, NOT_IMAGES),
        *cases(distiller, {"views": (VIEW1, VIEW2), "more": (VIEW1, (VIEW2, LABELS))}),
        *cases(half_labelled, {"views": (VIEW1, VIEW2), "floats": (VIEW1, tf.ones(6))}),
    ],
)
def test_an_evaluation_batch_of_another_structure_is_refused(make, data):
    with pytest.raises(ValueError, match="`data` must be .*Received: data="):
        of(make).test_step(data)


def test_the_error_shows_what_came():
    with pytest.raises(ValueError) as raised:
        of(whole).train_step((VIEW1, VIEW2))
    shown = "data=(float32 (6, 8, 8, 3), float32 (6, 8, 8, 3))"
    assert str(raised.value).startswith("`data` must be ((view1, view2), labels)")
    assert shown in str(raised.value)


def test_fit_on_views_without_labels_is_refused():
    """Halves of the first view would be taken for the two views, with a finite loss."""
    stage = whole()
    data = tf.data.Dataset.from_tensors((VIEW1, VIEW2))
    with pytest.raises(ValueError, match="two batches of images"):
        stage.fit(data, epochs=1, verbose=0)


def test_views_may_come_as_a_list_and_as_arrays():
    views, labels = random_views()
    logs = [
        whole().train_step(data)["contrast_loss"]
        for data in ((views, labels), [[x.numpy() for x in views], labels.numpy()])
    ]
    np.testing.assert_allclose(logs[0], logs[1], rtol=1e-6)


MIXED = tf.constant([0, -1, 2, 1, -1, 2], tf.int64)


@pytest.mark.parametrize("make", [classifier_stage, half_labelled])
def test_an_unlabelled_image_is_refused_in_labelled_training(make):
    stage = make()
    data = (VIEW1, (VIEW2, MIXED)) if make is half_labelled else (VIEW1, MIXED)
    kernel = stage.classifier.get_weights()[0]
    for step in (stage.train_step, tf.function(stage.train_step, autograph=False)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="must have a label of 0 or above"):
            step(data)
    np.testing.assert_array_equal(stage.classifier.get_weights()[0], kernel)


@pytest.mark.parametrize("weights", [None, tf.constant([1.0, 1, 0, 1, 0, 1])])
def test_an_unlabelled_image_counts_as_nothing_in_evaluation(weights):
    """Against only the labelled images."""
    keras.utils.set_random_seed(0)
    encoder = conv_encoder()
    classifier = heads.classifier(encoder.output_shape[-1], 3)
    kept = np.flatnonzero((MIXED.numpy() >= 0) & (True if weights is None else weights.numpy() > 0))

    def predict(images, training):
        return classifier(encoder(images, training=training))

    for make in (
        lambda: stages.Evaluation(predict, 3),
        lambda: stages.Classifier(encoder, classifier),
    ):
        expected = make().test_step((tf.gather(VIEW1, kept), tf.gather(MIXED, kept)))
        found = make().test_step((VIEW1, MIXED, weights))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-7, err_msg=name)
