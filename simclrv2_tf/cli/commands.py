"""The commands of `simclrv2-tf`, as a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        usage: What follows the command's name.
        summary: What it does, in one line.
        example: A command line without the program's name.
        run: Carries out its arguments; returns the exit status.
        details: More lines for its `--help`.
        shows_flags: Whether `run` has a `--help` of its own, which follows.
    """

    usage: str
    summary: str
    example: str
    run: Callable[[Sequence[str]], int]
    details: tuple[str, ...] = ()
    shows_flags: bool = False


@dataclasses.dataclass(frozen=True)
class Training:
    """How to turn a command that trains into a command line of `simclrv2_tf.run`.

    Attributes:
        train_mode: The stage.
        argument: The option that receives its argument: `dataset`, or `checkpoint` or `teacher`,
            which name a run.
        flag: Its own flag for a folder or data set, or None.
        option: The option that receives the flag's value.
    """

    train_mode: str
    argument: str
    flag: str | None = None
    option: str = "dataset"


TRAININGS = {
    "pretrain": Training("pretrain", "dataset"),
    "finetune": Training("finetune", "checkpoint", "labels"),
    "linear-eval": Training("linear_eval", "checkpoint", "labels"),
    "distill": Training("distill", "teacher", "images", "unlabelled_dataset"),
    "supervised": Training("supervised", "dataset"),
}

_FOLDER = (
    "FOLDER: images in one folder per class, inside train/ and test/ if you have these splits,",
    "or without classes; or the name of a data set, such as cifar10.",
)
_RUN = (
    "RUN: the folder of a run, such as runs/photos-pretrain. The network is read from its",
    "config.json; you need not repeat the flags of the network.",
)
_LABELS = (
    "--labels=FOLDER: labelled images (default: the images of the run).",
    "--label_fraction=0.1 or --labels_per_class=10 uses a part of the labels.",
)
_IMAGES = (
    "--images=FOLDER: unlabelled images to learn from (default: the images of the teacher's run).",
    "--resnet_depth=18, --width_multiplier=0.5 and similar flags choose another network than the",
    "teacher's for the student.",
)


def _train(name: str) -> Callable[[Sequence[str]], int]:
    def run(args):
        from simclrv2_tf.cli import training

        return training.main(name, args)

    return run


def _demo(args):
    from simclrv2_tf import run

    argv = ["simclrv2-tf", "--mode=train_then_eval", *args]
    return run.main(argv, typed=["simclrv2-tf", "demo", *args])


def _sweep(args):
    from simclrv2_tf.cli import sweep

    return sweep.main(args)


def _predict(args):
    from simclrv2_tf import predict
    from simclrv2_tf.cli import arguments

    return predict.main(arguments.named(args, ("model", "images")))


def _suggest(args):
    from simclrv2_tf.cli import arguments
    from simclrv2_tf.suggest import command

    return command.main(arguments.named(args, ("model", "images")))


def _evaluate(args):
    from simclrv2_tf import evaluate
    from simclrv2_tf.cli import arguments

    return evaluate.main(arguments.named(args, ("model", "dataset")))


def _report(args):
    from simclrv2_tf.cli import report

    return report.main(args)


def _publish(args):
    from simclrv2_tf import publish

    return publish.main(args)


def _import(args):
    from simclrv2_tf.cli import arguments
    from simclrv2_tf.official import __main__ as official

    return official.main(arguments.named(args, ("source", "output")))


