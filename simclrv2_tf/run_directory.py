"""Whose a run directory is, and how its files are written: whole or not at all."""

from __future__ import annotations

import dataclasses
import json

from etils import epath

from simclrv2_tf.config import MULTI_STAGE, Config, ConfigError


class RunError(ValueError):
    """A run that cannot begin as asked; the message is meant for the user."""


# These say how a run is carried out, watched, kept and evaluated. All other options decide what
# comes out of it: a run directory belongs to one choice of them.
_INCIDENTAL = frozenset(
    ["mode", "model_dir", "debug", "eval_name", "eval_batch_size", "eval_split", "eval_steps"]
    + ["checkpoint_epochs", "checkpoint_steps", "keep_checkpoint_max", "keep_hub_module_max"]
    + ["train_summary_steps", "data_dir", "cache_dataset", "chunk_size", "variable_schema"]
    + ["strategy", "num_replicas", "use_tpu", "tpu_name", "tpu_zone", "gcp_project", "master"]
    + ["steps_per_execution", "export_formats"]
)
_INCIDENTAL_TO_EVALUATION = frozenset(["eval_ema"])


def check_same_run(directory: epath.Path, config: Config) -> None:
    """Checks that `directory` is free, or holds the run that `config` continues.

    Raises:
        RunError: it holds another run, or something that is no run.
    """
    path = directory / "config.json"
    if not path.exists():
        return
    try:
        earlier = Config.from_json(path.read_text())
    except ConfigError as error:
        raise RunError(
            f"{path} cannot be read as a run's options ({error.errors[0]}). Choose another "
            "--model_dir, or move that file away; nothing there was changed."
        ) from None
    incidental = _INCIDENTAL
    # Of several stages, the later ones were trained on the network that was chosen then.
    if config.mode == "eval" and config.train_mode not in MULTI_STAGE:
        incidental |= _INCIDENTAL_TO_EVALUATION
    differences = [
        f"{f.name}={getattr(earlier, f.name)} there, {getattr(config, f.name)} here"
        for f in dataclasses.fields(config)
        if f.name not in incidental and getattr(earlier, f.name) != getattr(config, f.name)
    ]
    if config.eval_ema != earlier.eval_ema and not config.eval_name and not differences:
        raise RunError(
            "`eval_name` must be given to evaluate another network than the run did, whose "
            f"result.json is kept; --eval_name=ema would do. Received: eval_ema={config.eval_ema}"
        )
    if differences:
        raise RunError(
            f"`model_dir` must be new or hold the same run. Received: model_dir={directory}, which "
            f"holds another one ({'; '.join(differences)}). Choose another --model_dir; nothing "
            "there was changed."
        )


def claim(directory: epath.Path, config: Config) -> None:
    """Makes `directory` the run's own, with its options in `config.json`.

    Raises:
        RunError: as `check_same_run`.
    """
    check_same_run(directory, config)
    directory.mkdir(parents=True, exist_ok=True)
    write(directory / "config.json", config.to_json())


def write(path: epath.Path, text: str) -> None:
    """Replaces a file whole, so that a kill never leaves half of one."""
    unfinished = path.parent / f".{path.name}.unfinished"
    unfinished.write_text(text)
    unfinished.replace(path)


def to_json(value: dict) -> str:
    """The text of our JSON files."""
    return json.dumps(value, indent=2) + "\n"
