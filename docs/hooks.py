"""Hooks of MkDocs: pages made from the repository, and equations as MathML.

The site's first page is the README, and the flags come from `--help`.
"""

import pathlib
import re

import latex2mathml.converter
from mkdocs.structure.files import File

from simclrv2_tf import options
from simclrv2_tf.config import Config
from simclrv2_tf.official.catalog import released
from simclrv2_tf.tables import table

ROOT = pathlib.Path(__file__).parents[1]
_FENCED = re.compile(r"(```.*?```)", re.DOTALL)
_EQUATION = re.compile(
    r"(?P<code>`[^`\n]+`)|\$\$(?P<block>.+?)\$\$|\$(?P<line>[^$\n]+)\$", re.DOTALL
)


def on_files(files, config):
    """Adds the generated pages."""
    made = {
        "index.md": (ROOT / "README.md").read_text(),
        "changes.md": (ROOT / "CHANGELOG.md").read_text(),
        "benchmarks.md": (ROOT / "benchmarks" / "README.md").read_text(),
        "recipes.md": _recipes(),
        "reference/flags.md": _flags(),
    }
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Resolves links out of `docs/` to generated pages, and converts equations to MathML."""
    markdown = markdown.replace("<!-- released models -->", _released())
    root = page.file.src_uri in ("index.md", "changes.md")
    benchmarks = page.file.src_uri == "benchmarks.md"
    parts = _FENCED.split(markdown)
    # Every second part is code.
    parts[::2] = [_equations(_links(part, root, benchmarks)) for part in parts[::2]]
    return "".join(parts)


def on_post_template(output_content, template_name, config):
    """Same as for pages."""
    return on_post_page(output_content, None, config)


def on_post_page(output, page, config):
    """Removes the only script that the theme loads from another host."""
    return re.sub(r'<script src="https://unpkg\.com/[^"]*"></script>', "", output)


def _links(text: str, root: bool, benchmarks: bool) -> str:
    if root:
        text = text.replace("](docs/", "](").replace("](CHANGELOG.md)", "](changes.md)")
    text = re.sub(r"\]\((?:\.\./)?benchmarks/README\.md\)", "](benchmarks.md)", text)
    outside = r"(?:benchmarks/|colab|CONTRIBUTING|CITATION)[^)]*" if root else r"\.\./[^)]+"
    if benchmarks:
        text = text.replace("](../docs/", "](")
    return re.sub(rf"\[([^\]]+)\]\({outside}\)", r"\1", text)


def _equations(text: str) -> str:
    """`$$...$$` as a block, `$...$` within a line, outside of code."""

    def converted(found):
        if found["code"]:
            return found[0]
        display = "block" if found["block"] else "inline"
        return latex2mathml.converter.convert(
            (found["block"] or found["line"]).strip(), display=display
        )

    return _EQUATION.sub(converted, text)


def _released() -> str:
    """Returns the table of the authors' released weights."""
    models = [model for name, model in released().items() if name == model.name]
    rows = [
        (
            f"`{model.name}`",
            model.parameters_in_millions,
            model.top_1_accuracy,
            "not said" if model.ft_proj_selector is None else model.ft_proj_selector,
        )
        for model in models
    ]
    return table(("name", "parameters (M)", "ImageNet top-1", "classifier's head layer"), rows)


# Fields of a recipe's comments, by their first word.
_FIELDS = ("Command", "Source", "Published accuracy", "Measured", "Not run here")


def _recipes() -> str:
    """Returns the page of the recipes in `flags/`, from their comments."""
    lines = [
        "# Recipes",
        "",
        "`--flagfile=NAME` uses the flags of a recipe; flags after it win. Each recipe is a file "
        "of flags in the folder `flags`, and is part of the package.",
    ]
    for folder in sorted(path for path in (ROOT / "flags").iterdir() if path.is_dir()):
        lines += ["", f"## {folder.name}"]
        for path in sorted(folder.iterdir()):
            text = path.read_text()
            comments = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
            lines += ["", f"### `{folder.name}/{path.name}`", ""]
            for line in comments:
                field = next((name for name in _FIELDS if line.startswith(name)), None)
                if field == "Command":
                    lines += ["", f"**{field}**: `{line.removeprefix(field + ':').strip()}`"]
                elif field:
                    lines += ["", f"**{field}**{line.removeprefix(field)}"]
                elif line:
                    lines.append(line)
            flags = [line for line in text.splitlines() if line.startswith("--")]
            lines += ["", "```text", *flags, "```"]
    return "\n".join(lines) + "\n"


def _flags() -> str:
    """Returns the page of the flags of `python -m simclrv2_tf.run`, one table per group."""
    lines = [
        "# Flags",
        "",
        "All flags of `python -m simclrv2_tf.run`, also printed by `--help`. The short commands "
        "also accept them.",
    ]
    shown = set()
    for group in Config.__bases__[::-1]:
        own = [option for option in options.of(group).values() if option.name not in shown]
        shown |= {option.name for option in own}
        lines += [
            "",
            f"## {group.title}",
            "",
            "| flag | default | description |",
            "| --- | --- | --- |",
        ]
        for option in own:
            name = f"--[no]{option.name}" if option.kind is bool else f"--{option.name}"
            default = "none" if option.default is None else str(option.default)
            what = option.help.replace("|", "\\|")
            if option.kind not in (bool, str) or option.choices:
                what += f" ({option.rule})"
            lines.append(f"| `{name}` | `{default}` | {what} |")
    return "\n".join(lines) + "\n"
