"""The recipes under `flags/`: published settings, honest headers, and chains whose links fit.

test_flagfiles.py checks that each parses and has a command, a source and an accuracy.
"""

import re
import shlex

import pytest

from helpers.paths import ROOT
from helpers.reference_commands import REFERENCE_COMMANDS
from simclrv2_tf import objectives, optimizers, options
from simclrv2_tf.config import Config, recipe_names
from simclrv2_tf.experiments import plan

RECIPES = recipe_names()
DEMO = {recipe for recipe in RECIPES if recipe.startswith("demo/")}  # on packaged data
WITH_UNLABELLED = {f"demo/{mode}" for mode in plan.WITH_UNLABELLED}
RUN_HERE = DEMO - {"demo/vicreg_tico"}  # with the figures in benchmarks/
STARTS_FROM = {
    "cifar10/linear": "cifar10/pretrain",
    "cifar10/finetune": "cifar10/pretrain",
    "imagenet/linear": "imagenet/pretrain",
    "imagenet/finetune_1pct": "imagenet/pretrain",
    "imagenet/finetune_10pct": "imagenet/pretrain",
    "imagenet/finetune_100pct": "imagenet/pretrain",
}
LEARNS_FROM = {
    "cifar10/distill": "cifar10/finetune",
    "imagenet/distill_self": "imagenet/finetune_1pct",
    "imagenet/distill_small": "imagenet/distill_self",
}
# What gives encoder and head their weights' names and shapes.
ENCODER = ("resnet_depth", "width_multiplier", "sk_ratio", "se_ratio", "image_size", "stem")
HEAD = ("proj_head_mode", "num_proj_layers", "proj_out_dim")
LABELS = ("label_fraction", "labels_per_class", "label_seed")

# Training images of the data sets; CIFAR-10's are cut by `label_fraction`.
IMAGES = {
    "imagenet2012": 1_281_167,
    "imagenet2012_subset/1pct": 12_811,
    "imagenet2012_subset/10pct": 128_116,
    "cifar10": 50_000,
}

# ImageNet top-1 in percent (arXiv 2006.10029, Tables 1 and 3; 64.5 of linear: the released README).
PUBLISHED = {
    "imagenet/pretrain": (64.5, 71.7),
    "imagenet/linear": (64.5, 71.7, 74.6),
    "imagenet/finetune_1pct": (57.9, 64.5),
    "imagenet/finetune_10pct": (68.4, 72.1),
    "imagenet/finetune_100pct": (76.3, 78.7),
    "imagenet/distill_self": (76.6, 80.9),
    "imagenet/distill_small": (73.9, 77.5, 75.9, 80.2),
    "imagenet/supervised": (76.6, 78.5, 25.4, 56.4),
    "cifar10/pretrain": (91,),
    "cifar10/linear": (91,),
    "cifar10/finetune": (),
    "cifar10/distill": (),
    "cifar10/supervised": (),
    "cifar10/simclr_v1": (94.0,),
    "cifar10/vicreg": (),
    "cifar10/tico": (),
    "cifar10/vicreg_tico": (),
    "cifar10/barlow_twins": (),
}

# Peak learning rate, steps of warm-up, steps in all: by hand, from the paper's section 3.1 and the
# reference's step count.
SCHEDULES = {
    "imagenet/pretrain": (4.8, 3_127, 31_279),
    "imagenet/linear": (1.6, 0, 28_151),
    "imagenet/finetune_1pct": (0.16, 0, 751),
    "imagenet/finetune_10pct": (0.16, 0, 3_754),
    "imagenet/finetune_100pct": (0.16, 0, 37_535),
    "imagenet/distill_self": (6.4, 6_255, 125_114),
    "imagenet/distill_small": (6.4, 6_255, 125_114),
    "imagenet/supervised": (1.6, 1_563, 28_151),
    "cifar10/pretrain": (2.0, 976, 97_657),
    "cifar10/linear": (0.2, 0, 9_766),
    "cifar10/finetune": (0.08, 0, 1_954),
    "cifar10/distill": (2.0, 976, 39_063),
    "cifar10/supervised": (0.1, 97, 7_813),
    "cifar10/simclr_v1": (2.0, 976, 97_657),
    "cifar10/vicreg": (0.4, 976, 97_657),
    "cifar10/tico": (0.4, 976, 97_657),
    "cifar10/vicreg_tico": (0.4, 976, 97_657),
    "cifar10/barlow_twins": (0.4, 976, 97_657),
}

