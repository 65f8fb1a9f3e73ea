"""Run any Transformers speech seq2seq model, such as Whisper or Moonshine, as a `SecondPassModel`.

Importing this module imports Transformers, which takes seconds.

Sources: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022 (suppressed tokens, and how
the language is detected). Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", 2023 (one pass
over a draft).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSpeechSeq2Seq, DynamicCache, EncoderDecoderCache

from stream_asr.acoustic.base import DecodeOutput, DecodeRequest, Vocabulary
from stream_asr.acoustic.catalog import SECOND_PASS_MODEL, locate
from stream_asr.acoustic.int8 import quantize_linears
from stream_asr.acoustic.options import ModelOptions
from stream_asr.acoustic.pretrained import CheckpointReader, quiet
from stream_asr.acoustic.seq2seq_prompt import Prompt, end_tokens, make_prompt
from stream_asr.acoustic.tokenizer_vocabulary import vocabulary_from_tokenizer
from stream_asr.acoustic.transformers_ctc import FailedPassError, pad_to
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import ModelError

_UNSUPPORTED = {"canary", "cohere_asr", "dia", "pop2piano", "seamless_m4t", "seamless_m4t_v2"}
"""Model types whose decoder needs a prompt of its own, or does not write text."""

_PAD_MULTIPLE = 80
"""Audio is padded to whole multiples of so many samples (5 ms): Moonshine Streaming divides it into such parts."""

_MIN_LENGTHS = (1_600, 3_200, 6_400, 12_800, 25_600)
"""Lengths in samples that are tried, in this order, to find the shortest input that a model accepts."""

_DEFAULT_POSITIONS = 1024
"""Positions of a decoder whose configuration does not limit them; utterances have far fewer tokens."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Output of the encoder, and the attention mask of its input."""

    output: Any
    attention_mask: Tensor | None


class _Hypothesis:
    """A hypothesis that grows.

    Args:
        request: what to decode.
        max_tokens: largest number of tokens that the model can process.
        ends: tokens that end a hypothesis.

    Attributes:
        tokens: the hypothesis so far.
        log_probs: natural logarithm of the probability of each token.
        given: the prefix and the draft, as far as they fit.
    """

    def __init__(self, request: DecodeRequest, max_tokens: int, ends: frozenset[int]) -> None:
        self.tokens: list[int] = []
        self.log_probs: list[float] = []
        self._forced = min(len(request.prefix), max_tokens)
        self._max_tokens = max(self._forced, min(request.max_tokens, max_tokens))
        self.given = (*request.prefix, *request.draft)[: self._max_tokens]
        self._ends = ends
        self._ended = False

    @property
    def complete(self) -> bool:
        return self._ended or len(self.tokens) >= self._max_tokens

    def append(self, best: int, log_prob: float) -> None:
        """Append the best token for the next position, which may end the hypothesis."""
        if best in self._ends:
            self._ended = True
        else:
            self.tokens.append(best)
            self.log_probs.append(log_prob)

    def verify(self, given_log_probs: Sequence[float], best: Sequence[int], best_log_probs: Sequence[float]) -> int:
        """Accept the prefix, the draft as long as it equals the best tokens, and the best token after that.

        Args:
            given_log_probs: of each token of ``given``.
            best: the best token at each position, one more than ``given`` has.
            best_log_probs: of each of these.

        Returns:
            How many tokens of ``given`` are part of the hypothesis.
        """
        accepted = self._forced
        self.tokens += self.given[:accepted]
        self.log_probs += given_log_probs[:accepted]
        while not self.complete:
            self.append(best[accepted], best_log_probs[accepted])
            if self._ended or accepted == len(self.given) or self.tokens[-1] != self.given[accepted]:
                break
            accepted += 1
        return accepted


