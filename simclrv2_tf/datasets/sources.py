"""Data sets by name: the prefix selects the file of a source, which is imported when needed.

To add a source, write a file with an `open_dataset(name, data_dir, split_seed, value_range,
channels)` that returns an `ImageDataset`, and add a row to `SOURCES`.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import os
import pathlib
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING

from simclrv2_tf.channels import RGB
from simclrv2_tf.datasets import split_names
from simclrv2_tf.errors import UserError

if TYPE_CHECKING:
    from simclrv2_tf.datasets.splits import Split

PACKAGED = "fashion_mnist_small"
HELD_OUT_SPLITS = ("validation", "val", "test")

# The form of a name, up to a colon, and the file that opens it. TensorFlow Datasets opens every
# other name.
SOURCES = {PACKAGED: "packaged", "folder:PATH": "folder"}

Range = tuple[str, int, int]  # split name, first example, end
ValueRange = tuple[float, float] | None  # samples of 16 bits that become black and white


class DatasetError(UserError):
    """Raised for a data set that cannot be used as requested."""


@dataclasses.dataclass(frozen=True)
class Contents:
    """How a folder of images was read.

    Attributes:
        location: The folder that was read; a subfolder if the named folder only wraps it.
        folders: Maps a split's name to the folder of its images, if there is one.
        classes: Maps the name of a labelled split to {class name: number of images}.
        held_out: The split whose images were held out of `train`; None: they are in a folder.
        eval_split: The split to evaluate on; None: there is none.
        unlabelled_split: The split of images without labels, alongside `train`, that training
            without labels also uses; None: there is none.
        table: The table that gives the classes; None: folders give them.
        notes: What could be read in two ways, and which reading was chosen; one line each.
        files: Notes on single files, by path: skipped, or used without a label.
    """

    location: str
    folders: Mapping[str, str]
    classes: Mapping[str, Mapping[str, int]]
    held_out: str | None = None
    eval_split: str | None = None
    unlabelled_split: str | None = None
    table: str | None = None
    notes: tuple[str, ...] = ()
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDataset:
    """A data set of images, made by `open_dataset`.

    Attributes:
        name: The name under which it was opened.
        class_names: One name per label; empty for unlabelled images.
        splits: Split name -> number of examples.
        contents: How a folder of images was read; None for other data sets.
        stored: Description of the stored bands, bits and range; empty if not known.
        eval_split: The split to evaluate on, if the data set defines it.
    """

    name: str
    class_names: tuple[str, ...]
    splits: dict[str, int]
    _select: Callable[[str, list[Range]], Split]
    _skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    contents: Contents | None = None
    stored: str = ""
    eval_split: str | None = None
    _selected: dict[str, Split] = dataclasses.field(default_factory=dict, init=False, repr=False)

    @property
    def default_eval_split(self) -> str | None:
        """The split to evaluate on; None if nothing is held out.

        For a folder, `test` if it has labels, else `validation`. For other data sets `eval_split`,
        or the first of `validation`, `val` and `test` that exists.
        """
        if self.contents:
            return self.contents.eval_split
        # The test images of many published sets have no labels.
        return self.eval_split or next(
            (name for name in HELD_OUT_SPLITS if name in self.splits), None
        )

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for unlabelled images."""
        return len(self.class_names)

    @property
    def num_skipped(self) -> int:
        """Number of unreadable images found so far, during opening and reading."""
        return len(self._skipped)

    @property
    def skipped(self) -> dict[str, str]:
        """Files that are skipped or read differently, and the reasons; reading adds to them."""
        return {**(self.contents.files if self.contents else {}), **self._skipped}

    def with_unlabelled(self, spec: str) -> str:
        """Returns `spec` plus the split of unlabelled images, if there is one alongside."""
        more = self.contents.unlabelled_split if self.contents else None
        named = {self._split_name(part)[0] for part in spec.split("+")}
        return f"{spec}+{more}" if more and more not in named else spec

    def own_names(self, spec: str) -> str:
        """Returns `spec` with the actual names of splits: `validation[:9]` for `val[:9]`."""
        return "+".join("".join(self._split_name(part)) for part in spec.split("+"))

    def _split_name(self, part: str) -> tuple[str, str]:
        """Returns the split in a part of a specification, by its actual name, and the rest."""
        name, bracket, rest = part.partition("[")
        meant = split_names.canonical(name) if self.contents else None
        known = meant in self.splits and name.strip() not in self.splits
        return str(meant) if known else name.strip(), bracket + rest

    def split(self, spec: str) -> Split:
        """Selects examples in the slicing language of TensorFlow Datasets.

        Args:
            spec: For instance `train`, `train[:80%]`, `train[100:200]` or `train+test`. A folder's
                split has aliases, such as `val` for `validation`.

        Raises:
            DatasetError: `spec` cannot be read, names no split, or selects nothing.
        """
        if spec not in self._selected:
            self._selected[spec] = self._select(spec, self._ranges(spec))
        return self._selected[spec]

    def _ranges(self, spec: str) -> list[Range]:
        own = self.own_names(spec)
        if size := self.splits.get(own):
            return [(own, 0, size)]
        # Half a second to import, only needed for slices.
        import tensorflow_datasets as tfds

        sizes = {
            name: SimpleNamespace(num_examples=size, shard_lengths=[size])
            for name, size in self.splits.items()
        }
        try:
            instructions = tfds.core.ReadInstruction.from_spec(own).to_absolute(sizes)
        except (ValueError, NotImplementedError) as error:
            raise DatasetError(
                f"A split of {self.name} must be composed of {', '.join(self.splits)}, such as "
                f"train, train[:80%] or train+test ({str(error).splitlines()[-1]}). "
                f"Received: split={spec!r}"
            ) from None
        ranges = []
        for instruction in instructions:
            begin = instruction.from_ or 0
            end = self.splits[instruction.splitname] if instruction.to is None else instruction.to
            if begin < end:
                ranges.append((str(instruction.splitname), begin, end))
        if not ranges:
            raise DatasetError(
                f"A split of {self.name} must select at least one example; there are "
                f"{', '.join(f'{size} in {name}' for name, size in self.splits.items())}. "
                f"Received: split={spec!r}"
            )
        return ranges


