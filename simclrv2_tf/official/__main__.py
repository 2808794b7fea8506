"""Imports the reference's weights: `python -m simclrv2_tf.official --source=... --output=...`."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import sys
from collections.abc import Sequence

from etils import epath, epy

from simclrv2_tf import environment
from simclrv2_tf.channels import RGB
from simclrv2_tf.errors import exit_status, raised_as
from simclrv2_tf.export.formats import DEFAULT_FORMATS, EXPORT_FORMATS, check_formats
from simclrv2_tf.export.model_card import model_card, public
from simclrv2_tf.files import to_json, write_text
from simclrv2_tf.networks import Networks
from simclrv2_tf.options import at_least_1
from simclrv2_tf.tables import table

with epy.lazy_imports():
    from simclrv2_tf import official
    from simclrv2_tf.export import artifacts

_LICENCE = (
    "The authors released the weights under Apache-2.0; ImageNet's images have their own terms."
)
_UNKNOWN_LICENCE = "Not known. Ask the authors of the weights."

# Options that check what was inferred.
_CHECKED = {
    "resnet_depth": int,
    "width_multiplier": float,
    "sk_ratio": float,
    "se_ratio": float,
    "num_classes": int,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit status: 0, or 2 for bad input.

    Args:
        argv: The arguments; by default the process's own.
    """
    args = _parser().parse_args(argv)
    environment.start()
    command = _print_list if args.list else lambda: _import(args)
    return exit_status(command, os_error=2)


def _import(args: argparse.Namespace) -> None:
    if not args.source or not args.output:
        raise official.OfficialError("`source` and `output` must be given, or --list.")
    check_formats(args.export_formats)
    directory = _new_directory(args.output)
    source, known = official.resolve(args.source)
    if known and known.ft_proj_selector is None and args.ft_proj_selector is None:
        raise official.OfficialError(
            "`ft_proj_selector` must give the layer of the head that feeds the classifier, because "
            f"neither the paper nor the file gives it for {args.source}. Received: none"
        )
    class_names = _class_names(args.labels)

    print(f"Reading {source}", flush=True)
    variables = official.Variables(source)
    architecture = official.infer(variables.shapes, args.momentum)
    _check_expected(args, architecture, known)
    network = dataclasses.asdict(architecture) | {"image_size": args.image_size, "channels": RGB}
    check_formats(args.export_formats, argparse.Namespace(**network))
    if class_names and len(class_names) != architecture.num_classes:
        raise official.OfficialError(
            f"`labels` must name the {architecture.num_classes} classes. Received: "
            f"{len(class_names)} names in {args.labels}"
        )
    models = architecture.build()
    networks = Networks(**models, classifier_layer=_classifier_layer(args, models, known))
    report = official.load_weights(variables, **models, momentum=args.momentum)
    reasons = collections.Counter(report.skipped.values()).items()
    print(
        f"{len(report.used):,} variables of {len(variables):,} used, {len(report.skipped):,} "
        f"skipped: {'; '.join(f'{count:,} {reason}' for reason, count in reasons)}",
        flush=True,
    )
    labelled = networks.classifier is not None
    files = artifacts.Artifacts(directory, "0", labelled, args.export_formats)
    files.write(networks, args.image_size, class_names)
    files.finish(_card(args, architecture, networks, class_names, known), args.image_size)
    written = {
        "source": source,
        "released_as": dataclasses.asdict(known) if known else None,
        "momentum": args.momentum,
        "ft_proj_selector": networks.classifier_layer,
        "image_size": args.image_size,
        "architecture": dataclasses.asdict(architecture),
        "used": report.used,
        "skipped": report.skipped,
    }
    write_text(directory / "import.json", to_json(written))
    for name, model in networks.models.items():
        print(f"{name + ':':<12}{model.count_params():>13,} parameters", flush=True)
    module = f", SavedModel in {files.module}" if files.has_module else ""
    print(f"Networks in {directory}/*.keras{module}, report in import.json")


def _new_directory(output: str) -> epath.Path:
    directory = epath.Path(output).expanduser()
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        begun, ended = directory / "encoder.keras", directory / "import.json"
        unfinished = begun.exists() and not ended.exists()
        advice = " It holds an unfinished import: remove it." if unfinished else ""
        raise official.OfficialError(
            f"`output` must be a new or empty folder. Received: {output=!s}{advice}"
        )
    return directory


def _class_names(path: str | None) -> tuple[str, ...]:
    if path is None:
        return ()
    problem = "`labels` must be a text file with one class name per line"
    with raised_as(official.OfficialError, problem, f"Received: labels={path}"):
        return tuple(epath.Path(path).expanduser().read_text().splitlines())


def _check_expected(args, architecture, known) -> None:
    """Checks the inferred architecture against the flags and the list of released models."""
    wrong = [
        f"{name} is {getattr(architecture, name):g} in the file and {expected:g} in the {whose}"
        for name in _CHECKED
        for whose, source in (("flags", args), ("list", known))
        if (expected := getattr(source, name, None)) not in (None, getattr(architecture, name))
    ]
    if wrong:
        raise official.OfficialError(f"{args.source} holds another network: {'; '.join(wrong)}.")


