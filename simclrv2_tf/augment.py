"""Image operations of SimCLRv2: crops, flip, color, blur, and the views made of them.

Pure TensorFlow functions without state. Images are RGB, NHWC, float32 in [0, 1]; uint8 and uint16
images are accepted everywhere and scaled to that range first. The crops take one image, because
images differ in size before they are cropped. Everything after the crop takes one image (H, W, 3)
or a batch (B, H, W, 3), in which every image draws its own parameters; it is several times faster
per image on a batch.

Random operations take `seed`. With a seed, a pair of integers, they are deterministic. With None
they draw anew at each execution, also inside `tf.function` and `tf.data.Dataset.map`. One rule of
TensorFlow's is inherited: after `tf.random.set_seed`, every *new iterator* over a mapped data set
starts the same sequence of draws again. So repeat inside the pipeline (`map(...).repeat()` goes on
with new draws), or hand in seeds.

Where a batch is spread over several hosts, `shard` = (index, count) says that a host has every
count-th image of it, from the index-th on. Each image then draws what it would draw in the whole
batch: the number of hosts changes nothing.

Sources: SimCLR, Chen et al. 2020, arXiv 2002.05709, appendix A (the views); SimCLRv2, Chen et al.
2020, arXiv 2006.10029; "the reference" is the authors' code, google-research/simclr.
"""

import dataclasses
import math
import operator
from collections.abc import Callable, Sequence

import tensorflow as tf

CROP_PROPORTION = 0.875
SMALL_IMAGE = 32  # up to this size the reference evaluates on whole images

_LEAST_COVERED = 0.1  # share of the image in a random crop
_JITTER_PROBABILITY = 0.8
_GRAYSCALE_PROBABILITY = 0.2
_BLUR_SIGMA = (0.1, 2.0)  # pixels
_LUMA = (0.2989, 0.5870, 0.1140)


def center_crop(image, size: int, proportion: float = CROP_PROPORTION) -> tf.Tensor:
    """Cuts the central square out of an image and resizes it: the evaluation crop.

    The square's side is `proportion` of the shorter side, rounded half to even; where it cannot be
    centered exactly it lies half a pixel down and right. Bicubic resizing without antialiasing,
    clipped to [0, 1]. This is the reference's `center_crop` at aspect ratio 1.

    Args:
        image: (H, W, 3), uint8, uint16, or float in [0, 1].
        size: Side S of the result in pixels, at least 1.
        proportion: Share of the shorter side that is kept, in (0, 1].

    Returns:
        (S, S, 3) float32 in [0, 1].

    Raises:
        ValueError: An argument is outside its range, or `image` is not one RGB image.
    """
    size = _integer("size", size, minimum=1)
    if not 0 < proportion <= 1:
        raise ValueError(f"`proportion` must be in (0, 1]. Received: proportion={proportion}")
    image = _float_images(image, "image", ranks=(3,))
    height, width = tf.unstack(tf.shape(image)[:2])
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.maximum(tf.cast(tf.math.rint(proportion * shorter), tf.int32), 1)
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    return _resize(image[top : top + side, left : left + side], size)


def evaluation_image(image, size: int) -> tf.Tensor:
    """Prepares one image for evaluation.

    Above 32 pixels this is `center_crop` with proportion 0.875. At 32 pixels or fewer the whole
    image is kept, as in the reference; an image of another size is resized to `size` x `size`
    (bicubic, clipped), which the reference omits.

    Args:
        image: (H, W, 3), uint8, uint16, or float in [0, 1].
        size: Side S of the result in pixels, at least 1.

    Returns:
        (S, S, 3) float32 in [0, 1].

    Raises:
        ValueError: `size` is below 1, or `image` is not one RGB image.
    """
    size = _integer("size", size, minimum=1)
    if size > SMALL_IMAGE:
        return center_crop(image, size)
    return _resize(_float_images(image, "image", ranks=(3,)), size)


