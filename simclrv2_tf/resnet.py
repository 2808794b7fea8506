"""The ResNets of SimCLRv2 (arXiv 2006.10029, section 2.1 and appendix), post-activation.

The networks have the layout of the released code: explicit padding before strided convolutions, a
projection shortcut at the start of every stage, ResNet-D stem and shortcuts with selective kernels.
"""

import re

import keras
from keras import layers, ops

from simclrv2_tf.batch_norm import BatchNorm
from simclrv2_tf.channels import RGB
from simclrv2_tf.convolution import Conv2D
from simclrv2_tf.network_options import BLOCKS, NetworkOptions, stem_of
from simclrv2_tf.options import check_numbers, check_sizes, of

DEPTHS = tuple(BLOCKS)
MIN_MIXING_DIM = 32  # floor of the selective kernel's hidden width
ENDPOINTS = ("stem", *(f"block_group{group}" for group in range(1, 5)), "representation")


def resnet(
    depth: int = 50,
    width_multiplier: float = 1.0,
    sk_ratio: float = 0.0,
    se_ratio: float = 0.0,
    image_size: int = 224,
    global_batch_norm: bool = True,
    batch_norm_decay: float = 0.9,
    stem: str = "auto",
    blocks: tuple[int, ...] | None = None,
    channels: int = RGB,
) -> keras.Model:
    """Builds an encoder: images (B, H, W, C), float in [0, 1], to representations (B, f) float32.

    The layers named in `ENDPOINTS` output the stem, the four stages and the global average;
    `features` returns them all. f is 512 (depths 10 to 34) or 2048 times the width.

    Args:
        depth: 10 (not in the paper), 18, 34 (basic blocks), 50, 101, 152 or 200 (bottlenecks).
        width_multiplier: Factor on all numbers of filters, which are rounded down; at least 1/32, 1
            to 3 in the paper.
        sk_ratio: Hidden width ratio of the bottlenecks' selective kernels (arXiv 1903.06586; 0.0625
            in the paper), with ResNet-D stem and shortcuts. 0 for none.
        se_ratio: Squeeze-excitation (arXiv 1709.01507) with this ratio. 0 for none.
        image_size: Side of the training images in pixels, for the stem "auto". The model takes
            images of any size.
        global_batch_norm: Whether to compute batch statistics over all replicas.
        batch_norm_decay: Weight of the past in the moving statistics.
        stem: "imagenet" (stride 2 and a max pool of stride 2), "cifar" (3x3, stride 1, no pool),
            "stride2" (3x3, stride 2, no pool), or "auto": cifar up to 32 pixels.
        blocks: Residual blocks of 1 to 4 stages, instead of the blocks of `depth`, for tests.
        channels: C, at least 1.

    Raises:
        ValueError: a value is out of its range.
    """
    of(NetworkOptions)["resnet_depth"].check(depth, "depth")
    ratios = dict(width_multiplier=width_multiplier, sk_ratio=sk_ratio, se_ratio=se_ratio)
    check_numbers(NetworkOptions, **ratios, stem=stem)
    check_sizes(channels=channels)
    if blocks is not None and not (1 <= len(blocks) <= 4 and min(blocks) >= 1):
        raise ValueError(
            f"`blocks` must be 1 to 4 numbers of at least 1. Received: blocks={blocks}"
        )
    stem = stem_of(stem, image_size)
    build = _Builder(sk_ratio, se_ratio, global_batch_norm, batch_norm_decay)

    images = keras.Input((None, None, channels), name="images")
    x = build.stem(images, int(64 * width_multiplier), stem)
    for group, num_blocks in enumerate(blocks or BLOCKS[depth], start=1):
        for block in range(num_blocks):
            x = build.residual_block(
                x,
                filters=int(64 * 2 ** (group - 1) * width_multiplier),
                strides=2 if group > 1 and block == 0 else 1,
                bottleneck=depth >= 50,
                project=block == 0,
                prefix=f"block_group{group}_block{block}",
                output_name=f"block_group{group}" if block == num_blocks - 1 else None,
            )
    x = layers.GlobalAveragePooling2D(name="representation", dtype="float32")(x)
    return keras.Model(images, x, name="encoder")


