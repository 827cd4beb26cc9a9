"""What can go wrong, as the user sees it: one sentence that says what to do."""


class TomopolishError(Exception):
    """Base of all expected failures; its text is one sentence for the user."""

    exit_code = 1


class InputError(TomopolishError):
    """The user's files or options cannot work; names the file, table, row or option, and the remedy."""

    exit_code = 2


class RunError(TomopolishError):
    """A run on sound input failed."""

    exit_code = 1


class UnusableImageError(RunError):
    """A tilt image cannot be used; the text says why, as the rest of a sentence."""


class RunStopped(TomopolishError):  # noqa: N818  nothing went wrong
    """Somebody asked the run to end: no tomogram's failure, and no reason to go on with the next."""

    exit_code = 1
