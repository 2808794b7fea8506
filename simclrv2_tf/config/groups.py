"""The options of a whole run: what it does, its folder, and how it is evaluated."""

import dataclasses

from simclrv2_tf import options
from simclrv2_tf.experiments import registry
from simclrv2_tf.options import option
from simclrv2_tf.precision import PRECISIONS


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions(options.Group, title="Run", once=True):
    """What a run does and where it is stored."""

    mode: str = option(
        "train",
        "Train, evaluate the last checkpoint in `model_dir`, or both.",
        choices=("train", "eval", "train_then_eval"),
        incidental=True,
    )
    train_mode: str = option(
        "pretrain", f"What to train. {registry.summaries()}", choices=registry.train_modes()
    )
    model_dir: str | None = option(
        None,
        "Folder of the run: checkpoints, logs, results, exports. Rerun the same command to resume. "
        "By default runs/RECIPE (plus the train mode if flags change the recipe's), or "
        "runs/DATASET-TRAIN_MODE without a recipe.",
        incidental=True,
    )
    checkpoint: str | None = option(
        None,
        "Weights to start from if `model_dir` has no checkpoint yet: a run's folder, one of "
        "its checkpoints, its encoder.keras, or its SavedModel; hf://OWNER/REPO on the Hugging "
        "Face Hub; or weights released by the reference: a TF1 checkpoint, a TF2 SavedModel, or "
        "a name such as r50_1x_sk0.",
    )
    variable_schema: str | None = option(
        None,
        "No effect; accepted so that the reference's command lines run. The train mode decides "
        "which weights are restored.",
        incidental=True,
    )
    seed: int = option(
        0,
        "Seed of initial weights, data order and augmentation.",
        minimum=0,
        once=False,
    )
    precision: str = option(
        "auto",
        "Compute dtype of the networks. Weights, batch statistics, logits and losses stay float32. "
        "auto: mixed_bfloat16 if the device is fast in bfloat16 (TPUs, GPUs from compute "
        "capability 8.0, processors with AMX or AVX-512 BF16), else float32; a resumed run keeps "
        "its dtype.",
        choices=PRECISIONS,
    )
    deterministic: bool = option(
        False,
        "Use deterministic operations: the same seed, machine, precision and number of replicas "
        "give bit-identical weights. Slower; see docs/scaling.md.",
        incidental=True,
    )
    take_over: bool = option(
        False,
        "Use `model_dir` although a process of another host, which ended without notice, still "
        "owns it. Check that host first: two processes in one folder destroy each other's files.",
        incidental=True,
    )
    dry_run: bool = option(
        False,
        "Check everything, open the data, take a few training steps, and print the parameters, the "
        "memory and the time that the run needs. Writes nothing.",
        incidental=True,
    )
    debug: bool = option(
        False, "Show the traceback of an error in addition to its message.", incidental=True
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationOptions(options.Group, title="Evaluation", incidental=True):
    """Options of evaluation."""

    eval_batch_size: int = option(256, "Images per step in evaluation.", minimum=1)
    eval_steps: int = option(0, "Steps of an evaluation; 0: the whole split.", minimum=0)
    eval_name: str | None = option(
        None,
        "Name of the evaluation, so that several can share a `model_dir`. Use letters, digits, _, "
        "- and .; the name is part of file names.",
        once=True,
    )
