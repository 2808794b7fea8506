"""The text of `--help`."""

import textwrap
from collections.abc import Sequence

from simclrv2_tf import options
from simclrv2_tf.config.recipes import recipe_names

_WIDTH = 96


def help_text(groups: Sequence[type[options.Group]], stages: Sequence[str]) -> str:
    """Every flag by group, with its rule and default.

    Args:
        groups: The groups of options, in the order in which they are shown.
        stages: The stages that have options of their own.
    """
    lines = [
        "SimCLRv2 in Keras 3 and TensorFlow.",
        "",
        "Usage: python -m simclrv2_tf.run [--flagfile=RECIPE] [--flag=value ...]",
        "",
        "The last value of a flag wins, so flags after --flagfile change the recipe. An empty",
        "value (--checkpoint=) unsets a flag whose default is none.",
        "",
        "A run of several stages (semi_supervised, pretrain_linear_eval) takes options for one",
        "stage as --STAGE.FLAG=VALUE, and for one stage at one label fraction as",
        "--STAGE@FRACTION.FLAG=VALUE, such as --fine_tuned@0.01.train_epochs=60. Stages: ",
        f"{', '.join(stages)}.",
        "Stages after pretrain use the published settings for all that is not given.",
        "",
        *textwrap.wrap(f"Recipes: {', '.join(recipe_names())}.", _WIDTH, break_on_hyphens=False),
    ]
    shown: set[str] = set()
    for group in groups:
        lines += ["", f"{group.title}:"]
        for option in options.of(group).values():
            if option.name not in shown:
                shown.add(option.name)
                lines += _described(option)
    return "\n".join(lines)


def _described(option: options.Option) -> list[str]:
    prefix = "[no]" if option.kind is bool else ""
    default = "none" if option.default is None else str(option.default)
    if option.kind is bool:
        default = default.lower()
    rule = "" if option.kind in (bool, str) and not option.choices else f" ({option.rule})"
    indent = " " * 6
    text = textwrap.wrap(
        option.help + rule,
        width=_WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return [f"  --{prefix}{option.name} (default: {default})", *text]
