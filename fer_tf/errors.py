"""The one exception for everything that a user can cause and mend."""


class InputError(ValueError):
    """Bad input: its message is one line that says what was received, what was expected and how to fix it."""
