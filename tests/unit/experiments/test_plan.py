"""Which stages a run has, and what each of them is given."""

import dataclasses

import pytest

from simclrv2_tf.config import Config, ConfigError
from simclrv2_tf.experiments import plan


def planned(**options):
    config = Config(**{"dataset": "x", "model_dir": "root", "train_batch_size": 64, **options})
    return plan.plan_stages(config)


def by_folder(stages):
    return {stage.config.model_dir: stage for stage in stages}


def test_a_stage_alone_is_what_was_asked_for():
    config = Config(train_mode="finetune", dataset="x")
    (stage,) = plan.plan_stages(config)
    assert stage.config is config and not stage.caps_batch


def test_semi_supervised_has_a_folder_a_stage_in_their_order():
    stages = planned(train_mode="semi_supervised", label_fraction=(0.1, 0.01))
    methods = ["supervised", "fine_tuned", "self_distilled", "small_student"]
    assert [stage.config.model_dir for stage in stages] == ["root/pretrain"] + [
        f"root/label_fraction_{fraction}/{method}"
        for fraction in ("0.1", "0.01")
        for method in methods
    ]
    assert [stage.fraction for stage in stages] == [None] + [0.1] * 4 + [0.01] * 4
    assert [s.config.label_fraction for s in stages] == [None] + [(0.1,)] * 4 + [(0.01,)] * 4


def test_fractions_are_published_ones_by_default():
    stages = planned(train_mode="semi_supervised")
    assert {stage.fraction for stage in stages} == {None, 0.01, 0.1}


def test_labels_per_class_stand_in_for_a_fraction():
    stages = planned(train_mode="semi_supervised", labels_per_class=4)
    assert len(stages) == 5
    assert {stage.config.labels_per_class for stage in stages[1:]} == {4}
    assert stages[1].config.model_dir == "root/labels_per_class_4/supervised"


def test_each_stage_begins_where_an_earlier_one_ends():
    """Section 2.2: fine-tune the pretrained, distill the fine-tuned, then the self-distilled."""
    for root in ("root", "/tmp/deep/root"):
        stages = planned(train_mode="semi_supervised", label_fraction=0.5, model_dir=root)
        stages = {stage.name: stage.config for stage in stages}
        assert stages["supervised"].checkpoint is None
        assert stages["fine_tuned"].checkpoint == stages["pretrain"].model_dir
        assert stages["self_distilled"].teacher == stages["fine_tuned"].model_dir
        assert stages["small_student"].teacher == stages["self_distilled"].model_dir
        assert stages["self_distilled"].checkpoint is stages["small_student"].checkpoint is None


# What the paper and the released code publish for each stage (arXiv 2006.10029, section 3.1, and
# the commands in the released README), written out; PRETRAINING: what pretraining has.
PRETRAINING = object()
NESTEROV = dict(
    optimizer="momentum", momentum=0.9, learning_rate=0.1, learning_rate_scaling="linear",
    warmup_epochs=0, train_epochs=90, ft_proj_selector=0,
)  # fmt: skip
FINE_TUNED = dict(
    optimizer="lars", momentum=0.9, learning_rate=0.005, learning_rate_scaling="sqrt",
    warmup_epochs=0, weight_decay=0, zero_init_logits_layer=True,
)  # fmt: skip
STUDENT = dict(
    train_epochs=400, ft_proj_selector=0, distill_alpha=1, zero_init_logits_layer=False,
    optimizer=PRETRAINING, momentum=PRETRAINING, learning_rate=PRETRAINING,
    learning_rate_scaling=PRETRAINING, warmup_epochs=PRETRAINING, weight_decay=PRETRAINING,
    train_batch_size=PRETRAINING,
)  # fmt: skip
PUBLISHED = {
    "linear_eval": {**NESTEROV, "weight_decay": 1e-6, "zero_init_logits_layer": True},
    "label_fraction_0.01/supervised": {
        **NESTEROV, "weight_decay": 1e-4, "zero_init_logits_layer": False,
    },
    "label_fraction_0.01/fine_tuned": {**FINE_TUNED, "train_epochs": 60, "ft_proj_selector": 1},
    "label_fraction_0.1/fine_tuned": {**FINE_TUNED, "train_epochs": 30, "ft_proj_selector": 1},
    "label_fraction_1/fine_tuned": {**FINE_TUNED, "train_epochs": 30, "ft_proj_selector": 0},
    "label_fraction_0.1/self_distilled": {**STUDENT, "temperature": 0.1},
    "label_fraction_1/small_student": {**STUDENT, "temperature": 1.0},
}  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"temperature": 0.2},
        {"temperature": 1.0, "ft_proj_selector": 2, "zero_init_logits_layer": True},
        {"ft_proj_selector": -1, "momentum": 0.95, "weight_decay": 1e-6, "warmup_epochs": 40},
        {"optimizer": "adam", "learning_rate": 0.002, "learning_rate_scaling": "sqrt"},
        {"stage_options": {"pretrain": {"learning_rate": 0.7, "warmup_epochs": 3.0}}},
        {"stage_options": {"pretrain": {"train_steps": 9, "temperature": 0.5}}},
        {"train_epochs": 7, "use_blur": False, "color_jitter_strength": 0.5},
    ],
    ids=str,
)
def test_published_settings_whatever_pretraining_is_given(given):
    """A flag whose meaning in a later stage is another one does not reach it."""
    stages = by_folder(
        planned(
            train_mode="semi_supervised",
            label_fraction=(0.01, 0.1, 1),
            linear_evaluation=True,
            **given,
        )
    )
    pretraining = stages["root/pretrain"].config
    for name, value in given.items():
        assert name == "stage_options" or getattr(pretraining, name) == value
    for folder, settings in PUBLISHED.items():
        config = stages[f"root/{folder}"].config
        for name, value in settings.items():
            value = getattr(pretraining, name) if value is PRETRAINING else value
            assert getattr(config, name) == value, (folder, name)
        assert config.labelled_views == "crop_flip"
        assert config.train_steps == 0


