"""Checkpoints of every family that people use, with random weights, and the embedded model, through `load_model`."""

from __future__ import annotations

import json
import shutil
import socket
import string
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from huggingface_hub import constants as hub_constants
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForCTC,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    Wav2Vec2Model,
    Wav2Vec2Processor,
)
from transformers.utils import logging as transformers_logging

from stream_asr.acoustic import pretrained
from stream_asr.acoustic.catalog import EMBEDDED_FOLDER
from stream_asr.acoustic.moonshine.checkpoint import Network
from stream_asr.acoustic.moonshine import transformers as moonshine_transformers
from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from stream_asr.decoding.ctc import BestPath, decode
from stream_asr.errors import DeviceError, InputError, ModelError
from tests.support.checkpoints import (
    load_runner,
    made_once,
    save_data2vec,
    save_hubert,
    save_letters,
    save_moonshine_ctc,
    save_parakeet,
    save_wav2vec2_bert,
    save_wav2vec2_group,
    save_wav2vec2_layer,
    save_wav2vec2_raw,
    save_wavlm,
)

pytestmark = pytest.mark.usefixtures("one_thread")


class Family(NamedTuple):
    """What holds for a kind of checkpoint.

    Attributes:
        save: make one.
        frame_samples: from one output frame to the next.
        short: frames that an output is short of its window's length. The waveform models take 400 samples for a
            frame of 320, so the last stride of a window makes no frame; neither do the last mel frames of
            Wav2Vec2-BERT, nor the last two strides of Moonshine. Others pad the end of the window themselves.
        centre: the sample, counted from ``k * frame_samples``, in the middle of what frame k is made of.
        pads: windows of different lengths may share a batch.
    """

    save: Callable[[Path], None]
    frame_samples: int
    short: int
    centre: int
    pads: bool


FAMILIES = {
    "wav2vec2 group norm": Family(save_wav2vec2_group, 320, 1, 200, False),
    "wav2vec2 layer norm": Family(save_wav2vec2_layer, 320, 1, 200, True),
    "wav2vec2 raw": Family(save_wav2vec2_raw, 320, 1, 200, True),
    "hubert": Family(save_hubert, 320, 1, 200, True),
    "wavlm": Family(save_wavlm, 320, 1, 200, False),
    # Its positional convolutions carry padding back into the window, whatever the mask says.
    "data2vec": Family(save_data2vec, 320, 1, 200, False),
    # A frame is two mel frames of 400 samples, 160 apart.
    "wav2vec2-bert": Family(save_wav2vec2_bert, 320, 1, 280, True),
    "wav2vec2-bert adapter": Family(partial(save_wav2vec2_bert, adapter=True), 640, 0, 280, False),
    "parakeet": Family(save_parakeet, 1280, 0, 0, True),
    # 895 samples for a frame.
    "moonshine": Family(save_moonshine_ctc, 384, 2, 447, True),
    # 1279, of which neighbours share 511.
    "moonshine joined": Family(partial(save_moonshine_ctc, joined_after=1), 768, 1, 639, True),
}


class Loaded(NamedTuple):
    family: Family
    folder: Path
    model: TransformersCTC

    def windows(self, speech: FloatArray, *frames: int) -> list[FloatArray]:
        """Windows of so many frames, from different places of the recording."""
        samples = [count * self.family.frame_samples for count in frames]
        return [speech[4_000 * place :][:length] for place, length in enumerate(samples, 1)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return made_once(tmp_path_factory, {name: family.save for name, family in FAMILIES.items()})


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest, checkpoint: Callable[[str], Path]) -> Loaded:
    folder = checkpoint(request.param)
    return Loaded(FAMILIES[request.param], folder, load_runner(folder, device="cpu", precision="float32"))


@pytest.fixture(scope="module")
def embedded() -> TransformersCTC:
    return load_runner(device="cpu", precision="float32")