COMMANDS = {
    "demo": Command(
        "[--flag=value ...]",
        "All three stages of SimCLRv2 on packaged images, in minutes.",
        "demo",
        _demo,
        ("Uses the recipe `demo`; flags on the command line win.",),
    ),
    "pretrain": Command(
        "FOLDER [--preset=NAME] [--flag=value ...]",
        "Pretrain a network on a folder of images, without labels.",
        "pretrain photos",
        _train("pretrain"),
        _FOLDER,
    ),
    "finetune": Command(
        "RUN [--labels=FOLDER] [--preset=NAME] [--flag=value ...]",
        "Fine-tune the network of a run on labelled images.",
        "finetune runs/photos-pretrain --labels=labelled",
        _train("finetune"),
        (*_RUN, *_LABELS),
    ),
    "linear-eval": Command(
        "RUN [--labels=FOLDER] [--preset=NAME] [--flag=value ...]",
        "Train a linear classifier on the frozen network of a run.",
        "linear-eval runs/photos-pretrain --labels=labelled",
        _train("linear-eval"),
        (*_RUN, *_LABELS),
    ),
    "distill": Command(
        "RUN [--images=FOLDER] [--preset=NAME] [--flag=value ...]",
        "Train a student on the class probabilities of a fine-tuned run.",
        "distill runs/labelled-finetune --images=photos --resnet_depth=18",
        _train("distill"),
        ("RUN: the folder of a labelled run, the teacher.", *_IMAGES),
    ),
    "supervised": Command(
        "FOLDER [--preset=NAME] [--flag=value ...]",
        "Train a classifier from random weights, as the baseline.",
        "supervised labelled",
        _train("supervised"),
        _FOLDER,
    ),
    "sweep": Command(
        "[RECIPE] [--grid.FLAG=V1,V2 ...] [--seeds=S1,S2] [--flag=value ...]",
        "Train each combination of some options over several seeds, and compare the results.",
        "sweep --grid.temperature=0.1,0.5 --seeds=0,1,2 --train_mode=pretrain --jobs=2",
        _sweep,
        (
            "Each cell is an ordinary run of `python -m simclrv2_tf.run` in its own folder.",
            "Rerun the same command to resume: finished cells are skipped. See docs/sweep.md.",
            "",
            "RECIPE: a flag file with any of these flags, one per line; the command line wins.",
            "--grid.FLAG=V1,V2: the values of an option; several give all combinations. For an",
            "option that takes a list: --grid.label_fraction='0.01;0.1'. For one stage's option:",
            "--grid.STAGE.FLAG=V1,V2. For recipes: --grid.flagfile=demo/default,demo/vicreg.",
            "--variant.NAME='--flag=value ...': a named setting of several flags.",
            "--seeds=0,1,2: the seeds; each sets --seed and --label_seed of a cell (default: 0).",
            "--checkpoint=sweep:DIR, --teacher=sweep:DIR: start from the cells of another sweep,",
            "each cell from those with its seed, so that sweeps share a stage.",
            "--compare_to=NAME=VALUE: differences, paired by seed, from the cells with this value,",
            "such as variant=nt_xent or stage=supervised; separate several with semicolons.",
            "--jobs=N: cells in parallel, each on its share of the cores or GPUs (default: 1).",
            "--output=DIR: folder of the sweep (default: runs/RECIPE-sweep).",
            "--metrics=M1,M2: columns of results.md, by their names in results.csv; the first one",
            "has intervals, differences and figures.",
            "--x_axis=FLAG: draw the first metric against the values of this option.",
            "--dry_run: check the cells, print their command lines, start nothing.",
            "All other flags are flags of training, for all cells; simclrv2-tf pretrain --helpfull",
            "lists them. The exit status is 1 if cells have failed.",
        ),
    ),
    "evaluate": Command(
        "RUN --dataset=FOLDER [--output=FOLDER] [--flag=value ...]",
        "Measure the classifier of a run on other labelled images.",
        "evaluate runs/labelled-finetune --dataset=other_photos",
        _evaluate,
        ("RUN comes first: it is --model below. The run's own results are not changed.",),
        shows_flags=True,
    ),
    "report": Command(
        "RUN [RUN ...] [--output=FILE]",
        "Write a page that shows one run or compares several.",
        "report runs/demo",
        _report,
        (
            "RUN: the folder of a run, finished or not. Every run also writes its own page.",
            "--output=FILE: by default report.html in RUN; for several runs, in this folder.",
        ),
    ),
    "publish": Command(
        "RUN OWNER/REPO [--license=ID] [--private] [--dry_run]",
        "Upload the network of a run to the Hugging Face Hub.",
        "publish runs/labelled-finetune me/birds --license=apache-2.0",
        _publish,
        (),
        shows_flags=True,
    ),
    "predict": Command(
        "RUN FOLDER [--output=CSV] [--embeddings=FILE] [--flag=value ...]",
        "Classify or embed images with the network of a run.",
        "predict runs/labelled-finetune new_photos --output=classes.csv",
        _predict,
        ("RUN and FOLDER come first: they are --model and --images below.",),
        shows_flags=True,
    ),
    "suggest": Command(
        "RUN FOLDER [--count=N] [--labelled=FOLDER or RUN] [--output=CSV] [--flag=value ...]",
        "Suggest which images to label next.",
        "suggest runs/photos-pretrain photos --count=100",
        _suggest,
        (
            "RUN and FOLDER come first: they are --model and --images below. Writes a table for",
            "you to fill in, and a page of thumbnails next to it.",
        ),
        shows_flags=True,
    ),
    "import": Command(
        "SOURCE OUTPUT [--flag=value ...]",
        "Import weights released by the authors.",
        "import finetuned_1pct/r50_1x_sk0 models/r50-1pct",
        _import,
        ("SOURCE and OUTPUT come first: they are --source and --output below. import --list",
         "prints the released models."),
        shows_flags=True,
    ),
}  # fmt: skip
