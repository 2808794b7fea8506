"""`simclrv2-tf publish RUN OWNER/REPO`: uploads a run to the Hugging Face Hub."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from simclrv2_tf import hugging_face, run_options, sums
from simclrv2_tf.contents import IMAGE_CLASSIFIER, KERAS_FILES, Contents
from simclrv2_tf.errors import UserError, exit_status, raised_as
from simclrv2_tf.experiments import run_files
from simclrv2_tf.export.model_card import CARD, public
from simclrv2_tf.files import to_json, write_text
from simclrv2_tf.hugging_face import PREFIX

# The files of a run to publish, if they exist.
_FILES = (*KERAS_FILES, IMAGE_CLASSIFIER, "labels.txt", "inputs.json", "result.json", sums.NAME)
_SUFFIXES = (".onnx", ".tflite", ".safetensors")
_TAGS = ["simclrv2", "self-supervised-learning", "tensorflow"]


class PublishError(UserError):
    """Raised for a run that cannot be published."""


def run(args: argparse.Namespace) -> None:
    """Runs the command line.

    Raises:
        PublishError, HubError: it cannot run; nothing is uploaded.
    """
    repo = hugging_face.check_repo(args.repo, "OWNER/REPO")
    hugging_face.check_installed("publish")
    folder = _checked_run(args.run)
    with tempfile.TemporaryDirectory() as staging:
        staged = epath.Path(staging)
        stage(folder, staged, repo, args.license)
        names = sorted(str(path.relative_to(staged)) for path in _files(staged))
        print(f"{len(names)} files of {folder} for {PREFIX}{repo}:", *names, sep="\n  ", flush=True)
        if not any(name.startswith("hub/") for name in names):
            print(
                "There is no SavedModel among them; rerun the run's command with "
                "--export_formats=saved_model to write one."
            )
        if args.license is None:
            print("The card has no licence; add one with --license, such as --license=apache-2.0.")
        if args.dry_run:
            print(f"\n{(staged / CARD).read_text()}\nDry run: nothing was uploaded.", flush=True)
            return
        print(f"Published: {_upload(staging, repo, args)}", flush=True)
    print(f"Use it as {PREFIX}{repo}, as in: simclrv2-tf predict {PREFIX}{repo} FOLDER", flush=True)


def _checked_run(path: str) -> epath.Path:
    if problem := run_options.whole_run(path, "RUN"):
        raise PublishError(problem)
    folder = epath.Path(path)
    if Contents(path).kind != "run" or not (folder / KERAS_FILES[0]).exists():
        raise PublishError(
            "`RUN` must be the folder of a finished run of one stage, or of a finished stage. "
            f"Received: {path}"
        )
    if not (folder / CARD).exists():
        raise PublishError(
            f"`RUN` must have its model card, {CARD}. Rerun the run's command to write it. "
            f"Received: {path}"
        )
    return folder


def stage(folder: epath.Path, staged: epath.Path, repo: str, licence: str | None) -> None:
    """Copies the files of a run to publish into another folder, and writes its card there.

    Removes paths of this machine from the run's options, see `model_card.public`.

    Args:
        folder: Folder of a run of one stage.
        staged: An empty folder.
        repo: OWNER/REPO, for the card's snippets.
        licence: The Hub's identifier of a licence, for the card, or None.
    """
    for path in folder.iterdir():
        if path.name in _FILES or path.name.endswith(_SUFFIXES):
            path.copy(staged / path.name)
    module = Contents(str(folder)).saved_model
    if module is not None:
        for path in _files(module):
            copy = staged / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            path.copy(copy)
    options = _public_values(run_options.read(folder))
    write_text(staged / "config.json", to_json(options))
    in_repo = str(module.relative_to(folder)) if module else None
    write_text(staged / CARD, _card(folder, options, repo, licence, in_repo))


def _public_values(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _public_values(held) for name, held in value.items()}
    if isinstance(value, list):
        return [_public_values(held) for held in value]
    return public(value) if isinstance(value, str) else value


def _files(folder: epath.Path) -> list[epath.Path]:
    found: list[epath.Path] = []
    for path in folder.iterdir():
        found += _files(path) if path.is_dir() else [path]
    return found


def _card(
    folder: epath.Path,
    options: Mapping[str, Any],
    repo: str,
    licence: str | None,
    module: str | None,
) -> str:
    """Returns the run's card with the Hub's metadata and instructions for use."""
    import huggingface_hub

    read = run_files.read(str(folder)).stages[0]
    classifies = (folder / IMAGE_CLASSIFIER).exists()
    task = "image-classification" if classifies else "image-feature-extraction"
    base = public(str(options.get("checkpoint") or ""))
    data = huggingface_hub.ModelCardData(
        model_name=repo.partition("/")[2],
        library_name="keras",
        pipeline_tag=task,
        tags=_TAGS,
        license=licence,
        base_model=base.removeprefix(PREFIX).partition("@")[0] if PREFIX in base else None,
        eval_results=_results(read, str(options["dataset"])) if classifies else None,
    )
    text = (folder / CARD).read_text()
    before, heading, after = text.partition("\n## Licence\n")
    if licence and heading:
        after = f"\nThe weights are under the licence `{licence}`. The code, simclrv2_tf, is under "
        after += "Apache-2.0.\n"
    text = before + _use(repo, module, classifies) + heading + after
    return str(huggingface_hub.ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}"))


def _results(read: Any, dataset: str) -> list[Any] | None:
    """Returns the accuracy in the format of the Hub's metadata."""
    import huggingface_hub

    from simclrv2_tf.report.page.runs import evaluated_split

    value = read.result.get("label_top_1_accuracy")
    if value is None:
        return None
    name = public(dataset)
    return [
        huggingface_hub.EvalResult(
            task_type="image-classification",
            dataset_type=name.rpartition(":")[-1],
            dataset_name=name,
            dataset_split=evaluated_split(read.options, read.record),
            metric_type="accuracy",
            metric_name="top-1 accuracy",
            metric_value=round(float(value), 4),
        )
    ]


