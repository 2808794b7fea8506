"""Adam on TensorFlow's kernel against Keras's own, and its equations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.processes import python
from helpers.variables import variable
from simclrv2_tf.optimizers import Adam, WarmupCosine


def trained(optimizer, compiled, steps=5):
    rng = np.random.default_rng(0)
    variables = [
        variable("conv/kernel", rng.normal(size=(3, 2)).astype("float32"), "float32"),
        variable("conv/bias", np.zeros(2, "float32"), "float32"),
    ]
    optimizer.build(variables)
    apply = lambda *grads: optimizer.apply(grads)  # noqa: E731
    apply = tf.function(apply) if compiled else apply
    values = []
    for _ in range(steps):
        apply(*[tf.constant(rng.normal(size=v.shape).astype("float32")) for v in variables])
        values += [v.numpy() for v in (*variables, *optimizer.variables)]
    return values


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize(
    "options",
    [{}, {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}, {"amsgrad": True}, {"clipnorm": 0.1}],
    ids=["defaults", "other constants", "amsgrad", "clipped"],
)
def test_updates_and_slots_are_keras_adams(options, compiled):
    ours = trained(Adam(WarmupCosine(0.1, 2, 5), **options), compiled)
    kerass = trained(keras.optimizers.Adam(WarmupCosine(0.1, 2, 5), **options), compiled)
    # The kernel takes 1 - 0.999 in float32, Keras in float64: 5e-5 of each other.
    for mine, theirs in zip(ours, kerass, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_its_variables_have_the_names_of_keras_adams():
    ours, kerass = Adam(0.1), keras.optimizers.Adam(0.1)
    for optimizer in (ours, kerass):
        optimizer.build([variable("conv/kernel", np.zeros((3, 2), "float32"), "float32")])
    assert [v.name for v in ours.variables] == [v.name for v in kerass.variables]


REPLICAS = """
import keras, numpy as np, tensorflow as tf
from simclrv2_tf import distribute
from simclrv2_tf.optimizers import Adam

strategy = distribute.make_strategy("mirrored", 2)
with strategy.scope():
    weight = keras.Variable(np.ones((3, 2), "float32"), name="kernel")
    adam = Adam(0.1)
    adam.build([weight])

@tf.function
def step(gradient):
    def update():
        replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
        adam.apply([gradient * (replica + 1)])  # one third and two thirds of the sum
    strategy.run(update)

for number in range(3):
    step(tf.constant(np.arange(6, dtype="float32").reshape(3, 2) - number))
print(strategy.num_replicas_in_sync, *weight.numpy().ravel())
"""


def test_two_replicas_update_by_the_sum_of_their_gradients():
    count, *found = python("-c", REPLICAS).split()
    alone = variable("kernel", np.ones((3, 2), "float32"), "float32")
    adam = keras.optimizers.Adam(0.1)
    adam.build([alone])
    for number in range(3):
        adam.apply([tf.constant(3 * (np.arange(6, dtype="float32").reshape(3, 2) - number))])
    assert count == "2"
    np.testing.assert_allclose(np.array(found, "float32"), alone.numpy().ravel(), rtol=1e-4)


def test_config_makes_the_same_optimizer():
    adam = Adam(0.01, beta_1=0.8)
    made = keras.optimizers.deserialize(keras.optimizers.serialize(adam))
    assert type(made) is Adam and made.get_config() == adam.get_config()


def test_what_the_updates_share_is_computed_once():
    variables = [variable(f"conv{k}/kernel", np.ones(2, "float32"), "float32") for k in range(5)]
    adam = Adam(0.1)
    adam.build(variables)
    step = tf.function(lambda gradient: adam.apply([gradient] * 5), autograph=False)
    operations = step.get_concrete_function(tf.ones(2)).graph.get_operations()
    kinds = [operation.type for operation in operations]
    assert kinds.count("ResourceApplyAdam") == 5 and kinds.count("Pow") == 2
