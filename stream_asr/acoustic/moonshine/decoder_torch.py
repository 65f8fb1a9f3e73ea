"""Run Moonshine's decoder in PyTorch: on the CPU, or on a GPU with all requests in one padded batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from stream_asr.acoustic.moonshine.decoder import Decoder, causal_mask, forward_step, padding_mask
from stream_asr.acoustic.moonshine.layers import flatten_layers, group_layers
from stream_asr.acoustic.moonshine.second_pass import Cache, DecoderPass, PassOutput, RunPasses
from stream_asr.array_types import FloatArray


class TorchDecoder:
    """See `DecoderRunner`.

    Args:
        decoder: the decoder; it is fused in place.
        device: where it runs.
    """

    backend = "torch"

    def __init__(self, decoder: Decoder, device: torch.device) -> None:
        if not decoder.fused:
            decoder.fuse()
        self._decoder = decoder.to(device).eval().requires_grad_(False)
        self._device = device

    def empty(self) -> Cache:
        sizes = self._decoder.sizes
        empty = torch.empty(1, sizes.heads, 0, sizes.head_width, dtype=self._decoder.dtype, device=self._device)
        return 2 * sizes.layers * (empty,)

    @torch.inference_mode()
    def project(self, encoded: Sequence[FloatArray]) -> list[Cache]:
        # Frames do not depend on each other here.
        joined = torch.cat([torch.from_numpy(states) for states in encoded]).to(self._device, self._decoder.dtype)
        parts = flatten_layers(self._decoder.project(joined[None]))
        lengths = [len(states) for states in encoded]
        return list(zip(*(part.split(lengths, dim=2) for part in parts), strict=True))

    @torch.inference_mode()
    def concat(self, first: Cache, second: Cache) -> Cache:
        pairs = zip(first, second, strict=True)
        return tuple(torch.cat((earlier.to(later.dtype), later), dim=2) for earlier, later in pairs)

    @torch.inference_mode()
    def pack(self, cache: Cache) -> Cache:
        return tuple(part.half() for part in cache)

    @torch.inference_mode()
    def cut(self, cache: Cache, length: int) -> Cache:
        return cache if length >= cache[0].shape[2] else tuple(part[:, :, :length].clone() for part in cache)

    @torch.inference_mode()
    def begin(self, encoded: Sequence[Cache]) -> RunPasses:
        lengths = torch.tensor([cache[0].shape[2] for cache in encoded], device=self._device)
        frames = _pad(encoded)
        mask = None if len(encoded) == 1 else padding_mask(lengths, frames[0].shape[2], self._decoder.dtype)
        items = list(range(len(encoded)))

        @torch.inference_mode()
        def run(passes: Sequence[tuple[int, DecoderPass]]) -> list[PassOutput]:
            nonlocal frames, mask, items
            if [item for item, _ in passes] != items:
                rows = torch.tensor([items.index(item) for item, _ in passes], device=self._device)
                frames = tuple(part.index_select(0, rows) for part in frames)
                mask = None if mask is None else mask[rows]
                items = [item for item, _ in passes]
            return self._run([each for _, each in passes], frames, mask)

        return run

    def _run(self, passes: Sequence[DecoderPass], frames: Cache, encoded_mask: Tensor | None) -> list[PassOutput]:
        decoder, device = self._decoder, self._device
        counts = [len(each.tokens) for each in passes]
        before = [each.past[0].shape[2] for each in passes]
        tokens, targets = (
            _pad_tokens([getattr(each, name) for each in passes], device) for name in ("tokens", "targets")
        )
        past, mask = _pad([each.past for each in passes]), None
        first = torch.tensor(before, dtype=torch.float32, device=device)[:, None, None]
        if len(passes) > 1:
            lengths = torch.tensor(before, device=device)
            causal = causal_mask(max(counts), 0, frames[0])
            earlier = padding_mask(lengths, max(before), decoder.dtype)
            mask = torch.cat((earlier.expand(-1, -1, max(counts), -1), causal.expand(len(passes), 1, -1, -1)), dim=3)
        states, own = forward_step(decoder, tokens, first, group_layers(frames), group_layers(past), mask, encoded_mask)
        # Only the rows of tokens pass through the output layer, which is the largest one.
        valid = torch.cat([states[item, :count] for item, count in enumerate(counts)])
        log_probs = decoder.logits(valid).float().log_softmax(-1)
        best_log_probs, best = log_probs.max(-1)
        wanted = torch.cat([targets[item, :count] for item, count in enumerate(counts)])
        target_log_probs = log_probs.gather(1, wanted[:, None])[:, 0]
        columns = [values.split(counts) for values in (best, best_log_probs, target_log_probs)]
        new = flatten_layers(own)
        outputs = []
        for item, (each, row) in enumerate(zip(passes, zip(*columns, strict=True), strict=True)):
            added = tuple(part[item : item + 1, :, : counts[item]] for part in new)
            best_row, best_log_probs_row, target_row = (values.tolist() for values in row)
            outputs.append(PassOutput(best_row, best_log_probs_row, target_row, self.concat(each.past, added)))
        return outputs


def _pad(caches: Sequence[Cache]) -> Cache:
    """Stack caches, padded at the end, each part of shape (batch, heads, largest length, head width)."""
    if len(caches) == 1:
        return caches[0]
    longest = max(cache[0].shape[2] for cache in caches)
    return tuple(
        torch.cat([F.pad(part, (0, 0, 0, longest - part.shape[2])) for part in parts])
        for parts in zip(*caches, strict=True)
    )


def _pad_tokens(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *(longest - len(row)) * (0,)] for row in rows], device=device)
