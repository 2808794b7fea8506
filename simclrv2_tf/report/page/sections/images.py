"""The data: images, classes, skipped files, and views."""

from __future__ import annotations

import numpy as np

from simclrv2_tf.report.page import blocks, pictures
from simclrv2_tf.report.page.runs import PRETRAIN, Run

QUESTION = "The data"
_MOST_CLASSES, _MOST_SKIPPED = 30, 20
_NEAR_BYTES = 60_000
_VIEWS_BYTES = 400_000
_FOUND = (
    "This search finds copies with another size, quality, brightness or contrast, also mirrored "
    "ones, but not crops or rotated images."
)


def answer(run: Run, prefix: str) -> list[blocks.Block]:
    """Returns counts of images and classes, skipped files, and `views.png`."""
    made_of = (run.record.get("made_of") or {}).get("data") or {}
    rows = [
        (
            data["name"],
            split,
            blocks.count(content["examples"]),
            blocks.count(len(data["class_names"])),
        )
        for data in made_of.values()
        if data
        for split, content in data["splits"].items()
    ]
    if not rows:
        return [blocks.Text("There is no run.json with the images of the run.")]
    header = ["data set", "split", "images", "classes"]
    found: list[blocks.Block] = [blocks.Table("The images of the run", header, rows)]
    names = run.class_names
    if names:
        more = f" and {len(names) - _MOST_CLASSES:,} more" if len(names) > _MOST_CLASSES else ""
        found.append(blocks.Text(f"Classes: {', '.join(names[:_MOST_CLASSES])}{more}."))
    else:
        found.append(blocks.Text("The images have no labels."))
    found += _skipped(run)
    found += _near_duplicates(run)
    if run.views is not None:
        settings = run.stages[0].options
        alt = "Images, and two augmented views of each below them"
        caption = (
            "Views of pretraining, below their images. A view must still show the content of its "
            f"image; crops cover {settings.get('min_crop_area', 0.08):g} to 1 of its area."
        )
        source = pictures.picture(run.views, _VIEWS_BYTES)
        if source:
            found.append(blocks.Picture(source, alt, caption))
        else:
            found.append(blocks.Text("views.png is damaged."))
    elif run.stage(PRETRAIN):
        found.append(blocks.Text("There is no views.png: the run did not write it."))
    return found


def _skipped(run: Run) -> list[blocks.Block]:
    if not run.skipped:
        return [blocks.Text("No file was skipped.")]
    title = f"{len(run.skipped):,} files were skipped, or used without a label"
    if len(run.skipped) > _MOST_SKIPPED:
        title += f"; the first {_MOST_SKIPPED} (all are in skipped_images.csv)"
    rows = run.skipped[:_MOST_SKIPPED]
    return [blocks.Table("", ["file", "reason"], rows, folded=title)]


def _near_duplicates(run: Run) -> list[blocks.Block]:
    found = run.near_duplicates
    if found is None:
        return []
    looked = " with ".join(
        f"{compared:,} {what} images" + f" (of {all_:,})" * (compared < all_)
        for what, compared, all_ in zip(
            ("evaluation", "training"), found.compared, found.of, strict=True
        )
    )
    count = len(found.ids)
    if not count:
        return [
            blocks.Text(f"Near-duplicates: found none among the thumbnails of {looked}. {_FOUND}")
        ]
    shown = found.thumbnails
    names = run.class_names
    rows = []
    for row, difference in enumerate(found.differences[: len(shown)]):
        (evaluated, trained), (first, second) = found.ids[row], found.labels[row]
        images = str(evaluated), _class(names, first), str(trained), _class(names, second)
        number = blocks.Number(f"{difference:.4f}", float(difference))
        rows.append((str(row + 1), *images, number, "yes" if found.mirrored[row] else "no"))
    more = f" The table has the {len(shown)} most similar." if count > len(shown) else ""
    said = (
        f"{count:,} {'pair' if count == 1 else 'pairs'} found among the thumbnails of {looked}. "
        "Check them: evaluation images that were trained on overestimate the accuracy. "
        f"{_differing(found.labels)}{_FOUND}{more}"
    )
    side = shown.shape[2]
    sheet = shown.transpose(1, 2, 0, 3, 4).reshape(2 * side, len(shown) * side, -1)
    picture = pictures.sheet(sheet, _NEAR_BYTES)
    columns = ("evaluation image", "class", "training image", "class", "difference", "mirrored")
    alt = f"{len(shown)} evaluation images, and below each the similar training image"
    return [
        blocks.Text(f"Near-duplicates: {said}"),
        blocks.Picture(picture, alt, "Evaluation images above, training images below."),
        blocks.Table("Images that look like copies of each other", ["pair", *columns], rows),
    ]


def _differing(labels: np.ndarray) -> str:
    """Explains pairs whose classes (n, 2) differ."""
    count = int(np.sum((labels >= 0).all(1) & (labels[:, 0] != labels[:, 1])))
    if not count:
        return ""
    pairs = "one pair the classes differ" if count == 1 else f"{count:,} pairs the classes differ"
    return f"In {pairs}: one label may be wrong, or the images are only similar. "


def _class(names: list[str], label: int) -> str:
    if label < 0:
        return "unknown"
    return names[label] if label < len(names) else str(label)
