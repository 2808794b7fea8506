"""Statistics of embeddings over the N images of the global batch."""

from etils import epy

from simclrv2_tf.objectives.base import float32

with epy.lazy_imports():
    from keras import ops

    from simclrv2_tf import distribute

_NORM_EPSILON = 1e-12  # on the squared norm, as in the reference
# On variances, as in the released code of VICReg, and in the batch norm of Barlow Twins' code.
_DEVIATION_EPSILON, _STANDARDIZE_EPSILON = 1e-4, 1e-5


def unit_rows(x):
    """(N, d) -> (N, d), each row scaled to length 1; rows of zeros stay zeros."""
    squared = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squared, _NORM_EPSILON))


def gather_views(z1, z2):
    """Two (b, d) of this replica -> two (N, d), the same on every replica.

    The statistics of a batch are not the mean of the statistics of its parts, so every replica
    computes the whole objective. Gathering then sums R equal gradients for this replica's rows, so
    that the mean over replicas is the gradient of the global batch.
    """
    return distribute.all_gather(z1), distribute.all_gather(z2)


def center(z):
    """(N, d) -> (N, d), the mean of each column subtracted."""
    # The mean of equal large numbers may differ in its last digit, which would look like variance.
    # Subtracting the first row makes equal rows exactly 0, and changes nothing else.
    z = z - ops.stop_gradient(z[:1])
    return z - ops.mean(z, axis=0)


def standardize(z):
    """(N, d) -> (N, d), each column of mean 0 and (biased) variance 1."""
    z = center(z)
    return z * ops.rsqrt(ops.mean(ops.square(z), axis=0) + _STANDARDIZE_EPSILON)


def variance_hinge(*centered):
    """(N, d) of each view -> () mean of max(0, 1 - the columns' standard deviations)."""
    variances = (ops.sum(ops.square(z), axis=0) / _one_less(z) for z in centered)  # (d,) each
    short = [ops.mean(ops.relu(1.0 - ops.sqrt(v + _DEVIATION_EPSILON))) for v in variances]
    return sum(short) / len(short)


def covariance_energy(centered):
    """(N, d) -> () sum of the squared off-diagonal entries of the covariance, divided by d."""
    covariance = ops.matmul(ops.transpose(centered), centered) / _one_less(centered)
    return ops.sum(ops.square(without_diagonal(covariance))) / float32(ops.shape(centered)[1])


def covariance_contrast(z, covariance, beta, diagonal=True, into_covariance=True):
    """(N, d), (d, d) -> mean((z C) . z) (), and C (d, d), the running mean of z^T z / N.

    Without `into_covariance`, the gradient treats C as a constant.
    """
    now = mean_outer_product(z, z)
    beta = float32(beta)
    covariance = beta * ops.stop_gradient(covariance) + (1.0 - beta) * now
    if not into_covariance:
        covariance = ops.stop_gradient(covariance)
    counted = covariance if diagonal else without_diagonal(covariance)
    # The mean over rows of sum_ij z_i C_ij z_j, without the (N, d) product z C.
    return ops.sum(counted * now), ops.stop_gradient(covariance)


def mean_outer_product(x, y):
    """(N, d), (N, d) -> x^T y / N (d, d)."""
    return ops.matmul(ops.transpose(x), y) / float32(ops.shape(x)[0])


def without_diagonal(matrix):
    """(d, d) -> (d, d), zeros in the diagonal."""
    index = ops.arange(ops.shape(matrix)[0])
    return ops.where(index[:, None] == index[None, :], 0.0, matrix)


def _one_less(z):
    """Returns the denominator N - 1 of unbiased statistics of (N, d); 1 for one row."""
    return ops.maximum(float32(ops.shape(z)[0]) - 1.0, 1.0)
