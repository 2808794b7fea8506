"""The plane of a map."""

import numpy as np
import pytest

from simclrv2_tf.metrics.principal_components import principal_plane


@pytest.mark.parametrize("count", [500, 9])
def test_the_plane_is_that_of_the_largest_singular_values(count):
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(20, 20)))
    given = rng.normal(size=(count, 20)) * np.geomspace(9, 0.01, 20) @ basis + 7
    plane = principal_plane(given)
    left, values, _ = np.linalg.svd(given - given.mean(0), full_matrices=False)
    np.testing.assert_allclose(plane.explained, values[:2] ** 2 / np.sum(values**2))
    expected = left[:, :2] * values[:2]
    np.testing.assert_allclose(np.abs(plane.points), np.abs(expected), atol=1e-9)


def test_the_same_rows_in_another_order_give_the_same_points():
    rng = np.random.default_rng(1)
    given, order = rng.normal(size=(40, 5)), rng.permutation(40)
    first, second = principal_plane(given), principal_plane(given[order])
    np.testing.assert_allclose(second.points, first.points[order], atol=1e-9)


@pytest.mark.parametrize(
    ("rows", "explained"),
    [([[1.0, 2.0]] * 3, [0, 0]), ([[0.0], [1.0], [5.0]], [1, 0]), ([[1.0, 2, 3]], [0, 0])],
)
def test_rows_that_vary_in_fewer_directions(rows, explained):
    plane = principal_plane(np.array(rows))
    np.testing.assert_allclose(plane.explained, explained, atol=1e-12)
    assert plane.points.shape == (len(rows), 2)
    assert np.isfinite(plane.points).all()
