"""The EXIF orientation of a JPEG file: how to rotate the stored pixels for display.

Uses TensorFlow's operations, so that a pipeline, a SavedModel and a single call agree.
"""

import tensorflow as tf

_APP1, _COMMENT = 0xE1, 0xFE
_ORIENTATION, _SHORT, _LONG = 0x0112, 3, 4  # tag and types (TIFF 6.0; Exif 2.3, 4.6.4)
_EXIF = b"Exif\0\0"
_MOST_SEGMENTS, _MOST_ENTRIES = 64, 256


def jpeg_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Reads the orientation of a JPEG file, () string, from its first Exif segment.

    Returns:
        () int32 from 1 (as stored) to 8; 1 if the orientation is missing or damaged.
    """

    encoded = tf.ensure_shape(tf.convert_to_tensor(encoded), ())

    def segment(position):
        """Marker, length and the first bytes of the content, in one read: most files have none."""
        return _bytes(encoded, position, 4 + len(_EXIF))

    def is_exif(head):
        return tf.reduce_all(head[1:2] == _APP1) & tf.reduce_all(head[4:] == list(_EXIF))

    def is_before_the_image(head):
        # Exif comes before the image: a marker of another kind ends the search.
        return (head[0] == 0xFF) & ((head[1] & 0xF0 == 0xE0) | (head[1] == _COMMENT))

    def next_segment(position, number, head):
        position += 2 + head[2] * 256 + head[3]
        return position, number + 1, segment(position)

    first = tf.constant(2)
    position, _, head = tf.while_loop(
        lambda position, number, head: (
            is_before_the_image(head) & ~is_exif(head) & (number < _MOST_SEGMENTS)
        ),
        next_segment,
        (first, tf.constant(0), segment(first)),
    )
    begin = position + 4 + len(_EXIF)
    is_found = (head[0] == 0xFF) & is_exif(head)
    return tf.cond(is_found, lambda: _of_tiff(encoded, begin), lambda: tf.constant(1, tf.int32))


def _of_tiff(encoded: tf.Tensor, begin: tf.Tensor) -> tf.Tensor:
    """The orientation in the first directory of the TIFF header at `begin`."""
    is_little = _part(encoded, begin, 2) == b"II"

    def number(values):
        values = tf.where(is_little, tf.reverse(values, [-1]), values)
        # A value of four bytes beyond any file's length must stay beyond it.
        weights = [256**power for power in range(values.shape[-1] - 1, -1, -1)]
        total = tf.reduce_sum(tf.cast(values, tf.int64) * tf.constant(weights, tf.int64), -1)
        return tf.cast(tf.minimum(total, 2**30), tf.int32)

    directory = begin + number(_bytes(encoded, begin + 4, 4))
    count = tf.minimum(number(_bytes(encoded, directory, 2)), _MOST_ENTRIES)
    entries = tf.reshape(_bytes(encoded, directory + 2, 12 * _MOST_ENTRIES), (-1, 12))[:count]
    kind = number(entries[:, 2:4])
    short, long = number(entries[:, 8:10]), number(entries[:, 8:12])
    value = tf.where(kind == _SHORT, short, tf.where(kind == _LONG, long, 0))  # LONG breaks a rule
    values = tf.where(number(entries[:, 0:2]) == _ORIENTATION, value, 0)
    value = tf.reduce_max(tf.concat([values, [1]], axis=0))
    return tf.where(value <= 8, value, 1)


def turned(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Rotates and mirrors a stored image for display.

    Args:
        image: (H, W, C).
        orientation: () int32 from 1 to 8.

    Returns:
        (H, W, C), or (W, H, C) from 5 on.
    """

    def transposed(image):
        return tf.transpose(image, (1, 0, 2))

    ways = (
        lambda: image,
        lambda: tf.reverse(image, [1]),
        lambda: tf.reverse(image, [0, 1]),
        lambda: tf.reverse(image, [0]),
        lambda: transposed(image),
        lambda: transposed(tf.reverse(image, [0])),
        lambda: transposed(tf.reverse(image, [0, 1])),
        lambda: transposed(tf.reverse(image, [1])),
    )
    orientation = tf.convert_to_tensor(orientation)
    # Most images need no change: one comparison instead of eight branches.
    return tf.cond(orientation == 1, ways[0], lambda: tf.switch_case(orientation - 1, ways))


def _part(encoded: tf.Tensor, begin: tf.Tensor, length: int) -> tf.Tensor:
    """Returns `length` bytes from `begin` on, () string; zeros after the end."""
    size = tf.strings.length(encoded)
    part = tf.strings.substr(encoded, tf.minimum(begin, tf.maximum(size - 1, 0)), length)
    part = tf.where(begin < size, part, "")
    return tf.strings.substr(tf.strings.join([part, bytes(length)]), 0, length)


def _bytes(encoded: tf.Tensor, begin: tf.Tensor, length: int) -> tf.Tensor:
    """Same as `_part`, as (length,) int32 numbers."""
    values = tf.io.decode_raw(_part(encoded, begin, length), tf.uint8)
    return tf.ensure_shape(tf.cast(values, tf.int32), (length,))
