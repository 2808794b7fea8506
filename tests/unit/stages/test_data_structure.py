"""What a stage is given: a tensor where a tuple is meant is refused, and never split."""

import pytest
import tensorflow as tf

from helpers.stages import pretrainer, small_encoder
from simclrv2_tf import heads, stages

VIEW = tf.random.stateless_uniform((4, 16, 16, 3), (1, 2))
LABELS = tf.constant([0, 1, 0, 1])


def classifier_stage():
    encoder = small_encoder()
    return stages.Classifier(encoder, heads.classifier(encoder.output_shape[-1], 2))


def distiller(alpha):
    encoder = small_encoder()
    classifier = heads.classifier(encoder.output_shape[-1], 2)

    def teacher(images, training=False):
        return tf.zeros((tf.shape(images)[0], 2))

    return stages.Distiller(encoder, classifier, teacher, alpha=alpha)


WRONG = {
    "two views without labels": (pretrainer, (VIEW, VIEW)),
    "one view": (pretrainer, (VIEW, LABELS)),
    "stacked views": (pretrainer, (tf.stack([VIEW, VIEW]), LABELS)),
    "three views": (pretrainer, ((VIEW, VIEW, VIEW), LABELS)),
    "labels of each view": (pretrainer, ((VIEW, VIEW), (LABELS, LABELS))),
    "one-hot labels of views": (pretrainer, ((VIEW, VIEW), tf.one_hot(LABELS, 2))),
    "views and labels in a row": (pretrainer, (VIEW, VIEW, LABELS)),
    "images without labels": (classifier_stage, (VIEW,)),
    "views to a classifier": (classifier_stage, ((VIEW, VIEW), LABELS)),
    "images for labels": (classifier_stage, (VIEW, VIEW)),
    "one-hot labels": (classifier_stage, (VIEW, tf.one_hot(LABELS, 2))),
    "labels to a distiller": (lambda: distiller(1.0), (VIEW, LABELS)),
    "views to a distiller": (lambda: distiller(1.0), (VIEW, VIEW)),
    "no labelled images": (lambda: distiller(0.5), VIEW),
    "labels of the images": (lambda: distiller(0.5), (VIEW, LABELS)),
    "labelled images in a row": (lambda: distiller(0.5), (VIEW, VIEW, LABELS)),
}


@pytest.mark.parametrize("case", WRONG)
def test_another_structure_is_refused(case):
    make, data = WRONG[case]
    stage = make()
    with pytest.raises(ValueError, match="`data` must be|Data is expected"):
        stage.training_loss(data)


def test_fit_refuses_two_views_for_a_view_and_labels():
    stage = pretrainer()
    with pytest.raises(ValueError, match="labels.*Received: data of shapes"):
        stage.fit(tf.data.Dataset.from_tensors((VIEW, VIEW)), verbose=0)


def test_lists_are_taken_as_tuples():
    assert float(pretrainer().training_loss([[VIEW, VIEW], LABELS])) > 0
