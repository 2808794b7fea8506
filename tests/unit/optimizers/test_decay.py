"""Which of a whole network's variables each optimizer decays."""

import keras
import numpy as np
import tensorflow as tf

from helpers.variables import variable
from simclrv2_tf import heads, optimizers, resnet
from simclrv2_tf.optimizers import LARS


def small_network(se_ratio=0.25):
    encoder = resnet.resnet(
        50, 1 / 16, sk_ratio=0.0625, se_ratio=se_ratio, image_size=32, blocks=(2, 1, 1, 1)
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
    # Five blocks with squeeze-excitation: two biases each, and the classifier's.
    assert sizes["bias"] == 5 * 2 + 1 and sizes["supervised_kernel"] == 1
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
        options = optimizers.OptimizerOptions(optimizer=name)
        in_loss = optimizers.l2_variables(optimizers.make_optimizer(options, 0.1), variables)
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
