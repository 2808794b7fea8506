"""One frozen `Config`: every option once, with its default, help and rule.

The absl flags, `--help`, validation and `config.json` are all derived from the fields of `Config`.
Nothing here imports TensorFlow or Keras, so `--help` and a mistyped flag are answered at once.

Flag names and defaults are those of the reference (google-research/simclr, `tf2/run.py`, and the
TF1 README's `variable_schema` and `train_summary_steps`), except `use_tpu=False`,
`weight_decay=1e-4`, `eval_split` chosen by the data set, and `model_dir` under `./runs/`.
"""

import argparse
import dataclasses
import difflib
import functools
import json
import numbers
import os
import pathlib
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from absl import flags

PACKAGED_DATASET = "fashion_mnist_small"
DEFAULT_RECIPE = "demo"
# What a folder of recipes stands for, as `demo` for `demo/default`.
_DEFAULT_IN_FOLDER = "default"

OBJECTIVES = ("nt_xent", "vicreg", "tico", "vicreg_tico", "barlow_twins")
MULTI_STAGE = ("pretrain_linear_eval", "semi_supervised")
EXPORT_FORMATS = ("tar.gz", "onnx", "litert")
# Each has its sub-directory, and options of its own: --STAGE.FLAG=VALUE.
STAGES = (
    "pretrain",
    "linear_eval",
    "supervised",
    "fine_tuned",
    "self_distilled",
    "small_student",
)

_INT_MAX = 2**31 - 1
_FLOAT32_TINY, _FLOAT32_MAX = 2.0**-126, (2 - 2.0**-23) * 2.0**127
_HELP_FLAGS = ("help", "helpshort", "helpfull", "h", "?")


