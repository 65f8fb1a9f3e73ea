"""``python -m recipes.embedded_en.compare_decoder``: compare the bundled decoder with the original file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from recipes.embedded_en.package_files import DECODER, find_package_file
from stream_asr.acoustic.base import DecodeRequest
from stream_asr.acoustic.catalog import EMBEDDED, EMBEDDED_FOLDER
from stream_asr.acoustic.moonshine.checkpoint import read_checkpoint
from stream_asr.acoustic.moonshine.decoder_checkpoint import DecoderCheckpoint, as_parameter, read_decoder
from stream_asr.acoustic.moonshine.decoder_onnx import OnnxDecoder
from stream_asr.acoustic.moonshine.second_pass import MoonshineSecondPass
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import StreamASRError
from stream_asr.training.clips import read_clip

_STRIDE = 384
_TOKENS_PER_S = 6.5

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    recordings: Annotated[list[Path], typer.Argument(help="Recordings of at most half a minute.")],
    package: Annotated[
        Path | None, typer.Option(help="File of the original decoder. Default: that of the installed package.")
    ] = None,
) -> None:
    """Decode recordings with the original decoder of Moonshine tiny, as ONNX Runtime runs it, and with the bundled one.

    Both get the same encoder states, in float32. Needs pip install --no-deps moonshine-voice==0.0.62.
    """
    try:
        original = OriginalDecoder(package or find_package_file(DECODER))
        checkpoint = read_checkpoint(EMBEDDED_FOLDER, EMBEDDED, torch.float32)
        decoder = read_decoder(EMBEDDED_FOLDER, EMBEDDED)
        assert checkpoint is not None
        assert decoder is not None
        encoder = checkpoint.model.encoder
        models = {
            name: MoonshineSecondPass(
                EMBEDDED,
                decoder.vocabulary,
                decoder.begin,
                OnnxDecoder(decoder, EMBEDDED_FOLDER, int8=int8),
                None,
            )
            for name, int8 in (("float32", False), ("int8", True))
        }
        same = dict.fromkeys(models, 0)
        for recording in recordings:
            samples = read_clip(recording)
            with torch.inference_mode():
                states = encoder.lower(encoder.features(torch.from_numpy(samples)[None]))[0].numpy()
            max_tokens = round(_TOKENS_PER_S * len(samples) / SAMPLE_RATE)
            expected = decoder.vocabulary.text(original.decode(_normalize(states, decoder), max_tokens, decoder))
            typer.echo(f"{recording.name}\n  original: {expected.strip()}")
            for name, model in models.items():
                request = DecodeRequest(states, len(states), None, model.initial_state(), (), (), max_tokens)
                [output] = model.decode([request])
                text = decoder.vocabulary.text(output.tokens)
                same[name] += text == expected
                typer.echo(f"  {name}: {'the same' if text == expected else text.strip()}")
    except StreamASRError as error:
        raise SystemExit(f"error: {error}") from error
    counts = ", ".join(f"{count} in {name}" for name, count in same.items())
    typer.echo(f"identical texts of {len(recordings)}: {counts}")


class OriginalDecoder:
    """Runs the original decoder file greedily.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._past = [value.name for value in self._session.get_inputs() if value.name.startswith("past_")]

    def decode(self, encoded: FloatArray, max_tokens: int, decoder: DecoderCheckpoint) -> list[int]:
        """Decode encoder states after the final norm, shape (frames, width)."""
        sizes = decoder.sizes
        tokens = [decoder.begin]
        # Without a cache, the file wants keys and values of an empty batch.
        past: dict[str, Any] = {
            name: np.zeros((0, sizes.heads, 1, sizes.head_width), dtype=np.float32) for name in self._past
        }
        while len(tokens) <= max_tokens:
            outputs = self._session.run(
                None,
                {
                    "input_ids": np.array([tokens[-1:]]),
                    "encoder_hidden_states": encoded[None],
                    # In samples: the graph takes every 384th.
                    "encoder_attention_mask": np.ones((1, _STRIDE * len(encoded)), dtype=np.int64),
                    "use_cache_branch": np.array([len(tokens) > 1]),
                    **past,
                },
            )
            token = int(outputs[0][0, -1].argmax())
            if token == decoder.vocabulary.end:
                break
            for name, present in zip(self._past, outputs[1:], strict=True):
                if len(tokens) == 1 or ".decoder." in name:  # later passes do not return those of the encoder
                    past[name] = present
            tokens.append(token)
        return tokens[1:]


def _normalize(states: FloatArray, decoder: DecoderCheckpoint) -> FloatArray:
    weight = torch.from_numpy(as_parameter(decoder.weights["encoder_norm.weight"]))
    normed: FloatArray = torch.nn.functional.layer_norm(torch.from_numpy(states), weight.shape, weight).numpy()
    return normed


if __name__ == "__main__":
    app()
