"""The package of objectives: its names and options."""

import subprocess
import sys

import pytest

from simclrv2_tf import objectives, options


@pytest.mark.parametrize("first", ["", "import simclrv2_tf.objectives.{name}; "])
@pytest.mark.parametrize("name", ["vicreg", "vicreg_tico", "distillation"])
def test_the_function_wins_over_its_file(first, name):
    program = (
        f"{first.format(name=name)}from simclrv2_tf import objectives; "
        f"import importlib; module = importlib.import_module('simclrv2_tf.objectives.{name}'); "
        f"assert objectives.{name} is module.{name}; "
        f"from simclrv2_tf.objectives import {name}; assert {name} is module.{name}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_names_are_files_that_hold_their_class():
    assert {"nt_xent", "vicreg", "tico", "vicreg_tico", "barlow_twins"} <= set(objectives.NAMES)
    for name, objective in objectives.OBJECTIVES.items():
        assert objective.__module__ == f"simclrv2_tf.objectives.{name}"
        assert getattr(objectives, name).__module__ == objective.__module__


def test_flags_are_the_fields_of_the_objectives():
    flags = options.of(objectives.ObjectiveOptions)
    fields = {
        spec.name: spec
        for objective in objectives.OBJECTIVES.values()
        for spec in options.of(objective).values()
    }
    assert set(flags) == {"objective", *fields}
    assert all(flags[name].default == spec.default for name, spec in fields.items())
    for name, objective in objectives.OBJECTIVES.items():
        assert f"{name}: {objective.summary}." in flags["objective"].help


def test_make_takes_the_options_by_their_flags():
    flags = objectives.ObjectiveOptions(
        objective="vicreg_tico", tico_beta=0.5, vicreg_covariance=3, hybrid_diagonal=False
    )
    made = objectives.make(flags, 6)
    assert isinstance(made, objectives.VICRegTiCo)
    assert (made.width, made.beta, made.rho, made.diagonal) == (6, 0.5, 3.0, False)
    assert made.covariance.shape == (6, 6)
    flags = objectives.ObjectiveOptions(chunk_size=8, hidden_norm=False)
    assert objectives.make(flags, 6) == objectives.NTXent(0.1, False, 8)
    flags = objectives.ObjectiveOptions(objective="tico", tico_momentum_views=True)
    assert objectives.make(flags, 6).momentum_views
    rule = f"`objective` must be one of {', '.join(objectives.NAMES)}"
    with pytest.raises(options.ConfigError, match=rule):
        objectives.ObjectiveOptions(objective="simclr")
