"""Packaging of simclrv2-tf; tool settings are in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "simclrv2_tf" / "__init__.py").read_text(), re.MULTILINE
).group(1)

# Systems with a wheel of tensorflow-addons; elsewhere the extra is empty, and its tests are
# skipped.
ADDONS = 'python_version < "3.12" and (sys_platform == "darwin" or platform_machine == "x86_64")'

# TIFF files of 16 bits and several bands, with their compressions; HEIC files.
PHOTOS = ["imagecodecs", "pillow-heif", "tifffile"]
SAFETENSORS = ["safetensors>=0.4"]
DOCS = ["latex2mathml", "mkdocs-material>=9.6", "mkdocstrings[python]"]
HUGGING_FACE = ["huggingface_hub>=0.34"]
MAP = ["openTSNE>=1.0.2"]
ONNX = ["onnx", "onnxruntime", "tf2onnx"]
# MLflow without its server, with what a store in a file needs.
MLFLOW = ["mlflow-skinny>=3", "sqlalchemy>=2", "alembic"]
WANDB = ["wandb>=0.20"]
SUGGEST = ["scikit-learn>=1.4", "threadpoolctl"]

setup(
    name="simclrv2-tf",
    version=VERSION,
    description="SimCLRv2 in Keras 3 and TensorFlow: pretrain, fine-tune, distill",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11.4",
    entry_points={"console_scripts": ["simclrv2-tf = simclrv2_tf.cli:main"]},
    packages=[*find_packages(include=["simclrv2_tf", "simclrv2_tf.*"]), "simclrv2_tf.flags"],
    # The recipes live at the top level, and inside the package once installed.
    package_dir={"simclrv2_tf.flags": "flags"},
    package_data={
        "simclrv2_tf": ["data/*", "py.typed"],
        "simclrv2_tf.official": ["released.json"],
        "simclrv2_tf.report.page": ["templates/*"],
        "simclrv2_tf.flags": ["**/*"],
    },
    install_requires=[
        "absl-py>=2.0",
        "etils[epath,epy]>=1.13",
        "filelock",
        "importlib_resources",  # tensorflow-datasets imports it without declaring it
        "jinja2>=3.1",
        "keras>=3.11",
        "matplotlib",
        "numpy",
        "pandas>=2.2",
        "pillow>=11.3",  # reads AVIF
        "rich>=13",  # as Keras asks for
        "scipy",
        "tensorboard",  # tf.summary needs it, and TensorFlow 2.21 no longer brings it
        "tensorflow>=2.20",
        "tensorflow-datasets>=4.9.7",
    ],
    extras_require={
        # Only for tests, which compare with it in a separate process: archived in 2024, it needs
        # Keras 2. tf_keras requires the TensorFlow of its own minor version, so pip finds a pair;
        # no range here fits both 2.20 and 2.21. (tensorflow-hub also installs it.)
        "addons": [
            f"tensorflow-addons==0.23.0; {ADDONS}",
            f"tf_keras>=2.20; {ADDONS}",
        ],
        # The peer in benchmarks/speed, and in the test of weights that are exported for it.
        "bench": ["torch", "torchvision"],
        # For the site: mkdocs build.
        "docs": DOCS,
        # For the map of representations in a report by t-SNE.
        "map": MAP,
        # For hf://OWNER/REPO, and for `simclrv2-tf publish`.
        "huggingface": HUGGING_FACE,
        # For --report_to=mlflow.
        "mlflow": MLFLOW,
        # For --export_formats=onnx, and for predictions of such a file.
        "onnx": ONNX,
        # For folders of images with such files.
        "photos": PHOTOS,
        # For --export_formats=safetensors and torchvision.
        "safetensors": SAFETENSORS,
        # For `simclrv2-tf suggest`.
        "suggest": SUGGEST,
        # For --report_to=wandb.
        "wandb": WANDB,
        "test": [
            *DOCS,
            *HUGGING_FACE,
            *MAP,
            *MLFLOW,
            *SAFETENSORS,
            *ONNX,
            *PHOTOS,
            *SUGGEST,
            *WANDB,
            "hypothesis",
            "ipykernel",
            "jax",  # the library on Keras's JAX backend
            "mypy",
            "nbclient",
            "nbformat",
            "pyte",
            "pytest",
            "pytest-xdist",
            "ruff>=0.17,<0.18",  # a new minor version may format differently
            "selenium",  # drives Debian's Chromium, where that is installed
            # Since 70.1 it builds wheels by itself; tensorflow-hub imports pkg_resources, which 81
            # dropped.
            "setuptools>=70.1,<81",
            "tensorflow-hub",
        ],
    },
)