def random_crop(
    image,
    size: int,
    area_range: Sequence[float] = (0.08, 1.0),
    aspect_range: Sequence[float] = (3 / 4, 4 / 3),
    seed=None,
) -> tf.Tensor:
    """Cuts a random box out of an image and resizes it to a square.

    The box follows TensorFlow's `sample_distorted_bounding_box` over the whole image with at least
    0.1 of it covered and 100 attempts, as in the reference. So no box is smaller than a tenth of
    the image, whatever `area_range` begins with; and boxes that do not fit are rejected, so large
    areas are rarer than under U(`area_range`). When all attempts fail, the whole image is taken.
    Bicubic resizing without antialiasing, clipped to [0, 1].

    Args:
        image: (H, W, 3), uint8, uint16, or float in [0, 1].
        size: Side S of the result in pixels, at least 1.
        area_range: Smallest and largest share of the image's area, in (0, 1]; the largest at least
            0.1.
        aspect_range: Smallest and largest width / height of the box in pixels, positive.
        seed: None, or a (2,) integer seed.

    Returns:
        (S, S, 3) float32 in [0, 1].

    Raises:
        ValueError: An argument is outside its range, or `image` is not one RGB image.
    """
    size = _integer("size", size, minimum=1)
    area_range = _interval("area_range", area_range, largest=1.0)
    if area_range[1] < _LEAST_COVERED:
        raise ValueError(
            f"`area_range` must reach {_LEAST_COVERED}, as no smaller box is ever accepted. "
            f"Received: area_range={area_range}"
        )
    aspect_range = _interval("aspect_range", aspect_range, largest=math.inf)
    image = _convertible(image, "image", ranks=(3,))
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=_seed(seed),
        min_object_covered=_LEAST_COVERED,
        aspect_ratio_range=aspect_range,
        area_range=area_range,
        max_attempts=100,
    )
    # Cut first: converting the whole of a large photograph to float costs more than the crop.
    box = tf.slice(image, begin, extent)
    return _resize(_to_float(box), size)


def random_flip(images, seed=None, shard: tuple[int, int] = (0, 1)) -> tf.Tensor:
    """Mirrors each image left to right with probability 0.5.

    Args:
        images: (H, W, 3) or (B, H, W, 3), uint8, uint16, or float in [0, 1].
        seed: None, or a (2,) integer seed.
        shard: (index, count) of this part of a batch; needs a seed above one part.

    Returns:
        Float32 in [0, 1], of the shape of `images`.

    Raises:
        ValueError: `images` is neither an RGB image nor a batch of them, or there are several parts
            without a seed.
    """
    draws = _draws(seed, shard)
    return _on_batch(images, "images", lambda batch: _flip(batch, draws))


def random_color(image, strength: float, version: str = "v2", seed=None) -> tf.Tensor:
    """Jitters the color of each image with probability 0.8, then drops color with 0.2.

    Jitter is brightness, contrast, saturation and hue, each once, in a random order, clipped to
    [0, 1] after each. With d = 0.8 * `strength`: brightness multiplies by U(max(0, 1 - d), 1 + d)
    in version "v2" and adds U(-d, d) in "v1"; contrast and saturation have a factor of
    U(max(0, 1 - d), 1 + d); hue turns by U(-0.2, 0.2) * `strength` of a full turn. The operations
    are those of `tf.image.adjust_*`. From `strength` 1.25 on the lower factor is held at 0; the
    reference has no valid contrast range there. Zero `strength` turns jitter and grayscale off,
    as in the reference.

    Args:
        image: (H, W, 3) or (B, H, W, 3), uint8, uint16, or float in [0, 1]. In a batch every image
            draws its own decisions, factors and order.
        strength: Not negative; 1 for ImageNet, 0.5 for CIFAR.
        version: "v2" or "v1", the brightness rule of SimCLRv2 or SimCLR.
        seed: None, or a (2,) integer seed.

    Returns:
        Float32 in [0, 1], of the shape of `image`.

    Raises:
        ValueError: An argument is outside its range, or `image` is neither an RGB image nor a
            batch of them.
    """
    _check_color(strength, version)
    draws = _draws(seed)
    return _on_batch(image, "image", lambda batch: _color(batch, strength, version, draws))


