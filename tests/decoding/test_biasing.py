"""Hotwords in the hypotheses of an attention decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from stream_asr.acoustic.base import DecodeOutput, DecodeRequest
from stream_asr.array_types import FloatArray
from stream_asr.config import BiasingConfig, SecondPassConfig
from stream_asr.decoding.attention import AttentionDecoder, AttentionState
from stream_asr.decoding.biasing import BiasedRequest, BiasedSecondPass, Biasing
from tests.support.fakes import FRAME, LABELS, VOCABULARY, FakeModel, encode, silence, sound

CONFIG = BiasingConfig(ctc_weight=0.5, letter_bonus=1.5, min_letter_score=-8.0, min_gain_ratio=0.1)
DECODER = AttentionDecoder(VOCABULARY, LABELS, FRAME, SecondPassConfig())


def frames(text: str) -> FloatArray:
    """Return frames in which a wrong letter costs about 12 nats."""
    [log_probs] = FakeModel(context_frames=0).log_probs([np.concatenate([sound(text), silence(0.4)])])
    clipped: FloatArray = np.maximum(log_probs, np.float32(-4))
    return clipped


def biasing(hotwords: Sequence[str] | Mapping[str, float], config: BiasingConfig = CONFIG) -> Biasing:
    weights = hotwords if isinstance(hotwords, Mapping) else dict.fromkeys(hotwords, 1.0)
    return Biasing(weights, VOCABULARY, DECODER.aligner, config)


def proposals(hypothesis: str, spoken: str, *hotwords: str, config: BiasingConfig = CONFIG) -> list[tuple[str, str]]:
    """Return the alternatives of a hypothesis: their texts up to the hotword, and after it."""
    output = DecodeOutput(encode(f" {hypothesis}"), (-0.1,) * len(encode(f" {hypothesis}")), None)
    found = biasing(hotwords, config).proposer(DECODER.start(0), frames(spoken))(output)
    return [(VOCABULARY.text(each.head).strip(), VOCABULARY.text(each.tail)) for each in found]


class ScoringModel:
    """A `SecondPassModel` whose hypothesis is always the same text, at -1 for each letter.

    Args:
        text: its hypothesis.
        scores: log-probabilities of a letter of other texts, if not -20.
    """

    name, vocabulary, uses_audio, max_samples, parallel_requests = "scoring", VOCABULARY, False, None, 1

    def __init__(self, text: str, scores: Mapping[str, float]) -> None:
        self.text, self.scores = f" {text}", scores
        self.requests: list[DecodeRequest] = []

    def initial_state(self) -> None:
        return None

    def decode(self, requests: Sequence[DecodeRequest]) -> list[DecodeOutput]:
        assert requests
        self.requests += requests
        return [self._decode(request) for request in requests]

    def _decode(self, request: DecodeRequest) -> DecodeOutput:
        tokens = request.prefix
        if len(tokens) < request.max_tokens:
            tokens = (*tokens, *(request.draft if tokens else encode(self.text)))[: request.max_tokens]
        text = VOCABULARY.text(tokens)
        score = -1.0 if text == self.text else self.scores.get(text.strip(), -20.0)
        return DecodeOutput(tokens, (score,) * len(tokens), None)


def decode(
    model: ScoringModel, spoken: str, hotwords: Sequence[str] | Mapping[str, float], state: AttentionState | None = None
) -> str:
    state, bias = state or DECODER.start(0), biasing(hotwords)
    log_probs = frames(spoken)
    request = BiasedRequest(None, 0, None, None, (), (), 100, propose=bias.proposer(state, log_probs))
    [output] = BiasedSecondPass(model, CONFIG).decode([request])
    return VOCABULARY.text(output.tokens).strip()


def test_hotword_replaces_the_words_in_its_place() -> None:
    assert proposals("call anika visor now.", "call anneke visser now", "anneke visser")[0] == (
        "call anneke visser",
        " now.",
    )


def test_hotword_may_replace_more_or_fewer_words() -> None:
    assert proposals("look at cooper netties logs", "look at kubernetes logs", "kubernetes")[0] == (
        "look at kubernetes",
        " logs",
    )
    assert proposals("call annekevisser", "call anneke visser", "anneke visser")[0] == ("call anneke visser", "")


def test_punctuation_after_the_replaced_words_stays() -> None:
    assert proposals("call anika, now", "call anneke now", "anneke") == [("call anneke", ", now")]


def test_hotword_that_was_not_spoken_is_not_proposed() -> None:
    assert proposals("call me tomorrow", "call me tomorrow", "anneke visser", "kubernetes") == []


def test_hotword_that_is_already_written_is_not_proposed_again() -> None:
    assert proposals("call anneke now", "call anneke now", "anneke") == []


def test_hotword_that_the_model_cannot_write_has_no_effect() -> None:
    assert not biasing(["日本", "x2"])
    assert not biasing({"anneke": 0.0})


def test_attention_decoder_decides_between_alternatives() -> None:
    hotwords = ["anneke", "annika"]
    spoken = "call anneke now"
    model = ScoringModel("call anika now", {"call anneke now": -1.2, "call annika now": -9.0})
    assert decode(model, f" {spoken}", hotwords) == "call anneke now"
    model = ScoringModel("call anika now", {"call anneke now": -30.0, "call annika now": -30.0})
    assert decode(model, f" {spoken}", hotwords) == "call anika now"


def test_weight_decides_how_much_a_hotword_may_cost() -> None:
    spoken, scores = " call anneke now", {"call anneke now": -2.6}
    assert decode(ScoringModel("call anika now", scores), spoken, {"anneke": 4.0}) == "call anneke now"
    assert decode(ScoringModel("call anika now", scores), spoken, {"anneke": 0.1}) == "call anika now"


def test_hotword_with_the_highest_weight_does_not_replace_other_words() -> None:
    scores = {"call anneke now": -30.0}
    assert decode(ScoringModel("call anika now", scores), " call anika now", {"anneke": 10.0}) == "call anika now"


def test_hotwords_within_hotwords_count_once() -> None:
    inner = biasing(["york"])._score(["new", "york"], 0.0)
    assert inner > 0
    both = biasing(["new york", "york"])
    assert both._score(["new", "york"], 0.0) == biasing(["new york"])._score(["new", "york"], 0.0)
    assert both._score(["york", "new", "york"], 0.0) == pytest.approx(both._score(["new", "york"], 0.0) + inner)


def test_hypothesis_that_does_not_fit_the_frames_has_no_alternatives() -> None:
    output = DecodeOutput(encode(" call anika now"), (-0.1,) * 12, None)
    assert biasing(["a"]).proposer(DECODER.start(0), frames("a")[:3])(output) == []


def test_sentence_goes_on_after_stable_words() -> None:
    state = DECODER.start(0)
    spoken = frames(" ring anneke")
    output = DecodeOutput(encode(" ring Annika"), (-0.1,) * len(encode(" ring annika")), None)
    state = state.update(output, spoken, len(spoken), final=True)
    state = replace(state, stable=state.unstable[:1], unstable=state.unstable[1:])
    alternative = biasing(["anneke visser", "anneke"]).proposer(state, spoken[:0])(output)[0]
    assert VOCABULARY.text(alternative.head) == " ring Anneke"


def test_several_hotwords_are_replaced_one_after_another() -> None:
    spoken = " call anneke about kubernetes"
    texts = ["call anneke about cooper netties", "call anika about kubernetes", "call anneke about kubernetes"]
    model = ScoringModel("call anika about cooper netties", dict.fromkeys(texts, -1.1))
    assert decode(model, spoken, ["anneke", "kubernetes"]) == texts[-1]


def test_alternatives_begin_with_the_stable_words() -> None:
    state = DECODER.start(0)
    spoken = frames(" ring anneke")
    output = DecodeOutput(encode(" ring annika"), (-0.1,) * len(encode(" ring annika")), None)
    state = state.update(output, spoken, len(spoken), final=True)
    state = replace(state, stable=state.unstable[:1], unstable=state.unstable[1:])
    [alternative] = biasing(["anneke", "king"]).proposer(state, spoken[:0])(output)
    assert VOCABULARY.text(alternative.head) == " ring anneke"


def test_other_requests_are_passed_on_unchanged() -> None:
    model = ScoringModel("call anika now", {})
    request = DecodeRequest(None, 0, None, None, (), (), 100)
    [output] = BiasedSecondPass(model, CONFIG).decode([request])
    assert model.requests == [request]
    assert VOCABULARY.text(output.tokens) == " call anika now"


@pytest.mark.parametrize(
    ("hypothesis", "expected"),
    [("call Anika now", "call Anneke"), ("Anika called", "Anneke"), ("call anika now", "call anneke")],
)
def test_hotword_in_lower_case_is_capitalized_as_the_words_that_it_replaces(hypothesis: str, expected: str) -> None:
    assert proposals(hypothesis, hypothesis.lower().replace("anika", "anneke"), "anneke")[0][0] == expected


def test_hotword_corrects_the_case_of_the_same_word() -> None:
    assert proposals("open github now", "open github now", "Github") == [("open Github", " now")]
    assert proposals("open Github now", "open github now", "github") == []
