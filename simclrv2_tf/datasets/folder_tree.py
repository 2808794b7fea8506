"""The files and folders below a folder, each once, whatever links there are."""

import functools
import os
import pathlib
import posixpath
from collections.abc import Callable, Iterator

from absl import logging
from etils import epy

with epy.lazy_imports():
    import tensorflow as tf  # for remote folders

# What file servers, systems and archives add to folders, in lower case; hidden names beside these.
_RUBBISH = (
    *("@eadir", "@recycle", "#recycle", "#snapshot", "__macosx", "$recycle.bin", "lost+found"),
    *("system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"),
    "icon\r",  # of a folder on macOS
)


class FolderTree:
    """The contents of a folder, without hidden ones.

    A link to something that lies in the folder itself is left out: what it leads to is listed where
    it lies. A link to elsewhere is followed, and a second one to the same place left out. So no
    file is listed twice, and no link leads in a circle. Names that are not UTF-8, or hold a line
    break, are left out: lists of names have one a line. A warning names what is left out. What
    systems add by themselves, such as thumbnails, is no content.

    Args:
        root: The folder, which may be remote; remote folders have no links.
        is_file: Whether a name is a file's by its ending. Of others the file system is asked, which
            takes long for a million names.
        quiet: Whether no warning is given.

    Attributes:
        left_out: Paths that cannot be used because of their names, escaped, and the reasons.
    """

    def __init__(self, root: str, is_file: Callable[[str], bool], quiet: bool = False):
        self.root, self._is_file = root, is_file
        self._real_root = None if "://" in root else os.path.realpath(root)
        self._log = logging.debug if quiet else logging.warning
        self.left_out: dict[str, str] = {}
        self._files: set[str] = set()  # that links lead to
        self._folders: set[str] = set()
        self._above: set[str] = set()  # the folders that those lie in
        self.list = functools.cache(self._list)  # a link that was followed stays so

    def walk(self, folder: str) -> Iterator[str]:
        """Paths below the root of all files in a folder, at any depth, folder by folder."""
        files, folders = self.list(folder)
        yield from files
        for below in folders:
            yield from self.walk(below)

    def _list(self, folder: str) -> tuple[list[str], list[str]]:
        """Paths below the root of a folder's files and of its subfolders, sorted."""
        files: list[str] = []
        folders: list[str] = []
        for name, is_folder in sorted(self._entries(folder)):
            (folders if is_folder else files).append(posixpath.join(folder, name))
        return files, folders

    def _entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Names in a folder, and whether each is a folder."""
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
                    why = "is no regular file"  # of a pipe, reading would wait for a writer
                    self._log("%s: left out %s, which %s.", self.root, shown, why)
                    self.left_out[shown] = f"left out: it {why}"
                elif entry.is_symlink():
                    if self._follows(shown, entry.is_dir()):
                        yield entry.name, entry.is_dir()
                elif os.path.join(real, entry.name) in self._files:
                    self._leave_out(shown, os.path.join(real, entry.name))
                else:
                    yield entry.name, entry.is_dir()

    def _is_usable(self, path: str) -> bool:
        """Whether a path can be an id, which is text of one line; names it where it cannot."""
        shown: str | bytes = path
        if not _is_utf8(path):
            shown, why = os.fsencode(path), "is not UTF-8"
        elif len(f"{path}.".splitlines()) > 1:
            why = "holds a line break"
        else:
            return True
        self._log("%s: left out %r, whose name %s.", self.root, shown, why)
        self.left_out[repr(shown).removeprefix("b")[1:-1]] = f"left out: its name {why}"
        return False

    def _follows(self, link: str, is_folder: bool) -> bool:
        """Whether a link leads to what no other path of the tree leads to."""
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
        self._log("%s: left out %s: %s is read already.", self.root, what, target)


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
