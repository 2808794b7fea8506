"""The run of a stage in its folder: data, networks, training, evaluation, export."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from etils import epy

from simclrv2_tf.console import Console
from simclrv2_tf.experiments import record, validation
from simclrv2_tf.experiments.data import Data, has_labels
from simclrv2_tf.experiments.directory import RunDirectory, RunError

with epy.lazy_imports():
    import keras
    import tensorflow as tf

    from simclrv2_tf import datasets, distribute, networks, optimizers, weights
    from simclrv2_tf import stages as stages_lib
    from simclrv2_tf.export import formats

if TYPE_CHECKING:
    from simclrv2_tf.config import Config

# The published settings of a stage of a run of several, from the run's own options and the share of
# the labels (None: the stage uses all labels, or none).
Settings = Callable[["Config", float | None], Mapping[str, Any]]

# More epochs than this are grouped if they are shorter than this number of steps.
_MOST_SHORT_EPOCHS, _SHORT_EPOCH = 50, 20
# Fixed cost of a step, in units of `work`: two thirds of a step of the demo's fine-tuning, measured
# on two cores.
_BESIDE_THE_NETWORK = 4e5


@dataclasses.dataclass(frozen=True)
class Seams:
    """Replacements with which tests make a run smaller.

    Attributes:
        resnet: A function instead of `resnet.resnet`.
        exports: Whether to write SavedModels by default, `views.png`, the learning curves of a run
            of one stage, `report.html` and the files that it reads.
    """

    resnet: Callable | None = None
    exports: bool = True


@dataclasses.dataclass(frozen=True)
class Built:
    """The networks of a stage and the Keras model that trains them.

    Attributes:
        networks: The networks that train, or their moving averages.
        stage: The stage, not compiled; its constant parts are frozen.
        trained: The networks that are evaluated and exported; by default `networks`.
        state: Variables of a checkpoint in addition to weights and optimizer, by name.
        start: Called when a run starts, but not when it resumes.
        callbacks: Keras callbacks that come before those that write.
        at_peak: A network of `stage` whose learning rate stays at the peak after warm-up.
        made: Objects that a later stage with these networks reuses, by name: see `once`. None if no
            later stage does.
    """

    networks: networks.Networks
    stage: stages_lib.Stage
    trained: networks.Networks | None = None
    state: Mapping[str, keras.Variable] = dataclasses.field(default_factory=dict)
    start: Callable[[], None] | None = None
    callbacks: tuple[keras.callbacks.Callback, ...] = ()
    at_peak: keras.Model | None = None
    made: dict[str, Any] | None = None

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Calls `make`, or returns the object `name` of an earlier stage with these networks."""
        if self.made is None:
            return make()
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]


