"""The images and labels of a run, and the batches of a replica."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from absl import logging
from etils import epy

from simclrv2_tf.augment import ViewOptions
from simclrv2_tf.experiments import classes
from simclrv2_tf.experiments.directory import RunError
from simclrv2_tf.options import of

with epy.lazy_imports():
    import tensorflow as tf

    from simclrv2_tf import datasets
    from simclrv2_tf.datasets import labels as label_subset

if TYPE_CHECKING:
    from simclrv2_tf.config import Config


@dataclasses.dataclass(frozen=True)
class Data:
    """The data sets of a run.

    Attributes:
        main: The data set for training with labels and for evaluation; it may have no labels.
        unlabelled: The data set of the unlabelled images; None: `main`.
    """

    main: datasets.ImageDataset
    unlabelled: datasets.ImageDataset | None = None
    # Drawing reads every label, and may read the subset into memory: do it once for all stages.
    _subsets: dict[tuple, datasets.Split] = dataclasses.field(default_factory=dict)

    @property
    def num_skipped(self) -> int:
        """Number of unreadable images found so far."""
        return sum(data.num_skipped for data in (self.main, self.unlabelled) if data)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Files that are skipped, or used without a label, and the reasons, sorted."""
        found = list(self.main.skipped.items())
        if other := self.unlabelled:
            found += [(f"{other.name}/{path}", why) for path, why in other.skipped.items()]
        return sorted(found)

    def evaluated_images(self, config: Config) -> datasets.Split:
        """Returns the evaluation images; if none are held out, warns and uses training images."""
        if not config.eval_split and not self.main.default_eval_split:
            logging.warning(
                "%s has no held-out images: evaluating on the training images. Use `eval_split` "
                "and `train_split` to divide it, such as --train_split='train[:80%%]'.",
                self.main.name,
            )
        return self.main.split(self.evaluated_split(config))

    def unlabelled_images(self, config: Config) -> datasets.Split:
        """Returns the images of pretraining and distillation; images of `main` keep labels."""
        split = (self.unlabelled or self.main).split(self.unlabelled_split(config))
        return split if self.unlabelled is None else without_labels(split)

    def unlabelled_split(self, config: Config) -> str:
        """Returns the split of `unlabelled_images`, by default plus the images without labels."""
        if config.unlabelled_split:
            return config.unlabelled_split
        if self.unlabelled is None:
            return self.main.with_unlabelled(config.train_split)
        return self.unlabelled.with_unlabelled("train")

    def evaluated_split(self, config: Config) -> str:
        """Returns the split of `evaluated_images`."""
        return config.eval_split or self.main.default_eval_split or config.train_split

    def labelled_images(self, config: Config) -> datasets.Split:
        """Returns the examples whose labels a run may use: all, or the subset in `config`.

        Raises:
            DatasetError, RunError: there are no such labels, or not enough classes.
        """
        split = self.main.split(config.train_split)
        classes.check(self.main, config)
        amount = (config.label_fraction, config.labels_per_class)
        if amount == (None, 0):
            return split
        key = (config.train_split, *amount, config.label_seed)
        if key not in self._subsets:
            self._subsets[key] = self._draw(split, config)
        return self._subsets[key]

    def _draw(self, split: datasets.Split, config: Config) -> datasets.Split:
        if not split.labelled:
            raise RunError(
                f"A label subset needs labels, but {self.main.name} has none in {split.name}. Put "
                "the images in one folder per class."
            )
        ids, labels = split.labels()
        (fraction,) = config.label_fraction or (None,)
        chosen = label_subset.draw(
            ids,
            labels,
            self.main.class_names,
            label_fraction=fraction,
            labels_per_class=config.labels_per_class or None,
            seed=config.label_seed,
        )
        return split.subset(chosen) if len(chosen) < len(ids) else split


def open_data(config: Config) -> Data:
    """Opens the data sets that `config` names.

    Raises:
        DatasetError: there is no such data set.
    """

    def opened(name):
        return datasets.open_dataset(
            name, config.data_dir, config.split_seed, config.value_range, config.channels
        )

    other = config.unlabelled_dataset
    return Data(opened(config.dataset), opened(other) if other else None)


