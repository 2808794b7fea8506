"""Finds the stages: each file of this package with a `StageRun` defines a stage."""

import functools
import importlib
import pkgutil

from simclrv2_tf.experiments import plan, stage


@functools.cache
def stages() -> dict[str, type[stage.StageRun]]:
    """Returns the classes of stages by train mode."""
    package = __name__.rpartition(".")[0]
    path = importlib.import_module(package).__path__
    found = {}
    for module in pkgutil.iter_modules(path):
        if module.name == __name__.rpartition(".")[2]:
            continue
        for value in vars(importlib.import_module(f"{package}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, stage.StageRun):
                if mode := vars(value).get("train_mode"):
                    found[mode] = value
    return found


def train_modes() -> tuple[str, ...]:
    """Returns the values of `train_mode`: the stages, then the runs of several stages."""
    return (*stages(), *plan.RUNS)


def summaries() -> str:
    """Describes what each train mode trains, for `--help`."""
    described = {mode: kind.summary for mode, kind in stages().items()} | plan.RUNS
    return " ".join(f"{mode}: {summary}" for mode, summary in described.items())


def stage_names() -> tuple[str, ...]:
    """Returns the stages of runs of several, each with its own folder and options."""
    names = {name for kind in stages().values() for name in kind.published}
    return (*(name for name in plan.ORDER if name in names), *sorted(names - {*plan.ORDER}))


def published(name: str) -> tuple[str, stage.Settings]:
    """Returns the train mode and the published settings of a stage of a run of several."""
    return next(
        (mode, kind.published[name]) for mode, kind in stages().items() if name in kind.published
    )
