"""SimCLRv2's memory: a momentum network, and the queue of its outputs.

The paper (arXiv 2006.10029, section 2.1): "we also incorporate the memory mechanism from MoCo,
which designates a memory network (with a moving average of weights for stabilization) whose output
will be buffered as negative examples". It was never released. This package implements it so:

* The momentum network starts equal to the network and follows it after every step,
  `ema = decay * ema + (1 - decay) * weight`, for the trainable weights of encoder and head. It sees
  the same two views in training mode; its batch norm has moving statistics of its own.
* Positives stay SimCLR's, the network's own embeddings of the other view. The momentum network's
  outputs are negatives only, beside the current batch's.
* Both views' outputs of the global batch enter the queue after the loss, view 1 before view 2. An
  image is no negative of its own in its step; one that returns while its older outputs are queued
  has them as negatives, as in MoCo.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from etils import epy

from simclrv2_tf.moving_average import MovingAverage
from simclrv2_tf.options import Group, check_sizes, of, option

with epy.lazy_imports():
    import keras
    import tensorflow as tf

    from simclrv2_tf import distribute


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryOptions(Group, title="Memory"):
    """The momentum network of pretraining and its queue."""

    memory_size: int = option(
        0,
        "nt_xent and decoupled: past embeddings of a momentum network that are kept as more "
        "negatives, two of each image; 65536 in the paper. 0: no memory.",
        minimum=0,
    )
    ema_decay: float = option(
        0.999,
        "Weight of the past in the momentum network's weights, by step, and in those that "
        "pseudo_label, mean_teacher and fixmatch evaluate.",
        minimum=0,
        below=1,
    )
    ema_schedule: str = option(
        "constant",
        "constant: `ema_decay` all along. cosine: from `ema_decay` to 1 along half a cosine, as in "
        "BYOL.",
        choices=("constant", "cosine"),
    )
    eval_ema: bool = option(
        False, "Evaluate and export the momentum network of a pretraining that has one."
    )


def cosine_decay_to_1(decay: float, total_steps: int) -> Callable:
    """BYOL's weight of the past (arXiv 2006.07733, section 3.3): `decay` at first, 1 at the end.

    Returns a function of the step k, from 0: 1 - (1 - decay) (cos(pi k / K) + 1) / 2 for K steps.
    """

    def weight(step):
        done = tf.minimum(tf.cast(step, tf.float32) / max(total_steps, 1), 1.0)
        return 1.0 - (1.0 - decay) * (tf.cos(math.pi * done) + 1.0) / 2.0

    return weight


class Queue:
    """The newest embeddings of the global batches, equal on every replica: negatives for `nt_xent`.

    The variables belong in a checkpoint: `keys` (size, width) float32, of which row `position` is
    written next, and `filled`, the number of written rows. Make it under the strategy it is used
    with.

    Args:
        size: Rows, at least 1. Batches need not divide it.
        width: d, of the embeddings, at least 1.

    Raises:
        ValueError: `size` or `width` below 1.
    """

    def __init__(self, size: int, width: int):
        check_sizes(size=size, width=width)
        self.size = size
        self.keys = distribute.equal_on_replicas(tf.zeros((size, width)), "queue_keys")
        self.position = distribute.equal_on_replicas(tf.constant(0), "queue_position")
        self.filled = distribute.equal_on_replicas(tf.constant(0), "queue_filled")

    @property
    def variables(self) -> dict[str, keras.Variable]:
        return {"keys": self.keys, "position": self.position, "filled": self.filled}

    def valid(self) -> tf.Tensor:
        """Which rows of `keys` were written: (size,) bool."""
        return tf.range(self.size) < self.filled.value

    def push(self, keys) -> None:
        """Writes `keys` (n, width) in order over the oldest rows; at most the last `size`."""
        keys = tf.cast(tf.stop_gradient(keys), tf.float32)[-self.size :]
        count = tf.shape(keys)[0]
        rows = (self.position.value + tf.range(count)) % self.size
        self.keys.assign(tf.tensor_scatter_nd_update(self.keys.value, rows[:, None], keys))
        self.position.assign((self.position.value + count) % self.size)
        self.filled.assign(tf.minimum(self.filled.value + count, self.size))


class MomentumNetwork(MovingAverage):
    """Encoder and head whose weights are a moving average of another's, as the module describes.

    Args:
        network: Encoder and head to follow.
        average: Encoder and head of the same architecture, to be changed.
        decay: As for `MovingAverage`.

    Raises:
        ValueError: `decay` out of range, or the networks differ.
    """

    def __init__(self, network, average, decay: float | Callable = 0.999):
        if not callable(decay):
            of(MemoryOptions)["ema_decay"].check(decay, "decay")
        super().__init__(network, average, decay)
        self.encoder, self.head = average

    def __call__(self, images, training: bool = True) -> tf.Tensor:
        """Images (n, S, S, channels) to embeddings (n, d), without gradient."""
        hiddens = self.head(self.encoder(images, training=training), training=training)
        return tf.stop_gradient(hiddens[-1])
