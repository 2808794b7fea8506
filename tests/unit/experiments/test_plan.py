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


def test_published_settings():
    """Facts of the paper and the released code, where nothing is given for a stage."""
    base = dict(
        train_mode="semi_supervised",
        label_fraction=(0.01, 0.1),
        train_batch_size=1024,
        learning_rate=0.1,
        learning_rate_scaling="sqrt",
        weight_decay=1e-4,
        warmup_epochs=40,
        temperature=0.1,
        linear_evaluation=True,
    )
    stages = by_folder(planned(**base))
    tuned = stages["root/label_fraction_0.01/fine_tuned"].config
    assert (tuned.optimizer, tuned.learning_rate, tuned.learning_rate_scaling) == (
        "lars",
        0.005,
        "sqrt",
    )
    assert (tuned.warmup_epochs, tuned.weight_decay, tuned.zero_init_logits_layer) == (0, 0, True)
    assert (tuned.train_epochs, tuned.ft_proj_selector) == (60, 1)
    assert stages["root/label_fraction_0.1/fine_tuned"].config.train_epochs == 30
    wide = by_folder(planned(**base, width_multiplier=2))
    assert wide["root/label_fraction_0.1/fine_tuned"].config.learning_rate == 0.002
    linear = stages["root/linear_eval"].config
    assert (linear.optimizer, linear.learning_rate, linear.train_epochs) == ("momentum", 0.1, 90)
    assert (linear.weight_decay, linear.warmup_epochs) == (1e-6, 0)
    random_init = stages["root/linear_eval_random_init"].config
    assert random_init == dataclasses.replace(
        linear, model_dir=random_init.model_dir, checkpoint=None
    )
    assert linear.checkpoint == "root/pretrain"
    distilled = stages["root/label_fraction_0.1/self_distilled"].config
    assert (distilled.train_epochs, distilled.temperature, distilled.distill_alpha) == (400, 0.1, 1)
    for name in ("learning_rate", "learning_rate_scaling", "weight_decay", "optimizer"):
        assert getattr(distilled, name) == getattr(stages["root/pretrain"].config, name)
    assert distilled.ft_proj_selector == 0
    small = stages["root/label_fraction_0.1/small_student"].config
    assert (small.temperature, small.width_multiplier) == (1.0, 0.5)


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


# arXiv 2006.10029, sections 3.1 and A; what a stage takes from pretraining's flags in brackets.
PUBLISHED = {
    "supervised": dict(ft_proj_selector=0, weight_decay=1e-4, optimizer="momentum"),
    "fine_tuned": dict(
        optimizer="lars", weight_decay=0.0, warmup_epochs=0.0, zero_init_logits_layer=True
    ),
    "self_distilled": dict(temperature=0.1, ft_proj_selector=0, distill_alpha=1.0),
    "small_student": dict(temperature=1.0, ft_proj_selector=0, distill_alpha=1.0),
}


@pytest.mark.parametrize(
    "given", [{}, dict(temperature=0.5), dict(ft_proj_selector=2, weight_decay=0.01)]
)
def test_later_stages_have_the_published_settings_whatever_pretrainings_are(tmp_path, given):
    config = Config(
        dataset="x",
        train_mode="semi_supervised",
        label_fraction=(0.01, 0.1, 1.0),
        model_dir=str(tmp_path),
        **given,
    )
    layers = {0.01: 1, 0.1: 1, 1.0: 0}
    epochs = {0.01: 60, 0.1: 30, 1.0: 30}
    for planned in plan.plan_stages(config):
        expected = PUBLISHED.get(planned.name, {})
        if planned.name == "fine_tuned":
            more = dict(
                ft_proj_selector=layers[planned.fraction], train_epochs=epochs[planned.fraction]
            )
            expected = {**expected, **more}
        found = {name: getattr(planned.config, name) for name in expected}
        assert found == expected, (planned.name, planned.fraction)


@pytest.mark.parametrize("name", ["test/a", "a b", ".hidden", "../x", "a\\b", "-a", "a\n"])
def test_names_that_become_files_are_checked_at_once(name):
    with pytest.raises(ConfigError, match="`eval_name` must be letters"):
        Config(dataset="x", eval_name=name)
    Config(dataset="x", eval_name="test-1.a_b")
