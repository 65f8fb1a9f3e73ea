"""Ranges of the server's settings."""

from __future__ import annotations

from typing import Any

import pytest

from stream_asr.errors import InputError
from stream_asr.server.settings import ServerSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_sessions": 0}, "max_sessions is 0; it must be at least 1"),
        ({"max_speed": 0.5}, "max_speed is 0.5; it must be at least 1, the speed of live audio"),
        ({"idle_timeout_s": 0}, "idle_timeout_s is 0; it must be greater than 0"),
        ({"idle_timeout_s": float("nan")}, "greater than 0"),
        ({"resume_window_s": -1}, "resume_window_s is -1; it must not be negative"),
        ({"allow_origins": ("example.org",)}, "'example.org' is not an origin; accepted: SCHEME://HOST"),
        ({"allow_origins": ("https://example.org/page",)}, "is not an origin"),
        ({"tokens": ("",)}, "a token is empty"),
        ({"tokens": ("good", "schlüssel")}, "characters that are not allowed in a header"),
        ({"tokens": ("one\ntwo",)}, "characters that are not allowed in a header"),
        ({"tokens": ("space ",)}, "characters that are not allowed in a header"),
    ],
)
def test_settings_out_of_range_are_rejected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ServerSettings(**settings)