def gaussian_blur(image, kernel_size: int, sigma) -> tf.Tensor:
    """Blurs with a separable Gaussian, normalized over its window, with zero padding (SAME).

    Args:
        image: (H, W, 3) or (B, H, W, 3), uint8, uint16, or float.
        kernel_size: Width of the window in pixels, not negative. An even k means k + 1, as in the
            reference.
        sigma: Standard deviation in pixels, positive: a scalar, or (B,), one per image.

    Returns:
        Float32 of the shape of `image`. Not clipped.

    Raises:
        ValueError: `kernel_size` is negative, `sigma` is known and not positive or has another
            shape, or `image` is neither an RGB image nor a batch of them.
    """
    kernel_size = _integer("kernel_size", kernel_size, minimum=0)
    sigma = tf.cast(sigma, tf.float32)
    if sigma.shape.rank not in (0, 1):
        raise ValueError(f"`sigma` must be a scalar or (B,). Received: sigma.shape={sigma.shape}")
    known = tf.get_static_value(sigma)
    if known is not None and not (known > 0).all():
        raise ValueError(f"`sigma` must be positive. Received: sigma={known}")

    def blur(batch):
        if sigma.shape.rank == 1 and not sigma.shape.is_compatible_with(batch.shape[:1]):
            raise ValueError(
                "`sigma` must be a scalar or have one entry per image. "
                f"Received: sigma.shape={sigma.shape} for {batch.shape[0]} images"
            )
        return _blur(batch, kernel_size, sigma)

    return _on_batch(image, "image", blur)


