"""The one exception for everything that a user can cause and mend."""


class InputError(ValueError):
    """Bad input: its message is one line that says what was received, what was expected and how to fix it."""


class Diverged(InputError):
    """The loss is no finite number."""


def os_error_text(error: OSError) -> str:
    """What the system said and about which file."""
    return f"{error.strerror or error}{f' {error.filename}' if error.filename else ''}"
