"""A table of labels beside images: `labels.csv` or `metadata.csv`.

One row an image, with a header in any case: the file in a column `file_name`, `file`, `filename`,
`image` or `path`, its class in `label`, `class`, `category` or `target`, and its split, if the
table tells splits, in `split`. Cells are parted by commas, or by semicolons or tabs where those of
the header are. A file may lack its ending, and may have `\\` for `/`.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import posixpath
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from simclrv2_tf.datasets import split_names
from simclrv2_tf.datasets.class_folders import same_but_for_case
from simclrv2_tf.datasets.folder_layout import TRAIN, UNLABELLED, Layout
from simclrv2_tf.datasets.listing import Listing, wrong

_FILE = ("file_name", "file", "filename", "image", "path")
_LABEL = ("label", "class", "category", "target")
_SPLIT = ("split",)
_RULE = (
    "A table of labels must have a header, parted by commas, semicolons or tabs, with a column for "
    f"the file ({', '.join(_FILE)}), one for the class ({', '.join(_LABEL)}) and, if it tells "
    "splits, one called split; rename a file that is no such table."
)
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class _Row:
    """What the table says of an image.

    Attributes:
        label: The class; None: unlabelled.
        split: The split; None: the table does not say.
    """

    label: str | None
    split: str | None


def read(
    listing: Listing, table: str, content: bytes, is_image: Callable[[str], bool], formats: str
) -> Layout:
    """Reads the layout of a folder whose classes a table tells; names of folders tell none.

    Where the table tells no splits, an image below a folder with the name of a split belongs to it,
    and any other to `train`. Images of `train` without a label become the split `unlabelled`.

    Args:
        listing: The folder.
        table: Name of the table in it.
        content: The table's bytes: UTF-8, with or without a byte order mark.
        is_image: Whether a name is an image's.
        formats: The endings of images, for messages.

    Raises:
        DatasetError: The table has another header, tells an image two things, or lists no image.
    """
    files = [path for path in listing.walk("") if path != table]
    images = set(filter(is_image, files))
    rows, missing, notes = _rows(listing, table, content, images, files, formats)
    if not rows:
        rule = (
            f"The files that {table} lists must lie at their paths, relative to it or to images/, "
            "written as they are."
        )
        first = next(iter(missing), "no row")
        raise wrong(listing, rule, f" with none of {len(missing)} listed files, such as {first}")
    if not any(row.label for row in rows.values()):
        raise wrong(listing, f"{table} must give some images a label.", f" with {len(rows)} rows")
    _check_labels(listing, table, rows)
    notes += same_but_for_case(row.label for row in rows.values() if row.label)
    unlisted = sorted(images - set(rows))
    if missing:
        notes.append(_some(missing, f"files that {table} lists are not there, or not {formats}"))
    if unlisted:
        notes.append(_some(unlisted, f"images are not in {table}: used without a label"))

    splits: dict[str, dict[str, str | None]] = {TRAIN: {}}
    for path in sorted(images):
        row = rows.get(path, _Row(None, None))
        split = row.split or _split_of_folder(path)
        if split in (TRAIN, UNLABELLED):
            split = UNLABELLED if row.label is None else TRAIN
        splits.setdefault(split, {})[path] = row.label
    _check_classes(listing, table, splits)
    said = {path: f"not in {table}: used without a label" for path in unlisted}
    return Layout(splits, {}, table, tuple(notes), {**missing, **said})


def _rows(
    listing: Listing,
    table: str,
    content: bytes,
    images: set[str],
    files: Sequence[str],
    formats: str,
) -> tuple[dict[str, _Row], dict[str, str], list[str]]:
    """The rows of images that are there, why listed files are left out, and notes."""
    lines = _lines(listing, table, content)
    header, *body = lines or [[]]
    notes: list[str] = []
    columns = _columns(listing, table, header, notes)
    paths = _paths(files, images)
    rows: dict[str, _Row] = {}
    missing: dict[str, str] = {}
    for line in body:
        if any(cell.strip() for cell in line[len(header) :]):
            rule = (
                f"A row of {table} must have at most a cell for each column; quote a comma in one."
            )
            raise wrong(listing, rule, f" with {','.join(line)!r}")
        file, label, split = (
            line[column].strip() if column is not None and column < len(line) else ""
            for column in columns
        )
        if not file:
            rule = f"Every row of {table} must name a file."
            raise wrong(listing, rule, f" with a row {','.join(line)!r}")
        if len(label.splitlines()) > 1:
            raise wrong(listing, f"A label in {table} must be one line.", f" with {label!r}")
        path = paths.get(posixpath.normpath(file)) or paths.get(_key(file))
        if path not in images:
            why = f"not {formats}" if path else "not there"
            missing[" ".join(file.splitlines())] = f"in {table}, but {why}: left out"
            continue
        said = _split(listing, table, split)
        row = _Row(None if said == UNLABELLED else label or None, said)
        if (earlier := rows.setdefault(path, row)) != row:
            what = "label" if earlier.label != row.label else "split"
            rule = f"{table} must give an image one {what}; several {what}s an image are not read."
            both = [repr(getattr(one, what) or "") for one in (earlier, row)]
            raise wrong(listing, rule, f" with {path} as {' and '.join(both)}")
    return rows, missing, notes


def _lines(listing: Listing, table: str, content: bytes) -> list[list[str]]:
    """The rows of the table that hold anything, the header first."""
    try:
        text = content.decode("utf-8-sig")
        header = text.lstrip().partition("\n")[0]
        # A header has a file and a class, so it has what parts cells.
        delimiter = next((mark for mark in "\t;" if mark in header and "," not in header), ",")
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        return [row for row in rows if any(cell.strip() for cell in row)]
    except UnicodeDecodeError:
        raise wrong(listing, f"{table} must be text in UTF-8; save it as that.") from None
    except csv.Error as error:
        raise wrong(
            listing, f"{table} must be a table of comma-separated values ({error})."
        ) from None


def _columns(
    listing: Listing, table: str, header: Sequence[str], notes: list[str]
) -> tuple[int, int, int | None]:
    """The columns of file, label and, if there is one, split."""
    names = [name.strip().lower() for name in header]

    def column(known: Sequence[str]) -> int | None:
        present = [name for name in known if name in names]
        if sum(names.count(name) for name in present) > len(present):
            raise wrong(
                listing, f"{table} must name each column once.", f" with {','.join(header)}"
            )
        if len(present) > 1:
            notes.append(
                f"in {table} the column {present[0]} is read, not {', '.join(present[1:])}"
            )
        return names.index(present[0]) if present else None

    file, label, split = column(_FILE), column(_LABEL), column(_SPLIT)
    if file is None or label is None:
        shown = ",".join(header)
        shown = repr(shown if len(shown) <= 100 else shown[:100] + "...")
        raise wrong(listing, _RULE, f" with the header {shown} in {table}")
    return file, label, split


def _paths(files: Sequence[str], images: set[str]) -> dict[str, str]:
    """What a table may call a file -> its path.

    Relative to the table or else to `images/`, in either case with the ending or, of an image,
    without it where no other image differs in that alone.
    """
    whole = {**{_key(path): path for path in files}, **{path: path for path in files}}
    stems: dict[str, list[str]] = {}
    for path in sorted(images):
        stems.setdefault(_key(posixpath.splitext(path)[0]), []).append(path)
    one = {stem: paths[0] for stem, paths in stems.items() if len(paths) == 1}
    named = {**one, **whole}
    below = {
        key.removeprefix("images/"): path
        for key, path in named.items()
        if key.startswith("images/")
    }
    return {**below, **named}


def _key(file: str) -> str:
    """A path as it is compared: with `/`, and accents in one Unicode form."""
    return unicodedata.normalize("NFC", posixpath.normpath(file.replace("\\", "/")))


def _check_labels(listing: Listing, table: str, rows: Mapping[str, _Row]) -> None:
    """Refuses several labels in a cell: a list, or labels of other images, parted."""
    labels = {row.label for row in rows.values() if row.label}
    for path, row in rows.items():
        parts = [part.strip() for part in re.split(r"[|;,]", row.label or "")]
        is_list = bool(re.fullmatch(r"\[.*\]", row.label or ""))
        if is_list or (len(parts) > 1 and labels.issuperset(parts)):
            rule = f"{table} must give an image one label; several labels an image are not read."
            raise wrong(listing, rule, f" with {path} as {row.label!r}")


def _split(listing: Listing, table: str, word: str) -> str | None:
    split = split_names.canonical(word)
    if word and split is None:
        rule = f"A split in {table} must be train, validation, test or unlabelled."
        raise wrong(listing, rule, f" with {word!r}")
    return split


def _split_of_folder(path: str) -> str:
    top, below, _ = path.partition("/")
    return (split_names.canonical(top) if below else None) or TRAIN


def _check_classes(
    listing: Listing, table: str, splits: Mapping[str, Mapping[str, str | None]]
) -> None:
    known = set(splits[TRAIN].values())
    if not known:
        raise wrong(listing, f"{table} must give an image of the split train a label.")
    for split, labels in splits.items():
        if unknown := sorted({name for name in labels.values() if name} - known):
            rule = f"The classes of the split {split} must all be in train; {unknown[0]} is not."
            raise wrong(listing, rule)


def _some(names, what: str) -> str:
    """A line about files, the first of them by name."""
    shown = ", ".join(list(names)[:_SHOWN])
    return f"{len(names):,} {what} ({shown}{', ...' * (len(names) > _SHOWN)})"
