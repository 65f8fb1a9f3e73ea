"""What can go wrong for a reason that a user can do something about.

The command line turns each of these into one message and an exit status, never a traceback.
"""

from __future__ import annotations


class StreamASRError(Exception):
    """Something failed while it ran; the message says what, and what would help."""

    exit_status = 1


class InputError(StreamASRError, ValueError):
    """What was given cannot be used; the message names what was wrong and what is accepted."""

    exit_status = 2


class ModelError(InputError):
    """The named model cannot be loaded, or is not a CTC model."""


class DeviceError(StreamASRError):
    """A microphone or an accelerator is missing, busy or went away."""
