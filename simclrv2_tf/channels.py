"""The channels of images: gray, RGB, or any number of bands without color."""

COLORS = (1, 3)  # gray and RGB, which can be converted into each other
RGB = 3
_NAMES = {1: "gray", 3: "RGB"}


def in_words(channels: int) -> str:
    """Such as "gray", "RGB" or "5 bands"."""
    return _NAMES.get(channels, f"{channels} bands")


def stored_in_words(bands: int, channels: int) -> str:
    """Such as "RGB with transparency": names stored `bands` if `channels` are read."""
    if channels not in COLORS:
        return in_words(channels)  # other numbers are rejected
    is_transparent = bands in (2, 4)
    return in_words(bands - is_transparent) + " with transparency" * is_transparent


def other_bands(bands: int, channels: int) -> str:
    """Why a file of `bands` bands is not read as an image of `channels`."""
    read = "1 (gray) or 3 (RGB)" if channels in COLORS else str(channels)
    return (
        f"it has {bands} {'band' if bands == 1 else 'bands'}, but {read} are read; use "
        f"--channels={bands} to read them all"
    )