def resolve(name: str, data_dir: str | None = None) -> tuple[str, str | None]:
    """Returns the full name of a data set, whose name may be the path of a local folder.

    A name that begins with `.`, `~` or `/` is `folder:PATH`. So is the path of an existing folder,
    unless a source or prepared data have that name. Uses neither TensorFlow nor a server: a builder
    that could prepare the name is ignored.

    Args:
        name: As for `open_dataset`, or a path.
        data_dir: As for `open_dataset`.

    Returns:
        The name, with superfluous separators removed from `folder:PATH`; and a line that explains
        the choice if the name could mean two things, or None.
    """
    prefix, colon, path = name.partition(":")
    if prefix == "folder" and path and "://" not in path:
        return f"folder:{pathlib.PurePath(path)}", None
    if name.startswith((".", "~", "/")):
        return f"folder:{pathlib.PurePath(name)}", None
    if "://" in name or not os.path.isdir(name):
        return name, None
    other = f"; the folder of that name is folder:{pathlib.PurePath(name)}."
    if any(form.partition(":")[:2] == (prefix, colon) for form in SOURCES):
        return name, f"{name} is read as the data set of this package{other}"
    prepared = prepared_folder(name, data_dir)
    if "://" in prepared or os.path.isdir(prepared):
        same = os.path.isdir(prepared) and os.path.samefile(prepared, name)
        return name, None if same else f"{name} is read as the data set in {prepared}{other}"
    full = f"folder:{pathlib.PurePath(name)}"
    return full, f"{name} is read as {full}: no data set of that name is prepared in {prepared}."


def prepared_folder(name: str, data_dir: str | None) -> str:
    """Returns the folder of a builder's data in TensorFlow Datasets, with all its versions."""
    default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    folder = os.path.expanduser(data_dir or default)
    return os.path.join(folder, name.partition(":")[0].partition("/")[0])


def check_folder(name: str, data_dir: str | None = None) -> None:
    """Checks that a local folder of images exists, without TensorFlow.

    Accepts other names, unless no prepared data have that name and a local folder has a similar
    one.

    Args:
        name: A data set's name, as for `open_dataset`.
        data_dir: As for `open_dataset`.

    Raises:
        DatasetError: The folder is missing, or its name seems misspelt.
    """
    if meant := _nearly_called(name, data_dir):
        raise DatasetError(
            f"`dataset` must be a folder, or a data set that is prepared in "
            f"{prepared_folder(name, data_dir)}; {name} is neither (did you mean folder:{meant}?). "
            f"Received: dataset={name!r}, data_dir={data_dir!r}"
        )
    path = os.path.expanduser(name.removeprefix("folder:"))
    if name.startswith("folder:") and path and "://" not in path and not os.path.isdir(path):
        raise DatasetError(f"The image folder must be an existing folder. Received: folder:{path}")


def _nearly_called(name: str, data_dir: str | None) -> str | None:
    """Returns a local folder whose name is similar to the name of a missing data set."""
    prefix, colon, _ = name.partition(":")
    is_source = any(form.partition(":")[:2] == (prefix, colon) for form in SOURCES)
    prepared = prepared_folder(name, data_dir)
    if not name or is_source or "://" in f"{name} {prepared}" or os.path.isdir(prepared):
        return None
    folders = [entry.name for entry in os.scandir() if entry.is_dir()]
    return next(iter(difflib.get_close_matches(name, folders, n=1)), None)


def open_dataset(
    name: str,
    data_dir: str | None = None,
    split_seed: int = 0,
    value_range: ValueRange = None,
    channels: int = RGB,
) -> ImageDataset:
    """Opens a data set by name, without network (unless `data_dir` or PATH is remote).

    Args:
        name: `fashion_mnist_small`, see `packaged`; `folder:PATH`, see `folder`; or the name of a
            TensorFlow Datasets builder, also `name/config` and `name:1.0.0`, whose data is
            prepared on disk. The builder's code is not needed.
        data_dir: Folder of TensorFlow Datasets' data, by default its own. Also the folder for
            converted copies of files that TensorFlow does not read, by default the user's cache.
        split_seed: Seed that decides which images are held out of a folder without a held-out
            split.
        value_range: The 16-bit samples that become black and white; None: 0 and 65,535.
        channels: Channels of the images: 1 (colors are converted to gray), 3 (gray is converted to
            RGB), or another number; files with a different number are then skipped.

    Raises:
        DatasetError: The data set does not exist, is not prepared, or has no images of these
            channels.
    """
    prefix, colon, _ = name.partition(":")
    files = {form.partition(":")[:2]: file for form, file in SOURCES.items()}
    file = files.get((prefix, colon), "tfds")
    source = importlib.import_module(f"simclrv2_tf.datasets.{file}")
    return source.open_dataset(name, data_dir, split_seed, value_range, channels)
