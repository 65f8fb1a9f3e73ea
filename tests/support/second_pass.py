"""Streams with a second pass, run by fake models without threads or a clock, and checks of their promises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from stream_asr.acoustic.base import ChunkOutput
from stream_asr.array_types import FloatArray
from stream_asr.config import (
    BiasingConfig,
    EngineConfig,
    RecognizerConfig,
    SecondPassConfig,
    SegmenterConfig,
    WindowConfig,
)
from stream_asr.decoding.attention import AttentionDecoder
from stream_asr.decoding.biasing import BiasedSecondPass, Biasing
from stream_asr.decoding.casing import sentence_case
from stream_asr.decoding.greedy import GreedyDecoder
from stream_asr.events import AudioDropped, Event, Final, Partial, SpeechStarted
from stream_asr.streaming.jobs import DecodeJob, Job, JobKind, Priority
from stream_asr.streaming.pipeline import Pipeline
from stream_asr.streaming.second_pass import SecondPass
from tests.support.fakes import FRAME, LABELS, FakeModel, FakeSecondPass, FakeStatefulModel, loud

SECOND = 16_000
CONFIG = RecognizerConfig(
    segmenter=SegmenterConfig(max_utterance_ms=6000),
    windows=WindowConfig(left_context_ms=1000, commit_ms=800, right_context_ms=600),
    engine=EngineConfig(buffer_ms=8000),
    # The fake decoder has a token for each letter; the fake acoustic model is never sure.
    second_pass=SecondPassConfig(max_tokens_per_s=15, min_blank_log_prob=-0.2, confirmation_score=-0.2),
    # A wrong letter costs the fake acoustic model 30 nats.
    biasing=BiasingConfig(letter_bonus=20.0, min_letter_score=-40.0),
)
ANY = frozenset(JobKind)
WINDOWS, PASSES = frozenset([JobKind.WINDOW]), frozenset([JobKind.DECODE])


@dataclass
class Player:
    """Runs the jobs of a stream in batches, as the engine does.

    Attributes:
        model, decoder: the models.
        config: settings.
        live: see `Pipeline`.
        hotwords: words and phrases to prefer.
        events: all events so far.
        most_jobs: largest number of queued jobs so far.
    """

    model: FakeModel
    decoder: FakeSecondPass
    config: RecognizerConfig = CONFIG
    live: bool = True
    hotwords: tuple[str, ...] = ()
    events: list[Event] = field(default_factory=list)
    most_jobs: int = 0

    def __post_init__(self) -> None:
        rules = AttentionDecoder(self.decoder.vocabulary, LABELS, FRAME, self.config.second_pass)
        stateful = isinstance(self.model, FakeStatefulModel)
        biasing = Biasing(
            dict.fromkeys(self.hotwords, 1.0), self.decoder.vocabulary, rules.aligner, self.config.biasing
        )
        self.biased = BiasedSecondPass(self.decoder, self.config.biasing)
        self.pipeline = Pipeline(
            self.config,
            GreedyDecoder(LABELS, FRAME),
            FRAME,
            detector=loud,
            initial_state=self.model.initial_state if isinstance(self.model, FakeStatefulModel) else None,
            second_pass=lambda start: SecondPass(rules, self.biased, start, biasing=biasing or None),
            casing=sentence_case,
            live=self.live,
        )
        assert stateful or self.decoder.uses_audio

    def run(self, kinds: frozenset[JobKind] = ANY, size: int = 1) -> bool:
        """Run one batch of at most ``size`` jobs of one of the kinds; previews only if no other job can start.

        Returns:
            Whether there was a job.
        """
        self.pipeline.advance()
        jobs: list[Job | DecodeJob] = []

        def accepts(kind: JobKind, samples: int) -> bool:
            return kind in kinds and (not jobs or (kind is JobKind.DECODE) == isinstance(jobs[0], DecodeJob))

        for priority in (Priority.FINAL, Priority.COMMIT):
            while len(jobs) < size and (job := self.pipeline.take_job(priority, accepts)):
                assert job.utterance.priority <= priority
                jobs.append(job)
        if not jobs and (job := self.pipeline.take_job(Priority.PREVIEW, accepts)):
            jobs.append(job)
        passes = [job for job in jobs if isinstance(job, DecodeJob)]
        windows = [job for job in jobs if isinstance(job, Job)]
        if passes:
            requests = [job.request for job in passes if job.request is not None]
            for decoding, decoded in zip(passes, self.biased.decode(requests), strict=True):
                self.pipeline.deliver_pass(decoding, decoded)
        if windows:
            for window, output in zip(windows, self._run_model(windows), strict=True):
                self.pipeline.deliver(window, output)
        self.pipeline.advance()
        self.events += self.pipeline.take_events()
        self.most_jobs = max(self.most_jobs, self.pipeline.waiting)
        return bool(jobs)

    def _run_model(self, jobs: Sequence[Job]) -> list[ChunkOutput]:
        if isinstance(self.model, FakeStatefulModel):
            return self.model.forward_chunks([job.chunk for job in jobs])
        return [ChunkOutput(log_probs, None) for log_probs in self.model.log_probs([job.samples for job in jobs])]

    def run_all(self) -> None:
        while self.run(size=4):
            pass

    def finish(self) -> None:
        self.pipeline.end_of_audio()
        self.run_all()
        assert self.pipeline.finished

    @property
    def finals(self) -> list[Final]:
        return finals(self.events)


Turn = tuple[int, list[tuple[frozenset[JobKind], int]]]
"""Length of a block of audio, and the batches that run after it."""


def finals(events: Iterable[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def feed(
    player: Player, audio: FloatArray, turns: Sequence[Turn], flushes: Iterable[int] = (), *, waits: bool = True
) -> None:
    """Feed audio to a stream, with batches in between.

    Args:
        player: the stream.
        audio: samples.
        turns: block lengths and batches, repeated until the audio ends.
        flushes: positions at which the stream is flushed.
        waits: whether the source waits for room in the buffer; otherwise audio is dropped.
    """
    pipeline, places = player.pipeline, sorted(flushes)
    start = turn = 0
    while start < len(audio):
        size, batches = turns[turn % len(turns)]
        stop = min([start + size, len(audio), *places[:1]])
        while waits and pipeline.buffer.free < stop - start:
            assert player.run(), "the stream is stuck"
        pipeline.buffer.write(audio[start:stop])
        if places and stop == places[0]:
            pipeline.flush()
            places.pop(0)
        for kinds, jobs in batches:
            player.run(kinds, jobs)
        start, turn = stop, turn + 1


def transcribe(player: Player, audio: FloatArray, flushes: Iterable[int] = ()) -> list[Final]:
    """Return the finals of a stream without partials whose models run whenever they can."""
    reader = Player(player.model, player.decoder, player.config, live=False, hotwords=player.hotwords)
    feed(reader, audio, [(SECOND, [(ANY, 4)] * 20)], flushes)
    reader.finish()
    return reader.finals


def check_events(events: Iterable[Event], duration: float) -> None:
    """Check promises 2 and 6: stable text, and times."""
    stable: list[str] = []
    utterance = None
    start = last_end = last_word = 0.0
    for event in events:
        if isinstance(event, SpeechStarted):
            assert utterance is None
            assert event.start >= last_end
            utterance, start, stable = event.utterance, event.start, []
        elif isinstance(event, Partial):
            assert (event.utterance, event.start) == (utterance, start)
            text, words = event.text.split(), event.stable.split()
            assert words[: len(stable)] == stable
            assert text[: len(words)] == words
            assert event.text == " ".join(word.word for word in event.words)
            assert all(start <= word.start <= word.end <= event.end + 0.02 for word in event.words)
            stable = words
        elif isinstance(event, Final):
            assert (event.utterance, event.start) == (utterance, start)
            assert event.text.split()[: len(stable)] == stable
            assert event.text == " ".join(word.word for word in event.words)
            assert start < event.end <= duration
            for word in event.words:
                assert max(start, last_word) <= word.start <= word.end <= event.end
                last_word = word.end
            last_end, utterance = event.end, None
    assert utterance is None


def check_counts(player: Player, audio: FloatArray) -> None:
    """Check promise 3 of a finished stream: every sample is recognized, silent, or reported as dropped."""
    counts = player.pipeline.counts
    assert counts.captured == len(audio) == counts.recognised + counts.silent + counts.dropped
    assert min(counts.recognised, counts.silent, counts.dropped) >= 0
    gaps = [event for event in player.events if isinstance(event, AudioDropped)]
    assert sum(round((gap.end - gap.start) * SECOND) for gap in gaps) == counts.dropped
    in_finals = sum(round((final.end - final.start) * SECOND) for final in player.finals)
    assert counts.recognised <= in_finals <= counts.recognised + counts.dropped
    started = [event.utterance for event in player.events if isinstance(event, SpeechStarted)]
    assert started == [final.utterance for final in player.finals] == list(range(len(started)))


def spoken_words(events: Iterable[Event]) -> list[str]:
    """Return the words of all finals, bare."""
    return [word.bare for final in finals(events) for word in final.words]
