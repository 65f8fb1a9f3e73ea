"""Errors and transcripts that OpenAI's interfaces share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.server.errors import CloseCode, SessionError
from stream_asr.server.protocols.openai.common_codec import Transcript, error_body, error_object


@given(st.lists(st.tuples(st.text("ab ", max_size=8), st.lists(st.integers(0, 8), max_size=3))))
def test_deltas_of_a_transcript_add_up_to_the_joined_finals(utterances: list[tuple[str, list[int]]]) -> None:
    transcript = Transcript()
    deltas = []
    for final, stable_lengths in utterances:
        deltas += [transcript.extend(final[:length]) for length in sorted(stable_lengths)]
        deltas.append(transcript.end_utterance(final))
    assert "".join(deltas) == transcript.text == " ".join(final for final, _ in utterances if final)


@pytest.mark.parametrize(
    ("close_code", "status", "error_type"),
    [
        (CloseCode.POLICY_VIOLATION, 400, "invalid_request_error"),
        (CloseCode.INVALID_DATA, 400, "invalid_request_error"),
        (CloseCode.TOO_BIG, 413, "invalid_request_error"),
        (CloseCode.TRY_AGAIN_LATER, 503, "server_error"),
        (CloseCode.GOING_AWAY, 503, "server_error"),
        (CloseCode.INTERNAL_ERROR, 500, "server_error"),
    ],
)
def test_errors_have_a_status_and_a_type(close_code: CloseCode, status: int, error_type: str) -> None:
    error = SessionError("some_code", "some message", close_code)
    assert error.http_status == status
    expected = {"message": "some message", "type": error_type, "param": None, "code": "some_code"}
    assert error_object(error) == expected
    assert error_body(status, "some_code", "some message") == {"error": expected}