class Seq2SeqModel:
    """Encodes the audio of whole utterances and decodes it greedily.

    A hypothesis equals that of decoding token by token after the prefix, up to rounding. The logarithms of
    probabilities are those of the model's own distribution, before tokens are suppressed.

    The state of an utterance is the token of its language, or None. Without ``language``, a multilingual Whisper
    detects the language in the first request of an utterance and keeps it.

    Whisper's feature extractor pads all audio to 30 s, so that each request costs as much as 30 s, and cuts off what
    exceeds 30 s.

    Args:
        name: the name or folder that the user gave.
        model: an ``AutoModelForSpeechSeq2Seq``, on ``device``, in evaluation mode.
        feature_extractor: of the checkpoint.
        vocabulary: the tokens.
        device: where the model is.
        dtype: of its inputs.
        prompt: tokens before the text.
        max_batch_size: how many requests share a pass on a GPU, if the model permits it.

    Attributes:
        uses_audio: True.
        batches: whether requests may share a pass. They may if the encoder pads all audio to the same length, as
            Whisper's does: only then, no request changes the output of another one.
        min_samples: length to which shorter audio is padded.
        max_samples: length of the longest audio; None for no limit.
        parallel_requests: how many requests share a pass: 1 on a CPU.

    Raises:
        ModelError: the model does not run.
    """

    uses_audio = True

    def __init__(
        self,
        name: str,
        model: Any,
        feature_extractor: Any,
        vocabulary: Vocabulary,
        *,
        device: torch.device,
        dtype: torch.dtype,
        prompt: Prompt,
        max_batch_size: int = 1,
    ) -> None:
        self.name = name
        self.vocabulary = vocabulary
        self._model = model
        self._encoder = model.get_encoder()
        self._feature_extractor = feature_extractor
        self._device = device
        self._dtype = dtype
        self._prompt = prompt
        self._ends = frozenset(end_tokens(model.generation_config))
        self._suppressed, self._suppressed_first = self._suppress(model.generation_config)
        self._max_positions = _max_positions(model.config)
        arguments = inspect.signature(model.forward).parameters
        self._cache_argument = "cache" if "cache" in arguments else "past_key_values"  # before Transformers 5.24
        self.min_samples = 0
        self.min_samples, frames = self._find_min_samples()
        fixed = self._run(2 * self.min_samples)[0] == frames
        self.batches = fixed and "decoder_position_ids" in arguments
        self.max_samples: int | None = getattr(feature_extractor, "n_samples", None) if fixed else None
        self.parallel_requests = max_batch_size if self.batches and device.type != "cpu" else 1

    def initial_state(self) -> int | None:
        return self._prompt.language

    def decode(self, requests: Sequence[DecodeRequest]) -> list[DecodeOutput]:
        """See `SecondPassModel.decode`."""
        size = self.parallel_requests
        batches = (requests[first : first + size] for first in range(0, len(requests), size))
        return [output for batch in batches for output in self.decode_batch(batch)]

    @torch.inference_mode()
    def decode_batch(self, requests: Sequence[DecodeRequest]) -> list[DecodeOutput]:
        """Decode requests in shared passes: one request, or several if the model ``batches``."""
        encoded = self._encode([_audio(request) for request in requests])
        languages = [request.state for request in requests]
        if self._prompt.detects_language and None in languages:
            detected = self._detect_languages(encoded, len(requests))
            languages = [new if kept is None else kept for kept, new in zip(languages, detected, strict=True)]
        prompts = [self._prompt.tokens(language) for language in languages]
        max_tokens = self._max_positions - len(prompts[0])
        hypotheses = [_Hypothesis(request, max_tokens, self._ends) for request in requests]
        self._complete(hypotheses, prompts, encoded)
        return [
            DecodeOutput(tuple(hypothesis.tokens), tuple(hypothesis.log_probs), language)
            for hypothesis, language in zip(hypotheses, languages, strict=True)
        ]

    def _complete(
        self, hypotheses: Sequence[_Hypothesis], prompts: Sequence[tuple[int, ...]], encoded: _Encoded
    ) -> None:
        """Complete hypotheses, after prompts of the same length."""
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        rows = [
            torch.tensor((*prompt, *hypothesis.given)) for prompt, hypothesis in zip(prompts, hypotheses, strict=True)
        ]
        inputs = pad_sequence(rows, batch_first=True, padding_value=self.vocabulary.end).to(self._device)
        text = len(prompts[0])
        logits = self._logits(inputs, encoded, cache)[:, text - 1 :]
        log_probs = logits.log_softmax(-1)
        given_log_probs = log_probs[:, :-1].gather(2, inputs[:, text:, None])[:, :, 0].tolist()
        logits[:, 0].masked_fill_(self._suppressed_first, -torch.inf)
        verified = zip(hypotheses, given_log_probs, *self._best(logits, log_probs), strict=True)
        used = [text + hypothesis.verify(*scores) for hypothesis, *scores in verified]
        # Rejected tokens leave the cache, or are masked where another hypothesis is longer.
        if max(used) < inputs.shape[1]:
            cache.crop(max(used) - inputs.shape[1])
        positions = torch.tensor(used, device=self._device)[:, None]
        mask = torch.arange(max(used), device=self._device) < positions
        while not all(hypothesis.complete for hypothesis in hypotheses):
            # Complete hypotheses stay in the batch; what follows them is not read.
            last = [hypothesis.tokens[-1] if hypothesis.tokens else self.vocabulary.end for hypothesis in hypotheses]
            options: dict[str, Tensor] = {}
            if len(hypotheses) > 1:
                mask = torch.cat((mask, torch.ones_like(mask[:, :1])), dim=1)
                options = {"decoder_attention_mask": mask.long(), "decoder_position_ids": positions}
            logits = self._logits(torch.tensor(last, device=self._device)[:, None], encoded, cache, **options)
            positions = (positions + 1).clamp(max=self._max_positions - 1)
            best, scores = self._best(logits, logits.log_softmax(-1))
            for hypothesis, [token], [log_prob] in zip(hypotheses, best, scores, strict=True):
                if not hypothesis.complete:
                    hypothesis.append(token, log_prob)

    def _best(self, logits: Tensor, log_probs: Tensor) -> tuple[list[list[int]], list[list[float]]]:
        """Return the best token at each position, without suppressed ones, and its log-probability."""
        best = logits.masked_fill(self._suppressed, -torch.inf).argmax(-1)
        return best.tolist(), log_probs.gather(2, best[:, :, None])[:, :, 0].tolist()

    def _logits(self, inputs: Tensor, encoded: _Encoded, cache: Any, **options: Tensor) -> Tensor:
        """Return float32, shape (requests, positions, tokens)."""
        if encoded.attention_mask is not None:
            options["attention_mask"] = encoded.attention_mask
        output = self._model(
            encoder_outputs=encoded.output,
            decoder_input_ids=inputs,
            use_cache=True,
            **{self._cache_argument: cache},
            **options,
        )
        logits: Tensor = output.logits.float()
        return logits

    def _encode(self, windows: Sequence[FloatArray]) -> _Encoded:
        lengths = [max(self.min_samples, len(window) + -len(window) % _PAD_MULTIPLE) for window in windows]
        padded = [pad_to(window, length) for window, length in zip(windows, lengths, strict=True)]
        with np.errstate(divide="ignore", invalid="ignore"):  # normalization divides by the deviation of silence, zero
            features = self._feature_extractor(padded, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        inputs = {key: tensor.to(self._device) for key, tensor in features.items()}
        for key, tensor in inputs.items():
            if tensor.is_floating_point():
                inputs[key] = tensor.nan_to_num(0.0, 0.0, 0.0).to(self._dtype)
        return _Encoded(self._encoder(**inputs), inputs.get("attention_mask"))

    def _detect_languages(self, encoded: _Encoded, requests: int) -> list[int]:
        """Return the most probable language token of each request."""
        inputs = torch.tensor(requests * [self._prompt.start], device=self._device)
        logits = self._logits(inputs, encoded, EncoderDecoderCache(DynamicCache(), DynamicCache()))[:, -1]
        tokens = torch.tensor(sorted(self._prompt.languages.values()), device=self._device)
        best: list[int] = tokens[logits[:, tokens].argmax(-1)].tolist()
        return best

    def _find_min_samples(self) -> tuple[int, int]:
        """Return the shortest input that the model accepts, and the number of encoder frames for it."""
        cause: Exception | None = None
        for samples in _MIN_LENGTHS:
            try:
                frames, finite = self._run(samples)
            except Exception as error:
                cause = error
                continue
            if frames and finite:
                return samples, frames
        reason = f": {cause}" if cause else ""
        raise FailedPassError(f"{self.name!r} does not run as a {SECOND_PASS_MODEL.noun}{reason}") from cause

    @torch.inference_mode()
    def _run(self, samples: int) -> tuple[int, bool]:
        """Run silence of that length. Returns the number of encoder frames, and whether all outputs are finite."""
        encoded = self._encode([np.zeros(samples, np.float32)])
        inputs = torch.tensor([self._prompt.start], device=self._device)
        logits = self._logits(inputs, encoded, EncoderDecoderCache(DynamicCache(), DynamicCache()))
        return encoded.output[0].shape[1], bool(logits.isfinite().all())

    def _suppress(self, generation_config: Any) -> tuple[Tensor, Tensor]:
        """Return masks, bool, shape (tokens,): which tokens are never emitted, and which not as the first one."""
        outputs = len(self.vocabulary.pieces)
        never = torch.tensor([not piece for piece in self.vocabulary.pieces])
        never[list(self._ends)] = False
        first = torch.zeros(outputs, dtype=torch.bool)
        for mask, key in ((never, "suppress_tokens"), (first, "begin_suppress_tokens")):
            tokens = getattr(generation_config, key, None) or ()
            mask[[token for token in tokens if 0 <= token < outputs]] = True
        return never.to(self._device), first.to(self._device)


def load_second_pass(name: str | Path, *, options: ModelOptions, language: str | None = None) -> Seq2SeqModel:
    """Load a speech seq2seq model and run it once.

    Args:
        name: a hub name or a folder.
        options: how to run it. ``backend`` and ``cuda_graphs`` do not apply.
        language: language to write, as a code ("en") or an English name; None detects it for each utterance, if the
            model has several languages.

    Raises:
        ModelError: not found, not fetched, not a speech seq2seq model, or without what decoding needs.
        InputError: the model does not have the language, or has no languages to choose from.
    """
    location = locate(name, SECOND_PASS_MODEL)
    with quiet():
        reader = CheckpointReader(location, SECOND_PASS_MODEL, options.config.hub_timeout_s)
        config = reader.read_config()
        if not config.is_encoder_decoder or config.model_type in _UNSUPPORTED:
            raise ModelError(
                f"{location.name!r} is of type {config.model_type}, which is not supported; use a model such as "
                f"{SECOND_PASS_MODEL.example!r} or 'openai/whisper-tiny'"
            )
        model = reader.read_model(AutoModelForSpeechSeq2Seq, config, options.dtype)
        feature_extractor, tokenizer = reader.read_feature_extractor(), reader.read_tokenizer()
    prompt = make_prompt(location.name, model, tokenizer, language)
    outputs = config.get_text_config(decoder=True).vocab_size
    vocabulary = vocabulary_from_tokenizer(location.name, tokenizer, outputs, end_tokens(model.generation_config)[0])
    quantized = options.precision == "int8"
    try:
        if quantized:
            quantize_linears(model)
        return Seq2SeqModel(
            location.name,
            model.to(options.device).eval(),
            feature_extractor,
            vocabulary,
            device=options.device,
            dtype=options.dtype,
            prompt=prompt,
            max_batch_size=options.config.max_second_pass_batch,
        )
    except (FailedPassError, RuntimeError) as error:
        if not quantized:
            raise
        raise ModelError(f"{location.name!r} does not run in int8; use precision float32") from error


def _audio(request: DecodeRequest) -> FloatArray:
    if request.samples is None:
        raise ValueError("this model needs the samples of the utterance")
    return request.samples


def _max_positions(config: Any) -> int:
    """Return the number of positions of the decoder, those of the prompt included."""
    decoder = config.get_text_config(decoder=True)
    limits = (getattr(decoder, key, None) for key in ("max_target_positions", "max_position_embeddings"))
    return next((limit for limit in limits if isinstance(limit, int)), _DEFAULT_POSITIONS)