def test_the_published_settings_are_those_of_the_recipes():
    """Each stage of a longer run equals the recipe of only that stage."""
    stages = by_folder(
        planned(
            train_mode="semi_supervised",
            label_fraction=(0.01, 0.1, 1),
            linear_evaluation=True,
            learning_rate=0.1,
            learning_rate_scaling="sqrt",
            temperature=0.2,
        )
    )
    for folder, recipe in {
        "linear_eval": "linear",
        "label_fraction_0.01/fine_tuned": "finetune_1pct",
        "label_fraction_0.1/fine_tuned": "finetune_10pct",
        "label_fraction_1/fine_tuned": "finetune_100pct",
        "label_fraction_0.1/self_distilled": "distill_self",
        "label_fraction_0.1/small_student": "distill_small",
    }.items():
        expected = Config.from_argv(["run", f"--flagfile=imagenet/{recipe}"])
        config = stages[f"root/{folder}"].config
        names = {"optimizer", "momentum", "learning_rate", "learning_rate_scaling"}
        names |= {"train_epochs", "weight_decay", "ft_proj_selector", "zero_init_logits_layer"}
        # A student warms up as pretraining does, which is not given here.
        names |= {"temperature"} if config.train_mode == "distill" else {"warmup_epochs"}
        for name in names:
            assert getattr(config, name) == getattr(expected, name), (folder, name)


def test_large_networks_fine_tune_at_a_lower_rate_and_later_stages_follow_pretraining():
    base = dict(train_mode="semi_supervised", label_fraction=(0.1,), linear_evaluation=True)
    for large in ({"width_multiplier": 2}, {"sk_ratio": 0.0625}):
        stages = by_folder(planned(**base, **large))
        assert stages["root/label_fraction_0.1/fine_tuned"].config.learning_rate == 0.002
    stages = by_folder(planned(**base))
    linear = stages["root/linear_eval"].config
    random_init = stages["root/linear_eval_random_init"].config
    assert random_init == dataclasses.replace(
        linear, model_dir=random_init.model_dir, checkpoint=None
    )
    assert linear.checkpoint == "root/pretrain"
    assert stages["root/label_fraction_0.1/small_student"].config.width_multiplier == 0.5


def test_what_is_given_for_a_stage_wins_and_for_a_fraction_wins_over_that():
    stages = by_folder(
        planned(
            train_mode="semi_supervised",
            label_fraction=(0.01, 0.1),
            stage_options={
                "fine_tuned": {"train_epochs": 5, "learning_rate": 0.25},
                "fine_tuned@0.1": {"train_epochs": 7},
                "supervised": {"train_batch_size": 32},
            },
        )
    )
    one, ten = (stages[f"root/label_fraction_{f}/fine_tuned"].config for f in ("0.01", "0.1"))
    assert (one.train_epochs, one.learning_rate) == (5, 0.25)
    assert (ten.train_epochs, ten.learning_rate) == (7, 0.25)
    # A batch that nobody chose for a stage may shrink to its labels.
    caps = {folder: stage.caps_batch for folder, stage in stages.items()}
    assert caps["root/label_fraction_0.1/fine_tuned"] and not caps["root/pretrain"]
    assert not caps["root/label_fraction_0.1/supervised"]
    assert not caps["root/label_fraction_0.1/self_distilled"]


