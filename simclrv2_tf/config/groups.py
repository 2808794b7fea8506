"""The options of a run as a whole: what it does, where, and how it is evaluated."""

import dataclasses

from simclrv2_tf import options
from simclrv2_tf.experiments import registry
from simclrv2_tf.options import option
from simclrv2_tf.precision import PRECISIONS


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions(options.Group, title="Run", once=True):
    """What a run does and where it is kept."""

    mode: str = option(
        "train",
        "Train, evaluate the last checkpoint in `model_dir`, or one after the other.",
        choices=("train", "eval", "train_then_eval"),
        incidental=True,
    )
    train_mode: str = option(
        "pretrain", f"What is trained. {registry.summaries()}", choices=registry.train_modes()
    )
    model_dir: str | None = option(
        None,
        "Folder of the run: checkpoints, logs, results, exports. The same command run again "
        "resumes there. By default runs/RECIPE (with the train mode appended where flags change "
        "the recipe's), or runs/DATASET-TRAIN_MODE without a recipe.",
        incidental=True,
    )
    checkpoint: str | None = option(
        None,
        "Weights to start from where `model_dir` holds no checkpoint yet: a run's folder, one of "
        "its checkpoints, its encoder.keras, or its SavedModel; hf://OWNER/REPO on the Hugging "
        "Face Hub; or weights that the reference released: a TF1 checkpoint, a TF2 SavedModel, or "
        "a name such as r50_1x_sk0.",
    )
    variable_schema: str | None = option(
        None,
        "Accepted for the reference's command lines and without effect: which weights are restored "
        "follows from the train mode.",
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
        "Compute type of the networks. Weights, batch statistics, logits and losses stay float32. "
        "auto: mixed_bfloat16 where the device computes fast in bfloat16 (TPUs, GPUs from compute "
        "capability 8.0, processors with AMX or AVX-512 BF16), else float32; a run that is resumed "
        "keeps its own.",
        choices=PRECISIONS,
    )
    deterministic: bool = option(
        False,
        "Use operations that give the same bits at each run: same seed, machine, precision and "
        "number of replicas, same weights. Slower; see docs/scaling.md.",
        incidental=True,
    )
    take_over: bool = option(
        False,
        "Take `model_dir` from a process of another host that has ended without leaving it. Look "
        "there first: two processes in one folder destroy each other's files.",
        incidental=True,
    )
    dry_run: bool = option(
        False,
        "Check everything, open the data, take a few training steps, and print the parameters, the "
        "memory and the time that the run would take. Writes nothing.",
        incidental=True,
    )
    debug: bool = option(
        False, "Show the traceback of an error, not its message alone.", incidental=True
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationOptions(options.Group, title="Evaluation", incidental=True):
    """How a run is evaluated."""

    eval_batch_size: int = option(256, "Images a step in evaluation.", minimum=1)
    eval_steps: int = option(0, "Steps of an evaluation; 0: the whole split.", minimum=0)
    eval_name: str | None = option(
        None,
        "Name of the evaluation, so that several can share a `model_dir`: letters, digits, _, - "
        "and .; it is part of the names of files.",
        once=True,
    )
