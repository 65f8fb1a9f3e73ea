"""Draw docs/demo.svg: a terminal that runs the demo, with stable and unstable words in the last caption.

    python docs/screenshot.py

The captions are those of the bundled model for the bundled recording, streamed in real time.
"""

from __future__ import annotations

import io
from importlib.resources import files
from pathlib import Path

from rich.console import Console
from rich.text import Text

from stream_asr import Final, Partial, Recognizer
from stream_asr.audio.files import AudioFile
from stream_asr.audio.sources import pace_realtime
from stream_asr.cli.views import final_text, format_time, level_meter, partial_text

_POSITION_S = 25.6
"""Position in the recording after which the screenshot is taken, at the first partial with stable words."""

_WIDTH = 84
_LEVEL_DB = -18.0

# The template of rich loads a font from the network, which an image in a README should not do.
_SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def main() -> None:
    finals: list[Final] = []
    partial: Partial | None = None
    demo = Path(str(files("stream_asr") / "assets" / "demo.ogg"))
    with (
        Recognizer.from_pretrained() as recognizer,
        AudioFile(demo) as audio,
        recognizer.stream(audio.sample_rate, channels=audio.channels) as stream,
    ):
        for block in pace_realtime(audio, audio.sample_rate):
            stream.feed(block)
            for event in stream.poll():
                if isinstance(event, Final):
                    finals.append(event)
                    partial = None
                elif isinstance(event, Partial):
                    partial = event
            if stream.received_s > _POSITION_S and partial is not None and partial.stable:
                break
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ make demo", style="bold green"))
    for final in finals:
        console.print(final_text(final))
    if partial is not None:
        console.print(partial_text(partial))
    status = Text().append(f"{format_time(stream.received_s):>7}  ", style="dim")
    console.print(status.append(level_meter(_LEVEL_DB), style="green").append("  demo", style="dim"))
    svg = console.export_svg(title="stream-asr", code_format=_SVG)
    (Path(__file__).parent / "demo.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