def test_train_steps_are_those_of_every_stage():
    stages = planned(
        train_mode="semi_supervised",
        train_steps=3,
        stage_options={"fine_tuned": {"train_epochs": 5}},
    )
    assert {stage.config.train_steps for stage in stages} == {3}


def test_balanced_sampling_reaches_the_stages_with_labels():
    run = dict(train_mode="semi_supervised", label_fraction=(0.1,), balanced_sampling=True)
    for alpha, of_students in ((1.0, False), (0.5, True)):
        found = {s.name: s.config.balanced_sampling for s in planned(**run, distill_alpha=alpha)}
        students = dict.fromkeys(("self_distilled", "small_student"), of_students)
        assert found == {"pretrain": False, "supervised": True, "fine_tuned": True, **students}
    given = {"pretrain": {"balanced_sampling": True}}
    with pytest.raises(ConfigError, match="^pretrain: `balanced_sampling` must be left out"):
        planned(train_mode="semi_supervised", stage_options=given)


def test_the_embedding_projector_reaches_pretraining():
    run = dict(train_mode="semi_supervised", label_fraction=(0.1,), linear_evaluation=True)
    stages = planned(**run, mode="eval", embedding_projector=True)
    asked = [stage.name for stage in stages if stage.config.embedding_projector]
    assert asked == ["pretrain"] and len(stages) == 7


def test_patience_reaches_the_stages_that_are_validated_by_labels():
    run = dict(train_mode="semi_supervised", label_fraction=(0.1,), eval_epochs=1, patience=3)
    given = {"supervised": {"eval_epochs": 0}, "fine_tuned": {"patience": 5}}
    for split, of_students in ((None, 0), ("val", 3)):
        stages = planned(**run, validation_split=split, stage_options=given)
        students = dict.fromkeys(("self_distilled", "small_student"), of_students)
        found = {stage.name: stage.config.patience for stage in stages}
        assert found == {"pretrain": 0, "supervised": 0, "fine_tuned": 5, **students}
    with pytest.raises(ConfigError, match="^pretrain: `patience` must be 0"):
        planned(**run, stage_options={"pretrain": {"patience": 3}})


FEW = dict(train_mode="semi_supervised", label_fraction=(0.1,))
OF_ONE = {"stage_options": {"fine_tuned@0.1": {"eval_epochs": 2}}}
OF_NONE = {name: {"eval_epochs": 0} for name in ("pretrain", *plan.METHODS)}


@pytest.mark.parametrize(
    "good",
    [
        dict(train_mode="finetune", eval_epochs=1),
        dict(train_mode="pretrain", eval_epochs=1),
        {**FEW, "eval_epochs": 1},
        {**FEW, **OF_ONE},
        {**FEW, "stage_options": {"pretrain": {"eval_epochs": 1}}},
    ],
    ids=str,
)
def test_a_validation_split_is_taken_where_a_stage_is_validated(good):
    assert {s.config.validation_split for s in planned(**good, validation_split="v")} == {"v"}


def test_a_run_that_began_with_a_validation_split_of_no_use_is_resumed(tmp_path):
    """Earlier versions ignored it."""
    run = {"train_mode": "finetune", "validation_split": "v", "model_dir": str(tmp_path)}
    with pytest.raises(ConfigError):
        planned(**run)
    (tmp_path / "config.json").touch()
    assert len(planned(**run)) == 1


@pytest.mark.parametrize(
    "bad",
    [
        dict(train_mode="finetune"),
        dict(train_mode="pretrain"),
        FEW,
        {**FEW, "eval_epochs": 1, "stage_options": OF_NONE},
        # Of a stage that this run does not have.
        {**FEW, "stage_options": {"linear_eval": {"eval_epochs": 1}}},
        {**FEW, "stage_options": {"fine_tuned@0.5": {"eval_epochs": 1}}},
    ],
    ids=str,
)
def test_a_validation_split_without_a_validation_is_refused(bad):
    planned(**bad)
    with pytest.raises(ConfigError) as caught:
        planned(**bad, validation_split="v")
    (error,) = caught.value.errors
    assert error.startswith("`validation_split` must be left out if no stage is validated")
    assert "give --eval_epochs=1" in error
    several = bad["train_mode"] == "semi_supervised"
    assert ("--STAGE.eval_epochs=1" in error) == several
    received = "Received: validation_split='v', eval_epochs=0"
    assert error.endswith(received + " in every stage" * several)


