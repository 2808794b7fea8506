"""Options of one stage of a run of several: `--STAGE.flag`, `--STAGE@FRACTION.flag`."""

from collections.abc import Mapping
from typing import Any

from simclrv2_tf.config.command_line import suggestion
from simclrv2_tf.experiments import registry
from simclrv2_tf.experiments.plan import stage_key
from simclrv2_tf.options import Option


def overlay(below: Mapping[str, dict], above: Mapping[str, dict]) -> dict[str, dict]:
    """Merges options by stage; the options of `above` win."""
    return {key: {**below.get(key, {}), **above.get(key, {})} for key in {**below, **above}}


def check_stage_options(
    given: Any, known: Mapping[str, Option]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Returns `stage_options` with values of their own types, and the problems found."""
    if not isinstance(given, Mapping) or not all(isinstance(v, Mapping) for v in given.values()):
        return {}, [f"`stage_options` must map stages to options. Received: {given!r}"]
    checked: dict[str, dict[str, Any]] = {}
    errors = []
    for key, values in given.items():
        stage, at, fraction = key.partition("@")
        if not _is_stage(stage, at, fraction, known["label_fraction"]):
            stages = registry.stage_names()
            errors.append(
                "A stage must be one of " + ", ".join(stages) + ", or STAGE@FRACTION for one label "
                f"fraction, such as fine_tuned@0.01.{suggestion(stage, stages)} Received: {key}"
            )
            continue
        key = stage_key(stage, float(fraction)) if at else stage
        own = checked.setdefault(key, {})
        for name, value in values.items():
            try:
                own[name] = _checked(key, name, value, known)
            except ValueError as error:
                errors.append(str(error))
    return checked, errors


def _is_stage(stage: str, at: str, fraction: str, label_fraction: Option) -> bool:
    try:
        if at:
            label_fraction.check(float(fraction))
    except ValueError:
        return False
    return stage in registry.stage_names()


def _checked(key: str, name: str, value: Any, known: Mapping[str, Option]) -> Any:
    received = f"Received: {key}.{name}={value!r}"
    if name not in known:
        raise ValueError(f"Unknown option `{name}`.{suggestion(name, known)} {received}")
    if known[name].once:
        raise ValueError(f"`{name}` must be the same in all stages of a run. {received}")
    try:
        return known[name].check(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