_FINE_TUNED = dict(
    train_mode="finetune",
    fine_tune_after_block=-1,
    ft_proj_selector=1,
    zero_init_logits_layer=True,
    optimizer="lars",
    weight_decay=0,
    global_bn=True,
)
_SUPERVISED = dict(train_mode="supervised", optimizer="momentum", weight_decay=1e-4)
_DISTILLED = dict(
    train_mode="distill",
    distill_alpha=1,
    distill_squared_temperature=False,
    temperature=0.1,
    ft_proj_selector=0,  # the student has no head
    checkpoint=None,
    optimizer="lars",
    weight_decay=1e-4,
)
SETTINGS = {
    "imagenet/linear": dict(optimizer="momentum", momentum=0.9, weight_decay=1e-6),
    "imagenet/finetune_1pct": {**_FINE_TUNED, "dataset": "imagenet2012_subset/1pct"},
    "imagenet/finetune_10pct": {**_FINE_TUNED, "dataset": "imagenet2012_subset/10pct"},
    "imagenet/finetune_100pct": {**_FINE_TUNED, "dataset": "imagenet2012", "ft_proj_selector": 0},
    "imagenet/distill_self": {**_DISTILLED, "unlabelled_dataset": "imagenet2012"},
    "imagenet/distill_small": {
        **_DISTILLED,
        "unlabelled_dataset": "imagenet2012",
        "temperature": 1.0,
    },
    "imagenet/supervised": _SUPERVISED,
    "cifar10/finetune": {**_FINE_TUNED, "label_fraction": (0.1,)},
    "cifar10/distill": _DISTILLED,
    "cifar10/supervised": {**_SUPERVISED, "label_fraction": (0.1,)},
}
_EXPANDER = dict(num_proj_layers=3, proj_hidden_dim=8192, proj_out_dim=8192, proj_output_bn=False)
_VICREG = dict(vicreg_invariance=25, vicreg_variance=25, vicreg_covariance=1)
_TICO_HEAD = dict(num_proj_layers=2, proj_hidden_dim=4096, proj_out_dim=256, proj_output_bn=False)
OBJECTIVES = {
    "cifar10/simclr_v1": dict(
        objective="nt_xent", num_proj_layers=2, ft_proj_selector=0, color_jitter_version="v1"
    ),
    "cifar10/vicreg": dict(objective="vicreg", **_VICREG, **_EXPANDER),
    "cifar10/barlow_twins": dict(objective="barlow_twins", barlow_off_diagonal=5e-3, **_EXPANDER),
    "cifar10/tico": dict(
        objective="tico", tico_beta=0.9, tico_rho=8, tico_momentum_views=True, **_TICO_HEAD
    ),
    "cifar10/vicreg_tico": dict(
        objective="vicreg_tico", tico_beta=0.9, hybrid_diagonal=True, **_VICREG, **_EXPANDER
    ),
}


def parse(recipe: str, *args: str) -> Config:
    return Config.from_argv(["run", f"--flagfile=flags/{recipe}", *args])


def header(recipe: str) -> str:
    """The comment a recipe opens with, on one line."""
    text = (ROOT / "flags" / recipe).read_text(encoding="utf-8")
    lines = text[: text.index("\n--")].splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines)


def named(recipe: str) -> list[tuple[str, tuple[str, ...]]]:
    """The recipes that a header names, each with the flags that it writes after the name."""
    found = re.findall(r"flags/([a-z0-9_/]+)((?: --\w+=\S*\w)*)", header(recipe))
    return [(name, tuple(args.split())) for name, args in found]