def without_labels(split: datasets.Split) -> datasets.Split:
    """Returns the same examples without labels: one split whose pipelines all stages share."""
    return split.once("unlabelled", split.unlabelled)


def has_labels(split: datasets.Split) -> bool:
    """Whether a split has labels; a data set may have them in some splits.

    Only checks the first example if more would require reading the data.
    """
    if split.num_labels is not None:
        return split.num_labels > 0
    # Loads one record directly, because a pipeline of `examples` takes half a second to build.
    first = split.ordered_records((0, 1)).take(1)
    return any(int(split.load(record, replace_unreadable=False)["label"]) >= 0 for record in first)


def labelled_batch_size(config: Config, split: datasets.Split, replicas: int, part: int = 1) -> int:
    """Returns the labelled images per step, alongside unlabelled ones: a multiple of `replicas`.

    Uses the given number; else a `part`-th of the unlabelled images, at most the size of `split`.
    """
    most = min(config.train_batch_size // part, split.num_examples)
    return config.labelled_batch_size or max(most // replicas, 1) * replicas


@dataclasses.dataclass(frozen=True)
class Batches:
    """Makes the batches of one input pipeline, split among its replicas.

    Args:
        config: The options of the data and of the augmentation.
        context: The pipeline's position among the run's pipelines.
    """

    config: Config
    context: tf.distribute.InputContext

    def views(self, split, batch_size: int, start_step: int = 0) -> tf.data.Dataset:
        """Returns infinite ((view1, view2), label), with `batch_size` images over all replicas."""
        return self._training(datasets.pretraining_batches, split, batch_size, start_step)

    def crops(self, split, batch_size: int, start_step: int = 0) -> tf.data.Dataset:
        """Returns infinite (image, label), for the stages after pretraining."""
        return self._training(datasets.training_batches, split, batch_size, start_step)

    def unlabelled(self, split, strong, batch_size: int, start_step: int = 0) -> tf.data.Dataset:
        """Returns infinite tuples of views, each `strong` (True) or weak (False)."""
        make = datasets.unlabelled_batches
        return self._training(make, split, batch_size, start_step, strong=tuple(strong))

    def evaluation(self, split, batch_size: int) -> tf.data.Dataset:
        """Returns each image once: (image, label, weight)."""
        batches = self._made(
            datasets.evaluation_batches,
            split,
            batch_size=batch_size // self.context.num_input_pipelines,
            image_size=self.config.image_size,
            antialias=self._antialias,
            shard=self._shard,
        )
        return self._per_replica(batches, batch_size)

    def first_views(self, split, count: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the first batch of `count` in `views`: both views, and the evaluation crops."""
        config = self.config
        return datasets.first_views(
            split,
            count=count,
            image_size=config.image_size,
            seed=config.seed,
            views=self._views,
            antialias=self._antialias,
        )

    @property
    def _views(self) -> ViewOptions:
        return ViewOptions(**{name: getattr(self.config, name) for name in of(ViewOptions)})

    @property
    def _antialias(self) -> bool:
        return bool(self.config.antialias)  # None if no run has chosen

    @property
    def _shard(self) -> tuple[int, int]:
        return self.context.input_pipeline_id, self.context.num_input_pipelines

    def _training(self, make, split, batch_size, start_step, **more) -> tf.data.Dataset:
        config = self.config
        batches = self._made(
            make,
            split,
            batch_size=batch_size // self.context.num_input_pipelines,
            image_size=config.image_size,
            seed=config.seed,
            start_step=start_step,
            views=self._views,
            antialias=self._antialias,
            cache=config.cache_dataset,
            shard=self._shard,
            **more,
        )
        return self._per_replica(batches, batch_size)

    def _made(self, make, split, **options) -> tf.data.Dataset:
        """Returns `make(split, **options)`, made once for all stages."""
        if options.get("cache"):  # the images are freed with the stage
            return make(split, **options)
        key = make.__name__, *sorted(options.items(), key=lambda item: item[0])
        return split.once(key, lambda: make(split, **options))

    def _per_replica(self, batches, batch_size) -> tf.data.Dataset:
        """Splits a host's complete, augmented batches among its replicas."""
        replicas = self.context.num_replicas_in_sync
        if replicas == self.context.num_input_pipelines:
            return batches
        return batches.rebatch(batch_size // replicas, drop_remainder=True)
