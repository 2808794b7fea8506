"""Imports the reference's weights: `python -m simclrv2_tf.official --source=... --output=...`."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence

_LICENCE = (
    "The released weights are under Apache-2.0, as their authors publish them; ImageNet's images "
    "have terms of their own."
)
# Options that check what was inferred.
_CHECKED = {
    "resnet_depth": int,
    "width_multiplier": float,
    "sk_ratio": float,
    "se_ratio": float,
    "num_classes": int,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit status: 0, or 2 for bad input."""
    args = _parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from simclrv2_tf.artifacts import ExportError
    from simclrv2_tf.official import OfficialError

    if args.list:
        print(_listed())
        return 0
    try:
        _import(args)
    except (OfficialError, ExportError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


def _import(args: argparse.Namespace) -> None:
    from etils import epath

    from simclrv2_tf import official
    from simclrv2_tf.artifacts import Artifacts, check_formats
    from simclrv2_tf.networks import Networks
    from simclrv2_tf.run_directory import to_json, write

    if not args.source or not args.output:
        raise official.OfficialError("`source` and `output` must be given, or --list.")
    check_formats(args.export_formats)
    directory = epath.Path(args.output)
    if directory.exists() and any(directory.iterdir()):
        raise official.OfficialError(
            f"`output` must be new or empty; nothing is overwritten. Received: output={args.output}"
        )
    known = official.released().get(args.source.strip("/"))
    source = known.saved_model if known else args.source
    layer = args.ft_proj_selector
    if layer is None:
        layer = known.ft_proj_selector if known else 0
    if layer is None:
        raise official.OfficialError(
            "`ft_proj_selector` must say which layer of the head feeds the classifier: neither the "
            f"paper nor the file tells of {args.source}. Received: none"
        )
    class_names = _class_names(args.labels)

    print(f"Reading {source}", flush=True)
    variables = official.Variables(source)
    architecture = official.infer(variables.shapes, args.momentum)
    _check_expected(args, architecture, known)
    if layer and not (architecture.num_classes and -1 <= layer <= architecture.num_proj_layers):
        raise official.OfficialError(
            "`ft_proj_selector` must be a layer of the head that feeds a classifier: there are "
            f"{architecture.num_proj_layers} layers and {architecture.num_classes} classes. "
            f"Received: ft_proj_selector={layer}"
        )
    if class_names and len(class_names) != architecture.num_classes:
        raise official.OfficialError(
            f"`labels` must name the {architecture.num_classes} classes. Received: "
            f"{len(class_names)} names in {args.labels}"
        )
    models = architecture.build()
    if architecture.num_classes and layer:
        width = models["head"].outputs[layer].shape[-1]
        if width != architecture.classifier_inputs:
            raise official.OfficialError(
                f"`ft_proj_selector` must be a layer of width {architecture.classifier_inputs}, "
                f"which the classifier takes. Received: ft_proj_selector={layer}, of width {width}"
            )
    report = official.load_weights(variables, **models, momentum=args.momentum)
    print(
        f"{len(report.used):,} variables of {len(variables):,} used, "
        f"{len(report.skipped):,} skipped: {_counted(report.skipped.values())}",
        flush=True,
    )
    networks = Networks(models["encoder"], models.get("head"), models.get("classifier"), layer)
    labelled = networks.classifier is not None
    artifacts = Artifacts(directory, "0", labelled, args.export_formats)
    artifacts.write(networks, args.image_size, class_names)
    artifacts.finish(_card(args, architecture, networks, class_names, known))
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
    write(directory / "import.json", to_json(written))
    for name, model in networks.models.items():
        print(f"{name + ':':<12}{model.count_params():>13,} parameters", flush=True)
    print(
        f"Networks in {directory}/*.keras, SavedModel in {artifacts.module}, report in import.json"
    )


def _card(args, architecture, networks, class_names, known) -> str:
    from simclrv2_tf.model_card import model_card

    # A card is for others, to whom the folders of this machine say nothing.
    source = args.source if "://" in args.source else os.path.basename(args.source.rstrip("/"))
    source = known.name if known else source
    selective = f" SK {architecture.sk_ratio:g}" if architecture.sk_ratio else ""
    network = f"ResNet-{architecture.resnet_depth} {architecture.width_multiplier:g}x{selective}"
    return model_card(
        title=f"{network}: {source}",
        about={
            "Network": f"{network}, head of {architecture.num_proj_layers} layers",
            "Origin": f"weights released with SimCLRv2 (arXiv 2006.10029), from {source}; "
            "imported by simclrv2_tf",
            "Top-1": f"{known.top_1_accuracy}% on ImageNet (published, not measured here)"
            if known
            else "not known",
        },
        measured={},
        measured_on="",
        licence=_LICENCE,
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
    from etils import epath

    from simclrv2_tf.official import OfficialError

    if path is None:
        return ()
    if not epath.Path(path).is_file():
        raise OfficialError(
            f"`labels` must be a file with a class name in each line. Received: labels={path}"
        )
    return tuple(epath.Path(path).read_text().splitlines())


def _counted(reasons) -> str:
    reasons = list(reasons)
    return "; ".join(f"{reasons.count(reason):,} {reason}" for reason in dict.fromkeys(reasons))


def _listed() -> str:
    from simclrv2_tf.official import released
    from simclrv2_tf.report import table

    models = list({model.name: model for model in released().values()}.values())
    return table(
        ["name", "parameters (M)", "ImageNet top-1 (%)", "head layer"],
        [
            (
                model.name,
                model.parameters_in_millions,
                f"{model.top_1_accuracy:.1f}",
                "not told" if model.ft_proj_selector is None else model.ft_proj_selector,
            )
            for model in models
        ],
    )


def _parser() -> argparse.ArgumentParser:
    from simclrv2_tf.config import EXPORT_FORMATS

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
        "layer of the projection head that feeds the classifier, which no file tells (default: as "
        "--list says; 0, the encoder's output, for other sources)"
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
        type=int,
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
