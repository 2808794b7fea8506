"""Words for splits."""

import pytest

from simclrv2_tf.datasets.split_names import canonical, families

WORDS = {
    "train": [
        "train",
        "Train",
        "TRAINING",
        "training_set",
        "Training set",
        "trainset",
        "train-set",
        "train2017",
        "train_1",
    ],
    "validation": ["val", "Valid", "validation", "Validation_Set", "dev", "val_set", "val-images"],
    "test": ["test", "Testing", "TEST", "eval", "test_set", "test images", "test1", "Evaluation"],
    "unlabelled": ["unlabelled", "Unlabeled", "unsup", "unlabeled_images", "UNLABELLED-DATA"],
}


@pytest.mark.parametrize(
    ("word", "split"), [(word, split) for split, words in WORDS.items() for word in words]
)
def test_words_that_mean_a_split(word, split):
    assert canonical(word) == split


@pytest.mark.parametrize(
    "word", ["", "cat", "trains", "tested", "label", "invalid", "images", "_", "1", "2train"]
)
def test_words_that_mean_none(word):
    assert canonical(word) is None


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["seg_pred", "seg_test", "seg_train"], [{"seg_test": "test", "seg_train": "train"}]),
        (["Final_Training", "Final_Test"], [{"Final_Training": "train", "Final_Test": "test"}]),
        (["val img 9", "train img 9"], [{"val img 9": "validation", "train img 9": "train"}]),
        (["cats_train", "cats_test", "dogs_train", "dogs_val"], [
            {"cats_train": "train", "cats_test": "test"},
            {"dogs_train": "train", "dogs_val": "validation"},
        ]),
        (["steam_train", "test_tube"], []),
        (["steam_train", "model_train"], []),
        (["blood_test", "blood_val"], []),
        (["train", "test"], []),
    ],
)  # fmt: skip
def test_names_that_differ_in_the_word_of_a_split(names, found):
    assert families(names) == found