def at_least_1(text: str) -> int:
    """Reads a flag of the other commands, which use argparse.

    Raises:
        argparse.ArgumentTypeError: it is below 1.
        ValueError: it is no whole number.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1. Received: {text}")
    return number


class ConfigError(ValueError):
    """Everything that is wrong with a configuration, one line each.

    Attributes:
        errors: tuple of str, one line for each problem; `str(error)` joins them with newlines.
    """

    def __init__(self, errors: Iterable[str]):
        self.errors = tuple(errors)
        super().__init__(self.errors)

    def __str__(self) -> str:
        return "\n".join(self.errors)


def option(
    default: Any,
    help: str,
    *,
    group: str | None = None,
    choices: tuple | None = None,
    positive: bool = False,
    minimum: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
) -> Any:
    """Declares one field of `Config`; its type is the field's annotation.

    Args:
        default: the default value.
        help: what it does, for `--help`.
        group: opens a group of `--help`; the fields after it belong to the same group.
        choices: the allowed values.
        positive: whether the value must be greater than zero.
        minimum: the smallest allowed value.
        maximum: the largest allowed value.
        below: a bound that the value must stay under.
    """
    rule = {
        "choices": choices,
        "positive": positive,
        "minimum": minimum,
        "maximum": maximum,
        "below": below,
    }
    return dataclasses.field(default=default, metadata={"help": help, "group": group, **rule})


@dataclasses.dataclass(frozen=True)
class _Option:
    """A field of `Config` with its annotation resolved: how to read, check and describe it."""

    name: str
    kind: type  # bool, int, float or str
    many: bool  # a tuple of them, written with commas
    optional: bool
    default: Any
    help: str
    group: str
    choices: tuple | None
    positive: bool
    minimum: float | None
    maximum: float | None
    below: float | None

    @property
    def rule(self) -> str:
        """The rule in words, completing "`name` must be ..."."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        noun = {bool: "true or false", int: "whole number", float: "finite number", str: "text"}
        words = noun[self.kind]
        if self.kind is bool:
            return words
        if self.kind is str:
            return "non-empty " + words
        if self.many:
            words = ("positive " if self.positive else "") + f"{words}s with commas between, each"
        else:
            words = ("a positive " if self.positive else "a ") + words
        if self.minimum is not None and self.maximum is not None:
            return f"{words} from {self.minimum} to {self.maximum}"
        bounds = [
            f"{phrase} {bound}"
            for phrase, bound in (
                ("of at least", self.minimum),
                ("of at most", self.maximum),
                ("below", self.below),
            )
            if bound is not None
        ]
        return " ".join([words, " and ".join(bounds)]).strip()

    def parse(self, text: Any) -> Any:
        """Reads a flag's text; what cannot be read is returned as it came, for `check` to report.

        Conversion errors are deferred this way because absl stops at the first one, while all bad
        flags are to be reported together.
        """
        if not isinstance(text, str):  # a default, already of its type
            return text
        if self.optional and not text:
            return None
        if self.many:
            return tuple(dataclasses.replace(self, many=False).parse(t) for t in text.split(","))
        try:
            if self.kind is bool:
                return {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}[
                    text.lower()
                ]
            return self.kind(text)
        except (ValueError, KeyError):
            return text

    def check(self, value: Any) -> Any:
        """Returns `value` as the option's own type.

        Raises:
            ValueError: it breaks the option's rule; the message is complete.
        """
        if value is None and self.optional:
            return None
        if self.many:
            values = tuple(value) if isinstance(value, list | tuple) else (value,)
            if not values or not all(map(self._allows, values)) or len({*values}) < len(values):
                shown = ",".join(map(str, values))
                raise ValueError(
                    f"`{self.name}` must be {self.rule}, none of them twice. "
                    f"Received: {self.name}={shown}"
                )
            return tuple(map(self.kind, values))
        if self.kind is str and isinstance(value, os.PathLike):
            value = os.fspath(value)
        if not self._allows(value):
            raise ValueError(f"`{self.name}` must be {self.rule}. Received: {self.name}={value!r}")
        value = self.kind(value)
        if self.kind is int and abs(value) > _INT_MAX:
            raise ValueError(
                f"`{self.name}` must be at most {_INT_MAX}. Received: {self.name}={value}"
            )
        return value

    def _allows(self, value: Any) -> bool:
        # bool is an int to Python; `--seed=True` is a mistake to us.
        number = not isinstance(value, bool)
        if self.kind is bool:
            return not number
        if self.kind is str:
            if not isinstance(value, str) or not value.strip():
                return False
        elif self.kind is int:
            if not number or not isinstance(value, numbers.Integral):
                return False
        elif not number or not isinstance(value, numbers.Real):
            return False
        elif not abs(value) <= _FLOAT32_MAX:  # NaN fails too
            return False
        if self.choices and value not in self.choices:
            return False
        # The training computes in float32: what underflows there is not positive there.
        smallest = _FLOAT32_TINY if self.kind is float else 1
        return (
            (not self.positive or value >= smallest)
            and (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.below is None or value < self.below)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """All options of a run, checked.

    Each field is a flag of the same name; `python -m simclrv2_tf.run --help` describes them. A
    `dataset` of None becomes the packaged data set and a `model_dir` of None a folder under
    `runs/`, so neither is None in a finished `Config`.

    Raises:
        ConfigError: names every value that breaks its rule and every inconsistent combination.
    """

    mode: str = option(
        "train",
        "Train, evaluate the last checkpoint in `model_dir`, or one after the other.",
        group="Run",
        choices=("train", "eval", "train_then_eval"),
    )
    train_mode: str = option(
        "pretrain",
        "What is trained. pretrain: encoder and projection head, without labels. finetune: a "
        "classifier on a layer of the pretrained head, and the network above "
        "`fine_tune_after_block`. linear_eval: a classifier on the frozen encoder and head, like "
        "finetune with fine_tune_after_block=4. supervised: a classifier and its encoder from "
        "random weights. distill: a student that matches the class probabilities of `teacher` on "
        "unlabelled images. pretrain_linear_eval: pretrain, then linear evaluation of the "
        "pretrained encoder and of the same encoder at random initialization. semi_supervised: "
        "pretrain, then for each `label_fraction` the supervised baseline, fine-tuning, "
        "self-distillation and distillation into a small student. The last two work in "
        "sub-directories of `model_dir`.",
        choices=("pretrain", "finetune", "linear_eval", "supervised", "distill", *MULTI_STAGE),
    )
    model_dir: str | None = option(
        None,
        "Folder of the run: checkpoints, logs, results, exports. The same command run again "
        "resumes there. By default runs/RECIPE (with the train mode appended where flags change "
        "the recipe's), or runs/DATASET-TRAIN_MODE without a recipe.",
    )
    checkpoint: str | None = option(
        None,
        "Weights to start from where `model_dir` holds no checkpoint yet: a run's folder, one of "
        "its checkpoints, its encoder.keras, or its SavedModel; or weights that the reference "
        "released: a TF1 checkpoint, a TF2 SavedModel, or a name such as r50_1x_sk0.",
    )
    variable_schema: str | None = option(
        None,
        "Accepted for the reference's command lines and without effect: which weights are restored "
        "follows from the train mode.",
    )
    seed: int = option(
        0, "Seed of initial weights, data order, augmentation and data splits.", minimum=0
    )
    precision: str = option(
        "float32",
        "Compute type of the networks. Weights, batch statistics, logits and losses stay float32.",
        choices=("float32", "mixed_bfloat16"),
    )
    debug: bool = option(False, "Show the traceback of an error, not its message alone.")

    dataset: str | None = option(
        None,
        f"{PACKAGED_DATASET} (packaged), the name of a TensorFlow Datasets builder, or folder:PATH "
        "for a folder of images. Without it, flags that are not given come from the recipe "
        f"`{DEFAULT_RECIPE}`.",
        group="Data",
    )
    data_dir: str | None = option(None, "Folder where TensorFlow Datasets keeps its data sets.")
    train_split: str = option("train", "Split to train on.")
    unlabelled_dataset: str | None = option(
        None,
        "Data set of the unlabelled images of pretraining and distillation; by default `dataset`. "
        "Named like it; its labels, if any, are never read.",
    )
    unlabelled_split: str | None = option(
        None,
        "Split of the unlabelled images; by default `train_split`, or `train` of another data set.",
    )
    eval_split: str | None = option(
        None, "Split to evaluate on. By default the data set's test or validation split."
    )
    cache_dataset: bool = option(
        False, "Keep the training images in memory, as they are stored: for small data sets."
    )
    image_size: int = option(224, "Height and width of the network's input, in pixels.", minimum=8)

    label_fraction: tuple[float, ...] | None = option(
        None,
        "Share of the training images whose labels are used: a subset with equally many of each "
        "class, listed in labelled_examples.txt. By default all; in semi_supervised 0.01,0.1, "
        "each of which is a row of its results. Published subsets go by their own names, such as "
        "--dataset=imagenet2012_subset/1pct.",
        group="Labels",
        positive=True,
        maximum=1,
    )
    labels_per_class: int = option(
        0, "Labels of each class, in place of `label_fraction`; 0: as that says.", minimum=0
    )
    label_seed: int = option(
        0,
        "Seed of the label subset: the same subset in every stage, run and machine, whatever "
        "`seed` is.",
        minimum=0,
    )
    hold_labels_back: bool = option(
        False,
        "Never read the labels of the unlabelled images: pretraining then has no online "
        "classifier. (No label ever reaches the encoder in pretraining, either way.)",
    )

    train_batch_size: int = option(
        512, "Images a step over all replicas (twice as many views).", group="Training", minimum=1
    )
    train_epochs: int = option(100, "Epochs to train.", minimum=1)
    train_steps: int = option(
        0,
        "Steps to train, in each stage of a run of several; 0: as `train_epochs` says.",
        minimum=0,
    )
    optimizer: str = option(
        "lars",
        "Update rule of the network; momentum is Nesterov's.",
        choices=("momentum", "adam", "lars"),
    )
    learning_rate: float = option(0.3, "Peak learning rate before scaling.", positive=True)
    learning_rate_scaling: str = option(
        "linear",
        "linear: learning_rate * batch size / 256. sqrt: learning_rate * sqrt(batch size).",
        choices=("linear", "sqrt"),
    )
    warmup_epochs: float = option(
        10.0,
        "Epochs of linear warm-up from 0; cosine decay to 0 follows. A warm-up longer than the run "
        "is followed as far as it goes.",
        minimum=0,
    )
    momentum: float = option(0.9, "Momentum of `lars` and `momentum`.", minimum=0, below=1)
    weight_decay: float = option(
        1e-4,
        "L2 weight decay. Batch norm parameters are left out; lars leaves out biases too.",
        minimum=0,
    )

    objective: str = option(
        "nt_xent",
        "What pretraining minimizes. nt_xent: SimCLR's contrastive loss. vicreg: variance, "
        "invariance, covariance. tico: invariance and the running covariance of the embeddings. "
        "vicreg_tico: vicreg with tico's covariance. barlow_twins: the views' cross-correlation.",
        group="Objective of pretraining",
        choices=OBJECTIVES,
    )
    temperature: float = option(
        0.1,
        "Softmax temperature of nt_xent; in distill that of teacher and student.",
        positive=True,
    )
    hidden_norm: bool = option(True, "nt_xent: L2-normalize the embeddings first.")
    chunk_size: int = option(
        0,
        "nt_xent: compute the loss over blocks of this many rows, exactly and in less memory; 0: "
        "in one block.",
        minimum=0,
    )
    vicreg_invariance: float = option(
        25.0, "Weight of the invariance term of vicreg and vicreg_tico.", minimum=0
    )
    vicreg_variance: float = option(
        25.0, "Weight of the variance term of vicreg and vicreg_tico.", minimum=0
    )
    vicreg_covariance: float = option(
        1.0, "Weight of the covariance term of vicreg and vicreg_tico.", minimum=0
    )
    tico_beta: float = option(
        0.9,
        "Weight of the past in the running covariance of tico and vicreg_tico.",
        minimum=0,
        below=1,
    )
    tico_rho: float = option(8.0, "Weight of tico's covariance term.", minimum=0)
    tico_momentum_views: bool = option(
        False,
        "tico: the second view's embeddings come from a momentum network (`ema_decay`), as in its "
        "paper, and not from the network itself.",
    )
    hybrid_diagonal: bool = option(
        True,
        "vicreg_tico: keep the diagonal of the running covariance, which pulls against the "
        "variance term.",
    )
    hybrid_normalize: bool = option(
        False, "vicreg_tico: L2-normalize the embeddings in the covariance term."
    )
    barlow_off_diagonal: float = option(
        5e-3, "Weight of barlow_twins's off-diagonal term.", minimum=0
    )
    memory_size: int = option(
        0,
        "nt_xent: past embeddings of a momentum network that are kept as more negatives, two of "
        "each image; 65536 in the paper. 0: no memory.",
        minimum=0,
    )
    ema_decay: float = option(
        0.999,
        "Weight of the past in the momentum network's weights, by step.",
        minimum=0,
        below=1,
    )
    eval_ema: bool = option(
        False, "Evaluate and export the momentum network of a pretraining that has one."
    )
    micro_batch_size: int = option(
        0,
        "pretrain: images that a device passes through the network at a time; the loss stays that "
        "of the whole batch, in the memory of a small one and a third as much computation "
        "again. Batch norm then takes its statistics over these images. 0: the whole batch.",
        minimum=0,
    )
    lineareval_while_pretraining: bool = option(
        True,
        "Train a linear classifier beside the network while pretraining, for a running accuracy; "
        "its gradient never reaches the network.",
    )

    resnet_depth: int = option(
        50,
        "Depth of the ResNet. 10 is not in the paper: for small images and machines.",
        group="Network",
        choices=(10, 18, 34, 50, 101, 152, 200),
    )
    width_multiplier: float = option(
        1.0,
        "Multiplier of every layer's width; 1/32 leaves the stem two filters, the fewest it can.",
        minimum=1 / 32,
    )
    sk_ratio: float = option(
        0.0,
        "Reduction ratio of selective kernels; 0: none, 0.0625 recommended.",
        minimum=0,
        maximum=1,
    )
    se_ratio: float = option(
        0.0, "Reduction ratio of squeeze-excitation; 0: none.", minimum=0, maximum=1
    )
    stem: str = option(
        "auto",
        "imagenet: stride 2 and max pooling. cifar: stride 1, no pooling. auto: cifar where "
        "image_size is at most 32.",
        choices=("auto", "cifar", "imagenet"),
    )
    batch_norm_decay: float = option(
        0.9, "Decay of the moving batch statistics.", minimum=0, below=1
    )
    global_bn: bool = option(True, "Take batch statistics over all replicas.")

    proj_head_mode: str = option(
        "nonlinear",
        "Projection head: none, one linear layer, or `num_proj_layers` layers.",
        group="Projection head",
        choices=("none", "linear", "nonlinear"),
    )
    num_proj_layers: int = option(3, "Layers of the nonlinear head.", minimum=1)
    proj_out_dim: int = option(128, "Width of the embedding.", minimum=1)
    proj_hidden_dim: int = option(
        0, "Width of the head's hidden layers; 0: the encoder's width, as in SimCLRv2.", minimum=0
    )
    proj_output_bn: bool = option(
        True, "Whether the head ends in a batch norm, as in SimCLRv2, or in its dense layer."
    )
    ft_proj_selector: int = option(
        0,
        "Layer of the projection head that feeds the classifier: 0 the encoder's output, k after "
        "layer k, -1 the head's output.",
        minimum=-1,
    )

    color_jitter_strength: float = option(
        1.0,
        "Strength of the color jitter. At 2.5 hue takes the whole circle.",
        group="Augmentation",
        minimum=0,
        maximum=2.5,
    )
    color_jitter_version: str = option(
        "v2",
        "v2 multiplies brightness, v1 (SimCLR's) adds to it.",
        choices=("v2", "v1"),
    )
    use_blur: bool = option(True, "Gaussian blur in pretraining, for half of the views.")
    min_crop_area: float = option(
        0.08, "Smallest part of an image's area that a random crop takes.", positive=True, maximum=1
    )

    labelled_views: str = option(
        "crop_flip",
        "Views in all stages after pretraining. crop_flip: a random crop and flip. pretrain: color "
        "jitter and blur too, as in pretraining.",
        choices=("crop_flip", "pretrain"),
    )

    fine_tune_after_block: int = option(
        -1,
        "In finetune, train what comes after this block: -1 everything, 0 after the stem, 1 to 4 "
        "after that block group; 4 is linear evaluation where `ft_proj_selector` is 0: the layers "
        "of the projection head below the selected one always train in finetune.",
        group="Fine-tuning and linear evaluation",
        minimum=-1,
        maximum=4,
    )
    zero_init_logits_layer: bool = option(False, "Start the classifier at zero.")
    linear_evaluation: bool = option(
        False,
        "semi_supervised: also linear evaluation on all labels, of the pretrained encoder and of "
        "the same encoder at random initialization.",
    )

    teacher: str | None = option(
        None,
        "Whose class probabilities the student matches: the folder of a labelled run, a .keras "
        "model from images to logits, or a SavedModel.",
        group="Distillation",
    )
    distill_alpha: float = option(
        1.0,
        "Weight of the distillation loss; 1 - distill_alpha is that of the cross-entropy on the "
        "labelled images. 1: unlabelled images only.",
        minimum=0,
        maximum=1,
    )
    distill_squared_temperature: bool = option(
        False, "Multiply the distillation loss by temperature^2; not in the paper."
    )
    labelled_batch_size: int = option(
        0,
        "Labelled images a step where distill_alpha is below 1; 0: train_batch_size, or all of "
        "them where they are fewer.",
        minimum=0,
    )

    eval_batch_size: int = option(
        256, "Images a step in evaluation.", group="Evaluation", minimum=1
    )
    eval_steps: int = option(0, "Steps of an evaluation; 0: the whole split.", minimum=0)
    eval_name: str | None = option(
        None, "Name of the evaluation, so that several can share a `model_dir`."
    )

    checkpoint_epochs: int = option(
        1,
        "Epochs between checkpoints. Where there are over 50 epochs of less than 20 steps, several "
        "of them count as one here and in the logs.",
        group="Checkpoints and logs",
        minimum=1,
    )
    checkpoint_steps: int = option(
        0, "Steps between checkpoints; 0: as `checkpoint_epochs` says.", minimum=0
    )
    keep_checkpoint_max: int = option(5, "Newest checkpoints to keep.", minimum=1)
    keep_hub_module_max: int = option(
        1, "Newest exported SavedModels to keep; 0: all, as in the reference.", minimum=0
    )
    export_formats: tuple[str, ...] | None = option(
        None,
        "What to write beside the SavedModel, with commas between. tar.gz: the SavedModel as one "
        "file, as TF Hub loads it from an address. onnx (needs 'simclrv2-tf[onnx]'), "
        "litert: the encoder, or the whole image classifier, in these formats.",
        choices=EXPORT_FORMATS,
    )
    train_summary_steps: int = option(
        100, "Steps between TensorBoard scalars; 0: only at each epoch's end.", minimum=0
    )

    strategy: str = option(
        "auto",
        "default: one device. mirrored: a replica on each GPU, or on `num_replicas` logical CPUs. "
        "multi_worker: this command in each process that the environment variable TF_CONFIG names, "
        "with one model_dir that all can reach. tpu: every core of a TPU. auto: multi_worker where "
        "TF_CONFIG names several workers, mirrored where there are several GPUs or num_replicas is "
        "above 1, else default.",
        group="Devices",
        choices=("auto", "default", "mirrored", "multi_worker", "tpu"),
    )
    num_replicas: int = option(0, "Number of replicas; 0: every GPU, or one CPU.", minimum=0)
    use_tpu: bool = option(False, "The same as strategy=tpu; an error where there is no TPU.")
    tpu_name: str | None = option(
        None, "With a TPU: name or grpc address of the Cloud TPU, or `local`."
    )
    tpu_zone: str | None = option(None, "With a TPU: zone of the Cloud TPU.")
    gcp_project: str | None = option(None, "With a TPU: project of the Cloud TPU.")
    master: str | None = option(
        None, "With a TPU: address of the TensorFlow master, in place of `tpu_name`."
    )
    steps_per_execution: int = option(
        0,
        "Training steps in one call of the compiled function, after which metrics are read: more "
        "keep an accelerator busy. 0: 1 on CPUs, 16 elsewhere.",
        minimum=0,
    )

    # No flag of its own: {stage: {option: value}}, a stage being one of STAGES, or STAGE@FRACTION.
    stage_options: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self):
        errors, bad = [], set()
        for name, spec in _options().items():
            try:
                object.__setattr__(self, name, spec.check(getattr(self, name)))
            except ValueError as error:
                errors.append(str(error))
                bad.add(name)
        stage_options, stage_errors = _check_stage_options(self.stage_options)
        object.__setattr__(self, "stage_options", stage_options)
        errors += stage_errors

        def require(names: tuple[str, ...], holds: Callable[[], bool], rule: str):
            # Combinations are judged only where each of their values is valid by itself.
            if bad.isdisjoint(names) and not holds():
                received = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
                errors.append(f"{rule} Received: {received}")

        require(
            ("ft_proj_selector", "proj_head_mode", "num_proj_layers"),
            lambda: self.ft_proj_selector <= self.num_head_layers,
            "`ft_proj_selector` must not exceed the number of projection head layers.",
        )
        require(
            ("fine_tune_after_block", "train_mode"),
            lambda: (
                self.train_mode in ("finetune", "linear_eval") or self.fine_tune_after_block == -1
            ),
            "`fine_tune_after_block` must be -1 but in finetune and linear_eval: elsewhere all of "
            "the network trains.",
        )
        require(
            ("fine_tune_after_block", "train_mode"),
            lambda: self.train_mode != "linear_eval" or self.fine_tune_after_block in (-1, 4),
            "`fine_tune_after_block` must be 4 or left out in linear_eval, which freezes the "
            "encoder.",
        )
        require(
            ("label_fraction", "labels_per_class"),
            lambda: self.label_fraction is None or not self.labels_per_class,
            "`label_fraction` and `labels_per_class` exclude each other.",
        )
        require(
            ("label_fraction", "train_mode"),
            lambda: self.train_mode == "semi_supervised" or len(self.label_fraction or ()) < 2,
            "`label_fraction` must be one number, except in semi_supervised.",
        )
        for name in ("label_fraction", "labels_per_class"):
            require(
                (name, "train_mode"),
                lambda name=name: self.train_mode != "pretrain" or not getattr(self, name),
                f"`{name}` must be left out in pretrain, which learns from no label; "
                "--hold_labels_back takes them from its online classifier too.",
            )
        require(
            ("teacher", "train_mode"),
            lambda: (self.teacher is not None) == (self.train_mode == "distill"),
            "`teacher` must be given in distill, and nowhere else.",
        )
        require(
            ("checkpoint", "train_mode"),
            lambda: self.checkpoint is None or self.train_mode != "supervised",
            "`checkpoint` must be left out in supervised, the baseline from random weights; "
            "finetune starts from a checkpoint.",
        )
        require(
            ("use_tpu", "strategy"),
            lambda: not self.use_tpu or self.strategy in ("auto", "tpu"),
            "`use_tpu` needs strategy='auto' or 'tpu'.",
        )
        require(
            ("num_replicas", "strategy", "use_tpu"),
            lambda: (
                self.num_replicas == 0
                or not (self.use_tpu or self.strategy in ("multi_worker", "tpu"))
            ),
            "`num_replicas` must be 0 on a TPU, which takes every core, and in multi_worker, which "
            "takes every device of each worker.",
        )
        require(
            ("num_replicas", "strategy"),
            lambda: self.num_replicas <= 1 or self.strategy != "default",
            "`num_replicas` must be at most 1 with strategy='default'.",
        )
        require(
            ("micro_batch_size", "train_batch_size", "num_replicas"),
            lambda: (
                not self.micro_batch_size
                or self.train_mode != "pretrain"
                or not self.train_batch_size % (self.micro_batch_size * max(self.num_replicas, 1))
            ),
            "`micro_batch_size` must divide a replica's part of the batch.",
        )
        for name in ("memory_size", "chunk_size"):
            require(
                (name, "objective"),
                lambda name=name: not getattr(self, name) or self.objective == "nt_xent",
                f"`{name}` must be 0 but with objective='nt_xent': no other has negatives.",
            )
        require(
            ("tico_momentum_views", "objective"),
            lambda: not self.tico_momentum_views or self.objective == "tico",
            "`tico_momentum_views` needs objective='tico'.",
        )
        require(
            ("eval_ema", "memory_size", "tico_momentum_views"),
            lambda: not self.eval_ema or self.has_momentum_network,
            "`eval_ema` needs a momentum network: `memory_size` above 0 or `tico_momentum_views`.",
        )
        require(
            ("train_batch_size", "objective"),
            lambda: (
                self.train_batch_size > 1
                or self.train_mode != "pretrain"
                or self.objective in ("nt_xent", "tico")
            ),
            "`train_batch_size` must be at least 2 where the objective has a variance over images.",
        )
        for name in ("train_batch_size", "labelled_batch_size"):
            require(
                (name, "num_replicas"),
                lambda name=name: not getattr(self, name) % max(self.num_replicas, 1),
                f"`{name}` must be divisible by num_replicas.",
            )
        if errors:
            raise ConfigError(errors)
        for name in ("model_dir", "checkpoint", "teacher"):
            if getattr(self, name):
                object.__setattr__(self, name, os.path.expanduser(getattr(self, name)))
        if self.dataset is None:
            object.__setattr__(self, "dataset", PACKAGED_DATASET)
        if self.model_dir is None:
            object.__setattr__(self, "model_dir", _run_folder(f"{self.dataset}-{self.train_mode}"))

    @property
    def num_head_layers(self) -> int:
        """Layers of the projection head: 0, 1 or `num_proj_layers`, by `proj_head_mode`."""
        return {"none": 0, "linear": 1, "nonlinear": self.num_proj_layers}[self.proj_head_mode]

    @property
    def has_momentum_network(self) -> bool:
        """Whether pretraining keeps a moving average of the network."""
        return self.memory_size > 0 or self.tico_momentum_views

    @classmethod
    def from_argv(cls, argv: Sequence[str] | None = None) -> Self:
        """Builds a `Config` from a command line; the last value of a flag wins.

        `--flagfile=NAME` is replaced by the flags in that file: NAME as a path if there is such a
        file, else a recipe that comes with the package. Without a data set, flags that are not
        given come from the recipe `demo`. `--help` prints the options and exits with status 0.

        Args:
            argv: program name, then flags; `sys.argv` by default.

        Raises:
            ConfigError: names every unknown flag, bad value, missing recipe and inconsistent
                combination. No file other than recipes has been looked at by then.
        """
        args = list(sys.argv if argv is None else argv)[1:]
        before_end = args[: args.index("--")] if "--" in args else args
        if any(arg.startswith("-") and arg.lstrip("-") in _HELP_FLAGS for arg in before_end):
            print(help_text())
            raise SystemExit(0)
        errors: list[str] = []
        args, recipe_args, names = _expand_flagfiles(args, errors)
        # The recipes' own flags are part of `args`: their errors are reported once.
        recipe = _parse(recipe_args, [])
        return cls._from_given(_parse(args, errors), recipe, names, errors)

    @classmethod
    def from_flags(cls, flag_values: flags.FlagValues = flags.FLAGS) -> Self:
        """Builds a `Config` from absl flags that `define_flags` made and absl has parsed.

        For programs with flags of their own that run under `absl.app`. There absl reads
        `--flagfile` itself: by path only, and it does not tell the recipe's name.

        Raises:
            ConfigError: as in `from_argv`, but absl itself reports unknown flags.
        """
        return cls._from_given({**_given(flag_values), "stage_options": {}}, {}, [], [])

    @classmethod
    def _from_given(
        cls,
        given: dict[str, Any],
        recipe: Mapping[str, Any],
        names: list[str],
        errors: list[str],
    ) -> Self:
        """Adds the demo recipe where no data set is given, names `model_dir`, and validates.

        Args:
            given: parsed values by option name, `recipe`'s included.
            recipe: the values that came from flag files, to tell what the flags change.
            names: the flag files' names.
            errors: problems found so far.
        """
        if given.get("dataset") is None:
            demo_args, _, demo_names = _expand_flagfiles(
                [f"--flagfile={recipe_folder() / DEFAULT_RECIPE / _DEFAULT_IN_FOLDER}"], errors
            )
            demo = _parse(demo_args, errors)
            given = {
                **demo,
                **{k: v for k, v in given.items() if k != "dataset"},
                "stage_options": _overlay(demo["stage_options"], given["stage_options"]),
            }
            recipe = {**demo, **recipe}
            names = names or demo_names
        if names and given.get("model_dir") is None:
            default = _options()["train_mode"].default
            train_mode = given.get("train_mode", default)
            changed = train_mode != recipe.get("train_mode", default)
            given["model_dir"] = _run_folder("-".join(names + [train_mode] * changed))
        try:
            config = cls(**given)
        except ConfigError as error:
            errors = [*errors, *error.errors]
        if errors:
            raise ConfigError(errors)
        return config

    def to_json(self) -> str:
        """All options as a JSON object, in their order here."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote; options it lacks take their defaults.

        Raises:
            ConfigError: not a JSON object, an option that does not exist, or a bad value.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigError([f"`text` must be JSON. Received: {error}"]) from None
        if not isinstance(values, dict):
            raise ConfigError([f"`text` must be a JSON object. Received: {type(values).__name__}"])
        known = {f.name for f in dataclasses.fields(cls)}
        errors = [
            f"Unknown option `{name}`.{_suggestion(name, _options())} Received: {name}={value!r}"
            for name, value in values.items()
            if name not in known
        ]
        try:
            config = cls(**{name: values[name] for name in values if name in known})
        except ConfigError as error:
            errors.extend(error.errors)
        if errors:
            raise ConfigError(errors)
        return config


@functools.cache
def _options() -> dict[str, _Option]:
    hints = typing.get_type_hints(Config)
    options, group = {}, None
    for field in dataclasses.fields(Config):
        metadata = dict(field.metadata)
        if not metadata:
            continue
        group = metadata.pop("group") or group
        hint = hints[field.name]
        optional = isinstance(hint, types.UnionType)
        kind = typing.get_args(hint)[0] if optional else hint
        many = typing.get_origin(kind) is tuple
        kind = typing.get_args(kind)[0] if many else kind
        options[field.name] = _Option(
            field.name, kind, many, optional, field.default, group=group, **metadata
        )
    return options


# What a run of several stages has once, or sets itself for each of them.
_NOT_BY_STAGE = frozenset(
    ["mode", "train_mode", "model_dir", "checkpoint", "variable_schema", "precision", "debug"]
    + ["dataset", "data_dir", "train_split", "eval_split", "unlabelled_dataset", "unlabelled_split"]
    + ["label_fraction", "labels_per_class", "label_seed", "hold_labels_back", "teacher"]
    + ["linear_evaluation", "eval_name", "strategy", "num_replicas"]
    + ["use_tpu", "tpu_name", "tpu_zone", "gcp_project", "master", "steps_per_execution"]
)


def stage_key(stage: str, fraction: float) -> str:
    """The key of `Config.stage_options` for a stage at one label fraction."""
    return f"{stage}@{fraction:g}"


def _check_stage_options(given: Any) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """`stage_options` with values of their own types, and what is wrong with it."""
    checked, errors = {}, []
    if not isinstance(given, Mapping) or not all(isinstance(v, Mapping) for v in given.values()):
        return {}, [f"`stage_options` must map stages to options. Received: {given!r}"]
    for key, values in given.items():
        stage, at, fraction = key.partition("@")
        try:
            known = stage in STAGES and (not at or 0 < float(fraction) <= 1)
        except ValueError:
            known = False
        if not known:
            errors.append(
                "A stage must be one of " + ", ".join(STAGES) + ", or STAGE@FRACTION for one label "
                f"fraction, such as fine_tuned@0.01.{_suggestion(stage, STAGES)} Received: {key}"
            )
            continue
        key = stage_key(stage, float(fraction)) if at else stage
        checked.setdefault(key, {})
        for name, value in values.items():
            if name in _NOT_BY_STAGE:
                errors.append(
                    f"`{name}` must be the same in all stages of a run. "
                    f"Received: {key}.{name}={value!r}"
                )
            elif name not in _options():
                errors.append(
                    f"Unknown option `{name}`.{_suggestion(name, _options())} "
                    f"Received: {key}.{name}={value!r}"
                )
            else:
                try:
                    checked[key][name] = _options()[name].check(value)
                except ValueError as error:
                    errors.append(f"{key}: {error}")
    return checked, errors


def _overlay(below: Mapping[str, dict], above: Mapping[str, dict]) -> dict[str, dict]:
    """Options by stage, those of `above` winning."""
    return {key: {**below.get(key, {}), **above.get(key, {})} for key in {**below, **above}}


class _DeferringParser(flags.ArgumentParser):
    """Gives absl the option's own reading of a value, which never fails."""

    def __init__(self, spec: _Option):
        self._spec = spec
        self.syntactic_help = spec.rule

    def parse(self, argument: Any) -> Any:
        return self._spec.parse(argument)

    def flag_type(self) -> str:
        return self._spec.kind.__name__