class StageRun(abc.ABC):
    """One stage in its folder. The constructor checks everything possible before the run starts.

    Args:
        config: The stage's options; `train_mode` names one stage.
        data: The data sets.
        strategy: The `tf.distribute` strategy.
        caps_batch: Whether to reduce a batch larger than the label subset instead of raising.
        seams: Replacements for tests.

    Attributes:
        train_mode: The value of `--train_mode`.
        title: The name of the stage in tables.
        summary: What the stage trains, for `--help`.
        published: The published settings of the stage, by its name in a run of several.
        labelled: Whether its networks map images to logits: whether it trains a classifier.
        passes: Cost of a training step per image, in forward passes of the encoder; a backward pass
            counts as two.
        train_split: The examples that its epochs count.
        labelled_split: The examples whose labels its training and validation use; None: none.
        validation_split: The examples for validation during training; None: none.

    Raises:
        DatasetError, RunError: the options do not fit the data, the devices or the folder.
        ExportError: a package that `export_formats` needs is not installed.
    """

    train_mode: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    published: ClassVar[Mapping[str, Settings]] = {}
    labelled: ClassVar[bool] = True
    passes: ClassVar[int] = 3

    def __init__(
        self,
        config: Config,
        data: Data,
        strategy: tf.distribute.Strategy,
        caps_batch: bool,
        seams: Seams,
    ):
        self.config, self.data, self.strategy, self.seams = config, data, strategy, seams
        # Reading variables and evaluating needs all workers; only the chief writes files.
        self.is_chief = distribute.is_chief(strategy)
        self.console = Console()  # replaced by the run's console
        self.directory = RunDirectory(config)
        self.eval_split = data.evaluated_images(config)
        self.validation_split: datasets.Split | None = None
        self.train_split, self.labelled_split = self.open()
        self._fix_batch_size(caps_batch)
        self._plan_steps()
        formats.check_formats(self.export_formats, config)
        self.directory.check()

    # --- The description of a stage -----------------------------------------------------------

    @abc.abstractmethod
    def open(self) -> tuple[datasets.Split, datasets.Split | None]:
        """Returns `train_split` and `labelled_split`; raises for data that it cannot train on."""

    @abc.abstractmethod
    def build(self, **options) -> Built:
        """Builds networks with random weights, and the stage, which receives `options`."""

    def reuse(self, built: Built) -> None:  # noqa: B027 (most stages hold no other networks)
        """Prepares `built`, from an earlier stage with the same options, but not its networks."""

    @abc.abstractmethod
    def batches(self, context: tf.distribute.InputContext, start_step: int) -> tf.data.Dataset:
        """Returns the infinite training batches of one input pipeline, from `start_step` on."""

    @abc.abstractmethod
    def evaluate(self, built: Built) -> dict[str, float]:
        """Returns the metrics of the trained networks on the evaluation split."""

    @property
    @abc.abstractmethod
    def method(self) -> str:
        """Describes how the weights were trained, for the model card."""

    @property
    def images_name(self) -> str:
        """Names the data set of the training images, for the model card."""
        return self.config.dataset

    @property
    def labels_note(self) -> str:
        """Describes how many labels the training uses."""
        note = f"{self.num_labels:,} labels" if self.num_labels else "no labels"
        return note + ", each class drawn equally often" * self.config.balanced_sampling

    def made_of(self) -> dict[str, Any]:
        """Returns the data and weights that determine the run, as stored in `run.json`."""
        main = {name: self.data.main.split(name) for name in self._splits_of_main()}
        data = {"main": record.of_data(self.data.main, main), "unlabelled": None}
        if other := self.data.unlabelled:
            name = self.data.unlabelled_split(self.config)
            data["unlabelled"] = record.of_data(other, {name: other.split(name)})
        return {"data": data, "weights": weights.fingerprint(self.config.checkpoint)}

    def _splits_of_main(self) -> list[str]:
        config, data = self.config, self.data
        names = [config.train_split, data.evaluated_split(config)]
        if data.unlabelled is None:
            names.append(data.unlabelled_split(config))
        return list(dict.fromkeys(names))

    # --- The run of any stage ------------------------------------------------------------

    @property
    def num_labels(self) -> int:
        """The number of labels that the training uses."""
        split = self.labelled_split
        if split is None:
            return 0
        return split.num_examples if split.num_labels is None else split.num_labels

    @property
    def in_words(self) -> str:
        """Describes in one line the training, its data and its length."""
        config = self.config
        return (
            f"{config.train_mode}: {config.encoder_description}, "
            f"{self.train_split.num_examples:,} images, {self.labels_note}, "
            f"{self.total_steps:,} steps of {config.train_batch_size}"
        )

    @property
    def work(self) -> float:
        """The approximate cost of training and validation, to compare the stages of a run."""
        config = self.config
        network = config.resnet_depth * config.width_multiplier**2 * config.image_size**2
        a_step = config.train_batch_size * self.passes * network + _BESIDE_THE_NETWORK
        return self.total_steps * a_step + validation.images_passed(self) * network

    @property
    def export_formats(self) -> tuple[str, ...]:
        """The formats to export in addition to the `.keras` files."""
        default = formats.DEFAULT_FORMATS if self.seams.exports else ()
        return self.config.export_formats or default

    @property
    def replicas(self) -> int:
        return self.strategy.num_replicas_in_sync

    def check_all_labelled(self) -> None:
        """Rejects parts of `train_split` without labels, if training uses all labels.

        Checks one image of each part if more would require reading the data; the training step
        checks every label. A label subset only has labelled images.

        Raises:
            RunError: a part has no labels.
        """
        config, main = self.config, self.data.main
        if config.label_fraction or config.labels_per_class:
            return
        for part in config.train_split.split("+"):
            split = main.split(part.strip())
            labels = split.num_labels
            if labels is None:
                labels = split.num_examples if has_labels(split) else 0
            if labels < split.num_examples:
                lacking = "lacks some" if labels else "has none"
                raise RunError(
                    f"train_mode={self.train_mode} needs a label for every training image. "
                    f"Received: train_split={config.train_split} of {main.name}, in which {part} "
                    f"{lacking}. Leave that part out, or give --label_fraction=1 to use only the "
                    "labelled images."
                )

    def build_networks(self, num_classes: int, **more) -> networks.Networks:
        """Builds the networks that the options describe, without a classifier for 0 classes."""
        return networks.build_networks(
            self.config,
            num_classes,
            image_size=self.config.image_size,
            seed=self.config.seed,
            channels=self.config.channels,
            zero_init=self.config.zero_init_logits_layer,
            **more,
            resnet=self.seams.resnet,
        )

    def _fix_batch_size(self, caps_batch: bool) -> None:
        """Reduces the batch if allowed, and checks that it fits data and replicas."""
        examples, batch = self.train_split.num_examples, self.config.train_batch_size
        if caps_batch and batch > examples:
            batch = max(examples // self.replicas, 1) * self.replicas
            self.config = dataclasses.replace(self.config, train_batch_size=batch)
            self.directory = RunDirectory(self.config)
        for name in ("train_batch_size", "eval_batch_size"):
            size = getattr(self.config, name)
            if size % self.replicas:
                raise RunError(
                    f"`{name}` must be a multiple of the {self.replicas} replicas. "
                    f"Received: {name}={size}"
                )
        try:
            datasets.check_batch_size(self.train_split, batch, "train_batch_size")
        except datasets.DatasetError as error:
            raise datasets.DatasetError(
                f"{error}. Give --train_batch_size={1 << examples.bit_length() - 1} or less; the "
                "short commands, such as `simclrv2-tf pretrain FOLDER`, choose it automatically."
            ) from None

    def _plan_steps(self) -> None:
        config, examples = self.config, self.train_split.num_examples
        self.schedule, self.total_steps = optimizers.make_schedule(config, examples)
        epochs = config.train_epochs
        if config.train_steps:
            epochs = max(1, round(config.train_steps * config.train_batch_size / examples))
        if 0 < config.eval_epochs < 1:
            self.epochs = min(round(epochs / config.eval_epochs), self.total_steps)
            return
        # Epochs over few labels would log hundreds of lines, and write as many checkpoints, in a
        # minute.
        self.epochs = min(epochs, max(_MOST_SHORT_EPOCHS, self.total_steps // _SHORT_EPOCH))

    def before_training(self) -> None:  # noqa: B027 (most stages write nothing)
        """Writes the files of a stage before it trains; only called on the chief."""

    def used_networks(self, made: networks.Networks) -> networks.Networks:
        """Keeps a head that the stage does not use only if there is one to pass on."""
        if self.labelled and self.config.ft_proj_selector == 0:
            source = weights.latest(str(self.directory)) or self.config.checkpoint
            if not source or not weights.fits(source, [made.head]):
                return dataclasses.replace(made, head=None)
        return made
