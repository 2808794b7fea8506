"""The image operations against the reference's recordings, `tf.image`, and loops from the paper."""

import numpy as np
import pytest
import tensorflow as tf

from helpers.oracle import ORACLE
from simclrv2_tf import augment

RECORDING = ORACLE / "preprocessing.npz"
# Differences from a recording are allowed this many standard errors. A file makes a few hundred
# such comparisons, most of them correlated; at 4.5 a correct program fails one in 1e3 seeds.
ERRORS = 4.5


@pytest.fixture(scope="module")
def recording():
    if not RECORDING.exists():
        pytest.skip("the reference's recordings (../shared/oracle) are not beside this checkout")
    with np.load(RECORDING) as data:
        return dict(data)


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def assert_quantiles(sample, quantiles, levels, draws, fuzz):
    """Checks the share of `sample` below each recorded quantile: its level, up to sampling error.

    The share has the binomial variance p (1 - p) / n, once for either sample. A value with a mass
    of its own (an unchanged image, a whole pixel) makes the share jump: the level must then lie
    between the shares just below and just above, `fuzz` being the rounding of such a value.
    """
    error = np.sqrt(levels * (1 - levels) * (1 / len(sample) + 1 / draws))
    below = (sample[:, None] < quantiles - fuzz).mean(axis=0)
    up_to = (sample[:, None] <= quantiles + fuzz).mean(axis=0)
    assert np.all(below - ERRORS * error <= levels), (below, levels)
    assert np.all(levels <= up_to + ERRORS * error), (up_to, levels)


def assert_fraction(found, count, expected, draws):
    error = np.sqrt(expected * (1 - expected) * (1 / count + 1 / draws))
    assert abs(found - expected) <= ERRORS * error, (found, expected)


# Recordings of deterministic operations.


@pytest.mark.parametrize("case", range(4))
def test_center_crop_equals_the_reference(recording, case):
    image = recording[f"center_crop/{case}/image"]
    expected = recording[f"center_crop/{case}/output"]
    size = int(recording[f"center_crop/{case}/size"])
    cropped = augment.center_crop(image, size)
    assert cropped.dtype == tf.float32
    np.testing.assert_allclose(cropped, expected, atol=1e-5)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None), tf.uint8)])
    def traced(image):
        return augment.center_crop(image, size)

    assert traced.get_concrete_function().output_shapes == (size, size, 3)
    np.testing.assert_allclose(traced(image), expected, atol=1e-5)


@pytest.mark.parametrize("case", range(4))
def test_blur_equals_the_reference(recording, case):
    image = recording[f"blur/{case}/image"]
    kernel_size = int(recording[f"blur/{case}/kernel_size"])
    sigma = float(recording[f"blur/{case}/sigma"])
    expected = recording[f"blur/{case}/output"]
    np.testing.assert_allclose(
        augment.gaussian_blur(image, kernel_size, sigma), expected, atol=1e-5
    )
    # In a batch each image has its own sigma.
    batch = augment.gaussian_blur(np.stack([image, image]), kernel_size, [sigma, 0.7])
    np.testing.assert_allclose(batch[0], expected, atol=1e-5)
    assert np.abs(batch[1] - expected).max() > 1e-2


# Deterministic operations against the plainest statement of them.


def test_center_crop_takes_the_square_of_the_stated_side_and_offset():
    # 20 rows: the side is rint(0.875 * 20 = 17.5) = 18 (half to even), the offsets (20 - 18 + 1)
    # // 2 = 1 and (31 - 18 + 1) // 2 = 7. At an unchanged size nothing is interpolated.
    image = random_images(20, 31, 3)
    np.testing.assert_allclose(augment.center_crop(image, 18), image[1:19, 7:25], atol=1e-6)
    np.testing.assert_allclose(
        augment.center_crop(image.transpose(1, 0, 2), 18),
        image[1:19, 7:25].transpose(1, 0, 2),
        atol=1e-6,
    )
    np.testing.assert_allclose(augment.center_crop(image, 10, 0.5), image[5:15, 11:21], atol=1e-6)


def test_center_crop_of_few_pixels_keeps_one():
    image = random_images(2, 3, 3)
    cropped = augment.center_crop(image, 4, proportion=0.1)
    np.testing.assert_allclose(cropped, np.broadcast_to(image[1, 1], (4, 4, 3)), atol=1e-6)