@pytest.fixture
def broken(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A good checkpoint's folder, for a test to spoil."""
    return Path(shutil.copytree(checkpoint("wav2vec2 layer norm"), tmp_path / "broken"))


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def change_weights(folder: Path, keep: Callable[[str], bool]) -> None:
    file = folder / "model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if keep(name)}, file, {"format": "pt"})


def plain_log_probs(folder: Path, window: FloatArray) -> FloatArray:
    """What the documentation of Transformers says to do with a checkpoint."""
    features = AutoFeatureExtractor.from_pretrained(folder)(window, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        logits = AutoModelForCTC.from_pretrained(folder, dtype=torch.float32).eval()(**features).logits
    return logits[0].log_softmax(-1).numpy()


def text(model: TransformersCTC, ids: list[int]) -> str:
    path = BestPath(0, np.array(ids, dtype=np.int32), np.ones(len(ids), dtype=np.float32))
    return decode(path, model.labels, model.frame_samples).text


def assert_normalised(log_probs: FloatArray) -> None:
    assert log_probs.dtype == np.float32
    assert np.isfinite(log_probs).all()
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, rtol=1e-4)


# --- every family -----------------------------------------------------------------------------------------


def test_frames_have_the_length_of_the_strides(loaded: Loaded) -> None:
    assert loaded.model.name == str(loaded.folder)
    assert loaded.model.frame_samples == loaded.family.frame_samples
    assert loaded.model.pads == loaded.family.pads
    assert loaded.model.max_window_samples is None
    assert not loaded.model.batches_commit_windows, "no processor gives the same bits for every batch"


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 25])
def test_a_window_of_any_length_gives_its_frames(loaded: Loaded, speech: FloatArray, frames: int) -> None:
    (window,) = loaded.windows(speech, frames)
    (log_probs,) = loaded.model.log_probs([window])
    assert log_probs.shape == (max(0, frames - loaded.family.short), len(loaded.model.labels.tokens))
    assert_normalised(log_probs)


def test_silence_gives_an_answer_too(loaded: Loaded) -> None:
    for frames in (1, 2, 5):
        (log_probs,) = loaded.model.log_probs([np.zeros(frames * loaded.family.frame_samples, dtype=np.float32)])
        assert_normalised(log_probs)


