"""The executable `tomopolish`, also run by `python -m tomopolish`."""

import signal


def main() -> None:
    """Run the command line; Ctrl-C exits without a traceback while the commands are being imported."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tomopolish.cli import main as run_command_line  # noqa: PLC0415  Ctrl-C may come first

    run_command_line()


if __name__ == "__main__":
    main()