def endpoints(encoder: keras.Model) -> tuple[str, ...]:
    """Returns the names of `ENDPOINTS` that `encoder` has: all of them with four stages."""
    names = {layer.name for layer in encoder.layers}
    return tuple(name for name in ENDPOINTS if name in names)


def features(encoder: keras.Model) -> keras.Model:
    """Returns all endpoints of `encoder`, a model of `resnet`, as one model with shared weights.

    It maps images (B, H, W, C) to a dict by `endpoints(encoder)`: "representation" (B, f), the
    others (B, h, w, c).
    """
    outputs = {name: encoder.get_layer(name).output for name in endpoints(encoder)}
    return keras.Model(encoder.input, outputs, name="features")


def freeze(encoder: keras.Model, after_block: int) -> None:
    """Leaves the layers after `after_block` trainable (`fine_tune_after_block` in the reference).

    -1 trains everything, 0 all but the stem, k in 1..4 the layers after stage k: 4 freezes the
    encoder. Frozen batch norms use their moving statistics.
    """
    if not -1 <= after_block <= 4:
        raise ValueError(f"`after_block` must be in -1..4. Received: after_block={after_block}")
    for layer in encoder.layers:
        group = re.match(r"block_group(\d)", layer.name)
        depth = int(group.group(1)) if group else 0  # outside the stages: the stem
        layer.trainable = depth > after_block


