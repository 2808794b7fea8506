"""Lists the files and folders below a folder, each once, also if there are links."""

import functools
import os
import pathlib
import posixpath
from collections.abc import Callable, Iterator

from absl import logging
from etils import epy

with epy.lazy_imports():
    import tensorflow as tf  # for remote folders

# Files that servers, systems and archives add, in lower case; hidden names are skipped anyway.
_RUBBISH = (
    *("@eadir", "@recycle", "#recycle", "#snapshot", "__macosx", "$recycle.bin", "lost+found"),
    *("system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"),
    "icon\r",  # of a folder on macOS
)


class FolderTree:
    """The contents of a folder, without hidden files.

    A link to a target inside the folder is skipped, because the target is listed anyway. A link to
    another place is followed; a second link to the same place is skipped. So no file is listed
    twice, and links cannot form a cycle. Names that are not UTF-8, or hold a line break, are
    skipped, because lists have one name per line. A warning names each skipped path. Files that
    operating systems add, such as thumbnails, are ignored.

    Args:
        root: The folder, which may be remote; remote folders have no links.
        is_file: Whether a name is a file, by its ending. For other names the file system is asked,
            which is slow for a million names.
        quiet: Whether to log no warnings.

    Attributes:
        left_out: Paths that cannot be used because of their names, escaped, and the reasons.
    """

    def __init__(self, root: str, is_file: Callable[[str], bool], quiet: bool = False):
        self.root, self._is_file = root, is_file
        self._real_root = None if "://" in root else os.path.realpath(root)
        self._log = logging.debug if quiet else logging.warning
        self.left_out: dict[str, str] = {}
        self._files: set[str] = set()  # targets of links
        self._folders: set[str] = set()
        self._above: set[str] = set()  # the folders of those targets
        self.list = functools.cache(self._list)  # a followed link stays followed

    def walk(self, folder: str) -> Iterator[str]:
        """Returns paths below the root of all files in a folder, at any depth, folder by folder."""
        files, folders = self.list(folder)
        yield from files
        for below in folders:
            yield from self.walk(below)

    def _list(self, folder: str) -> tuple[list[str], list[str]]:
        """Returns paths below the root of a folder's files and of its subfolders, sorted."""
        files: list[str] = []
        folders: list[str] = []
        for name, is_folder in sorted(self._entries(folder)):
            (folders if is_folder else files).append(posixpath.join(folder, name))
        return files, folders

    def _entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Yields names in a folder, and whether each is a folder."""
        path = os.path.join(self.root, folder)
        if self._real_root is None:
            for name in (name.rstrip("/") for name in tf.io.gfile.listdir(path)):
                is_folder = not self._is_file(name) and tf.io.gfile.isdir(os.path.join(path, name))
                if not _is_rubbish(name) and self._is_usable(posixpath.join(folder, name)):
                    yield name, is_folder
            return
        real = os.path.realpath(path)
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                shown = posixpath.join(folder, entry.name)
                if _is_rubbish(entry.name) or not self._is_usable(shown):
                    continue
                if not (entry.is_file() or entry.is_dir()) and os.path.exists(entry.path):
                    why = "is not a regular file"  # reading a pipe would wait for a writer
                    self._log("%s: skipped %s, which %s.", self.root, shown, why)
                    self.left_out[shown] = f"skipped: it {why}"
                elif entry.is_symlink():
                    if self._follows(shown, entry.is_dir()):
                        yield entry.name, entry.is_dir()
                elif os.path.join(real, entry.name) in self._files:
                    self._leave_out(shown, os.path.join(real, entry.name))
                else:
                    yield entry.name, entry.is_dir()

    def _is_usable(self, path: str) -> bool:
        """Whether a path can be an id, which is one line of text; logs it if it cannot."""
        shown: str | bytes = path
        if not _is_utf8(path):
            shown, why = os.fsencode(path), "is not UTF-8"
        elif len(f"{path}.".splitlines()) > 1:
            why = "holds a line break"
        else:
            return True
        self._log("%s: skipped %r, whose name %s.", self.root, shown, why)
        self.left_out[repr(shown).removeprefix("b")[1:-1]] = f"skipped: its name {why}"
        return False

    def _follows(self, link: str, is_folder: bool) -> bool:
        """Whether no other path of the tree leads to the target of a link."""
        assert self._real_root is not None  # remote folders have no links
        target = os.path.realpath(os.path.join(self.root, link))
        above = [str(parent) for parent in pathlib.PurePath(target).parents]
        inside = self._real_root in (target, *above)
        around = is_folder and _lies_in(self._real_root, target)
        again = target in self._files or not self._folders.isdisjoint((target, *above))
        if inside or around or again or target in self._above:
            self._leave_out(f"the link {link}", target)
            return False
        (self._folders if is_folder else self._files).add(target)
        if is_folder:
            self._above.update(above)
        return True

    def _leave_out(self, what: str, target: str) -> None:
        self._log("%s: skipped %s: %s is already read.", self.root, what, target)


def _is_rubbish(name: str) -> bool:
    return name.startswith(".") or name.lower() in _RUBBISH


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
