"""Effect of hotwords: how many names are recognized, how many are inserted wrongly, and the word error rate.

    python benchmarks/hotwords.py [--weights 0.5 1 2] [--json out/hotwords.json]
    python benchmarks/hotwords.py --second-pass none                   the text of the first pass
    python benchmarks/hotwords.py --absent FOLDER                      with the costs for recordings without the names
    python benchmarks/hotwords.py --data FOLDER --names names.txt --misses

The bundled recordings are 60 synthetic sentences of 15 voices, each with a rare name. All names together are the
hotwords. The recordings are recognized as by `stream-asr transcribe`, without hotwords and then with each weight.
Texts are compared without case and punctuation.

found: names in the text of a recording, of those in its transcript; a name counts if all its words are there, in order
and without others between them. inserted: names in a text that its transcript does not have. WER: word error rate,
micro-averaged. RTF: wall-clock time divided by the duration of the audio.

With --absent, the names of --absent-names are the hotwords for another corpus. None of them is spoken there, so that
each one in a text is an error. Names that are in its transcripts are reported as an error before the start.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import options
from accuracy import recognize_all
from corpus import Utterance, read_corpus
from report import Table, format_count, print_tables, write_json
from scoring import Score, normalize, score

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.decoding.hotwords import read_hotwords
from stream_asr.errors import InputError

BUNDLED_NAMES = Path(__file__).parent / "hotwords"
"""Corpus of sentences with rare names, and the lists of names."""

_DEFAULT_WEIGHTS = [1.0]


@dataclass(frozen=True, slots=True)
class NameCounts:
    """Names in the texts of a corpus.

    Attributes:
        spoken: names in the transcripts.
        found: of these, names in the text of the same recording.
        inserted: names in a text, without those in its transcript.
    """

    spoken: int
    found: int
    inserted: int

    @property
    def recall(self) -> float:
        """Names found, in percent; 0 if none is spoken."""
        return 100 * self.found / self.spoken if self.spoken else 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """Texts of a corpus with one weight.

    Attributes:
        weight: weight of all hotwords; None without hotwords.
        rtf: elapsed seconds per second of audio.
        texts: text of each recording.
    """

    weight: float | None
    names: NameCounts
    score: Score
    rtf: float
    texts: list[str]


def count_phrase(phrase: str, text: str) -> int:
    """Count the occurrences of a phrase as whole words of a text; both are normalized."""
    # A space on both sides of each word: occurrences of a phrase next to each other share none.
    padded, needle = (" " + " ".join(f"{word} " for word in part.split()) for part in (text, phrase))
    return padded.count(needle)


def count_names(names: Iterable[str], references: Sequence[str], hypotheses: Sequence[str]) -> NameCounts:
    """Compare the names in each hypothesis with those in the reference of the same index."""
    phrases = {normalize(name) for name in names}
    spoken = found = inserted = 0
    for reference, hypothesis in zip(map(normalize, references), map(normalize, hypotheses), strict=True):
        for phrase in phrases:
            expected, recognized = count_phrase(phrase, reference), count_phrase(phrase, hypothesis)
            spoken += expected
            found += min(expected, recognized)
            inserted += max(0, recognized - expected)
    return NameCounts(spoken, found, inserted)


def transcribe_text(recognizer: Recognizer, samples: FloatArray) -> str:
    """Transcribe samples and return the text."""
    return recognizer.transcribe(samples).text


def measure(
    arguments: argparse.Namespace, utterances: Sequence[Utterance], names: Sequence[str], description: str
) -> tuple[list[Result], dict[str, Any]]:
    """Recognize a corpus without hotwords and with each weight; return the results and the settings of the model."""
    audio: list[FloatArray] = [utterance.read_samples() for utterance in utterances]
    audio_s = sum(map(len, audio)) / SAMPLE_RATE
    references = [utterance.text for utterance in utterances]
    results: list[Result] = []
    settings: dict[str, Any] = {}
    for weight in (None, *arguments.weights):
        hotwords = {} if weight is None else dict.fromkeys(names, weight)
        with options.load_recognizer(arguments, hotwords) as recognizer:
            settings = settings or options.model_settings(arguments, recognizer)
            texts, elapsed_s = recognize_all(
                partial(transcribe_text, recognizer), audio, f"{description}, {describe_weight(weight)}"
            )
        counts = count_names(names, references, texts)
        results.append(Result(weight, counts, score(references, texts), elapsed_s / audio_s, texts))
    return results, settings


def describe_weight(weight: float | None) -> str:
    return "no hotwords" if weight is None else f"weight {weight:g}"


def names_table(title: str, results: Sequence[Result]) -> Table:
    """Make the table of a corpus whose transcripts have the names."""
    rows = [
        (
            describe_weight(result.weight),
            f"{result.names.found} of {result.names.spoken}",
            f"{result.names.recall:.1f} %",
            str(result.names.inserted),
            f"{result.score.wer:.2f} %",
            f"{result.rtf:.3f}",
        )
        for result in results
    ]
    return Table(title, ("", "found", "recall", "inserted", "WER", "RTF"), rows)


def absent_table(title: str, results: Sequence[Result]) -> Table:
    """Make the table of a corpus whose transcripts have none of the names."""
    without = results[0].score.wer
    rows = [
        (
            describe_weight(result.weight),
            str(result.names.inserted),
            f"{result.score.wer:.2f} %",
            f"{result.score.wer - without:+.2f} points",
            f"{result.rtf:.3f}",
        )
        for result in results
    ]
    return Table(title, ("", "inserted", "WER", "difference", "RTF"), rows)


def misses_table(result: Result, names: Sequence[str], utterances: Sequence[Utterance]) -> Table:
    """Make the table of recordings with names that were not found."""
    rows = []
    for utterance, text in zip(utterances, result.texts, strict=True):
        counts = {name: count_names([name], [utterance.text], [text]) for name in names}
        missed = [name for name, count in counts.items() if count.found < count.spoken]
        if missed:
            rows.append((", ".join(missed), utterance.path.stem, utterance.speaker, text))
    return Table(f"Not found, {describe_weight(result.weight)}", ("", "recording", "speaker", "text"), rows)


def require_absent(names: Iterable[str], utterances: Iterable[Utterance], folder: Path) -> None:
    """Check that none of the names is in a transcript.

    Raises:
        InputError: a transcript contains a name.
    """
    texts = [normalize(utterance.text) for utterance in utterances]
    if spoken := [name for name in names if any(count_phrase(normalize(name), text) for text in texts)]:
        raise InputError(f"{folder} has transcripts with {', '.join(spoken)}; --absent needs names that are not spoken")


def parse_arguments() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=BUNDLED_NAMES,
        metavar="FOLDER",
        help="recordings with a manifest.tsv or in LibriSpeech layout, see corpus.py (default: the bundled sentences)",
    )
    parser.add_argument(
        "--names",
        type=Path,
        metavar="FILE",
        help="names, one per line; weights in the file are ignored (default: names.txt in --data)",
    )
    parser.add_argument(
        "--weights",
        type=options.positive_number,
        nargs="+",
        default=_DEFAULT_WEIGHTS,
        metavar="W",
        help="weights of the names to compare (default: 1, the default of hotwords)",
    )
    parser.add_argument("--absent", type=Path, metavar="FOLDER", help="also measure this corpus, with absent names")
    parser.add_argument(
        "--absent-names",
        type=Path,
        default=BUNDLED_NAMES / "absent_names.txt",
        metavar="FILE",
        help="names that are not spoken in the corpus of --absent (default: 100 bundled names)",
    )
    parser.add_argument(
        "--limit",
        type=options.positive_integer,
        metavar="N",
        help="number of recordings of each corpus, spread evenly over it (default: all)",
    )
    parser.add_argument("--misses", action="store_true", help="also print the recordings whose names were not found")
    options.add_model_options(parser)
    arguments = parser.parse_args()
    arguments.names = arguments.names or arguments.data / "names.txt"
    return arguments


def main() -> None:
    arguments = parse_arguments()
    names = list(read_hotwords(arguments.names))
    utterances = read_corpus(arguments.data, arguments.limit)
    absent_names: list[str] = []
    absent_utterances: list[Utterance] = []
    if arguments.absent:
        absent_names = list(read_hotwords(arguments.absent_names))
        absent_utterances = read_corpus(arguments.absent, arguments.limit)
        require_absent(absent_names, absent_utterances, arguments.absent)

    results, settings = measure(arguments, utterances, names, "names")
    model = f"{settings['model']}, second pass {settings['second_pass'] or 'none'}"
    size = f"{format_count(len(utterances), 'recording')}, {format_count(len(names), 'hotword')}"
    tables = [names_table(f"{model}: {size}", results)]
    if arguments.misses:
        tables += [misses_table(result, names, utterances) for result in results]
    figures = {"names": results}
    if absent_utterances:
        figures["absent"], _ = measure(arguments, absent_utterances, absent_names, "absent names")
        recordings = format_count(len(absent_utterances), "recording")
        size = f"{recordings}, {format_count(len(absent_names), 'absent hotword')}"
        tables.append(absent_table(f"{model}: {size}", figures["absent"]))
    print_tables(*tables)
    if arguments.json:
        data = {
            "folder": arguments.data,
            "names": names,
            "recordings": len(utterances),
            "absent_folder": arguments.absent,
            "absent_names": absent_names,
            "absent_recordings": len(absent_utterances),
        }
        write_json(arguments.json, "hotwords", settings, data, figures, tables)


if __name__ == "__main__":
    options.run_main(main)
