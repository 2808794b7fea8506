"""Words for splits."""

import pytest

from simclrv2_tf.datasets.split_names import canonical

WORDS = {
    "train": [
        "train",
        "Train",
        "TRAINING",
        "training_set",
        "Training set",
        "trainset",
        "train-set",
    ],
    "validation": ["val", "Valid", "validation", "Validation_Set", "dev", "val_set", "val-images"],
    "test": ["test", "Testing", "TEST", "eval", "test_set", "test images", "Evaluation"],
    "unlabelled": ["unlabelled", "Unlabeled", "unsup", "unlabeled_images", "UNLABELLED-DATA"],
}


@pytest.mark.parametrize(
    ("word", "split"), [(word, split) for split, words in WORDS.items() for word in words]
)
def test_words_that_mean_a_split(word, split):
    assert canonical(word) == split


@pytest.mark.parametrize("word", ["", "cat", "trains", "tested", "label", "invalid", "images", "_"])
def test_words_that_mean_none(word):
    assert canonical(word) is None
