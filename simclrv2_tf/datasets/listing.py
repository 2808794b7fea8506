"""A folder as a list of paths, and the images in it, without TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Protocol

from simclrv2_tf.datasets.sources import DatasetError


class Listing(Protocol):
    """The contents of a folder; see `FolderTree`."""

    root: str

    def list(self, folder: str) -> tuple[list[str], list[str]]:
        """Returns paths below the root of a folder's files and of its subfolders, sorted."""

    def walk(self, folder: str) -> Iterator[str]:
        """Returns paths below the root of all files in a folder, at any depth."""


class ImageListing:
    """The images of a listing.

    Args:
        listing: The folder.
        is_image: Whether a name is the name of an image.
    """

    def __init__(self, listing: Listing, is_image: Callable[[str], bool]):
        self.listing, self.is_image = listing, is_image
        self.holds_images = functools.cache(self._holds_images)

    def here(self, folder: str) -> tuple[list[str], list[str]]:
        """Returns the images directly in a folder, and its subfolders."""
        files, folders = self.listing.list(folder)
        return [path for path in files if self.is_image(path)], folders

    def images(self, folder: str) -> list[str]:
        """Returns the images in a folder, at any depth."""
        return [path for path in self.listing.walk(folder) if self.is_image(path)]

    def folders_of_images(self, folder: str) -> list[str]:
        """Returns the subfolders that hold images, at any depth."""
        return [path for path in self.here(folder)[1] if self.holds_images(path)]

    def _holds_images(self, folder: str) -> bool:
        """Whether there is an image in a folder, at any depth."""
        # The first listed of several links to one place is kept. So folders are always listed
        # completely and in order, whatever the first question.
        return bool(self.images(folder))

    def holds_classes(self, folder: str) -> bool:
        """Whether the images of a folder are in subfolders."""
        return not self.here(folder)[0] and bool(self.folders_of_images(folder))


def wrong(listing: Listing, rule: str, found: str = "") -> DatasetError:
    """Returns the error for a folder that breaks a rule."""
    return DatasetError(f"{rule} Received: folder:{listing.root}{found}")
