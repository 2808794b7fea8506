"""Validation during training, on images that the stage neither trains on nor reports.

A callback measures and adds to the logs. With `select=best` another callback keeps the weights of
the best measurement in the folder `best`, alongside the checkpoints. With `patience` a third one
stops the training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from etils import epy

from simclrv2_tf.contents import BEST
from simclrv2_tf.experiments import evaluation
from simclrv2_tf.experiments.data import Batches, has_labels
from simclrv2_tf.experiments.directory import RunError

with epy.lazy_imports():
    import keras
    import numpy as np
    import tensorflow as tf

    from simclrv2_tf import stages, weights
    from simclrv2_tf.datasets import labels as label_subset
    from simclrv2_tf.metrics import neighbours
    from simclrv2_tf.training import callbacks, patience

if TYPE_CHECKING:
    from simclrv2_tf import datasets
    from simclrv2_tf.config import Config
    from simclrv2_tf.experiments.stage import Built, StageRun

ACCURACY, LOSS, NEIGHBOURS = "val_top_1_accuracy", "val_loss", "knn_top_1_accuracy"

VALIDATION = "validation"  # the data set's split for validation, if it has one
_SHARE = 0.1  # of each class
_FEWEST_LABELS = 10  # of a class; with fewer, a tenth is too small
_MOST_QUERIES, _MOST_IN_BANK = 1_000, 5_000  # images for nearest neighbours


class Parts(NamedTuple):
    """The training images, and the validation images, if any."""

    train: datasets.Split
    validation: datasets.Split | None = None


def parts(run: StageRun, split: datasets.Split) -> Parts:
    """Opens the split of validation images, or holds some out of a stage's training images.

    Args:
        run: The stage's run.
        split: The training images, before validation images are held out.

    Raises:
        RunError: the validation images overlap with training or reported images, or are too many to
            read.
    """
    config = run.config
    if not config.eval_epochs:
        return Parts(split)
    if config.validation_split:
        own = run.data.main.split(config.validation_split)
        if run.labelled and not has_labels(own):
            raise RunError(
                f"`validation_split` must have labels in train_mode={config.train_mode}. "
                f"Received: validation_split={config.validation_split} of {run.data.main.name}, "
                "which has none. Name a split with labels, or leave --eval_epochs out."
            )
        found = Parts(split, own)
        _check_apart(found, run.eval_split, config.validation_split)
        return found
    if own := _own_split(run, split):
        return Parts(split, own)
    if run.labelled and not split.labelled:
        print(
            f"No validation in {config.train_mode}: its training images have no labels. Use "
            "--validation_split to name labelled images.",
            flush=True,
        )
        return Parts(split)
    ids, labels = split.labels()
    counts = np.bincount(labels[labels >= 0]) if split.labelled else np.array([len(ids)])
    if counts.min(initial=len(ids)) < _FEWEST_LABELS:
        print(
            f"No validation in {config.train_mode}: a class has only {counts.min()} training "
            f"images, and holding out images needs at least {_FEWEST_LABELS}. The last weights are "
            f"used{', and patience has no effect' if config.patience else ''}.",
            flush=True,
        )
        return Parts(split)
    if not split.reads_by_id:
        raise RunError(
            "`validation_split` must be given for data that are read in order: a tenth of them "
            "would have to stay in memory. Received: validation_split=None, for "
            f"{run.data.main.name}; --validation_split='train[90%:]' "
            "--train_split='train[:90%]' would do"
        )
    held = set(label_subset.hold_out(ids.tolist(), labels.tolist(), _SHARE, config.label_seed))
    train = split.subset(name for name in ids.tolist() if name not in held)
    print(
        f"Holding out {len(held):,} of {len(ids):,} training images for validation, a tenth of "
        "each class.",
        flush=True,
    )
    return Parts(train, split.subset(held))


def takes_own_split(config: Config, labelled: bool) -> bool:
    """Whether the split `validation` may be used although no flag names it.

    A stage with a label subset must not choose its weights or its end by labels beyond the subset.

    Args:
        config: The options of the stage, or of a run of several.
        labelled: Whether the stage learns from labels.
    """
    subset = config.labels_per_class or (config.label_fraction or (1,)) != (1,)
    chooses = config.select == "best" or config.patience
    return not (labelled and subset and chooses)


def _own_split(run: StageRun, train: datasets.Split) -> datasets.Split | None:
    """Returns the split `validation`, unless the run uses it otherwise or it lacks labels."""
    main = run.data.main
    if VALIDATION not in main.splits or VALIDATION in run.eval_split.name:
        return None
    if not takes_own_split(run.config, run.labelled):
        return None
    own = main.split(VALIDATION)
    if run.labelled and not has_labels(own):
        return None
    ids = set(own.labels()[0].tolist())
    others = (train, run.eval_split)
    return own if all(ids.isdisjoint(other.labels()[0].tolist()) for other in others) else None


def _check_apart(found: Parts, reported: datasets.Split, name: str) -> None:
    own = set(found.validation.labels()[0].tolist())
    for other, what in ((found.train, "train_split"), (reported, "eval_split")):
        both = own.intersection(other.labels()[0].tolist())
        if both:
            raise RunError(
                f"`validation_split` must have no image of `{what}`. Received: "
                f"validation_split={name}, of whose {len(own):,} images {len(both):,} are in "
                f"{other.name}"
            )


def selects(run: StageRun) -> bool:
    """Whether to use the weights of the best validation."""
    return run.labelled and run.validation_split is not None and run.config.select == "best"


def images_passed(run: StageRun) -> int:
    """Returns the number of images that all validations of a stage pass through its encoder."""
    split, config = run.validation_split, run.config
    if split is None:
        return 0
    images = split.num_examples
    if not run.labelled:
        images = min(images, _MOST_QUERIES) + min(run.train_split.num_examples, _MOST_IN_BANK)
    return -(-run.epochs // every(config)) * images


def every(config: Config) -> int:
    """Returns the number of logged epochs between validations."""
    return max(1, int(config.eval_epochs))


class Validation:
    """The validation of one stage.

    Args:
        run: The stage's run, whose `validation_split` is not None.
        built: The built stage.
    """

    def __init__(self, run: StageRun, built: Built):
        self._run = run
        measure = _accuracy(run, built) if run.labelled else _neighbours(run, built)
        self._callbacks = [callbacks.Validate(measure, every(run.config))]
        self._best = None
        if selects(run):
            self._best = weights.Checkpoints(
                str(run.directory.path / BEST),
                weights.named(built.networks.weights),
                keep=2,  # the last may be newer than the checkpoint from which the run resumes
                writes=run.is_chief,
            )
            keep = callbacks.KeepBest(self._best, ACCURACY, run.directory.history)
            self._callbacks.append(keep)
        self._early = None
        if run.config.patience:
            with run.strategy.scope():
                self._early = patience.StopEarly(ACCURACY, run.config.patience)
            self._callbacks.append(self._early)

    @property
    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Returns the callbacks, to run before those that write the logs."""
        return self._callbacks

    @property
    def progress(self) -> dict[str, keras.Variable]:
        """Returns the state of the measurements for a checkpoint, by name."""
        return {f"{weights.PROGRESS}waited": self._early.variable} if self._early else {}

    @property
    def stopped(self) -> str | None:
        """The reason why the training stopped early; None if it did not."""
        return self._early.reason if self._early and self._early.stopped else None

    def take_best(self) -> int | None:
        """Loads the best weights into the networks; returns their step, or None without any."""
        if self._best is None or not self._best.restore():
            return None
        step = self._best.newest_step()
        print(f"Using the weights of step {step:,}, the best in validation.", flush=True)
        return step


