"""Incremental attention decoding: the words of an utterance that an attention decoder decodes again while it grows.

After each commit window the decoder decodes the whole utterance so far, the right context of the window included, and
its stable tokens are a prefix that every later hypothesis has to begin with. The frames of the CTC model say where the
words are, confirm them, and veto words that are not in the audio.

Everything here depends only on hypotheses and on frames of commit windows, in their order. Which of the words are
stable is decided in `stream_asr.decoding.agreement`.

Sources: Watanabe et al., "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition", 2017; Liu et al.,
"Low-Latency Sequence-to-Sequence Speech Recognition and Translation by Partial Hypothesis Selection", 2020 (prefixes
and agreement).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp

import numpy as np

from stream_asr.acoustic.base import DecodeOutput, Vocabulary
from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE, SecondPassConfig, ms_to_frames
from stream_asr.decoding.agreement import agreed_length
from stream_asr.decoding.alignment import AlignedWord, ForcedAligner
from stream_asr.decoding.ctc import Frames
from stream_asr.events import Word, bare_text


@dataclass(frozen=True, slots=True)
class TokenWord:
    """A word of a hypothesis.

    Attributes:
        text: as the decoder writes it, without spaces.
        tokens: its tokens.
        log_probs: natural logarithms of the probabilities of the tokens.
    """

    text: str
    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]

    @property
    def confidence(self) -> float:
        """Geometric mean of the probabilities of the tokens, 0 to 1."""
        return min(1.0, exp(sum(self.log_probs) / len(self.log_probs)))


def split_words(vocabulary: Vocabulary, tokens: Sequence[int], log_probs: Sequence[float]) -> list[TokenWord]:
    """Divide tokens into words. A word begins with a token that begins with a space.

    Args:
        vocabulary: the tokens.
        tokens: tokens of a hypothesis.
        log_probs: for each token the natural logarithm of its probability.

    Returns:
        The words in order. Tokens without text belong to the word before them. If the first token continues an
        earlier word, the first word is that continuation.
    """
    words: list[tuple[list[int], list[float]]] = []
    for token, log_prob in zip(tokens, log_probs, strict=True):
        if not words or vocabulary.pieces[token].startswith(b" "):
            words.append(([], []))
        words[-1][0].append(token)
        words[-1][1].append(log_prob)
    texts = [vocabulary.text(word).strip() for word, _ in words]
    return [
        TokenWord(text, tuple(word), tuple(scores)) for text, (word, scores) in zip(texts, words, strict=True) if text
    ]


@dataclass(frozen=True, slots=True)
class PlacedWord:
    """A word of a hypothesis and its place in the audio.

    Attributes:
        word: the word.
        aligned: its frames, counted from the start of the stream.
    """

    word: TokenWord
    aligned: AlignedWord

    @property
    def bare(self) -> str:
        """The text without case and punctuation, by which hypotheses are compared."""
        return bare_text(self.word.text)

    def to_event(self, frame_samples: int) -> Word:
        """Return the word with times."""
        first, stop = self.aligned.first_frame, self.aligned.stop_frame
        return Word.in_frames(self.word.text, first, stop, self.word.confidence, frame_samples)


class AttentionDecoder:
    """Starts an `AttentionState` for each utterance. One decoder serves all streams.

    Args:
        vocabulary: tokens of the attention decoder.
        labels: tokens of the CTC model.
        frame_samples: length of a frame of the CTC model in samples at 16 kHz.
        config: settings.
    """

    def __init__(self, vocabulary: Vocabulary, labels: Labels, frame_samples: int, config: SecondPassConfig) -> None:
        self.vocabulary = vocabulary
        self.aligner = ForcedAligner(labels)
        self.labels = labels
        self.frame_samples = frame_samples
        self.config = config
        self.margin_frames = ms_to_frames(config.stable_margin_ms, frame_samples)

    def start(self, frame: int) -> AttentionState:
        """Return the state of an utterance whose first frame is ``frame`` on the stream's absolute grid."""
        return AttentionState(self, Frames.empty(frame))

    def max_tokens(self, samples: int) -> int:
        """Return the largest number of tokens that so many samples of speech can have."""
        return self.config.extra_tokens + int(self.config.max_tokens_per_s * samples / SAMPLE_RATE)


