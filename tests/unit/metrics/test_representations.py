"""Rank, spread, alignment and uniformity against their definitions, and what has collapsed."""

import numpy as np
import pytest

from simclrv2_tf.metrics import representations


def vectors(n=40, d=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unit_rows_have_length_1_but_for_zeros(dtype):
    given = np.concatenate([vectors(), 1e4 * vectors(seed=1), np.zeros((1, 6))])
    found = representations.unit_rows(given, dtype)
    assert found.dtype == dtype
    for row, expected in zip(found[:-1], given[:-1], strict=True):
        np.testing.assert_allclose(row, expected / np.sqrt((expected**2).sum()), rtol=1e-5)
    np.testing.assert_array_equal(found[-1], np.zeros(6))
    halves = (1e-4 * vectors()).astype(np.float16)
    lengths = np.linalg.norm(representations.unit_rows(halves, dtype), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_effective_rank_is_the_entropy_of_singular_values():
    x = vectors()
    values = np.sqrt(np.linalg.eigvalsh(np.cov(x.T, bias=True) * len(x)))
    p = values / values.sum()
    assert representations.effective_rank(x) == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert representations.effective_rank(x + 1000) == pytest.approx(
        representations.effective_rank(x)
    )


def test_effective_rank_of_known_shapes():
    square = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    assert representations.effective_rank(square) == pytest.approx(2)
    assert representations.effective_rank(np.outer(np.arange(5), [1, 2, 3])) == pytest.approx(1)
    for point in (np.zeros((5, 3)), np.full((5, 3), 0.1), np.ones((1, 3))):
        assert representations.effective_rank(point) == 0


def test_spread_is_1_in_all_directions_and_0_in_one():
    assert representations.spread(vectors(4000)) == pytest.approx(1, abs=0.02)
    assert representations.spread(7 * vectors()) == pytest.approx(representations.spread(vectors()))
    assert representations.spread(np.tile([[1.0, 2.0]], (5, 1))) == pytest.approx(0, abs=1e-7)


def test_alignment_and_uniformity_by_loops():
    z1, z2 = vectors(7), vectors(7, seed=1)
    u1, u2 = ([row / np.sqrt((row**2).sum()) for row in z] for z in (z1, z2))
    aligned = [((a - b) ** 2).sum() for a, b in zip(u1, u2, strict=True)]
    assert representations.alignment(z1, z2) == pytest.approx(np.mean(aligned))
    pairs = [np.exp(-2 * ((u1[i] - u1[j]) ** 2).sum()) for i in range(7) for j in range(i)]
    assert representations.uniformity(z1) == pytest.approx(np.log(np.mean(pairs)))
    assert representations.alignment(z1, 3 * z1) == pytest.approx(0)
    assert representations.uniformity(np.ones((4, 3))) == pytest.approx(0)
    assert representations.uniformity(np.ones((1, 3))) == 0


@pytest.mark.parametrize("broken", ["point", "line"])
@pytest.mark.parametrize("where", ["representation", "embedding"])
def test_collapse_of_either_is_named(broken, where):
    h, z = vectors(d=8), vectors(d=5)
    assert representations.collapsed(representations.measure(h, h, z, z)) is None
    bad = np.ones((40, 4)) if broken == "point" else np.outer(np.linspace(-1, 1, 40), np.ones(4))
    h, z = (bad, z) if where == "representation" else (h, bad)
    assert where in representations.collapsed(representations.measure(h, h, z, z))


def test_embeddings_say_nothing_before_the_moving_statistics_do():
    h, point = vectors(d=8), np.ones((40, 4))
    assert (
        representations.collapsed(representations.measure(h, h, point, point), settled=False)
        is None
    )
    assert representations.collapsed(representations.measure(point, point, h, h), settled=False)
    for decay in (0.9, 0.99, 0.5):
        steps = representations.settled_after(decay)
        assert decay**steps <= 0.01 < decay ** (steps - 1)
    assert representations.settled_after(0.0) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_no_number(value):
    broken = vectors()
    broken[3, 2] = value
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        representations.measure(vectors(), vectors(), vectors(), broken)
