"""Models that hear phones besides what they write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import PHONES, save_moonshine_phones

from stream_asr import PhoneticConfig, Recognizer, RecognizerConfig
from stream_asr.acoustic import standalone
from stream_asr.acoustic.base import Piece
from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.moonshine import Encoded
from stream_asr.acoustic.moonshine_memory import MoonshineMemory, go_on
from stream_asr.acoustic.pretrained import load_pretrained
from stream_asr.acoustic.remembering import RememberingMoonshine
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.arrays import FloatArray
from stream_asr.events import Final, Partial

pytestmark = pytest.mark.usefixtures("one_thread")

FRAME = 768


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("checkpoint")
    save_moonshine_phones(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> TransformersCTC:
    return load_model(folder, device="cpu", precision="float32")


def test_each_kinds_probabilities_add_up_to_one(model: TransformersCTC, speech: FloatArray) -> None:
    written = len(model.labels.pieces)
    assert model.labels.phones == PHONES
    [window] = model.log_probs([speech[: 80 * FRAME]])
    [piece] = RememberingMoonshine(model, cores=1).go_on(
        [Piece(speech[: 80 * FRAME], 80 * FRAME, MoonshineMemory(reach=100))]
    )
    for log_probs in (window, piece.log_probs):
        assert log_probs.shape == (model.frames(80 * FRAME), written + 2 * (1 + len(PHONES)))
        for kind in np.split(log_probs, [written, written + 1 + len(PHONES)], axis=1):
            np.testing.assert_allclose(np.exp(kind).sum(axis=1), 1, rtol=1e-4)


@torch.inference_mode()
def test_both_ways_of_loading_give_the_same(folder: Path, speech: FloatArray) -> None:
    alone = standalone.load(folder, "alone", torch.float32)
    whole = load_pretrained(folder)
    assert alone is not None
    assert alone.labels == whole.labels
    networks = [alone.model.eval(), whole.model.eval()]
    batch = torch.from_numpy(speech[: 80 * FRAME]).reshape(2, -1)
    mask = torch.ones(batch.shape, dtype=torch.int64)
    mask[1, 20 * FRAME :] = 0
    one, other = (network(batch, mask).logits for network in networks)
    torch.testing.assert_close(one, other)
    assert one.shape[-1] == len(alone.labels.pieces) + 2 * (1 + len(PHONES))
    memories = 2 * [MoonshineMemory(reach=40)]
    for start in range(0, 60 * FRAME, 10 * FRAME):
        made: list[torch.Tensor] = []
        for place, network in enumerate(networks):
            heard, memories[place] = go_on(
                network.encoder, batch.flatten()[start:][: 16 * FRAME], 10 * FRAME, memories[place]
            )
            made.append(network.logits(heard))
        torch.testing.assert_close(*made)
        assert made[0].shape[-1] == one.shape[-1]


@torch.inference_mode()
def test_phones_are_told_from_each_pair_by_itself(model: TransformersCTC) -> None:
    encoder, written = model.model.encoder, len(model.labels.pieces)
    states = torch.randn(1, 20, 64, generator=torch.Generator().manual_seed(0))
    changed = states.clone()
    changed[:, 7] += 1
    one, other = (model.model.logits(encoder.upper(each))[0, :, written:] for each in (states, changed))
    assert (one != other).any(dim=-1).nonzero().flatten().tolist() == [3]
    heard = encoder.upper(states)
    elsewhere = Encoded(torch.zeros_like(heard.frames), heard.pairs)
    assert torch.equal(model.model.logits(elsewhere)[0, :, written:], one), "what is written does not matter"


@pytest.mark.parametrize("streamed", [False, True])
def test_phones_do_not_change_what_is_written(
    folder: Path, tmp_path: Path, model: TransformersCTC, speech: FloatArray, streamed: bool
) -> None:
    pretrained = load_pretrained(folder).without_phones()
    for part in (pretrained.model, pretrained.feature_extractor, pretrained.tokenizer):
        part.save_pretrained(tmp_path / "deaf")
    [log_probs] = model.log_probs([speech[: 100 * FRAME]])
    assert (log_probs.argmax(axis=1) >= len(model.labels.pieces)).any(), "phones are likelier than letters"
    texts = []
    for path in (folder, tmp_path / "deaf"):
        with Recognizer.from_pretrained(path, device="cpu", precision="float32", lm=None) as recognizer:
            if streamed:
                with recognizer.stream() as stream:
                    stream.feed(speech[:96_000])
                    stream.finish()
                    texts.append([event.text for event in stream if isinstance(event, Final)])
            else:
                texts.append([recognizer.transcribe(speech[:96_000]).text])
    assert texts[0] == texts[1]
    assert any(texts[0])


def test_the_embedded_model_finds_words_by_their_sounds(
    recognizer: Recognizer, speech: FloatArray, demo_path: Path
) -> None:
    config = RecognizerConfig(phonetic=PhoneticConfig())
    with Recognizer(recognizer.model, config, lm=recognizer.lm) as by_sound:
        transcript = by_sound.transcribe(demo_path)
        rng, at = np.random.default_rng(3), 0
        with by_sound.stream() as stream:
            while at < len(speech):
                length = int(rng.integers(1, 6_000))
                stream.feed(speech[at : at + length])
                at += length
                stream.drain()
            stream.finish()
            events = list(stream)
    assert [event.text for event in events if isinstance(event, Final)] == [
        final.text for final in transcript.utterances
    ]
    stable: dict[int, str] = {}
    for event in events:
        if isinstance(event, Partial | Final):
            shown = event.stable if isinstance(event, Partial) else event.text
            before = stable.get(event.utterance)
            assert f"{shown} ".startswith(f"{before} " if before else "")
            stable[event.utterance] = shown
    assert any(isinstance(event, Partial) and event.stable for event in events)
    assert "this is a small demonstration of live captions every word you hear is" in transcript.text
