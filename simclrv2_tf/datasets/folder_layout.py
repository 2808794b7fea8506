"""How the images of a folder lie in splits and classes, told from names alone.

A layout is read from a listing, as `FolderTree` gives it, without TensorFlow and without opening an
image. `folder.open_dataset` describes the layouts.
"""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from simclrv2_tf.datasets import split_names
from simclrv2_tf.datasets.sources import DatasetError

TRAIN, VALIDATION, TEST, UNLABELLED = "train", "validation", "test", "unlabelled"

_TABLES = ("labels.csv", "metadata.csv", "labels.tsv", "metadata.tsv")

# The only folder of a split often has such a name, and is no class.
_NO_CLASS = ("all", "images", "img", "imgs", "unknown")


class Listing(Protocol):
    """A folder's content, without what is no part of it; see `FolderTree`."""

    root: str

    def list(self, folder: str) -> tuple[list[str], list[str]]:
        """Paths below the root of a folder's files and of its subfolders, sorted."""

    def walk(self, folder: str) -> Iterator[str]:
        """Paths below the root of all files in a folder, at any depth."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Splits and classes of a folder of images.

    Attributes:
        splits: Split name -> path of an image below the root -> its class; None: unlabelled. There
            is always `train`.
        folders: Split name -> the folder of its images, where there is one.
        table: The table that tells the classes; None: folders do.
        notes: What can be taken in two ways, and how it was taken; a line each.
        files: What is to be said of single files, by path.
    """

    splits: Mapping[str, Mapping[str, str | None]]
    folders: Mapping[str, str] = dataclasses.field(default_factory=dict)
    table: str | None = None
    notes: tuple[str, ...] = ()
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of `train`, sorted as text: "10" comes before "2"."""
        return tuple(sorted({name for name in self.splits[TRAIN].values() if name is not None}))


def wrong(listing: Listing, rule: str, found: str = "") -> DatasetError:
    """The error of a folder that breaks a rule."""
    return DatasetError(f"{rule} Received: folder:{listing.root}{found}")


def table_of(listing: Listing, folder: str = "") -> str | None:
    """The table of labels in a folder, see `folder_table`; None where there is none.

    Raises:
        DatasetError: There are several.
    """
    files, _ = listing.list(folder)
    tables = [path for path in files if posixpath.basename(path).lower() in _TABLES]
    if len(tables) > 1:
        rule = "A folder must have one table of labels; rename the others."
        raise wrong(listing, rule, f" with {' and '.join(tables)}")
    return tables[0] if tables else None


def wrapped(listing: Listing, is_image: Callable[[str], bool]) -> str | None:
    """The folder that holds all classes or splits, where folders around it hold nothing else.

    So an archive that was unpacked a level too deep is read. A folder of images is no such folder,
    but a class, and so is one in which all images lie in one folder.
    """
    return _Reader(listing, is_image).wrapped("")


def read(listing: Listing, is_image: Callable[[str], bool], formats: str) -> Layout:
    """Reads the layout of a folder in which folders are splits and classes.

    Args:
        listing: The folder.
        is_image: Whether a name is an image's.
        formats: The endings of images, for messages.

    Raises:
        DatasetError: There are no images, or splits and classes contradict each other.
    """
    return _Reader(listing, is_image).layout(formats)


class _Reader:
    def __init__(self, listing: Listing, is_image: Callable[[str], bool]):
        self._listing, self._is_image = listing, is_image
        self._notes: list[str] = []

    def here(self, folder: str) -> tuple[list[str], list[str]]:
        """The images directly in a folder, and its subfolders."""
        files, folders = self._listing.list(folder)
        return [path for path in files if self._is_image(path)], folders

    def holds_images(self, folder: str) -> bool:
        # Of several links to one place the first that is listed stays. So a folder is listed whole,
        # and the folders in their order, whatever is asked of them first.
        return bool(self._images(folder))

    def wrapped(self, folder: str) -> str | None:
        """The folder to read in place of `folder`, which may be itself; None: the root."""
        loose, folders = self.here(folder)
        if table_of(self._listing, folder) or any(map(_meaning, folders)):
            return folder or None
        with_images = [path for path in folders if self.holds_images(path)]
        # Beside several classes a single image is a stray; beside one folder, one of its class.
        if len(with_images) > 1:
            return folder or None
        return self.wrapped(with_images[0]) if with_images and not loose else None

    def layout(self, formats: str) -> Layout:
        folders = self._split_folders()
        unlabelled = [folders[UNLABELLED]] if UNLABELLED in folders else []
        splits, others = {}, 0
        for split, folder in folders.items():
            if split == UNLABELLED:
                continue
            found, others_here = self._classes(split, folder, unlabelled)
            others += others_here
            if found:
                splits[split] = found
        if TRAIN not in splits:
            if not unlabelled or list(splits):
                raise self._without_images(formats, others)
            splits[TRAIN] = {None: self._images(unlabelled.pop())}
            self._notes.append("only a folder of unlabelled images: its images are the split train")
        if others:
            self._notes.append(f"{others:,} files are not {formats}; ignored")
        self._check_classes(splits)
        images = {
            split: {path: name for name, paths in classes.items() for path in paths}
            for split, classes in splits.items()
        }
        if more := [path for folder in unlabelled for path in self._images(folder)]:
            images[UNLABELLED] = dict.fromkeys(more)
        shown = {split: folder for split, folder in folders.items() if folder and split in images}
        return Layout(images, shown, notes=tuple(self._notes))

    def _split_folders(self) -> dict[str, str]:
        """Split name -> its folder below the root; `train` may be the root itself, ""."""
        loose, folders = self.here("")
        meant: dict[str, list[str]] = {}
        for folder in folders:
            if split := _meaning(folder):
                meant.setdefault(split, []).append(folder)
        if TRAIN not in meant:
            return self._without_train(meant, loose, folders)
        order = (TRAIN, VALIDATION, TEST, UNLABELLED)
        named = {split: self._one_of(split, meant[split]) for split in order if split in meant}
        others = [folder for folder in folders if folder not in named.values()]
        others += [f"{len(loose)} loose images"] if loose else []
        if others:
            self._notes.append(
                f"only {', '.join(named.values())} are read, as there is {named[TRAIN]}/; left "
                f"aside: {', '.join(others)} (folders of classes belong below {named[TRAIN]}/)"
            )
        return named

    def _one_of(self, split: str, folders: list[str]) -> str:
        """The folder of a split, of those that its name means."""
        if len(folders) > 1:
            folders = [folder for folder in folders if self.holds_images(folder)] or folders[:1]
        if len(folders) > 1:
            rule = (
                f"A folder must have one split {split}: both {folders[0]}/ and {folders[1]}/ mean "
                "that. Merge them, or move one away."
            )
            raise wrong(self._listing, rule)
        return folders[0]

    def _without_train(self, meant, loose, folders) -> dict[str, str]:
        """The split folders of a root without train/: its own folders are classes."""
        folders = [folder for folder in folders if self.holds_images(folder)]
        held_out = [folder for folder in folders if _meaning(folder) in (VALIDATION, TEST)]
        classes = [folder for folder in folders if _meaning(folder) is None]
        sure = [folder for folder in held_out if folder.lower() not in split_names.DOUBTFUL]
        if sure or (held_out and not classes):
            rule = (
                f"An image folder with {held_out[0]}/ must have train/ beside it, where a split is "
                f"meant; if {held_out[0]} is a class, put all classes in a folder train/."
            )
            raise wrong(self._listing, rule, f" with {', '.join(folders)}")
        for folder in held_out:
            self._notes.append(f"{folder}/ is read as a class: no train/ lies beside it")
        if UNLABELLED not in meant:
            return {TRAIN: ""}
        around = not loose and len(classes) == 1 and self._holds_classes(classes[0])
        unlabelled = self._one_of(UNLABELLED, meant[UNLABELLED])
        return {TRAIN: classes[0] if around else "", UNLABELLED: unlabelled}

    def _holds_classes(self, folder: str) -> bool:
        """Whether the images of a folder lie in folders of it."""
        loose, below = self.here(folder)
        return not loose and any(map(self.holds_images, below))

    def _classes(
        self, split: str, folder: str, unlabelled: list[str]
    ) -> tuple[dict[str | None, list[str]], int]:
        """Class name -> paths of the images of a split, and the number of other files.

        Folders without labels beside classes of `train` are added to `unlabelled`.
        """
        root = self._listing.root
        loose, folders = self.here(folder)
        only = [path for path in folders if self.holds_images(path)] if folder else []
        if not loose and len(only) == 1 and _is_no_class(posixpath.basename(only[0]), split):
            folder = only[0] if self._holds_classes(only[0]) else folder  # as in train/train/cat
        files, folders = self._listing.list(folder)
        if split == TRAIN:
            own = [path for path in folders if _meaning(path) == UNLABELLED]
            unlabelled += [path for path in own if path not in unlabelled]
            folders = [path for path in folders if path not in own]
        classes: dict[str | None, list[str]] = {}
        others, empty = 0, []
        for path, below in ((None, files), *((p, list(self._listing.walk(p))) for p in folders)):
            images = [file for file in below if self._is_image(file)]
            others += len(below) - len(images)
            if images:
                classes[path and posixpath.basename(path)] = images
            elif path:
                empty.append(path)
        if empty:
            shown = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if empty[5:] else "")
            self._notes.append(f"no images in {shown}; ignored")
        if len(classes) > 1 and (images := classes.pop(None, [])):
            where = posixpath.join(root, folder) if folder else root
            self._notes.append(
                f"{len(images)} images outside the class folders of {where}; ignored"
            )
        return classes, others

    def _images(self, folder: str) -> list[str]:
        return [path for path in self._listing.walk(folder) if self._is_image(path)]

    def _check_classes(self, splits: dict[str, dict[str | None, list[str]]]) -> None:
        """Checks that the splits agree in their classes; a split without any is unlabelled."""
        known = set(splits[TRAIN])
        for split, classes in splits.items():
            names = set(classes)
            if known == {None} != names:
                raise wrong(
                    self._listing,
                    "Either all splits of an image folder or none must have class folders; train/ "
                    f"and {split}/ differ.",
                )
            (first, *others) = sorted(names - known, key=str) or [None]
            if first and not others and len(names) == 1 and _is_no_class(first, split):
                classes[None] = classes.pop(first)
                first = None
            if first:
                rule = f"The classes of {split}/ must all be in train/; {first} is not."
                raise wrong(self._listing, rule)

    def _without_images(self, formats: str, others: int) -> DatasetError:
        rule = f"The image folder must hold images ({formats}), directly or in class folders."
        return wrong(self._listing, rule, f" with none, and {others} other files")


def _meaning(folder: str) -> str | None:
    """The split that the name of a folder means."""
    return split_names.canonical(posixpath.basename(folder))


def _is_no_class(name: str, split: str) -> bool:
    """Whether the name of the only folder of a split tells no class."""
    return name.lower() in _NO_CLASS or split_names.canonical(name) in (split, UNLABELLED)
