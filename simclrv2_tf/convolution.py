"""Convolution that computes its weight gradient by matrix products if that is faster.

oneDNN's kernel for the weight gradient is slow on small feature maps with many channels, especially
on processors with AMX. `benchmarks/speed/weight_gradient.py` compares the two, layer by layer.
"""

import keras
from etils import epy

from simclrv2_tf import processors

with epy.lazy_imports():
    import tensorflow as tf

# Maps of more output pixels than this, or than a share of their channels, are left to TensorFlow:
# each product needs a copy of the map. Both limits come from `benchmarks/speed/weight_gradient.py`.
_MOST_PIXELS = 144
_PIXELS_A_CHANNEL = {"float32": 0.25, "bfloat16": 1.0}


@keras.saving.register_keras_serializable("simclrv2_tf")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`, with a faster gradient in `processors.faster_operations`.

    Takes all arguments of Keras's layer, and maps (B, H, W, C) to (B, h, w, F). Inside that context
    the outputs are the same, and the weight gradient is the same sum in a different order. Layers
    with groups, dilation, a kernel that is not square or channels first keep Keras's gradient.
    """

    def convolution_op(self, inputs, kernel):
        """Convolves (B, H, W, C) with (k, k, C, F) to (B, h, w, F)."""
        if not self.takes_products(inputs):
            return super().convolution_op(inputs, kernel)
        # Keras casts its variable to the compute type; a custom gradient takes no variables.
        kernel = tf.convert_to_tensor(keras.ops.convert_to_tensor(kernel))
        if self.padding == "same" and tuple(inputs.shape[1:3]) == (1, 1):
            middle = self.kernel_size[0] // 2  # the other taps only meet padding
            kernel = kernel[middle : middle + 1, middle : middle + 1]
        return _convolution(inputs, kernel, self.strides[0], self.padding.upper())

    def takes_products(self, inputs) -> bool:
        """Whether to compute the weight gradient by `weight_gradient` for inputs of this size."""
        if not processors.faster():
            return False
        (size, other_size), (stride, other_stride) = self.kernel_size, self.strides
        plain = self.groups == 1 and {*self.dilation_rate} == {1}
        square = size == other_size and stride == other_stride
        padded = self.padding == "same" and size % 2 == 1 and stride == 1
        covered = padded or (self.padding == "valid" and stride <= 2)
        if not (plain and square and covered and self.data_format == "channels_last"):
            return False
        _, height, width, _ = self.compute_output_shape(inputs.shape)
        if height is None or width is None:
            return False
        most = inputs.shape[3] * _PIXELS_A_CHANNEL.get(self.compute_dtype, 0)
        return size == 1 or height * width <= min(most, _MOST_PIXELS)


def _convolution(inputs, kernel, stride: int, padding: str):
    strides = [1, stride, stride, 1]

    @tf.custom_gradient
    def convolution(inputs, kernel):
        def gradients(upstream):
            to_inputs = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(inputs),
                filter=kernel,
                out_backprop=upstream,
                strides=strides,
                padding=padding,
            )
            return to_inputs, weight_gradient(inputs, upstream, kernel.shape[0], stride, padding)

        return tf.nn.conv2d(inputs, kernel, strides, padding), gradients

    return convolution(inputs, kernel)


def weight_gradient(inputs, upstream, size: int, stride: int, padding: str):
    """Computes the gradient of a convolution's kernel, by a matrix product for each of its taps.

    For a tap (i, j), a position in the kernel, with stride s and the inputs padded:

    ```
    gradient[i, j] = sum over b, y, x of inputs[b, s * y + i, s * x + j]^T upstream[b, y, x]
    ```

    Args:
        inputs: (B, H, W, C); H, W and C must be static.
        upstream: (B, h, w, F), the gradient with respect to the outputs; h, w and F must be static.
        size: k, height and width of the kernel; odd if `padding` is "SAME".
        stride: 1, or 2 with "VALID".
        padding: "SAME" or "VALID".

    Returns:
        (k, k, C, F), in the type of `inputs`.
    """
    height, width, filters = upstream.shape[1:]
    channels = inputs.shape[3]
    if padding == "SAME" and size > 1:
        around = [size // 2, size // 2]
        inputs = tf.pad(inputs, [[0, 0], around, around, [0, 0]])
    if stride == 2:
        # A slice with a step is slow; rows and columns in pairs need none.
        odd = [[0, length % 2] for length in inputs.shape[1:3]]
        inputs = tf.pad(inputs, [[0, 0], *odd, [0, 0]]) if odd != [[0, 0], [0, 0]] else inputs
        pairs = (-1, inputs.shape[1] // 2, 2, inputs.shape[2] // 2, 2 * channels)
        inputs = tf.reshape(inputs, pairs)
    rows = tf.reshape(upstream, (-1, filters))
    # Shared constants and no slices by brackets: tracing took twice as long with them.
    single, of_pairs = [-1, height, width, channels], [-1, height, 1, width, channels]
    taken = tf.constant(single if stride == 1 else of_pairs)
    flat = tf.constant([-1, channels])

    def tap(i, j):
        """Multiplies the inputs of the tap (i, j) by the gradients of all outputs: (C, F)."""
        down, right = i // stride, j // stride
        paired = [0, down, i % 2, right, (j % 2) * channels]
        met = tf.slice(inputs, [0, down, right, 0] if stride == 1 else paired, taken)
        return tf.matmul(tf.reshape(met, flat), rows, transpose_a=True)

    taps = [tap(i, j) for i in range(size) for j in range(size)]
    return tf.reshape(tf.stack(taps), (size, size, channels, filters))