def define_flags(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines one absl flag for each field of `Config`, for use with `Config.from_flags`.

    Args:
        flag_values: where to define them; absl's global flags by default.
    """
    for spec in _options().values():
        flag = flags.Flag(
            _DeferringParser(spec),
            flags.ArgumentSerializer(),
            spec.name,
            spec.default,
            spec.help,
            boolean=spec.kind is bool,
        )
        flags.DEFINE_flag(flag, flag_values, module_name=__name__)


def help_text() -> str:
    """The text of `--help`: every flag by group, with its rule and default."""
    lines = [
        "SimCLRv2 in Keras 3 and TensorFlow.",
        "",
        "Usage: python -m simclrv2_tf.run [--flagfile=RECIPE] [--flag=value ...]",
        "",
        "The last value of a flag wins, so flags after --flagfile change the recipe. An empty",
        "value (--checkpoint=) unsets a flag whose default is none.",
        "",
        "A run of several stages (semi_supervised, pretrain_linear_eval) takes options for one",
        "stage as --STAGE.FLAG=VALUE, and for one stage at one label fraction as",
        "--STAGE@FRACTION.FLAG=VALUE, such as --fine_tuned@0.01.train_epochs=60. Stages: ",
        f"{', '.join(STAGES)}.",
        "Those after pretrain have the published settings where nothing is given for them.",
        "",
        *textwrap.wrap(f"Recipes: {', '.join(recipe_names())}.", 96, break_on_hyphens=False),
    ]
    group = None
    for spec in _options().values():
        if spec.group != group:
            group = spec.group
            lines += ["", f"{group}:"]
        prefix = "[no]" if spec.kind is bool else ""
        default = "none" if spec.default is None else str(spec.default)
        if spec.kind is bool:
            default = default.lower()
        lines.append(f"  --{prefix}{spec.name} (default: {default})")
        rule = "" if spec.kind in (bool, str) and not spec.choices else f" ({spec.rule})"
        lines += textwrap.wrap(
            spec.help + rule,
            width=96,
            initial_indent="      ",
            subsequent_indent="      ",
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def recipe_folder() -> pathlib.Path:
    """Folder of the recipes that come with the package.

    A wheel holds them inside the package; in the repository they lie beside it, in `flags/`.
    """
    package = pathlib.Path(__file__).resolve().parent
    installed = package / "flags"
    return installed if installed.is_dir() else package.parent / "flags"


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package, such as `cifar10/pretrain`."""
    folder = recipe_folder()
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in files if not path.name.startswith("."))


