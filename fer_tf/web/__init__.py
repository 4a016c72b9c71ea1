"""Writes the page that runs a model in the browser, and serves it on this machine."""

from fer_tf.web.serving import Server
from fer_tf.web.site import build

__all__ = ["Server", "build"]