def _use(repo: str, module: str | None, classifies: bool) -> str:
    file = IMAGE_CLASSIFIER if classifies else KERAS_FILES[0]
    loaded = (
        f"""
The folder of the SavedModel:

```python
from huggingface_hub import snapshot_download

path = snapshot_download("{repo}") + "/{module}"
```
"""
        if module
        else ""
    )
    return f"""
## From the Hub

With the package (`pip install 'simclrv2-tf[huggingface]'`):

```bash
simclrv2-tf finetune {PREFIX}{repo} --labels=FOLDER
simclrv2-tf predict {PREFIX}{repo} FOLDER
```

Only the `.keras` file, which needs the layers of the package:

```python
import keras
import simclrv2_tf.resnet, simclrv2_tf.heads  # register the layers
from huggingface_hub import hf_hub_download

model = keras.saving.load_model(hf_hub_download("{repo}", "{file}"))
```
{loaded}"""


def _upload(staging: str, repo: str, args: argparse.Namespace) -> str:
    import huggingface_hub

    with raised_as(hugging_face.HubError, f"{repo} cannot be published"):
        client = huggingface_hub.HfApi()
        client.create_repo(repo, private=args.private, exist_ok=True)
        return str(
            client.upload_folder(
                repo_id=repo, folder_path=staging, commit_message=args.commit_message
            )
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="simclrv2-tf publish",
        description="Upload the networks of a run to the Hugging Face Hub: the .keras files, the "
        "SavedModel and other exports, the options without paths of this machine, and the model "
        "card with the Hub's metadata. Log in first, with `hf auth login` or HF_TOKEN.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", type=os.path.expanduser, metavar="RUN", help="folder of a run of one stage")
    add("repo", metavar="OWNER/REPO", help="the repository, created if it does not exist")
    add(
        "--license",
        metavar="ID",
        help="licence of the weights, by its identifier on the Hub, such as mit",
    )
    add("--private", action="store_true", help="make a new repository private")
    add("--dry_run", action="store_true", help="list the files and print the card; upload nothing")
    message = "message of the commit (default: %(default)s)"
    add("--commit_message", default="Upload by simclrv2-tf", metavar="TEXT", help=message)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit status: 0, or 2 for bad input.

    Only reads files; does not import TensorFlow.
    """
    args = _parser().parse_args(argv)
    return exit_status(lambda: run(args), os_error=2)
