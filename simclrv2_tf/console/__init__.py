"""Output while a run trains: progress bars on a terminal, a few lines elsewhere."""

from etils import epy

with epy.lazy_api_imports(globals()):
    from simclrv2_tf.console.consoles import Console, KerasConsole, make_console
    from simclrv2_tf.console.lines import LineConsole
    from simclrv2_tf.console.terminal import TerminalConsole
    from simclrv2_tf.console.time_left import TimeLeft, duration
