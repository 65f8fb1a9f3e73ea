"""The tables of benchmarks as Markdown, for a document.

    python benchmarks/tables.py out/*.json

Under each heading are the tables that the benchmark printed, where and when it was run, and its settings.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from report import Table


def markdown(written: dict[str, Any]) -> str:
    """Of what `report.write_json` writes."""
    machine, settings = written["machine"], written["settings"]
    memory = f"{machine['cores']} cores, {machine['memory_gib']:g} GiB"
    where = ", ".join(part for part in (machine["processor"], memory, machine["gpu"]) if part)
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", "torch", "transformers", "stream_asr"))
    chosen = ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
    tables = [Table(**table).markdown() for table in written["tables"]]
    note = f"{where}; {versions}; {written['date'][:10]}. {chosen}."
    return "\n\n".join([f"### {written['benchmark']}", *tables, note])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="that benchmarks wrote with --json")
    arguments = parser.parse_args()
    try:
        print(
            "\n\n".join(markdown(json.loads(file.read_text(encoding="utf-8"))) for file in arguments.files), flush=True
        )
    except BrokenPipeError:  # who reads has seen enough; Python would complain again when it flushes at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
