"""Finds images that already have labels, from a run or a folder of labelled images."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from absl import logging
from etils import epath, epy

from simclrv2_tf import run_options
from simclrv2_tf.errors import UserError
from simclrv2_tf.experiments import label_budget, plan

with epy.lazy_imports():
    from simclrv2_tf import datasets
    from simclrv2_tf.datasets import labels as label_subset

if TYPE_CHECKING:
    from simclrv2_tf.datasets import ImageDataset

NONE = "none"
_FOLDER = "folder:"


class LabelledError(UserError):
    """Raised if the images with labels cannot be determined."""


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Images with labels.

    Attributes:
        root: The folder of their paths; "" if there are none.
        paths: With `/`, in any order.
    """

    root: str = ""
    paths: tuple[str, ...] = ()

    def divided(self, folder: str, ids: Iterable[str]) -> tuple[set[str], list[str]]:
        """Separates labelled images of a folder from other labelled images.

        Args:
            folder: The folder, or one image.
            ids: Paths of its images relative to it, with `/`; the name of a single image.

        Returns:
            The `ids` with labels, and the `paths` that are not among `ids`.
        """
        here, there = _resolved(folder), _resolved(self.root)
        if os.path.isfile(here):
            here = os.path.dirname(here)
        known, inside, others = {*ids}, set(), []
        for path in self.paths:
            name = os.path.relpath(os.path.join(there, path), here).replace(os.sep, "/")
            if name in known:
                inside.add(name)
            else:
                others.append(path)
        return inside, others


def find(given: str | None, model: str) -> Labelled:
    """Returns the images with labels.

    Args:
        given: The folder of a run, whose labels are used; a folder of labelled images; "none"; or
            None for the labels of the run that `model` belongs to, if any.
        model: A run's folder, or files of a network.

    Raises:
        LabelledError: `given` is neither, or its images cannot be found.
        DatasetError: `given` is a folder whose labels cannot be read.
    """
    if given == NONE:
        return Labelled()
    if given is None:
        run = run_options.run_folder(model)
        return _of_run(run, asked=False) if run is not None else Labelled()
    if problem := run_options.whole_run(given, "labelled"):
        raise LabelledError(problem)
    if (epath.Path(given) / "config.json").is_file():
        return _of_run(epath.Path(given), asked=True)
    if not epath.Path(given).is_dir():
        raise LabelledError(
            "`labelled` must be the folder of a run, a folder of labelled images, or none. "
            f"Received: labelled={given}"
        )
    return _of_dataset(datasets.open_dataset(_FOLDER + given))


def _of_run(run: epath.Path, asked: bool) -> Labelled:
    """Returns the images whose labels a run has learned from.

    Args:
        run: The run's folder.
        asked: Whether the user has named the run as the source of labels.
    """
    source, options = label_budget.source_of_labels(str(run))
    listed = (run_options.run_folder(source) or run) / "labelled_examples.txt"
    mode = options.get("train_mode", "pretrain")
    if not listed.exists() and not plan.learns_from_labels(mode, options.get("distill_alpha", 1)):
        if asked:
            raise LabelledError(
                "`labelled` must be a run that learned from labels, or a folder of labelled "
                f"images. Received: labelled={run}, with train_mode={mode}"
            )
        return Labelled()
    name = str(options.get("dataset"))
    if not name.startswith(_FOLDER):
        rule = f"The labels of {run} belong to {name}, which is not a folder of images"
        if asked:
            raise LabelledError(f"{rule}. Give --labelled a folder of labelled images.")
        logging.warning("%s: no image counts as labelled.", rule)
        return Labelled()
    try:
        data = _opened(name, options)
    except datasets.DatasetError as error:
        raise LabelledError(
            f"The labelled images of {run} cannot be opened ({error}). Give "
            f"--labelled=FOLDER with the labelled images, or --labelled={NONE}."
        ) from error
    if listed.exists():
        return Labelled(_root(data), label_subset.read(listed))
    return _of_dataset(data, (options.get("train_split") or "train",))


def _opened(name: str, options: Mapping[str, Any]) -> ImageDataset:
    """Opens the data set of a run."""
    given = {
        option: options[option]
        for option in ("data_dir", "split_seed", "value_range", "channels")
        if options.get(option) is not None
    }
    return datasets.open_dataset(name, **given)


def _of_dataset(data: ImageDataset, splits: Iterable[str] | None = None) -> Labelled:
    """Returns the images with a label; all images of a given data set without classes."""
    found: list[str] = []
    for name in splits or data.splits:
        ids, labels = data.split(name).labels()
        found += ids[labels >= 0].tolist() if data.class_names else ids.tolist()
    return Labelled(_root(data), tuple(found))


def _root(data: ImageDataset) -> str:
    assert data.contents is not None  # every folder has contents
    return data.contents.location


def _resolved(path: str) -> str:
    """Returns a folder's path for comparisons, with links resolved."""
    return path if "://" in path else os.path.realpath(os.path.expanduser(path))
