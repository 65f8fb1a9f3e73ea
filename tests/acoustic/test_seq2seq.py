"""Transformers' speech seq2seq models as second pass."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoFeatureExtractor,
    AutoModelForSpeechSeq2Seq,
    BartConfig,
    BartForConditionalGeneration,
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    Wav2Vec2FeatureExtractor,
)

from stream_asr.acoustic import pretrained
from stream_asr.acoustic.base import DecodeOutput, DecodeRequest, SecondPassModel, Vocabulary
from stream_asr.acoustic.catalog import EMBEDDED_FOLDER
from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.moonshine.checkpoint import read_checkpoint
from stream_asr.acoustic.moonshine.decoder_checkpoint import as_parameter, read_decoder
from stream_asr.acoustic.options import check_options
from stream_asr.acoustic.seq2seq import Seq2SeqModel, load_second_pass
from stream_asr.acoustic.seq2seq_prompt import Prompt
from stream_asr.array_types import FloatArray
from stream_asr.errors import InputError, ModelError
from tests.support.checkpoints import cached_checkpoints, filter_weights, update_json
from tests.support.seq2seq import FAMILIES, LANGUAGES, WHISPER_CHUNK_S

MAX_TOKENS = 16


@pytest.fixture(scope="module")
def seq2seq(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """From the name of a family to the folder of a checkpoint, which must not be changed."""
    return cached_checkpoints(tmp_path_factory, FAMILIES)


@pytest.fixture
def copied(seq2seq: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """From the name of a family to the folder of a checkpoint, for a test to change."""
    return lambda family: Path(shutil.copytree(seq2seq(family), tmp_path / "copied"))


def load(folder: str | Path, language: str | None = None, precision: str = "float32") -> Seq2SeqModel:
    return load_second_pass(folder, options=check_options("cpu", precision, "auto", False), language=language)


def noise(seed: int, samples: int = 24_000) -> FloatArray:
    return np.random.default_rng(seed).normal(scale=0.1, size=samples).astype(np.float32)


def request(
    samples: FloatArray,
    prefix: tuple[int, ...] = (),
    draft: tuple[int, ...] = (),
    max_tokens: int = MAX_TOKENS,
    state: int | None = None,
) -> DecodeRequest:
    return DecodeRequest(None, 0, samples, state, prefix, draft, max_tokens)


def decode(model: Seq2SeqModel, *arguments: Any, **options: Any) -> DecodeOutput:
    [output] = model.decode([request(*arguments, **{"state": model.initial_state(), **options})])
    return output


def token_ids(folder: Path) -> dict[str, int]:
    """Return the index of each token of a byte-level tokenizer."""
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    added: dict[str, int] = {token["content"]: token["id"] for token in content["added_tokens"]}
    return {**content["model"]["vocab"], **added}


def prompt_of(folder: Path, family: str) -> tuple[int, ...]:
    if family.startswith("whisper"):
        language = ["<|de|>", "<|transcribe|>"] if family == "whisper" else []
        return tuple(token_ids(folder)[token] for token in ["<|startoftranscript|>", *language, "<|notimestamps|>"])
    return {"moonshine": (1,), "speech2text": (2,)}.get(family) or (token_ids(folder)["</s>"],)


@torch.inference_mode()
def step_by_step(
    folder: Path, vocabulary: Vocabulary, prompt: tuple[int, ...], samples: FloatArray, prefix: tuple[int, ...] = ()
) -> tuple[list[int], list[float]]:
    """Decode greedily in the slowest way: all tokens again for each token."""
    network = AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval()
    features = AutoFeatureExtractor.from_pretrained(folder)(samples, sampling_rate=16_000, return_tensors="pt")
    generation = network.generation_config
    special = [index for index, piece in enumerate(vocabulary.pieces) if not piece]
    never = {*special, *(generation.suppress_tokens or [])} - {generation.eos_token_id}
    tokens = list(prompt)
    log_probs: list[float] = []
    while len(log_probs) < MAX_TOKENS:
        logits = network(**features, decoder_input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
        scores = logits.log_softmax(-1)
        if len(log_probs) < len(prefix):
            best = prefix[len(log_probs)]
        else:
            logits[list(never)] = -torch.inf
            if not log_probs:
                logits[generation.begin_suppress_tokens or []] = -torch.inf
            best = int(logits.argmax())
            if best == generation.eos_token_id:
                break
        tokens.append(best)
        log_probs.append(float(scores[best]))
    return tokens[len(prompt) :], log_probs


# --- decoding ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_output_equals_greedy_decoding_step_by_step(family: str, seq2seq: Callable[[str], Path]) -> None:
    folder = seq2seq(family)
    model: SecondPassModel = load(folder, "de" if family == "whisper" else None)
    assert model.uses_audio
    assert model.parallel_requests == 1
    prompt = prompt_of(folder, family)
    for seed, prefix in ((1, ()), (2, (70, 80, 80))):
        expected, log_probs = step_by_step(folder, model.vocabulary, prompt, noise(seed), prefix)
        [output] = model.decode([request(noise(seed), prefix, state=model.initial_state())])
        assert list(output.tokens) == expected
        assert output.log_probs == pytest.approx(log_probs, abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_draft_does_not_change_the_output(family: str, seq2seq: Callable[[str], Path]) -> None:
    model = load(seq2seq(family))
    prefix = (70, 80)
    expected = decode(model, noise(3), prefix)
    rest = expected.tokens[2:]
    drafts = [rest, rest[:5], (*rest[:5], 75, *rest[6:]), (75,), (*rest, 75, 75), 60 * (75,), rest[1:]]
    for draft in drafts:
        output = decode(model, noise(3), prefix, draft)
        assert output.tokens == expected.tokens
        assert output.log_probs == pytest.approx(expected.log_probs, abs=1e-3)


def test_requests_in_a_shared_pass_get_the_output_of_single_requests(seq2seq: Callable[[str], Path]) -> None:
    model = load(seq2seq("whisper"))
    assert model.batches
    whole = decode(model, noise(1), max_tokens=30).tokens
    requests = [
        request(noise(1), max_tokens=30),
        request(noise(2, 40_000), (70, 80), (90, 91, 92)),
        request(noise(1), (), whole[:9], max_tokens=12),
        request(noise(3), (*range(70, 80),), max_tokens=10),
        request(noise(4, 5_000), (77,), 30 * (88,), max_tokens=99),
        request(noise(5), max_tokens=0),
    ]
    together = model.decode_batch(requests)
    for output, single in zip(together, model.decode(requests), strict=True):
        assert output.tokens == single.tokens
        assert output.state == single.state
        assert output.log_probs == pytest.approx(single.log_probs, abs=1e-3)
    assert model.decode([]) == []


@pytest.mark.parametrize("family", ["moonshine", "speech2text", "speech-encoder-decoder"])
def test_models_whose_encoder_does_not_pad_run_one_request_per_pass(
    family: str, seq2seq: Callable[[str], Path]
) -> None:
    model = load(seq2seq(family))
    assert not model.batches
    assert model.max_samples is None


@pytest.mark.parametrize("family", ["whisper", "whisper.en", "moonshine"])
def test_output_equals_that_of_generate(family: str, seq2seq: Callable[[str], Path]) -> None:
    network = AutoModelForSpeechSeq2Seq.from_pretrained(seq2seq(family)).eval()
    extract = AutoFeatureExtractor.from_pretrained(seq2seq(family))
    features = extract(noise(5), sampling_rate=16_000, return_tensors="pt")
    options: dict[str, Any] = {"language": "fr", "task": "transcribe"} if family == "whisper" else {}
    if family == "moonshine":  # generate() may emit special tokens
        options["suppress_tokens"] = [0, 1]
    generated = network.generate(**features, **options, max_new_tokens=MAX_TOKENS, do_sample=False)[0].tolist()
    model = load(seq2seq(family), "fr" if family == "whisper" else None)
    text = [token for token in generated if model.vocabulary.pieces[token]]
    assert list(decode(model, noise(5)).tokens) == text


def test_suppressed_tokens_are_never_emitted(copied: Callable[[str], Path]) -> None:
    folder = copied("whisper")
    before = set(decode(load(folder), noise(6)).tokens)
    update_json(folder / "generation_config.json", suppress_tokens=sorted(before), begin_suppress_tokens=[])
    output = decode(load(folder), noise(6))
    assert output.tokens
    assert not before & set(output.tokens)


def test_token_that_may_not_begin_a_text_may_follow(copied: Callable[[str], Path]) -> None:
    folder = copied("whisper")
    first = decode(load(folder), noise(6)).tokens[0]
    update_json(folder / "generation_config.json", begin_suppress_tokens=[first])
    model = load(folder)
    assert decode(model, noise(6)).tokens[0] != first
    assert decode(model, noise(6), (first,)).tokens[0] == first


@pytest.mark.parametrize("draft", [(), 30 * (70,)])
def test_hypothesis_ends_at_the_end_token(draft: tuple[int, ...], copied: Callable[[str], Path]) -> None:
    folder = copied("moonshine")
    before = decode(load(folder), noise(7)).tokens
    end = next(token for token in before if token != before[0])
    at = before.index(end)
    update_json(folder / "generation_config.json", eos_token_id=[2, end])
    model = load(folder)
    assert model.vocabulary.end == 2
    assert decode(model, noise(7), (), before[:at] + draft).tokens == before[:at]


def test_number_of_tokens_is_limited(seq2seq: Callable[[str], Path]) -> None:
    model = load(seq2seq("whisper"), "en")
    prefix = (70, 80, 90)
    assert len(decode(model, noise(8), prefix, max_tokens=5).tokens) == 5
    assert decode(model, noise(8), prefix, max_tokens=3).tokens == prefix
    # The prefix is kept even where it is longer. The positions of the decoder, 48, hold the prompt of four as well.
    assert decode(model, noise(8), prefix, max_tokens=1).tokens == prefix
    assert len(decode(model, noise(8), prefix, 60 * (70,), max_tokens=1000).tokens) == 44


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("samples", [0, 1, 777])
def test_short_audio_is_padded(family: str, samples: int, seq2seq: Callable[[str], Path]) -> None:
    model = load(seq2seq(family))
    assert model.min_samples <= 6_400
    output = decode(model, np.zeros(samples, np.float32))
    assert np.isfinite(output.log_probs).all()
    assert len(output.tokens) == len(output.log_probs)


def test_length_of_audio_is_limited_for_models_that_pad_it(seq2seq: Callable[[str], Path]) -> None:
    model = load(seq2seq("whisper"))
    assert model.max_samples == 16_000 * WHISPER_CHUNK_S
    audio = noise(1, 5 * 16_000)
    assert decode(model, audio).tokens == decode(model, audio[: model.max_samples]).tokens


def test_request_without_audio_is_an_error(seq2seq: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match="samples"):
        load(seq2seq("moonshine")).decode([DecodeRequest(None, 0, None, None, (), (), 9)])


@pytest.mark.parametrize("family", ["whisper", "moonshine"])
def test_int8_gives_similar_probabilities(family: str, seq2seq: Callable[[str], Path]) -> None:
    exact, quantized = (decode(load(seq2seq(family), None, precision), noise(9)) for precision in ("float32", "int8"))
    forced = decode(load(seq2seq(family), None, "int8"), noise(9), exact.tokens)
    assert np.mean(np.abs(np.subtract(forced.log_probs, exact.log_probs))) < 0.3
    assert np.isfinite(quantized.log_probs).all()


# --- real weights ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moonshine() -> Seq2SeqModel:
    """Moonshine tiny in Transformers' own class, with the weights of the bundled model."""
    checkpoint = read_decoder(EMBEDDED_FOLDER, "embedded-en")
    encoder = read_checkpoint(EMBEDDED_FOLDER, "embedded-en", torch.float32)
    assert checkpoint is not None
    assert encoder is not None
    decoder = {name: torch.from_numpy(as_parameter(weight)) for name, weight in checkpoint.weights.items()}
    weights = {f"model.encoder.{name}": weight for name, weight in encoder.model.encoder.state_dict().items()}
    weights["model.encoder.layer_norm.weight"] = decoder.pop("encoder_norm.weight")
    weights |= {f"model.decoder.{name}": weight for name, weight in decoder.items()}
    weights["proj_out.weight"] = decoder["embed_tokens.weight"]
    network = MoonshineForConditionalGeneration(MoonshineConfig(pad_token_id=2)).eval()
    network.load_state_dict({name: weights[name] for name in network.state_dict()})  # not the layers of the CTC model
    return Seq2SeqModel(
        "moonshine",
        network,
        Wav2Vec2FeatureExtractor(do_normalize=False),
        checkpoint.vocabulary,
        device=torch.device("cpu"),
        dtype=torch.float32,
        prompt=Prompt((checkpoint.begin,), {}, None, ()),
    )


