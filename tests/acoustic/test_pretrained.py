"""Errors of checkpoints that are missing, damaged or of another kind."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants as hub_constants
from huggingface_hub.errors import HfHubHTTPError
from transformers import AutoConfig, BertConfig, BertForMaskedLM, Wav2Vec2Model
from transformers.utils import logging as transformers_logging

from stream_asr.acoustic import pretrained
from stream_asr.acoustic.loading import load_model
from stream_asr.config import AcousticConfig
from stream_asr.errors import ModelError
from tests.support.checkpoints import filter_weights, save_letter_tokenizer, update_json

HUB_NAME = "stream-asr-tests/no-such-model"

# --- the hub and names --------------------------------------------------------------------------------------


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Disconnect this process from the network. Returns the host names that it then tries to resolve."""
    hosts: list[str] = []

    def refuse(host: str, *_: object, **__: object) -> None:
        hosts.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return hosts


@pytest.mark.parametrize("offline", [False, True], ids=["no connection", "offline mode"])
def test_model_that_cannot_be_fetched_is_reported_at_once(
    offline: bool,
    lookups: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(ModelError) as caught:
        load_model(HUB_NAME)
    # huggingface_hub itself resolves the name once more. Retries would make it six times within half a minute.
    assert len(lookups) <= 2
    message = str(caught.value)
    for words in (HUB_NAME, "could not be fetched", "'embedded-en'", "local folder"):
        assert words in message
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize(("status", "cache_only"), [(200, False), (401, False), (404, False), (503, True)])
def test_files_are_fetched_only_from_a_hub_that_answers(
    status: int, cache_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(*_: object, **__: object) -> None:
        if status != 200:
            response: Any = SimpleNamespace(status_code=status, headers={}, request=None)
            raise HfHubHTTPError("refused", response=response)

    def fetch(_: object, *, local_files_only: bool, **__: object) -> None:
        assert local_files_only == cache_only
        raise OSError("not found")

    monkeypatch.setattr(pretrained, "get_hf_file_metadata", answer)
    monkeypatch.setattr(AutoConfig, "from_pretrained", fetch)
    with pytest.raises(ModelError, match="could not be fetched"):
        load_model(HUB_NAME)


@pytest.mark.usefixtures("lookups")
def test_timeout_of_the_hub_is_configurable(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts: list[float] = []

    def answer_too_late(*_: object, timeout: float, **__: object) -> None:
        timeouts.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(pretrained, "get_hf_file_metadata", answer_too_late)
    with pytest.raises(ModelError, match="could not be fetched"):
        load_model(HUB_NAME, config=AcousticConfig(hub_timeout_s=0.5))
    assert timeouts == [0.5]


@pytest.mark.parametrize("name", ["./no/such", "a/b/c", "~/no-such-folder", "~no-such-user/model", "C:\\models\\en"])
def test_missing_path_is_not_looked_up_on_the_hub(name: str, lookups: list[str]) -> None:
    with pytest.raises(ModelError, match=r"there is no folder .* bundled model"):
        load_model(name)
    assert not lookups


@pytest.mark.usefixtures("lookups")
def test_very_long_name_is_reported_as_not_found() -> None:
    with pytest.raises(ModelError, match="could not be fetched"):
        load_model("a" * 5_000)


def test_file_is_refused(demo_path: Path) -> None:
    with pytest.raises(ModelError, match="is a file; a model is a folder or a hub name"):
        load_model(demo_path)


def test_folder_without_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json, .* bundled model"):
        load_model(tmp_path)


# --- damaged checkpoints ------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["{", "", "{}", "[]", '{"model_type": "no-such-type"}'])
def test_unreadable_configuration_is_reported(copied_checkpoint: Path, content: str) -> None:
    (copied_checkpoint / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"cannot load the model \(config\.json, model\.safetensors\) of"):
        load_model(copied_checkpoint)


def test_configuration_value_of_the_wrong_type_is_reported(copied_checkpoint: Path) -> None:
    update_json(copied_checkpoint / "config.json", hidden_size="large")
    with pytest.raises(ModelError, match=r"cannot load the model .* expected int, got str"):
        load_model(copied_checkpoint)


@pytest.mark.parametrize("size", [0, 100, -100])
def test_truncated_weights_are_reported(copied_checkpoint: Path, size: int) -> None:
    weights = copied_checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(ModelError, match="cannot load the model"):
        load_model(copied_checkpoint)


def test_weights_of_other_sizes_are_reported(copied_checkpoint: Path) -> None:
    update_json(copied_checkpoint / "config.json", vocab_size=40)
    with pytest.raises(ModelError, match="cannot load the model"):
        load_model(copied_checkpoint)


def test_missing_weights_file_is_reported(copied_checkpoint: Path) -> None:
    (copied_checkpoint / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no file named model\.safetensors"):
        load_model(copied_checkpoint)


def test_missing_layer_is_reported(copied_checkpoint: Path) -> None:
    """Transformers fills it with random numbers."""
    filter_weights(copied_checkpoint, lambda name: "layers.1" not in name)
    with pytest.raises(ModelError, match=r"not a trained CTC model: its weights lack wav2vec2\.encoder\.layers\.1\."):
        load_model(copied_checkpoint)


@pytest.mark.parametrize("files", [["vocab.json"], ["vocab.json", "tokenizer_config.json"]])
def test_missing_tokenizer_is_reported(copied_checkpoint: Path, files: list[str]) -> None:
    for file in files:
        (copied_checkpoint / file).unlink()
    with pytest.raises(ModelError, match=r"cannot load the tokenizer \(vocab\.json or tokenizer\.json\) of"):
        load_model(copied_checkpoint)


def test_missing_feature_extractor_is_reported(copied_checkpoint: Path) -> None:
    (copied_checkpoint / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"cannot load the feature extractor \(preprocessor_config\.json\) of"):
        load_model(copied_checkpoint)


# --- other kinds of models ----------------------------------------------------------------------------------


def test_model_of_another_task_is_refused(tmp_path: Path) -> None:
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=40)
    BertForMaskedLM(config).save_pretrained(tmp_path)
    save_letter_tokenizer(tmp_path)
    with pytest.raises(ModelError, match=r"is not a CTC model; .* bundled model"):
        load_model(tmp_path)


def test_model_without_ctc_head_is_refused(copied_checkpoint: Path) -> None:
    Wav2Vec2Model.from_pretrained(copied_checkpoint).save_pretrained(copied_checkpoint)
    with pytest.raises(ModelError, match=r"not a trained CTC model: its weights lack lm_head\.bias, lm_head\.weight;"):
        load_model(copied_checkpoint)


def test_other_sampling_rate_is_refused(copied_checkpoint: Path) -> None:
    update_json(copied_checkpoint / "preprocessor_config.json", sampling_rate=8000)
    with pytest.raises(ModelError, match="expects audio at 8000 Hz; 16000 Hz is required"):
        load_model(copied_checkpoint)


def test_blank_outside_the_vocabulary_is_refused(copied_checkpoint: Path) -> None:
    update_json(copied_checkpoint / "config.json", pad_token_id=99)
    with pytest.raises(ModelError, match="blank"):
        load_model(copied_checkpoint)


def test_vocabulary_without_letters_is_refused(copied_checkpoint: Path) -> None:
    special = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4}
    (copied_checkpoint / "vocab.json").write_text(json.dumps(special))
    with pytest.raises(ModelError, match="without letters"):
        load_model(copied_checkpoint)


@pytest.mark.parametrize("bars", [False, True])
def test_quiet_restores_the_settings_of_transformers(bars: bool) -> None:
    verbosity, shown = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    switch: dict[bool, Callable[[], None]] = {
        True: transformers_logging.enable_progress_bar,
        False: transformers_logging.disable_progress_bar,
    }
    try:
        transformers_logging.set_verbosity_info()
        switch[bars]()
        with pretrained.quiet():
            assert transformers_logging.get_verbosity() == logging.ERROR
            assert not transformers_logging.is_progress_bar_enabled()
        assert transformers_logging.get_verbosity() == logging.INFO
        assert transformers_logging.is_progress_bar_enabled() == bars
    finally:
        transformers_logging.set_verbosity(verbosity)
        switch[shown]()
