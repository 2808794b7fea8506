"""Checks whether folders can be classes, by their names.

Rejects folders that cannot be classes, and notes other possible meanings.
"""

from __future__ import annotations

import collections
import itertools
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Sequence

from simclrv2_tf.datasets import split_names
from simclrv2_tf.datasets.listing import ImageListing, wrong

# Folders with these names often have masks, annotations or thumbnails next to them.
_IMAGES = ("images", "image", "imgs", "img", "jpegimages")

# Folders with such a word and a number are parts of one set, such as `images_001`.
_PARTS = re.compile(
    r"(?:.*[\s_.-])?(?:part|batch|chunk|shard|fold|volume|vol|disk|disc|archive|subset|images|imgs"
    r"|img|photos)[\s_.-]*\d+",
    re.IGNORECASE,
)


def are_parts(folders: Sequence[str]) -> bool:
    """Whether folders differ only in the number of a part, such as `images_001`, `images_002`."""
    stems = {re.sub(r"\d+$", "", folder) for folder in folders}
    names = map(posixpath.basename, folders)
    return len(folders) > 1 and len(stems) == 1 and all(map(_PARTS.fullmatch, names))


def check(images: ImageListing, folders: Sequence[str]) -> list[str]:
    """Returns notes on folders that are read as classes.

    Args:
        images: The whole folder.
        folders: The folders to be read as classes, which hold images.

    Raises:
        DatasetError: The folders cannot be classes.
    """
    _check_mixed(images, folders)
    for folder in folders:
        _check_splits(images, folder)
        _check_mixed(images, images.folders_of_images(folder))
    notes = same_but_for_case(map(class_name, folders))
    if note := _inner_classes(images, folders) or _one_with_classes(images, folders):
        notes.append(note)
    return notes


def _check_mixed(images: ImageListing, folders: Sequence[str]) -> None:
    """Rejects a folder `images` next to other folders, such as folders of masks."""
    named = [path for path in folders if posixpath.basename(path).lower() in _IMAGES]
    others = [path for path in folders if path not in named]
    if named and others:
        rule = (
            f"A folder {posixpath.basename(named[0])}/ must be the only folder of images: masks, "
            "for instance, would be read as photos. Give that folder itself, or move the others "
            "away; folders of classes need other names."
        )
        raise wrong(images.listing, rule, f" with {named[0]}/ next to {others[0]}/")


def _check_splits(images: ImageListing, folder: str) -> None:
    """Rejects folders of splits inside folders of classes."""
    below = images.folders_of_images(folder)
    known = {split_names.canonical(posixpath.basename(path)): path for path in below}
    train, others = known.get("train"), [known[s] for s in ("validation", "test") if s in known]
    if train and others:
        rule = (
            "Folders of splits must contain the folders of classes, not the reverse. If one folder "
            "is the data set, give that folder; else gather the images of all classes in one "
            "train/ and one test/."
        )
        raise wrong(images.listing, rule, f" with {train}/ and {others[0]}/")
    for path in below:
        _check_splits(images, path)


def same_but_for_case(names: Iterable[str]) -> list[str]:
    """Returns a note on each group of classes that may be intended as one class."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        found.setdefault("".join(name.casefold().split()), []).append(name)
    similar = [names for names in found.values() if len(names) > 1]
    return [f"the classes {in_words(names)} differ only in case or spaces" for names in similar]


def class_name(folder: str) -> str:
    """Returns the class of a folder in one Unicode form: systems store accents in two ways."""
    return unicodedata.normalize("NFC", posixpath.basename(folder))


def _inner_classes(images: ImageListing, folders: Sequence[str]) -> str:
    """Returns a note if most folders hold folders of the same names, which may be the classes."""
    deep = [folder for folder in folders if images.holds_classes(folder)]
    counts = collections.Counter(
        itertools.chain.from_iterable(
            map(posixpath.basename, images.folders_of_images(folder)) for folder in deep
        )
    )
    same = [name for name, count in counts.items() if count > len(folders) / 2]
    if len(deep) < 2 or len(same) < 2:
        return ""
    return (
        f"the classes are {in_words(folders)}, which hold folders of the same names "
        f"({_few(same)}); if those are the classes, give one folder, such as "
        f"{posixpath.join(images.listing.root, deep[0])}"
    )


def _one_with_classes(images: ImageListing, folders: Sequence[str]) -> str:
    """Returns a note if one of several folders holds folders, which may be the classes."""
    deep = [folder for folder in folders if images.holds_classes(folder)]
    inner = [
        posixpath.basename(path) for folder in deep for path in images.folders_of_images(folder)
    ]
    if len(deep) != 1 or len(inner) < 2 or len(folders) < 2:
        return ""
    return (
        f"the classes are {in_words(folders)}, of which only {deep[0]} holds folders "
        f"({_few(inner)}); if those are the classes, give "
        f"{posixpath.join(images.listing.root, deep[0])}"
    )


def in_words(names: Sequence[str], most: int = 3) -> str:
    """Joins the first names for a sentence: `a, b and 2 more`."""
    shown = (
        [*names] if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1:,} more"]
    )
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + ", ..." * (len(names) > 3)
