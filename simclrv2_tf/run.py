"""The command line: `python -m simclrv2_tf.run --mode=train_then_eval [--flag=value ...]`."""

import sys
from collections.abc import Sequence

from simclrv2_tf import environment, errors
from simclrv2_tf.config import Config, command_line
from simclrv2_tf.experiments import early
from simclrv2_tf.experiments.directory import LongerError
from simclrv2_tf.experiments.stage import Seams

_NO_SEAMS = Seams()


def main(
    argv: Sequence[str] | None = None,
    seams: Seams = _NO_SEAMS,
    notes: Sequence[str] = (),
    typed: Sequence[str] | None = None,
) -> int:
    """Runs one command line; returns the exit status: 0, 1 for a failed run, 2 for bad input.

    Args:
        argv: The program's name, then flags; `sys.argv` by default.
        seams: Replacements for tests.
        notes: Lines about the source of options, printed if the options are valid.
        typed: The command as typed, if `argv` was made from a short command.
    """
    argv = sys.argv if argv is None else argv
    try:
        said = list(notes)
        config = Config.from_argv(argv, said)
        early.check(config)
        print(*said, sep="\n", end="\n" * bool(said), flush=True)
        if early.report_finished(config):
            return 0
    except LongerError as error:
        command = typed or ["python", "-m", "simclrv2_tf.run", *argv[1:]]
        command = command_line.without(command, error.changes)
        return errors.report(LongerError(error.reason, error.changes, command))
    except (errors.UserError, OSError) as error:
        return errors.report(error)
    # Imported late, so that errors in the command line do not wait for TensorFlow.
    environment.start(chooses_devices=True)
    from simclrv2_tf import experiments
    from simclrv2_tf.training import stopping

    def command():
        with stopping.stopping_by_signals(), errors.one_line_from_tensorflow():
            experiments.run(config, seams)

    return errors.exit_status(
        command,
        debug=config.debug,
        stopped="Stopped. Rerun the same command to resume from the last checkpoint.",
    )


if __name__ == "__main__":
    sys.exit(main())
