"""The home folder, in which DVC and MLflow keep settings: in a container, an account may have none."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import SynthGainError


def require_home() -> None:
    """Refuse to begin what DVC or MLflow would end in a traceback.

    Raises:
        SynthGainError: if HOME is not set, and the user id has no entry among the accounts.
    """
    try:
        Path.home()
    except RuntimeError:
        raise SynthGainError(
            f"HOME is not set, and user id {os.getuid()} is no account of this machine: DVC and MLflow need a home"
            " folder; set HOME to a folder that you may write, as in `export HOME=/tmp`"
        ) from None
