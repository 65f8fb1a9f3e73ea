"""The codec of the Vosk protocol."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.events import Final, Partial, SpeechStarted, Word
from stream_asr.server.errors import SessionError
from stream_asr.server.protocols.vosk.codec import Command, Options, ReplyEncoder, decode


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{ "config" : { "sample_rate" : 16000 } }', Options(16_000)),
        ('{"config": {"sample_rate": 44100.0, "words": 0}}', Options(44_100, words=False)),
        ('{"config": {"sample_rate": "8000", "words": true}}', Options()),
        ('{"config": {"max_alternatives": 3}}', Options(max_alternatives=3)),
        (
            '{"config": {"phrase_list": ["Anneke Visser", "[unk]"], "model": "en", "lang": 1}}',
            Options(phrases=("Anneke Visser",), ignored_keys=('"model"', '"lang"'), ignored_count=2),
        ),
        ('{"config": {"phrase_list": ["[unk]"]}}', Options()),
        ('{"eof" : 1}', Command.EOF),
        ('{"eof":true}', Command.EOF),
        ('{"reset" : 1}', Command.RESET),
    ],
)
def test_client_messages_are_decoded(text: str, expected: Options | Command) -> None:
    assert decode(text, Options()) == expected


def test_config_changes_only_the_options_that_it_names() -> None:
    options = Options(16_000, words=False)
    changed = Options(16_000, words=False, max_alternatives=1)
    assert decode('{"config": {"max_alternatives": 1}}', options) == changed


def test_few_ignored_keys_are_kept_for_the_log() -> None:
    options: Options | Command = Options()
    for number in range(100):
        config = {f"{number} {index} {200 * 'x'}": index for index in range(100)}
        assert isinstance(options, Options)
        options = decode(json.dumps({"config": config}), options)
    assert isinstance(options, Options)
    assert options.ignored_count == 10_000
    assert len("".join(options.ignored_keys)) < 400
    assert options.ignored_keys[0].startswith('"0 0 xx')


@pytest.mark.parametrize(
    ("text", "expected_text"),
    [
        ("hello", "not JSON"),
        ("[]", "a message must be a JSON object"),
        ('{"oef": 1}', 'accepted: {"config": {...}}, {"eof": 1}, {"reset": 1}, and binary audio'),
        ('{"eof": 0}', "accepted: "),
        ('{"config": 16000}', "config is 16000; it must be an object"),
        ('{"config": {"sample_rate": "fast"}}', 'sample_rate is "fast"; it must be a whole number'),
        ('{"config": {"sample_rate": 16000.5}}', "sample_rate is 16000.5"),
        ('{"config": {"sample_rate": 1e999}}', "sample_rate is Infinity"),
        ('{"config": {"words": null}}', "words is null"),
        ('{"config": {"max_alternatives": -1}}', "max_alternatives is -1"),
        ('{"config": {"phrase_list": "one"}}', 'phrase_list is "one"; it must be a list of strings'),
        ('{"config": {"phrase_list": ["one", 2]}}', "phrase_list contains 2; a phrase must be a string"),
    ],
)
def test_invalid_messages_are_rejected_with_the_fault(text: str, expected_text: str) -> None:
    with pytest.raises(SessionError) as caught:
        decode(text, Options())
    assert expected_text in caught.value.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(["sample_rate", "words", "max_alternatives", "phrase_list", "x"])
configs = st.dictionaries(keys, json_values, max_size=4) | json_values
objects = st.dictionaries(st.sampled_from(["config", "eof", "reset"]), configs, max_size=2)


@given(st.text(max_size=60) | objects.map(json.dumps))
def test_any_text_is_decoded_or_rejected(text: str) -> None:
    try:
        decoded = decode(text, Options())
    except SessionError as error:
        error.message.encode()
    else:
        assert isinstance(decoded, Options | Command)


def make_final(utterance: int, *texts: str) -> Final:
    """Make a final that starts after ``utterance`` seconds, with words of 0.1 s."""
    words = tuple(
        Word(text, utterance + index / 8, utterance + index / 8 + 0.1, 0.5) for index, text in enumerate(texts)
    )
    return Final(utterance, utterance, utterance + 1, " ".join(texts), 0.5 if words else 0.0, words)


def test_audio_reply_is_a_partial_or_a_result_of_all_finals_since_the_last_result() -> None:
    replies = ReplyEncoder(Options())
    assert replies.encode_audio_reply() == '{"partial":""}'
    replies.on_event(SpeechStarted(0, 0.0))
    replies.on_event(Partial(0, 0.0, 0.5, "", "ask"))
    assert replies.encode_audio_reply() == '{"partial":"ask"}'
    replies.on_event(make_final(0, "ask", "not"))
    replies.on_event(make_final(1))
    replies.on_event(make_final(2, "what"))
    replies.on_event(Partial(3, 3.0, 3.5, "", "your"))
    assert replies.has_unsent_words
    assert json.loads(replies.encode_audio_reply()) == {
        "result": [
            {"conf": 0.5, "start": 0.0, "end": 0.1, "word": "ask"},
            {"conf": 0.5, "start": 0.125, "end": 0.225, "word": "not"},
            {"conf": 0.5, "start": 2.0, "end": 2.1, "word": "what"},
        ],
        "text": "ask not what",
    }
    assert not replies.has_unsent_words
    assert replies.encode_audio_reply() == '{"partial":"your"}'
    assert replies.encode_result() == '{"text":""}'


def test_result_without_words_and_result_with_alternatives() -> None:
    replies = ReplyEncoder(Options(words=False))
    replies.on_event(make_final(0, "ask"))
    assert replies.encode_result() == '{"text":"ask"}'
    replies.options = Options(max_alternatives=2)
    replies.on_event(make_final(1, "not"))
    alternative = {"confidence": 0.5, "result": [{"start": 1.0, "end": 1.1, "word": "not"}], "text": "not"}
    assert json.loads(replies.encode_result()) == {"alternatives": [alternative]}
    assert json.loads(replies.encode_result()) == {"alternatives": [{"confidence": 0.0, "text": ""}]}


def test_replies_are_in_small_letters_without_punctuation() -> None:
    replies = ReplyEncoder(Options())
    replies.on_event(Partial(0, 0.0, 0.5, "Well,", "Well, I"))
    assert replies.encode_audio_reply() == '{"partial":"well i"}'
    replies.on_event(make_final(0, "Well,", "—", "I’m", "late."))
    replies.on_event(make_final(1, "..."))
    reply = json.loads(replies.encode_result())
    assert reply["text"] == "well i'm late"
    assert [word["word"] for word in reply["result"]] == ["well", "i'm", "late"]
    replies.options = Options(max_alternatives=1)
    replies.on_event(make_final(2, "Yes!"))
    (alternative,) = json.loads(replies.encode_result())["alternatives"]
    assert (alternative["text"], alternative["result"][0]["word"]) == ("yes", "yes")
    replies.on_event(make_final(3, "..."))
    assert json.loads(replies.encode_result()) == {"alternatives": [{"confidence": 0.0, "text": ""}]}
