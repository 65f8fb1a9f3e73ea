"""The shape of the package: a pure core, dependencies in one direction, modules of a readable size."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import stream_asr

ROOT = Path(__file__).parents[1]
PACKAGE = Path(stream_asr.__file__).parent
MODULES = {
    ".".join(("stream_asr", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}

LAYERS = (
    ("", "errors"),
    ("config", "atomic_files", "array_types"),
    ("events",),
    ("subtitles", "latency", "audio", "vad", "acoustic", "lm"),
    ("decoding",),
    ("streaming",),
    ("stream",),
    ("recognizer",),
    ("training", "server"),
    ("cli",),
    ("__main__",),
)
"""Modules and packages of the root. Each may import those above its line; none imports its neighbors."""

SHELLS = (
    *("acoustic", "audio.container", "audio.files", "audio.microphone", "audio.sources", "vad.detectors", "vad.silero"),
    *("streaming.mailbox", "streaming.engine", "stream", "recognizer", "training", "server", "cli", "__main__"),
)
"""Modules and packages that may use torch, threads, sockets and clocks. All others are pure."""

PURE_IN_SHELLS = (
    *("acoustic.base", "acoustic.catalog", "acoustic.labels", "acoustic.tokenizer_labels"),
    *("training.alphabet", "training.batching", "training.manifest", "training.schedule", "training.scoring"),
    *("training.settings",),
    *("server.errors", "server.settings", "server.protocols.json_messages", "server.protocols.native.codec"),
    *("server.protocols.vosk.codec", "server.protocols.deepgram.client_codec"),
    *("server.protocols.deepgram.server_codec", "server.protocols.openai.common_codec"),
    *("server.protocols.openai.transcription_codec", "server.protocols.openai.realtime_client_codec"),
    *("server.protocols.openai.realtime_server_codec",),
    *("server.sessions.outbox", "server.sessions.pacing", "server.sessions.request"),
    *("cli.option_groups", "cli.options", "cli.outputs", "cli.views"),
)

IMPURE = {
    *("torch", "transformers", "onnxruntime", "sounddevice", "soundfile", "av", "fastapi", "starlette"),
    *("asyncio", "threading", "time", "datetime", "random", "secrets", "socket", "tempfile"),
}

FORBIDDEN_FOR_TRAINING = ("streaming", "stream", "recognizer", "server", "cli", "vad")

MAX_LINES = 500
LONG_MODULES = {"stream_asr.config": 600}
"""Modules that may be longer: all settings of the recognizer are in one place."""


def imports(path: Path, *, lazy: bool) -> set[str]:
    """Modules that a file imports; with ``lazy``, also inside functions. Imports for type checkers do not count."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not lazy:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(names & set(MODULES) or {node.module})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def within(name: str, places: tuple[str, ...]) -> bool:
    """Whether a module is, or is inside, one of the given modules and packages."""
    return any(f"{name}.".startswith(f"stream_asr.{place}.") for place in places)


def imported_transitively(name: str) -> set[str]:
    """A module, and all modules that it imports directly or through others."""
    found: set[str] = set()
    waiting = {name}
    while waiting:
        module = waiting.pop()
        found.add(module)
        if module in MODULES:
            waiting |= imports(MODULES[module], lazy=True) - found
    return found


@pytest.mark.parametrize(
    "name", sorted(name for name in MODULES if within(name, PURE_IN_SHELLS) or not within(name, SHELLS))
)
def test_core_modules_are_pure(name: str) -> None:
    """Neither the module itself nor anything that it imports is impure."""
    assert not {module.split(".")[0] for module in imported_transitively(name)} & IMPURE


@pytest.mark.parametrize("place", [*SHELLS, *PURE_IN_SHELLS])
def test_every_listed_place_exists(place: str) -> None:
    assert f"stream_asr.{place}" in MODULES


def test_imports_point_to_lower_layers_only() -> None:
    rank = {place: number for number, places in enumerate(LAYERS) for place in places}

    def place(name: str) -> str:
        return name.partition(".")[2].split(".")[0]

    for name, path in MODULES.items():
        for other in imports(path, lazy=True) & set(MODULES):
            assert place(other) == place(name) or rank[place(other)] < rank[place(name)], f"{name} imports {other}"


def test_training_is_independent_of_streaming() -> None:
    for name in MODULES:
        if within(name, ("training",)):
            assert not [other for other in imported_transitively(name) if within(other, FORBIDDEN_FOR_TRAINING)], name


def test_package_does_not_import_recipes_or_tests() -> None:
    for name, path in MODULES.items():
        roots = {other.split(".")[0] for other in imports(path, lazy=True)}
        assert not roots & {"recipes", "tests", "benchmarks", "clients"}, name


def test_clients_do_not_import_the_package() -> None:
    clients = sorted((ROOT / "clients").rglob("*.py"))
    assert clients
    for path in clients:
        assert not [name for name in imports(path, lazy=True) if name.split(".")[0] == "stream_asr"], path


def test_no_import_cycles() -> None:
    graph = {name: imports(path, lazy=True) & set(MODULES) - {name} for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above[above.index(name) :], name))
        if name not in done:
            for other in graph[name]:
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("name", sorted(MODULES))
def test_modules_have_a_readable_size(name: str) -> None:
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= LONG_MODULES.get(name, MAX_LINES)


def test_tests_mirror_the_package() -> None:
    """Each folder of tests is a package of the product, or one of the folders beside it."""
    beside = {"support", "benchmarks", "recipes", "clients"}
    for folder in sorted(path.parent for path in (ROOT / "tests").rglob("test_*.py")):
        inner = folder.relative_to(ROOT / "tests")
        assert str(inner) in beside or (PACKAGE / inner).is_dir(), inner


@pytest.mark.parametrize("command", [[], ["finetune"], ["serve"], ["transcribe"]])
def test_help_does_not_import_heavy_libraries(command: list[str]) -> None:
    code = (
        f"import sys; sys.argv = {['stream-asr', *command, '--help']}\n"
        "from stream_asr.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
