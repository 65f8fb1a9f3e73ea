"""The caption page, the overlay and clients/browser.html in Chromium, with the bundled model and a fake microphone."""

from __future__ import annotations

import base64
import io
import re
import threading
import time
from difflib import SequenceMatcher
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import soundfile

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.events import Final
from stream_asr.subtitles import format_srt, format_vtt
from tests.support.browser import OpenTab, Tab
from tests.support.proxy import resetting_proxy
from tests.support.serving import RunningServer, run_server, wait_until

CLIENTS = Path(__file__).parents[3] / "clients"

DROP_FILE = """(base64) => {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], "a talk.wav"));
  dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def wav(spoken: FloatArray) -> bytes:
    """WAV file with 16 bits at the recognizer's sample rate, which a browser decodes without any loss."""
    file = io.BytesIO()
    soundfile.write(file, spoken, 16_000, subtype="PCM_16", format="WAV")
    return file.getvalue()


@pytest.fixture(scope="module")
def expected(recognizer: Recognizer, wav: bytes, tmp_path_factory: pytest.TempPathFactory) -> tuple[Final, ...]:
    """The utterances from `Recognizer.transcribe`."""
    path = tmp_path_factory.mktemp("recording") / "talk.wav"
    path.write_bytes(wav)
    utterances = recognizer.transcribe(path).utterances
    assert len(utterances) == 3
    return utterances


@pytest.fixture(scope="module")
def expected_texts(expected: tuple[Final, ...]) -> list[str]:
    """Texts of the utterances from `Recognizer.transcribe`."""
    return [utterance.text for utterance in expected]


def are_similar(texts: list[str], expected: list[str]) -> bool:
    """Compare texts of the microphone, which may differ a little: browsers resample it and adjust its gain."""
    return SequenceMatcher(None, " ".join(texts), " ".join(expected)).ratio() > 0.85


def drop(tab: Tab, wav: bytes, pace: str = "max") -> None:
    """Drop a recording on the page."""
    tab.page.select_option("#pace", pace)
    tab.page.evaluate(DROP_FILE, base64.b64encode(wav).decode())


# --- the microphone -------------------------------------------------------------------------------------------


def test_microphone_is_captioned(open_tab: OpenTab, expected_texts: list[str]) -> None:
    tab = open_tab()
    page = tab.page
    page.click("#start")
    tab.wait_for_state("live")
    page.locator("#live p").filter(has_text=re.compile(r"\w+ \w+")).wait_for()
    page.locator("#finals li").nth(1).wait_for()
    assert int(page.get_attribute("#meter", "aria-valuenow")) <= 0
    page.locator("#latency").filter(has_text=re.compile(r"^\d\.\d s$")).wait_for()
    page.locator("#lag").filter(has_text=re.compile(r"^\d+\.\d s$")).wait_for()
    assert "Fake" in page.inner_text("#microphone")
    page.locator("#finals li").nth(2).wait_for()
    tab.wait_for_text("#error", "muted")  # after the end of the file, the samples are zeros
    page.click("#start")
    tab.wait_for_state("idle")
    assert are_similar(tab.finals, expected_texts)
    times = page.locator("#finals time").all_inner_texts()
    assert times[0] == "0:00"
    assert times == sorted(times)
    assert page.locator("#error").is_hidden()


def test_only_finished_captions_are_announced(open_tab: OpenTab, wav: bytes) -> None:
    tab = open_tab()
    log = tab.page.locator("[role=log]")
    assert log.get_attribute("aria-live") == "polite"
    assert log.locator("#finals").count() == 1
    assert log.locator("#live").count() == 0
    assert tab.page.get_attribute("#live", "aria-live") == "off"
    drop(tab, wav)
    tab.page.locator("#finals li").nth(2).wait_for()
    assert log.locator("p").all_inner_texts() == tab.finals


def test_microphone_errors_are_described(open_tab: OpenTab) -> None:
    tab = open_tab()
    fail = "() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException(%s); }; }"
    for arguments, description in (
        ("'', 'NotAllowedError'", "is blocked"),
        ("'', 'NotFoundError'", "No microphone"),
        ("'Other words'", "Other words"),
    ):
        tab.page.evaluate(fail % arguments)
        tab.page.click("#start")
        tab.wait_for_text("#error", description)
        tab.wait_for_state("idle")


