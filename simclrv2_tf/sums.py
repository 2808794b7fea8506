"""SHA-256 checksums of the files in a folder, in the format of `sha256sum --check`.

A folder of exports has them in `SHA256SUMS`. Checksums detect damaged or replaced files; they do
not prove who exported a file.
"""

import hashlib
from collections.abc import Iterable

from etils import epath

from simclrv2_tf.errors import UserError
from simclrv2_tf.files import write_text

NAME = "SHA256SUMS"

_BLOCK = 1 << 20  # bytes


class SumError(UserError):
    """Raised for a file that differs from its SHA-256 checksum."""


def write(folder: epath.Path, paths: Iterable[epath.Path]) -> None:
    """Writes `SHA256SUMS` in `folder`: one line for each of `paths`, which are inside it."""
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    write_text(folder / NAME, "".join(f"{_sum(folder / name)}  {name}\n" for name in names))


def check(folder: epath.Path, names: Iterable[str] | None = None) -> None:
    """Compares files of a folder with their checksums.

    Accepts files without a checksum and folders without `SHA256SUMS`: earlier versions wrote none.

    Args:
        folder: The folder that holds `SHA256SUMS`.
        names: The files, relative to `folder`; by default all with a checksum.

    Raises:
        SumError: a file differs from its checksum, or is missing.
    """
    sums = _read(folder / NAME)
    for name in sums if names is None else filter(sums.__contains__, names):
        if not (folder / name).exists():
            raise SumError(
                f"{folder} must hold all files that its {NAME} lists. Received: a folder without "
                f"{name}. Copy it again from an intact source, or export it again."
            )
        if _sum(folder / name) != sums[name]:
            raise SumError(
                f"{folder / name} must be the exported file. Received: a file whose SHA-256 "
                f"differs from {NAME}. Copy it again from an intact source, or export it again; if "
                f"you changed it on purpose, remove its line from {NAME}."
            )


def _read(path: epath.Path) -> dict[str, str]:
    """Returns the checksums by name; ignores other lines."""
    text = path.read_bytes().decode(errors="replace") if path.is_file() else ""
    pairs = (line.split("  ", 1) for line in text.splitlines())
    return {pair[1]: pair[0].lower() for pair in pairs if len(pair) == 2}


def _sum(path: epath.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
