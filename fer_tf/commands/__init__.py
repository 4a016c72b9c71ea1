"""One module for each command: parse, call, print. A command imports heavy packages when it runs, not for --help."""