def _find_flagfile(name: str) -> pathlib.Path | None:
    path = pathlib.Path(name).expanduser()
    recipe = recipe_folder() / name.removeprefix("./").removeprefix("flags/")
    candidates = (path, path / _DEFAULT_IN_FOLDER, recipe, recipe / _DEFAULT_IN_FOLDER)
    return next((found for found in candidates if found.is_file()), None)


def _expand_flagfiles(
    args: Sequence[str], errors: list[str], inside: tuple[pathlib.Path, ...] = ()
) -> tuple[list[str], list[str], list[str]]:
    """Puts the flags of each flag file in the place of its `--flagfile`.

    absl has this too, but it neither finds packaged recipes nor goes on after an error.

    Args:
        args: command-line arguments, without the program's name.
        errors: problems are appended here.
        inside: the flag files being read, to notice a circle.

    Returns:
        All arguments, those among them that come from flag files, and the names of the outermost
        flag files, such as `cifar10-pretrain`.
    """
    expanded, from_files, names = [], [], []
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            expanded += [arg, *rest]
            break
        flag, equals, name = arg.partition("=")
        if flag not in ("--flagfile", "-flagfile"):
            expanded.append(arg)
            continue
        name = (name if equals else next(rest, "")).strip()
        path = _find_flagfile(name)
        if path is None:
            errors.append(
                "`flagfile` must be a file or one of the recipes "
                f"{', '.join(recipe_names())}. Received: flagfile={name!r}"
            )
            continue
        if path.resolve() in inside:
            errors.append(f"`flagfile` must not include itself. Received: flagfile={name!r}")
            continue
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            errors.append(f"`flagfile` must be readable text. Received: flagfile={name!r}: {error}")
            continue
        lines = [line for line in lines if line and not line.startswith(("#", "//"))]
        inner, _, _ = _expand_flagfiles(lines, errors, (*inside, path.resolve()))
        expanded += inner
        from_files += inner
        names.append(_recipe_name(path))
    return expanded, from_files, names


