"""`Config`: the options of a run, composed of the groups that parts of the package declare.

Flag names and defaults follow the reference (google-research/simclr, `tf2/run.py`, and the TF1
README's `variable_schema` and `train_summary_steps`), except `use_tpu=False`, `weight_decay=1e-4`,
`eval_split` chosen by the data set, and `model_dir` under `./runs/`.
"""

import dataclasses
import functools
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Self

from absl import flags, logging

from simclrv2_tf import files, hugging_face, options
from simclrv2_tf.augment.views import ViewOptions
from simclrv2_tf.config import command_line, rules, starting
from simclrv2_tf.config.groups import EvaluationOptions, RunOptions
from simclrv2_tf.config.help import help_text
from simclrv2_tf.config.recipes import demo_file, expand_flagfiles
from simclrv2_tf.config.stage_options import check_stage_options, overlay
from simclrv2_tf.datasets import sources
from simclrv2_tf.datasets.options import PACKAGED, DataOptions, LabelOptions
from simclrv2_tf.distribute.devices import DeviceOptions
from simclrv2_tf.experiments import registry
from simclrv2_tf.export.formats import ExportOptions
from simclrv2_tf.memory import MemoryOptions
from simclrv2_tf.network_options import HeadOptions, NetworkOptions
from simclrv2_tf.objectives import OBJECTIVES, ObjectiveOptions
from simclrv2_tf.optimizers.options import OptimizerOptions
from simclrv2_tf.options import ConfigError, Option
from simclrv2_tf.stages.options import (
    ClassifierOptions,
    DistillerOptions,
    PretrainerOptions,
    SemiSupervisedOptions,
)
from simclrv2_tf.training.options import TrainingOptions, ValidationOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(  # Fields come from the last base to the first: in order, they read from below.
    DeviceOptions,
    ExportOptions,
    ValidationOptions,
    TrainingOptions,
    EvaluationOptions,
    SemiSupervisedOptions,
    DistillerOptions,
    ClassifierOptions,
    ViewOptions,
    HeadOptions,
    NetworkOptions,
    PretrainerOptions,
    MemoryOptions,
    ObjectiveOptions,
    OptimizerOptions,
    LabelOptions,
    DataOptions,
    RunOptions,
):
    """All options of a run, checked.

    Each field is a flag of the same name; `python -m simclrv2_tf.run --help` describes them. A
    `Config` is an instance of each group of options, so each part can use it as its own group. A
    `dataset` of None becomes the packaged data set and a `model_dir` of None a folder under
    `runs/`, so neither is None in a finished `Config`. The path of a folder of images becomes
    `folder:PATH`, see `sources.resolve`.

    Raises:
        ConfigError: names every value that breaks its rule and every inconsistent combination.
    """

    # Not a flag: {stage: {option: value}}, with a stage of `registry.stage_names` or
    # STAGE@FRACTION.
    stage_options: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self):
        invalid, errors = options.checked_fields(self)
        stage_options, stage_errors = check_stage_options(self.stage_options, flag_options())
        object.__setattr__(self, "stage_options", stage_options)
        errors += stage_errors + rules.broken(self, invalid)
        if errors:
            raise ConfigError(errors)
        for name in ("model_dir", "checkpoint", "teacher"):
            if getattr(self, name):
                object.__setattr__(self, name, os.path.expanduser(getattr(self, name)))
        if self.dataset is None:
            object.__setattr__(self, "dataset", PACKAGED)
        for name in ("dataset", "unlabelled_dataset"):
            if getattr(self, name):  # one name per folder: any spelling resumes a run
                resolved, _ = sources.resolve(getattr(self, name), self.data_dir)
                object.__setattr__(self, name, resolved)
        if self.model_dir is None:
            object.__setattr__(self, "model_dir", run_folder(f"{self.dataset}-{self.train_mode}"))

    @property
    def has_momentum_network(self) -> bool:
        """Whether pretraining keeps a moving average of the network."""
        has_targets = OBJECTIVES[self.objective].momentum_targets
        return self.memory_size > 0 or self.tico_momentum_views or has_targets

    @classmethod
    def from_argv(cls, argv: Sequence[str] | None = None, notes: list[str] | None = None) -> Self:
        """Builds a `Config` from a command line; the last value of a flag wins.

        `--flagfile=NAME` is replaced by the flags in that file: NAME is the path of a file, or else
        a recipe of the package. Without a data set, flags that are not given come from the recipe
        `demo`. Options of the network that are not given come from the run at `--checkpoint`, see
        `starting`. `--help` prints the options and exits with status 0.

        Args:
            argv: Program name, then flags; `sys.argv` by default.
            notes: Lines that say where values come from are appended.

        Raises:
            ConfigError: names every unknown flag, bad value, missing recipe and inconsistent
                combination. Only recipes and the description of the network at `--checkpoint` have
                been read by then.
        """
        notes = [] if notes is None else notes
        args = list(sys.argv if argv is None else argv)[1:]
        if command_line.asks_for_help(args):
            # Dataclasses order fields by their bases, from the last to the first.
            print(help_text(Config.__bases__[::-1], registry.stage_names()))
            raise SystemExit(0)
        errors: list[str] = []
        args, recipe_args, names = expand_flagfiles(args, errors)
        # The recipes' own flags are part of `args`: their errors are reported once.
        return cls._from_given(_read(args, errors), _read(recipe_args, []), names, errors, notes)

    @classmethod
    def from_flags(cls, flag_values: flags.FlagValues = flags.FLAGS) -> Self:
        """Builds a `Config` from flags that `define_flags` defined and absl has parsed.

        For programs with their own flags under `absl.app`. There absl itself reads `--flagfile`:
        only by path, and without the recipe's name.

        Raises:
            ConfigError: as in `from_argv`, but absl itself reports unknown flags.
        """
        given = command_line.read_absl_flags(flag_options(), flag_values)
        return cls._from_given({**given, "stage_options": {}}, {}, [], [], [])

    @classmethod
    def _from_given(
        cls,
        given: dict[str, Any],
        recipe: Mapping[str, Any],
        names: list[str],
        errors: list[str],
        notes: list[str],
    ) -> Self:
        """Adds missing values, names `model_dir`, and validates.

        The network comes from `checkpoint`; without a data set, the rest comes from the demo
        recipe.

        Args:
            given: Values by option name, `recipe`'s included.
            recipe: The values from flag files, to find out what the flags change.
            names: Names of the flag files.
            errors: Problems found so far.
            notes: Lines that say what was added are appended here.
        """
        for name in ("checkpoint", "teacher"):
            if given.get(name):
                given[name] = hugging_face.local(str(given[name]))
        given = starting.complete(given, flag_options(), errors, notes)
        if given.get("dataset") is None:
            demo_args, _, demo_names = expand_flagfiles([f"--flagfile={demo_file()}"], errors)
            demo = _read(demo_args, errors)
            given = {
                **demo,
                **{k: v for k, v in given.items() if k != "dataset"},
                "stage_options": overlay(demo["stage_options"], given["stage_options"]),
            }
            recipe = {**demo, **recipe}
            names = names or demo_names
        if names and given.get("model_dir") is None:
            default = flag_options()["train_mode"].default
            train_mode = given.get("train_mode", default)
            changed = train_mode != recipe.get("train_mode", default)
            given["model_dir"] = run_folder("-".join(names + [train_mode] * changed))
        config = _made(cls, given, errors)
        for name in ("dataset", "unlabelled_dataset"):
            if given.get(name):
                _, taken = sources.resolve(given[name], config.data_dir)
                if taken:
                    logging.warning("%s", taken)
        return config

    def to_json(self) -> str:
        """All options as a JSON object."""
        return files.to_json(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads the result of `to_json`; missing options have their defaults, or `unrecorded`
        values.

        Raises:
            ConfigError: the text is not a JSON object, or has an unknown option or a bad value.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigError([f"`text` must be JSON. Received: {error}"]) from None
        if not isinstance(values, dict):
            raise ConfigError([f"`text` must be a JSON object. Received: {type(values).__name__}"])
        known = {f.name for f in dataclasses.fields(cls)}
        errors = [
            f"Unknown option `{name}`.{command_line.suggestion(name, known)} "
            f"Received: {name}={value!r}"
            for name, value in values.items()
            if name not in known
        ]
        unrecorded = {
            name: option.unrecorded
            for name, option in flag_options().items()
            if option.unrecorded is not None
        }
        found = {name: value for name, value in values.items() if name in known}
        return _made(cls, unrecorded | found, errors)


@functools.cache
def flag_options() -> dict[str, Option]:
    """Returns every option that is a flag, by name."""
    return options.of(Config)


def define_flags(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines one absl flag for each option, for use with `Config.from_flags`.

    Args:
        flag_values: Where to define them; absl's global flags by default.
    """
    command_line.define_absl_flags(flag_options(), flag_values)


def _made(cls, values: Mapping[str, Any], errors: list[str]) -> Any:
    """Returns `cls(**values)`; reports its problems after the `errors` found before."""
    try:
        config = cls(**values)
    except ConfigError as error:
        raise ConfigError([*errors, *error.errors]) from None
    if errors:
        raise ConfigError(errors)
    return config


def _read(args: Sequence[str], errors: list[str]) -> dict[str, Any]:
    given, by_stage = command_line.read(args, flag_options(), errors)
    return {**given, "stage_options": by_stage}


def run_folder(name: str) -> str:
    """Returns the folder of a run called `name`, inside `runs/`."""
    return "runs/" + re.sub(r"[^\w.]+", "-", name).strip("-.")
