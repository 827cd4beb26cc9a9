"""The executable `tomopolish`, also run by `python -m tomopolish`."""

import gc
import signal

OBJECTS_BETWEEN_COLLECTIONS = 100_000
"""Packages make 150,000 objects that stay: to look for garbage among them takes a tenth of the start."""


def main() -> None:
    """Run the command line; Ctrl-C exits without a traceback while the commands are being imported."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
    from tomopolish.cli import main as run_command_line  # noqa: PLC0415  Ctrl-C may come first

    try:
        run_command_line()
    finally:
        gc.freeze()  # the end of the process frees everything: Python need not look for garbage before


if __name__ == "__main__":
    main()
