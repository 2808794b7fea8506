"""A folder that is a list of paths: what a layout is read from, without a disk."""


class Paths:
    """The listing of a folder `photos` that holds files at `paths`.

    Args:
        paths: Paths below the folder; `{n}` stands for three files, of which `n` is the number.
    """

    root = "photos"

    def __init__(self, *paths):
        self.paths = sorted({path.format(n=n) for path in paths for n in range(3)})

    def list(self, folder):
        prefix = f"{folder}/" if folder else ""
        below = [path.removeprefix(prefix) for path in self.paths if path.startswith(prefix)]
        files = [prefix + path for path in below if "/" not in path]
        folders = {prefix + path.partition("/")[0] for path in below if "/" in path}
        return files, sorted(folders)

    def walk(self, folder):
        files, folders = self.list(folder)
        yield from files
        for inner in folders:
            yield from self.walk(inner)


def is_image(path):
    """Whether a path is an image's."""
    return path.endswith(".jpg")
