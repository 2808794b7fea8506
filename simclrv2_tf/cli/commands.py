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
    """How a command that trains becomes a command line of `simclrv2_tf.run`.

    Attributes:
        train_mode: The stage.
        argument: The option that its argument is the value of: `dataset`, or `checkpoint` or
            `teacher`, which lead to a run.
        flag: Its own flag for a folder or data set; None: it has none.
        option: The option that the flag is the value of.
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
    "FOLDER: images in a folder for each class, with train/ and test/ above them if you have them,",
    "or without classes; or the name of a data set, such as cifar10.",
)
_RUN = (
    "RUN: the folder of a run, such as runs/photos-pretrain. Its network is taken from its",
    "config.json; no flag of the network has to be repeated.",
)
_LABELS = (
    "--labels=FOLDER: labelled images; by default those of the run.",
    "--label_fraction=0.1 or --labels_per_class=10 uses a part of the labels.",
)
_IMAGES = (
    "--images=FOLDER: unlabelled images to learn from; by default those of the teacher's run.",
    "--resnet_depth=18, --width_multiplier=0.5 and the like make another student than the",
    "teacher's own network.",
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
        ("The recipe `demo`; flags that are given win.",),
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
    "evaluate": Command(
        "RUN --dataset=FOLDER [--output=FOLDER] [--flag=value ...]",
        "Measure the classifier of a run on other labelled images.",
        "evaluate runs/labelled-finetune --dataset=other_photos",
        _evaluate,
        ("RUN comes first: it is --model below. The run's own results stay as they are.",),
        shows_flags=True,
    ),
    "report": Command(
        "RUN [RUN ...] [--output=FILE]",
        "Write a page that shows a run, or compares several.",
        "report runs/demo",
        _report,
        (
            "RUN: the folder of a run, finished or not. Every run writes its own page by itself.",
            "--output=FILE: by default report.html in RUN; of several runs, in this folder.",
        ),
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
            "RUN and FOLDER come first: they are --model and --images below. Writes a table to be",
            "filled in, and a page of thumbnails beside it.",
        ),
        shows_flags=True,
    ),
    "import": Command(
        "SOURCE OUTPUT [--flag=value ...]",
        "Import weights that the authors released.",
        "import finetuned_1pct/r50_1x_sk0 models/r50-1pct",
        _import,
        ("SOURCE and OUTPUT come first: they are --source and --output below. import --list",
         "prints the released models."),
        shows_flags=True,
    ),
}  # fmt: skip
