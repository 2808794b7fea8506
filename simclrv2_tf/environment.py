"""Settings of TensorFlow for the commands, before and after its import."""

import contextlib
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator

from etils import epy

with epy.lazy_imports():
    import tensorflow as tf

_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_DEFAULTS = {
    # Off by default on processors without AVX-512 VNNI, bfloat16 or AMX. On two AVX2 cores the
    # demo's pretraining step takes 422 ms without it and 195 ms with it.
    _ONEDNN: "1",
    _LOG_LEVEL: "2",
}
# Lines that TensorFlow's libraries write at any log level, before their log is set up.
_STARTUP = re.compile(
    r"WARNING: All log messages before absl::InitializeLog|[IW]\d{4} "
    # Without a driver, as on every machine without an NVIDIA GPU.
    r"|E\d{4} .*failed call to cuInit"
    # Also on processors with AVX-512, if images of 8 bits are transposed.
    r"|E\d{4} .*oneDNN supports DT_UINT8"
)


def prepare() -> None:
    """Sets the environment variables of the commands; keeps those that the user has set.

    Call it before importing TensorFlow: later it has no effect.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def start(*, chooses_devices: bool = False) -> None:
    """Same as `prepare`, then imports TensorFlow without its output on machines without a GPU.

    `said_at_start` returns this output. It is shown if the machine has a GPU or a TPU, if the
    import raises an exception, if the user has set TF_CPP_MIN_LOG_LEVEL, and on processors without
    AVX, on which TensorFlow prints an error and ends the process.

    Args:
        chooses_devices: Whether the command chooses devices afterwards, which is impossible once an
            operation has run: it must then call `first_operation` itself.
    """
    shown = _LOG_LEVEL in os.environ or accelerator_nodes() is not False or _lacks_avx()
    prepare()
    if shown or "tensorflow" in sys.modules or sys.stderr is None:
        return
    _keeps_lines.append(True)
    _without_known_lines(lambda: tf.config.list_physical_devices())  # imports TensorFlow
    if not chooses_devices:
        first_operation()


def first_operation() -> None:
    """Runs an operation for which oneDNN prints a wrong line, once per process; keeps the line."""
    if _keeps_lines:
        _without_known_lines(lambda: tf.transpose(tf.zeros((1, 1), tf.uint8)))


def _without_known_lines(call: Callable[[], object]) -> None:
    with _standard_error_caught() as caught:
        call()
    for line in "".join(caught).splitlines():
        if _STARTUP.match(line):
            _said.append(line)
        else:
            print(line, file=sys.stderr, flush=True)


_keeps_lines: list[bool] = []  # not empty once `start` keeps lines off the terminal
_said: list[str] = []


def said_at_start() -> list[str]:
    """Returns the lines that `start` has kept off the terminal."""
    return list(_said)


def _lacks_avx() -> bool:
    if platform.machine() != "x86_64":
        return False
    try:
        with open("/proc/cpuinfo") as file:
            return not re.search(r"^flags\s*:.*\bavx\b", file.read(), re.MULTILINE)
    except OSError:
        return True


@contextlib.contextmanager
def _standard_error_caught() -> Iterator[list[str]]:
    """Captures output to standard error, also by libraries; prints it if an exception is raised.

    Yields:
        A list, which holds the text after the context has ended.
    """
    texts: list[str] = []
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield texts
        except BaseException:
            _restore_standard_error(kept)
            file.seek(0)
            sys.stderr.write(file.read().decode(errors="replace"))
            raise
        _restore_standard_error(kept)
        file.seek(0)
        texts.append(file.read().decode(errors="replace"))


def _restore_standard_error(kept: int) -> None:
    sys.stderr.flush()
    os.dup2(kept, 2)
    os.close(kept)


def accelerator_nodes() -> bool | None:
    """Whether Linux lists a GPU or TPU among its devices; None on other systems. No TensorFlow."""
    if not sys.platform.startswith("linux"):
        return None
    return any(os.path.exists(f"/dev/{node}") for node in ("nvidiactl", "kfd", "accel0", "vfio"))


def skip_graph_rewrites() -> None:
    """Turns off TensorFlow's graph optimizer, Grappler, on a machine without GPU and TPU.

    Grappler makes no training step faster there, and doubles the time of a step's first call. The
    setting applies to the process: call `tf.config.optimizer.set_experimental_options` to change
    it.
    """
    accelerators = [d for kind in ("GPU", "TPU") for d in tf.config.list_physical_devices(kind)]
    if not accelerators:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def onednn() -> str:
    """Describes whether TensorFlow uses oneDNN's kernels, for the log."""
    value = os.environ.get(_ONEDNN)
    if value is None:
        return f"oneDNN as TensorFlow chooses ({_ONEDNN} is not set)"
    return f"oneDNN {'on' if value == '1' else 'off'} ({_ONEDNN}={value})"
