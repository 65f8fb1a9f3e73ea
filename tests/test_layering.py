"""The shape of the package: a pure core, data flowing one way, modules that fit on a few screens."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import stream_asr

PACKAGE = Path(stream_asr.__file__).parent
MODULES = {
    ".".join(("stream_asr", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
PURE = (
    "config",
    "errors",
    "events",
    "segmenter",
    "vad.base",
    "vad.webrtc",
    "windows",
    "ctc",
    "decoding",
    "greedy",
    "casing",
    "beam",
    "said",
    "lm.text",
    "lm.lexicon",
    "lm.ngram",
    "lm.estimate",
    "lm.hotwords",
    "lm.spelling",
    "lm.decoder",
    "captions",
    "subtitles",
    "pipeline",
    "latency",
    "ledger",
    "marks",
    "jobs",
    "overload",
    "training.alphabet",
    "training.batches",
    "training.manifest",
    "training.schedule",
    "training.scoring",
    "server.errors",
    "server.outbox",
    "server.request",
    "server.limits",
    "server.protocols.messages",
    "server.protocols.native",
    "server.protocols.vosk",
    "server.protocols.deepgram",
    "server.protocols.deepgram_results",
    "server.protocols.openai",
    "server.protocols.openai_audio",
    "server.protocols.openai_conversation",
    "server.protocols.openai_realtime",
)
IMPURE = {
    *("torch", "transformers", "onnxruntime", "sounddevice", "soundfile", "fastapi", "starlette"),
    *("asyncio", "threading", "time", "datetime", "random", "secrets", "socket", "tempfile"),
}


def imports(path: Path, *, lazy: bool) -> set[str]:
    """Modules imported; ``lazy`` includes those imported inside functions. Imports for type checkers do not count."""
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


@pytest.mark.parametrize("name", PURE)
def test_the_core_is_pure(name: str) -> None:
    """Neither by itself nor through a module that it uses."""
    found: set[str] = set()
    waiting = {f"stream_asr.{name}"}
    while waiting:
        module = waiting.pop()
        found.add(module)
        if module in MODULES:
            waiting |= imports(MODULES[module], lazy=True) - found
    assert not {module.split(".")[0] for module in found} & IMPURE


def test_there_are_no_import_cycles() -> None:
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
def test_modules_stay_small(name: str) -> None:
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("command", [[], ["finetune"]])
def test_help_does_not_wait_for_torch(command: list[str]) -> None:
    code = (
        f"import sys; sys.argv = {['stream-asr', *command, '--help']}\n"
        "from stream_asr.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
