"""Runs the notebooks of this folder, each in an empty folder, and saves them with their outputs.

    python colab/execute.py [NAME ...]

(with the extra `test` installed).

`jupyter nbconvert --execute` would run them in this folder, with the results of earlier runs, and
would save each progress line as a separate output.
"""

import pathlib
import sys
import tempfile
import time

import nbclient
import nbformat

FOLDER = pathlib.Path(__file__).parent


def execute(notebook, folder):
    """Runs all cells of a notebook in `folder`; the first that fails raises."""
    nbclient.NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        coalesce_streams=True,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    ).execute()


def main(names):
    """Runs and saves the notebooks of these names; without names, all of them."""
    for path in [FOLDER / f"{name}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            execute(notebook, folder)
        nbformat.write(notebook, path)
        print(f"{path.name}: {time.monotonic() - begin:.0f} seconds", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