def _recipe_name(path: pathlib.Path) -> str:
    _, found, below = path.absolute().as_posix().rpartition("/flags/")
    name = (below if found else path.name).removesuffix(f"/{_DEFAULT_IN_FOLDER}")
    return name.replace("/", "-")


def _run_folder(name: str) -> str:
    return "runs/" + re.sub(r"[^\w.]+", "-", name).strip("-.")


def _given(flag_values: flags.FlagValues) -> dict[str, Any]:
    given = (flag_values[name] for name in _options())
    return {flag.name: flag.value for flag in given if not flag.using_default_value}


def _parse(args: Sequence[str], errors: list[str]) -> dict[str, Any]:
    """Values of the flags in `args` by name; unknown and malformed ones go to `errors`."""
    booleans = {name for name, spec in _options().items() if spec.kind is bool}
    args, by_stage = _split_by_stage(args, booleans)
    stage_options = {}
    for stage, stage_args in by_stage.items():
        stage_errors = []
        stage_options[stage] = _parse(stage_args, stage_errors)
        stage_options[stage].pop("stage_options")
        errors += [f"{stage}: {error}" for error in stage_errors]
    accepted = []
    for arg in args:
        flag, equals, _ = arg.partition("=")
        negated = flag.lstrip("-").removeprefix("no")
        if (
            arg.startswith("-")
            and equals
            and flag.endswith(f"-no{negated}")
            and negated in booleans
        ):
            errors.append(f"`--no{negated}` takes no value. Received: {arg}")
        else:
            accepted.append(arg)
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    flag_values.set_gnu_getopt(True)
    try:
        _, *unparsed = flag_values(["", *accepted], known_only=True)
    except flags.Error as error:
        # Values are never refused here, so what is left is a last flag that lacks its value.
        errors.append(f"{error}. Received: {accepted[-1]}")
        return {**_parse(accepted[:-1], errors), "stage_options": stage_options}
    known = {*_options(), *("no" + name for name in booleans), "flagfile", "help"}
    for arg in unparsed:
        if arg == "--":
            continue
        if arg.startswith("-"):
            name = arg.lstrip("-").partition("=")[0]
            errors.append(f"Unknown flag `--{name}`.{_suggestion(name, known)} Received: {arg}")
        else:
            errors.append(f"Flags are written --name=value. Received: {arg}")
    return {**_given(flag_values), "stage_options": stage_options}


_STAGE_FLAG = re.compile(r"--?(\w+(?:@[^=]*?)?)\.(\w+)(=.*)?", re.DOTALL)


def _split_by_stage(args: Sequence[str], booleans) -> tuple[list[str], dict[str, list[str]]]:
    """Takes --STAGE.FLAG out of `args`: what is left, and for each stage its --FLAG."""
    left, by_stage = [], {}
    rest = iter(args)
    for arg in rest:
        match = _STAGE_FLAG.fullmatch(arg)
        if match is None:
            left.append(arg)
            continue
        stage, flag, value = match.groups(default="")
        own = by_stage.setdefault(stage, [])
        own.append(f"--{flag}{value}")
        if not value and flag.removeprefix("no") not in booleans:
            own += [following for following in [next(rest, None)] if following is not None]
    return left, by_stage


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean `{close[0]}`?" if close else ""
