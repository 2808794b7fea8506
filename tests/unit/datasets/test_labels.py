"""Label subsets: the counting rule against loops, which examples they are, and their file."""

import hashlib
import random
import re
from fractions import Fraction

import numpy as np
import pytest
from etils import epath

from simclrv2_tf import datasets
from simclrv2_tf.datasets import DatasetError
from simclrv2_tf.datasets.labels import balanced_weights, draw, hold_out, read, write

SEEDS = range(12)


def names(count):
    return [f"class{label}" for label in range(count)]


def random_set(seed):
    """Ids and labels of an unbalanced data set, some without a label, mixed."""
    rng = random.Random(seed)
    classes = rng.randint(1, 8)
    labels = [
        label for label in range(classes) for _ in range(rng.choice((1, 2, 9, rng.randint(1, 120))))
    ]
    labels += [-1] * rng.randint(0, 30)
    rng.shuffle(labels)
    ids = [f"train/{number}-{rng.random()}" for number in range(len(labels))]
    return ids, labels, names(classes)


def counts_of(chosen, ids, labels):
    label_of = dict(zip(ids, labels, strict=True))
    counts = {}
    for name in chosen:
        counts[label_of[name]] = counts.get(label_of[name], 0) + 1
    return counts


def by_hand(ids, labels, k, seed):
    """The subset with k labels a class, in plain loops."""
    subset = []
    for label in range(max(labels) + 1):
        ranked = []
        for name, own in zip(ids, labels, strict=True):
            if own == label:
                digest = hashlib.blake2b(bytes(f"{seed}:{name}", "utf-8")).hexdigest()
                ranked.append((digest, name))
        ranked.sort()
        subset += [name for _, name in ranked[:k]]
    return tuple(subset)


def most_per_class(sizes, budget):
    """The largest k that fits, one more at a time."""
    k = 0
    while k < max(sizes) and sum(min(size, k + 1) for size in sizes) <= budget:
        k += 1
    return k


def exact_round(fraction, total):
    """Of a decimal string; halves to even."""
    share = Fraction(fraction) * total
    whole = share.numerator // share.denominator
    rest = share - whole
    if rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2):
        whole += 1
    return whole


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fraction", ["0.01", "0.1", "0.145", "0.25", "0.5", "0.83", "1.0"])
def test_fraction_against_loops(seed, fraction):
    ids, labels, class_names = random_set(seed)
    sizes = [labels.count(label) for label in range(len(class_names))]
    budget = exact_round(fraction, sum(sizes))
    k = most_per_class(sizes, budget)
    if k == 0:
        assert budget < len(class_names)
        with pytest.raises(DatasetError, match="`label_fraction` must give each class a label"):
            draw(ids, labels, class_names, label_fraction=float(fraction), seed=seed)
        return
    subset = draw(ids, labels, class_names, label_fraction=float(fraction), seed=seed)
    assert subset == by_hand(ids, labels, k, seed)
    assert len(set(subset)) == len(subset) <= budget
    counts = counts_of(subset, ids, labels)
    assert counts == {label: min(size, k) for label, size in enumerate(sizes)}
    if fraction == "1.0":
        assert set(subset) == {name for name, label in zip(ids, labels, strict=True) if label >= 0}