def random_blur(
    images, kernel_size: int | None = None, probability: float = 0.5, seed=None
) -> tf.Tensor:
    """Blurs each image with `probability`, with a Gaussian of sigma U(0.1, 2) pixels.

    Every image draws its own sigma, as in the paper; the reference draws one for a whole batch of
    views.

    Args:
        images: (H, W, 3) or (B, H, W, 3), uint8, uint16, or float in [0, 1].
        kernel_size: Width of the window in pixels, not negative; an even k means k + 1. None takes
            a tenth of the image height, rounded down.
        probability: In [0, 1].
        seed: None, or a (2,) integer seed.

    Returns:
        Float32 in [0, 1], of the shape of `images`.

    Raises:
        ValueError: An argument is outside its range, `kernel_size` is None and the height is not
            known when the function is traced, or `images` is neither an RGB image nor a batch of
            them.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"`probability` must be in [0, 1]. Received: probability={probability}")
    if kernel_size is not None:
        kernel_size = _integer("kernel_size", kernel_size, minimum=0)
    draws = _draws(seed)
    return _on_batch(
        images, "images", lambda batch: _randomly_blurred(batch, kernel_size, probability, draws)
    )


def pretraining_view(
    images,
    seed=None,
    *,
    strength: float = 1.0,
    version: str = "v2",
    blur: bool = True,
    shard: tuple[int, int] = (0, 1),
) -> tf.Tensor:
    """Makes a view for pretraining out of images that were cropped already.

    In the reference's order: flip, color jitter, grayscale, blur, clip to [0, 1]. See
    `random_flip`, `random_color` and `random_blur`.

    Args:
        images: (H, W, 3) or (B, H, W, 3), uint8, uint16, or float in [0, 1]; the results of
            `random_crop`.
        seed: None, or a (2,) integer seed.
        strength: Strength of `random_color`; 0 leaves colors alone.
        version: "v2" or "v1", see `random_color`.
        blur: Whether to blur half of the images; the reference does for ImageNet and not for CIFAR.
        shard: (index, count) of this part of a batch; needs a seed above one part.

    Returns:
        Float32 in [0, 1], of the shape of `images`.

    Raises:
        ValueError: As the functions named above.
    """
    _check_color(strength, version)
    flip_draws, color_draws, blur_draws = _draws(seed, shard).split(3)

    def view(batch):
        batch = _flip(batch, flip_draws)
        batch = _color(batch, strength, version, color_draws)
        if blur:
            batch = _randomly_blurred(batch, None, 0.5, blur_draws)
        return tf.clip_by_value(batch, 0.0, 1.0)

    return _on_batch(images, "images", view)


# What images draw.


@dataclasses.dataclass(frozen=True)
class _Draws:
    """Random numbers of one seed, for the images of one part of a batch."""

    seed: tf.Tensor  # (2,) int64
    index: int
    count: int

    def split(self, num: int) -> list["_Draws"]:
        """Independent ones."""
        seeds = tf.unstack(tf.random.split(self.seed, num))
        return [dataclasses.replace(self, seed=seed) for seed in seeds]

    def uniform(self, batch, *shape: int, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
        """(B, *shape) for a batch of B images: U(low, high)."""
        # A few numbers for each image of the whole batch: cheaper than a seed for each image.
        rows = tf.shape(batch)[0] * self.count
        numbers = tf.random.stateless_uniform((rows, *shape), self.seed, low, high)
        return numbers[self.index :: self.count]


# The operations on a float32 batch (B, H, W, 3).


def _flip(batch, draws):
    return _apply_to_some(lambda some, _: tf.reverse(some, axis=[2]), batch, 0.5, draws)


def _color(batch, strength, version, draws):
    if strength == 0:
        return batch
    drawn_jitter, jitter_draws, drawn_gray = draws.split(3)
    shape = tf.shape(batch)
    # Channel planes are contiguous: the maximum over channels, which saturation and hue need, is
    # several times faster than along a last axis of three.
    planes = tf.transpose(tf.reshape(batch, (shape[0], shape[1] * shape[2], 3)), (0, 2, 1))
    order_draws, amount_draws = jitter_draws.split(2)
    order = tf.argsort(order_draws.uniform(planes, 4))  # (B, 4) random permutations
    uniform = amount_draws.uniform(planes, 4)
    planes = _apply_to_some(
        lambda some, rows: _jitter(
            some, strength, version, tf.gather(order, rows), tf.gather(uniform, rows)
        ),
        planes,
        _JITTER_PROBABILITY,
        drawn_jitter,
    )
    planes = _apply_to_some(
        lambda some, _: _grayscale(some), planes, _GRAYSCALE_PROBABILITY, drawn_gray
    )
    return tf.reshape(tf.transpose(planes, (0, 2, 1)), shape)


def _randomly_blurred(batch, kernel_size, probability, draws):
    if kernel_size is None:
        if batch.shape[1] is None:
            raise ValueError(
                "`kernel_size` must be given where the image height is not known. "
                f"Received: kernel_size=None for images of shape {batch.shape}"
            )
        kernel_size = batch.shape[1] // 10
    drawn, sigma_draws = draws.split(2)
    low, high = _BLUR_SIGMA
    sigma = sigma_draws.uniform(batch, low=low, high=high)  # (B,)

    def blur(some, rows):
        return tf.clip_by_value(_blur(some, kernel_size, tf.gather(sigma, rows)), 0.0, 1.0)

    return _apply_to_some(blur, batch, probability, drawn)


def _blur(batch, kernel_size, sigma):
    shape = tf.shape(batch)
    count, height, width = shape[0], shape[1], shape[2]
    radius = kernel_size // 2
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    kernels = tf.exp(-tf.square(offsets[:, None] / tf.broadcast_to(sigma, (count,))) / 2.0)
    kernels = tf.repeat(kernels / tf.reduce_sum(kernels, axis=0), 3, axis=1)  # (k, 3B)

    def convolve():
        # Images side by side on the channel axis: one depthwise convolution gives each its kernel.
        folded = tf.reshape(tf.transpose(batch, (1, 2, 0, 3)), (1, height, width, 3 * count))
        for filters in (kernels[None, :, :, None], kernels[:, None, :, None]):
            folded = tf.nn.depthwise_conv2d(folded, filters, strides=[1, 1, 1, 1], padding="SAME")
        return tf.transpose(tf.reshape(folded, (height, width, count, 3)), (2, 0, 1, 3))

    # A convolution refuses zero channels, and no image may have been drawn.
    return tf.cond(count > 0, convolve, lambda: batch)


# The color operations on planes (B, 3, H * W) in [0, 1], with one `amount` (B,) per image.


def _jitter(planes, strength, version, order, uniform):
    """`order` (B, 4): the operation of each turn; `uniform` (B, 4) in [0, 1): their amounts."""
    count = tf.shape(planes)[0]
    spread = 0.8 * strength
    factor = (max(0.0, 1.0 - spread), 1.0 + spread)
    operations = (
        (_scale, factor) if version == "v2" else (_shift, (-spread, spread)),
        (_adjust_contrast, factor),
        (_adjust_saturation, factor),
        (_adjust_hue, (-0.2 * strength, 0.2 * strength)),
    )
    amounts = [
        low + (high - low) * u
        for u, (_, (low, high)) in zip(tf.unstack(uniform, axis=1), operations, strict=True)
    ]
    for turn in range(4):
        # Every image has one operation in this turn: group the images by it.
        groups = tf.dynamic_partition(tf.range(count), order[:, turn], 4)
        adjusted = [
            operation(tf.gather(planes, rows), tf.gather(amount, rows))
            for rows, amount, (operation, _) in zip(groups, amounts, operations, strict=True)
        ]
        planes = tf.clip_by_value(tf.dynamic_stitch(groups, adjusted), 0.0, 1.0)
    return planes


def _scale(planes, amount):
    return planes * amount[:, None, None]


def _shift(planes, amount):
    return planes + amount[:, None, None]


def _adjust_contrast(planes, amount):
    mean = tf.reduce_mean(planes, axis=2, keepdims=True)
    return (planes - mean) * amount[:, None, None] + mean


def _adjust_saturation(planes, amount):
    # In HSV a channel is value * (1 - saturation * k) with k given by the hue alone, so a new
    # saturation min(amount * saturation, 1) only scales its distance from the value.
    value = tf.reduce_max(planes, axis=1, keepdims=True)
    chroma = value - tf.reduce_min(planes, axis=1, keepdims=True)
    scale = tf.minimum(amount[:, None, None], tf.math.divide_no_nan(value, chroma))
    return value - (value - planes) * scale


def _adjust_hue(planes, amount):
    red, green, blue = tf.unstack(planes, axis=1)
    value = tf.maximum(tf.maximum(red, green), blue)
    low = tf.minimum(tf.minimum(red, green), blue)
    chroma = value - low
    per_chroma = tf.math.divide_no_nan(1.0, chroma)
    # Select, the op without broadcasting, is several times faster than tf.where on a CPU.
    select = tf.raw_ops.Select
    sextant = select(
        condition=tf.equal(value, red),
        x=(green - blue) * per_chroma,
        y=select(
            condition=tf.equal(value, green),
            x=(blue - red) * per_chroma + 2.0,
            y=(red - green) * per_chroma + 4.0,
        ),
    )
    hue = sextant / 6.0 + amount[:, None]  # in turns
    sextant = 6.0 * (hue - tf.floor(hue))  # [0, 6]
    red = tf.abs(sextant - 3.0) - 1.0
    green = 2.0 - tf.abs(sextant - 2.0)
    blue = 2.0 - tf.abs(sextant - 4.0)
    share = tf.clip_by_value(tf.stack((red, green, blue), axis=1), 0.0, 1.0)
    return low[:, None] + chroma[:, None] * share


def _grayscale(planes):
    luma = tf.reduce_sum(planes * tf.constant(_LUMA)[:, None], axis=1, keepdims=True)
    return tf.tile(luma, (1, 3, 1))


def _apply_to_some(function: Callable, batch, probability: float, draws: _Draws):
    """Replaces each row by its image under `function` with `probability`, rows independent.

    `function` gets only the rows that were drawn, which may be none of them, and their indices.
    """
    drawn = draws.uniform(batch) < probability
    rows = tf.where(drawn)  # (n, 1)
    some = function(tf.gather(batch, rows[:, 0]), rows[:, 0])
    return tf.tensor_scatter_nd_update(batch, rows, some)


# Arguments.


def _on_batch(images, name, function):
    """Calls `function` on float32 `images` as a batch (B, H, W, 3); one image is a batch of one."""
    images = _float_images(images, name, ranks=(3, 4))
    single = images.shape.rank == 3
    result = function(images[None])[0] if single else function(images)
    return tf.ensure_shape(result, images.shape)


def _float_images(images, name, ranks):
    return _to_float(_convertible(images, name, ranks))


def _convertible(images, name, ranks):
    """Checks rank, channels and type without converting the pixels."""
    images = tf.convert_to_tensor(images)
    if not (images.dtype.is_floating or images.dtype in (tf.uint8, tf.uint16)):
        raise ValueError(
            f"`{name}` must be uint8, uint16, or float in [0, 1]. "
            f"Received: {name}.dtype={images.dtype.name}"
        )
    if images.shape.rank not in ranks or images.shape[-1] not in (3, None):
        expected = " or ".join({3: "(H, W, 3)", 4: "(B, H, W, 3)"}[rank] for rank in ranks)
        raise ValueError(
            f"`{name}` must have shape {expected}, its rank known when traced. "
            f"Received: {name}.shape={images.shape}"
        )
    return tf.ensure_shape(images, [*images.shape[:-1], 3])


def _to_float(images):
    return tf.image.convert_image_dtype(images, tf.float32)


def _resize(image, size):
    resized = tf.image.resize(image, (size, size), method=tf.image.ResizeMethod.BICUBIC)
    return tf.clip_by_value(resized, 0.0, 1.0)


def _integer(name, value, minimum):
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or number < minimum:
        raise ValueError(
            f"`{name}` must be an integer of at least {minimum}. Received: {name}={value}"
        )
    return number


def _interval(name, value, largest):
    pair = tuple(float(end) for end in value)
    if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= largest or math.isinf(pair[-1]):
        bound = "positive and finite" if math.isinf(largest) else f"in (0, {largest:g}]"
        raise ValueError(
            f"`{name}` must be a pair (low, high), low <= high, both {bound}. "
            f"Received: {name}={value}"
        )
    return pair


def _check_color(strength, version):
    if not 0 <= strength < math.inf:
        raise ValueError(
            f"`strength` must be finite and not negative. Received: strength={strength}"
        )
    if version not in ("v1", "v2"):
        raise ValueError(f'`version` must be "v1" or "v2". Received: version={version!r}')


def _seed(seed):
    if seed is None:
        # The one stateful operation here: it runs, and so draws anew, at each execution.
        return tf.random.uniform((2,), tf.int32.min, tf.int32.max, dtype=tf.int32)
    tensor = tf.convert_to_tensor(seed)
    if not (tensor.dtype.is_integer and tensor.shape.is_compatible_with((2,))):
        raise ValueError(f"`seed` must be None or two integers. Received: seed={seed}")
    # One type, so that equal numbers draw equally whatever type they came in.
    return tf.cast(tensor, tf.int64)


def _draws(seed, shard=(0, 1)):
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"`shard` must be (index, count), 0 <= index < count. Received: {shard=}")
    if seed is None and count > 1:
        raise ValueError(
            f"`seed` must be given for a part of a batch, as all parts draw by one. "
            f"Received: seed=None, {shard=}"
        )
    return _Draws(_seed(seed), index, count)
