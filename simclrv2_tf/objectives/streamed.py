"""NT-Xent's sums over keys, from the whole matrix of logits or streamed over blocks."""

from etils import epy

with epy.lazy_imports():
    import keras
    import tensorflow as tf
    from keras import ops

# The logit of a key that is not a negative: finite, because -inf - -inf is NaN in a masked block.
_MASKED = -1e30
# The image index of a key from outside the batch, and of an invalid key or padding.
NO_IMAGE, NO_KEY = -1, -2
_ENTROPY_EPSILON = 1e-8


def mask(logits, anchor_image, key_image):
    """(A, M) logits, (A,), (M,) -> (A, M), in which only the negatives keep their logits."""
    other = ops.not_equal(anchor_image[:, None], key_image[None, :])
    return ops.where(ops.logical_and(other, key_image[None, :] != NO_KEY), logits, _MASKED)


def metrics_of(logits, label):
    """(b, N) logits, (b,) column of the positive -> accuracy (), entropy ()."""
    p = ops.exp(ops.log_softmax(logits))
    entropy = -ops.sum(p * ops.log(p + _ENTROPY_EPSILON), axis=-1)
    return _metrics(ops.argmax(logits, axis=-1), label, entropy)


def _metrics(predicted, label, entropy):
    hit = ops.equal(ops.cast(predicted, "int32"), ops.cast(label, "int32"))
    accuracy = ops.mean(ops.cast(hit, "float32"))
    return {"contrast_accuracy": accuracy, "contrast_entropy": ops.mean(entropy)}


def logsumexp(anchors, keys, anchor_image, key_image, chunk_size):
    """Returns the logsumexp (A,) of every anchor's negative logits, in blocks of keys.

    Args: anchors (A, d), divided by the temperature; keys (M, d); their images (A,) and (M,).
    """
    keys, chunk_size, num_blocks = _in_blocks(keys, chunk_size)
    key_image = ops.pad(key_image, ((0, chunk_size - 1),), constant_values=NO_KEY)

    @ops.custom_gradient
    def blockwise(anchors, keys):
        def block_logits(index):
            block = _rows(keys, index, chunk_size)  # (chunk, d)
            logits = ops.matmul(anchors, ops.transpose(block))  # (A, chunk)
            images = ops.slice(key_image, (index * chunk_size,), (chunk_size,))
            return block, mask(logits, anchor_image, images)

        def accumulate(index, state):
            return _add_to_logsumexp(state, block_logits(index)[1])

        maximum, total = _fold(accumulate, _empty_logsumexp(anchors), num_blocks)

        def grad(*args, upstream=None):
            if upstream is None:
                (upstream,) = args
            scale = upstream / total  # (A,)

            def accumulate_gradients(index, state):
                anchors_grad, keys_grad = state
                block, logits = block_logits(index)
                # An anchor without negatives has an upstream of 0, so its masked logits add 0.
                logits_grad = ops.exp(logits - maximum[:, None]) * scale[:, None]  # (A, chunk)
                anchors_grad = anchors_grad + ops.matmul(logits_grad, block)
                block_grad = ops.matmul(ops.transpose(logits_grad), anchors)  # (chunk, d)
                keys_grad = ops.slice_update(keys_grad, (index * chunk_size, 0), block_grad)
                return anchors_grad, keys_grad

            zeros = (ops.zeros_like(anchors), ops.zeros_like(keys))
            return _fold(accumulate_gradients, zeros, num_blocks)

        return maximum + ops.log(total), grad

    return blockwise(anchors, keys)


def contrast_metrics(anchors, keys, label, chunk_size):
    """Returns `metrics_of` the logits of anchors (b, d) and keys (N, d), in blocks of keys."""
    count = ops.shape(keys)[0]
    keys, chunk_size, num_blocks = _in_blocks(keys, chunk_size)

    def block_logits(index):
        logits = ops.matmul(anchors, ops.transpose(_rows(keys, index, chunk_size)))  # (b, chunk)
        inside = index * chunk_size + ops.arange(chunk_size) < count
        return ops.where(inside[None, :], logits, _MASKED)

    def find_best(index, state):
        sums, best = state
        logits = block_logits(index)
        # The first of equal logits wins, as in argmax over the whole row.
        better = ops.max(logits, axis=-1) > sums[0]
        found = index * chunk_size + ops.cast(ops.argmax(logits, axis=-1), "int32")
        return _add_to_logsumexp(sums, logits), ops.where(better, found, best)

    empty = _empty_logsumexp(anchors)
    none_yet = ops.zeros_like(empty[0], dtype="int32")
    (maximum, total), best = _fold(find_best, (empty, none_yet), num_blocks)

    def add_entropy(index, entropy):
        # Normalized in two steps: next to a large maximum, log(total) would lose its digits.
        p = ops.exp(block_logits(index) - maximum[:, None]) / total[:, None]
        return entropy - ops.sum(p * ops.log(p + _ENTROPY_EPSILON), axis=-1)

    entropy = _fold(add_entropy, ops.zeros_like(maximum), num_blocks)
    return _metrics(best, label, entropy)


def _in_blocks(keys, chunk_size):
    """Pads keys (M, d) for whole blocks. Returns them, the size and the number of blocks."""
    if keys.shape[0] is not None:
        chunk_size = max(1, min(chunk_size, keys.shape[0]))
    num_blocks = (ops.shape(keys)[0] + chunk_size - 1) // chunk_size
    # Enough padding for any number of keys, whose number may be unknown here.
    return ops.pad(keys, ((0, chunk_size - 1), (0, 0))), chunk_size, num_blocks


def _empty_logsumexp(anchors):
    """Returns the logsumexp (A,) of no logits, as (largest logit so far, sum relative to it)."""
    zeros = ops.zeros_like(anchors[:, 0])
    return zeros + _MASKED, zeros


def _add_to_logsumexp(state, logits):
    maximum, total = state
    new_maximum = ops.maximum(maximum, ops.max(logits, axis=-1))
    block_total = ops.sum(ops.exp(logits - new_maximum[:, None]), axis=-1)
    return new_maximum, total * ops.exp(maximum - new_maximum) + block_total


def _fold(body, state, num_blocks):
    """Same as `ops.fori_loop` from 0, but never runs two iterations in parallel.

    TensorFlow's graph executor runs up to ten in parallel, with ten blocks in memory.
    """
    if keras.backend.backend() != "tensorflow":
        return ops.fori_loop(0, num_blocks, body, state)
    return tf.while_loop(
        lambda index, _: index < num_blocks,
        lambda index, state: (index + 1, body(index, state)),
        (0, state),
        parallel_iterations=1,
    )[1]


def _rows(x, index, size):
    return ops.slice(x, (index * size, 0), (size, ops.shape(x)[1]))
