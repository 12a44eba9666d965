"""One small command per stage of dvc.yaml."""

import sys
from importlib.util import find_spec

if not (find_spec("typer") and find_spec("safetensors")):  # `dvc` was found, but `python` is another one
    sys.exit(
        f"error: {sys.executable} lacks this project's packages; activate the environment that they are in, as with"
        " `. .venv/bin/activate`, and give the same command again"
    )
