"""Imports the reference's weights: `python -m simclrv2_tf.official --source=... --output=...`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from etils import epath

from simclrv2_tf import environment
from simclrv2_tf.errors import exit_status
from simclrv2_tf.export.formats import EXPORT_FORMATS
from simclrv2_tf.files import to_json, write_text
from simclrv2_tf.options import at_least_1

_LICENCE = (
    "The released weights are under Apache-2.0, as their authors publish them; ImageNet's images "
    "have terms of their own."
)
_UNKNOWN_LICENCE = "Not known: that of the weights is for whoever trained them to say."

# Options that check what was inferred.
_CHECKED = {
    "resnet_depth": int,
    "width_multiplier": float,
    "sk_ratio": float,
    "se_ratio": float,
    "num_classes": int,
}


def main(argv: Sequence[str] | None = None, *, saved_model: bool = True) -> int:
    """Runs one command line; returns the exit status: 0, or 2 for bad input.

    Args:
        argv: The arguments; by default those of the process.
        saved_model: Whether the SavedModel is written, as for `export.Artifacts`.
    """
    args = _parser().parse_args(argv)
    environment.prepare()
    command = _print_list if args.list else lambda: _import(args, saved_model)
    return exit_status(command, os_error=2)


def _import(args: argparse.Namespace, saved_model: bool) -> None:
    from simclrv2_tf import official
    from simclrv2_tf.export import Artifacts, check_formats
    from simclrv2_tf.networks import Networks

    if not args.source or not args.output:
        raise official.OfficialError("`source` and `output` must be given, or --list.")
    check_formats(args.export_formats)
    directory = _new_directory(args.output)
    source, known = official.resolve(args.source)
    if known and known.ft_proj_selector is None and args.ft_proj_selector is None:
        raise official.OfficialError(
            "`ft_proj_selector` must say which layer of the head feeds the classifier: neither the "
            f"paper nor the file tells of {args.source}. Received: none"
        )
    class_names = _class_names(args.labels)

    print(f"Reading {source}", flush=True)
    variables = official.Variables(source)
    architecture = official.infer(variables.shapes, args.momentum)
    _check_expected(args, architecture, known)
    if class_names and len(class_names) != architecture.num_classes:
        raise official.OfficialError(
            f"`labels` must name the {architecture.num_classes} classes. Received: "
            f"{len(class_names)} names in {args.labels}"
        )
    models = architecture.build()
    layer = _classifier_layer(args, models, known)
    report = official.load_weights(variables, **models, momentum=args.momentum)
    print(
        f"{len(report.used):,} variables of {len(variables):,} used, "
        f"{len(report.skipped):,} skipped: {_counted(report.skipped.values())}",
        flush=True,
    )
    networks = Networks(models["encoder"], models.get("head"), models.get("classifier"), layer)
    labelled = networks.classifier is not None
    artifacts = Artifacts(directory, "0", labelled, args.export_formats, saved_model)
    artifacts.write(networks, args.image_size, class_names)
    artifacts.finish(_card(args, architecture, networks, class_names, known), args.image_size)
    written = {
        "source": source,
        "released_as": dataclasses.asdict(known) if known else None,
        "momentum": args.momentum,
        "ft_proj_selector": layer,
        "image_size": args.image_size,
        "architecture": dataclasses.asdict(architecture),
        "used": report.used,
        "skipped": report.skipped,
    }
    write_text(directory / "import.json", to_json(written))
    for name, model in networks.models.items():
        print(f"{name + ':':<12}{model.count_params():>13,} parameters", flush=True)
    print(
        f"Networks in {directory}/*.keras, SavedModel in {artifacts.module}, report in import.json"
    )


def _new_directory(output: str) -> epath.Path:
    from simclrv2_tf.official import OfficialError

    directory = epath.Path(output).expanduser()
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        unfinished = (directory / "encoder.keras").exists() and not (
            directory / "import.json"
        ).exists()
        advice = " It holds an import that did not end: remove it." if unfinished else ""
        raise OfficialError(
            "`output` must be new or empty; nothing is overwritten. "
            f"Received: output={output}{advice}"
        )
    return directory


def _classifier_layer(args, models, known) -> int:
    """Which layer of the head feeds the classifier: as given, as the paper says, or the only one.

    0 without a classifier.
    """
    from simclrv2_tf.official import OfficialError

    given = args.ft_proj_selector
    if "classifier" not in models:
        if given:
            raise OfficialError(
                "`ft_proj_selector` must be 0 without a classifier, and there is none. "
                f"Received: ft_proj_selector={given}"
            )
        return 0
    width = models["classifier"].input_shape[-1]
    outputs = models["head"].outputs if "head" in models else [models["encoder"].output]
    fitting = [k for k, hidden in enumerate(outputs) if hidden.shape[-1] == width]
    if given is None and known is None:
        if len(fitting) > 1:
            raise OfficialError(
                "`ft_proj_selector` must say which layer of the head feeds the classifier, which "
                f"no file tells: {', '.join(map(str, fitting))} have its width. By the paper it is "
                "0 for linear evaluation, all labels and supervised training, 1 for fine-tuning "
                "with 1% and 10% of the labels. Received: none"
            )
        given = fitting[0]
    layer = known.ft_proj_selector if given is None else given
    if not -1 <= layer < len(outputs) or layer % len(outputs) not in fitting:
        raise OfficialError(
            "`ft_proj_selector` must be a layer of the head whose width is the classifier's, "
            f"{width}: {', '.join(map(str, fitting))}. Received: ft_proj_selector={layer}"
        )
    return layer


def _card(args, architecture, networks, class_names, known) -> str:
    from simclrv2_tf.export.model_card import model_card, public

    source = known.name if known else public(args.source)
    selective = f" SK {architecture.sk_ratio:g}" if architecture.sk_ratio else ""
    network = f"ResNet-{architecture.resnet_depth} {architecture.width_multiplier:g}x{selective}"
    return model_card(
        title=f"{network}: {source}",
        about={
            "Network": f"{network}, head of {architecture.num_proj_layers} layers",
            "Origin": f"{'released with SimCLRv2' if known else 'weights of its code'} (arXiv "
            f"2006.10029), from {source}; imported by simclrv2_tf",
            "Top-1": f"{known.top_1_accuracy}% on ImageNet (published, not measured here)"
            if known
            else "not known",
        },
        measured={},
        measured_on="",
        licence=_LICENCE if known else _UNKNOWN_LICENCE,
        image_size=args.image_size,
        class_names=class_names,
        output="logits" if networks.classifier is not None else "representation",
    )


def _check_expected(args, architecture, known) -> None:
    """Checks what was told from names and shapes against what is known, or given."""
    from simclrv2_tf.official import OfficialError

    wrong = []
    for name in ("resnet_depth", "width_multiplier", "sk_ratio", "se_ratio", "num_classes"):
        found = getattr(architecture, name)
        for expected, whose in (
            (getattr(args, name), "flags"),
            (getattr(known, name, None), "list"),
        ):
            if expected is not None and expected != found:
                wrong.append(f"{name} is {found:g} there and {expected:g} by the {whose}")
    if wrong:
        raise OfficialError(f"{args.source} holds another network: {'; '.join(wrong)}.")


def _class_names(path: str | None) -> tuple[str, ...]:
    from simclrv2_tf.official import OfficialError

    if path is None:
        return ()
    try:
        return tuple(epath.Path(path).expanduser().read_text().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise OfficialError(
            f"`labels` must be a text file with a class name in each line ({error}). "
            f"Received: labels={path}"
        ) from None


def _counted(reasons) -> str:
    reasons = list(reasons)
    return "; ".join(f"{reasons.count(reason):,} {reason}" for reason in dict.fromkeys(reasons))


def _print_list() -> None:
    from simclrv2_tf.official import released
    from simclrv2_tf.tables import table

    models = list({model.name: model for model in released().values()}.values())
    header = ["name", "parameters (M)", "ImageNet top-1 (%)", "head layer"]
    rows = [
        (
            model.name,
            model.parameters_in_millions,
            f"{model.top_1_accuracy:.1f}",
            "not told" if model.ft_proj_selector is None else model.ft_proj_selector,
        )
        for model in models
    ]
    print(table(header, rows))


def _parser() -> argparse.ArgumentParser:
    def formats(text):
        found = tuple(text.split(","))
        if unknown := set(found) - set(EXPORT_FORMATS):
            raise argparse.ArgumentTypeError(
                f"must be of {', '.join(EXPORT_FORMATS)}. Received: {', '.join(sorted(unknown))}"
            )
        return found

    parser = argparse.ArgumentParser(
        prog="python -m simclrv2_tf.official",
        description="Imports weights that the authors of SimCLRv2 released: as .keras files and as "
        "a SavedModel that can be fine-tuned. What network it is is told from names and shapes.",
        allow_abbrev=False,
    )
    source = (
        "a TF1 checkpoint (prefix or folder), a TF2 SavedModel's folder, also gs://..., or a name "
        "of --list such as r50_1x_sk0 or finetuned_1pct/r152_3x_sk1"
    )
    layer = (
        "layer of the projection head that feeds the classifier, 0 being the encoder's output, "
        "which no file tells (default: as --list says, or the only one that fits)"
    )
    parser.add_argument("--list", action="store_true", help="print the released models, and end")
    parser.add_argument("--source", metavar="PATH", help=source)
    parser.add_argument("--output", metavar="FOLDER", help="new folder for what is imported")
    parser.add_argument("--ft_proj_selector", type=int, metavar="K", help=layer)
    parser.add_argument(
        "--momentum", action="store_true", help="take the momentum network, ema_model/..."
    )
    parser.add_argument(
        "--image_size",
        type=at_least_1,
        default=224,
        metavar="S",
        help="side of the images it was trained with (default: %(default)s)",
    )
    parser.add_argument("--labels", metavar="FILE", help="class names, one in each line")
    parser.add_argument(
        "--export_formats", type=formats, default=(), help=f"also {', '.join(EXPORT_FORMATS)}"
    )
    for name, kind in _CHECKED.items():
        parser.add_argument(
            f"--{name}", type=kind, metavar="X", help="refuse a network with another one"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
