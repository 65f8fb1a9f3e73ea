"""The second pass of a recognizer: which model it is, what it accepts, and what it writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stream_asr import Final, InputError, Partial, Recognizer, RecognizerConfig, SegmenterConfig
from stream_asr.acoustic import loading
from stream_asr.array_types import FloatArray
from stream_asr.errors import ModelError
from stream_asr.events import bare_text
from tests.support.checkpoints import cached_checkpoints
from tests.support.fakes import FakeModel, FakeSecondPass, conversation, loud
from tests.support.seq2seq import FAMILIES
from tests.support.streaming import collect_events

SENTENCES = ("hello world how are you", "fine thanks")


@pytest.fixture(scope="module")
def seq2seq(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """From the name of a family to the folder of a checkpoint."""
    return cached_checkpoints(tmp_path_factory, FAMILIES)


@pytest.fixture(scope="module")
def ctc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a CTC checkpoint without a decoder."""
    return cached_checkpoints(tmp_path_factory)("wav2vec2 layer norm")


@pytest.fixture
def loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if an acoustic model is loaded."""
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("a model was loaded before the check"))


def limit_utterances(max_ms: int) -> RecognizerConfig:
    return RecognizerConfig(segmenter=SegmenterConfig(max_utterance_ms=max_ms))


# --- which model -----------------------------------------------------------------------------------------------


def test_bundled_model_uses_its_own_decoder(recognizer: Recognizer) -> None:
    assert recognizer.second_pass_name == "embedded-en"
    with Recognizer.from_pretrained(device="cpu", second_pass="embedded-en") as named:
        assert named.second_pass_name == "embedded-en"


@pytest.mark.parametrize("second_pass", [None, "none"])
def test_second_pass_can_be_switched_off(second_pass: str | None, speech: FloatArray) -> None:
    with Recognizer.from_pretrained(device="cpu", second_pass=second_pass) as first_only:
        assert first_only.second_pass is None
        assert first_only.second_pass_name is None
        text = first_only.transcribe(speech[: 3 * 16_000]).text
    assert text.startswith("Good morning and")
    assert bare_text(text) == text.lower(), "no punctuation"


def test_models_without_decoder_have_no_second_pass(ctc: Path) -> None:
    with Recognizer.from_pretrained(ctc, device="cpu") as recognizer:
        assert recognizer.second_pass is None


def test_bundled_decoder_is_refused_with_other_models(ctc: Path) -> None:
    with pytest.raises(InputError, match=r"'embedded-en' works with the bundled model .* not here with"):
        Recognizer.from_pretrained(ctc, device="cpu", second_pass="embedded-en")


@pytest.mark.parametrize("family", ["moonshine", "whisper"])
@pytest.mark.parametrize("bundled", [True, False])
def test_second_pass_from_a_folder(
    bundled: bool, family: str, ctc: Path, seq2seq: Callable[[str], Path], speech: FloatArray
) -> None:
    config, folder = limit_utterances(4000), seq2seq(family)
    model = None if bundled else ctc
    with Recognizer.from_pretrained(model, device="cpu", second_pass=folder, config=config) as recognizer:
        assert recognizer.second_pass_name == str(folder)
        audio = speech[: 6 * 16_000]
        streamed = [event for event in collect_events(recognizer, audio, [4800]) if isinstance(event, Final)]
        assert streamed == list(recognizer.iter_finals(audio))


@pytest.mark.usefixtures("loads_nothing")
@pytest.mark.parametrize("name", ["./no-such-folder", "a name with spaces", "tests/test_second_pass.py"])
def test_impossible_name_is_refused_before_the_model_is_loaded(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        Recognizer.from_pretrained(second_pass=name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("loads_nothing")
def test_ctc_model_is_refused_as_second_pass(ctc: Path) -> None:
    with pytest.raises(ModelError, match=r"give it as --model instead of --second-pass"):
        Recognizer.from_pretrained(device="cpu", second_pass=ctc)


# --- language --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("loads_nothing")
@pytest.mark.parametrize("second_pass", ["auto", "none", None, "embedded-en"])
def test_language_requires_a_second_pass_that_distinguishes_languages(second_pass: str | None) -> None:
    with pytest.raises(InputError, match="the language 'de' has no effect"):
        Recognizer.from_pretrained(second_pass=second_pass, language="de")


@pytest.mark.usefixtures("loads_nothing")
@pytest.mark.parametrize(
    ("family", "language", "message"),
    [("whisper", "xx", "accepts de, en, fr"), ("moonshine", "de", "no languages to choose from")],
)
def test_unknown_language_is_refused(family: str, language: str, message: str, seq2seq: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=message):
        Recognizer.from_pretrained(device="cpu", second_pass=seq2seq(family), language=language)


def test_language_reaches_the_second_pass(seq2seq: Callable[[str], Path]) -> None:
    states = set()
    for language in ("de", "german", "fr"):
        config = limit_utterances(4000)
        folder = seq2seq("whisper")
        with Recognizer.from_pretrained(device="cpu", second_pass=folder, language=language, config=config) as loaded:
            assert loaded.second_pass is not None
            states.add(loaded.second_pass.initial_state())
    assert None not in states
    assert len(states) == 2


# --- length of utterances --------------------------------------------------------------------------------------


class ShortSecondPass(FakeSecondPass):
    max_samples = 10 * 16_000


def test_utterances_must_not_exceed_what_the_second_pass_accepts() -> None:
    with pytest.raises(InputError, match=r"max_utterance_ms is 10001, but .* at most 10000"):
        Recognizer(FakeModel(), limit_utterances(10_001), second_pass=ShortSecondPass())
    with Recognizer(FakeModel(), limit_utterances(10_000), second_pass=ShortSecondPass()):
        pass


# --- raw words -------------------------------------------------------------------------------------------------


def make_recognizer(**options: Any) -> Recognizer:
    return Recognizer(FakeModel(), detector=lambda: loud, second_pass=FakeSecondPass(), **options)


def test_raw_words_are_bare() -> None:
    audio = conversation(*SENTENCES)
    with make_recognizer() as recognizer:
        written = recognizer.transcribe(audio)
    with make_recognizer(raw=True) as recognizer:
        raw = recognizer.transcribe(audio)
    assert any(not word.word.isalpha() for word in written.words), "no punctuation to remove"
    assert [word.word for word in raw.words] == [word.bare for word in written.words]
    assert raw.text == bare_text(written.text)


@pytest.mark.parametrize("raw", [True, False])
def test_stable_text_stays_a_prefix_in_whole_words(raw: bool) -> None:
    audio, growing = conversation(" ".join(SENTENCES * 3)), 0
    with make_recognizer(raw=raw) as recognizer:
        events = collect_events(recognizer, audio, [3200], pause_s=0.01)
    [final] = [event for event in events if isinstance(event, Final)]
    stable = ""
    for event in events:
        if isinstance(event, Partial):
            assert f"{event.stable} ".startswith(f"{stable} ".lstrip())
            assert f"{event.text} ".startswith(f"{event.stable} ".lstrip())
            assert not raw or bare_text(event.text) == event.text
            growing += event.stable != stable
            stable = event.stable
    assert growing > 1
    assert f"{final.text} ".startswith(f"{stable} ")


def test_bundled_model_writes_raw_words_as_its_first_pass_does(recognizer: Recognizer, speech: FloatArray) -> None:
    audio = speech[: 10 * 16_000]
    with Recognizer(recognizer.model, second_pass=recognizer.second_pass, raw=True) as raw:
        assert raw.transcribe(audio).text == bare_text(recognizer.transcribe(audio).text)
