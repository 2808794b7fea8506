"""Hooks of MkDocs: pages made from the repository, and equations as MathML.

The site's start is the README, so that both say the same; the flags come from `--help`.
"""

import pathlib
import re

import latex2mathml.converter
from mkdocs.structure.files import File

from simclrv2_tf import options
from simclrv2_tf.config import Config

ROOT = pathlib.Path(__file__).parents[1]
_FENCED = re.compile(r"(```.*?```)", re.DOTALL)
_EQUATION = re.compile(
    r"(?P<code>`[^`\n]+`)|\$\$(?P<block>.+?)\$\$|\$(?P<line>[^$\n]+)\$", re.DOTALL
)


def on_files(files, config):
    """Adds the pages that are made from other files."""
    made = {
        "index.md": (ROOT / "README.md").read_text(),
        "changes.md": (ROOT / "CHANGELOG.md").read_text(),
        "reference/flags.md": _flags(),
    }
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Points links that leave `docs/` at the repository's text, and turns equations into MathML."""
    root = page.file.src_uri in ("index.md", "changes.md")
    parts = _FENCED.split(markdown)
    # Every second part is code.
    parts[::2] = [_equations(_links(part, root)) for part in parts[::2]]
    return "".join(parts)


def on_post_template(output_content, template_name, config):
    """As for pages."""
    return on_post_page(output_content, None, config)


def on_post_page(output, page, config):
    """Leaves out the one script that the theme would load from another address."""
    return re.sub(r'<script src="https://unpkg\.com/[^"]*"></script>', "", output)


def _links(text: str, root: bool) -> str:
    if root:
        text = text.replace("](docs/", "](").replace("](CHANGELOG.md)", "](changes.md)")
    outside = r"(?:benchmarks|colab|CONTRIBUTING|CITATION)[^)]*" if root else r"\.\./[^)]+"
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


def _flags() -> str:
    """The flags of `python -m simclrv2_tf.run`, a table for each group."""
    lines = [
        "# Flags",
        "",
        "All flags of `python -m simclrv2_tf.run`, which `--help` prints too. The short commands "
        "also take them.",
    ]
    shown = set()
    for group in Config.__bases__[::-1]:
        own = [option for option in options.of(group).values() if option.name not in shown]
        shown |= {option.name for option in own}
        lines += ["", f"## {group.title}", "", "| flag | default | what |", "| --- | --- | --- |"]
        for option in own:
            name = f"--[no]{option.name}" if option.kind is bool else f"--{option.name}"
            default = "none" if option.default is None else str(option.default)
            what = option.help.replace("|", "\\|")
            if option.kind not in (bool, str) or option.choices:
                what += f" ({option.rule})"
            lines.append(f"| `{name}` | `{default}` | {what} |")
    return "\n".join(lines) + "\n"
