"""Options of what a run writes while it trains."""

import dataclasses

from simclrv2_tf import options
from simclrv2_tf.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions(options.Group, title="Checkpoints and logs", incidental=True):
    """Checkpoints, logs, and steps in one call."""

    checkpoint_epochs: int = option(
        1,
        "Epochs between checkpoints. Where there are over 50 epochs of less than 20 steps, several "
        "of them count as one here and in the logs.",
        minimum=1,
    )
    checkpoint_steps: int = option(
        0, "Steps between checkpoints; 0: as `checkpoint_epochs` says.", minimum=0
    )
    checkpoint_minutes: float = option(
        0.0,
        "Minutes after which a checkpoint is written within an epoch too, for long epochs; 0: "
        "never.",
        minimum=0,
    )
    keep_checkpoint_max: int | None = option(
        None,
        "Newest checkpoints to keep. By default two while a stage trains, and the last one once "
        "the stage has ended.",
        minimum=1,
    )
    train_summary_steps: int = option(
        100,
        "Steps between TensorBoard scalars, which are written at each epoch's end too; 0: there "
        "alone.",
        minimum=0,
    )
    report_to: tuple[str, ...] | None = option(
        None,
        "Experiment trackers that get the metrics of every epoch and of the evaluation, beside "
        "TensorBoard: wandb (Weights & Biases), mlflow, or both, as wandb,mlflow. Each needs its "
        "extra, such as 'simclrv2-tf[wandb]', and reads its own environment variables. A stage is "
        "one run of the tracker; a resumed stage resumes that run.",
        choices=("wandb", "mlflow"),
    )
    embedding_projector: bool = option(
        False,
        "Write the representations of at most 1,000 evaluation images for TensorBoard's Projector "
        "tab, with class names and thumbnails. Of the network that pretraining has trained; a run "
        "that has finished is evaluated again for it.",
        once=True,
    )
    verbose: bool = option(
        False,
        "Print all metrics of every epoch, a line each. By default bars on a terminal, and a few "
        "lines a stage elsewhere; history.csv has all metrics either way.",
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
        "Training steps in one call of the compiled function, after which metrics are read: more "
        "keep an accelerator busy. 0: 1 on CPUs, 16 elsewhere.",
        minimum=0,
        once=True,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidationOptions(options.Group, title="Validation while training", once=True):
    """What is measured on held-out training images while a stage trains, and what that decides."""

    eval_epochs: float = option(
        0.0,
        "Epochs between validations; 0: none; below 1, several an epoch, such as 0.25, of which "
        "each counts as an epoch in the logs. In stages with labels the accuracy, in pretraining "
        "that of nearest neighbours of the representation, where labels may be read. In "
        "distillation only with labelled images of a split. It is in the log, history.csv and "
        "TensorBoard.",
        minimum=0,
        once=False,
    )
    validation_split: str | None = option(
        None,
        "Split of the validation images (see `eval_epochs`), such as train[90%:]. By default the "
        "split validation, if the data set has one that is not reported; else, and where a stage "
        "with a label subset chooses by it (`select`, `patience`), a tenth of each class of the "
        "training images, which are then not trained on. Never images of `eval_split`, which is "
        "reported.",
    )
    select: str = option(
        "best",
        "Which weights of a stage with labels are exported and evaluated, where it is validated: "
        "those of the best validation accuracy, or the last. With under ten labels a class, and "
        "in pretraining, the last.",
        choices=("best", "last"),
        once=False,
    )
    patience: int = option(
        0,
        "End a stage with labels once its validation accuracy has not improved for so many "
        "validations (see `eval_epochs`); 0: never. The learning rate still falls as over the "
        "whole length. It has no effect on pretraining, whose last weights are kept, nor where "
        "nothing is validated, as with under ten labels a class.",
        minimum=0,
        once=False,
    )