def test_output_is_that_of_plain_transformers(loaded: Loaded, speech: FloatArray) -> None:
    (window,) = loaded.windows(speech, 24_000 // loaded.family.frame_samples)
    (log_probs,) = loaded.model.log_probs([window])
    expected = plain_log_probs(loaded.folder, window)
    # Parakeet's masked frame at the end is no output.
    assert len(expected) - len(log_probs) in (0, 1)
    np.testing.assert_allclose(log_probs, expected[: len(log_probs)], atol=1e-4)


def test_text_is_that_of_the_tokenizer(loaded: Loaded, speech: FloatArray) -> None:
    tokenizer = AutoTokenizer.from_pretrained(loaded.folder)
    (log_probs,) = loaded.model.log_probs(loaded.windows(speech, 75))
    argmax = log_probs.argmax(axis=1).tolist()
    assert len(set(argmax)) > 2, "a model that says one thing tests nothing"
    spoken = [index for index, piece in enumerate(loaded.model.labels.tokens) if piece] + [loaded.model.labels.blank]
    random = np.random.default_rng(0).choice(spoken, size=300).repeat(2).tolist()
    for ids in (argmax, random, random[1:]):
        # Capitals only say nothing, so captions have them in lower case.
        assert text(loaded.model, ids) == " ".join(tokenizer.decode(ids).lower().split())


def test_special_tokens_spell_nothing(loaded: Loaded) -> None:
    tokenizer = AutoTokenizer.from_pretrained(loaded.folder)
    pieces = loaded.model.labels.tokens
    assert loaded.model.labels.blank == tokenizer.pad_token_id
    for token in (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id):
        assert token is None or pieces[token] == ""
    assert pieces == tuple(piece.lower() for piece in pieces)
    assert any(piece.startswith(" ") for piece in pieces)


@pytest.mark.parametrize("skipped", [0, 3])
def test_frames_lie_on_an_absolute_grid(loaded: Loaded, skipped: int) -> None:
    """Playing a few samples backwards changes the frame made of them, wherever the window begins.

    It leaves the mean and the variance of the window alone, so the others change by what attention passes on.
    """
    stride = loaded.family.frame_samples
    audio = np.random.default_rng(0).normal(scale=0.1, size=40 * stride).astype(np.float32)
    (before,) = loaded.model.log_probs([audio[skipped * stride :]])
    moved = np.zeros(9)
    for frame in range(9, 34, 3):
        start = frame * stride + loaded.family.centre - stride // 8
        changed = audio.copy()
        changed[start : start + stride // 4] = changed[start : start + stride // 4][::-1]
        (after,) = loaded.model.log_probs([changed[skipped * stride :]])
        moved += np.linalg.norm(after - before, axis=1)[frame - skipped - 4 :][:9]
    # The convolutions of Wav2Vec2-BERT look back only, so the frames after it move too.
    assert np.flatnonzero(moved > 0.75 * moved.max())[0] == 4, moved.round(1)


def test_frames_depend_on_what_is_near_them(speech: FloatArray, checkpoint: Callable[[str], Path]) -> None:
    """Without normalisation, two windows see the same audio alike, one row for one row."""
    model = load_runner(checkpoint("wav2vec2 raw"), device="cpu")
    first, second = model.log_probs([speech[: 90 * 320], speech[10 * 320 : 100 * 320]])
    inner, shifted, wrong = first[30:70], second[20:60], second[21:61]
    assert np.abs(inner - shifted).mean() < 0.2 * np.abs(inner - wrong).mean()


def test_a_window_has_the_same_output_in_a_batch(loaded: Loaded, speech: FloatArray) -> None:
    windows = loaded.windows(speech, 30, 30, 30)
    if loaded.model.pads:
        windows += loaded.windows(speech, 1, 7, 20, 43)
    for window, together in zip(windows, loaded.model.log_probs(windows), strict=True):
        (alone,) = loaded.model.log_probs([window])
        assert together.shape == alone.shape
        np.testing.assert_allclose(together, alone, atol=1e-3)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if not family.pads and name != "wavlm"])
