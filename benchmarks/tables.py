"""Convert the JSON reports of benchmarks to Markdown tables.

    python benchmarks/tables.py out/*.json

Each report becomes a heading, its tables, and a line with the machine, the versions, the date and the settings.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from options import ArgumentParser, run_main
from report import Table

from stream_asr.errors import InputError


def report_to_markdown(report: dict[str, Any]) -> str:
    """Format a report that `report.write_json` wrote."""
    machine = report["machine"]
    hardware = (machine["processor"], f"{machine['cores']} cores, {machine['memory_gib']:g} GiB", machine["gpu"])
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", "torch", "transformers", "stream_asr"))
    settings = ", ".join(f"{name} {value}" for name, value in report["settings"].items() if value is not None)
    origin = f"{', '.join(filter(None, hardware))}; {versions}; {report['date'][:10]}. {settings}."
    tables = [Table(**table).markdown() for table in report["tables"]]
    return "\n\n".join([f"### {report['benchmark']}", *tables, origin])


def read_report(path: Path) -> dict[str, Any]:
    """Read a JSON report.

    Raises:
        InputError: the file cannot be read or is not a report.
    """
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    if not isinstance(report, dict) or "tables" not in report:
        raise InputError(f"{path} is not a report of a benchmark")
    return report


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="reports written with --json")
    arguments = parser.parse_args()
    reports = [read_report(path) for path in arguments.files]
    try:
        print("\n\n".join(map(report_to_markdown, reports)), flush=True)
    except BrokenPipeError:
        # The reader, such as head, has closed the pipe. Without this, Python would report the error again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    run_main(main)
