"""The words by which folders, and tables of labels, call the splits of a data set."""

import re

_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "validate", "dev", "development"),
    "test": ("test", "testing", "eval", "evaluation"),
    "unlabelled": ("unlabelled", "unlabeled", "unsup", "unsupervised"),
}
_ENDINGS = ("", "set", "data", "dataset", "images", "split")
_SPLITS = {
    word + end: split for split, words in _WORDS.items() for word in words for end in _ENDINGS
}

# These are names of classes too, as in valid/ and invalid/.
DOUBTFUL = ("valid", "dev", "eval")


def canonical(name: str) -> str | None:
    """The split that a word means: `train`, `validation`, `test` or `unlabelled`; None: none.

    Case does not count, nor do spaces, `_`, `-` and `.`: `Training set` means `train`.
    """
    return _SPLITS.get(re.sub(r"[\s_.-]+", "", name).casefold())