@keras.saving.register_keras_serializable("simclrv2_tf")
class MixStreams(layers.Layer):
    """Selective kernel's weighted sum: streams (B, H, W, 2F), logits (B, 1, 1, 2F) to (B, H, W, F).

    A softmax (float32) weights the first F channels against the last F, channel by channel.
    """

    def call(self, streams, logits):
        first, second = ops.split(ops.cast(logits, "float32"), 2, axis=-1)
        weight = ops.sigmoid(first - second)  # the softmax over two
        weights = ops.concatenate([weight, 1.0 - weight], axis=-1)
        first, second = ops.split(streams * ops.cast(weights, streams.dtype), 2, axis=-1)
        return first + second

    def compute_output_shape(self, streams_shape, logits_shape):
        return (*streams_shape[:-1], streams_shape[-1] // 2)


class _Builder:
    """Applies the building blocks, and names every layer by its place in the network."""

    def __init__(self, sk_ratio, se_ratio, global_batch_norm, batch_norm_decay):
        self.sk_ratio = sk_ratio
        self.se_ratio = se_ratio
        self.batch_norm = dict(momentum=batch_norm_decay, global_statistics=global_batch_norm)

    def stem(self, x, filters, kind):
        if kind == "cifar":
            return self.conv_bn(x, filters, 3, 1, "stem", relu="stem")
        if kind == "stride2":
            # Its weights have the same shapes as "cifar": names distinguish them.
            return self.conv_bn(x, filters, 3, 2, "stem_stride2", relu="stem")
        if self.sk_ratio > 0:
            for i, width in enumerate((filters // 2, filters // 2, filters), start=1):
                x = self.conv_bn(x, width, 3, 2 if i == 1 else 1, "stem", i, relu=f"stem_relu{i}")
        else:
            x = self.conv_bn(x, filters, 7, 2, "stem", relu="stem_relu")
        return layers.MaxPooling2D(3, 2, padding="same", name="stem")(x)

    def residual_block(self, x, filters, strides, bottleneck, project, prefix, output_name):
        out_filters = 4 * filters if bottleneck else filters
        shortcut = self.shortcut(x, out_filters, strides, prefix) if project else x
        relu = f"{prefix}_relu"
        if bottleneck:
            x = self.conv_bn(x, filters, 1, 1, prefix, 1, f"{relu}1")
            if self.sk_ratio > 0:
                x = self.selective_kernel(x, filters, strides, prefix)
            else:
                x = self.conv_bn(x, filters, 3, strides, prefix, 2, f"{relu}2")
            x = self.conv_bn(x, out_filters, 1, 1, prefix, 3, gamma="zeros")
        else:
            x = self.conv_bn(x, filters, 3, strides, prefix, 1, f"{relu}1")
            x = self.conv_bn(x, out_filters, 3, 1, prefix, 2, gamma="zeros")
        if self.se_ratio > 0:
            x = self.squeeze_excitation(x, filters, prefix)
        x = layers.Add(name=f"{prefix}_add")([x, shortcut])
        return layers.ReLU(name=output_name or f"{prefix}_output")(x)

    def shortcut(self, x, filters, strides, prefix):
        if self.sk_ratio > 0:  # ResNet-D: arXiv 1812.01187
            if strides > 1:
                x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{prefix}_shortcut_pad")(x)
            padding = "same" if strides == 1 else "valid"
            x = layers.AveragePooling2D(2, strides, padding, name=f"{prefix}_shortcut_pool")(x)
            strides = 1
        return self.conv_bn(x, filters, 1, strides, f"{prefix}_shortcut")

    def selective_kernel(self, x, filters, strides, prefix):
        prefix = f"{prefix}_sk"
        streams = self.conv_bn(x, 2 * filters, 3, strides, prefix, relu=f"{prefix}_relu")
        # The average of the sum is the sum of the averages, which needs no second full-size map.
        averages = layers.GlobalAveragePooling2D(
            keepdims=True, name=f"{prefix}_average", dtype="float32"
        )(streams)
        first, second = ops.split(averages, 2, axis=-1)
        hidden = max(int(filters * self.sk_ratio), MIN_MIXING_DIM)
        mixing = self.conv(first + second, hidden, 1, 1, name=f"{prefix}_squeeze")
        mixing = self.bn(mixing, name=f"{prefix}_squeeze_bn", relu=f"{prefix}_squeeze_relu")
        mixing = self.conv(mixing, 2 * filters, 1, 1, name=f"{prefix}_mix")
        return MixStreams(name=f"{prefix}_output")(streams, mixing)

    def squeeze_excitation(self, x, filters, prefix):
        scale = layers.GlobalAveragePooling2D(
            keepdims=True, name=f"{prefix}_se_average", dtype="float32"
        )(x)
        hidden = max(1, int(filters * self.se_ratio))
        scale = self.conv(scale, hidden, 1, 1, name=f"{prefix}_se_reduce", use_bias=True)
        scale = layers.ReLU(name=f"{prefix}_se_relu")(scale)
        scale = self.conv(scale, x.shape[-1], 1, 1, name=f"{prefix}_se_expand", use_bias=True)
        scale = layers.Activation("sigmoid", name=f"{prefix}_se_scale")(scale)
        return layers.Multiply(name=f"{prefix}_se_output")([x, scale])

    def conv_bn(self, x, filters, kernel_size, strides, prefix, number="", relu=None, gamma="ones"):
        x = self.conv(x, filters, kernel_size, strides, name=f"{prefix}_conv{number}")
        return self.bn(x, name=f"{prefix}_bn{number}", relu=relu, gamma=gamma)

    def conv(self, x, filters, kernel_size, strides, name, use_bias=False):
        if strides > 1 and kernel_size > 1:
            before = (kernel_size - 1) // 2
            pad = (before, kernel_size - 1 - before)
            x = layers.ZeroPadding2D((pad, pad), name=f"{name}_pad")(x)
        return Conv2D(
            filters,
            kernel_size,
            strides,
            padding="same" if strides == 1 else "valid",
            use_bias=use_bias,
            kernel_initializer=keras.initializers.VarianceScaling(1.0, "fan_in"),
            name=name,
        )(x)

    def bn(self, x, name, relu=None, gamma="ones"):
        x = BatchNorm(name=name, gamma_initializer=gamma, **self.batch_norm)(x)
        return layers.ReLU(name=relu)(x) if relu else x
