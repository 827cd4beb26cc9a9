"""The executable `tomopolish`, which `python -m tomopolish` is, too."""

import signal


def main() -> None:
    """Carry out the command line; Ctrl-C ends without a traceback while the commands are being imported."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tomopolish.cli import main as carry_out  # noqa: PLC0415  Ctrl-C may come first

    carry_out()


if __name__ == "__main__":
    main()