def test_some_random_sets_are_refused_and_some_not():
    # Otherwise one branch of the test above would check nothing.
    refused = 0
    for seed in SEEDS:
        ids, labels, class_names = random_set(seed)
        try:
            draw(ids, labels, class_names, label_fraction=0.01)
        except DatasetError:
            refused += 1
    assert 0 < refused < len(SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_per_class_against_loops(seed):
    ids, labels, class_names = random_set(seed)
    fewest = min(labels.count(label) for label in range(len(class_names)))
    for k in {1, fewest}:
        subset = draw(ids, labels, class_names, labels_per_class=k, seed=seed)
        assert subset == by_hand(ids, labels, k, seed)
        assert counts_of(subset, ids, labels) == dict.fromkeys(range(len(class_names)), k)


def test_subset_is_the_recorded_one():
    # Recorded, so that a change of Python or of this code cannot give other labels unnoticed.
    ids = [f"train/{number}" for number in range(40)]
    labels = [number % 3 for number in range(40)]
    subset = draw(ids, labels, "abc", labels_per_class=3, seed=7)
    assert subset == RECORDED
    assert subset == by_hand(ids, labels, 3, 7)
    assert draw(["größe/é.png", "日本/1.png"], [0, 0], "a", labels_per_class=2) == UNICODE


RECORDED = (
    "train/30",
    "train/36",
    "train/3",
    "train/37",
    "train/1",
    "train/10",
    "train/14",
    "train/11",
    "train/8",
)
UNICODE = ("größe/é.png", "日本/1.png")


@pytest.mark.parametrize("seed", SEEDS)
def test_order_of_the_examples_does_not_matter(seed):
    ids, labels, class_names = random_set(seed)
    expected = draw(ids, labels, class_names, label_fraction=0.7, seed=1)
    order = random.Random(seed + 100).sample(range(len(ids)), len(ids))
    ids, labels = np.array(ids)[order], np.array(labels)[order]
    drawn = draw(ids, labels, class_names, label_fraction=0.7, seed=1)
    assert drawn == expected
    assert all(type(name) is str for name in drawn)


@pytest.mark.parametrize("seed", SEEDS)
def test_smaller_subsets_lie_inside_larger_ones(seed):
    ids, labels, class_names = random_set(seed)
    smaller = set(draw(ids, labels, class_names, labels_per_class=1))
    for fraction in (0.6, 0.8, 0.9, 1.0):
        try:
            larger = set(draw(ids, labels, class_names, label_fraction=fraction))
        except DatasetError:
            continue
        assert smaller <= larger
        smaller = larger
    assert len(smaller) == sum(label >= 0 for label in labels)


def test_added_examples_replace_few():
    ids = [f"train/{number}" for number in range(1000)]
    labels = [number % 5 for number in range(1000)]
    before = draw(ids[:900], labels[:900], names(5), labels_per_class=40)
    after = draw(ids, labels, names(5), labels_per_class=40)
    added = set(ids[900:])
    assert set(before) - set(after)  # some make room
    assert set(after) - set(before) == set(after) & added  # and only new ones take it


def test_another_seed_is_another_subset():
    ids = [f"train/{number}" for number in range(600)]
    labels = [number % 10 for number in range(600)]
    subsets = {draw(ids, labels, names(10), labels_per_class=6, seed=s) for s in range(5)}
    assert len(subsets) == 5
    # Seeds draw independently: each example is taken about equally often.
    times = dict.fromkeys(ids, 0)
    for seed in range(300):
        for name in draw(ids, labels, names(10), labels_per_class=6, seed=seed):
            times[name] += 1
    assert sum(times.values()) == 300 * 60
    # Binomial, 300 draws at 1/10: mean 30, standard deviation 5.2.
    assert 10 <= min(times.values()) and max(times.values()) <= 52


@pytest.mark.parametrize(
    "fraction, total, classes, expected",
    [
        (0.01, 600, 1, 6),
        (0.29, 100, 1, 29),  # 0.29 * 100 is 28.999999999999996
        (0.07, 100, 7, 7),  # 0.07 * 100 is 7.000000000000001
        (0.145, 100, 1, 14),  # a half, to even; 0.145 * 100 is 14.499999999999998
        (0.155, 100, 1, 16),  # a half, to even; 0.155 * 100 is 15.5
        (0.575, 100, 1, 58),  # a half, to even, but 0.575 * 100 is 57.49999999999999
        (0.01, 60_000, 10, 600),
        (0.1, 10_000, 10, 1000),
        (1e-05, 100_000, 1, 1),
        (np.float64(0.01), 600, 1, 6),
        (1, 3, 3, 3),
        (0.9, 4, 4, 4),
        (0.5, 2, 1, 1),
    ],
)
def test_number_of_labels(fraction, total, classes, expected):
    labels = [number % classes for number in range(total)]
    ids = [str(number) for number in range(total)]
    assert len(draw(ids, labels, names(classes), label_fraction=fraction)) == expected


def test_one_example_a_class():
    ids, labels = ["x", "y", "z"], [2, 0, 1]
    assert draw(ids, labels, "abc", labels_per_class=1) == ("y", "z", "x")
    assert draw(ids, labels, "abc", label_fraction=1.0) == ("y", "z", "x")


# --- Errors -----------------------------------------------------------------------------------


def smallest_that_works(message):
    return re.search(r"the smallest that works is ([0-9.]+)\. Received", message).group(1)


@pytest.mark.parametrize(
    "classes, total",
    [(10, 600), (9, 600), (10, 100), (1, 50), (2, 3), (1, 2), (3, 3), (7, 7), (100, 5000)]
    + [(11, 12_345), (1, 2000), (1000, 1000), (2, 1500), (1, 500)],
)
def test_smallest_fraction_is_right(classes, total):
    ids = [str(number) for number in range(total)]
    labels = [number % classes for number in range(total)]
    with pytest.raises(DatasetError) as caught:
        draw(ids, labels, names(classes), label_fraction=1e-6)
    message = str(caught.value)
    assert f"this one is 0 of {total} labels for {classes} classes" in message
    assert message.endswith("Received: label_fraction=1e-06") and "\n" not in message

    smallest = smallest_that_works(message)
    drawn = draw(ids, labels, names(classes), label_fraction=float(smallest))
    assert len(drawn) == classes
    assert Fraction(smallest) <= 1
    # One less in its last digit, and it does not.
    below = Fraction(smallest) - Fraction(1, 10 ** len(smallest.partition(".")[2]))
    with pytest.raises(DatasetError, match="`label_fraction` must give each class a label"):
        draw(ids, labels, names(classes), label_fraction=float(below))


def test_fraction_error_counts_labelled_examples_only():
    ids = [str(number) for number in range(500)]
    labels = [number % 10 if number < 200 else -1 for number in range(500)]
    with pytest.raises(DatasetError, match="this one is 4 of 200 labels for 10 classes"):
        draw(ids, labels, names(10), label_fraction=0.02)


def test_too_few_examples_of_a_class():
    ids, labels = [str(number) for number in range(12)], [0] * 5 + [1] * 3 + [2] * 4
    message = r"of each class; dog has 3\. Received: labels_per_class=5$"
    with pytest.raises(DatasetError, match=message):
        draw(ids, labels, ["cat", "dog", "emu"], labels_per_class=5)
    assert len(draw(ids, labels, ["cat", "dog", "emu"], labels_per_class=3)) == 9
    # With a fraction, a small class gives what it has.
    assert len(draw(ids, labels, ["cat", "dog", "emu"], label_fraction=0.95)) == 11


@pytest.mark.parametrize("amount", [{"label_fraction": 1.0}, {"labels_per_class": 1}])
@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, 2, 2], "Every class must have a labelled example. Received: dog with none of 3"),
        ([0, 2, -1], "Received: dog with none of 2"),
        ([-1, -1, -1], "needs labels. Received: 3 examples without labels"),
    ],
)
def test_class_without_example(amount, labels, message):
    with pytest.raises(datasets.DatasetError, match=message) as caught:
        draw(["x", "y", "z"], labels, ["cat", "dog", "emu"], **amount)
    assert "\n" not in str(caught.value)