def test_evaluation_image_crops_large_images_and_resizes_small_ones():
    image = np.random.default_rng(1).integers(0, 256, (40, 52, 3), np.uint8)
    np.testing.assert_array_equal(
        augment.evaluation_image(image, 33), augment.center_crop(image, 33)
    )
    # At 32 the whole image is in: unchanged where the size fits, else resized, and clipped.
    np.testing.assert_allclose(
        augment.evaluation_image(image[:32, :32], 32), image[:32, :32] / 255.0, atol=1e-6
    )
    small = augment.evaluation_image(image, 32)
    resized = tf.image.resize(image / 255.0, (32, 32), method="bicubic")
    np.testing.assert_allclose(small, np.clip(resized, 0, 1), atol=1e-6)
    assert np.max(resized) > 1 >= np.max(small)
    assert np.abs(small - augment.center_crop(image, 32)).max() > 0.1


def test_blur_equals_a_sum_over_the_window_with_zeros_outside():
    image = random_images(7, 6, 3)
    radius, sigma = 2, 1.3
    offsets = range(-radius, radius + 1)
    weights = {o: np.exp(-(o**2) / (2 * sigma**2)) for o in offsets}
    total = sum(weights.values())
    expected = np.zeros_like(image)
    for y in range(7):
        for x in range(6):
            for dy in offsets:
                for dx in offsets:
                    if 0 <= y + dy < 7 and 0 <= x + dx < 6:
                        weight = weights[dy] * weights[dx] / total**2
                        expected[y, x] += weight * image[y + dy, x + dx]
    for kernel_size in (4, 5):  # an even size is widened by one
        np.testing.assert_allclose(
            augment.gaussian_blur(image, kernel_size, sigma), expected, atol=1e-6
        )
    np.testing.assert_allclose(augment.gaussian_blur(image, 0, sigma), image, atol=1e-6)
    # A window larger than the image.
    assert augment.gaussian_blur(image, 21, sigma).shape == (7, 6, 3)


def test_color_operations_equal_tf_image_image_by_image():
    batch = random_images(40, 6, 5, 3)
    batch[0] = batch[0, :, :, :1]  # gray
    batch[1], batch[2] = 0, 1
    batch[3, ..., 1] = batch[3, ..., 0]  # two channels share the maximum or the minimum
    batch[4] = np.round(batch[4])  # corners of the color cube
    rng = np.random.default_rng(2)
    factors = rng.uniform(0, 3, 40).astype(np.float32)
    turns = rng.uniform(-0.5, 0.5, 40).astype(np.float32)
    factors[5:7], turns[5:8] = (0, 1), (-0.5, 0, 0.5)
    cases = [
        (augment._shift, tf.image.adjust_brightness, turns),
        (augment._scale, lambda image, factor: image * factor, factors),
        (augment._adjust_contrast, tf.image.adjust_contrast, factors),
        (augment._adjust_saturation, tf.image.adjust_saturation, factors),
        (augment._adjust_hue, tf.image.adjust_hue, turns),
    ]
    planes = tf.transpose(tf.reshape(batch, (40, 30, 3)), (0, 2, 1))
    for operation, reference, amounts in cases:
        result = tf.transpose(operation(planes, tf.constant(amounts)), (0, 2, 1))
        for image, amount, row in zip(batch, amounts, tf.reshape(result, batch.shape), strict=True):
            np.testing.assert_allclose(
                row, reference(image, amount), atol=3e-6, err_msg=operation.__name__
            )
    gray = tf.transpose(augment._grayscale(planes), (0, 2, 1))
    expected = np.tile(tf.image.rgb_to_grayscale(batch), (1, 1, 1, 3))
    np.testing.assert_allclose(tf.reshape(gray, batch.shape), expected, atol=1e-6)


# Distributions.


