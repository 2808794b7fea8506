"""Small runs that all workers of a test session share: the first to need one makes it.

Their options name data relative to the folder that holds all runs, so that a copy of a run and
a link to its images resumes like the original.
"""

import contextlib
import fcntl
import shutil
from pathlib import Path

import numpy as np

from helpers import small
from helpers.command_line import SMALL

# The stages of "study" that use labels or a teacher, in their order.
METHODS = ["supervised", "fine_tuned", "self_distilled", "small_student"]
_RUN = ["--mode=train_then_eval", "--dataset=folder:images", *SMALL]
# The options of each kind of run, without its folder.
FLAGS = {
    "pretrain": [*_RUN, "--train_epochs=2", "--keep_checkpoint_max=1"],
    "pretrain_linear_eval": [*_RUN, "--train_mode=pretrain_linear_eval", "--train_steps=2"],
    # Half of the 24 labels; the small student is half as wide. Tests load two of the SavedModels.
    "study": [
        *[*_RUN, "--train_mode=semi_supervised", "--label_fraction=0.5", "--train_steps=6"],
        *["--checkpoint_steps=2", "--small_student.width_multiplier=0.03125"],
        *[f"--{stage}.export_formats=saved_model" for stage in ("supervised", "fine_tuned")],
    ],
    "supervised": [*[*_RUN, "--train_mode=supervised", "--labels_per_class=6", "--train_steps=2"]],
}
_WITHOUT_EXPORTS = {"pretrain_linear_eval"}


class SharedRuns:
    """Runs below one folder of the session, made when they are asked for. They are read only.

    Args:
        root: The folder, the same for all workers.
    """

    def __init__(self, root):
        self.root = Path(root)
        self.root.mkdir(exist_ok=True)

    def __call__(self, name, flags=None, exports=True):
        """The folder of the run `name`: of `FLAGS[name]`, or of other `flags` under a new name."""
        exports = exports and name not in _WITHOUT_EXPORTS
        self.made("images")

        def make(folder):
            with contextlib.chdir(self.root):
                command = command_line(name) if flags is None else [*flags, f"--model_dir={name}"]
                assert small.run(command, exports) == 0

        return self.made(name, make)

    def made(self, name, make=None):
        """The folder `name`; `make(folder)` fills it if no worker has done so."""
        folder, done = self.root / name, self.root / f"{name}.done"
        with (self.root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed, also by a process's end
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                (make or _DATA[name])(folder)
                done.touch()
        return folder

    def copy(self, name, root):
        """Copies a run, to be changed, to below `root`, where its command finds its data too."""
        folder = Path(root) / name
        shutil.copytree(self(name), folder)
        if not (folder.parent / "images").exists():
            (folder.parent / "images").symlink_to(self.root / "images")
        return folder


def command_line(name):
    """The options that make or resume the run `name` in the current folder."""
    return [*FLAGS[name], f"--model_dir={name}"]


def make_images(root):
    """2 classes, 12 training and 5 test images each, of differing sizes."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 5)):
        for label, name in enumerate(("dark", "light")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 100, (20 + i, 24, 3)) + 120 * label
                png = tf.io.encode_png(pixels.astype(np.uint8))
                (folder / f"{i}.png").write_bytes(png.numpy())


def make_flat(root):
    """The same training images, without classes."""
    make_images(root)
    shutil.rmtree(root / "test")
    for i, path in enumerate(sorted(root.rglob("*.png"))):
        path.rename(root / f"{i}.png")
    shutil.rmtree(root / "train")


_DATA = {"images": make_images, "flat": make_flat}
