"""Where a model is that the user named; nothing here imports torch."""

from __future__ import annotations

import os
import re
from pathlib import Path

from stream_asr.acoustic.catalog import EMBEDDED, EMBEDDED_FOLDER, RECOMMENDED
from stream_asr.errors import ModelError

WAYS_ON = (
    f"what always works is the embedded model ({EMBEDDED!r}, the default) "
    f"or a local folder that holds a Transformers CTC checkpoint"
)


def locate(name: str) -> str | Path:
    """The folder of a local model, or the hub name.

    Raises:
        ModelError: it is neither.
    """
    if name == EMBEDDED:
        return EMBEDDED_FOLDER
    folder = os.path.expanduser(name)  # Path's own raises for a user that does not exist
    if os.path.isdir(folder):
        if not os.path.isfile(os.path.join(folder, "config.json")):
            raise ModelError(f"{folder} has no config.json, so it is no Transformers checkpoint; {WAYS_ON}")
        return Path(folder)
    if os.path.exists(folder):
        raise ModelError(f"{folder} is a file; a model is a folder or a hub name such as {RECOMMENDED!r}")
    if name.startswith((".", "~", os.sep)) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise ModelError(f"there is no folder {name!r}; {WAYS_ON}")
    return name
