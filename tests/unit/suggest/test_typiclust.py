"""The choice of images, against loops written from the paper (arXiv 2202.02794)."""

import numpy as np
import pytest

from simclrv2_tf.metrics.representations import unit_rows
from simclrv2_tf.suggest import typiclust


def blobs(sizes, width=6, spread=0.05, seed=0):
    """Unit rows around as many directions; the number of each row's direction."""
    rng = np.random.default_rng(seed)
    centers = unit_rows(rng.normal(size=(len(sizes), width)))
    kinds = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x = centers[kinds] + spread * rng.normal(size=(len(kinds), width))
    return unit_rows(x, np.float32), kinds


def slow_typicality(x):
    """Equation 4: one over the mean distance to the nearest neighbours."""
    found = []
    for i, own in enumerate(x):
        others = sorted(float(np.linalg.norm(own - x[j])) for j in range(len(x)) if j != i)
        nearest = others[: min(20, len(x) // 2)]
        found.append(len(nearest) / sum(nearest) if nearest else 0.0)
    return np.array(found)


@pytest.mark.parametrize("rows", [1, 2, 3, 30, 90])
def test_typicality_is_that_of_loops(rows):
    x, _ = blobs([rows])
    np.testing.assert_allclose(typiclust.typicality(x), slow_typicality(x), rtol=1e-4)


def slow_choice(x, assigned, labelled, count):
    """Section 3.2: the most typical image of the largest cluster without a label, and again."""
    labelled, found = labelled.copy(), []
    for _ in range(count):
        uncovered = [c for c in {*assigned.tolist()} if not labelled[assigned == c].any()]
        largest = max(uncovered, key=lambda c: (np.sum(assigned == c), -c))
        members = np.flatnonzero(assigned == largest)
        best = members[np.argmax(slow_typicality(x[members]))]
        labelled[best] = True
        found.append((int(best), largest))
    return found


@pytest.mark.parametrize(
    ("count", "has_label"), [(4, 0), (9, 0), (5, 4), (12, 30)], ids=["few", "all", "some", "many"]
)
def test_a_choice_is_that_of_loops(count, has_label):
    x, _ = blobs([40, 35, 30, 25, 20, 15, 12, 11, 9], spread=0.2)
    labelled = np.zeros(len(x), bool)
    labelled[np.random.default_rng(1).choice(len(x), has_label, replace=False)] = True
    found = typiclust.choose(x, labelled, count, seed=3)
    assigned = typiclust.clusters(x, min(count + has_label, len(x)), 3)
    least = min(6, len(x) / (assigned.max() + 1) / 2)
    small = np.flatnonzero(np.bincount(assigned) < least)
    # The loop knows no small clusters: it is given none.
    kept = ~np.isin(assigned, small)
    places = np.flatnonzero(kept)
    uncovered = {*assigned[kept].tolist()} - {*assigned[labelled].tolist()}
    expected = slow_choice(x[kept], assigned[kept], labelled[kept], min(count, len(uncovered)))
    assert len(expected) >= min(count, 3)
    got = [(choice.row, choice.cluster) for choice in found[: len(expected)]]
    assert got == [(int(places[row]), cluster) for row, cluster in expected]
    assert len({choice.row for choice in found}) == len(found) == count
    assert not labelled[[choice.row for choice in found]].any()
    for choice in found:
        members = np.flatnonzero(assigned == choice.cluster)
        assert choice.size == len(members)
        expected = slow_typicality(x[members])[members.tolist().index(choice.row)]
        assert choice.typicality == pytest.approx(expected, rel=1e-4)


def test_each_group_of_images_is_chosen_once():
    x, kinds = blobs([60, 50, 40, 30, 20], spread=0.01)
    found = typiclust.choose(x, np.zeros(len(x), bool), 5)
    assert [kinds[choice.row] for choice in found] == [0, 1, 2, 3, 4]
    # What is covered is not chosen from, however large: one more cluster than there are groups.
    labelled = (kinds == 0) & (np.cumsum(kinds == 0) == 1)
    found = typiclust.choose(x, labelled, 4)
    assert {1, 2, 3, 4} >= {kinds[choice.row] for choice in found[:3]}


@pytest.mark.parametrize("count", [3, 60])
def test_the_same_seed_chooses_the_same(count):
    x, _ = blobs([600], spread=0.3)
    none = np.zeros(len(x), bool)
    assert typiclust.choose(x, none, count, 1) == typiclust.choose(x, none, count, 1)
    rows = [{c.row for c in typiclust.choose(x, none, count, seed)} for seed in (1, 2)]
    assert rows[0] != rows[1]


def test_clusters_are_numbered_by_size_and_are_nearest_to_their_centers():
    x, kinds = blobs([50, 90, 20], spread=0.01)
    found = typiclust.clusters(x, 3)
    assert np.bincount(found).tolist() == [90, 50, 20]
    assert {(k, c) for k, c in zip(kinds.tolist(), found.tolist(), strict=True)} == {
        (0, 1),
        (1, 0),
        (2, 2),
    }
    many = typiclust.clusters(blobs([200] * 3, spread=0.4)[0], 60)
    sizes = np.bincount(many)
    assert len(sizes) > 50 and np.all(np.diff(sizes) <= 0) and sizes.min() > 0


def test_outliers_come_last():
    x, kinds = blobs([60, 50, 40, 2], spread=0.01)
    found = typiclust.choose(x, np.zeros(len(x), bool), 4)
    assert kinds[found[-1].row] != 3, "an outlier, where other clusters have images left"
    found = typiclust.choose(x, np.zeros(len(x), bool), 152)
    assert len(found) == 152 and {c.row for c in found} == {*range(152)}


def test_small_sets_are_covered():
    """Clusters of two images on average are no outliers."""
    x, kinds = blobs([2] * 12, spread=0.01)
    found = typiclust.choose(x, np.zeros(len(x), bool), 12)
    assert {kinds[choice.row] for choice in found} == {*range(12)}


def test_copies_are_chosen_once_and_not_beside_a_label():
    x, _ = blobs([12, 11, 10], spread=0.2)
    copied = np.repeat(x, 3, axis=0)
    copied += np.float32(1e-7) * np.random.default_rng(0).normal(size=copied.shape)  # rounding
    copied = copied.astype(np.float32)
    found = typiclust.choose(copied, np.zeros(len(copied), bool), 99)
    assert sorted(choice.row // 3 for choice in found) == [*range(33)]
    labelled = np.zeros(len(copied), bool)
    labelled[[0, 3]] = True
    found = typiclust.choose(copied, labelled, 99)
    assert sorted(choice.row // 3 for choice in found) == [*range(2, 33)]


def test_images_that_are_all_the_same():
    x = np.repeat(blobs([1])[0], 40, axis=0)
    (found,) = typiclust.choose(x, np.zeros(40, bool), 10)
    assert (found.cluster, found.size, found.typicality) == (0, 40, 1e6)
    assert typiclust.choose(x, np.arange(40) == 7, 10) == []
    assert typiclust.choose(x[:1], np.zeros(1, bool), 10) == [typiclust.Choice(0, 0, 1, 0.0)]
    assert typiclust.choose(x[:0], np.zeros(0, bool), 10) == []


def test_more_labels_than_clusters(monkeypatch):
    """At most 500 clusters: then those with the fewest labels are next, the largest first."""
    monkeypatch.setattr(typiclust, "_MOST_CLUSTERS", 3)
    x, kinds = blobs([60, 50, 40], spread=0.01)
    labelled = np.zeros(len(x), bool)
    for kind, count in enumerate((3, 1, 2)):
        labelled[np.flatnonzero(kinds == kind)[:count]] = True
    found = typiclust.choose(x, labelled, 4)
    assert [kinds[choice.row] for choice in found] == [1, 1, 2, 0]


def test_bad_arguments():
    x, _ = blobs([5])
    with pytest.raises(ValueError, match="`count` must be at least 1. Received: count=0"):
        typiclust.choose(x, np.zeros(5, bool), 0)
    with pytest.raises(ValueError, match="one entry for each row"):
        typiclust.choose(x, np.zeros(4, bool), 1)


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch):
    typiclust.check_installed()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(typiclust.PackageError) as caught:
        typiclust.check_installed()
    assert str(caught.value).endswith("pip install 'simclrv2-tf[suggest]'.")
    assert caught.value.exit_status == 2
