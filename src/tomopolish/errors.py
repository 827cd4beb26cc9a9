"""Errors that the user sees: one sentence that says what is wrong and what to do."""


class TomopolishError(Exception):
    """Base class of all expected failures; the text is one sentence for the user."""

    exit_code = 1


class InputError(TomopolishError):
    """The user's files or options are invalid; the text names file, table, row or option and the remedy."""

    exit_code = 2


class RunError(TomopolishError):
    """A run on valid input failed."""


class UnusableImageError(RunError):
    """A tilt image cannot be used; the text completes a sentence with the reason."""


class RunStopped(TomopolishError):  # noqa: N818  nothing went wrong
    """The run was asked to stop: no tomogram has failed, and no further tomogram is started."""
