"""A Moonshine model in training with its attention decoder: the joint loss of both passes, and transcription.

Source: Watanabe et al., "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition", 2017 (the loss);
Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016 (label smoothing).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stream_asr.acoustic.base import DecodeRequest
from stream_asr.acoustic.moonshine.decoder import empty_past, forward_step, padding_mask
from stream_asr.acoustic.moonshine.decoder_checkpoint import DecoderCheckpoint, float_weights, load_decoder
from stream_asr.acoustic.moonshine.decoder_torch import TorchDecoder
from stream_asr.acoustic.moonshine.second_pass import MoonshineSecondPass
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.config import SAMPLE_RATE, SecondPassConfig
from stream_asr.decoding.token_encoding import TokenEncoder
from stream_asr.training.augmentation import SpecAugment
from stream_asr.training.scoring import plain_text
from stream_asr.training.settings import CTC_WEIGHT, LABEL_SMOOTHING
from stream_asr.training.trainable_ctc import Batch, MicroBatch, TrainableCTC


class TwoPassModule(nn.Module):
    """The parameters of both passes.

    Attributes:
        ctc: the CTC model.
        decoder: the attention decoder.
    """

    def __init__(self, ctc: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.ctc = ctc
        self.decoder = decoder


class TrainableTwoPass(TrainableCTC):
    """See `TrainableCTC`. Targets need tokens for the attention decoder; see `encode`.

    The embedding of the decoder, which is also its output layer, is not trained: a few hours of speech contain few of
    its tokens, and would only move the others.

    Args:
        runner: the model as the recognizer runs it, with Moonshine's encoder.
        spec_augment: masking of the features.
        checkpoint: the attention decoder.
    """

    def __init__(self, runner: TransformersCTC, spec_augment: SpecAugment, checkpoint: DecoderCheckpoint) -> None:
        super().__init__(runner, spec_augment)
        encoder: Any = runner.model.encoder
        self.shared_layers = encoder.joined_after or len(encoder.layers)
        self._checkpoint = checkpoint
        self._decoder = load_decoder(checkpoint).to(runner.device)
        self._decoder.embed_tokens.requires_grad_(False)
        self._tokens = TokenEncoder(checkpoint.vocabulary)
        self.module = TwoPassModule(self.model, self._decoder)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokens that the decoder is trained to write for a text, without begin and end.

        Raises:
            UnknownCharacterError: the decoder cannot write a character.
        """
        return self._tokens.encode(f" {text}")

    def loss(self, batch: Batch) -> Tensor:
        """Return the weighted sum of the CTC loss and of the cross-entropy of the attention decoder.

        Both are means over tokens, in nats. The decoder is given the tokens before each token.
        """
        with self._recorded_states() as states:
            ctc = super().loss(batch)
        total, tokens = torch.zeros((), device=ctc.device), 0
        for micro_batch, encoded in zip(batch.micro_batches, states, strict=True):
            total = total + self._cross_entropy(micro_batch, encoded)
            tokens += sum(len(target.tokens) + 1 for target in micro_batch.targets)
        return CTC_WEIGHT * ctc + (1 - CTC_WEIGHT) * total / tokens

    def transcribe(self, batch: Batch) -> list[str]:
        """Return the text of the second pass for each clip without case and punctuation, decoded in one pass."""
        return [plain_text(text) for text in self.write(batch)]

    @torch.no_grad()
    def write(self, batch: Batch) -> list[str]:
        """Return the text of the second pass for each clip, decoded in one pass."""
        # The recognizer's decoder is made for inference and cannot be trained.
        runner = TorchDecoder(deepcopy(self._decoder), self._runner.device)
        vocabulary, limits = self._checkpoint.vocabulary, SecondPassConfig()
        model = MoonshineSecondPass("", vocabulary, self._checkpoint.begin, runner, None)
        texts = []
        with self._recorded_states() as states:
            for micro_batch in batch.micro_batches:
                self._log_probs(micro_batch)
                requests = []
                for encoded, samples, frames in zip(
                    states.pop().float().cpu().numpy(), _lengths(micro_batch), self._frames(micro_batch), strict=True
                ):
                    max_tokens = limits.extra_tokens + int(limits.max_tokens_per_s * samples / SAMPLE_RATE)
                    states_of_clip, start = encoded[:frames], model.initial_state()
                    requests.append(DecodeRequest(states_of_clip, frames, None, start, (), (), max_tokens))
                texts += [vocabulary.text(output.tokens).strip() for output in model.decode(requests)]
        return texts

    def decoder_checkpoint(self) -> DecoderCheckpoint:
        """Return the decoder with its current weights: in float16, and as they were stored if they are not trained."""
        trained = {name for name, weight in self._decoder.named_parameters() if weight.requires_grad}
        weights = {name: weight for name, weight in float_weights(self._decoder).items() if name in trained}
        return replace(self._checkpoint, weights={**self._checkpoint.weights, **weights})

    @contextmanager
    def _recorded_states(self) -> Iterator[list[Tensor]]:
        """Collect the encoder states of all passes through the model, float, shape (clips, frames, width) each."""
        states: list[Tensor] = []
        encoder: Any = self._runner.model.encoder
        last = encoder.layers[self.shared_layers - 1]
        handle = last.register_forward_hook(lambda _, __, output: states.append(output[0]))
        try:
            yield states
        finally:
            handle.remove()

    def _frames(self, micro_batch: MicroBatch) -> list[int]:
        encoder: Any = self._runner.model.encoder
        return [encoder.feature_frames(samples) for samples in _lengths(micro_batch)]

    def _cross_entropy(self, micro_batch: MicroBatch, encoded: Tensor) -> Tensor:
        """Return the smoothed cross-entropy in nats, summed over all tokens."""
        decoder, device = self._decoder, encoded.device
        begin, end = self._checkpoint.begin, self._checkpoint.vocabulary.end
        texts = [target.tokens for target in micro_batch.targets]
        frames = torch.tensor(self._frames(micro_batch), device=device)
        inputs = _stack([(begin, *text) for text in texts], end).to(device)
        states, _ = forward_step(
            decoder,
            inputs,
            0,
            decoder.project(encoded),
            empty_past(decoder.sizes, encoded, len(texts)),
            encoded_mask=padding_mask(frames, encoded.shape[1], encoded.dtype),
        )
        # Only states of tokens pass through the output layer, which is the largest one.
        valid = torch.cat([row[: len(text) + 1] for row, text in zip(states, texts, strict=True)])
        expected = torch.tensor([token for text in texts for token in (*text, end)], device=device)
        logits = decoder.logits(valid).float()
        return F.cross_entropy(logits, expected, label_smoothing=LABEL_SMOOTHING, reduction="sum")


def _lengths(micro_batch: MicroBatch) -> list[int]:
    """Return the number of samples of each clip."""
    lengths: list[int] = micro_batch.inputs["attention_mask"].sum(-1).tolist()
    return lengths


def _stack(rows: Sequence[Sequence[int]], padding: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *(longest - len(row)) * (padding,)] for row in rows])
