"""The tokens before the text of a speech seq2seq model: start, language, task.

Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022 (the prompt of Whisper).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from stream_asr.errors import InputError, ModelError

_WHISPER_MULTILINGUAL_TOKENS = 51_865
"""From so many tokens on, a Whisper checkpoint knows several languages."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Tokens before the text.

    Attributes:
        start: tokens before that of the language.
        languages: token of each language by its code; empty if the model has none.
        language: the token of the language to write; None detects it for each utterance, if the model has languages.
        rest: tokens after that of the language.
    """

    start: tuple[int, ...]
    languages: Mapping[str, int]
    language: int | None
    rest: tuple[int, ...]

    @property
    def detects_language(self) -> bool:
        return bool(self.languages) and self.language is None

    def tokens(self, language: int | None) -> tuple[int, ...]:
        """Return the whole prompt for a language token."""
        return (*self.start, *(() if language is None else (language,)), *self.rest)


def make_prompt(name: str, model: Any, tokenizer: Any, language: str | None) -> Prompt:
    """Make the prompt for transcription without timestamps.

    Args:
        name: name of the model, for error messages.
        model: a speech seq2seq model.
        tokenizer: of the model.
        language: a code or an English name; None for the checkpoint's own choice.

    Raises:
        ModelError: the checkpoint does not say how a text starts.
        InputError: the model does not have the language, or has no languages to choose from.
    """
    config, generation = model.config, model.generation_config
    start = getattr(generation, "decoder_start_token_id", None)
    start = getattr(config, "decoder_start_token_id", None) if start is None else start
    start = getattr(generation, "bos_token_id", None) if start is None else start
    if start is None or not end_tokens(generation):
        raise ModelError(f"{name!r} does not say which tokens start and end a text (generation_config.json)")
    languages = _languages(model, tokenizer)
    if not languages and language is not None:
        raise InputError(f"{name!r} has no languages to choose from; leave out the language {language!r}")
    if languages and language is None:
        language = getattr(generation, "language", None)  # that a fine-tuned checkpoint was made for
    token = None if language is None or not languages else _language_token(name, languages, language)
    vocabulary = tokenizer.get_vocab()
    rest = [vocabulary.get("<|transcribe|>")] if languages else [getattr(generation, "forced_bos_token_id", None)]
    rest.append(vocabulary.get("<|notimestamps|>") if config.model_type == "whisper" else None)
    return Prompt((start,), languages, token, tuple(token for token in rest if token is not None))


def end_tokens(generation_config: Any) -> list[int]:
    """Return the tokens that end a text."""
    ends = generation_config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def _languages(model: Any, tokenizer: Any) -> dict[str, int]:
    """Return the token of each language by its code. Checkpoints of earlier years do not list them."""
    listed: Mapping[str, int] | None = getattr(model.generation_config, "lang_to_id", None)
    if listed:
        return {token.strip("<|>"): index for token, index in listed.items()}
    if model.config.model_type != "whisper" or model.config.vocab_size < _WHISPER_MULTILINGUAL_TOKENS:
        return {}
    vocabulary = tokenizer.get_vocab()
    return {code: vocabulary[token] for code in LANGUAGES if (token := f"<|{code}|>") in vocabulary}


def _language_token(name: str, languages: Mapping[str, int], language: str) -> int:
    wanted = language.strip().lower().strip("<|>")
    code = wanted if wanted in languages else TO_LANGUAGE_CODE.get(wanted, "")
    if code not in languages:
        raise InputError(f"unknown language {language!r}; {name!r} accepts {', '.join(sorted(languages))}")
    return languages[code]
