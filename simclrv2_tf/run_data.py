"""Which images a run trains on, and which of their labels it may use."""

from __future__ import annotations

import dataclasses

from simclrv2_tf import datasets
from simclrv2_tf.config import Config
from simclrv2_tf.datasets import labels as label_subsets
from simclrv2_tf.run_directory import RunError


@dataclasses.dataclass(frozen=True)
class Data:
    """The data sets of a run.

    Attributes:
        main: What is trained with labels and evaluated on; it may have no labels at all.
        unlabelled: Where the unlabelled images come from; None: from `main`.
    """

    main: datasets.ImageDataset
    unlabelled: datasets.ImageDataset | None = None
    # Drawing reads every label, and may read the subset into memory: once for all stages.
    _subsets: dict[tuple, datasets.Split] = dataclasses.field(default_factory=dict)

    def unlabelled_images(self, config: Config) -> datasets.Split:
        """The images of pretraining and distillation; with labels where they are of `main`."""
        if self.unlabelled is None:
            return self.main.split(config.unlabelled_split or config.train_split)
        return self.unlabelled.split(config.unlabelled_split or "train").unlabelled()

    def labelled_images(self, config: Config) -> datasets.Split:
        """The examples whose labels a run may use: all, or the subset that `config` asks for."""
        split = self.main.split(config.train_split)
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
        chosen = label_subsets.draw(
            ids,
            labels,
            self.main.class_names,
            label_fraction=fraction,
            labels_per_class=config.labels_per_class or None,
            seed=config.label_seed,
        )
        return split.subset(chosen) if len(chosen) < len(ids) else split


def open_data(config: Config) -> Data:
    """Opens what `config` names.

    Raises:
        DatasetError: there is no such data set.
    """
    return Data(
        datasets.open_dataset(config.dataset, config.data_dir, config.seed),
        datasets.open_dataset(config.unlabelled_dataset, config.data_dir, config.seed)
        if config.unlabelled_dataset
        else None,
    )
