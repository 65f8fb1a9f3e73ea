"""Contextual biasing of an attention decoder: hotwords replace similar words of a hypothesis.

Places where a hotword may have been spoken are spotted in the frames of the CTC model. Each of them gives another
hypothesis, in which the hotword replaces the words at this place. The attention decoder scores it, and the best
hypothesis by the scores of both models and a bonus for hotwords wins. Compared with a beam search, this costs nothing
where no hotword is similar to the audio, and works with every decoder.

Sources: Andrusenko et al., "Fast Context-Biasing for CTC and Transducer ASR Models with CTC-based Word Spotter", 2024;
Watanabe et al., "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition", 2017 (the joint score).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TypeAlias

from stream_asr.acoustic.base import DecodeOutput, DecodeRequest, SecondPassModel, State, Vocabulary
from stream_asr.array_types import FloatArray
from stream_asr.config import BiasingConfig
from stream_asr.decoding.alignment import ForcedAligner
from stream_asr.decoding.attention import AttentionState, TokenWord
from stream_asr.decoding.phrase_spotting import Occurrence, PhraseSpotter
from stream_asr.decoding.token_encoding import TokenEncoder, UnknownCharacterError
from stream_asr.events import bare_text, bare_word, ends_sentence, strip_punctuation


@dataclass(frozen=True, slots=True)
class Phrase:
    """A hotword.

    Attributes:
        text: as it is written.
        bare: its words, in lower case and without punctuation.
        bonus: score of an occurrence, in nats.
    """

    text: str
    bare: tuple[str, ...]
    bonus: float


@dataclass(frozen=True, slots=True)
class Alternative:
    """A hypothesis in which a hotword replaces other words.

    Attributes:
        head: tokens up to and including the hotword.
        tail: tokens after it.
        gain: what the score of the CTC model and the bonus of hotwords gain over the original hypothesis.
    """

    head: tuple[int, ...]
    tail: tuple[int, ...]
    gain: float


Propose: TypeAlias = Callable[[DecodeOutput], list[Alternative]]
"""Returns alternatives of a hypothesis that may score better, best first. See `Biasing.proposer`."""


@dataclass(frozen=True, slots=True, eq=False)
class BiasedRequest(DecodeRequest):
    """A request for a `BiasedSecondPass`.

    Attributes:
        propose: finds alternatives.
    """

    propose: Propose


class Biasing:
    """Finds alternative hypotheses. It serves all streams with the same hotwords.

    Args:
        hotwords: words and phrases with their weights; see `stream_asr.decoding.hotwords.compile_hotwords`.
        vocabulary: tokens of the attention decoder.
        aligner: of the CTC model.
        config: weights of the scores.
    """

    def __init__(
        self, hotwords: Mapping[str, float], vocabulary: Vocabulary, aligner: ForcedAligner, config: BiasingConfig
    ) -> None:
        phrases: dict[tuple[str, ...], Phrase] = {}
        self._encoder = TokenEncoder(vocabulary)
        self._aligner = aligner
        self._config = config
        for text, weight in sorted(hotwords.items(), key=lambda item: item[1]):  # the highest weight of equal words
            text = strip_punctuation(" ".join(text.split()))
            bare = tuple(bare_text(text).split())
            if weight and bare and all(map(aligner.can_spell, bare)) and self._encode(f" {text}"):
                # Beyond twice the usual bonus, hotwords would replace words that sound differently.
                bonus = config.letter_bonus * 2 * weight / (1 + weight)
                phrases[bare] = Phrase(text, bare, bonus * sum(map(len, bare)))
        self._phrases = list(phrases.values())
        self._bonuses = {bare: phrase.bonus for bare, phrase in phrases.items()}
        self._lengths = sorted({len(bare) for bare in phrases}, reverse=True)
        self._spotter = PhraseSpotter(
            aligner,
            [phrase.bare for phrase in self._phrases],
            [config.min_letter_score * sum(map(len, phrase.bare)) for phrase in self._phrases],
        )

    def __bool__(self) -> bool:
        return bool(self._phrases)

    def proposer(self, state: AttentionState, log_probs: FloatArray) -> Propose:
        """Return a function that finds alternatives of hypotheses.

        Args:
            state: the state of the utterance. The hypotheses begin with its prefix.
            log_probs: the CTC model's output for the window, float32, shape (frames, tokens).
        """
        frames = state.frames_after_stable(log_probs).log_probs
        occurrences: list[Occurrence] | None = None

        def propose(output: DecodeOutput) -> list[Alternative]:
            nonlocal occurrences
            if occurrences is None:  # the same for all hypotheses
                occurrences = self._spotter.find(frames)
            return self._propose(state, frames, occurrences, output) if occurrences else []

        return propose

    def _propose(
        self, state: AttentionState, frames: FloatArray, occurrences: Sequence[Occurrence], output: DecodeOutput
    ) -> list[Alternative]:
        config, words = self._config, state.words_after_stable(output)
        texts = [word.text for word in words]
        alignment = self._aligner.align(frames, texts)
        if not words or alignment.log_prob == -inf:
            return []
        places = [(word.first_frame, word.stop_frame) for word in alignment.words]
        kept = output.tokens[: state.first_token(output)]
        score = self._score(texts, alignment.log_prob)
        # How far the hypothesis is from the best path of the CTC model, which no alternative can exceed.
        deficit = float(frames.max(axis=1).sum()) - alignment.log_prob

        def max_gain(occurrence: Occurrence) -> float:
            return config.ctc_weight * (occurrence.score + deficit) + self._phrases[occurrence.phrase].bonus

        alternatives: dict[tuple[int, ...], Alternative] = {}
        for occurrence in sorted(occurrences, key=max_gain, reverse=True)[: config.max_occurrences]:
            phrase = self._phrases[occurrence.phrase]
            min_gain = config.min_gain_ratio * phrase.bonus
            if max_gain(occurrence) <= min_gain:
                continue
            for first, stop in _replaceable(occurrence, places):
                before = [*(word.word.text for word in state.stable[-1:]), *texts[:first]]
                text, punctuation = _write(phrase, texts[first:stop], before)
                if bare_text(text) == bare_text(" ".join(texts[first:stop])):
                    if phrase.text.islower() or text + punctuation == " ".join(texts[first:stop]):
                        continue
                    gain = phrase.bonus  # the spelling alone is wrong
                else:
                    changed = [*texts[:first], *(text + punctuation).split(), *texts[stop:]]
                    gain = self._score(changed, self._aligner.align(frames, changed).log_prob) - score
                if gain > min_gain and (tokens := self._encode(f" {text}")):
                    head = (*kept, *_join_tokens(words[:first]), *tokens)
                    tail = (*self._encode(punctuation), *_join_tokens(words[stop:]))
                    alternatives[head + tail] = Alternative(head, tail, gain)
        best = sorted(alternatives.values(), key=lambda alternative: -alternative.gain)
        return best[: config.max_alternatives]

    def _score(self, texts: Sequence[str], log_prob: float) -> float:
        """Return the score of a hypothesis without that of the attention decoder."""
        bare = [word for text in texts for word in bare_text(text).split()]
        bonus, index = 0.0, 0
        while index < len(bare):
            phrases = (tuple(bare[index : index + length]) for length in self._lengths)
            phrase = next((phrase for phrase in phrases if phrase in self._bonuses), None)
            bonus += self._bonuses[phrase] if phrase else 0.0
            index += len(phrase) if phrase else 1
        return self._config.ctc_weight * log_prob + bonus

    def _encode(self, text: str) -> tuple[int, ...]:
        try:
            return self._encoder.encode(text)
        except UnknownCharacterError:
            return ()


class BiasedSecondPass:
    """Decodes with another model and replaces words of its hypotheses by hotwords; see `SecondPassModel`.

    Args:
        model: the other model. It gets all requests, and those without hotwords need nothing else.
        config: settings.
    """

    def __init__(self, model: SecondPassModel, config: BiasingConfig) -> None:
        self._model = model
        self._config = config
        self.name = model.name
        self.vocabulary = model.vocabulary
        self.uses_audio = model.uses_audio
        self.max_samples = model.max_samples
        self.parallel_requests = model.parallel_requests

    def initial_state(self) -> State:
        return self._model.initial_state()

    def decode(self, requests: Sequence[DecodeRequest]) -> list[DecodeOutput]:
        outputs = self._model.decode(requests)
        biased = [index for index, request in enumerate(requests) if isinstance(request, BiasedRequest)]
        for _ in range(self._config.max_replacements):
            if not biased:
                break
            chosen = self._choose([(requests[index], outputs[index]) for index in biased])
            biased = [index for index, better in zip(biased, chosen, strict=True) if better is not None]
            decoded = self._decode([better for better in chosen if better is not None])
            for index, output in zip(biased, decoded, strict=True):
                outputs[index] = output
        return outputs

    def _decode(self, requests: Sequence[DecodeRequest]) -> list[DecodeOutput]:
        """Decode in batches no larger than those of the engine."""
        size = max(1, self.parallel_requests)
        batches = (requests[first : first + size] for first in range(0, len(requests), size))
        return [output for batch in batches for output in self._model.decode(batch)]

    def _choose(self, hypotheses: Sequence[tuple[DecodeRequest, DecodeOutput]]) -> list[DecodeRequest | None]:
        """Return for each hypothesis the request that continues its best alternative; None if it is better itself."""
        candidates = [
            (index, alternative)
            for index, (request, output) in enumerate(hypotheses)
            if isinstance(request, BiasedRequest)
            for alternative in request.propose(output)
        ]
        scored = self._decode([_force(hypotheses[index][0], alternative) for index, alternative in candidates])
        best: list[tuple[float, DecodeRequest | None]] = [(0.0, None)] * len(hypotheses)
        for (index, alternative), output in zip(candidates, scored, strict=True):
            request, original = hypotheses[index]
            gain = alternative.gain + sum(output.log_probs) - sum(original.log_probs)
            if gain > best[index][0]:
                extra = max(0, len(alternative.head) + len(alternative.tail) - len(original.tokens))
                max_tokens = max(request.max_tokens, len(original.tokens)) + extra
                better = replace(request, prefix=alternative.head, draft=alternative.tail, max_tokens=max_tokens)
                best[index] = gain, better
        return [request for _, request in best]


def _force(request: DecodeRequest, alternative: Alternative) -> DecodeRequest:
    """Return the request that scores an alternative."""
    tokens = alternative.head + alternative.tail
    return replace(request, prefix=tokens, draft=(), max_tokens=len(tokens))


def _join_tokens(words: Sequence[TokenWord]) -> Iterator[int]:
    return (token for word in words for token in word.tokens)


def _replaceable(occurrence: Occurrence, places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges of words that an occurrence may replace: with and without words that overlap it in part."""
    shares = [
        max(0, min(stop, occurrence.stop_frame) - max(first, occurrence.first_frame)) / max(1, stop - first)
        for first, stop in places
    ]
    touched = [index for index, share in enumerate(shares) if share > 0]
    if not touched:
        return []
    first, stop = touched[0], touched[-1] + 1
    ranges = [(first, stop)]
    if stop - first > 1 and shares[first] < 1:
        ranges.append((first + 1, stop))
    if stop - first > 1 and shares[stop - 1] < 1:
        ranges.append((first, stop - 1))
    if stop - first > 2 and shares[first] < 1 and shares[stop - 1] < 1:
        ranges.append((first + 1, stop - 1))
    return ranges


def _write(phrase: Phrase, replaced: Sequence[str], before: Sequence[str]) -> tuple[str, str]:
    """Return the text of a hotword in place of other words, and the punctuation after it.

    A hotword in lower case gets capitals where the replaced words have them; the capital of the first word of a
    sentence does not count for its other words.
    """
    text, last = phrase.text, replaced[-1]
    if text.islower():
        capitals = [strip_punctuation(word)[:1].isupper() for word in replaced]
        starts_sentence = not before or ends_sentence(before[-1])
        is_name = any(capitals[1:]) or (capitals[0] and not starts_sentence)
        words = text.split()
        count = len(words) if is_name else int(capitals[0])
        text = " ".join([*(word[:1].upper() + word[1:] for word in words[:count]), *words[count:]])
    kept = strip_punctuation(last)
    punctuation = last[last.rindex(kept) + len(kept) :] if kept else ""
    if bare_word(last).endswith("'s") and not phrase.bare[-1].endswith("s"):
        punctuation = "'s" + punctuation
    return text, punctuation