# --- recordings -----------------------------------------------------------------------------------------------


def test_dropped_recording_has_the_captions_of_transcribe(
    open_tab: OpenTab, wav: bytes, expected_texts: list[str]
) -> None:
    tab = open_tab()
    drop(tab, wav)
    tab.page.locator("#finals li").nth(2).wait_for()
    tab.wait_for_state("idle")
    assert tab.finals == expected_texts
    assert tab.page.inner_text("#time") == "0:10"


def test_downloads_are_the_files_of_transcribe(open_tab: OpenTab, wav: bytes, expected: tuple[Final, ...]) -> None:
    tab = open_tab()
    assert tab.page.locator("[data-format]:disabled").count() == 3
    tab.page.locator("#pace").select_option("max")
    tab.page.locator("#file").set_input_files({"name": "a talk.wav", "mimeType": "audio/wav", "buffer": wav})
    tab.page.locator("#finals li").nth(2).wait_for()
    tab.wait_for_state("idle")
    contents: dict[str, str] = {}
    for kind in ("srt", "vtt", "txt"):
        with tab.page.expect_download() as download:
            tab.page.click(f"[data-format={kind}]")
        assert download.value.suggested_filename == f"a talk.{kind}"
        contents[kind] = Path(download.value.path()).read_text(encoding="utf-8")
    assert contents["txt"].splitlines() == [final.text for final in expected]
    assert contents["srt"] == format_srt(expected)
    assert contents["vtt"] == format_vtt(expected)


def test_recording_replaces_captions_only_after_confirmation(open_tab: OpenTab, wav: bytes) -> None:
    tab = open_tab()
    drop(tab, wav)
    tab.page.locator("#finals li").nth(2).wait_for()
    tab.wait_for_state("idle")
    questions: list[str] = []

    def dismiss(dialog: Any) -> None:
        questions.append(dialog.message)
        dialog.dismiss()

    tab.page.on("dialog", dismiss)
    drop(tab, wav)
    assert "a talk.wav" in questions[0]
    assert len(tab.finals) == 3
    tab.page.click("#clear")
    assert tab.finals == []
    assert tab.page.locator("#welcome").is_visible()


def test_undecodable_file_is_described(open_tab: OpenTab) -> None:
    tab = open_tab()
    drop(tab, b"no sound at all")
    tab.wait_for_text("#error", "cannot decode “a talk.wav”")
    tab.wait_for_state("idle")


def test_undecodable_file_does_not_clear_captions(open_tab: OpenTab, wav: bytes) -> None:
    tab = open_tab()
    drop(tab, wav)
    tab.page.locator("#finals li").nth(2).wait_for()
    tab.wait_for_state("idle")
    tab.page.on("dialog", lambda dialog: dialog.accept())
    drop(tab, b"no sound at all")
    tab.wait_for_text("#error", "cannot decode “a talk.wav”")
    assert len(tab.finals) == 3
    drop(tab, wav)
    tab.wait_for_state("live")
    tab.wait_for_state("idle")
    assert len(tab.finals) == 3, "replaced"


# --- the server -----------------------------------------------------------------------------------------------


def test_session_survives_lost_connections(
    browser: Any, served: RunningServer, wav: bytes, expected_texts: list[str]
) -> None:
    before = served.metric("stream_asr_sessions_resumed_total")

    def has_resumed(count: float) -> bool:
        return served.metric("stream_asr_sessions_resumed_total") >= count

    with resetting_proxy(served.port) as proxy:
        tab = Tab(browser)
        tab.page.goto(f"http://127.0.0.1:{proxy.port}/")
        drop(tab, wav, "realtime")
        for count in range(1, 4):
            tab.wait_for_state("live")
            time.sleep(1)  # of audio
            proxy.reset_connections()
            wait_until(partial(has_resumed, before + count))
        tab.wait_for_state("idle")
        assert tab.finals == expected_texts
        assert tab.page.locator("#error").is_hidden()
        tab.close()


