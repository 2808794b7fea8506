"""SHA-256 sums of the files in a folder, as `sha256sum --check` reads them.

A folder of exports has them in `SHA256SUMS`. Sums tell a damaged or replaced file from the one that
was exported; they do not tell who exported it.
"""

import hashlib
from collections.abc import Iterable

from etils import epath

from simclrv2_tf.errors import UserError
from simclrv2_tf.files import write_text

NAME = "SHA256SUMS"

_BLOCK = 1 << 20  # bytes


class SumError(UserError):
    """A file is not the one whose SHA-256 sum lies beside it."""


def write(folder: epath.Path, paths: Iterable[epath.Path]) -> None:
    """Replaces `SHA256SUMS` in `folder`: a line for each of `paths`, which are below it."""
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    write_text(folder / NAME, "".join(f"{_sum(folder / name)}  {name}\n" for name in names))


def check(folder: epath.Path, names: Iterable[str] | None = None) -> None:
    """Compares files of a folder with their sums.

    A file without a sum, and a folder without `SHA256SUMS`, pass: earlier versions wrote none.

    Args:
        folder: The folder that holds `SHA256SUMS`.
        names: The files, relative to `folder`; by default all that have a sum.

    Raises:
        SumError: a file differs from its sum, or is missing.
    """
    sums = _read(folder / NAME)
    for name in sums if names is None else filter(sums.__contains__, names):
        if not (folder / name).exists():
            raise SumError(
                f"{folder} must hold all files that its {NAME} lists. Received: a folder without "
                f"{name}. Copy it again from where it is whole, or export it again."
            )
        if _sum(folder / name) != sums[name]:
            raise SumError(
                f"{folder / name} must be the file that was exported. Received: a file with "
                f"another SHA-256 than in {NAME}. Copy it again from where it is whole, or export "
                f"it again; if you changed it on purpose, remove its line from {NAME}."
            )


def _read(path: epath.Path) -> dict[str, str]:
    """The sums by name; none of lines that are no sums."""
    text = path.read_bytes().decode(errors="replace") if path.is_file() else ""
    pairs = (line.split("  ", 1) for line in text.splitlines())
    return {pair[1]: pair[0].lower() for pair in pairs if len(pair) == 2}


def _sum(path: epath.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