def test_crops_are_distributed_as_the_reference_s(recording):
    height, width = int(recording["crop/image_height"]), int(recording["crop/image_width"])
    size, draws = int(recording["crop/output_size"]), int(recording["crop/draws"])
    ramp = np.full((height, width, 3), 0.5, np.float32)
    ramp[..., 0] = np.linspace(0, 1, width)
    ramp[..., 1] = np.linspace(0, 1, height)[:, None]
    crops = np.concatenate(
        list(
            tf.data.Dataset.range(6000)
            .map(lambda i: augment.random_crop(ramp, size, seed=tf.stack([i, 7])))
            .batch(1000)
            .as_numpy_iterator()
        )
    )
    assert crops.shape == (6000, size, size, 3)
    x0, x1 = crops[:, 16, 2, 0], crops[:, 16, -3, 0]
    y0, y1 = crops[:, 2, 16, 1], crops[:, -3, 16, 1]
    sx, sy = (x1 - x0) * 32 / 27, (y1 - y0) * 32 / 27
    found = {
        "area": sx * sy,
        "aspect": sx * width / (sy * height),
        "center_x": (x0 + x1) / 2,
    }
    for name, values in found.items():
        # Positions and sides are whole pixels, read off an interpolated ramp.
        quantiles = recording[f"crop/{name}_quantiles"]
        assert_quantiles(values, quantiles, recording["crop/quantile_levels"], draws, fuzz=1e-5)
    # The recorded quantiles say little about the ends. Those are known: the least share that must
    # be covered, 0.1, and the whole. (n pixels measure n / (n - 1) on a ramp.)
    pixels = found["area"] * (height - 1) * (width - 1) / (height * width)
    assert 0.0995 < pixels.min() < 0.103 and 0.95 < pixels.max() < 1.001


def jittered(image, count, strength, version):
    return augment.random_color(
        np.broadcast_to(image, (count, *image.shape)), strength, version, seed=(11, 5)
    ).numpy()


def jittered_one_by_one(image, count, strength, version):
    def draw(i):
        return augment.random_color(image, strength, version, seed=tf.stack([i, 3]))

    return np.stack(list(tf.data.Dataset.range(count).map(draw).as_numpy_iterator()))


@pytest.mark.parametrize(
    "draw, count, strength, version",
    [
        (jittered, 8000, 0.5, "v1"),
        (jittered, 8000, 0.5, "v2"),
        (jittered, 8000, 1.0, "v1"),
        (jittered, 8000, 1.0, "v2"),
        (jittered_one_by_one, 1000, 1.0, "v2"),
    ],
)
def test_color_is_distributed_as_the_reference_s(recording, draw, count, strength, version):
    image, draws = recording["jitter/image"], int(recording["jitter/draws"])
    expected = {
        key: recording[f"jitter/simclr{version}/strength_{strength}/{key}"]
        for key in ("mean", "std", "gray_fraction", "unchanged_fraction", "luma_quantiles")
    }
    views = draw(image, count, strength, version)
    assert views.dtype == np.float32 and views.min() >= 0 and views.max() <= 1

    per_draw = 1 / count + 1 / draws
    mean, variance = views.mean(axis=0), views.var(axis=0)
    mean_error = np.sqrt(variance * per_draw)
    assert np.all(np.abs(mean - expected["mean"]) <= ERRORS * mean_error)
    # The variance of a sample variance is (fourth central moment - variance^2) / n.
    fourth = ((views - mean) ** 4).mean(axis=0)
    variance_error = np.sqrt((fourth - variance**2) * per_draw)
    assert np.all(np.abs(variance - expected["std"] ** 2) <= ERRORS * variance_error)

    gray = (np.ptp(views, axis=-1).max(axis=(1, 2)) < 1e-6).mean()
    assert_fraction(gray, count, expected["gray_fraction"], draws)
    unchanged = (np.abs(views - image).max(axis=(1, 2, 3)) < 1e-6).mean()
    assert_fraction(unchanged, count, expected["unchanged_fraction"], draws)
    assert_fraction(unchanged, count, (1 - 0.8) * (1 - 0.2), np.inf)
    # 16% of the draws are the image itself: its brightness is known only to rounding.
    luma = views.mean(axis=(1, 2, 3))
    levels = recording["jitter/quantile_levels"]
    assert_quantiles(luma, expected["luma_quantiles"], levels, draws, fuzz=1e-6)


def test_jitter_order_is_uniform_over_all_24(monkeypatch):
    # Each operation writes its number as the leading octal digit of the pixel: the result tells
    # which operations were done, and in which order.
    names = ("_scale", "_adjust_contrast", "_adjust_saturation", "_adjust_hue")
    for digit, name in enumerate(names):
        monkeypatch.setattr(augment, name, lambda planes, _, digit=digit: (planes + digit) / 8)
    monkeypatch.setattr(augment, "_JITTER_PROBABILITY", 1)
    monkeypatch.setattr(augment, "_GRAYSCALE_PROBABILITY", 0)
    count = 4800
    black = np.zeros((count, 1, 1, 3), np.float32)
    pixels = augment.random_color(black, 1.0, seed=(5, 6)).numpy()[:, 0, 0, 0]
    digits = (pixels[:, None] * 8.0 ** np.arange(4, 0, -1)).astype(int) % 8  # first done, first
    digits = digits[:, ::-1]
    assert np.all(np.sort(digits, axis=1) == np.arange(4))
    _, counts = np.unique(digits, axis=0, return_counts=True)
    assert len(counts) == 24
    chi_squared = np.sum((counts - count / 24) ** 2) / (count / 24)
    assert chi_squared < 49.7  # 99.9% of chi-squared with 23 degrees of freedom


