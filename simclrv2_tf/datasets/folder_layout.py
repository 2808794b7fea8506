"""Infers the splits and classes of a folder of images from names.

A layout is read from the listing of a `FolderTree`, without TensorFlow and without opening an
image. `folder.open_dataset` describes the layouts.
"""

from __future__ import annotations

import collections
import dataclasses
import posixpath
from collections.abc import Callable, Iterable, Mapping

from simclrv2_tf.datasets import class_folders, split_names
from simclrv2_tf.datasets.class_folders import class_name, in_words
from simclrv2_tf.datasets.listing import ImageListing, Listing, wrong
from simclrv2_tf.datasets.sources import DatasetError

TRAIN, VALIDATION, TEST, UNLABELLED = "train", "validation", "test", "unlabelled"

_TABLES = tuple(
    f"{name}.{ending}" for name in ("labels", "metadata") for ending in ("csv", "tsv", "jsonl")
)

# The only folder of a split often has such a name, and is not a class.
_NO_CLASS = ("all", "image", "images", "img", "imgs", "labeled", "labelled", "unknown")

# Endings of tables that may have labels.
_TABULAR = (".csv", ".tsv", ".jsonl", ".json", ".xlsx", ".xls", ".parquet")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Splits and classes of a folder of images.

    Attributes:
        splits: Maps split names to {path of an image below the root: its class}; None: unlabelled.
            There is always `train`.
        folders: Maps a split's name to the folder of its images, if there is one.
        table: The table that gives the classes; None: folders give them.
        notes: What can be read in two ways, and which reading was chosen; one line each.
        files: Notes on single files, by path.
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


def table_of(listing: Listing, folder: str = "") -> str | None:
    """Returns the table of labels in a folder, see `folder_table`, or None.

    Raises:
        DatasetError: There are several.
    """
    files, _ = listing.list(folder)
    tables = [path for path in files if posixpath.basename(path).lower() in _TABLES]
    if len(tables) > 1:
        rule = "A folder must have one table of labels; rename the others."
        raise wrong(listing, rule, f" with {' and '.join(tables)}")
    return tables[0] if tables else None


def tables_of_splits(listing: Listing, folders: Mapping[str, str]) -> dict[str, str]:
    """Maps split names to the table of labels in their folder, such as `train/metadata.csv`.

    Args:
        listing: The folder.
        folders: `Layout.folders` of it.

    Raises:
        DatasetError: There are several tables in one folder.
    """
    found = {
        split: table_of(listing, folder) for split, folder in folders.items() if split != UNLABELLED
    }
    return {split: table for split, table in found.items() if table is not None}


def wrapped(listing: Listing, is_image: Callable[[str], bool]) -> str | None:
    """Returns the folder with all classes or splits; folders around it must hold nothing else.

    This reads an archive that was unpacked a level too deep. A folder of images is a class, and so
    is a folder whose images are all in one subfolder.
    """
    return _Reader(listing, is_image).wrapped("")


def read(listing: Listing, is_image: Callable[[str], bool], formats: str) -> Layout:
    """Reads the layout of a folder in which folders are splits and classes.

    Args:
        listing: The folder.
        is_image: Whether a name is an image's.
        formats: The endings of images, for messages.

    Raises:
        DatasetError: There are no images, or splits and classes conflict.
    """
    return _Reader(listing, is_image).layout(formats)


