"""Recipes: flag files that come with the package, found by name from any folder."""

import pathlib
from collections.abc import Sequence

# The recipe that has its folder's name, such as `demo` for `demo/default`.
_DEFAULT_IN_FOLDER = "default"


def recipe_folder() -> pathlib.Path:
    """Folder of the recipes that come with the package.

    A wheel has them inside the package; the repository has them in `flags/`.
    """
    package = pathlib.Path(__file__).resolve().parents[1]
    installed = package / "flags"
    return installed if installed.is_dir() else package.parent / "flags"


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package, such as `cifar10/pretrain`."""
    folder = recipe_folder()
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in files if not path.name.startswith("."))


def demo_file() -> pathlib.Path:
    """The recipe of a command line without a data set."""
    return recipe_folder() / "demo" / _DEFAULT_IN_FOLDER


def expand_flagfiles(
    args: Sequence[str], errors: list[str], inside: tuple[pathlib.Path, ...] = ()
) -> tuple[list[str], list[str], list[str]]:
    """Replaces each `--flagfile` with the flags in its file.

    absl also does this, but it neither finds packaged recipes nor continues after an error.

    Args:
        args: Command-line arguments, without the program's name.
        errors: Problems are appended here.
        inside: The flag files being read, to detect a cycle.

    Returns:
        All arguments, the arguments from flag files among them, and the names of the outermost flag
        files, such as `cifar10-pretrain`.
    """
    expanded, from_files, names = [], [], []
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            expanded += [arg, *rest]
            break
        flag, equals, name = arg.partition("=")
        if flag not in ("--flagfile", "-flagfile"):
            expanded.append(arg)
            continue
        name = (name if equals else next(rest, "")).strip()
        path = _find(name)
        lines = _lines(name, path, inside, errors)
        if lines is not None:
            inner, _, _ = expand_flagfiles(lines, errors, (*inside, path.resolve()))
            expanded += inner
            from_files += inner
            names.append(_name(path))
    return expanded, from_files, names


def read_recipe(name: str, errors: list[str]) -> tuple[list[str], str]:
    """Returns the lines of a flag file without comments, and the recipe's name.

    Args:
        name: A path, or the name of a recipe that comes with the package.
        errors: Problems with the file are appended; no lines are returned then.
    """
    path = _find(name)
    lines = _lines(name, path, (), errors)
    return ([], "") if lines is None or path is None else (lines, _name(path))


def _find(name: str) -> pathlib.Path | None:
    path = pathlib.Path(name).expanduser()
    recipe = recipe_folder() / name.removeprefix("./").removeprefix("flags/")
    candidates = (path, path / _DEFAULT_IN_FOLDER, recipe, recipe / _DEFAULT_IN_FOLDER)
    return next((found for found in candidates if found.is_file()), None)


def _lines(
    name: str, path: pathlib.Path | None, inside: tuple[pathlib.Path, ...], errors: list[str]
) -> list[str] | None:
    """Returns the flags of a flag file; None, with its problems added to `errors`, if it is bad."""
    if path is None:
        errors.append(
            "`flagfile` must be a file or one of the recipes "
            f"{', '.join(recipe_names())}. Received: flagfile={name!r}"
        )
        return None
    if path.resolve() in inside:
        errors.append(f"`flagfile` must not include itself. Received: flagfile={name!r}")
        return None
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        errors.append(f"`flagfile` must be readable text. Received: flagfile={name!r}: {error}")
        return None
    return [line for line in lines if line and not line.startswith(("#", "//"))]


def _name(path: pathlib.Path) -> str:
    _, found, below = path.absolute().as_posix().rpartition("/flags/")
    name = (below if found else path.name).removesuffix(f"/{_DEFAULT_IN_FOLDER}")
    return name.replace("/", "-")
