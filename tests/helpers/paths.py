"""Paths of the repository and of the shared material."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
RECIPES = sorted(
    path.relative_to(ROOT / "flags").as_posix()
    for path in (ROOT / "flags").rglob("*")
    if path.is_file()
)