def test_captions_stay_when_the_connection_cannot_be_restored(browser: Any, served: RunningServer, wav: bytes) -> None:
    tab = Tab(browser)
    with resetting_proxy(served.port) as proxy:
        tab.page.clock.install()
        tab.page.goto(f"http://127.0.0.1:{proxy.port}/")
        drop(tab, wav, "realtime")
        tab.wait_for_state("live")
        for _ in range(100):  # the fake clock advances the audio
            tab.page.clock.run_for(50)
            if tab.finals:
                break
    assert tab.finals
    tab.wait_for_state("reconnecting")
    for _ in range(20):
        tab.page.clock.run_for(3000)
    tab.wait_for_text("#error", "The connection was lost")
    tab.wait_for_state("idle")
    assert tab.finals
    tab.close()


def test_page_asks_for_the_token_and_keeps_it_out_of_urls(browser: Any, recognizer: Recognizer, wav: bytes) -> None:
    token = "s3cret/(+%)="
    with run_server(recognizer, tokens=(token,), max_speed=100) as guarded:
        tab = Tab(browser)
        urls: list[str] = []
        for event in ("request", "websocket"):
            tab.page.on(event, lambda connection: urls.append(connection.url))
        tab.page.goto(f"http://{guarded.address}/")
        drop(tab, wav)
        for error, candidate in (("requires a token", "nöt it"), ("does not accept this token", token)):
            tab.wait_for_text("#error", error)
            tab.page.locator("#token-form").wait_for()
            tab.page.fill("#token", candidate)
            tab.page.press("#token", "Enter")  # repeats what was refused
        tab.page.locator("#finals li").nth(2).wait_for()
        assert tab.page.locator("#token-form").is_hidden()
        assert {f"{scheme}://{guarded.address}/v1/stream" for scheme in ("http", "ws")} <= set(urls)
        assert not any("s3cret" in url for url in urls)
        tab.close()

        tab = Tab(browser)
        tab.page.goto(f"http://{guarded.address}/?{urlencode({'token': token})}")
        drop(tab, wav)
        tab.page.locator("#finals li").nth(2).wait_for()
        assert tab.page.url == f"http://{guarded.address}/"
        assert not tab.problems
        tab.close()


def test_full_server_is_reported_before_the_microphone_is_opened(browser: Any, recognizer: Recognizer) -> None:
    with run_server(recognizer, max_sessions=1) as full:
        first_tab = Tab(browser)
        first_tab.page.goto(f"http://{full.address}/")
        first_tab.page.click("#start")
        first_tab.wait_for_state("live")
        tab = Tab(browser)
        tab.page.goto(f"http://{full.address}/")
        tab.page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => { throw new Error('opened'); }; }")
        tab.page.click("#start")
        tab.wait_for_text("#error", "The server is full")
        tab.close()
        first_tab.close()


# --- accessibility and layout ---------------------------------------------------------------------------------


def test_page_can_be_used_with_the_keyboard(open_tab: OpenTab) -> None:
    tab = open_tab()
    page = tab.page
    focused = []
    for _ in range(6):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("() => document.activeElement.id"))
        assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert focused == ["theme", "captions", "start", "microphone", "open", "pace"]
    page.focus("#start")
    page.keyboard.press("Enter")
    tab.wait_for_state("live")
    assert page.evaluate("() => document.activeElement.id") == "start"
    page.locator("#finals li").first.wait_for()
    page.keyboard.press("Space")
    tab.wait_for_state("idle")
    page.focus("[data-format=txt]")
    with page.expect_download():
        page.keyboard.press("Enter")


def test_theme_follows_the_system_until_it_is_chosen(open_tab: OpenTab) -> None:
    page = open_tab(color_scheme="light").page

    def background() -> str:
        color: str = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        return color

    light = background()
    page.emulate_media(color_scheme="dark")
    dark = background()
    assert dark != light
    assert page.get_attribute("#theme", "aria-pressed") == "true"
    page.focus("#theme")
    page.keyboard.press("Enter")
    assert background() == light
    page.reload()
    assert background() == light
    assert page.get_attribute("#theme", "aria-pressed") == "false"