def _accuracy(run: StageRun, built: Built) -> Callable[[], dict[str, float]]:
    def make():
        with run.strategy.scope():
            classes = built.networks.classifier.output_shape[-1]
            return stages.Evaluation(built.networks.image_classifier(), classes)

    def measure():
        stage = built.once("validation", make)
        logs = evaluation.evaluate(run, stage, run.validation_split, shown=False)
        return {ACCURACY: logs["top_1_accuracy"], LOSS: logs["loss"]}

    return measure


def _neighbours(run: StageRun, built: Built) -> Callable[[], dict[str, float]]:
    """Measures by nearest neighbours; nothing if labels may not be read or have only one class."""
    bank, queries = run.train_split, run.validation_split
    if not (bank.labelled and queries.labelled):
        return dict
    networks = built.trained or built.networks
    bank, queries = _at_most(bank, _MOST_IN_BANK), _at_most(queries, _MOST_QUERIES)

    @tf.function(autograph=False)
    def encode(images):
        return networks.encoder(images, training=False)

    def represent(split):
        batches = Batches(run.config, tf.distribute.InputContext())
        found, labels = [], []
        for images, label, weight in batches.evaluation(split, run.config.eval_batch_size):
            used = (weight > 0) & (label >= 0)
            found.append(encode(images)[used].numpy())
            labels.append(label[used].numpy())
        return np.concatenate(found), np.concatenate(labels)

    def measure():
        known, labels = represent(bank)
        asked, truth = represent(queries)
        if not len(labels) or not len(truth):
            return {}
        classes = int(max(labels.max(), truth.max())) + 1
        predicted = neighbours.predict(known, labels, asked, classes)
        return {NEIGHBOURS: float(np.mean(predicted == truth))}

    return measure


def _at_most(split: datasets.Split, count: int) -> datasets.Split:
    """Returns evenly spaced examples, at most `count`."""
    if split.num_examples <= count or not split.reads_by_id:
        return split
    ids = split.labels()[0]
    return split.subset(ids[np.linspace(0, len(ids) - 1, count).astype(int)].tolist())
