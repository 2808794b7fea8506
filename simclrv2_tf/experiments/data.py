"""Which images a run trains on, which labels it may use, and the batches that a replica sees."""

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
        main: The set that is trained on with labels and evaluated on; it may have no labels at all.
        unlabelled: The set of the unlabelled images; None: `main`.
    """

    main: datasets.ImageDataset
    unlabelled: datasets.ImageDataset | None = None
    # Drawing reads every label, and may read the subset into memory: once for all stages.
    _subsets: dict[tuple, datasets.Split] = dataclasses.field(default_factory=dict)

    @property
    def num_skipped(self) -> int:
        """Number of unreadable images found so far."""
        return sum(data.num_skipped for data in (self.main, self.unlabelled) if data)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Files that are left out, or used without a label, and the reasons, sorted."""
        found = list(self.main.skipped.items())
        if other := self.unlabelled:
            found += [(f"{other.name}/{path}", why) for path, why in other.skipped.items()]
        return sorted(found)

    def evaluated_images(self, config: Config) -> datasets.Split:
        """The images of the evaluation: training images, with a warning, if none are held out."""
        if not config.eval_split and not self.main.default_eval_split:
            logging.warning(
                "%s holds no images out: evaluation is on the training images. `eval_split` and "
                "`train_split` can cut it, as in --train_split='train[:80%%]'.",
                self.main.name,
            )
        return self.main.split(self.evaluated_split(config))

    def unlabelled_images(self, config: Config) -> datasets.Split:
        """The images of pretraining and distillation; with labels where they are of `main`."""
        split = (self.unlabelled or self.main).split(self.unlabelled_split(config))
        return split if self.unlabelled is None else without_labels(split)

    def unlabelled_split(self, config: Config) -> str:
        """The split of `unlabelled_images`: by default with those that have no label anyway."""
        if config.unlabelled_split:
            return config.unlabelled_split
        if self.unlabelled is None:
            return self.main.with_unlabelled(config.train_split)
        return self.unlabelled.with_unlabelled("train")

    def evaluated_split(self, config: Config) -> str:
        """The split of `evaluated_images`."""
        return config.eval_split or self.main.default_eval_split or config.train_split

    def labelled_images(self, config: Config) -> datasets.Split:
        """The examples whose labels a run may use: all, or the subset that `config` asks for.

        Raises:
            DatasetError, RunError: there are no such labels, or no classes to tell apart.
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
                f"A label subset needs labels, and {self.main.name} has none in {split.name}. "
                "Put the images in a folder for each class."
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
    """The same examples without labels: one split for all stages, which share its pipelines."""
    return split.once("unlabelled", split.unlabelled)


def has_labels(split: datasets.Split) -> bool:
    """Whether a split has labels; a data set may have them in some splits.

    Looks at the first example alone where more would take reading the data.
    """
    if split.num_labels is not None:
        return split.num_labels > 0
    # One record is loaded as it is, since a pipeline of `examples` takes half a second to build.
    first = split.ordered_records((0, 1)).take(1)
    return any(int(split.load(record, replace_unreadable=False)["label"]) >= 0 for record in first)


def labelled_batch_size(config: Config, split: datasets.Split, replicas: int, part: int = 1) -> int:
    """Labelled images a step, beside unlabelled ones: a multiple of `replicas`.

    As given; else a `part`-th of the unlabelled ones, or as many as `split` has.
    """
    most = min(config.train_batch_size // part, split.num_examples)
    return config.labelled_batch_size or max(most // replicas, 1) * replicas


@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches of one input pipeline, split among its replicas.

    Args:
        config: The options of the data and of the augmentation.
        context: The pipeline's place among those of the run.
    """

    config: Config
    context: tf.distribute.InputContext

    def views(self, split, batch_size: int, start_step: int = 0) -> tf.data.Dataset:
        """Endless ((view1, view2), label), `batch_size` images over all replicas."""
        return self._training(datasets.pretraining_batches, split, batch_size, start_step)

    def crops(self, split, batch_size: int, start_step: int = 0) -> tf.data.Dataset:
        """Endless (image, label), as the stages after pretraining see the images."""
        return self._training(datasets.training_batches, split, batch_size, start_step)

    def unlabelled(self, split, strong, batch_size: int, start_step: int = 0) -> tf.data.Dataset:
        """Endless tuples of views, of which each is `strong` (True) or weak (False)."""
        make = datasets.unlabelled_batches
        return self._training(make, split, batch_size, start_step, strong=tuple(strong))

    def evaluation(self, split, batch_size: int) -> tf.data.Dataset:
        """Each image once: (image, label, weight)."""
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
        """The first batch of `count` in `views`: both views, and the images as evaluation crops
        them."""
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
        return bool(self.config.antialias)  # None where no run has chosen

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
        """`make(split, **options)`, once for all stages."""
        if options.get("cache"):  # whose images leave the memory with the stage
            return make(split, **options)
        key = make.__name__, *sorted(options.items(), key=lambda item: item[0])
        return split.once(key, lambda: make(split, **options))

    def _per_replica(self, batches, batch_size) -> tf.data.Dataset:
        """Splits a host's batches, made and augmented whole, among its replicas."""
        replicas = self.context.num_replicas_in_sync
        if replicas == self.context.num_input_pipelines:
            return batches
        return batches.rebatch(batch_size // replicas, drop_remainder=True)
