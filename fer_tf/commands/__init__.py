"""One module a command: parse, call, print. Heavy packages are imported when a command runs, never for its help."""