def test_padding_would_change_the_output_of_the_others(
    name: str, speech: FloatArray, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Group norm counts the padding into its statistics; convolutions behind the mask carry it back."""
    model = load_runner(checkpoint(name), device="cpu")
    window, longer = (speech[8_000 : 8_000 + frames * model.frame_samples] for frames in (20, 40))
    (alone,) = model.log_probs([window])
    monkeypatch.setattr(model, "masks", True)
    together, _ = model.log_probs([window, longer])
    assert np.abs(together - alone).max() > 0.1


@pytest.mark.parametrize("name", ["wav2vec2 group norm", "wav2vec2 layer norm", "wav2vec2-bert", "parakeet"])
def test_int8_is_close_to_float32(name: str, speech: FloatArray, checkpoint: Callable[[str], Path]) -> None:
    window = speech[8_000 : 8_000 + 64_000]
    whole, eight = (load_runner(checkpoint(name), device="cpu", precision=p) for p in ("float32", "int8"))
    (expected,), (log_probs,) = whole.log_probs([window]), eight.log_probs([window])
    assert_normalised(log_probs)
    assert log_probs.shape == expected.shape
    assert not np.array_equal(log_probs, expected), "nothing was quantised"
    assert np.abs(np.exp(log_probs) - np.exp(expected)).mean() < 0.02


def test_int8_of_a_model_that_cannot_names_float32(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="does not run in int8; use precision float32"):
        load_runner(checkpoint("wavlm"), device="cpu", precision="int8")


def test_the_blank_may_be_known_to_the_tokenizer_only(broken: Path) -> None:
    change(broken / "config.json", pad_token_id=None)
    assert load_runner(broken, device="cpu").labels.blank == 0


def test_letters_in_both_cases_keep_them(broken: Path) -> None:
    change(broken / "vocab.json", X=32, x=28)
    assert load_runner(broken, device="cpu").labels.tokens[5:7] == ("E", "T")


def test_a_checkpoint_saved_with_its_processor_loads(broken: Path) -> None:
    processor = Wav2Vec2Processor.from_pretrained(broken)
    (broken / "preprocessor_config.json").unlink()
    processor.save_pretrained(broken)
    assert not (broken / "preprocessor_config.json").exists()
    assert load_runner(broken, device="cpu").pads


def test_weights_for_training_only_may_be_missing(broken: Path) -> None:
    # They are missing from facebook/wav2vec2-base-960h.
    change_weights(broken, lambda name: not name.endswith("masked_spec_embed"))
    load_runner(broken, device="cpu")


# --- the embedded model -----------------------------------------------------------------------------------


def test_the_embedded_folder_is_an_ordinary_checkpoint(speech: FloatArray, embedded: TransformersCTC) -> None:
    moonshine_transformers.register()
    assert isinstance(AutoConfig.from_pretrained(EMBEDDED_FOLDER), MoonshineCTCConfig)
    model = AutoModelForCTC.from_pretrained(EMBEDDED_FOLDER)
    assert isinstance(model, MoonshineForCTC)
    assert sum(parameter.numel() for parameter in model.parameters()) < 12_000_000
    window = speech[: 60 * 768]
    expected = plain_log_probs(EMBEDDED_FOLDER, window)
    np.testing.assert_allclose(embedded.log_probs([window])[0], expected, atol=1e-2)


def test_the_embedded_folder_is_small() -> None:
    assert sum(file.stat().st_size for file in EMBEDDED_FOLDER.iterdir()) < 20 * 2**20


def test_the_embedded_model_writes_pieces_of_words_in_lower_case(embedded: TransformersCTC) -> None:
    assert embedded.name == "embedded-en"
    assert embedded.labels.blank == 0
    assert not embedded.labels.uppercase
    pieces = embedded.labels.tokens
    assert pieces[0] == ""
    assert len(set(pieces)) == len(pieces) == 481
    assert {" ", "'", *string.ascii_lowercase} <= set(pieces), "it can write every word"
    assert {" the", " of", "ing"} <= set(pieces)


def test_the_embedded_model_recognises_the_recording(speech: FloatArray, embedded: TransformersCTC) -> None:
    (log_probs,) = embedded.log_probs([speech[:48_000]])
    assert len(log_probs) == 61
    assert_normalised(log_probs)
    assert text(embedded, log_probs.argmax(axis=1).tolist()).startswith("good morning")


def test_the_embedded_model_puts_words_where_they_are(speech: FloatArray, embedded: TransformersCTC) -> None:
    def starts(samples: FloatArray) -> dict[str, float]:
        path = BestPath.from_log_probs(embedded.log_probs([samples])[0], 0)
        return {word.word: word.start for word in decode(path, embedded.labels, embedded.frame_samples).words}

    late = starts(np.concatenate([np.zeros(25 * 768, dtype=np.float32), speech[:48_000]]))
    early = starts(speech[:48_000])
    for word in ("good", "morning"):
        assert late[word] - early[word] == pytest.approx(1.2, abs=0.097)


def test_the_embedded_model_takes_scraps_and_a_minute(embedded: TransformersCTC) -> None:
    assert embedded.max_window_samples is None
    for strides, frames in ((1, 0), (3, 2), (1_250, 1_249)):
        (log_probs,) = embedded.log_probs([np.zeros(strides * 768, dtype=np.float32)])
        assert len(log_probs) == frames
        assert_normalised(log_probs)


def test_the_embedded_model_takes_windows_of_all_lengths_together(
    speech: FloatArray, embedded: TransformersCTC
) -> None:
    assert embedded.pads
    windows = [speech[start : start + strides * 768] for start, strides in ((8_000, 50), (24_000, 50), (9_000, 20))]
    for window, together in zip(windows, embedded.log_probs(windows), strict=True):
        np.testing.assert_allclose(together, embedded.log_probs([window])[0], atol=1e-2)


def test_what_holes_of_the_embedded_model_are_filled_with() -> None:
    # It stands in no file, and memory that loading leaves as it was made losses of fine-tuning no numbers.
    assert not pretrained.load_pretrained().model.masked_spec_embed.any()


def test_the_embedded_model_does_without_transformers() -> None:
    """Importing it takes longer than everything else before the first caption."""
    script = (
        "import sys; from stream_asr import Recognizer; Recognizer.from_pretrained().close(); "
        "print(*({'torch', 'transformers', 'huggingface_hub'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["torch"]


def test_without_transformers_the_embedded_model_is_the_same(speech: FloatArray, embedded: TransformersCTC) -> None:
    whole = pretrained.load_pretrained()
    other = TransformersCTC(
        whole.name, whole.model.eval(), whole.feature_extractor, whole.labels, device=torch.device("cpu")
    )
    assert isinstance(embedded.model, Network)
    assert isinstance(other.model, MoonshineForCTC)
    for name in ("name", "labels", "language_model", "frame_samples", "pads", "masks", "min_samples"):
        assert getattr(embedded, name) == getattr(other, name), name
    windows = [speech[: 50 * 768], speech[9_000:][: 20 * 768]]
    for batch in (windows, windows[:1]):
        for ours, theirs in zip(embedded.log_probs(batch), other.log_probs(batch), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_weights_of_the_second_head_that_it_once_had_are_ignored(
    speech: FloatArray, embedded: TransformersCTC, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(EMBEDDED_FOLDER, tmp_path / "older"))
    weights = load_file(folder / "model.safetensors") | {"phone_head.fc1.weight": torch.ones(4, 288)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    change(folder / "config.json", phones=["AA", "K"], phone_width=4)
    model = load_runner(folder, device="cpu", precision="float32")
    assert isinstance(model.model, Network)
    assert model.labels == embedded.labels == pretrained.load_pretrained(folder).labels
    window = speech[: 50 * 768]
    np.testing.assert_array_equal(model.log_probs([window])[0], embedded.log_probs([window])[0])


@pytest.mark.parametrize("spoil", ["weights", "tokenizer", "rate"])
def test_a_spoilt_folder_of_the_embedded_kind_gets_the_usual_errors(spoil: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EMBEDDED_FOLDER, tmp_path / "spoilt"))
    if spoil == "weights":
        change_weights(folder, lambda name: "conv2" not in name)
    elif spoil == "tokenizer":
        (folder / "tokenizer.json").write_text("{")
    else:
        change(folder / "preprocessor_config.json", sampling_rate=8_000)
    with pytest.raises(ModelError, match=r"conv2|tokenizer|8000 Hz"):
        load_runner(folder, device="cpu")


def test_the_embedded_model_in_int8_hears_the_same(speech: FloatArray, embedded: TransformersCTC) -> None:
    window = speech[:48_000]
    expected, log_probs = (
        model.log_probs([window])[0] for model in (embedded, load_runner(device="cpu", precision="int8"))
    )
    assert_normalised(log_probs)
    assert np.abs(np.exp(log_probs) - np.exp(expected)).mean() < 0.005
    assert (log_probs.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9


# --- what can go wrong ------------------------------------------------------------------------------------


def hears_no_hub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cut this process off the network; the names it asks for are collected."""
    asked: list[str] = []

    def refuse(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


@pytest.mark.parametrize("offline", [False, True], ids=["no connection", "offline mode"])
def test_a_name_that_cannot_be_fetched_is_told_at_once(
    offline: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    asked = hears_no_hub(monkeypatch)
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(ModelError) as caught:
        load_runner("stream-asr-tests/no-such-model")
    # huggingface_hub has a question of its own besides ours. It would ask six times over half a minute.
    assert len(asked) <= 2
    message = str(caught.value)
    for words in ("stream-asr-tests/no-such-model", "could not be fetched", "'embedded-en'", "local folder"):
        assert words in message
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize(("status", "cache_only"), [(200, False), (401, False), (404, False), (503, True)])
def test_files_are_fetched_from_a_hub_that_answers(
    status: int, cache_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(*_: object, **__: object) -> None:
        if status != 200:
            raise HfHubHTTPError("no", response=SimpleNamespace(status_code=status, headers={}, request=None))  # type: ignore[arg-type]

    def fetch(_: object, *, local_files_only: bool, **__: object) -> None:
        assert local_files_only == cache_only
        raise OSError("not there")

    monkeypatch.setattr(pretrained, "get_hf_file_metadata", answer)
    monkeypatch.setattr(AutoModelForCTC, "from_pretrained", fetch)
    with pytest.raises(ModelError, match="could not be fetched"):
        load_runner("stream-asr-tests/no-such-model")


@pytest.mark.parametrize("name", ["./no/such", "a/b/c", "~/no-such-folder", "~no-such-user/model", "C:\\models\\en"])
def test_a_path_that_does_not_exist_is_not_looked_for_on_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hears_no_hub(monkeypatch)
    with pytest.raises(ModelError, match=r"there is no folder .* embedded model"):
        load_runner(name)
    assert not asked


def test_a_name_of_any_length_is_only_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    hears_no_hub(monkeypatch)
    with pytest.raises(ModelError, match="could not be fetched"):
        load_runner("a" * 5_000)


def test_a_file_is_no_model(demo_path: Path) -> None:
    with pytest.raises(ModelError, match="is a file; a model is a folder or a hub name"):
        load_runner(demo_path)


def test_a_folder_without_a_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json, .* embedded model"):
        load_runner(tmp_path)


@pytest.mark.parametrize("content", ["{", "", "{}", "[]", '{"model_type": "no-such-type"}'])
def test_a_broken_configuration_is_named(broken: Path, content: str) -> None:
    (broken / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"cannot load the model \(config\.json, model\.safetensors\) of"):
        load_runner(broken)


def test_a_setting_that_no_model_has_is_named(broken: Path) -> None:
    change(broken / "config.json", hidden_size="large")
    with pytest.raises(ModelError, match=r"cannot load the model .* expected int, got str"):
        load_runner(broken)


@pytest.mark.parametrize("size", [0, 100, -100])
def test_weights_cut_off_by_a_failed_copy_are_named(broken: Path, size: int) -> None:
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(ModelError, match="cannot load the model"):
        load_runner(broken)


def test_weights_that_do_not_fit_are_named(broken: Path) -> None:
    change(broken / "config.json", vocab_size=40)
    with pytest.raises(ModelError, match="cannot load the model"):
        load_runner(broken)


def test_a_missing_file_of_weights_is_named(broken: Path) -> None:
    (broken / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no file named model\.safetensors"):
        load_runner(broken)


def test_a_missing_layer_is_named(broken: Path) -> None:
    """Transformers would go on with random numbers."""
    change_weights(broken, lambda name: "layers.1" not in name)
    with pytest.raises(ModelError, match=r"no trained CTC model: wav2vec2\.encoder\.layers\.1\..* missing"):
        load_runner(broken)


@pytest.mark.parametrize("files", [["vocab.json"], ["vocab.json", "tokenizer_config.json"]])
def test_a_missing_tokenizer_is_named(broken: Path, files: list[str]) -> None:
    for file in files:
        (broken / file).unlink()
    with pytest.raises(ModelError, match=r"cannot load the tokenizer \(vocab\.json or tokenizer\.json\) of"):
        load_runner(broken)


def test_a_missing_feature_extractor_is_named(broken: Path) -> None:
    (broken / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"cannot load the feature extractor \(preprocessor_config\.json\) of"):
        load_runner(broken)


def test_a_model_that_is_not_ctc_is_told_apart(tmp_path: Path) -> None:
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=40)
    BertForMaskedLM(config).save_pretrained(tmp_path)
    save_letters(tmp_path)
    with pytest.raises(ModelError, match=r"is not a CTC model; .* embedded model"):
        load_runner(tmp_path)


def test_a_model_without_a_ctc_head_is_told_apart(broken: Path) -> None:
    Wav2Vec2Model.from_pretrained(broken).save_pretrained(broken)
    with pytest.raises(ModelError, match=r"no trained CTC model: lm_head\.bias, lm_head\.weight missing"):
        load_runner(broken)


def test_another_sampling_rate_is_refused(broken: Path) -> None:
    change(broken / "preprocessor_config.json", sampling_rate=8000)
    with pytest.raises(ModelError, match="takes audio at 8000 Hz; 16000 Hz is needed"):
        load_runner(broken)


def test_a_blank_that_is_no_output_is_refused(broken: Path) -> None:
    change(broken / "config.json", pad_token_id=99)
    with pytest.raises(ModelError, match="blank"):
        load_runner(broken)


def test_a_tokenizer_without_letters_is_refused(broken: Path) -> None:
    (broken / "vocab.json").write_text(json.dumps({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4}))
    with pytest.raises(ModelError, match="without letters"):
        load_runner(broken)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"device": "tpu"}, "unknown device 'tpu'; accepted are auto, cpu, cuda, mps"),
        ({"precision": "int4"}, "unknown precision 'int4'; accepted are auto, float32, float16, int8"),
        ({"device": "cpu", "precision": "float16"}, "float16 is slower .* use float32 or int8"),
        ({"threads": 0}, "0 threads; at least 1"),
    ],
)
def test_a_setting_that_is_not_there_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_runner(**settings)


