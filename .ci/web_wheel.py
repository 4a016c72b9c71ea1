"""Builds the wheel fer_tf_web, the npm parts of the page, for machines without npm: .ci/web_wheel.py FOLDER."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fer_tf import __version__
from fer_tf.web import parts

SETUP = f"""\
from setuptools import setup

setup(
    name="fer_tf_web",
    version="{__version__}",
    description="LiteRT.js and BlazeFace, unchanged, for the page that fer-tf web writes",
    license="Apache-2.0",
    packages=["fer_tf_web"],
    package_data={{"fer_tf_web": ["node_modules/**"]}},
    python_requires=">=3.11",
)
"""


def main() -> None:
    """Install the npm packages and pack the files that the page uses."""
    destination = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as temporary:
        npm, package = Path(temporary, "npm"), Path(temporary, "source", "fer_tf_web")
        parts.install(npm)
        for source, _ in parts.PARTS.values():
            target = package / "node_modules" / source
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(npm / "node_modules" / source, target)
        (package / "__init__.py").write_text('"""The parts of the page of fer_tf that come from npm."""\n')
        shutil.copy(parts.FOLDER.parents[1] / "LICENSE", package.parent)  # Apache-2.0, as the parts'
        (package.parent / "setup.py").write_text(SETUP)
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(destination), str(package.parent)]
        subprocess.run(command, check=True)


main()
