"""Options of one stage: `--STAGE.flag` and `--STAGE@FRACTION.flag`."""

import pytest

from helpers.config import errors_of, parse
from simclrv2_tf.config import Config


def test_stage_options_are_read_from_recipes_and_flags(tmp_path):
    recipe = tmp_path / "recipe"
    recipe.write_text(
        "--dataset=x\n--train_mode=semi_supervised\n--fine_tuned.learning_rate=0.5\n"
        "--fine_tuned.optimizer=adam\n--supervised@0.10.train_epochs=7\n"
    )
    config = parse(
        f"--flagfile={recipe}",
        "--fine_tuned.learning_rate=0.25",
        "--fine_tuned.nouse_blur",
        "--small_student.width_multiplier",
        "0.5",
        "--supervised@0.1.global_bn=false",
    )
    assert config.stage_options == {
        "fine_tuned": {"learning_rate": 0.25, "optimizer": "adam", "use_blur": False},
        "supervised@0.1": {"train_epochs": 7, "global_bn": False},
        "small_student": {"width_multiplier": 0.5},
    }
    assert Config.from_json(config.to_json()) == config


def test_stage_options_given_win_over_those_of_the_demo():
    demo = parse().stage_options
    stage = "small_student"
    changed = parse(f"--{stage}.width_multiplier=0.5").stage_options
    assert changed == {**demo, stage: {**demo[stage], "width_multiplier": 0.5}}


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--fine_tune.learning_rate=1", "Did you mean `fine_tuned`?"),
        ("--fine_tuned@2.learning_rate=1", "fine_tuned@2"),
        ("--fine_tuned@x.learning_rate=1", "fine_tuned@x"),
        ("--fine_tuned.learning_rat=1", "Did you mean `learning_rate`?"),
        ("--fine_tuned.learning_rate=fast", "fine_tuned: `learning_rate` must be"),
        ("--fine_tuned.dataset=y", "`dataset` must be the same in all stages"),
        ("--fine_tuned.model_dir=y", "`model_dir` must be the same in all stages"),
    ],
)
def test_bad_stage_options_are_one_line(flag, says):
    (error,) = errors_of("--dataset=x", "--train_mode=semi_supervised", flag)
    assert says in error and ("Received:" in error)