def _classifier_layer(args, models, known) -> int:
    """Returns the head's layer that feeds the classifier, from flag, paper or width; else 0."""
    layer = args.ft_proj_selector
    if "classifier" not in models:
        if layer:
            raise official.OfficialError(
                "`ft_proj_selector` must be 0, because there is no classifier. "
                f"Received: ft_proj_selector={layer}"
            )
        return 0
    width = models["classifier"].input_shape[-1]
    outputs = models["head"].outputs if "head" in models else [models["encoder"].output]
    fitting = [k for k, hidden in enumerate(outputs) if hidden.shape[-1] == width]
    shown = ", ".join(map(str, fitting))
    if layer is None and known is None and len(fitting) > 1:
        raise official.OfficialError(
            "`ft_proj_selector` must give the layer of the head that feeds the classifier, which "
            f"files do not record: {shown} have its width. In the paper it is 0 for linear "
            "evaluation, all labels and supervised training, and 1 for fine-tuning with 1% and 10% "
            "of the labels. "
            "Received: none"
        )
    if layer is None:
        layer = known.ft_proj_selector if known else fitting[0]
    if not -1 <= layer < len(outputs) or layer % len(outputs) not in fitting:
        raise official.OfficialError(
            "`ft_proj_selector` must be a layer of the head with the classifier's width, "
            f"{width}: {shown}. Received: ft_proj_selector={layer}"
        )
    return layer


def _card(args, architecture, networks, class_names, known) -> str:
    source = known.name if known else public(args.source)
    selective = f" SK {architecture.sk_ratio:g}" if architecture.sk_ratio else ""
    network = f"ResNet-{architecture.resnet_depth} {architecture.width_multiplier:g}x{selective}"
    origin, top_1, licence = "weights of its code", "not known", _UNKNOWN_LICENCE
    if known:
        origin, licence = "released with SimCLRv2", _LICENCE
        top_1 = f"{known.top_1_accuracy}% on ImageNet (published, not measured here)"
    return model_card(
        title=f"{network}: {source}",
        about={
            "Network": f"{network}, head of {architecture.num_proj_layers} layers",
            "Origin": f"{origin} (arXiv 2006.10029), from {source}; imported by simclrv2_tf",
            "Top-1": top_1,
        },
        measured={},
        measured_on="",
        licence=licence,
        image_size=args.image_size,
        class_names=class_names,
        output="logits" if networks.classifier is not None else "representation",
    )


def _print_list() -> None:
    models = {model.name: model for model in official.released().values()}.values()
    rows = []
    for model in models:
        layer = "not known" if model.ft_proj_selector is None else model.ft_proj_selector
        accuracy = f"{model.top_1_accuracy:.1f}"
        rows.append((model.name, model.parameters_in_millions, accuracy, layer))
    print(table(["name", "parameters (M)", "ImageNet top-1 (%)", "head layer"], rows))


def _formats(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if unknown := set(found) - set(EXPORT_FORMATS):
        raise argparse.ArgumentTypeError(
            f"must be of {', '.join(EXPORT_FORMATS)}. Received: {', '.join(sorted(unknown))}"
        )
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simclrv2_tf.official",
        description="Import weights released by the authors of SimCLRv2, as .keras files and as "
        "a SavedModel that can be fine-tuned. The architecture is inferred from variable names and "
        "shapes.",
        allow_abbrev=False,
    )
    source = (
        "a TF1 checkpoint (prefix or folder), a TF2 SavedModel's folder, also gs://..., or a name "
        "of --list such as r50_1x_sk0 or finetuned_1pct/r152_3x_sk1"
    )
    layer = (
        "layer of the projection head that feeds the classifier, which files do not record; 0 is "
        "the encoder's output (default: as in --list, or the only layer that fits)"
    )
    momentum = "import the momentum network, ema_model/..."
    size = "side of the training images in pixels (default: %(default)s)"
    formats = (
        f"formats to write in addition to the .keras files, of {', '.join(EXPORT_FORMATS)} "
        "(default: "
        f"{','.join(DEFAULT_FORMATS)})"
    )
    add = parser.add_argument
    add("--list", action="store_true", help="print the released models and exit")
    add("--source", metavar="PATH", help=source)
    add("--output", metavar="FOLDER", help="new folder for the imported networks")
    add("--ft_proj_selector", type=int, metavar="K", help=layer)
    add("--momentum", action="store_true", help=momentum)
    add("--image_size", type=at_least_1, default=224, metavar="S", help=size)
    add("--labels", metavar="FILE", help="file with one class name per line")
    add("--export_formats", type=_formats, default=DEFAULT_FORMATS, help=formats)
    for name, kind in _CHECKED.items():
        add(f"--{name}", type=kind, metavar="X", help="fail if the network has another value")
    return parser


if __name__ == "__main__":
    sys.exit(main())
