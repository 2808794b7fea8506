"""Random images, and comparisons of samples with recorded distributions."""

import numpy as np

# Differences from a recording are allowed this many standard errors. A file makes a few hundred
# such comparisons, most of them correlated; at 4.5 a correct program fails one in 1e3 seeds.
ERRORS = 4.5


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def assert_quantiles(sample, quantiles, levels, draws, fuzz):
    """Checks the share of `sample` below each recorded quantile: its level, up to sampling error.

    The share has the binomial variance p (1 - p) / n, once for either sample. A value with its own
    mass (an unchanged image, a whole pixel) makes the share jump: the level must then lie
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