def differences(a: Config, b: Config, names) -> dict:
    pairs = {name: (getattr(a, name), getattr(b, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


@pytest.mark.parametrize("recipe", RECIPES)
def test_stages_are_planned(recipe):
    config = parse(recipe)
    planned = plan.plan_stages(config)
    names = [stage.name for stage in planned]
    if recipe == "demo/default":
        assert {"pretrain", *plan.METHODS} <= set(names)
    elif recipe in DEMO - WITH_UNLABELLED:
        assert names == ["pretrain", "linear_eval", "linear_eval_random_init"]
    else:
        assert names == [config.train_mode] and planned[0].config == config


# Headers


@pytest.mark.parametrize("recipe", RECIPES)
def test_header_says_whether_it_was_run(recipe):
    text = header(recipe)
    assert text.endswith("Not run here.") == (recipe not in RUN_HERE) == ("Measured:" not in text)


@pytest.mark.parametrize("recipe", sorted(set(RECIPES) - DEMO))
def test_header_names_the_published_accuracy(recipe):
    accuracy = header(recipe).partition("Published accuracy:")[2]
    if PUBLISHED[recipe]:
        for percent in PUBLISHED[recipe]:
            assert f"{percent}%" in accuracy
    else:
        assert "none published by the authors" in accuracy
        assert "%" not in accuracy


@pytest.mark.parametrize("recipe", sorted({*RECIPES} - {"demo/default"}))
def test_header_command_is_its_own_and_what_it_names_is_there(recipe):
    command = header(recipe).partition("Command:")[2].partition("Source:")[0]
    assert f"--flagfile=flags/{recipe}" + " --data_dir=PATH" * (recipe not in DEMO) in command
    for name, args in named(recipe):
        parse(name, *args)
    # What must have run before, all the way back, is named.
    link = recipe
    while link := {**STARTS_FROM, **LEARNS_FROM}.get(link):
        assert f"flags/{link}" in header(recipe)


# Chains


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_a_recipe_begins_with_is_the_run_of_another(recipe):
    config = parse(recipe)
    for path, sources in ((config.checkpoint, STARTS_FROM), (config.teacher, LEARNS_FROM)):
        source = sources.get(recipe)
        assert path == (parse(source).model_dir if source else None)


@pytest.mark.parametrize(("recipe", "source"), STARTS_FROM.items())
def test_checkpoint_fits(recipe, source):
    config, pretrained = parse(recipe), parse(source)
    assert pretrained.train_mode == "pretrain"
    assert not differences(config, pretrained, ENCODER + HEAD)


@pytest.mark.parametrize(("recipe", "source"), LEARNS_FROM.items())
def test_teacher_fits(recipe, source):
    config, teacher = parse(recipe), parse(source)
    assert teacher.train_mode in ("finetune", "distill")
    # Classes, evaluation images, view size and the labels that the teacher has learned from. The
    # networks are equal: self-distillation, and the small student where its teacher is given none
    # of the flags that make it large.
    same = (*ENCODER, *LABELS, "dataset", "train_split", "eval_split")
    assert not differences(config, teacher, same)


def test_cifar10_labels_are_the_same_in_all_stages():
    fine_tuned, supervised = parse("cifar10/finetune"), parse("cifar10/supervised")
    assert not differences(fine_tuned, supervised, (*ENCODER, *LABELS, "dataset", "eval_split"))


def test_the_large_teacher_of_the_small_student_fits_together():
    """The commands in the header give Table 3's row: ResNet-152 3x with SK into ResNet-50."""
    large = {name: parse(name, *args) for name, args in named("imagenet/distill_small") if args}
    del large["imagenet/distill_small"]
    pretrained, fine_tuned, self_distilled = large.values()
    for config in large.values():
        assert (config.resnet_depth, config.width_multiplier) == (152, 3)
        assert config.sk_ratio == 0.0625
    assert fine_tuned.checkpoint == pretrained.model_dir
    assert self_distilled.teacher == fine_tuned.model_dir
    assert parse("imagenet/distill_small").teacher == self_distilled.model_dir
    assert not differences(pretrained, fine_tuned, ENCODER + HEAD)
    assert schedule(pretrained) == (pytest.approx(6.4), 12_511, 250_228)
    assert schedule(fine_tuned)[0] == pytest.approx(0.064)


def test_the_ten_percent_commands_chain():
    args = {
        name: next(args for recipe, args in named(name) if recipe == name and len(args) == 3)
        for name in ("imagenet/distill_self", "imagenet/distill_small")
    }
    self_distilled, small = (parse(name, *args[name]) for name in args)
    fine_tuned = parse("imagenet/finetune_10pct")
    assert self_distilled.teacher == fine_tuned.model_dir
    assert small.teacher == self_distilled.model_dir
    assert fine_tuned.dataset == self_distilled.dataset == small.dataset
    # In other folders than the 1% runs.
    assert len({c.model_dir for c in (self_distilled, small, *map(parse, LEARNS_FROM))}) == 5


# Settings


def schedule(config: Config) -> tuple[float, int, int]:
    """Peak learning rate, steps of warm-up, steps in all, as `StageRun` takes them."""
    images = IMAGES[config.dataset]
    if config.train_mode == "distill":
        images = IMAGES[config.unlabelled_dataset or config.dataset]
    elif config.label_fraction:
        images = round(images * config.label_fraction[0])
    batch = config.train_batch_size
    return (
        optimizers.peak_learning_rate(config.learning_rate, batch, config.learning_rate_scaling),
        optimizers.warmup_steps(images, config.warmup_epochs, batch),
        optimizers.total_steps(images, config.train_epochs, batch),
    )


def test_every_recipe_has_its_schedule_and_accuracy_here():
    assert set(SCHEDULES) == set(PUBLISHED) == set(RECIPES) - DEMO


@pytest.mark.parametrize("recipe", SCHEDULES)
def test_schedule(recipe):
    peak, *steps = SCHEDULES[recipe]
    assert list(schedule(parse(recipe))) == [pytest.approx(peak), *steps]


@pytest.mark.parametrize("recipe", SETTINGS)
def test_published_settings(recipe):
    config = parse(recipe)
    assert {name: getattr(config, name) for name in SETTINGS[recipe]} == SETTINGS[recipe]
    assert config.mode == "train_then_eval"
    assert config.labelled_views == "crop_flip" and config.min_crop_area == 0.08
    assert config.eval_split == {"i": "validation", "c": "test"}[recipe[0]]


@pytest.mark.parametrize("name", ["linear", "finetune_1pct"])
def test_imagenet_recipes_are_the_references_commands(name):
    command = shlex.split(REFERENCE_COMMANDS[f"imagenet_{name}"])
    own = ["--model_dir=x", "--checkpoint=y", "--variable_schema=", "--data_dir=z"]
    own += ["--nouse_tpu", "--tpu_name=", "--train_summary_steps=1"]
    assert Config.from_argv(["run", *command, *own]) == parse(f"imagenet/{name}", *own)


@pytest.mark.parametrize("recipe", OBJECTIVES)
def test_objectives_have_their_published_settings(recipe):
    config, pretrained = parse(recipe), parse("cifar10/pretrain")
    assert {name: getattr(config, name) for name in OBJECTIVES[recipe]} == OBJECTIVES[recipe]
    assert not differences(
        config, pretrained, ("dataset", "eval_split", "image_size", "train_batch_size", "use_blur")
    )


@pytest.mark.parametrize("recipe", sorted(DEMO - WITH_UNLABELLED - {"demo/default"}))
def test_the_demos_of_objectives_differ_from_the_demo_in_it_alone(recipe):
    config, demo = parse(recipe), parse("demo/default")
    name = recipe.removeprefix("demo/")
    assert config.objective == name
    recorded = OBJECTIVES.get(f"cifar10/{name}", {})
    own = {option.name for option in options.of(objectives.OBJECTIVES[name]).values()}
    published = {k: v for k, v in recorded.items() if k in own}
    assert {k: getattr(config, k) for k in published} == published
    may_differ = {"mode", "train_mode", "model_dir", "objective", "ema_decay", "ema_schedule", *own}
    may_differ |= {"num_proj_layers", "proj_hidden_dim", "proj_out_dim", "proj_output_bn"}
    may_differ |= {"proj_output_scale"}
    assert set(differences(config, demo, vars(config))) <= may_differ
    if recorded:
        assert config.proj_out_dim < recorded["proj_out_dim"]