def test_same_id_twice():
    with pytest.raises(DatasetError, match="`ids` must differ from each other"):
        draw(["x", "y", "x"], [0, 1, 1], "ab", labels_per_class=1)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({}, "Exactly one of `label_fraction` and `labels_per_class`"),
        (
            {"label_fraction": 0.5, "labels_per_class": 1},
            "Exactly one of `label_fraction` and `labels_per_class`",
        ),
        ({"label_fraction": 0.0}, "`label_fraction` must be in"),
        ({"label_fraction": 1.01}, "`label_fraction` must be in"),
        ({"label_fraction": float("nan")}, "`label_fraction` must be in"),
        ({"labels_per_class": 0}, "`labels_per_class` must be an integer of at least 1"),
        ({"labels_per_class": 1.5}, "`labels_per_class` must be an integer of at least 1"),
        (
            {"labels_per_class": 1, "labels": [0, 2]},
            "`labels` must be below the number of classes, 2",
        ),
        (
            {"labels_per_class": 1, "labels": [0, 1, 1]},
            "`labels` must have one entry for each of 2",
        ),
    ],
)
def test_arguments_out_of_range(wrong, message):
    arguments = {"ids": ["x", "y"], "labels": [0, 1], "class_names": "ab", **wrong}
    with pytest.raises(ValueError, match=message) as caught:
        draw(**arguments)
    assert "Received: " in str(caught.value) and not isinstance(caught.value, DatasetError)


