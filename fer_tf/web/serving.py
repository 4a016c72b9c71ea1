"""Serves a folder on this machine only."""

from __future__ import annotations

import functools
import http.server
import os
from typing import Any


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012 - as in the base class; some systems' tables call .js text/plain
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        ".tflite": "application/octet-stream",
    }

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal shows the address."""


class Server(http.server.ThreadingHTTPServer):
    """A web server of one folder at 127.0.0.1."""

    def __init__(self, folder: str | os.PathLike[str], port: int = 0) -> None:
        """Bind the address.

        Args:
            folder: to serve.
            port: 0 takes any that is free.

        Raises:
            OSError: if the port is taken.
        """
        super().__init__(("127.0.0.1", port), functools.partial(_Handler, directory=os.fspath(folder)))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"
