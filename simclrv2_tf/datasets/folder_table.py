"""Tables of labels: `labels.csv` or `metadata.csv` in a folder of images, also as `.jsonl`.

One row per image, with a header in upper or lower case: the file in a column `file_name`, `file`,
`filename`, `image` or `path`, its class in `label`, `class`, `category` or `target`, and,
optionally, its split in `split`. The header decides whether commas, semicolons or tabs separate
cells; a `.jsonl` file has one object with these names per line. File names may lack their ending,
and may have `\\` for `/`.

There is one table in the root for all images, or one in each folder of a split.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import posixpath
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from simclrv2_tf.datasets import folder_layout, split_names
from simclrv2_tf.datasets.class_folders import in_words, same_but_for_case
from simclrv2_tf.datasets.folder_layout import TRAIN, UNLABELLED, Layout
from simclrv2_tf.datasets.listing import Listing, wrong

_FILE = ("file_name", "file", "filename", "image", "path")
_LABEL = ("label", "class", "category", "target")
_SPLIT = ("split",)
_RULE = (
    "A table of labels must have a header, separated by commas, semicolons or tabs, with a column "
    f"for the file ({', '.join(_FILE)}), one for the class ({', '.join(_LABEL)}) and, if it gives "
    "splits, one called split; rename a file that is not a table of labels."
)
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class _Row:
    """The row of a table for an image.

    Attributes:
        label: The class; None: unlabelled.
        split: The split; None: the table does not give it.
    """

    label: str | None
    split: str | None


@dataclasses.dataclass
class _Tabled:
    """The rows of tables.

    Attributes:
        rows: Maps the path of an image to its row.
        missing: Maps a listed file without an image to the reason why it is skipped.
        notes: Lines about content that can be read in two ways.
    """

    rows: dict[str, _Row]
    missing: dict[str, str]
    notes: list[str]

    def add(self, other: _Tabled) -> None:
        """Adds the rows of another table."""
        self.rows.update(other.rows)
        self.missing.update(other.missing)
        self.notes += other.notes


def layout_of(
    listing: Listing,
    is_image: Callable[[str], bool],
    formats: str,
    content: Callable[[str], bytes],
) -> Layout:
    """Reads the layout of a folder from its tables of labels, or without tables from its folders.

    A table in the root is always read. Tables in the folders of splits are read if these hold no
    folders of classes.

    Args:
        listing: The folder.
        is_image: Whether a name is an image's.
        formats: The endings of images, for messages.
        content: Reads a file by its path below the root.

    Raises:
        DatasetError: There are no images, or splits, classes and tables conflict.
    """
    if (table := folder_layout.table_of(listing)) is not None:
        return read(listing, table, content(table), is_image, formats)
    layout = folder_layout.read(listing, is_image, formats)
    tables = folder_layout.tables_of_splits(listing, layout.folders)
    if not tables:
        return layout
    if layout.class_names:
        note = (
            f"the folders give the classes; no labels are read from {in_words([*tables.values()])}"
        )
        return dataclasses.replace(layout, notes=(*layout.notes, note))
    contents = {split: (table, content(table)) for split, table in tables.items()}
    return _read_splits(listing, contents, layout, formats)


def read(
    listing: Listing, table: str, content: bytes, is_image: Callable[[str], bool], formats: str
) -> Layout:
    """Reads the layout of a folder whose classes are in a table, not in names of folders.

    If the table gives no splits, an image inside a folder with the name of a split belongs to that
    split, and any other image to `train`. Images of `train` without a label become the split
    `unlabelled`.

    Args:
        listing: The folder.
        table: Name of the table in it.
        content: The table's bytes: UTF-8, with or without a byte order mark.
        is_image: Whether a name is an image's.
        formats: The endings of images, for messages.

    Raises:
        DatasetError: The table has another header, has conflicting rows for an image, or lists no
            image.
    """
    files = [path for path in listing.walk("") if path != table]
    images = set(filter(is_image, files))
    tabled = _rows(listing, table, content, images, files, formats)
    return _layout(listing, table, tabled, {path: _split_of_folder(path) for path in images})


def _read_splits(
    listing: Listing, tables: Mapping[str, tuple[str, bytes]], layout: Layout, formats: str
) -> Layout:
    """Reads the layout of a folder whose splits each have a table of their classes.

    Args:
        listing: The folder.
        tables: Maps a split's name to the path and the bytes of its table.
        layout: The layout by folders, without labels.
        formats: The endings of images, for messages.
    """
    tabled = _Tabled({}, {}, [*layout.notes])
    for split, (table, content) in tables.items():
        files = [path for path in listing.walk(layout.folders[split]) if path != table]
        tabled.add(_rows(listing, table, content, set(layout.splits[split]), files, formats))
    names = in_words([table for table, _ in tables.values()])
    splits = {path: split for split, images in layout.splits.items() for path in images}
    return dataclasses.replace(_layout(listing, names, tabled, splits), folders=layout.folders)


def _layout(listing: Listing, table: str, tabled: _Tabled, split_of: Mapping[str, str]) -> Layout:
    """Returns the layout that the rows describe.

    Args:
        listing: The folder.
        table: The tables, for messages.
        tabled: The rows of the tables.
        split_of: Maps an image to its split, if its row gives none.
    """
    rows, missing, notes = tabled.rows, tabled.missing, tabled.notes
    if not rows:
        rule = (
            f"The files that {table} lists must exist at these paths, relative to the table, to "
            "images/ or to train/, in the same upper and lower case."
        )
        first = next(iter(missing), "no row")
        raise wrong(listing, rule, f" with none of {len(missing)} listed files, such as {first}")
    if not any(row.label for row in rows.values()):
        raise wrong(listing, f"{table} must give some images a label.", f" with {len(rows)} rows")
    _check_labels(listing, table, rows)
    notes += same_but_for_case(row.label for row in rows.values() if row.label)
    unlisted = sorted(set(split_of) - set(rows))
    if missing:
        notes.append(_some(missing, f"files that {table} lists are missing, or are not images"))
    if unlisted:
        notes.append(_some(unlisted, f"images are not in {table}: used without a label"))

    splits: dict[str, dict[str, str | None]] = {TRAIN: {}}
    for path in sorted(split_of):
        row = rows.get(path, _Row(None, None))
        split = row.split or split_of[path]
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
) -> _Tabled:
    """Reads the rows of a table for the images that exist.

    Args:
        listing: The folder.
        table: Path of the table.
        content: Its bytes.
        images: The images that the table may name.
        files: The files that the table may name; those that are not images explain skipped rows.
        formats: The endings of images, for messages.
    """
    header, *body = _lines(listing, table, content) or [[]]
    folder = posixpath.dirname(table)
    tabled = _Tabled({}, {}, [])
    columns = _columns(listing, table, header, tabled.notes)
    paths = _paths(files, images, folder)
    below_train = _below_train(paths) if not folder else {}
    used: set[str] = set()
    for line in body:
        if any(cell.strip() for cell in line[len(header) :]):
            rule = (
                f"A row of {table} must have at most one cell per column; quote cells with commas."
            )
            raise wrong(listing, rule, f" with {','.join(line)!r}")
        file, label, split = (
            line[column].strip() if column is not None and column < len(line) else ""
            for column in columns
        )
        if not file:
            rule = f"Every row of {table} must name a file."
            raise wrong(listing, rule, f" with the row {','.join(line)!r}")
        if len(label.splitlines()) > 1:
            raise wrong(listing, f"A label in {table} must be one line.", f" with {label!r}")
        path = paths.get(posixpath.normpath(file)) or paths.get(_key(file))
        if path is None and (path := below_train.get(_key(file))):
            used.add(path.partition("/")[0])
        if path not in images:
            why = f"not {formats}" if path else "not found"
            name = posixpath.join(folder, " ".join(file.splitlines()))
            tabled.missing[name] = f"in {table}, but {why}: skipped"
            continue
        said = _split(listing, table, split)
        row = _Row(None if said == UNLABELLED else label or None, said)
        if (earlier := tabled.rows.setdefault(path, row)) != row:
            what = "label" if earlier.label != row.label else "split"
            rule = f"{table} must give an image one {what}; several {what}s are not supported."
            both = [repr(getattr(one, what) or "") for one in (earlier, row)]
            raise wrong(listing, rule, f" with {path} as {' and '.join(both)}")
    tabled.notes += [f"{table} names files of {folder}/ without it" for folder in sorted(used)]
    return tabled


def _lines(listing: Listing, table: str, content: bytes) -> list[list[str]]:
    """Returns the rows that are not empty, the header first."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise wrong(listing, f"{table} must be text in UTF-8; save it in that encoding.") from None
    rows = _objects(listing, table, text) if table.lower().endswith("l") else None
    if rows is None:
        header = text.lstrip().partition("\n")[0]
        # A header has a file and a class, so it has a separator.
        delimiter = next((mark for mark in "\t;" if mark in header and "," not in header), ",")
        try:
            rows = [*csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)]
        except csv.Error as error:
            rule = f"{table} must be a table of comma-separated values ({error})."
            raise wrong(listing, rule) from None
    return [row for row in rows if any(cell.strip() for cell in row)]