@pytest.mark.parametrize("width", [320, 390, 768, 1400])
def test_page_fits_any_width(open_tab: OpenTab, wav: bytes, width: int) -> None:
    tab = open_tab(viewport={"width": width, "height": 700})
    overflow = "() => document.documentElement.scrollWidth - innerWidth"
    assert tab.page.evaluate(overflow) <= 0
    drop(tab, wav)
    tab.page.locator("#finals li").nth(2).wait_for()
    tab.wait_for_state("idle")
    assert tab.page.evaluate(overflow) <= 0
    outside = (
        "() => [...document.querySelectorAll('button, select, dd')].filter((element) => element.offsetParent && "
        "(element.getBoundingClientRect().right > innerWidth || element.getBoundingClientRect().bottom > innerHeight))"
        ".map((element) => element.outerHTML)"
    )
    assert tab.page.evaluate(outside) == []


# --- the overlay and the example client -----------------------------------------------------------------------


def test_overlay_shows_captions_with_its_options(open_tab: OpenTab, expected_texts: list[str]) -> None:
    tab = open_tab("/captions?size=50&color=rgb(255,255,0)&lines=2&hold=2&align=left&shadow=0")
    page = tab.page
    page.locator("#captions p").nth(1).wait_for()
    style = page.evaluate("""() => {
      const box = document.getElementById("captions");
      const { fontSize, color, textAlign, textShadow } = getComputedStyle(box);
      const elements = [document.documentElement, document.body, box];
      const background = elements.map((element) => getComputedStyle(element).backgroundColor);
      return { fontSize, color, textAlign, textShadow, background, height: box.clientHeight };
    }""")
    assert style == {
        "fontSize": "50px",
        "color": "rgb(255, 255, 0)",
        "textAlign": "left",
        "textShadow": "none",
        "background": ["rgba(0, 0, 0, 0)"] * 3,
        "height": 130,
    }
    captions = page.locator("#captions")
    page.locator("#captions.hidden").wait_for()  # after some silence
    assert len(captions.locator("p").all()) <= 3
    assert are_similar([captions.inner_text().replace("\n", " ")], expected_texts)
    assert page.locator("#message").is_hidden()


def test_overlay_ignores_invalid_options(open_tab: OpenTab) -> None:
    tab = open_tab("/captions?size=x&color=url(x)&background=}&lines=x&hold=x&align=x&microphone=no%20such")
    tab.wait_for_text("#message", "There is no such microphone. Available microphones: Fake")
    assert tab.page.evaluate("() => document.documentElement.style.cssText") == ""


def test_overlay_names_unknown_and_invalid_options(open_tab: OpenTab) -> None:
    tab = open_tab("/captions?colour=red&color=nocolor&size=-3&lines=3")
    tab.wait_for_text("#message", "Unknown or invalid options in the address: colour, size, color.")
    assert tab.page.evaluate("() => document.documentElement.style.cssText") == "--lines: 3;"


def test_overlay_uses_the_microphone_with_the_given_name(open_tab: OpenTab) -> None:
    tab = open_tab("/captions?microphone=input%202")
    tab.page.locator("#captions p").first.wait_for()


def test_example_client_resumes_its_session(browser: Any, recognizer: Recognizer, expected_texts: list[str]) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(CLIENTS))
    handler.func.log_message = lambda *_: None  # type: ignore[attr-defined]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{pages.server_port}"
        with (
            run_server(recognizer, allow_origins=(origin,)) as served,
            resetting_proxy(served.port) as proxy,
        ):
            tab = Tab(browser)
            tab.page.goto(f"{origin}/browser.html?server=ws://127.0.0.1:{proxy.port}")
            tab.page.click("#button")
            tab.page.locator("#unstable").filter(has_text=re.compile(r"\w")).wait_for()
            proxy.reset_connections()
            wait_until(lambda: served.metric("stream_asr_sessions_resumed_total") == 1)
            tab.page.locator("#finals br").nth(2).wait_for(state="attached")
            tab.page.click("#button")
            tab.page.locator("#button").filter(has_text="Start").wait_for()
            assert are_similar(tab.page.inner_text("#finals").split("\n"), expected_texts)
            assert tab.page.inner_text("#error") == ""
            tab.close()
        pages.shutdown()
