"""The one exception that means: what was asked for cannot be done as asked."""


class UserError(ValueError):
    """A user's mistake, told in one line: what was given, what was expected, what to do.

    The command line prints it without a traceback and exits with 2.
    """
