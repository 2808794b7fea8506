"""The map by t-SNE."""

import numpy as np
import pytest

from simclrv2_tf.metrics import t_sne
from simclrv2_tf.metrics.principal_components import principal_plane

pytest.importorskip("openTSNE", reason="the extra map is not installed")


@pytest.fixture(scope="module")
def clusters():
    """Rows (120, 16) around six centres, and the centre of each."""
    rng = np.random.default_rng(0)
    centres = np.repeat(np.arange(6), 20)
    return 3 * np.eye(16)[centres] + 0.3 * rng.normal(size=(120, 16)), centres


def nearest_on(points):
    """The nearest other point of each, in a loop."""
    found = []
    for index, point in enumerate(points):
        distances = [np.inf if i == index else sum((p - point) ** 2) for i, p in enumerate(points)]
        found.append(int(np.argmin(distances)))
    return found


def test_clusters_stay_together_where_a_plane_mixes_them(clusters):
    x, centres = clusters
    points = t_sne.t_sne_plane(x)
    assert points.shape == (120, 2) and points.dtype == np.float64
    assert np.array_equal(centres[nearest_on(points)], centres)
    # Six directions of equal variance do not fit into two.
    plane = principal_plane(x).points
    assert np.mean(centres[nearest_on(plane)] != centres) > 0.02


def test_the_same_rows_give_the_same_map(clusters):
    x = clusters[0][:60]
    np.testing.assert_array_equal(t_sne.t_sne_plane(x), t_sne.t_sne_plane(x))


def test_rows_that_do_not_fit():
    rng = np.random.default_rng(0)
    assert t_sne.fits(rng.normal(size=(50, 3))) and t_sne.installed()
    assert not t_sne.fits(rng.normal(size=(49, 3)))
    assert not t_sne.fits(np.ones((60, 3)))
    # One row that differs is enough to scale by.
    assert np.isfinite(t_sne.t_sne_plane(np.eye(60)[:, :3])).all()