def _objects(listing: Listing, table: str, text: str) -> list[list[str]]:
    """Returns the rows of a file with one JSON object per line, the header first."""
    objects = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            rule = f"Each line of {table} must be a JSON object."
            raise wrong(listing, rule, f" with {line[:100]!r} in line {number:,}")
        objects.append({str(name): value for name, value in found.items()})
    names = list(dict.fromkeys(name for found in objects for name in found))
    return [names, *([_cell(found.get(name)) for name in names] for found in objects)]


def _cell(value: object) -> str:
    """Converts a value of JSON into a cell of a table; a list stays JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _columns(
    listing: Listing, table: str, header: Sequence[str], notes: list[str]
) -> tuple[int, int, int | None]:
    """Returns the columns of file, label and, if there is one, split."""
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


def _paths(files: Sequence[str], images: set[str], folder: str) -> dict[str, str]:
    """Maps the names that a table in a folder may use for a file to the file's path.

    Names are relative to the table or else to `images/`. An image may lack its ending, unless
    another image differs only in the ending.
    """
    around = f"{folder}/" if folder else ""
    own = {path.removeprefix(around): path for path in files}
    whole = {**{_key(name): path for name, path in own.items()}, **own}
    stems: dict[str, list[str]] = {}
    for path in sorted(images):
        stem = posixpath.splitext(path.removeprefix(around))[0]
        stems.setdefault(_key(stem), []).append(path)
    one = {stem: paths[0] for stem, paths in stems.items() if len(paths) == 1}
    named = {**one, **whole}
    return {**_below(named, "images"), **named}


def _below_train(paths: Mapping[str, str]) -> dict[str, str]:
    """Maps paths relative to the training split's folder, which a table in the root may use."""
    tops = {path.partition("/")[0] for path in paths.values() if "/" in path}
    train = [top for top in tops if split_names.canonical(top) == TRAIN]
    return _below(paths, train[0]) if len(train) == 1 else {}


def _below(paths: Mapping[str, str], folder: str) -> dict[str, str]:
    """Returns the names inside a folder, without the folder."""
    around = f"{folder}/"
    return {
        name.removeprefix(around): path for name, path in paths.items() if name.startswith(around)
    }


def _key(file: str) -> str:
    """Normalizes a path for comparison: with `/`, and accents in one Unicode form."""
    return unicodedata.normalize("NFC", posixpath.normpath(file.replace("\\", "/")))


def _check_labels(listing: Listing, table: str, rows: Mapping[str, _Row]) -> None:
    """Rejects several labels in a cell: a list, or separated labels of other images."""
    labels = {row.label for row in rows.values() if row.label}
    for path, row in rows.items():
        parts = [part.strip() for part in re.split(r"[|;,]", row.label or "")]
        is_list = bool(re.fullmatch(r"\[.*\]", row.label or ""))
        if is_list or (len(parts) > 1 and labels.issuperset(parts)):
            rule = (
                f"{table} must give an image one label; several labels per image are not supported."
            )
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
    """Returns a line about files, which names the first of them."""
    shown = ", ".join(list(names)[:_SHOWN])
    return f"{len(names):,} {what} ({shown}{', ...' * (len(names) > _SHOWN)})"
