"""How much of the host's memory a pipeline takes, in bytes."""

import time

import pytest
import tensorflow as tf

from simclrv2_tf import datasets
from simclrv2_tf.datasets import pipelines


@pytest.mark.parametrize("cores", [1, 2, 16, 256])
@pytest.mark.parametrize("batch, size", [(1, 8), (256, 28), (1024, 64), (4096, 224), (65536, 224)])
def test_what_is_held_takes_two_gibibytes(monkeypatch, cores, batch, size):
    """Or, where seven batches are more than that, one made and one finished."""
    monkeypatch.setattr(pipelines, "CORES", cores)
    views = 2 * batch * size * size * 3 * 4
    at_once, prefetched = pipelines.buffers(views)
    assert 1 <= at_once <= min(cores, 16) and 1 <= prefetched <= 4
    held = (3 * at_once + prefetched + 3) * views
    assert held <= 2**31 or (at_once, prefetched) == (1, 1)
    if views < 2**20:
        assert (at_once, prefetched) == (min(cores, 16), 4)


def test_a_pause_does_not_fill_the_memory(monkeypatch):
    """A consumer that waits meets as many finished batches as were promised, and no more."""
    drawn = []
    split = datasets.open_dataset("fashion_mnist_small").split("train[:64]")
    load = split.load

    def counted(record, replace_unreadable):
        number = tf.py_function(lambda: drawn.append(1) or len(drawn), [], tf.int32)
        with tf.control_dependencies([number]):
            return load(record, replace_unreadable)

    monkeypatch.setattr(split, "load", counted)
    batch = 8
    batches = datasets.pretraining_batches(split, batch_size=batch, image_size=16, seed=0)
    at_once, prefetched = pipelines.buffers(2 * batch * 16 * 16 * 3 * 4)
    iterator = iter(batches)
    ahead = []
    for taken in range(1, 12):
        next(iterator)
        before = -1
        while before < (before := len(drawn)):  # until the pipeline has filled its buffers
            time.sleep(0.2)
        ahead.append(len(drawn) / batch - taken)
    # Finished batches, those in progress, and crops of the next.
    crops = pipelines.CORES / batch
    assert max(ahead) <= prefetched + at_once + crops
