"""Options of the files that a run writes during training."""

import dataclasses

from simclrv2_tf import options
from simclrv2_tf.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions(options.Group, title="Checkpoints and logs", incidental=True):
    """Checkpoints, logs, and steps in one call."""

    checkpoint_epochs: int = option(
        1,
        "Epochs between checkpoints. If there are over 50 epochs of less than 20 steps, several of "
        "them count as one here and in the logs.",
        minimum=1,
    )
    checkpoint_steps: int = option(
        0, "Steps between checkpoints; 0: use `checkpoint_epochs`.", minimum=0
    )
    checkpoint_minutes: float = option(
        0.0,
        "Minutes after which a checkpoint is also written within an epoch, for long epochs; 0: "
        "never.",
        minimum=0,
    )
    keep_checkpoint_max: int | None = option(
        None,
        "Number of newest checkpoints to keep; default: two while a stage trains, one after its "
        "end.",
        minimum=1,
    )
    train_summary_steps: int = option(
        100,
        "Steps between TensorBoard scalars, in addition to each epoch's end; 0: only there.",
        minimum=0,
    )
    report_to: tuple[str, ...] | None = option(
        None,
        "Experiment trackers that log the metrics of every epoch and of the evaluation, in "
        "addition to TensorBoard: wandb (Weights & Biases), mlflow, or both, as wandb,mlflow. Each "
        "needs its extra, such as 'simclrv2-tf[wandb]', and reads its own environment variables. A "
        "stage is one run of the tracker; a resumed stage resumes that run.",
        choices=("wandb", "mlflow"),
    )
    embedding_projector: bool = option(
        False,
        "Write the pretrained network's representations of at most 1,000 evaluation images for "
        "TensorBoard's Projector tab, with class names and thumbnails. A finished run is evaluated "
        "again for this.",
        once=True,
    )
    verbose: bool = option(
        False,
        "Print all metrics of every epoch, one line per epoch, instead of bars on a terminal and a "
        "few lines per stage elsewhere. history.csv always has all metrics.",
    )
    profile: bool = option(
        False,
        "Write a trace of ten calls of the training step (see `steps_per_execution`) to "
        "`logs/train`, for TensorBoard's Profile tab, which needs the package "
        "tensorboard-plugin-profile.",
        once=True,
    )
    steps_per_execution: int = option(
        0,
        "Training steps in one call of the compiled function, after which metrics are read. Larger "
        "values keep an accelerator busy. 0: 1 on CPUs, 16 elsewhere.",
        minimum=0,
        once=True,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidationOptions(options.Group, title="Validation while training", once=True):
    """Validation on held-out training images during training, and its use."""

    eval_epochs: float = option(
        0.0,
        "Epochs between validations; 0: none. Values below 1, such as 0.25, give several "
        "validations per epoch, each of which counts as an epoch in the logs. Validation measures "
        "the accuracy in stages with labels, and the accuracy of nearest neighbours of the "
        "representation in pretraining, if labels may be read. Distillation needs labelled images "
        "of a split for it. The results are in the log, history.csv and "
        "TensorBoard.",
        minimum=0,
        once=False,
    )
    validation_split: str | None = option(
        None,
        "Split of the validation images (see `eval_epochs`), such as train[90%:]. Default: the "
        "split validation, if the data set has one that is not reported; else, and if a stage with "
        "a label subset uses validation to choose (`select`, `patience`), a tenth of each class, "
        "held out of the training images. Never images of `eval_split`, which is "
        "reported.",
    )
    select: str = option(
        "best",
        "Which weights of a validated stage with labels to export and evaluate: those with the "
        "best validation accuracy, or the last. With under ten labels per class, and in "
        "pretraining, always the last.",
        choices=("best", "last"),
        once=False,
    )
    patience: int = option(
        0,
        "Stop a stage with labels when its validation accuracy has not improved for this many "
        "validations (see `eval_epochs`); 0: never. The learning rate schedule still covers the "
        "whole length. No effect on pretraining, which keeps its last weights, or without "
        "validation, as with under ten labels per class.",
        minimum=0,
        once=False,
    )
