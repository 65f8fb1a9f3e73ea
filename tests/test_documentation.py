"""The documentation agrees with the code: examples run, and links, options, settings and paths exist."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import typer.main

import stream_asr
from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.cli.app import app
from stream_asr.events import AudioDropped, Final, Overload, Partial, SpeechStarted, Word
from stream_asr.server.protocols.native import codec
from stream_asr.server.protocols.registry import ROUTERS
from tests.support.fakes import conversation
from tests.support.serving import run_server

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
USER_PAGES = [page for page in PAGES if page.stem not in ("benchmarks", "peers")]
"""Pages on the command line and the server; the others are about scripts with options of their own."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_FILE = re.compile(r"[\w./-]+(\.(py|md|js|css|html|svg|json|toml|txt|yaml|onnx)|/)")
_SETTING = re.compile(r"(\w+(?:Config|Settings))\.(\w+)")


def code_blocks(path: Path, language: str) -> list[str]:
    return [code for name, code in _FENCE.findall(path.read_text(encoding="utf-8")) if name == language]


def prose(path: Path) -> str:
    """Return the text of a document without its code blocks."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = _HEADING.findall(prose(path))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> dict[str, set[str]]:
    """Return the options of each command of ``stream-asr``."""

    def visit(name: str, command: Any) -> Iterator[tuple[str, set[str]]]:
        options = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
        yield name, options | {"--help"}
        for inner_name, inner in getattr(command, "commands", {}).items():
            yield from visit(f"{name} {inner_name}".strip(), inner)

    return dict(visit("", typer.main.get_command(app)))


def parse_json_objects(text: str) -> list[dict[str, Any]]:
    objects, decoder = [], json.JSONDecoder()
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        objects.append(value)
        text = text[end:]
    return objects


def split(audio: FloatArray, size: int) -> list[FloatArray]:
    return [audio[start : start + size] for start in range(0, len(audio), size)]


# --- links, options, settings and paths -----------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_resolve(path: Path) -> None:
    for link in _LINK.findall(prose(path)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", [ROOT / "README.md", *USER_PAGES], ids=lambda path: path.name)
def test_documented_options_exist(path: Path) -> None:
    known = commands()
    all_options = set().union(*known.values())
    for span in _CODE_SPAN.findall(prose(path)):
        if not span.startswith(("benchmarks/", "python ", "pip ")):
            assert set(_OPTION.findall(span)) <= all_options, span
    for block in code_blocks(path, "console"):
        for line in block.splitlines():
            command = re.search(r"stream-asr (lm build|\w+)(.*)", line.partition("#")[0])
            if command is None or "docker" in line:
                continue
            assert command[1] in known, line
            assert set(_OPTION.findall(command[2])) <= known[command[1]], line


def test_command_line_page_lists_all_commands() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for name in commands():
        assert name in ("", "lm") or f"stream-asr {name}" in text, name


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda path: path.name)
def test_named_settings_exist(path: Path) -> None:
    modules = [importlib.import_module(f"stream_asr.{name}") for name in ("config", "server.settings")]
    for class_name, field in _SETTING.findall(prose(path)):
        classes = [vars(module)[class_name] for module in modules if class_name in vars(module)]
        assert classes, class_name
        assert field in classes[0].__dataclass_fields__, f"{class_name}.{field}"


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md", "docs/reliability.md"])
def test_named_files_exist(name: str) -> None:
    """Paths may be relative to any folder: ``decoding/beam.py`` stands for ``stream_asr/decoding/beam.py``."""
    folders = ("stream_asr", "tests", "benchmarks", "clients", "docs", "recipes")
    existing = [path for folder in folders for path in (ROOT / folder, *(ROOT / folder).rglob("*"))]
    known = [f"/{path.relative_to(ROOT)}" + "/" * path.is_dir() for path in existing]
    known += [f"/{path.name}" for path in ROOT.iterdir()]
    for span in _CODE_SPAN.findall(prose(ROOT / name)):
        if _FILE.fullmatch(span) and span not in ("out/", "dist/", "manifest.tsv"):
            assert any(path.endswith(f"/{span}") for path in known), span


# --- examples -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_examples_compile(path: Path) -> None:
    for number, code in enumerate(code_blocks(path, "python")):
        compile(code, f"{path.name}, Python example {number}", "exec")


def test_python_examples_run(
    fake_recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The examples of the README and of the page on Python run one after another, with a fake model."""
    audio = conversation("hello world")
    soundfile.write(tmp_path / "talk.wav", audio, 16_000, subtype="FLOAT")
    (tmp_path / "talk.wav").rename(tmp_path / "talk.mp3")  # the decoder looks at the content
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Recognizer, "from_pretrained", lambda *arguments, **options: fake_recognizer)
    names: dict[str, Any] = {"microphone": split(np.repeat(audio, 3), 4800)}
    for path in (ROOT / "README.md", ROOT / "docs" / "python.md"):
        for code in code_blocks(path, "python"):
            exec(code, names)
    printed = capsys.readouterr().out
    assert printed.startswith("hello world\n")
    assert printed.count("hello world") >= 3  # the file and the microphone, then the file again


def test_example_of_a_protocol_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The route in CONTRIBUTING.md serves a client."""
    (code,) = code_blocks(ROOT / "CONTRIBUTING.md", "python")
    module = ModuleType("example_protocol")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(code, vars(module))
    monkeypatch.setattr("stream_asr.server.app.ROUTERS", (module.router, *ROUTERS))
    with run_server() as server:
        client = server.open("/example")
        client.send((conversation("hello") * 32767).astype("<i2").tobytes())
        client.send("end")
        messages = [json.loads(message) for message in client]
    assert [message["text"] for message in messages if message["type"] == "final"] == ["hello"]
    assert client.close_code == 1000


def test_documented_events_have_the_wire_format() -> None:
    words = (Word("ask", 0.5, 0.71, 0.97),)
    events = (
        SpeechStarted(0, 0.42),
        Partial(0, 0.42, 1.9, "", ""),
        Final(0, 0.42, 4.31, "", 0.93, words),
        Overload(4350),
        AudioDropped(61.2, 63.0),
    )
    (block,) = code_blocks(ROOT / "docs" / "python.md", "json")
    documented = parse_json_objects(block)
    assert [list(event) for event in documented] == [list(event.to_json()) for event in events]
    assert list(documented[2]["words"][0]) == list(words[0].to_json())


def test_documented_messages_of_the_native_protocol_are_valid() -> None:
    client, server, resume = code_blocks(ROOT / "docs" / "protocols.md", "json")
    for message in parse_json_objects(client + resume):
        codec.decode(json.dumps(message))
    classes = {message.type: message for message in (codec.Ready, codec.Ack, codec.Done, codec.Error)}
    for message in parse_json_objects(server):
        if message["type"] != "pong":
            values = {name: value for name, value in message.items() if name != "type"}
            assert json.loads(codec.encode(classes[message["type"]](**values))) == message


def test_newest_release_in_the_changelog_is_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    releases = headings[1:] if headings[0] == "Unreleased" else headings
    versions = []
    for release in releases:
        match = re.fullmatch(r"\[?(\d+\.\d+\.\d+)\]?( - \d{4}-\d\d-\d\d)?", release)
        assert match, f"{release!r} is not a version with an optional date"
        versions.append(match[1])
    assert versions[:1] in ([], [stream_asr.__version__])
