"""Describes the data of a run in a few lines, printed before training."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from simclrv2_tf.channels import RGB, in_words
from simclrv2_tf.experiments import classes, plan
from simclrv2_tf.experiments.validation import VALIDATION, takes_own_split

if TYPE_CHECKING:
    from simclrv2_tf.config import Config
    from simclrv2_tf.datasets import ImageDataset
    from simclrv2_tf.datasets.sources import Contents
    from simclrv2_tf.experiments.data import Data

_SHOWN_CLASSES, _SHOWN_NAMES = 10, 3
_NO_LABELS = " without labels"


def lines(data: Data, config: Config) -> list[str]:
    """Yields the lines of a run's data sets: one per data set, and more for a folder of images."""
    found = [*_of_data_set("Data", data.main, data.evaluated_split(config), config)]
    if data.unlabelled is not None:
        found += _of_data_set("Unlabelled data", data.unlabelled, None, config)
    unlabelled = data.unlabelled_split(config)
    if unlabelled != (config.train_split if data.unlabelled is None else "train"):
        found.append(
            f"  Pretraining and distillation use {unlabelled}; use --unlabelled_split to change it."
        )
    reported = data.evaluated_split(config) or ""
    if _validates(config) and VALIDATION in data.main.splits and VALIDATION not in reported:
        but = "" if takes_own_split(config, True) else ", but in stages with a label subset"
        found.append(
            f"  Validation while training takes the split {VALIDATION}{but}; --validation_split "
            "names another."
        )
    if config.channels != RGB and config.color_jitter_strength > 0 and _has_views(config):
        found.append(
            "  Without RGB, color jitter only changes brightness and contrast, not hue and "
            "saturation, and no view becomes gray."
        )
    return found


def _validates(config: Config) -> bool:
    """Whether a stage validates during training on images that no flag names."""
    epochs = [config.eval_epochs, *(o.get("eval_epochs") for o in config.stage_options.values())]
    return any(epochs) and not config.validation_split


def _has_views(config: Config) -> bool:
    """Whether a stage trains on the views of pretraining."""
    pretrains = config.train_mode == "pretrain" or config.train_mode in plan.RUNS
    return pretrains or config.labelled_views == "pretrain"


def _of_data_set(
    title: str, data: ImageDataset, evaluated: str | None, config: Config
) -> Iterator[str]:
    contents = data.contents
    where = ""
    if contents and contents.location != os.path.expanduser(data.name.removeprefix("folder:")):
        where = f", read from {contents.location}"
    if contents and contents.table:
        where += f", classes from {contents.table}"
    folders = contents.folders if contents else {}
    splits = ", ".join(
        f"{split} {size:,}{_folder(split, folders)}{_without_labels(split, data)}"
        for split, size in data.splits.items()
    )
    known = {0: "no classes", 1: "1 class"}.get(data.num_classes, f"{data.num_classes} classes")
    evaluates = f"; evaluation on {_own(evaluated, data)}" if evaluated else ""
    yield f"{title}: {data.name}{where}. Images: {splits}; {known}{evaluates}."
    read_as = f"read as {in_words(config.channels)}"
    if contents is None:
        if data.stored:
            yield f"  Images: {data.stored}; {read_as}."
        return
    if data.num_classes:
        yield f"  Classes: {_of_classes(classes.counted(data), data.class_names)}."
    if single := classes.singles(data):
        yield f"  Classes with one image: {_few(single)}."
    if data.stored:
        yield f"  Images: {data.stored}; {read_as}."
    if contents.held_out:
        yield f"  {_held_out(data, contents)}"
    for split in data.splits:
        if split != contents.unlabelled_split and _without_labels(split, data) == _NO_LABELS:
            joined = f"--unlabelled_split=train+{split}"
            yield f"  To use {split} in pretraining and distillation too: {joined}."
    for note in contents.notes:
        yield f"  {note[0].upper()}{note[1:]}."
    if count := len(data.skipped):
        files = "1 file is" if count == 1 else f"{count:,} files are"
        yield f"  {files} listed in skipped_images.csv, with the reasons."


def _own(spec: str, data: ImageDataset) -> str:
    """Returns a specification of splits, followed by their actual names if these differ."""
    own = data.own_names(spec)
    return spec if own == spec else f"{spec}, which is {own}"


def _held_out(data: ImageDataset, contents: Contents) -> str:
    tenth = "a tenth of each class" if data.num_classes else "a tenth"
    apart = f"a folder {contents.held_out}/ alongside train/"
    if contents.table and not contents.folders:
        apart = f"a column split in {contents.table}"
    return (
        f"{contents.held_out} was held out of train: {tenth}. Use --split_seed to draw another, "
        f"{apart} to replace it, or --train_split with --eval_split to divide train differently."
    )


def _folder(split: str, folders: Mapping[str, str]) -> str:
    """Returns the folder of a split, if its name differs from the split's."""
    folder = folders.get(split, split)
    return f" in {folder}/" if folder != split else ""


def _without_labels(split: str, data: ImageDataset) -> str:
    """Returns a remark on a split without labels, or with some missing, if others have labels."""
    if data.contents is None or not data.num_classes:
        return ""
    lacking = data.splits[split] - sum(data.contents.classes[split].values())
    if not lacking:
        return ""
    return _NO_LABELS if lacking == data.splits[split] else f" ({lacking:,} without labels)"


def _of_classes(counts: Mapping[str, int], names: tuple[str, ...]) -> str:
    shown = ", ".join(f"{name} {counts[name]:,}" for name in names[:_SHOWN_CLASSES])
    rest = [counts[name] for name in names[_SHOWN_CLASSES:]]
    if not rest:
        return shown
    each = f"{min(rest):,} to {max(rest):,}" if min(rest) < max(rest) else f"{min(rest):,}"
    return f"{shown} and {len(rest):,} more, {each} images each"


def _few(names: list[str]) -> str:
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more:,} more" if more > 0 else "")
