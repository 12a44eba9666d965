"""The one exception a user may see."""


class SynthGainError(Exception):
    """Bad input or a bad state that the user can mend.

    The message is one line (or one line per problem): what is wrong, where, what is allowed, how to fix it.
    The command line prints it without a traceback and exits with status 1.
    """