def test_moonshine_recognizes_speech_that_grows(moonshine: Seq2SeqModel, speech: FloatArray) -> None:
    early = decode(moonshine, speech[: 5 * 16_000], max_tokens=100)
    assert moonshine.vocabulary.text(early.tokens).startswith(" Good morning and welcome to the show.")
    prefix, draft = early.tokens[:5], early.tokens[5:]
    late = decode(moonshine, speech[: 9 * 16_000], prefix, draft, max_tokens=100)
    assert late.tokens == decode(moonshine, speech[: 9 * 16_000], prefix, max_tokens=100).tokens
    text = moonshine.vocabulary.text(late.tokens)
    assert "This is a small demonstration of live captions." in text
    assert np.mean(late.log_probs) > -0.5


# --- languages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["de", "DE", "german", " German ", "<|de|>"])
def test_language_is_given_as_code_or_name(language: str, seq2seq: Callable[[str], Path]) -> None:
    ids = token_ids(seq2seq("whisper"))
    model = load(seq2seq("whisper"), language)
    assert model.initial_state() == ids["<|de|>"]
    assert decode(model, noise(1)).state == ids["<|de|>"]


@pytest.mark.parametrize("language", ["it", "klingon", ""])
def test_unknown_language_is_refused(language: str, seq2seq: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=f"unknown language '{language}'; .* accepts de, en, fr"):
        load(seq2seq("whisper"), language)


