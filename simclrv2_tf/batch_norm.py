"""Batch normalization on the fused kernel, with statistics over all replicas.

Keras 3's layer is never fused, and its synchronised form loses precision at large means.
"""

import contextlib
import math
import threading

import keras
from etils import epy
from keras import ops

from simclrv2_tf import distribute, processors

with epy.lazy_imports():
    import tensorflow as tf

_FUSED_DTYPES = ("float32", "bfloat16", "float16")
_ROW = 128  # numbers in a row, if channels are fewer


@keras.saving.register_keras_serializable("simclrv2_tf")
class BatchNorm(keras.layers.Layer):
    """Normalizes the last axis: `(x - mean) / sqrt(variance + epsilon) * gamma + beta`.

    Input and output: (batch, channels) or (batch, height, width, channels). Statistics, parameters
    and their arithmetic are float32 whatever the compute dtype. The moving variance averages the
    biased batch variance (divided by N), as the reference's does. A frozen layer
    (`trainable = False`) normalizes with its moving statistics, in training too.

    Args:
        center: Whether to add `beta`.
        scale: Whether to multiply by `gamma`.
        momentum: Weight of the past in the moving statistics, in [0, 1).
        epsilon: Added to the variance.
        gamma_initializer: `"zeros"` makes a residual branch start at zero.
        global_statistics: Whether to compute the statistics over the batches of all replicas
            (SimCLR, arXiv 2002.05709, section 2.1, "Global BN") or only over this replica's batch.
            All replicas must have the same number of examples.
    """

    def __init__(
        self,
        center: bool = True,
        scale: bool = True,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        gamma_initializer="ones",
        global_statistics: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.center, self.scale = center, scale
        self.momentum, self.epsilon = momentum, epsilon
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.global_statistics = global_statistics
        self.supports_masking = True

    def build(self, input_shape):
        if len(input_shape) not in (2, 4):
            raise ValueError(
                "`BatchNorm` takes (batch, channels) or (batch, height, width, channels). "
                f"Received: input_shape={input_shape}"
            )
        channels = (input_shape[-1],)
        parameter = dict(shape=channels, dtype="float32", autocast=False)
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(
                name="gamma", initializer=self.gamma_initializer, **parameter
            )
        if self.center:
            self.beta = self.add_weight(name="beta", initializer="zeros", **parameter)
        # Global statistics are equal on all replicas. Local statistics differ: they are averaged
        # when written, so that evaluation and checkpoints see one value.
        synchronization = "on_read" if self.global_statistics else "auto"
        self.moving_mean, self.moving_variance = (
            keras.Variable(
                name=name,
                initializer=keras.initializers.get(initializer),
                trainable=False,
                aggregation="mean",
                synchronization=synchronization,
                **parameter,
            )
            for name, initializer in (("moving_mean", "zeros"), ("moving_variance", "ones"))
        )

    def call(self, inputs, training=None):
        # The kernel's inference mode has no gradient for the statistics, so it serves only the
        # moving ones.
        fused, slow = _has_fused_kernel(inputs), _has_slow_kernel(inputs)
        if not (training and self.trainable):
            apply = self._fused if fused and not slow else self._normalize
            return apply(inputs, self.moving_mean, self.moving_variance)[0]
        across_replicas = self.global_statistics and distribute.replica_count() > 1
        if fused and not across_replicas:
            outputs, mean, variance = (self._by_products if slow else self._fused)(inputs)
        else:
            outputs, mean, variance = self._normalize(inputs, *_moments(inputs, across_replicas))
        if _held_back.statistics is None:
            self.update_moving(mean, variance)
        else:
            _held_back.statistics.append((self, mean, variance))
        return outputs

    def update_moving(self, mean, variance) -> None:
        """Updates the moving statistics with the statistics of a batch, (channels,) each."""
        # One pair of constants, and the backend's own operators: a step has dozens of such layers,
        # and tracing Keras's takes several times as long.
        past, new = (ops.cast(weight, "float32") for weight in (self.momentum, 1 - self.momentum))
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving.value * past + batch * new)

    def _normalize(self, inputs, mean, variance):
        scale = ops.rsqrt(variance + self.epsilon)
        if self.scale:
            scale = self.gamma * scale
        outputs = (ops.cast(inputs, "float32") - mean) * scale
        if self.center:
            outputs = outputs + self.beta
        return ops.cast(outputs, inputs.dtype), mean, variance

    def _fused(self, inputs, mean=None, variance=None):
        """Runs TensorFlow's kernel, with the batch's statistics unless others are given.

        Returns the outputs, and the mean and biased variance used, (channels,).
        """
        training = mean is None
        x = _as_maps(inputs)
        gamma, unused = self._gamma(), tf.zeros([0], tf.float32)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=gamma,
            offset=tf.convert_to_tensor(self.beta) if self.center else tf.zeros_like(gamma),
            mean=unused if training else tf.convert_to_tensor(mean),
            variance=unused if training else tf.convert_to_tensor(variance),
            epsilon=self.epsilon,
            is_training=training,
        )
        if training:
            # The kernel returns the variance with Bessel's N / (N - 1), meant for moving averages.
            count = x.shape[:-1].num_elements()
            if count is None:
                count = tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), tf.float32)
            variance = variance * ((count - 1.0) / count)
        return (outputs if len(inputs.shape) == 4 else outputs[:, 0, 0, :]), mean, variance

    def _by_products(self, inputs):
        """Same as `_fused` with the batch's statistics, but in plain operations; the gradient is
        fused.

        Sums over a batch are products with ones, of rows that hold several positions, so that
        operations with (channels,) have no short inner loops.
        """
        channels = inputs.shape[-1]
        positions = inputs.shape[:-1].num_elements()
        together = math.gcd(positions, max(_ROW // channels, 1)) if positions else 1

        @tf.custom_gradient
        def normalized(inputs, gamma, beta):
            rows = tf.reshape(inputs, (-1, together * channels))
            count = tf.cast(tf.shape(rows)[0] * together, tf.float32)

            def mean_of(rows):
                sums = tf.matmul(tf.ones((1, tf.shape(rows)[0])), rows)
                return tf.reduce_sum(tf.reshape(sums, (together, channels)), axis=0) / count

            def along(vector):
                return tf.tile(vector, (together,))

            mean = mean_of(rows)
            rows = rows - along(mean)
            variance = mean_of(tf.square(rows))
            outputs = rows * along(gamma * tf.math.rsqrt(variance + self.epsilon))
            if self.center:
                outputs = outputs + along(beta)

            def gradients(upstream, *_):
                to_inputs, to_gamma, to_beta, *_ = tf.raw_ops.FusedBatchNormGradV3(
                    y_backprop=_as_maps(upstream),
                    x=_as_maps(inputs),
                    scale=gamma,
                    reserve_space_1=mean,
                    reserve_space_2=variance,
                    reserve_space_3=tf.zeros([0]),
                    epsilon=self.epsilon,
                )
                return tf.reshape(to_inputs, tf.shape(inputs)), to_gamma, to_beta

            outputs = tf.ensure_shape(tf.reshape(outputs, tf.shape(inputs)), inputs.shape)
            return (outputs, mean, variance), gradients

        gamma = self._gamma()
        beta = tf.convert_to_tensor(self.beta) if self.center else tf.zeros_like(gamma)
        return normalized(inputs, gamma, beta)

    def compute_output_shape(self, input_shape):
        return input_shape

    def _gamma(self):
        return tf.convert_to_tensor(self.gamma) if self.scale else tf.ones_like(self.moving_mean)

    def get_config(self):
        return {
            **super().get_config(),
            "center": self.center,
            "scale": self.scale,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "gamma_initializer": keras.initializers.serialize(self.gamma_initializer),
            "global_statistics": self.global_statistics,
        }


class _HeldBack(threading.local):  # mirrored replicas are traced in separate threads
    statistics = None


_held_back = _HeldBack()


@contextlib.contextmanager
def statistics_held_back():
    """Collects `(layer, mean, variance)` of each call in order, instead of moving averages."""
    earlier, _held_back.statistics = _held_back.statistics, []
    try:
        yield _held_back.statistics
    finally:
        _held_back.statistics = earlier


def _as_maps(inputs):
    """(B, H, W, C), which the fused kernel takes, of inputs (B, H, W, C) or (B, C)."""
    return inputs if len(inputs.shape) == 4 else inputs[:, None, None, :]


def _moments(inputs, across_replicas=False):
    axes = tuple(range(len(inputs.shape) - 1))
    mean, variance = ops.moments(ops.cast(inputs, "float32"), axes=axes)  # (channels,) each
    if not across_replicas:
        return mean, variance
    global_mean = distribute.all_reduce_mean(mean)
    # Not E[x^2] - E[x]^2, which cancels catastrophically at large means.
    spread = variance + ops.square(mean - global_mean)
    return global_mean, distribute.all_reduce_mean(spread)


def _has_fused_kernel(inputs) -> bool:
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    return keras.backend.backend() == "tensorflow" and dtype in _FUSED_DTYPES


def _has_slow_kernel(inputs) -> bool:
    """Whether the fused kernel is slow here: for AVX2 in float32, oneDNN only has a plain loop.

    On two cores it takes 26 ms for (512, 16, 16, 32), and plain operations 6 ms.
    """
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    return processors.faster() and dtype == "float32" and not processors.has_avx512()