@dataclass(frozen=True, slots=True, eq=False)
class AttentionState:
    """The hypotheses of an utterance so far. It is immutable: each step returns a new state.

    Attributes:
        decoder: the decoder.
        frames: frames of commit windows since the last stable word, which may reach beyond them.
        stable: the words that can no longer change.
        unstable: the other words of the newest hypothesis.
        earlier: the unstable words of earlier hypotheses, newest last, bare.
    """

    decoder: AttentionDecoder
    frames: Frames
    stable: tuple[PlacedWord, ...] = ()
    unstable: tuple[PlacedWord, ...] = ()
    earlier: tuple[tuple[str, ...], ...] = ()

    @property
    def prefix(self) -> tuple[int, ...]:
        """The tokens of the stable words."""
        return tuple(token for word in self.stable for token in word.word.tokens)

    @property
    def draft(self) -> tuple[int, ...]:
        """The tokens of the unstable words."""
        return tuple(token for word in self.unstable for token in word.word.tokens)

    @property
    def words(self) -> tuple[Word, ...]:
        """All words, with times."""
        return tuple(word.to_event(self.decoder.frame_samples) for word in self.stable + self.unstable)

    def has_speech(self, log_probs: FloatArray) -> bool:
        """Whether the CTC model finds anything after the stable words.

        Args:
            log_probs: frames of the next commit window, those of its right context included.
        """
        frames = self.frames_after_stable(log_probs).log_probs
        return bool((frames[:, self.decoder.labels.blank] < self.decoder.config.min_blank_log_prob).any())

    def update(self, output: DecodeOutput, log_probs: FloatArray, new_frames: int, *, final: bool) -> AttentionState:
        """Return the state after a hypothesis.

        Args:
            output: a hypothesis that begins with `prefix`.
            log_probs: the CTC model's output for the window: natural logarithms, float32, shape (frames, tokens).
            new_frames: how many of these frames are committed; the others are right context.
            final: whether the window is the last one of the utterance. Then no word becomes stable any more.
        """
        config, placed = self.decoder.config, self._place(output, log_probs)
        joined = self._join(log_probs[:new_frames])
        if final:
            return replace(self, frames=joined, unstable=placed, earlier=())
        bare = tuple(word.bare for word in placed)
        hypotheses = (*self.earlier, bare)
        agreed = agreed_length(hypotheses) if len(hypotheses) == config.agreement else 0
        settled_frame = joined.start_frame + len(self.frames.log_probs) + len(log_probs) - self.decoder.margin_frames
        count = 0
        while (
            count < len(placed) - 1
            and placed[count + 1].aligned.first_frame <= settled_frame
            and (count < agreed or self._is_confirmed(placed[count]))
        ):
            count += 1
        earlier = tuple(
            words[count:] if words[:count] == bare[:count] else () for words in hypotheses[1 - config.agreement :]
        )
        state = replace(self, stable=self.stable + placed[:count], unstable=placed[count:], earlier=earlier)
        return replace(state, frames=state._since_stable(joined).since(0))

    def before(self, frame: int) -> AttentionState:
        """Return the state without the last words that lie after a frame for the most part."""
        unstable = self.unstable
        while unstable and unstable[-1].aligned.first_frame + unstable[-1].aligned.stop_frame >= 2 * frame:
            unstable = unstable[:-1]
        return replace(self, unstable=unstable)

    def words_after_stable(self, output: DecodeOutput) -> list[TokenWord]:
        """Return the words of a hypothesis after the stable ones."""
        skip = self.first_token(output)
        return split_words(self.decoder.vocabulary, output.tokens[skip:], output.log_probs[skip:])

    def first_token(self, output: DecodeOutput) -> int:
        """Return the index of the first token of `words_after_stable`. Earlier ones would change a stable word."""
        skip, pieces = len(self.prefix), self.decoder.vocabulary.pieces
        while self.stable and skip < len(output.tokens) and not pieces[output.tokens[skip]].startswith(b" "):
            skip += 1
        return skip

    def frames_after_stable(self, log_probs: FloatArray) -> Frames:
        """Return the frames after the stable words.

        Args:
            log_probs: frames of the next commit window, those of its right context included.
        """
        return self._since_stable(self._join(log_probs))

    def _is_confirmed(self, word: PlacedWord) -> bool:
        """Return whether the CTC model reads the same word."""
        score = word.aligned.score
        return score is not None and score >= self.decoder.config.confirmation_score

    def _place(self, output: DecodeOutput, log_probs: FloatArray) -> tuple[PlacedWord, ...]:
        """Return the words after the stable ones that are in the audio, with their places."""
        words = self.words_after_stable(output)
        frames = self.frames_after_stable(log_probs)
        placed = self._align(words, frames)
        kept = self._without_loops(placed)
        if len(kept) < len(placed):  # the repetitions may have pushed the words before them out of place
            kept = self._align([word.word for word in kept], frames)
        return self._without_loops(tuple(word for word in kept if not self._is_vetoed(word)))

    def _align(self, words: Sequence[TokenWord], frames: Frames) -> tuple[PlacedWord, ...]:
        if not words:
            return ()
        alignment = self.decoder.aligner.align(frames.log_probs, [word.text for word in words], free_end=True)
        offset = frames.start_frame
        return tuple(
            PlacedWord(
                word,
                replace(
                    aligned,
                    first_frame=aligned.first_frame + offset,
                    stop_frame=aligned.stop_frame + offset,
                    last_token_frame=aligned.last_token_frame + offset,
                ),
            )
            for word, aligned in zip(words, alignment.words, strict=True)
        )

    def _is_vetoed(self, word: PlacedWord) -> bool:
        """Return whether the CTC model is certain that a word was not spoken."""
        config, aligned = self.decoder.config, word.aligned
        if not word.bare:  # punctuation may stay, a music note in noise may not
            return any(unicodedata.category(character) == "So" for character in word.word.text)
        # The score is None for what the CTC model cannot write.
        is_doubtful = aligned.score is None or aligned.score <= config.veto_score
        return is_doubtful and aligned.non_blank < config.veto_non_blank

    def _without_loops(self, words: tuple[PlacedWord, ...]) -> tuple[PlacedWord, ...]:
        """Cut a repetition at the end of a hypothesis to its first occurrence, unless the CTC model confirms it."""
        config, bare = self.decoder.config, [word.bare for word in words]
        for length in range(1, config.max_loop_words + 1):
            repeats = 1
            while (start := len(bare) - (repeats + 1) * length) >= 0 and bare[start : start + length] == bare[-length:]:
                repeats += 1
            if repeats < config.min_loop_repeats:
                continue
            copies = words[len(words) - (repeats - 1) * length :]
            scores = [word.aligned.score for word in copies if word.aligned.score is not None]
            if not scores or np.mean(scores) < config.loop_score:
                return words[: len(words) - len(copies)]
        return words

    def _since_stable(self, frames: Frames) -> Frames:
        """Return the frames after the last stable word; none of them if it reaches beyond them."""
        stop = frames.start_frame + len(frames.log_probs)
        start = self.stable[-1].aligned.stop_frame if self.stable else frames.start_frame
        return frames.between(min(start, stop), stop)

    def _join(self, log_probs: FloatArray) -> Frames:
        own = self.frames.log_probs
        return replace(self.frames, log_probs=np.concatenate([own, log_probs]) if len(own) else log_probs)