@pytest.mark.parametrize("family", ["whisper.en", "moonshine"])
def test_language_is_refused_by_models_without_languages(family: str, seq2seq: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="has no languages to choose from; leave out the language 'en'"):
        load(seq2seq(family), "en")


def test_language_is_detected_once_for_each_utterance(seq2seq: Callable[[str], Path]) -> None:
    model = load(seq2seq("whisper"))
    assert model.initial_state() is None
    network = AutoModelForSpeechSeq2Seq.from_pretrained(seq2seq("whisper")).eval()
    extract = AutoFeatureExtractor.from_pretrained(seq2seq("whisper"))
    features = extract(noise(1), sampling_rate=16_000, return_tensors="pt").input_features
    first = decode(model, noise(1))
    assert first.state == network.detect_language(features).item()
    for language in LANGUAGES:
        state = token_ids(seq2seq("whisper"))[f"<|{language}|>"]
        assert decode(model, noise(1), state=state).state == state
    assert decode(model, noise(1), state=first.state).tokens == first.tokens


def test_language_of_a_fine_tuned_checkpoint_is_the_default(copied: Callable[[str], Path]) -> None:
    folder = copied("whisper")
    update_json(folder / "generation_config.json", language="french", task="transcribe")
    ids = token_ids(folder)
    assert load(folder).initial_state() == ids["<|fr|>"]
    assert load(folder, "en").initial_state() == ids["<|en|>"]


