"""Runs on the Hugging Face Hub, by names such as `hf://OWNER/REPO`, without TensorFlow."""

from __future__ import annotations

import importlib.util
import os
import re

from simclrv2_tf.errors import UserError, raised_as

PREFIX = "hf://"
EXTRA = "pip install 'simclrv2-tf[huggingface]'"
_PART = r"[A-Za-z0-9][\w.-]*"
_REPO = re.compile(rf"{_PART}/{_PART}")
_NAME = re.compile(
    rf"hf://(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[^/@\s]+))?(?:/(?P<below>[^@\s]+))?/?"
)
# The path of a repository's files at a commit in the client's cache.
_CACHED = re.compile(
    r".*[/\\]models--(?P<owner>[^/\\]+?)--(?P<repo>[^/\\]+)[/\\]snapshots[/\\]"
    r"(?P<commit>[0-9a-f]{40})(?P<below>(?:[/\\].+)?)"
)
# Formats of exports that a run cannot start from.
_SKIPPED = ["*.onnx", "*.tflite", "*.tar.gz", "*.safetensors"]


class HubError(UserError):
    """Raised for a repository of the Hub that cannot be used."""


def check_installed(name: str) -> None:
    """Raises a `HubError` if huggingface_hub, which `name` needs, is not installed."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise HubError(f"{name} needs the package huggingface_hub: {EXTRA}")


def check_repo(repo: str, option: str) -> str:
    """Returns `OWNER/REPO`, with or without `hf://`, without it.

    Raises:
        HubError: the text is not the name of a repository.
    """
    bare = repo.removeprefix(PREFIX)
    if not _REPO.fullmatch(bare):
        raise HubError(
            f"`{option}` must be the name of a repository, as OWNER/REPO. Received: {repo}"
        )
    return bare


def local(path: str) -> str:
    """Returns the local copy of `hf://OWNER/REPO[@REVISION][/FOLDER]`; expands `~` in other paths.

    Downloads files that are not in the client's cache, once per commit. Without network, uses the
    cached copy. REVISION is a branch, a tag or a commit; FOLDER is a run, or a file, in the
    repository.

    Raises:
        HubError: the name is not of this form, huggingface_hub is not installed, or the repository,
            the revision or the folder cannot be read.
    """
    if not path.startswith(PREFIX):
        return os.path.expanduser(path)
    found = _NAME.fullmatch(path)
    below = (found["below"] or "").split("/") if found else []
    if not found or ".." in below:
        raise HubError(
            "A name on the Hugging Face Hub must be hf://OWNER/REPO, with @REVISION and /FOLDER "
            f"if need be. Received: {path}"
        )
    check_installed(path)
    import huggingface_hub

    with raised_as(HubError, f"{path} cannot be downloaded"):
        folder = huggingface_hub.snapshot_download(
            found["repo"], revision=found["revision"], ignore_patterns=_SKIPPED
        )
    place = os.path.join(folder, *filter(None, below))
    if not os.path.exists(place):
        raise HubError(f"{path} does not exist: the repository has no {'/'.join(below)}.")
    return place


def name_of(path: str) -> str | None:
    """Returns the name, with the commit, for a result of `local`; None for any other path."""
    found = _CACHED.fullmatch(path)
    if found is None:
        return None
    below = found["below"].replace("\\", "/")
    return f"{PREFIX}{found['owner']}/{found['repo']}@{found['commit']}{below}"
