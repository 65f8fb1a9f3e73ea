"""Decode utterances with Moonshine's attention decoder while they grow.

Nothing is computed twice: the keys and values of encoder frames never change, those of the forced prefix are cached,
and a draft of the hypothesis runs through the decoder in one pass. As far as the draft is what greedy decoding would
find, it is accepted; from there on, decoding continues with one token per pass.

Source of the draft's verification: Stern et al., "Blockwise Parallel Decoding for Deep Autoregressive Models", 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

from stream_asr.acoustic.base import DecodeOutput, DecodeRequest, State, Vocabulary
from stream_asr.acoustic.one_per_core import CorePool
from stream_asr.array_types import FloatArray

Cache: TypeAlias = tuple[Any, ...]
"""Keys and values of frames or tokens: ``(keys of layer 0, values of layer 0, keys of layer 1, ...)``, each an array of
the runtime, float, shape (1, heads, frames or tokens, head width)."""


@dataclass(frozen=True, slots=True, eq=False)
class DecoderPass:
    """Tokens to run through the decoder.

    Attributes:
        tokens: the tokens; at least one.
        targets: for each of them a token whose probability to follow is requested.
        past: keys and values of the tokens before.
    """

    tokens: tuple[int, ...]
    targets: tuple[int, ...]
    past: Cache


@dataclass(frozen=True, slots=True, eq=False)
class PassOutput:
    """Output for a `DecoderPass`.

    Attributes:
        best: for each token the most probable next token.
        best_log_probs: the natural logarithms of the probabilities of these.
        target_log_probs: the same for the targets.
        past: keys and values of the tokens before and of these tokens.
    """

    best: list[int]
    best_log_probs: list[float]
    target_log_probs: list[float]
    past: Cache


RunPasses: TypeAlias = Callable[[Sequence[tuple[int, DecoderPass]]], list[PassOutput]]
"""Runs passes for some items of a batch. Each pass comes with the index of its item."""


class DecoderRunner(Protocol):
    """Runs a decoder. Thread-safe."""

    @property
    def backend(self) -> str:
        """Name of the runtime."""

    def empty(self) -> Cache:
        """Keys and values of nothing."""

    def project(self, encoded: Sequence[FloatArray]) -> list[Cache]:
        """Compute the keys and values of encoder states, float32, shape (encoder frames, width)."""

    def concat(self, first: Cache, second: Cache) -> Cache:
        """Append keys and values to others. The result has the precision of the second ones."""

    def pack(self, cache: Cache) -> Cache:
        """Convert keys and values to half precision, in which a state keeps those of encoder frames."""

    def cut(self, cache: Cache, length: int) -> Cache:
        """Return the first ``length`` keys and values. Must not keep the others in memory."""

    def begin(self, encoded: Sequence[Cache]) -> RunPasses:
        """Prepare passes over encoder states.

        Args:
            encoded: keys and values of the encoder states of each item of a batch.
        """


@dataclass(frozen=True, slots=True, eq=False)
class DecoderState:
    """State of an utterance. Immutable: each request yields a new one.

    Attributes:
        encoded: keys and values of the kept encoder frames, in half precision.
        prefix: the prefix of the last request.
        log_probs: log-probability of each of its tokens.
        past: keys and values of the begin token and of all tokens of the prefix but the last.
    """

    encoded: Cache
    prefix: tuple[int, ...]
    log_probs: tuple[float, ...]
    past: Cache


Decoding: TypeAlias = Generator[DecoderPass, PassOutput, DecodeOutput]
"""Decodes one request: yields passes and is sent their outputs."""


class MoonshineSecondPass:
    """See `SecondPassModel`.

    Args:
        name: the name or folder that the user gave.
        vocabulary: of the decoder.
        begin: the token that every hypothesis follows.
        runner: runs the decoder.
        pool: runs one request for each core; None for one batch of all requests.
        parallel_requests: how many requests should be run in one call, without a pool.
    """

    uses_audio = False
    max_samples: int | None = None

    def __init__(
        self,
        name: str,
        vocabulary: Vocabulary,
        begin: int,
        runner: DecoderRunner,
        pool: CorePool | None,
        parallel_requests: int = 1,
    ) -> None:
        self.name = name
        self.vocabulary = vocabulary
        self.runner = runner
        self.parallel_requests = parallel_requests if pool is None else pool.cores
        self._begin = begin
        self._pool = pool

    @property
    def backend(self) -> str:
        """Name of the runtime."""
        return self.runner.backend

    def initial_state(self) -> State:
        empty = self.runner.empty()
        return DecoderState(self.runner.pack(empty), (), (), empty)

    def decode(self, requests: Sequence[DecodeRequest]) -> list[DecodeOutput]:
        if self._pool is None:
            return self._decode_batch(requests)
        return self._pool.map(lambda request: self._decode_batch([request])[0], requests)

    def _decode_batch(self, requests: Sequence[DecodeRequest]) -> list[DecodeOutput]:
        runner = self.runner
        new = runner.project([_encoded(request) for request in requests])
        kept = [
            runner.concat(request.state.encoded, runner.pack(runner.cut(cache, request.kept_frames)))
            for request, cache in zip(requests, new, strict=True)
        ]
        encoded = [runner.concat(request.state.encoded, cache) for request, cache in zip(requests, new, strict=True)]
        run = runner.begin(encoded)
        outputs: dict[int, DecodeOutput] = {}
        frames = [cache[0].shape[2] for cache in encoded]
        decodings = [self._decode(*item) for item in zip(requests, kept, frames, strict=True)]
        passes: dict[int, DecoderPass] = {}

        def advance(index: int, resume: Callable[[], DecoderPass]) -> None:
            try:
                passes[index] = resume()
            except StopIteration as stop:
                outputs[index] = stop.value

        for index, decoding in enumerate(decodings):
            advance(index, partial(next, decoding))
        while passes:
            batch = list(passes.items())
            passes.clear()
            for (index, _), output in zip(batch, run(batch), strict=True):
                advance(index, partial(decodings[index].send, output))
        return [outputs[index] for index in range(len(requests))]

    def _decode(self, request: DecodeRequest, kept: Cache, frames: int) -> Decoding:
        """Decode a request.

        Args:
            request: the request.
            kept: `DecoderState.encoded` of the next state.
            frames: number of encoder frames so far.
        """
        runner, state, prefix, end = self.runner, request.state, request.prefix, self.vocabulary.end
        known = _common_length(state.prefix, prefix)
        limit = max(request.max_tokens, len(prefix))
        log_probs = list(state.log_probs[:known])
        past = runner.cut(state.past, known)
        if not frames:  # no probabilities without audio
            nothing = DecoderState(kept, (), (), runner.empty())
            return DecodeOutput(prefix, len(prefix) * (0.0,), nothing)
        if known == limit:
            return DecodeOutput(prefix, tuple(log_probs), DecoderState(kept, prefix, tuple(log_probs), past))
        expected = prefix + request.draft[: max(0, limit - len(prefix) - 1)]
        # The row of each token scores the next one, and the row of the last token has no expected next token.
        rows = ((self._begin, *expected)[known:], (*expected, end)[known:])
        output = yield DecoderPass(*rows, past)
        log_probs += output.target_log_probs[: len(prefix) - known]
        next_state = DecoderState(kept, prefix, tuple(log_probs), runner.cut(output.past, len(prefix)))
        tokens, row = list(prefix), len(prefix) - known
        while len(tokens) < limit and (best := output.best[row]) != end:
            tokens.append(best)
            log_probs.append(output.best_log_probs[row])
            row += 1
            if len(tokens) < limit and (row == len(output.best) or best != expected[len(tokens) - 1]):
                output, row = (yield DecoderPass((best,), (end,), runner.cut(output.past, len(tokens)))), 0
                expected = ()
        return DecodeOutput(tuple(tokens), tuple(log_probs), next_state)


def _encoded(request: DecodeRequest) -> FloatArray:
    assert request.encoded is not None, "this model does not use audio"
    return request.encoded


def _common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the length of the common beginning."""
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return length