# --- On disk ----------------------------------------------------------------------------------


def test_list_on_disk(tmp_path):
    path = epath.Path(tmp_path) / "labels.txt"
    ids = ("train/10", "größe/a b.png", "line\u2028separator", "train/2", " spaces ")
    write(path, ids)
    assert read(path) == ids
    assert (tmp_path / "labels.txt").read_bytes() == "".join(f"{i}\n" for i in ids).encode("utf-8")
    write(path, ids[:1])
    assert read(path) == ids[:1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["labels.txt"]
    (tmp_path / "labels.txt").write_bytes(b"train/1\r\ntrain/2")  # as an editor may leave it
    assert read(path) == ("train/1", "train/2")


@pytest.mark.parametrize("name", ["two\nlines", "two\rlines"])
def test_id_with_a_line_break(tmp_path, name):
    path = epath.Path(tmp_path) / "labels.txt"
    with pytest.raises(DatasetError, match="must be one line"):
        write(path, ["train/1", name])
    assert not path.exists()


def test_subset_of_the_packaged_set():
    dataset = datasets.open_dataset("fashion_mnist_small")
    split = dataset.split("train")
    ids, labels = split.labels()
    drawn = draw(ids, labels, dataset.class_names, label_fraction=0.01)
    assert counts_of(drawn, ids.tolist(), labels.tolist()) == dict.fromkeys(range(10), 10)
    subset = split.subset(drawn)
    assert np.bincount(subset.labels()[1]).tolist() == [10] * 10
    assert set(subset.labels()[0]) == set(drawn)


def test_a_share_is_held_out_of_each_class():
    ids = [f"image {n}" for n in range(60)]
    classes = [0] * 40 + [1] * 15 + [2] + [-1] * 4
    held = hold_out(ids, classes, 0.1, seed=3)
    counts = {label: sum(classes[ids.index(name)] == label for name in held) for label in range(3)}
    assert counts == {0: 4, 1: 2, 2: 0} and len(held) == 7  # of four unlabelled, one
    assert held == hold_out(ids, classes, 0.1, seed=3)
    assert held != hold_out(ids, classes, 0.1, seed=4)
    # The order of the examples does not matter; a small label subset stays in larger ones.
    order = list(np.random.default_rng(0).permutation(60))
    shuffled = hold_out([ids[n] for n in order], [classes[n] for n in order], 0.1, seed=3)
    assert set(shuffled) == set(held)
    names = ("a", "b")
    subset = draw(ids[:55], classes[:55], names, labels_per_class=13, seed=3)
    assert not set(subset) & set(held)


def test_balanced_weights_make_classes_count_alike():
    classes = [0] * 7 + [1] + [3] * 12
    found = balanced_weights(classes, 4)
    np.testing.assert_allclose(found, [20 / (4 * 7), 20 / 4, 0, 20 / (4 * 12)])
    sums = [found[label] * classes.count(label) for label in (0, 1, 3)]
    np.testing.assert_allclose(sums, [5, 5, 5])
    np.testing.assert_allclose(balanced_weights([0, 1, 2, 2, 1, 0], 3), 1)
