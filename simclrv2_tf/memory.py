"""SimCLRv2's memory: a momentum network, and the queue of its outputs.

The paper (arXiv 2006.10029, section 2.1): "we also incorporate the memory mechanism from MoCo,
which designates a memory network (with a moving average of weights for stabilization) whose output
will be buffered as negative examples". It was never released. This package implements it as
follows:

* The momentum network starts equal to the network and follows it after every step,
  `ema = decay * ema + (1 - decay) * weight`, for the trainable weights of encoder and head. It
  receives the same two views in training mode; its batch norm has its own moving statistics.
* Positives stay SimCLR's, the network's own embeddings of the other view. The momentum network's
  outputs are only negatives, in addition to the current batch's.
* Both views' outputs of the global batch enter the queue after the loss, view 1 before view 2. An
  image is not its own negative in its step; if it returns while its older outputs are queued, these
  are among its negatives, as in MoCo.
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
        "nt_xent and decoupled: number of past embeddings of a momentum network to keep as further "
        "negatives, two per image; 65536 in the paper. 0: no memory.",
        minimum=0,
    )
    ema_decay: float = option(
        0.999,
        "Decay per step of the momentum network's weights, and of the moving averages that "
        "pseudo_label, mean_teacher and fixmatch evaluate.",
        minimum=0,
        below=1,
    )
    ema_schedule: str = option(
        "constant",
        "constant: always `ema_decay`. cosine: from `ema_decay` to 1 along half a cosine, as in "
        "BYOL.",
        choices=("constant", "cosine"),
    )
    eval_ema: bool = option(
        False, "Evaluate and export the momentum network of pretraining, if there is one."
    )


def cosine_decay_to_1(decay: float, total_steps: int) -> Callable:
    """Returns BYOL's decay schedule (arXiv 2006.07733, section 3.3), from `decay` to 1.

    The result is a function of the step k, from 0: 1 - (1 - decay) (cos(pi k / K) + 1) / 2 for K
    steps.
    """

    def weight(step):
        done = tf.minimum(tf.cast(step, tf.float32) / max(total_steps, 1), 1.0)
        return 1.0 - (1.0 - decay) * (tf.cos(math.pi * done) + 1.0) / 2.0

    return weight


class Queue:
    """A queue of the newest embeddings of global batches, equal on every replica.

    The embeddings are negatives for `nt_xent`. The variables belong in a checkpoint: `keys` (size,
    width) float32, with `position`, the row to write next, and `filled`, the number of written
    rows. Create the queue under the strategy that uses it.

    Args:
        size: Number of rows, at least 1. Batches need not divide it.
        width: d, the width of the embeddings, at least 1.

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
        """The written rows of `keys`: (size,) bool."""
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
    """Encoder and head whose weights are a moving average of another network's, see the module.

    Args:
        network: Encoder and head to follow.
        average: Encoder and head of the same architecture, which are modified.
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
        """Maps images (n, S, S, channels) to embeddings (n, d), without gradient."""
        hiddens = self.head(self.encoder(images, training=training), training=training)
        return tf.stop_gradient(hiddens[-1])
