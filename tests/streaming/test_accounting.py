"""Sample counts, marks and overload reports."""

from __future__ import annotations

from stream_asr.audio.ring_buffer import Gap
from stream_asr.events import Marked, Overload
from stream_asr.streaming.accounting import Marks, OverloadAlarm, SampleAccounting

SECOND = 16_000


def test_every_sample_is_counted_once() -> None:
    accounting = SampleAccounting()
    accounting.add_utterance(100, 300)
    accounting.add_utterance(300, 450)
    for gap in (Gap(50, 120), Gap(250, 320), Gap(440, 500), Gap(600, 700)):
        accounting.add_gap(gap)
    accounting.settle(1000)
    dropped = 70 + 70 + 60 + 100
    counts = accounting.counts(captured=1000, dropped=dropped, previews_skipped=2)
    assert counts.recognised == 350 - (20 + 70 + 10)
    assert counts.captured == counts.recognised + counts.silent + counts.dropped
    assert counts.previews_skipped == 2


def test_gap_is_counted_when_no_later_utterance_can_overlap_it() -> None:
    accounting = SampleAccounting()
    accounting.add_gap(Gap(100, 200))
    accounting.settle(150)
    accounting.add_utterance(150, 400)
    accounting.settle(400)
    accounting.settle(500)
    assert accounting.counts(captured=500, dropped=100, previews_skipped=0).recognised == 250 - 50


def test_mark_waits_for_the_windows_that_were_planned_before_it() -> None:
    marks = Marks()
    first = marks.jobs_planned(2)
    marks.add(1, position=SECOND)
    later = marks.jobs_planned()
    for job in (first, later):
        assert marks.take_passed(reflected=2 * SECOND, idle=True) == []
        marks.job_done(job)
    assert marks.take_passed(reflected=2 * SECOND, idle=True) == [], "a job before the mark is not done"
    marks.job_done(first)
    assert marks.take_passed(reflected=2 * SECOND, idle=False) == [Marked(1)]
    assert marks.take_passed(reflected=2 * SECOND, idle=True) == []


def test_mark_waits_for_previews_unless_none_is_due() -> None:
    marks = Marks()
    marks.add(1, position=SECOND)
    assert marks.take_passed(reflected=SECOND - 1, idle=False) == []
    assert marks.take_passed(reflected=SECOND - 1, idle=True) == [Marked(1)]


def test_marks_pass_in_order() -> None:
    marks = Marks()
    for number in (1, 2, 3):
        marks.add(number, position=number * SECOND)
    assert marks.take_passed(reflected=2 * SECOND, idle=False) == [Marked(1), Marked(2)]
    assert marks.take_passed(reflected=3 * SECOND, idle=False) == [Marked(3)]


def test_overload_is_reported_above_the_limit_and_repeated_after_the_interval() -> None:
    alarm = OverloadAlarm(limit_ms=4000, interval_ms=1000)
    assert alarm.check(captured=10 * SECOND, lag_samples=4 * SECOND) == []
    assert alarm.check(captured=10 * SECOND, lag_samples=5 * SECOND) == [Overload(5000)]
    assert alarm.check(captured=11 * SECOND - 1, lag_samples=6 * SECOND) == []
    assert alarm.check(captured=11 * SECOND, lag_samples=6 * SECOND) == [Overload(6000)]