def test_languages_of_old_checkpoints_are_found_in_the_vocabulary(
    copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("whisper")
    config = json.loads((folder / "generation_config.json").read_text())
    del config["lang_to_id"], config["task_to_id"]
    (folder / "generation_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="no languages"):
        load(folder, "fr")
    monkeypatch.setattr("stream_asr.acoustic.seq2seq_prompt._WHISPER_MULTILINGUAL_TOKENS", 100)
    assert load(folder, "fr").initial_state() == token_ids(folder)["<|fr|>"]


# --- errors ------------------------------------------------------------------------------------------------


def test_ctc_model_is_refused(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match=r"is a CTC model; give it as --model instead of --second-pass$"):
        load(checkpoint("wav2vec2 layer norm"))
    with pytest.raises(ModelError, match=r"'embedded-en' is a CTC model"):
        load("embedded-en")


@pytest.mark.parametrize("family", FAMILIES)
def test_seq2seq_model_is_refused_as_ctc_model(family: str, seq2seq: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match=r"is a speech seq2seq model; give it as --second-pass instead of --model$"):
        load_model(seq2seq(family))


def test_text_model_is_refused(tmp_path: Path) -> None:
    config = BartConfig(d_model=16, encoder_layers=1, decoder_layers=1, vocab_size=10)
    BartForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"is not a speech seq2seq model; 'none' .* or e\.g\. 'UsefulSensors/"):
        load(tmp_path)


@pytest.mark.parametrize("model_type", ["seamless_m4t", "pop2piano", "kyutai_speech_to_text"])
def test_unsupported_type_is_refused_before_its_weights_are_read(model_type: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(ModelError, match=rf"is of type {model_type}, which is not supported; use a model such as"):
        load(tmp_path)


def test_other_sampling_rate_is_refused(copied: Callable[[str], Path]) -> None:
    folder = copied("moonshine")
    update_json(folder / "preprocessor_config.json", sampling_rate=8000)
    with pytest.raises(ModelError, match="expects audio at 8000 Hz; 16000 Hz is required"):
        load(folder)


def test_missing_layer_is_reported(copied: Callable[[str], Path]) -> None:
    folder = copied("moonshine")
    filter_weights(folder, lambda name: "decoder.layers.1" not in name)
    with pytest.raises(
        ModelError, match=r"not a trained speech seq2seq model: its weights lack model\.decoder\.layers"
    ):
        load(folder)


def test_checkpoint_without_end_token_is_refused(copied: Callable[[str], Path]) -> None:
    folder = copied("moonshine")
    update_json(folder / "generation_config.json", eos_token_id=None)
    update_json(folder / "config.json", eos_token_id=None)
    with pytest.raises(ModelError, match="does not say which tokens start and end a text"):
        load(folder)


@pytest.fixture
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(pretrained, "get_hf_file_metadata", refuse)


@pytest.mark.usefixtures("_no_hub")
def test_model_that_cannot_be_fetched_is_reported() -> None:
    with pytest.raises(ModelError, match=r"could not be fetched .* 'none' switches the second pass off"):
        load("stream-asr-tests/no-such-model")


def test_missing_folder_is_reported() -> None:
    with pytest.raises(ModelError, match=r"there is no folder '\./no/such'; 'none' switches"):
        load("./no/such")


def test_model_that_does_not_run_is_reported(copied: Callable[[str], Path]) -> None:
    folder = copied("whisper")
    update_json(folder / "preprocessor_config.json", feature_size=64)
    with pytest.raises(ModelError, match="does not run as a speech seq2seq model: "):
        load(folder)