def test_patience_of_a_run_is_that_of_the_stage_that_is_validated():
    found = {stage.name: stage.config.patience for stage in planned(**FEW, **OF_ONE, patience=3)}
    others = ("pretrain", "supervised", "self_distilled", "small_student")
    assert found == {"fine_tuned": 3, **dict.fromkeys(others, 0)}
    student = {"self_distilled": {"eval_epochs": 1}}
    run = planned(**FEW, patience=3, validation_split="v", stage_options=student)
    assert [s.name for s in run if s.config.patience] == ["self_distilled"]


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"eval_epochs": 1, "stage_options": OF_NONE},
        {"stage_options": {"pretrain": {"eval_epochs": 1}}},
        {"stage_options": {"self_distilled": {"eval_epochs": 1}}},
    ],
    ids=str,
)
def test_patience_of_a_run_without_a_validated_stage_is_refused(bad):
    with pytest.raises(ConfigError) as caught:
        planned(**FEW, **bad, patience=3)
    (error,) = caught.value.errors
    assert error.startswith("`patience` must be 0 if no accuracy is measured")
    assert "Received: patience=3" in error


def test_patience_given_for_a_stage_that_is_not_validated_is_named_with_it():
    given = {"supervised": {"patience": 3}, **OF_ONE["stage_options"]}
    with pytest.raises(ConfigError, match="^supervised: `patience` must be 0 .*Received: patience"):
        planned(**FEW, stage_options=given)


def test_options_of_a_stage_that_do_not_fit_are_named_with_it():
    with pytest.raises(ConfigError) as caught:
        planned(
            train_mode="semi_supervised",
            label_fraction=(0.01, 0.1),
            stage_options={"fine_tuned": {"ft_proj_selector": 4}},
        )
    (error,) = caught.value.errors
    assert error.startswith("fine_tuned: `ft_proj_selector`") and "ft_proj_selector=4" in error


@pytest.mark.parametrize("head", [dict(proj_head_mode="none"), dict(proj_head_mode="linear")])
def test_fine_tuning_starts_in_the_head_as_far_as_there_is_one(head):
    stages = {s.name: s.config for s in planned(train_mode="semi_supervised", **head)}
    expected = 0 if head["proj_head_mode"] == "none" else 1
    assert stages["fine_tuned"].ft_proj_selector == expected


def test_pretraining_with_linear_evaluation():
    names = [stage.name for stage in planned(train_mode="pretrain_linear_eval")]
    assert names == ["pretrain", "linear_eval", "linear_eval_random_init"]
    few = [s.name for s in planned(train_mode="semi_supervised", linear_evaluation=True)]
    assert few[:3] == names and few[3] == "supervised"


def test_micro_batches_are_of_pretraining_alone():
    """Later stages have batches of their own, which they need not divide."""
    options = {"train_mode": "semi_supervised", "micro_batch_size": 32}
    assert planned(**options, stage_options={"supervised": {"train_batch_size": 8}})
    with pytest.raises(ConfigError, match="pretrain: `micro_batch_size` must divide"):
        planned(**{**options, "micro_batch_size": 24})


@pytest.mark.parametrize("options", [{}, {"stage_options": {"pretrain": {"eval_ema": True}}}])
def test_what_is_exported_of_a_momentum_network_is_what_later_stages_start_from(options):
    stages = by_folder(
        planned(
            train_mode="semi_supervised",
            label_fraction=(0.1,),
            linear_evaluation=True,
            memory_size=8,
            **options,
        )
    )
    expected = "root/pretrain/encoder.keras" if options else "root/pretrain"
    for name in ("linear_eval", "label_fraction_0.1/fine_tuned"):
        assert stages[f"root/{name}"].config.checkpoint == expected


@pytest.mark.parametrize("given", [{}, {"eval_ema": True, "memory_size": 64}])
def test_the_student_of_the_same_network_may_start_from_pretraining(given):
    fractions = {"train_mode": "semi_supervised", "label_fraction": (0.1,), **given}
    random, pretrained = (
        by_folder(planned(**fractions, pretrained_student=start)) for start in (False, True)
    )
    root = "root/label_fraction_0.1"
    fine_tuned = pretrained[f"{root}/fine_tuned"].config
    assert random[f"{root}/self_distilled"].config.checkpoint is None
    student = pretrained[f"{root}/self_distilled"].config
    assert student.checkpoint == fine_tuned.checkpoint and student.teacher == f"{root}/fine_tuned"
    for name in ("supervised", "small_student"):
        assert pretrained[f"{root}/{name}"].config.checkpoint is None