def test_flip_and_blur_act_on_half_of_the_images():
    images = random_images(1, 12, 12, 3)
    batch = np.broadcast_to(images, (4000, 12, 12, 3))
    flipped = augment.random_flip(batch, seed=(1, 2)).numpy()
    mirrored = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert np.all(mirrored | (flipped == images).all(axis=(1, 2, 3)))
    assert_fraction(mirrored.mean(), 4000, 0.5, np.inf)

    # Sigma decides by how much an image changes; half of the images change by nothing.
    blurred = augment.random_blur(batch, kernel_size=3, seed=(1, 2)).numpy()
    change = np.abs(blurred - images).mean(axis=(1, 2, 3))
    levels = np.array([0.02, 0.1, 0.25, 0.5, 0.75, 0.9])
    sigmas = (0.1 + 1.9 * levels).astype(np.float32)
    at_level = augment.gaussian_blur(np.broadcast_to(images, (6, 12, 12, 3)), 3, sigmas)
    at_level = np.abs(at_level - images).mean(axis=(1, 2, 3))
    assert_quantiles(change, at_level, 0.5 + 0.5 * levels, np.inf, fuzz=0)


def test_probabilities_zero_and_one_and_the_window_of_blur():
    batch, seed = random_images(6, 20, 20, 3), (1, 1)
    np.testing.assert_array_equal(augment.random_blur(batch, 3, 0.0, seed), batch)
    blurred = augment.random_blur(batch, 3, 1.0, seed)
    assert np.all(np.any(blurred != batch, axis=(1, 2, 3)))
    # The window is a tenth of the height, made odd: three pixels at 20 rows, one at 19.
    np.testing.assert_array_equal(augment.random_blur(batch, None, 1.0, seed), blurred)
    unblurred = augment.random_blur(batch[:, :19], None, 1.0, seed)
    np.testing.assert_allclose(unblurred, batch[:, :19], atol=1e-6)


# What every random operation has in common.

OPERATIONS = {
    "random_flip": augment.random_flip,
    "random_color": lambda images, seed=None: augment.random_color(images, 1.0, seed=seed),
    "random_blur": lambda images, seed=None: augment.random_blur(images, 5, seed=seed),
    "pretraining_view": augment.pretraining_view,
}
on_every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


@on_every_operation
def test_images_of_a_batch_draw_independently(operation):
    image = random_images(20, 20, 3)
    views = operation(np.stack([image] * 64), seed=(3, 4)).numpy().reshape(64, -1)
    if operation is augment.random_flip:
        assert len(np.unique(views, axis=0)) == 2
    else:
        # The draws that leave an image alone are few enough to leave most views distinct.
        assert len(np.unique(views, axis=0)) > 64 * 0.4
    assert views.min() >= 0 and views.max() <= 1


@on_every_operation
def test_a_seed_decides_everything(operation):
    batch = random_images(16, 20, 20, 3)
    first = operation(batch, seed=(3, 4))
    assert first.dtype == tf.float32 and first.shape == batch.shape
    tf.random.uniform(())  # stateful draws in between change nothing
    np.testing.assert_array_equal(first, operation(batch, seed=tf.constant([3, 4], tf.int32)))
    np.testing.assert_array_equal(first, operation(batch, seed=np.array([3, 4], np.int64)))
    assert np.any(first != operation(batch, seed=(3, 5)))

    traced = tf.function(
        lambda images, seed: operation(images, seed=seed),
        input_signature=[
            tf.TensorSpec((None, 20, 20, 3), tf.float32),
            tf.TensorSpec((2,), tf.int64),
        ],
    )
    np.testing.assert_allclose(traced(batch, [3, 4]), first, atol=1e-5)
    np.testing.assert_allclose(traced(batch[:0], [3, 4]), batch[:0])


@on_every_operation
def test_one_image_is_a_batch_of_one(operation):
    image = random_images(20, 20, 3)
    views = []
    for i in range(20):
        one = operation(image, seed=(i, 9))
        assert one.shape == (20, 20, 3)
        np.testing.assert_array_equal(one, operation(image[None], seed=(i, 9))[0])
        views.append(one.numpy())
    # Both outcomes of every decision occur, so the paths on which no image is drawn ran too.
    assert any((view == image).all() for view in views) or operation is augment.pretraining_view
    assert any((view != image).any() for view in views)


