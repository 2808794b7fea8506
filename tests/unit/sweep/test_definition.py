"""Command lines of a sweep: what they mean, and what is refused."""

import pytest

from simclrv2_tf.cli import sweep
from simclrv2_tf.options import ConfigError
from simclrv2_tf.sweep.definition import canonical, given, option_of


def errors_of(*args):
    with pytest.raises(ConfigError) as caught:
        sweep.definition(args)
    return list(caught.value.errors)


def test_a_command_line_is_read():
    found = sweep.definition(
        [
            *("--grid.lr=0.1,0.3", "--grid.small_student.resnet_depth", "18,34"),
            "--variant.big=--resnet_depth=50 --width_multiplier=2",
            *("--seeds=0,2", "--jobs", "3", "--output=there", "--metrics=seconds,loss"),
            "--compare_to=learning_rate=1e-1;variant=big,small_student.resnet_depth=18",
            *("--train_mode=pretrain", "--batch=64", "--dry_run", "--x_axis=learning_rate"),
        ]
    )
    assert found.grid == {
        "learning_rate": ("0.1", "0.3"),
        "small_student.resnet_depth": ("18", "34"),
    }
    assert found.variants == {"big": ("--resnet_depth=50", "--width_multiplier=2")}
    assert (found.seeds, found.jobs, found.folder) == ((0, 2), 3, "there")
    assert found.compare_to == (
        {"learning_rate": "0.1"},
        {"variant": "big", "small_student.resnet_depth": "18"},
    )
    assert found.flags == ("--train_mode=pretrain", "--train_batch_size=64")
    assert found.dry_run and found.x_axis == "learning_rate"
    assert found.metrics == ("seconds", "loss")
    assert found.dimensions == ("variant", "learning_rate", "small_student.resnet_depth")


@pytest.mark.parametrize(
    ("args", "values"),
    [
        # Of an option with one value, commas separate; semicolons where a value has a comma.
        ("--grid.dataset=folder:a,folder:b", ("folder:a", "folder:b")),
        ("--grid.dataset=folder:a,1;folder:b", ("folder:a,1", "folder:b")),
        # Of an option that takes a list, only semicolons do.
        ("--grid.label_fraction=0.01;0.1", ("0.01", "0.1")),
        ("--grid.label_fraction=0.01;0.01,0.1", ("0.01", "0.01,0.1")),
        ("--grid.label_fraction=0.01", ("0.01",)),
        ("--grid.checkpoint=,runs/a", ("", "runs/a")),
    ],
)
def test_values_are_separated_without_doubt(args, values):
    ((_, found),) = sweep.definition([args]).grid.items()
    assert found == values


def test_a_list_is_not_taken_for_values():
    (line,) = errors_of("--grid.label_fraction=0.01,0.1")
    assert "--grid.label_fraction='0.01;0.1' has 2 values" in line
    assert "--label_fraction=0.01,0.1 is the same list in every cell" in line


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("--grid.learning_rat=0.1", "Unknown flag `--learning_rat` in the grid. Did you mean"),
        ("--grid.learning_rate=", "must list one or more values"),
        ("--grid.learning_rate=0.1,0.10", "must not repeat a value"),
        ("--grid.seed=0,1", "`seed` must be left out in the grid: give --seeds=0,1,2"),
        ("--seed=3", "`seed` must be left out for all cells"),
        ("--grid.model_dir=a,b", "each cell has its own folder in --output"),
        ("--variant.a=--mode=train", "`mode` must be left out in variant a"),
        ("--variant.a=--grid.learning_rate=1,2", "on the command line or in the sweep's recipe"),
        ("--variant.a/b=--seed=1", "The name of a variant must consist of"),
        ("--variant.a=learning_rate=1", "must consist of flags, each as --name=value"),
        ("--variant.a='--x", "must be quoted as in a shell"),
        ("--seeds=0,0", "without duplicates"),
        ("--seeds=", "must be whole numbers of at least 0"),
        ("--seeds=-1", "must be whole numbers of at least 0"),
        ("--jobs=0", "must be whole numbers of at least 1"),
        ("--jobs=1,2", "`jobs` must be one whole number"),
        ("--compare_to=nt_xent", "`compare_to` must be NAME=VALUE"),
        ("--metrics=a,a", "without duplicates"),
        ("--output=", "`output` must be the folder"),
    ],
)
def test_mistakes_are_refused_in_a_line(args, expected):
    line = next(line for line in errors_of(args) if expected in line)
    assert "Received: " in line and "\n" not in line


def test_a_recipe_gives_all_flags_and_the_command_line_wins(tmp_path):
    recipe = tmp_path / "flags" / "study" / "rates"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(
        "# A comment\n--seeds=0,1,2\n--grid.learning_rate=0.1,0.3\n--temperature=0.2\n"
        "--variant.a=--flagfile=demo/vicreg --train_steps=3\n"
    )
    found = sweep.definition([str(recipe), "--seeds=7", "--temperature=0.5"])
    assert found.seeds == (7,)
    assert found.grid == {"learning_rate": ("0.1", "0.3")}
    assert found.variants == {"a": ("--flagfile=demo/vicreg", "--train_steps=3")}
    assert given(found.flags)[0]["temperature"] == 0.5
    assert found.folder == "runs/study-rates-sweep"
    (line,) = errors_of(str(recipe), str(recipe))
    assert "one RECIPE" in line
    (line,) = errors_of(str(tmp_path / "missing"))
    assert line.startswith("`flagfile` must be a file")


def test_flag_files_give_way_to_flags():
    values, by_stage = given(["--temperature=0.7", "--flagfile=demo/default", "--train_epochs=2"])
    assert (values["temperature"], values["train_epochs"]) == (0.7, 2)
    assert values["resnet_depth"] == 18 and by_stage["supervised"]["optimizer"] == "adam"


@pytest.mark.parametrize(
    ("name", "texts", "expected"),
    [
        ("learning_rate", ("0.1", "1e-1", ".10"), "0.1"),
        ("use_blur", ("false", "False", "0"), "False"),
        ("fine_tuned@0.1.label_fraction", ("0.01,0.1", "1e-2,1e-1"), "0.01,0.1"),
        ("checkpoint", ("",), "none"),
        ("flagfile", ("demo/vicreg",), "demo/vicreg"),
    ],
)
def test_one_value_has_one_text(name, texts, expected):
    assert {canonical(option_of(name), text) for text in texts} == {expected}
