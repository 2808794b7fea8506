"""The order of answers that several hosts give, with replicas of their own."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from simclrv2_tf import datasets
from simclrv2_tf.datasets.splits import IndexedSplit
from simclrv2_tf.experiments.answers import Answers


class Contiguous(IndexedSplit):
    """Shards of neighbours, as TensorFlow Datasets has."""

    def shard_positions(self, shard):
        index, count = shard
        return range(self.num_examples * index // count, self.num_examples * (index + 1) // count)

    def ordered_records(self, shard):
        positions = self.shard_positions(shard)
        return tf.data.Dataset.range(positions.start, positions.stop)


def split_of(count, kind=IndexedSplit):
    columns = {
        "id": tf.constant([f"image {index}" for index in range(count)]),
        "label": tf.range(count, dtype=tf.int64),
        "image": tf.zeros((count, 4, 4, 3), tf.uint8),
    }
    return kind("train", columns, lambda image: image)


@pytest.mark.parametrize("kind", [IndexedSplit, Contiguous])
@pytest.mark.parametrize("hosts, replicas", [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2)])
def test_answers_are_in_the_order_of_the_split(hosts, replicas, kind):
    """Of 11 images in global batches of 6 or 12, as the hosts' own pipelines read them."""
    split, size = split_of(11, kind), 12 // hosts if replicas * hosts == 4 else 6 // hosts
    answers = Answers()
    answers.expect(SimpleNamespace(num_input_pipelines=hosts))
    pipelines = [
        datasets.evaluation_batches(split, batch_size=size, image_size=4, shard=(host, hosts))
        for host in range(hosts)
    ]
    for parts in zip(*(pipeline.as_numpy_iterator() for pipeline in pipelines), strict=True):
        # Replicas take their parts of a host's batch in order, and all are gathered.
        labels = np.concatenate([label for _, label, _ in parts])
        counts = np.concatenate([weight > 0 for _, _, weight in parts])
        unknown = labels == 4  # an image that cannot be read
        answers.add(
            {
                "label": labels,
                "predicted": (labels + 1) % 11,
                "confidence": labels / 11,
                "counts": counts & ~unknown,
            }
        )
    found = answers.of(split, ())
    kept = [index for index in range(11) if index != 4]
    assert found.ids.tolist() == [f"image {index}" for index in kept]
    assert found.labels.tolist() == kept
    assert found.predicted.tolist() == [(index + 1) % 11 for index in kept]
    np.testing.assert_allclose(found.confidence, np.array(kept) / 11)
    assert answers.right.tolist() == [False] * 10
    assert not found.right.any() and found.class_names == tuple(map(str, range(11)))