@pytest.mark.parametrize("operation", [augment.random_flip, augment.pretraining_view])
def test_parts_of_a_batch_draw_as_the_whole(operation):
    batch = random_images(12, 20, 20, 3)
    whole = operation(batch, seed=(3, 4)).numpy()
    for index in range(3):
        part = operation(batch[index::3], seed=(3, 4), shard=(index, 3))
        np.testing.assert_allclose(part, whole[index::3], atol=1e-6)
    alike = operation(np.stack([batch[0]] * 12), seed=(3, 4), shard=(1, 2)).numpy()
    assert len(np.unique(alike.reshape(12, -1), axis=0)) > 1
    with pytest.raises(ValueError, match="`seed`"):
        operation(batch, shard=(0, 2))
    with pytest.raises(ValueError, match="`shard`"):
        operation(batch, seed=(3, 4), shard=(2, 2))


@pytest.mark.parametrize("batched", [False, True])
def test_without_a_seed_each_execution_draws_anew(batched):
    images = random_images(20, 20, 3)

    def view(image):
        if batched:
            return augment.pretraining_view(tf.stack([image] * 2), blur=True)[0]
        return augment.pretraining_view(augment.random_crop(image, 20), blur=True)

    def distinct(views):
        return len(np.unique(np.stack(views).reshape(len(views), -1), axis=0))

    traced = tf.function(view)
    # Batched, there is no crop: a tenth of the draws are one of four images without jitter and
    # blur. Draws that repeat themselves would leave 1 of 12, and 1 or 6 of the last 18.
    assert distinct([traced(images) for _ in range(12)]) > 6
    assert distinct([view(images) for _ in range(6)]) > 2
    data = tf.data.Dataset.from_tensors(images).repeat(6).map(view, num_parallel_calls=2)
    assert distinct([*data.repeat(2).as_numpy_iterator(), *data.as_numpy_iterator()]) >= 10


def test_crop_follows_its_seed_and_ranges():
    image = np.random.default_rng(3).integers(0, 256, (30, 40, 3), np.uint8)
    first = augment.random_crop(image, 16, seed=(1, 2))
    np.testing.assert_array_equal(first, augment.random_crop(image, 16, seed=[1, 2]))
    assert np.any(first != augment.random_crop(image, 16, seed=(1, 3)))
    assert np.min(first) >= 0 and np.max(first) <= 1
    # A float image is the same image.
    same = augment.random_crop(image.astype(np.float64) / 255, 16, seed=(1, 2))
    np.testing.assert_allclose(same, first, atol=1e-6)
    # All of a square image is the only box of the whole area.
    whole = augment.random_crop(image[:, :30], 30, (1.0, 1.0), (1.0, 1.0), seed=(1, 2))
    np.testing.assert_allclose(whole, image[:, :30] / 255.0, atol=1e-6)
    # A narrow range of areas, read off a ramp: the slope is the side of the box.
    ramp = np.tile(np.linspace(0, 1, 100, dtype=np.float32)[:, None], (1, 100))
    ramp = np.stack([ramp, ramp.T, ramp], axis=-1)
    for i in range(20):
        crop = augment.random_crop(ramp, 32, (0.2, 0.25), (1.9, 2.1), seed=(i, 0)).numpy()
        height = (crop[-3, 16, 0] - crop[2, 16, 0]) * 32 / 27
        width = (crop[16, -3, 1] - crop[16, 2, 1]) * 32 / 27
        assert 0.19 < height * width < 0.27 and 1.8 < width / height < 2.2


def test_view_is_flip_color_and_blur_in_this_order(monkeypatch):
    calls = []
    for name in ("_flip", "_color", "_randomly_blurred"):
        original = getattr(augment, name)

        def record(batch, *args, name=name, original=original):
            calls.append(name)
            return original(batch, *args)

        monkeypatch.setattr(augment, name, record)
    augment.pretraining_view(random_images(2, 10, 10, 3))
    assert calls == ["_flip", "_color", "_randomly_blurred"]


def test_view_without_color_and_blur_is_a_flip():
    batch = random_images(40, 20, 20, 3)
    views = augment.pretraining_view(batch, (1, 2), strength=0.0, blur=False).numpy()
    mirrored = (views == batch[:, :, ::-1]).all(axis=(1, 2, 3))
    plain = (views == batch).all(axis=(1, 2, 3))
    assert np.all(mirrored | plain) and mirrored.any() and plain.any()
    np.testing.assert_array_equal(augment.random_color(batch, 0.0), batch)


