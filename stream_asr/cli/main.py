"""The entry point. Results go to stdout, everything else to stderr.

Exit status 0; 1 when something failed while it ran; 2 for wrong usage or unusable input; 130 when Ctrl-C cut
the work short. A user's mistake never shows a traceback.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from stream_asr.errors import StreamASRError


def main() -> None:
    """Entry point of ``stream-asr``."""
    from stream_asr.cli.app import app

    try:
        app()
    except StreamASRError as error:
        print(f"stream-asr: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except OSError as error:
        # Those of files that the user named were told apart; this is a stdout that goes to a full disk, say.
        where = f"{error.filename}: " if error.filename else ""
        print(f"stream-asr: input or output failed: {where}{error.strerror or error}", file=sys.stderr)
        # Python would try once more to write what is left when it ends, and complain in its own way.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("stream-asr: interrupted", file=sys.stderr)
        sys.exit(130)
