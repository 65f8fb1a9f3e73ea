"""The parts of the benchmarks that are not measurements: what they read, reckon and write."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace
from pathlib import Path

import numpy as np
import options
import protocols
import pytest
import report
import tables
from corpus import BUNDLED, Placed, Programme, Utterance, assembled, read_corpus
from grid import Windows, draw_grid, grid, grid_tables, listed
from latency import latency_table
from pacing import Run, follow, run_connections, run_streams, slope
from protocols import PROTOCOLS
from scoring import score
from soak import faults, figures, settled, soak
from sound import pcm16, pink_noise
from tables import markdown
from throughput import attempt, capacity
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve
from words import parse_ctm, placed_words

from stream_asr import Recognizer
from stream_asr.events import Final, Partial, Word
from stream_asr.latency import Arrival, measure
from tests.support.fakes import conversation, silence
from tests.support.serving import Served, serving


def test_the_bundled_recording_has_a_manifest() -> None:
    (utterance,) = read_corpus(BUNDLED)
    assert len(utterance.samples()) == 472_000
    assert utterance.text.startswith("good morning and welcome")


def test_librispeech_is_read_as_it_comes(tmp_path: Path) -> None:
    chapter = tmp_path / "test-clean" / "61" / "70968"
    chapter.mkdir(parents=True)
    (chapter / "61-70968.trans.txt").write_text("61-70968-0000 HE BEGAN\n61-70968-0001 AND ENDED\n")
    found = read_corpus(tmp_path)
    assert found == [
        Utterance(chapter / "61-70968-0000.flac", "61", "HE BEGAN"),
        Utterance(chapter / "61-70968-0001.flac", "61", "AND ENDED"),
    ]
    assert read_corpus(tmp_path, 1) == found[:1]


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="neither a manifest"):
        read_corpus(tmp_path)


TABLE = report.Table("a title", ("", "WER"), [("live", "3 %"), ("a|b",)])


def test_a_report_says_what_where_and_when(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    figures = {"wer": np.float64(0.5), "batches": np.array([1, 2])}
    report.write_json(path, "accuracy", {"model": Path("m")}, {"recordings": 1}, figures, [TABLE])
    written = json.loads(path.read_text())
    assert list(written) == ["benchmark", "date", "machine", "settings", "data", "results", "tables"]
    assert written["settings"] == {"model": "m"}
    assert written["results"] == {"wer": 0.5, "batches": [1, 2]}
    assert written["tables"][0]["title"] == "a title"
    assert written["machine"]["processor"]
    assert written["machine"]["torch"]


def test_a_table_in_markdown() -> None:
    assert TABLE.markdown().splitlines() == [
        "**a title**",
        "",
        "|  | WER |",
        "| --- | ---: |",
        "| live | 3 % |",
        "| a\\|b |  |",
    ]


def test_a_plot_is_a_picture_with_labels(tmp_path: Path) -> None:
    path = tmp_path / "new" / "plot.svg"
    with report.plot(path, "Words appear", "after their end (ms)", "share (%)") as axes:
        axes.plot([1, 2], [3, 4])
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("after their end (ms)", "share (%)")
    assert "<svg" in path.read_text()


def test_without_matplotlib_a_plot_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r"\[bench\]"), report.plot(tmp_path / "plot.png", "", "", ""):
        pass


def test_memory_is_in_mebibytes() -> None:
    before = report.memory_mib()
    held = bytearray(b"x" * (64 << 20))
    assert 50 < report.memory_mib() - before < 100
    assert report.peak_memory_mib() >= before + 0.5 * len(held) / (1 << 20)


def test_pink_noise_has_unit_power_that_falls_with_the_frequency() -> None:
    noise = pink_noise(1 << 16, np.random.default_rng(1))
    power = np.square(np.abs(np.fft.rfft(noise)))
    assert np.square(noise).mean() == pytest.approx(1, abs=1e-3)
    assert power[100:200].mean() / power[10_000:20_000].mean() == pytest.approx(100, rel=0.3)


def test_full_scale_is_32768() -> None:
    assert np.frombuffer(pcm16(np.array([-1, -0.5, 0.5, 1], np.float32)), "<i2").tolist() == [
        -32768,
        -16384,
        16384,
        32767,
    ]


# --- reference words --------------------------------------------------------------------------------------------

CTM = """;; a comment
b 1 0.50 0.25 what
a 1 1.00 0.50 not 0.9
a 1 0.20 0.30 ask
"""


def test_a_ctm_gives_words_in_their_order() -> None:
    words = parse_ctm(CTM.splitlines())
    assert words == {
        "a": [Word("ask", 0.2, 0.5, 1.0), Word("not", 1.0, 1.5, 0.9)],
        "b": [Word("what", 0.5, 0.75, 1.0)],
    }


@pytest.mark.parametrize("line", ["a 1 0.2 0.3", "a 1 0.2 long ask"])
def test_a_line_that_is_no_ctm_is_named(line: str) -> None:
    with pytest.raises(SystemExit, match=r"line 2 of there is not of the form RECORDING CHANNEL START"):
        parse_ctm(["a 1 0 1 ask", line], "there")


def placed(name: str, start_s: float) -> Placed:
    return Placed(Utterance(Path(f"{name}.flac"), "", ""), silence(1), start_s)


def test_words_move_with_their_recordings() -> None:
    words = placed_words(parse_ctm(CTM.splitlines()), [placed("b", 0.0), placed("a", 10.0), placed("b", 20.0)])
    assert [(word.word, word.start, word.end) for word in words] == [
        ("what", 0.5, 0.75),
        ("ask", 10.2, 10.5),
        ("not", 11.0, 11.5),
        ("what", 20.5, 20.75),
    ]


def test_recordings_without_word_times_are_named() -> None:
    with pytest.raises(SystemExit, match="no word times of c; there are of a, b"):
        placed_words(parse_ctm(CTM.splitlines()), [placed("c", 0.0)])


def test_a_programme_is_as_long_as_wanted_and_knows_where_its_recordings_are() -> None:
    programme = assembled(read_corpus(BUNDLED), 50, seed=1)
    first, second = programme.places
    assert (first.name, first.start_s, second.name) == ("demo", 0.0, "demo")
    assert 29.5 + 0.7 <= second.start_s <= 29.5 + 1.5
    at = round(second.start_s * 16_000)
    assert np.array_equal(programme.samples[at : at + 472_000], programme.samples[:472_000])
    assert not programme.samples[472_000:at].any()
    assert programme.seconds >= 50
    assert len(assembled(read_corpus(BUNDLED), 50, seed=1, again=False).places) == 1


# --- pacing and protocols ---------------------------------------------------------------------------------------

SAID = ["hello world", "ab abc"]


@pytest.mark.parametrize("points", [[(0, 1), (2, 5)], [(0, 1), (1, 3), (2, 5), (3, 7)]])
def test_the_slope_of_a_line(points: list[tuple[float, float]]) -> None:
    assert slope(points) == pytest.approx(2)
    assert slope(points[:1]) == 0


def test_paced_streams_end_in_the_text_of_the_recording(fake_recognizer: Recognizer) -> None:
    first, second = run_streams(fake_recognizer, conversation(*SAID), 2, spread_s=0.1)
    assert first.finals == second.finals == SAID
    assert first.counts is not None
    assert first.counts.dropped == 0
    assert len(first.lags) == pytest.approx(len(conversation(*SAID)) / 320)
    assert all(arrival.at_s > 0 for arrival in first.arrivals)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as server:
        yield server


@pytest.mark.parametrize(
    ("protocol", "has_words", "has_ends", "has_stable"),
    [
        ("native", True, True, True),
        ("vosk", True, False, False),
        ("deepgram", True, True, True),
        ("openai", False, True, True),
    ],
)
def test_every_protocol_gives_the_same_captions(
    served: Served, protocol: str, has_words: bool, has_ends: bool, has_stable: bool
) -> None:
    said = ["long enough to have a stable front", "ab"]
    audio = conversation(*said)
    (run,) = run_connections(lambda: PROTOCOLS[protocol](f"ws://{served.address}", None), audio, 1, spread_s=0)
    assert run.finals == said
    finals = [arrival.event for arrival in run.arrivals if isinstance(arrival.event, Final)]
    assert [final.utterance for final in finals] == [0, 1]
    for final in finals:
        assert bool(final.words) == has_words
        assert (not math.isnan(final.end)) == has_ends
    partials = [arrival.event for arrival in run.arrivals if isinstance(arrival.event, Partial)]
    assert partials
    assert any(partial.stable for partial in partials) == has_stable
    reference = [Word(word, 0.0, 0.0, 1.0) for word in " ".join(said).split()]
    assert len(measure(run.arrivals, reference).word_first_ms) == len(reference)


def test_a_path_and_a_query_of_the_address_are_kept(served: Served) -> None:
    query = "sample_rate=16000&encoding=linear16&interim_results=false"
    (run,) = run_connections(
        lambda: PROTOCOLS["deepgram"](f"ws://{served.address}/v1/listen?{query}", None),
        conversation("hello"),
        1,
        spread_s=0,
    )
    assert run.finals == ["hello"]


def test_what_a_server_refuses_is_told(served: Served) -> None:
    with PROTOCOLS["native"](f"ws://{served.address}", None) as connection:
        connection.say(type="nonsense")
        with pytest.raises(RuntimeError, match="nonsense"):
            list(connection)


def test_a_connection_that_fails_ends_the_feeding(served: Served) -> None:
    with PROTOCOLS["native"](f"ws://{served.address}", None) as connection:
        connection.say(type="nonsense")
        with pytest.raises((RuntimeError, ConnectionClosed)):
            follow(connection, silence(60), 16_000, Run())


def test_a_silent_server_is_waited_for_until_it_has_all_the_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(protocols, "_LOOK_EVERY_S", 0.02)
    with ThreadPoolExecutor(2) as threads, serve(lambda connection: list(connection), "127.0.0.1", 0) as server:
        threads.submit(server.serve_forever)
        with PROTOCOLS["vosk"](f"ws://127.0.0.1:{server.socket.getsockname()[1]}", None) as connection:
            reading = threads.submit(list, connection)
            with pytest.raises(FutureTimeout):
                reading.result(0.4)
            connection.finish()
            with pytest.raises(TimeoutError):
                reading.result(30)
            assert reading.done()


def test_latencies_are_put_into_a_table() -> None:
    word = Word("ask", 0.5, 1.0, 1.0)
    report = measure([Arrival(1.25, Final(0, 0.0, math.nan, "ask", 1.0, (word,)))])
    table = latency_table("a title", report)
    assert ("word, to stable", "250", "250", "250", "250") in table.rows
    assert ("final, after the endpoint's decision", "-", "-", "-", "-") in table.rows


# --- capacity and soak ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 5, 16, 100])
@pytest.mark.parametrize("limit", [0, 1, 3, 4, 5, 16, 77, 1000])
def test_capacity_is_found_with_few_trials(limit: int, most: int) -> None:
    tried: list[int] = []

    def held(streams: int) -> bool:
        tried.append(streams)
        return streams <= limit

    assert capacity(held, most) == min(limit, most)
    assert len(set(tried)) == len(tried) <= 2 * most.bit_length() + 1
    assert max(tried) <= most


def test_streams_that_are_complete_and_in_time_are_held(fake_recognizer: Recognizer) -> None:
    programme = Programme(conversation(*SAID), ())
    trial = attempt(fake_recognizer, programme, SAID, 2)
    assert (trial.lost, trial.samples_dropped) == (0, 0)
    assert sum(trial.batches) > 0
    assert 1 <= trial.mean_batch <= 2
    assert trial.word_p95_ms is not None
    assert trial.held(trial.word_p95_ms)
    assert not trial.held(trial.word_p95_ms - 1)
    assert not replace(trial, lost=1).held(1e9)
    assert not replace(trial, samples_dropped=1).held(1e9)


def test_a_soak_hears_as_much_as_it_should_and_accounts_for_it(fake_recognizer: Recognizer) -> None:
    audio = conversation(*SAID)
    hours = 60 / 3600
    seen = soak(fake_recognizer, audio, hours)
    assert seen.counts is not None
    assert seen.counts.captured == 60 * 16_000
    found = figures(seen, hours)
    assert (found["samples_dropped"], found["samples_unaccounted"]) == (0, 0)
    assert faults(found, 30_000) == []
    assert found["finals"] == pytest.approx(2 * 60 * 16_000 / len(audio), abs=2)
    assert len(settled(seen.memory_mib)) == pytest.approx(0.75 * len(seen.memory_mib), abs=1)


def test_a_soak_says_what_went_wrong() -> None:
    well = {"samples_dropped": 0, "samples_unaccounted": 0, "lag_max_ms": 30_000}
    assert faults(well, 30_000) == []
    assert faults({**well, "samples_dropped": 3}, 30_000) == ["samples dropped: 3"]
    assert faults({**well, "samples_unaccounted": -1}, 30_000) == ["samples unaccounted for: -1"]
    assert faults({**well, "lag_max_ms": 30_001}, 30_000) == ["a lag of 30001 ms, beyond the buffer of 30000 ms"]


# --- windows, scores and tables ---------------------------------------------------------------------------------


def test_a_grid_is_all_combinations() -> None:
    assert grid("2 4, 1.6, 0.4 0.8") == [
        Windows(2, 1.6, 0.4),
        Windows(2, 1.6, 0.8),
        Windows(4, 1.6, 0.4),
        Windows(4, 1.6, 0.8),
    ]
    assert listed("4 1.6 0.8, 2 1.6 0.4") == [Windows(4, 1.6, 0.8), Windows(2, 1.6, 0.4)]
    config = Windows(8, 3.2, 1.6).config()
    windows = config.windows
    assert (windows.left_context_ms, windows.commit_ms, windows.right_context_ms) == (8000, 3200, 1600)


@pytest.mark.parametrize(
    ("parse", "text"), [(grid, "1 2, 3"), (grid, "1, , 2"), (listed, "1 2 3, 4 5"), (grid, "a,b,c")]
)
def test_what_is_no_grid_is_refused(parse: Callable[[str], list[Windows]], text: str) -> None:
    with pytest.raises(ValueError, match=r"needed|needs|convert"):
        parse(text)


def test_a_grid_has_a_table_and_a_map_for_each_left_context(tmp_path: Path) -> None:
    wers = {windows: 10.0 + place for place, windows in enumerate(grid("2 4, 1.6, 0.4 0.8"))}
    first, second = grid_tables(wers)
    assert first.columns == ("left context 2 s", "right 0.4 s", "right 0.8 s")
    assert first.rows == [("1.6 s kept", "10.00 %", "11.00 %")]
    assert second.rows == [("1.6 s kept", "12.00 %", "13.00 %")]
    draw_grid(tmp_path / "map.svg", "a title", wers)
    assert (tmp_path / "map.svg").stat().st_size > 1000


def test_word_error_rates_count_words_over_all_texts() -> None:
    found = score(["It's one, two", "three"], ["its ONE", "three four"])
    assert (found.substitutions, found.insertions, found.deletions, found.words) == (1, 1, 1, 4)
    assert found.wer == 75.0


def test_a_reader_of_markdown_may_go_away(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report.write_json(path, "accuracy", {}, {}, {}, [TABLE] * 2000)
    script = Path(tables.__file__)
    with subprocess.Popen([sys.executable, script, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "tests"), "backends.py: error: tests has no config.json"),
        (("--seconds", "0"), "argument --seconds: 0 is not above 0"),
        (("--plot", "out/plot.xyz"), "argument --plot: out/plot.xyz does not end in .png, .svg, .pdf"),
    ],
)
def test_what_a_user_can_mend_is_told_in_a_line(arguments: tuple[str, str], words: str) -> None:
    script = Path(options.__file__).with_name("backends.py")
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_reports_become_markdown(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report.write_json(path, "accuracy", {"model": "m", "lm": None}, {}, {}, [TABLE])
    text = markdown(json.loads(path.read_text()))
    assert text.startswith(f"### accuracy\n\n{TABLE.markdown()}\n\n")
    assert text.endswith("model m.")
    assert "lm" not in text.splitlines()[-1]
