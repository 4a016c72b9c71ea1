"""The one exception for every error that a user can cause and mend."""


class InputError(ValueError):
    """Bad input. The message is one line: what was received, what was expected and how to fix it."""


class Diverged(InputError):
    """The loss became NaN or infinite."""


def os_error_text(error: OSError) -> str:
    """Return the system's message and the name of the file, if it gives one."""
    return f"{error.strerror or error}{f' {error.filename}' if error.filename else ''}"
