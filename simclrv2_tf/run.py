"""The command line: `python -m simclrv2_tf.run --mode=train_then_eval [--flag=value ...]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from simclrv2_tf import environment, plan
from simclrv2_tf.config import Config, ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit status: 0, 1 for a failed run, 2 for bad input."""
    try:
        config = Config.from_argv(argv)
        plan.stages(config)
    except ConfigError as error:
        for line in error.errors:
            print(f"Error: {line}", file=sys.stderr)
        return 2

    # Only now: `--help` and bad flags are answered without waiting for TensorFlow.
    environment.prepare()
    from simclrv2_tf import experiment
    from simclrv2_tf.datasets import DatasetError
    from simclrv2_tf.distribute import DeviceError
    from simclrv2_tf.errors import UserError
    from simclrv2_tf.loop import NonFiniteError
    from simclrv2_tf.run_directory import RunError

    try:
        experiment.run(config)
    except (UserError, DatasetError, RunError, DeviceError) as error:
        return _fail(error, 2, config)
    except (NonFiniteError, OSError) as error:
        return _fail(error, 1, config)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from the last checkpoint.", file=sys.stderr)
        return 130
    return 0


def _fail(error: Exception, status: int, config: Config) -> int:
    if config.debug:
        raise error
    print(f"Error: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
