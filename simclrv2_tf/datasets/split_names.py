"""The names that folders and tables of labels use for the splits of a data set."""

import re
from collections.abc import Iterable

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

# These can also be names of classes, as in valid/ and invalid/.
DOUBTFUL = ("valid", "dev", "eval")


def canonical(name: str) -> str | None:
    """Returns the split that a word means: `train`, `validation`, `test` or `unlabelled`, or None.

    Ignores case, spaces, `_`, `-`, `.` and a number at the end: `Training set` and `train2017` mean
    `train`.
    """
    word = re.sub(r"[\s_.-]+", "", name).casefold()
    return _SPLITS.get(word) or _SPLITS.get(word.rstrip("0123456789"))


def families(names: Iterable[str]) -> list[dict[str, str]]:
    """Finds names that differ only in the word of a split, such as `seg_train` and `seg_test`.

    Returns:
        For each family of names with `train` and another split, a map from name to split.
    """
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        words = re.split(r"[\s_.-]+", name.casefold())
        for place, word in enumerate(words):
            if (split := canonical(word)) and len(words) > 1:
                found.setdefault((*words[:place], "", *words[place + 1 :]), {})[name] = split
    splits = [{*family.values()} for family in found.values()]
    return [
        family
        for family, known in zip(found.values(), splits, strict=True)
        if "train" in known and len(known) > 1
    ]
