"""The version of the program, from its release tag."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("tomopolish")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