def test_gray_images_stay_gray_and_integers_are_scaled():
    gray = np.repeat(np.random.default_rng(4).integers(0, 256, (32, 9, 9, 1), np.uint8), 3, axis=-1)
    views = augment.random_color(gray, 1.0, seed=(2, 2)).numpy()
    np.testing.assert_allclose(views, views[..., :1].repeat(3, axis=-1), atol=1e-6)
    assert views.max() <= 1 and np.any(np.abs(views - gray / 255.0) > 0.05)
    as_float = augment.random_color(gray / 255.0, 1.0, seed=(2, 2))
    np.testing.assert_allclose(views, as_float, atol=1e-6)


def test_strong_jitter_keeps_its_factors_at_zero_or_above():
    # A negative contrast factor would turn the ramp around; brightness and hue cannot.
    ramp = np.tile(np.linspace(0, 1, 16, dtype=np.float32)[None, :, None], (16, 1, 3))
    views = augment.random_color(np.stack([ramp] * 500), 2.0, seed=(6, 6)).numpy()
    assert np.diff(views, axis=2).min() > -1e-5


# Errors.

IMAGE = random_images(10, 10, 3)


@pytest.mark.parametrize(
    "name, call",
    [
        ("size", lambda: augment.center_crop(IMAGE, 0)),
        ("size", lambda: augment.evaluation_image(IMAGE, -1)),
        ("size", lambda: augment.random_crop(IMAGE, 2.5)),
        ("proportion", lambda: augment.center_crop(IMAGE, 4, 1.5)),
        ("proportion", lambda: augment.center_crop(IMAGE, 4, float("nan"))),
        ("area_range", lambda: augment.random_crop(IMAGE, 4, (0.0, 1.0))),
        ("area_range", lambda: augment.random_crop(IMAGE, 4, (0.5, 0.2))),
        ("area_range", lambda: augment.random_crop(IMAGE, 4, (0.5, 1.2))),
        ("area_range", lambda: augment.random_crop(IMAGE, 4, (0.5,))),
        ("area_range", lambda: augment.random_crop(IMAGE, 4, (0.05, 0.09))),
        ("area_range", lambda: augment.random_crop(IMAGE, 4, (float("nan"), 1.0))),
        ("aspect_range", lambda: augment.random_crop(IMAGE, 4, aspect_range=(0.0, 1.0))),
        ("aspect_range", lambda: augment.random_crop(IMAGE, 4, aspect_range=(1, float("inf")))),
        ("strength", lambda: augment.random_color(IMAGE, -0.1)),
        ("strength", lambda: augment.random_color(IMAGE, float("nan"))),
        ("strength", lambda: augment.pretraining_view(IMAGE, strength=float("inf"))),
        ("version", lambda: augment.random_color(IMAGE, 1.0, "v3")),
        ("version", lambda: augment.pretraining_view(IMAGE, strength=0.0, version="")),
        ("kernel_size", lambda: augment.gaussian_blur(IMAGE, -1, 1.0)),
        ("kernel_size", lambda: augment.random_blur(IMAGE, 1.5)),
        ("sigma", lambda: augment.gaussian_blur(IMAGE, 3, 0.0)),
        ("sigma", lambda: augment.gaussian_blur(IMAGE[None], 3, [1.0, 2.0])),
        ("sigma", lambda: augment.gaussian_blur(IMAGE, 3, [[1.0]])),
        ("probability", lambda: augment.random_blur(IMAGE, 3, 1.1)),
        ("seed", lambda: augment.random_flip(IMAGE, seed=3)),
        ("seed", lambda: augment.random_flip(IMAGE, seed=(1.0, 2.0))),
        ("image", lambda: augment.center_crop(IMAGE[None], 4)),
        ("image", lambda: augment.random_crop(IMAGE[..., :1], 4)),
        ("image", lambda: augment.random_color(IMAGE[0], 1.0)),
        ("images", lambda: augment.random_flip(IMAGE.astype(np.int32))),
    ],
)
def test_errors_name_the_argument(name, call):
    with pytest.raises(ValueError, match=f"^`{name}` must .*Received: {name}"):
        call()


def test_blur_of_unknown_height_needs_its_window():
    trace = tf.function(
        augment.random_blur, input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)]
    )
    with pytest.raises(ValueError, match="`kernel_size` must be given"):
        trace(IMAGE[None])
