"""Words that the recognizer writes without speech: in silence, noise, hum, music, keyboard clicks and breath.

    python benchmarks/false_words.py [--minutes 30] [--json out/false_words.json]
    python benchmarks/false_words.py --sounds music breath --levels -30 --vad silero
    python benchmarks/false_words.py --second-pass none
    python benchmarks/false_words.py --live                            with partials, several times slower

The sounds are synthetic (nonspeech.py), so no data is needed. Each is one stream, recognized in the same way as by
`stream-asr transcribe`. The levels take turns every 10 to 30 s. A level is that of loud frames of 50 ms, in dBFS;
speech close to a microphone has -30 to -20.

utterances: utterances that the voice detector opened. in utterances: their share of the audio. with text: finals with
text. words: their words; symbols such as a music note count as well, because readers see them. per hour: words per hour
of audio. With --live, partials: partials with text. Live streams get a block of 0.2 s as soon as the one before it has
been recognized, so the number of partials does not depend on the speed of the machine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import options
from nonspeech import SOUNDS, Segment, generate_sound
from report import Table, format_figure, print_tables, write_json
from rich.console import Console
from rich.progress import Progress

from stream_asr import Final, Marked, Partial, Recognizer, Stream
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.events import Event
from stream_asr.vad.detectors import DETECTORS

_BLOCK_S = 1.0
_LIVE_BLOCK_S = 0.2


@dataclass(frozen=True, slots=True)
class FalseText:
    """A final with text.

    Attributes:
        start_s, end_s: position of the utterance in the sound.
        level_db: level of the sound at the start of the first word; None for digital silence.
        words: number of words.
        confidence: lowest confidence of a word, 0 to 1.
    """

    start_s: float
    end_s: float
    level_db: float | None
    text: str
    words: int
    confidence: float


@dataclass(slots=True)
class SoundResult:
    """Result of one sound.

    Attributes:
        sound: its name.
        audio_s: duration of the sound.
        utterances: utterances that the voice detector opened.
        utterance_s: their total duration.
        partials_with_text: number of partials with text, if the sound was a live stream.
        texts: the finals with text.
    """

    sound: str
    audio_s: float = 0.0
    utterances: int = 0
    utterance_s: float = 0.0
    partials_with_text: int = 0
    texts: list[FalseText] = field(default_factory=list)

    @property
    def words(self) -> int:
        return sum(text.words for text in self.texts)

    @property
    def words_per_hour(self) -> float:
        return self.words * 3600 / self.audio_s

    @property
    def utterance_percent(self) -> float:
        return 100 * self.utterance_s / self.audio_s


def recognize_sound(
    recognizer: Recognizer, sound: str, segments: Iterator[Segment], *, live: bool, progress: Progress | None = None
) -> SoundResult:
    """Recognize a sound in one stream, as fast as the stream accepts it."""
    result = SoundResult(sound)
    starts_s: list[float] = []
    levels_db: list[float | None] = []

    def add(event: Event) -> None:
        if isinstance(event, Partial) and event.text:
            result.partials_with_text += 1
        if isinstance(event, Final):
            result.utterances += 1
            result.utterance_s += event.end - event.start
            if event.text:
                level_db = levels_db[bisect_right(starts_s, event.words[0].start) - 1]
                result.texts.append(_false_text(event, level_db))

    task = None if progress is None else progress.add_task(sound, total=None)
    with recognizer.stream(live=live) as stream:
        for segment in segments:
            starts_s.append(result.audio_s)
            levels_db.append(segment.level_db)
            result.audio_s += len(segment.samples) / SAMPLE_RATE
            for block in _blocks(segment.samples, _LIVE_BLOCK_S if live else _BLOCK_S):
                stream.feed(block)
                for event in _events_until_mark(stream) if live else _ready_events(stream):
                    add(event)
            if progress is not None and task is not None:
                progress.update(task, description=f"{sound}: {result.audio_s / 60:.1f} min, {result.words} words")
        stream.finish()
        for event in stream:
            add(event)
    return result


def _blocks(samples: FloatArray, block_s: float) -> Iterator[FloatArray]:
    size = round(block_s * SAMPLE_RATE)
    return (samples[at : at + size] for at in range(0, len(samples), size))


def _ready_events(stream: Stream) -> list[Event]:
    stream.drain()
    return stream.poll()


def _events_until_mark(stream: Stream) -> Iterator[Event]:
    """Yield the events of the audio so far, once it has been recognized."""
    mark = stream.mark()
    for event in stream:
        if isinstance(event, Marked) and event.mark == mark:
            return
        yield event


def _false_text(final: Final, level_db: float | None) -> FalseText:
    confidence = min(word.confidence for word in final.words)
    return FalseText(final.start, final.end, level_db, final.text, len(final.words), confidence)


def make_tables(title: str, results: Sequence[SoundResult], max_texts: int, *, live: bool) -> list[Table]:
    """Make the table of sounds and, if there are any, the table of texts.

    Args:
        max_texts: number of texts of each sound that the table has.
        live: whether to include the number of partials.
    """
    columns = ["", "minutes", "utterances", "in utterances", "with text", "words", "per hour"]
    rows = [
        [
            result.sound,
            f"{result.audio_s / 60:g}",
            str(result.utterances),
            f"{result.utterance_percent:.0f} %",
            str(len(result.texts)),
            str(result.words),
            format_figure(result.words_per_hour),
            *([str(result.partials_with_text)] if live else []),
        ]
        for result in results
    ]
    tables = [Table(title, [*columns, "partials"] if live else columns, rows)]
    texts = [
        [
            result.sound,
            f"{text.start_s:.1f}-{text.end_s:.1f} s",
            "" if text.level_db is None else f"{text.level_db:g} dBFS",
            f"{text.confidence:.2f}",
            text.text,
        ]
        for result in results
        for text in result.texts[:max_texts]
    ]
    if texts:
        tables.append(Table("Finals with text", ["", "utterance", "level", "lowest confidence", "text"], texts))
    return tables


def main() -> None:
    parser = options.make_parser(__doc__)
    options.add_model_options(parser)
    parser.add_argument(
        "--sounds", nargs="+", choices=tuple(SOUNDS), default=list(SOUNDS), help="sounds to recognize (default: all)"
    )
    parser.add_argument(
        "--minutes", type=options.positive_number, default=30.0, help="duration of each sound (default: %(default)s)"
    )
    parser.add_argument(
        "--levels",
        nargs="+",
        type=float,
        default=[-40, -30, -20],
        metavar="DBFS",
        help="levels, which take turns (default: -40 -30 -20)",
    )
    parser.add_argument("--vad", choices=DETECTORS, default="webrtc", help="voice detector (default: %(default)s)")
    parser.add_argument("--live", action="store_true", help="recognize live streams, with partials")
    parser.add_argument(
        "--texts",
        type=options.positive_integer,
        default=20,
        metavar="N",
        help="number of texts of each sound to print; the JSON report has all (default: %(default)s)",
    )
    options.add_seed_option(parser, "the sounds")
    arguments = parser.parse_args()

    results: list[SoundResult] = []
    with (
        options.load_recognizer(arguments, vad=arguments.vad) as recognizer,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        settings = options.model_settings(arguments, recognizer)
        for sound in arguments.sounds:
            # Independent of which other sounds are selected.
            rng = np.random.default_rng([arguments.seed, list(SOUNDS).index(sound)])
            segments = generate_sound(sound, 60 * arguments.minutes, arguments.levels, rng)
            results.append(recognize_sound(recognizer, sound, segments, live=arguments.live, progress=progress))
    second_pass = settings["second_pass"] or "none"
    title = f"Words without speech: {settings['model']}, second pass {second_pass}, voice detector {arguments.vad}"
    tables = make_tables(title, results, arguments.texts, live=arguments.live)
    print_tables(*tables)
    if arguments.json:
        settings |= {"vad": arguments.vad, "live": arguments.live, "seed": arguments.seed}
        data = {"minutes": arguments.minutes, "levels_db": arguments.levels}
        figures = {
            result.sound: {
                "audio_s": result.audio_s,
                "utterances": result.utterances,
                "utterance_s": result.utterance_s,
                "partials_with_text": result.partials_with_text if arguments.live else None,
                "words": result.words,
                "words_per_hour": result.words_per_hour,
                "texts": result.texts,
            }
            for result in results
        }
        write_json(arguments.json, "false_words", settings, data, figures, tables)


if __name__ == "__main__":
    options.run_main(main)
