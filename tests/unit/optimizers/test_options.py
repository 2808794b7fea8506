"""The optimizer and the schedule that options choose."""

import keras
import numpy as np
import pytest

from simclrv2_tf import optimizers
from simclrv2_tf.optimizers import LARS, OptimizerOptions


@pytest.mark.parametrize("rate", [1, np.float32(1), np.int64(1), np.array(1.0), 1.0])
@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_learning_rate_may_be_any_number(name, rate):
    options = OptimizerOptions(optimizer=name)
    assert float(optimizers.make_optimizer(options, rate).learning_rate) == 1.0


def test_make_optimizer():
    def make(name):
        options = OptimizerOptions(optimizer=name, momentum=0.8, weight_decay=1e-4)
        return optimizers.make_optimizer(options, 0.1)

    lars, sgd, adam = make("lars"), make("momentum"), make("adam")
    assert (type(lars), lars.momentum, lars.coupled_weight_decay) == (LARS, 0.8, 1e-4)
    assert lars.weight_decay is None
    assert (type(sgd), sgd.momentum, sgd.nesterov) == (keras.optimizers.SGD, 0.8, True)
    assert type(adam) is optimizers.Adam
    assert sgd.weight_decay is None and adam.weight_decay is None
    with pytest.raises(ValueError, match="`optimizer` .* Received: optimizer='sgd'"):
        OptimizerOptions(optimizer="sgd")


def test_make_schedule():
    options = OptimizerOptions(train_batch_size=4096, train_epochs=100, warmup_epochs=10)
    schedule, steps = optimizers.make_schedule(options, 1_281_167)
    assert (schedule.peak, schedule.warmup_steps) == (pytest.approx(4.8), 3_127)
    assert schedule.total_steps == steps == 31_279
    options = OptimizerOptions(
        train_steps=7, learning_rate=0.1, learning_rate_scaling="sqrt", warmup_epochs=0.5
    )
    schedule, steps = optimizers.make_schedule(options, 1_000, batch_size=256)
    assert (schedule.peak, schedule.warmup_steps, steps) == (pytest.approx(1.6), 1, 7)