class _Reader(ImageListing):
    def __init__(self, listing: Listing, is_image: Callable[[str], bool]):
        super().__init__(listing, is_image)
        self._notes: list[str] = []

    def wrapped(self, folder: str) -> str | None:
        """Returns the folder to read for `folder`, possibly itself; None stands for the root."""
        loose, folders = self.here(folder)
        if table_of(self.listing, folder) or self._meant(folders):
            return folder or None
        with_images = [path for path in folders if self.holds_images(path)]
        # Next to several classes a single image is a stray; next to one folder, it is of its class.
        if len(with_images) > 1:
            return folder or None
        return self.wrapped(with_images[0]) if with_images and not loose else None

    def layout(self, formats: str) -> Layout:
        folders = self._split_folders()
        unlabelled = [folders[UNLABELLED]] if UNLABELLED in folders else []
        splits: dict[str, dict[str | None, list[str]]] = {}
        others: list[str] = []
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
            splits[TRAIN] = {None: self.images(unlabelled.pop())}
            self._notes.append(
                "there is only a folder of unlabelled images: its images are the split train"
            )
        tables = tables_of_splits(self.listing, folders).values()
        if others := [path for path in others if path not in tables]:
            files = (
                "1 file that is not an image"
                if len(others) == 1
                else (f"{len(others):,} files that are not images")
            )
            self._notes.append(f"ignored {files}, by ending ({_endings(others)})")
        self._check_classes(splits)
        self._note_tables(splits, folders)
        images = {
            split: {path: name for name, paths in classes.items() for path in paths}
            for split, classes in splits.items()
        }
        if more := [path for folder in unlabelled for path in self.images(folder)]:
            images[UNLABELLED] = dict.fromkeys(more)
        shown = {split: folder for split, folder in folders.items() if folder and split in images}
        return Layout(images, shown, notes=tuple(self._notes))

    def _split_folders(self) -> dict[str, str]:
        """Maps split names to folders below the root; `train` may be the root itself, ""."""
        loose, folders = self.here("")
        meant: dict[str, list[str]] = {}
        for folder, split in self._meant(folders).items():
            meant.setdefault(split, []).append(folder)
        if TRAIN not in meant:
            return self._without_train(meant, loose, folders)
        order = (TRAIN, VALIDATION, TEST, UNLABELLED)
        named = {split: self._one_of(split, meant[split]) for split in order if split in meant}
        others = [folder for folder in folders if folder not in named.values()]
        neighbours = [folder for folder in others if self.holds_images(folder)]
        if list(named) == [TRAIN] and neighbours and not self.holds_classes(named[TRAIN]):
            rule = (
                f"A folder {named[TRAIN]}/ without folders of classes must be the only folder of "
                "images: if it is a class, put all classes in a folder called train/; if it is the "
                "split, move the others away."
            )
            raise wrong(self.listing, rule, f" with {in_words([named[TRAIN], *neighbours])}")
        others += [f"{len(loose)} loose images"] if loose else []
        if others:
            self._notes.append(
                f"only {', '.join(named.values())} {'are' if len(named) > 1 else 'is'} read, "
                f"because there is {named[TRAIN]}/; ignored: {', '.join(others)} (folders of "
                f"classes belong in {named[TRAIN]}/)"
            )
        return named

    def _meant(self, folders: Iterable[str]) -> dict[str, str]:
        """Maps folders to the split that their name means, if it means one."""
        direct = {folder: split for folder in folders if (split := _meaning(folder))}
        if TRAIN in direct.values():
            return direct
        names = {posixpath.basename(folder): folder for folder in folders if folder not in direct}
        families = split_names.families(names)
        if len(families) > 1:
            first, second = (min(family) for family in families[:2])
            rule = (
                "A folder must have one split train, which contains the folders of classes; move "
                "the folders of each class into train/ and test/."
            )
            raise wrong(self.listing, rule, f" with {first}/ and {second}/")
        family = {names[name]: split for one in families for name, split in one.items()}
        return {**direct, **family}

    def _one_of(self, split: str, folders: list[str]) -> str:
        """Returns the only folder among those whose name means a split."""
        if len(folders) > 1:
            folders = [folder for folder in folders if self.holds_images(folder)] or folders[:1]
        if len(folders) > 1:
            rule = (
                f"A folder must have one split {split}, but both {folders[0]}/ and {folders[1]}/ "
                "mean it. Merge them, or move one away."
            )
            raise wrong(self.listing, rule)
        return folders[0]

    def _without_train(self, meant, loose, folders) -> dict[str, str]:
        """Returns the split folders of a root without train/, whose other folders are classes."""
        folders = [folder for folder in folders if self.holds_images(folder)]
        held_out = [folder for folder in folders if _meaning(folder) in (VALIDATION, TEST)]
        classes = [folder for folder in folders if _meaning(folder) is None]
        sure = [folder for folder in held_out if folder.lower() not in split_names.DOUBTFUL]
        if sure or (held_out and not classes):
            rule = (
                f"If {held_out[0]}/ is a split, there must be a folder train/ alongside it; if "
                f"{held_out[0]} is a class, put all classes in a folder train/."
            )
            raise wrong(self.listing, rule, f" with {', '.join(folders)}")
        for folder in held_out:
            self._notes.append(
                f"the folder {folder}/ is read as a class: there is no train/ alongside it"
            )
        if UNLABELLED not in meant:
            return {TRAIN: ""}
        around = not loose and len(classes) == 1 and self.holds_classes(classes[0])
        unlabelled = self._one_of(UNLABELLED, meant[UNLABELLED])
        return {TRAIN: classes[0] if around else "", UNLABELLED: unlabelled}

    def _classes(
        self, split: str, folder: str, unlabelled: list[str]
    ) -> tuple[dict[str | None, list[str]], list[str]]:
        """Maps class names to the images of a split; also returns the other files.

        Folders without labels next to classes of `train` are added to `unlabelled`.
        """
        folder = self._entered(split, folder, unlabelled)
        files, folders = self.listing.list(folder)
        folders = [path for path in folders if path not in unlabelled]
        classes: dict[str | None, list[str]] = {}
        others: list[str] = []
        found, empty = [], []
        for path, below in ((None, files), *((p, list(self.listing.walk(p))) for p in folders)):
            images = [file for file in below if self.is_image(file)]
            others += [file for file in below if not self.is_image(file)]
            if images:
                classes.setdefault(path and class_name(path), []).extend(images)
                found += [path] if path else []
            elif path:
                empty.append(path)
        if not folder and not classes.get(None) and class_folders.are_parts(found):
            return self._of_parts(found), others
        notes = class_folders.check(self, found)
        self._notes += notes if split == TRAIN else []
        if empty:
            shown = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if empty[5:] else "")
            self._notes.append(f"no images in {shown}; ignored")
        if len(classes) > 1 and (images := classes.pop(None, [])):
            where = posixpath.join(self.listing.root, folder) if folder else self.listing.root
            self._notes.append(
                f"{len(images)} images outside the class folders of {where}; ignored"
            )
        return classes, others

    def _entered(self, split: str, folder: str, unlabelled: list[str]) -> str:
        """Returns the folder of a split's classes, possibly its only subfolder, as in
        train/train/cat.

        Folders without labels on that path are added to `unlabelled`.
        """
        loose, folders = self.here(folder)
        if split == TRAIN:
            own = [path for path in folders if _meaning(path) == UNLABELLED]
            unlabelled += [path for path in own if path not in unlabelled]
            folders = [path for path in folders if path not in unlabelled]
        only = [path for path in folders if self.holds_images(path)]
        if loose or len(only) != 1:
            return folder
        name, outer = (posixpath.basename(path).casefold() for path in (only[0], folder))
        if name != outer and not _is_no_class(name, split):
            return folder
        return self._entered(split, only[0], unlabelled)

    def _of_parts(self, folders: list[str]) -> dict[str | None, list[str]]:
        """Returns the images of folders that are parts of one set, without labels."""
        shown = in_words([f"{folder}/" for folder in folders])
        inner = [path for folder in folders for path in self.folders_of_images(folder)]
        if not all(_is_no_class(posixpath.basename(path), TRAIN) for path in inner):
            rule = (
                "Folders named as parts must not hold folders of classes: put the images of all "
                "parts in one folder per class."
            )
            raise wrong(self.listing, rule, f" with {inner[0]}/ in one of {shown}")
        self._notes.append(
            f"the names of the folders {shown} are parts of one set, not classes: their images "
            "have no labels (inside a folder train/, folders of classes can have any name)"
        )
        return {None: [path for folder in folders for path in self.images(folder)]}

    def _note_tables(self, splits, folders: Mapping[str, str]) -> None:
        """Notes tables that `folder_table.layout_of` does not read, if images lack labels."""
        if not any(None in classes for classes in splits.values()):
            return
        places = dict.fromkeys(["", *folders.values()])
        files = [path for folder in places for path in self.listing.list(folder)[0]]
        read = tables_of_splits(self.listing, folders).values()
        tables = [path for path in files if path.lower().endswith(_TABULAR) and path not in read]
        if tables:
            self._notes.append(
                f"no labels are read from {in_words(tables)}: a table of labels must be called "
                f"labels.csv or metadata.csv and be directly in {self.listing.root} or in the "
                "folder of a split"
            )

    def _check_classes(self, splits: dict[str, dict[str | None, list[str]]]) -> None:
        """Checks that the splits agree in their classes; a split without any is unlabelled."""
        known = set(splits[TRAIN])
        for split, classes in splits.items():
            names = set(classes)
            if known == {None} != names:
                raise wrong(
                    self.listing,
                    "Either all splits of an image folder or none must have class folders; train/ "
                    f"and {split}/ differ.",
                )
            if first := next(iter(sorted(names - known, key=str)), None):
                rule = f"The classes of {split}/ must all be in train/; {first} is not."
                raise wrong(self.listing, rule)

    def _without_images(self, formats: str, others: list[str]) -> DatasetError:
        rule = f"The image folder must hold images ({formats}), directly or in class folders."
        held = f"{len(others):,} other files ({_endings(others)})" if others else "no other file"
        return wrong(self.listing, rule, f" with none, and {held}")


def _endings(paths: list[str]) -> str:
    """Describes the most frequent endings of files and their numbers."""
    endings = (posixpath.splitext(path)[1].lower() or "no ending" for path in paths)
    counts = collections.Counter(endings).most_common()
    shown = ", ".join(f"{ending} {count:,}" for ending, count in counts[:4])
    return shown + ", ..." * (len(counts) > 4)


def _meaning(folder: str) -> str | None:
    """The split that the name of a folder means."""
    return split_names.canonical(posixpath.basename(folder))


def _is_no_class(name: str, split: str) -> bool:
    """Whether the name of the only folder of a split is too general for a class."""
    return name.lower() in _NO_CLASS or split_names.canonical(name) in (split, UNLABELLED)
