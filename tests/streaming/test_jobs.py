"""The queue of commit windows and decoding passes of one stream."""

from __future__ import annotations

import numpy as np

from stream_asr.config import SecondPassConfig, WindowConfig
from stream_asr.decoding.attention import AttentionDecoder
from stream_asr.decoding.greedy import GreedyDecoder
from stream_asr.streaming.caption import Caption
from stream_asr.streaming.jobs import Accepts, DecodeJob, Job, JobKind, JobQueue, Priority, Utterance
from stream_asr.streaming.second_pass import SecondPass
from stream_asr.streaming.windows import Window, WindowGeometry, WindowPlan
from tests.support.fakes import FRAME, LABELS, FakeSecondPass


def any_job(kind: JobKind, samples: int) -> bool:
    return True


def take(queue: JobQueue, priority: Priority, accepts: Accepts) -> Job | None:
    job = queue.take(priority, accepts)
    assert not isinstance(job, DecodeJob)
    return job


def make_utterance(*, live: bool = True) -> Utterance:
    plan = WindowPlan(WindowGeometry.from_config(WindowConfig(), FRAME), 0)
    decoder = FakeSecondPass()
    second_pass = SecondPass(AttentionDecoder(decoder.vocabulary, LABELS, FRAME, SecondPassConfig()), decoder, 0)
    caption = Caption(0, 0, GreedyDecoder(LABELS, FRAME), FRAME)
    return Utterance(0, plan, caption, live, second_pass=second_pass)


def make_job(utterance: Utterance, frames: int) -> Job:
    samples = frames * FRAME
    return Job(Window(0, samples, 0, samples), np.zeros(samples, dtype=np.float32), utterance, is_preview=False)


def test_windows_are_taken_in_order_even_if_a_later_one_fits() -> None:
    utterance, queue = make_utterance(), JobQueue(stateful=False)
    queue.put(make_job(utterance, 10))
    queue.put(make_job(utterance, 5))
    assert take(queue, Priority.COMMIT, lambda kind, samples: samples == 5 * FRAME) is None
    assert queue.committed_samples == 15 * FRAME
    lengths = [len(job.samples) for _ in range(2) if (job := take(queue, Priority.COMMIT, any_job))]
    assert lengths == [10 * FRAME, 5 * FRAME]
    assert take(queue, Priority.COMMIT, any_job) is None
    assert queue.committed_samples == 0


def test_only_ended_live_utterances_have_final_priority() -> None:
    for live in (True, False):
        utterance, queue = make_utterance(live=live), JobQueue(stateful=False)
        queue.put(make_job(utterance, 10))
        assert take(queue, Priority.FINAL, any_job) is None
        utterance.end = 10 * FRAME
        job = take(queue, Priority.FINAL, any_job)
        assert (job is not None) == live


def test_windows_of_a_stateful_model_wait_for_the_previous_state() -> None:
    first, second, queue = make_utterance(), make_utterance(), JobQueue(stateful=True)
    first.state = "initial"
    for utterance in (first, first, second):
        queue.put(make_job(utterance, 10))
    job = take(queue, Priority.COMMIT, any_job)
    assert job is not None
    assert (job.utterance, job.state) == (first, "initial")
    job = take(queue, Priority.COMMIT, any_job)
    assert job is not None
    assert job.utterance is second
    assert take(queue, Priority.COMMIT, any_job) is None
    first.state, first.in_flight = "next", False
    job = take(queue, Priority.COMMIT, any_job)
    assert job is not None
    assert job.state == "next"


def make_pass(utterance: Utterance, frames: int = 10) -> DecodeJob:
    samples = np.zeros(frames * FRAME, dtype=np.float32)
    log_probs = np.zeros((frames, len(LABELS.tokens)), dtype=np.float32)
    return DecodeJob(Window(0, len(samples), 0, len(samples)), log_probs, None, 0, samples, utterance, is_last=False)


def test_passes_are_taken_before_windows_and_one_at_a_time_for_each_utterance() -> None:
    first, second, queue = make_utterance(), make_utterance(), JobQueue(stateful=False)
    queue.put(make_job(first, 10))
    for utterance in (first, first, second):
        queue.put(make_pass(utterance))
    taken = [queue.take(Priority.COMMIT, any_job) for _ in range(4)]
    assert [(type(job), job.utterance) for job in taken if job is not None] == [
        (DecodeJob, first),
        (DecodeJob, second),
        (Job, first),
    ]
    first.is_decoding = False
    job = queue.take(Priority.COMMIT, any_job)
    assert isinstance(job, DecodeJob)
    assert job.request is not None
    assert len(queue) == 0


def test_pass_of_an_ended_utterance_comes_first() -> None:
    first, second, queue = make_utterance(), make_utterance(), JobQueue(stateful=True)
    queue.put(make_pass(second))
    queue.put(make_pass(first))
    first.end = 0
    job = queue.take(Priority.FINAL, any_job)
    assert job is not None
    assert job.utterance is first


def test_waiting_passes_count_as_read_audio() -> None:
    utterance, queue = make_utterance(), JobQueue(stateful=False)
    queue.put(make_job(utterance, 10))
    queue.put(make_pass(utterance, 5))
    assert queue.committed_samples == 15 * FRAME
    queue.take(Priority.COMMIT, any_job)
    assert queue.committed_samples == 10 * FRAME


def test_windows_are_taken_if_no_pass_is_accepted() -> None:
    utterance, queue = make_utterance(), JobQueue(stateful=False)
    queue.put(make_job(utterance, 10))
    queue.put(make_pass(utterance))
    assert isinstance(queue.take(Priority.COMMIT, lambda kind, samples: kind is JobKind.WINDOW), Job)
    assert queue.take(Priority.COMMIT, lambda kind, samples: kind is JobKind.WINDOW) is None
