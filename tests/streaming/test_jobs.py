"""The queue of commit windows and decoding passes of one stream."""

from __future__ import annotations

import numpy as np

from stream_asr.config import WindowConfig
from stream_asr.decoding.greedy import GreedyDecoder
from stream_asr.streaming.caption import Caption
from stream_asr.streaming.jobs import Job, JobKind, JobQueue, Priority, Utterance
from stream_asr.streaming.windows import Window, WindowGeometry, WindowPlan
from tests.support.fakes import FRAME, LABELS


def any_job(kind: JobKind, samples: int) -> bool:
    return True


def make_utterance(*, live: bool = True) -> Utterance:
    plan = WindowPlan(WindowGeometry.from_config(WindowConfig(), FRAME), 0)
    return Utterance(0, plan, Caption(0, 0, GreedyDecoder(LABELS, FRAME), FRAME), live)


def make_job(utterance: Utterance, frames: int) -> Job:
    samples = frames * FRAME
    return Job(Window(0, samples, 0, samples), np.zeros(samples, dtype=np.float32), utterance, is_preview=False)


def test_windows_are_taken_in_order_even_if_a_later_one_fits() -> None:
    utterance, queue = make_utterance(), JobQueue(stateful=False)
    queue.put(make_job(utterance, 10))
    queue.put(make_job(utterance, 5))
    assert queue.take(Priority.COMMIT, lambda kind, samples: samples == 5 * FRAME) is None
    assert queue.committed_samples == 15 * FRAME
    lengths = [len(job.samples) for _ in range(2) if (job := queue.take(Priority.COMMIT, any_job))]
    assert lengths == [10 * FRAME, 5 * FRAME]
    assert queue.take(Priority.COMMIT, any_job) is None
    assert queue.committed_samples == 0


def test_only_ended_live_utterances_have_final_priority() -> None:
    for live in (True, False):
        utterance, queue = make_utterance(live=live), JobQueue(stateful=False)
        queue.put(make_job(utterance, 10))
        assert queue.take(Priority.FINAL, any_job) is None
        utterance.end = 10 * FRAME
        job = queue.take(Priority.FINAL, any_job)
        assert (job is not None) == live


def test_windows_of_a_stateful_model_wait_for_the_previous_state() -> None:
    first, second, queue = make_utterance(), make_utterance(), JobQueue(stateful=True)
    first.state = "initial"
    for utterance in (first, first, second):
        queue.put(make_job(utterance, 10))
    job = queue.take(Priority.COMMIT, any_job)
    assert job is not None
    assert (job.utterance, job.state) == (first, "initial")
    job = queue.take(Priority.COMMIT, any_job)
    assert job is not None
    assert job.utterance is second
    assert queue.take(Priority.COMMIT, any_job) is None
    first.state, first.in_flight = "next", False
    job = queue.take(Priority.COMMIT, any_job)
    assert job is not None
    assert job.state == "next"
