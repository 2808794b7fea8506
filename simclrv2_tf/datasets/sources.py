"""Data sets by name: a prefix leads to the file of a source, which is imported when needed.

To add a source, write a file with an `open_dataset(name, data_dir, split_seed, value_range)` that
returns an `ImageDataset`, and give it a row in `SOURCES`.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING

from simclrv2_tf.errors import UserError

if TYPE_CHECKING:
    from simclrv2_tf.datasets.splits import Split

PACKAGED = "fashion_mnist_small"
HELD_OUT_SPLITS = ("validation", "val", "test")

# How a name is written, up to a colon, and the file that opens it. TensorFlow Datasets gets every
# other name.
SOURCES = {PACKAGED: "packaged", "folder:PATH": "folder"}

Range = tuple[str, int, int]  # split name, first example, end
ValueRange = tuple[float, float] | None  # samples of 16 bits that become black and white


class DatasetError(UserError):
    """A data set that cannot be used as asked."""


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDataset:
    """A data set of images, made by `open_dataset`.

    Attributes:
        name: The name it was opened by.
        class_names: One name per label; empty for unlabelled images.
        splits: Split name -> number of examples.
        holds_out: Whether the held-out split was taken out of the training images here, and not by
            who made the data.
    """

    name: str
    class_names: tuple[str, ...]
    splits: dict[str, int]
    _select: Callable[[str, list[Range]], Split]
    _skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    holds_out: bool = False

    @property
    def default_eval_split(self) -> str | None:
        """`validation`, `val` or `test`, the first that exists; None where nothing is held out."""
        # The test images of many published sets have no labels.
        return next((name for name in HELD_OUT_SPLITS if name in self.splits), None)

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for unlabelled images."""
        return len(self.class_names)

    @property
    def num_skipped(self) -> int:
        """Number of unreadable images found so far, when opening and when reading."""
        return len(self._skipped)

    def split(self, spec: str) -> Split:
        """Selects examples in the slicing language of TensorFlow Datasets.

        Args:
            spec: For instance `train`, `train[:80%]`, `train[100:200]` or `train+test`.

        Raises:
            DatasetError: `spec` cannot be read, names no split, or selects nothing.
        """
        import tensorflow_datasets as tfds

        sizes = {
            name: SimpleNamespace(num_examples=size, shard_lengths=[size])
            for name, size in self.splits.items()
        }
        try:
            instructions = tfds.core.ReadInstruction.from_spec(spec).to_absolute(sizes)
        except (ValueError, NotImplementedError) as error:
            raise DatasetError(
                f"A split of {self.name} must be made of {', '.join(self.splits)}, such as "
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
        return self._select(spec, ranges)


def check_folder(name: str) -> None:
    """Checks that a local folder of images exists, without TensorFlow.

    Args:
        name: A data set's name, as for `open_dataset`; names of other sources pass.

    Raises:
        DatasetError: The folder is missing.
    """
    path = os.path.expanduser(name.removeprefix("folder:"))
    if name.startswith("folder:") and path and "://" not in path and not os.path.isdir(path):
        raise DatasetError(f"The image folder must be an existing folder. Received: folder:{path}")


def open_dataset(
    name: str,
    data_dir: str | None = None,
    split_seed: int = 0,
    value_range: ValueRange = None,
) -> ImageDataset:
    """Opens a data set by name, without network (unless `data_dir` or PATH is remote).

    Args:
        name: `fashion_mnist_small`, see `packaged`; `folder:PATH`, see `folder`; or the name of a
            TensorFlow Datasets builder, also `name/config` and `name:1.0.0`, whose data is
            prepared on disk. The builder's code is not needed.
        data_dir: Folder where TensorFlow Datasets keeps its data, by default its own; and where
            files of a folder that TensorFlow does not read are converted to, by default the
            user's cache.
        split_seed: Decides which images are held out of a folder without a held-out split.
        value_range: The 16-bit samples that become black and white; None: 0 and 65,535.

    Raises:
        DatasetError: The data set does not exist, is not prepared, or has no images.
    """
    prefix, colon, _ = name.partition(":")
    files = {form.partition(":")[:2]: file for form, file in SOURCES.items()}
    file = files.get((prefix, colon), "tfds")
    source = importlib.import_module(f"simclrv2_tf.datasets.{file}")
    return source.open_dataset(name, data_dir, split_seed, value_range)
