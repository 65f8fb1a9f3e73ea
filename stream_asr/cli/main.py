"""Entry point of ``stream-asr``: run a command and turn errors into messages and exit statuses.

Results go to stdout, everything else to stderr. The exit status is 0 for success, 1 for a failure, 2 for wrong usage or
unusable input, and 130 if Ctrl-C interrupted the work. User errors never show a traceback.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from stream_asr.errors import StreamASRError


def main() -> None:
    """Run the command in ``sys.argv``."""
    from stream_asr.cli.app import app

    try:
        app()
    except StreamASRError as error:
        print(f"stream-asr: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except OSError as error:
        # Errors of the user's files are StreamASRErrors. What remains is, for example, stdout on a full disk.
        where = f"{error.filename}: " if error.filename else ""
        print(f"stream-asr: input or output failed: {where}{error.strerror or error}", file=sys.stderr)
        # At exit, Python would try to flush stdout again and report that error with a traceback.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("stream-asr: interrupted", file=sys.stderr)
        sys.exit(130)
