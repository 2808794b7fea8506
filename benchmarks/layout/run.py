"""Measures the layout of a package: lines, largest files, longest functions, imports.

    python benchmarks/layout/run.py [PACKAGE]

Lines of code exclude blank lines, comments and docstrings. The
functions of a file are measured in lines of code. A module's imports are the modules of the package
that it imports, lazily or not.
"""

import ast
import pathlib
import sys

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


def docstring_lines(tree: ast.AST) -> set[int]:
    """Returns the line numbers of all docstrings of a file."""
    nodes = [n for n in ast.walk(tree) if isinstance(n, _DOCUMENTED) and ast.get_docstring(n)]
    return {line for n in nodes for line in range(n.body[0].lineno, n.body[0].end_lineno + 1)}


def imported(tree: ast.AST, package: str) -> set[str]:
    """Returns the modules of the package that a file imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package):
            names = [f"{package}.{alias.name}" for alias in node.names]
            found |= set(names) if node.module == package else {node.module}
    return found


def measure(root: pathlib.Path) -> dict[str, object]:
    """Returns the measures of the package in `root`, by name."""
    total, code, documented, blank, import_lines = 0, 0, 0, 0, 0
    files, functions, imports = [], [], []
    for path in sorted(root.rglob("*.py")):
        text = path.read_text()
        lines, tree = text.splitlines(), ast.parse(text)
        name = str(path.relative_to(root))
        docs = docstring_lines(tree)
        own = {
            number
            for number, line in enumerate(lines, start=1)
            if line.strip() and not line.strip().startswith("#") and number not in docs
        }
        total, code, documented = total + len(lines), code + len(own), documented + len(docs)
        blank += sum(not line.strip() for line in lines)
        files.append((len(lines), name))
        imports.append((len(imported(tree, root.name)), name))
        for node in ast.walk(tree):
            span = range(node.lineno, node.end_lineno + 1) if hasattr(node, "lineno") else ()
            if isinstance(node, ast.FunctionDef):
                functions.append((len(own.intersection(span)), f"{name}:{node.name}"))
            if isinstance(node, ast.Import | ast.ImportFrom):
                import_lines += len(span)
    return {
        "files": len(files),
        "lines": total,
        "lines of code": code,
        "of these imports": import_lines,
        "lines of docstrings": documented,
        "blank lines": blank,
        "largest files": sorted(files)[:-4:-1],
        "longest functions": sorted(functions)[:-4:-1],
        "most imports": sorted(imports)[:-4:-1],
    }


if __name__ == "__main__":
    for key, value in measure(pathlib.Path(*sys.argv[1:2] or ["simclrv2_tf"])).items():
        print(f"{key + ':':<20} {value}")
