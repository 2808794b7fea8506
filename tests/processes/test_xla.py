"""Steps compile with XLA as a whole, with static shapes, as a TPU needs. No TPU is used."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import semi_supervised
from helpers import stages as small
from simclrv2_tf import heads, objectives, optimizers, resnet, stages


def in_micro_batches():
    return small.pretrainer(micro_batch_size=2), small.random_views(8)


def selective():
    keras.utils.set_random_seed(0)
    ratios = dict(sk_ratio=0.0625, se_ratio=0.25)
    encoder = resnet.resnet(50, 1 / 16, image_size=8, blocks=(1,), **ratios)
    head = heads.projection_head(encoder.output_shape[-1], 2, 8)
    return stages.Pretrainer(encoder, head, objectives.NTXent(0.5)), small.random_views(4)


def other(objective, **options):
    """An objective with its state, on the smallest network: what is new is after it."""
    stage = small.remembering(small.without_batch_norm, 0, objective=objective(5), **options)
    return stage, small.random_views(8)


def remembering():
    return small.remembering(small.without_batch_norm, 20), small.random_views(8)


def classification(linear=False):
    encoder, head, classifier = small.tiny(classifier_layer=1)
    if linear:
        resnet.freeze(encoder, 4)
    (images, _), labels = small.random_views(8)
    stage = stages.Classifier(encoder, classifier, heads.up_to(head, 1))
    return stage, (images, labels)


def distillation(alpha=1.0):
    encoder, head, classifier = small.without_batch_norm()
    others = small.without_batch_norm(seed=1)

    def teacher(images, training):
        return others[2](others[1](others[0](images))[1])

    (images, labelled), labels = small.random_views(8)
    stage = stages.Distiller(encoder, classifier, teacher, heads.up_to(head, 1), alpha=alpha)
    return stage, images if alpha == 1 else (images, (labelled, labels))


def with_unlabelled(kind):
    return semi_supervised.stage(kind)[0], semi_supervised.batch(kind)


STAGES = {
    "pretrain": lambda: other(lambda width: objectives.NTXent(0.5)),
    "pretrain in micro-batches": in_micro_batches,
    "pretrain in blocks": lambda: other(lambda width: objectives.NTXent(0.5, chunk_size=3)),
    "pretrain with SK and SE": selective,
    "pretrain with memory": remembering,
    "tico": lambda: other(objectives.TiCo, momentum_views=True),
    "linear_eval": lambda: classification(linear=True),
    "finetune": classification,
    "distill": distillation,
    "distill with labels": lambda: distillation(0.5),
    "pseudo_label": lambda: with_unlabelled("pseudo_label"),
    "mean_teacher": lambda: with_unlabelled("mean_teacher"),
    "fixmatch": lambda: with_unlabelled("fixmatch"),
}


@pytest.mark.parametrize("make", STAGES.values(), ids=STAGES)
def test_a_step_compiles_whole_and_is_the_same(make):
    """And has nothing of the host in it, nor what XLA cannot know the shape of."""
    logs, moved = [], []
    for compiled in (False, True):
        stage, data = make()
        optimizer = optimizers.LARS(0.1, weight_decay=1e-4)
        stage.compile(optimizer, jit_compile=False)
        optimizer.build(stage.trainable_variables)

        # An operation that XLA cannot compile, one on the host among them, is an error here.
        @tf.function(autograph=False, jit_compile=compiled)
        def step(data, stage=stage):
            return stage.train_step(data)

        graph = step.get_concrete_function(data).graph
        host = {"PyFunc", "EagerPyFunc", "PyFuncStateless", "Where", "DynamicPartition", "Unique"}
        assert not host & {operation.type for operation in graph.get_operations()}
        before = [v.numpy() for v in stage.trainable_variables]
        logs.append({name: float(value) for name, value in step(data).items()})
        after = [v.numpy() for v in stage.trainable_variables]
        moved.append([a - b for a, b in zip(after, before, strict=True)])
    assert logs[0].keys() == logs[1].keys()
    for name, value in logs[0].items():
        np.testing.assert_allclose(logs[1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    total = np.sqrt(sum(np.sum(x**2) for x in moved[0]))
    error = np.sqrt(sum(np.sum((x - y) ** 2) for x, y in zip(*moved, strict=True)))
    assert error < 1e-3 * total
