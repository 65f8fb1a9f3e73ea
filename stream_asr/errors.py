"""Errors that a user can act on.

The command line reports each of them as one message and an exit status, without a traceback.
"""

from __future__ import annotations


class StreamASRError(Exception):
    """A failure at run time. The message states the cause and, where there is one, a remedy."""

    exit_status = 1


class InputError(StreamASRError, ValueError):
    """Invalid input. The message states what is wrong and what is accepted."""

    exit_status = 2


class ModelError(InputError):
    """The model cannot be loaded or is not a CTC model."""


class DeviceError(StreamASRError):
    """A microphone or an accelerator is missing, busy or disconnected."""
