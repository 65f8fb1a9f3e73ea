"""Ranges of settings that belong to no other test file."""

from __future__ import annotations

from typing import Any

import pytest

from stream_asr.config import AudioConfig
from stream_asr.errors import InputError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"file_block_ms": 0}, "file_block_ms is 0; it must be above 0"),
        ({"pipe_max_queued_reads": 0}, "pipe_max_queued_reads is 0; it must be above 0"),
        ({"microphone_poll_s": -0.1}, "microphone_poll_s is -0.1; it must be above 0"),
        ({"max_sample_rate": 3000}, "max_sample_rate is 3000; it must be at least min_sample_rate, which is 4000"),
        ({"microphone_fallback_rates": (48_000, 1)}, "microphone_fallback_rates contains 1; rates must be between"),
        ({"max_amplitude": 0.5}, "max_amplitude is 0.5; it must be at least 1, full scale"),
    ],
)
def test_audio_settings_out_of_range_are_rejected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AudioConfig(**settings)