def test_int8_is_for_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(InputError, match="int8 runs on the processor only, not on cuda; use float16"):
        load_runner(device="cuda", precision="int8")


def test_a_device_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="finds no cuda device here; available: cpu"):
        load_runner(device="cuda")


def test_threads_are_those_asked_for() -> None:
    try:
        load_runner(device="cpu", threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_loading_says_nothing(checkpoint: Callable[[str], Path]) -> None:
    """In a process of its own: some hints are given once only, and imports give some as well."""
    script = (
        "import sys; from stream_asr.acoustic.loading import load_model; load_model(); "
        "load_model(precision='int8', device='cpu'); [load_model(folder) for folder in sys.argv[1:]]"
    )
    folders = [str(checkpoint(name)) for name in ("wav2vec2 group norm", "wav2vec2-bert", "wavlm", "parakeet")]
    ran = subprocess.run([sys.executable, "-c", script, *folders], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize("bars", [False, True])
def test_loading_leaves_the_settings_of_transformers_alone(bars: bool, tmp_path: Path) -> None:
    before = transformers_logging.get_verbosity()
    shown = transformers_logging.is_progress_bar_enabled()
    switch = {True: transformers_logging.enable_progress_bar, False: transformers_logging.disable_progress_bar}
    try:
        transformers_logging.set_verbosity_info()
        switch[bars]()
        load_runner(device="cpu")
        assert transformers_logging.get_verbosity() == transformers_logging.INFO
        assert transformers_logging.is_progress_bar_enabled() == bars
    finally:
        transformers_logging.set_verbosity(before)
        switch[shown]()


def test_a_program_that_closes_nothing_ends_quietly() -> None:
    """The engine's thread is gone before the interpreter is: one that has run a model could abort it."""
    program = (
        "import atexit, threading\n"
        "atexit.register(lambda: print([thread.name for thread in threading.enumerate()]))\n"
        "from stream_asr import Recognizer\n"
        "recognizer = Recognizer.from_pretrained()\n"
        "print('stream_asr-engine' in [thread.name for thread in threading.enumerate()])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["True", "['MainThread']"]
    assert not ended.stderr
