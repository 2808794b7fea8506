"""Builds folders of color pictures of all sizes and formats, like users' own images.

Command:
    apt-get download openclipart-png && dpkg -x openclipart-png*.deb clipart
    python benchmarks/your_images/build.py clipart/usr/share/openclipart/png own_images

The clip art of Debian's package is in the public domain, with one folder per topic. For six topics,
TARGET receives

    photos/            all images except held-out ones, without labels
    few/CLASS/         ten labelled images per class, also in photos/
    held_out/CLASS/    forty images per class, only here

Images are written as PNG with their transparency, JPEG (a third of them rotated, with an EXIF
orientation), WebP, BMP, GIF and TIFF, with sides from 40 to 900 pixels.
"""

import argparse
import pathlib
import random
import shutil

from PIL import Image

Image.MAX_IMAGE_PIXELS = None  # images are filtered by size

CLASSES = ("animals", "food", "people", "recreation", "tools", "transportation")
MOST, LABELLED, HELD_OUT = 260, 10, 40  # images of a class
MOST_PIXELS = 10**7
FORMATS = ("png", "jpg", "jpg", "jpg", "webp", "bmp", "gif", "tif")
TURNED = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


def main() -> None:
    """Builds the folders; prints how many images each has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=pathlib.Path, help="the clip art, one folder per topic")
    parser.add_argument("target", type=pathlib.Path, help="a new folder")
    arguments = parser.parse_args()
    arguments.target.mkdir()
    draw = random.Random(0)
    counts = dict.fromkeys(("photos", "few", "held_out"), 0)
    for name in CLASSES:
        found = sorted(filter(is_small, (arguments.source / name).rglob("*.png")))
        for number, path in enumerate(draw.sample(found, min(MOST, len(found)))):
            image = varied(Image.open(path).convert("RGBA"), draw)
            held_out = number < HELD_OUT
            folder = f"held_out/{name}" if held_out else "photos"
            file = write(image, arguments.target / folder, f"{name[0]}{number:04d}", draw)
            counts["held_out" if held_out else "photos"] += 1
            if not held_out and number < HELD_OUT + LABELLED:
                labelled = arguments.target / "few" / name / file.name
                labelled.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, labelled)
                counts["few"] += 1
    print(", ".join(f"{count:,} images in {name}" for name, count in counts.items()))


def is_small(path: pathlib.Path) -> bool:
    """Whether an image is small enough: a few have hundreds of millions of pixels."""
    with Image.open(path) as image:
        return image.width * image.height <= MOST_PIXELS


def varied(image: Image.Image, draw: random.Random) -> Image.Image:
    """Scales the image to a longer side between 40 and 900 pixels."""
    longer = round(40 * (900 / 40) ** draw.random())
    scale = longer / max(image.size)
    return image.resize([max(1, round(side * scale)) for side in image.size])


def write(image: Image.Image, folder: pathlib.Path, stem: str, draw: random.Random) -> pathlib.Path:
    """Writes the image in one of the formats; returns its file."""
    suffix = draw.choice(FORMATS)
    path = folder / f"{stem}.{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    if suffix in ("jpg", "bmp", "tif"):  # without transparency
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    options = {}
    if suffix == "jpg" and draw.random() < 1 / 3:
        orientation = draw.choice(sorted(TURNED))
        image = image.transpose(TURNED[orientation])
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    image.save(path, **options)
    return path


if __name__ == "__main__":
    main()
