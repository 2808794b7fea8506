"""The repository itself: style, and that CI runs the command of the README."""

import ast
import re
import subprocess
import sys

import pytest

from helpers.paths import ROOT


def test_ci_runs_the_readmes_test_command():
    (command,) = (
        line
        for line in (ROOT / ".ci" / "run").read_text().splitlines()
        if line.startswith("python3 ")
    )
    assert "pytest" in command
    assert command in (ROOT / "README.md").read_text().splitlines()


PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in [*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("benchmarks/*/*.md")]
    if not page.is_relative_to(ROOT / "runs")
)


@pytest.mark.parametrize("page", PAGES)
def test_links_of_pages_lead_to_files_and_headings(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, target


def test_pages_are_found():
    assert {"README.md", "docs/your_images.md", "benchmarks/speed/README.md"} < set(PAGES)


# Files that write to something else than the path that `files.whole` gives as `unfinished`.
WRITERS = {
    "export/saved_model.py": "to a temporary folder, and to its caller's path of `whole`",
    "sweep/processes.py": "appends what a run prints to its log",
}
WRITES = re.compile(
    r"(?<!files)(?<!unfinished)\.write_(text|bytes)\(|(?<!figure)\.savefig\(|\.to_csv\((?!index)"
    r"|np\.savez?\(|json\.dump\(|write_file\(|open\((?!os\.devnull)[^)]*[\"'][wax]b?[\"']"
)


def test_files_are_written_whole():
    """By `files.whole`: a kill leaves the old file or the new one."""
    package = ROOT / "simclrv2_tf"
    texts = {str(p.relative_to(package)): p.read_text() for p in package.rglob("*.py")}
    assert {name for name, text in texts.items() if WRITES.search(text)} == set(WRITERS)
    for line in ('path.write_text("")', "np.save(path, x)", 'with open(path, "w") as file:'):
        assert WRITES.search(line)


# Packages by the names that their modules have, where these differ, and packages of extras.
DISTRIBUTIONS = {"PIL": "pillow", "absl": "absl-py", "tensorflow_datasets": "tensorflow-datasets"}
OPTIONAL = {
    "ai_edge_litert",
    "huggingface_hub",
    "markupsafe",
    "mlflow",
    "onnxruntime",
    "openTSNE",
    "pillow_heif",
    "safetensors",
    "sklearn",
    "threadpoolctl",
    "tifffile",
    "wandb",
}


def test_what_is_imported_is_installed():
    """Another package may bring it today, and not tomorrow (markupsafe is a part of jinja2)."""
    imported = set()
    for path in (ROOT / "simclrv2_tf").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    imported -= {*sys.stdlib_module_names, *OPTIONAL, "simclrv2_tf"}
    text = (ROOT / "setup.py").read_text().partition("install_requires=[")[2]
    required = set(re.findall(r'^        "([A-Za-z0-9_-]+)', text.partition("\n    ],")[0], re.M))
    assert {DISTRIBUTIONS.get(name, name) for name in imported} <= required
    assert len(imported) > 8


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff(command):
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", str(ROOT)]
    done = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hints_of_the_public_modules_agree():
    """By mypy, with the packages that pyproject.toml names."""
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    checked = int(re.search(r"in (\d+) source files", done.stdout)[1])
    assert checked > 60, "the packages are no longer found"
