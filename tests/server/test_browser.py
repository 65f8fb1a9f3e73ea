"""The page, the overlay and the browser's client in a real browser, with the embedded model and a fake microphone."""

from __future__ import annotations

import base64
import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import soundfile
import soxr

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from tests.support.browser import Tab, chromium
from tests.support.cutting import cutting_proxy
from tests.support.serving import RunningServer, run_server, wait_until

CLIENTS = Path(__file__).parents[2] / "clients"
SPOKEN_S = 10.8
"""The first three utterances of the bundled recording."""

DROP = """(base64) => {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], "a talk.wav"));
  dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""

Opened = Callable[..., Tab]


@pytest.fixture(scope="module")
def spoken(speech: FloatArray) -> FloatArray:
    return speech[: round(SPOKEN_S * 16_000)]


@pytest.fixture(scope="module")
def wav(spoken: FloatArray) -> bytes:
    """16 bits at the recognizer's rate: what a browser makes of it is exactly what was in it."""
    file = io.BytesIO()
    soundfile.write(file, spoken, 16_000, subtype="PCM_16", format="WAV")
    return file.getvalue()


@pytest.fixture(scope="module")
def written_down(recognizer: Recognizer, wav: bytes, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The utterances as `transcribe` has them."""
    path = tmp_path_factory.mktemp("recording") / "talk.wav"
    path.write_bytes(wav)
    texts = [utterance.text for utterance in recognizer.transcribe(path).utterances]
    assert len(texts) == 3
    return texts


@pytest.fixture(scope="module")
def browser(spoken: FloatArray, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    microphone = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    silence = np.zeros(16_000, np.float32)  # Chromium repeats the last bit of a file for ever
    sound = soxr.resample(np.concatenate([spoken, silence]), 16_000, 48_000)
    soundfile.write(microphone, sound, 48_000, subtype="PCM_16")
    with chromium(microphone) as started:
        yield started


@pytest.fixture(scope="module")
def served(recognizer: Recognizer, browser: Any) -> Iterator[RunningServer]:
    with run_server(recognizer, max_speed=100) as server:
        yield server


@pytest.fixture
def opened(browser: Any, served: RunningServer) -> Iterator[Opened]:
    """Opens a page; at the end of the test nothing may have been complained about, unless the test forgave it."""
    tabs: list[Tab] = []

    def open_tab(address: str = "/", **settings: Any) -> Tab:
        tabs.append(Tab(browser, **settings))
        tabs[-1].page.goto(address if "://" in address else f"http://{served.address}{address}")
        return tabs[-1]

    yield open_tab
    for tab in tabs:
        tab.close()
        assert not tab.complaints


def similar(heard: list[str], expected: list[str]) -> bool:
    """A browser resamples and levels its microphone: a few letters may differ."""
    return SequenceMatcher(None, " ".join(heard), " ".join(expected)).ratio() > 0.85


def drop(tab: Tab, wav: bytes, pace: str = "max") -> None:
    tab.page.select_option("#pace", pace)
    tab.page.evaluate(DROP, base64.b64encode(wav).decode())


# --- the microphone -------------------------------------------------------------------------------------------


def test_captions_of_the_microphone(opened: Opened, written_down: list[str]) -> None:
    tab = opened()
    page = tab.page
    page.click("#start")
    tab.await_state("live")
    page.locator("#live p").filter(has_text=re.compile(r"\w+ \w+")).wait_for()
    page.locator("#finals li").nth(1).wait_for()
    assert int(page.get_attribute("#meter", "aria-valuenow")) <= 0
    page.locator("#latency").filter(has_text=re.compile(r"^\d\.\d s$")).wait_for()
    page.locator("#lag").filter(has_text=re.compile(r"^\d+\.\d s$")).wait_for()
    assert "Fake" in page.inner_text("#microphone")
    page.locator("#finals li").nth(2).wait_for()
    tab.await_text("#trouble", "muted")  # the recording is over, and what follows are zeros
    page.click("#start")
    tab.await_state("idle")
    assert similar(tab.finals, written_down)
    times = page.locator("#finals time").all_inner_texts()
    assert times[0] == "0:00"
    assert times == sorted(times)
    assert page.locator("#trouble").is_hidden()


def test_only_finished_captions_are_announced(opened: Opened, wav: bytes) -> None:
    tab = opened()
    log = tab.page.locator("[role=log]")
    assert log.get_attribute("aria-live") == "polite"
    assert log.locator("#finals").count() == 1
    assert log.locator("#live").count() == 0
    assert tab.page.get_attribute("#live", "aria-live") == "off"
    drop(tab, wav)
    tab.page.locator("#finals li").nth(2).wait_for()
    assert log.locator("p").all_inner_texts() == tab.finals


def test_a_blocked_microphone_is_told_in_plain_words(opened: Opened) -> None:
    tab = opened()
    refuse = "() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', '%s'); }; }"
    for name, words in (("NotAllowedError", "is blocked"), ("NotFoundError", "No microphone"), ("Other", "Other")):
        tab.page.evaluate(refuse % name if name != "Other" else refuse.replace("'', '%s'", "'Other words'"))
        tab.page.click("#start")
        tab.await_text("#trouble", words)
        tab.await_state("idle")


# --- recordings -----------------------------------------------------------------------------------------------


def test_a_dropped_recording_has_the_captions_that_transcribe_gives_it(
    opened: Opened, wav: bytes, written_down: list[str]
) -> None:
    tab = opened()
    drop(tab, wav)
    tab.page.locator("#finals li").nth(2).wait_for()
    tab.await_state("idle")
    assert tab.finals == written_down
    assert tab.page.inner_text("#time") == "0:10"


def test_downloads(opened: Opened, wav: bytes, written_down: list[str]) -> None:
    tab = opened()
    assert tab.page.locator("[data-format]:disabled").count() == 3
    tab.page.locator("#pace").select_option("max")
    tab.page.locator("#file").set_input_files({"name": "a talk.wav", "mimeType": "audio/wav", "buffer": wav})
    tab.page.locator("#finals li").nth(2).wait_for()
    tab.await_state("idle")
    contents = {}
    for kind in ("srt", "vtt", "txt"):
        with tab.page.expect_download() as download:
            tab.page.click(f"[data-format={kind}]")
        assert download.value.suggested_filename == f"a talk.{kind}"
        contents[kind] = Path(download.value.path()).read_text(encoding="utf-8")
    assert contents["txt"].splitlines() == written_down
    cue = r"(\d\d):(\d\d):(\d\d)[,.](\d{3})"
    for kind in ("srt", "vtt"):
        found = re.findall(rf"^{cue} --> {cue}\n((?:.+\n)+)", contents[kind], re.MULTILINE)
        lines = [line for *_, text in found for line in text.splitlines()]
        assert " ".join(lines).split() == " ".join(written_down).split()
        assert max(map(len, lines)) <= 42
        times = [tuple(map(int, times[at : at + 4])) for *times, _ in found for at in (0, 4)]
        assert times == sorted(times)
    assert contents["vtt"].startswith("WEBVTT\n\n00:00:0")
    assert contents["srt"].startswith("1\n00:00:0")


def test_a_recording_replaces_captions_only_when_it_may(opened: Opened, wav: bytes) -> None:
    tab = opened()
    drop(tab, wav)
    tab.page.locator("#finals li").nth(2).wait_for()
    tab.await_state("idle")
    asked: list[str] = []
    tab.page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    drop(tab, wav)
    assert "a talk.wav" in asked[0]
    assert len(tab.finals) == 3
    tab.page.click("#clear")
    assert tab.finals == []
    assert tab.page.locator("#welcome").is_visible()


def test_what_is_no_recording_is_told_in_plain_words(opened: Opened) -> None:
    tab = opened()
    drop(tab, b"no sound at all")
    tab.await_text("#trouble", "cannot decode “a talk.wav”")
    tab.await_state("idle")


def test_what_is_no_recording_costs_no_captions(opened: Opened, wav: bytes) -> None:
    tab = opened()
    drop(tab, wav)
    tab.page.locator("#finals li").nth(2).wait_for()
    tab.await_state("idle")
    tab.page.on("dialog", lambda dialog: dialog.accept())
    drop(tab, b"no sound at all")
    tab.await_text("#trouble", "cannot decode “a talk.wav”")
    assert len(tab.finals) == 3
    drop(tab, wav)
    tab.await_state("live")
    tab.await_state("idle")
    assert len(tab.finals) == 3, "replaced"


# --- the server -----------------------------------------------------------------------------------------------


def test_a_connection_that_is_cut_costs_nothing(
    browser: Any, served: RunningServer, wav: bytes, written_down: list[str]
) -> None:
    before = served.metric("stream_asr_sessions_resumed_total")
    with cutting_proxy(served.port) as proxy:
        tab = Tab(browser)
        tab.page.goto(f"http://127.0.0.1:{proxy.port}/")
        drop(tab, wav, "realtime")
        for count in range(1, 4):
            tab.await_state("live")
            time.sleep(1)  # of audio
            proxy.cut()
            wait_until(lambda count=count: served.metric("stream_asr_sessions_resumed_total") >= before + count)  # type: ignore[misc]
        tab.await_state("idle")
        assert tab.finals == written_down
        assert tab.page.locator("#trouble").is_hidden()
        tab.close()


def test_a_server_that_does_not_come_back_leaves_the_captions(browser: Any, served: RunningServer, wav: bytes) -> None:
    tab = Tab(browser)
    with cutting_proxy(served.port) as proxy:
        tab.page.clock.install()
        tab.page.goto(f"http://127.0.0.1:{proxy.port}/")
        drop(tab, wav, "realtime")
        tab.await_state("live")
        for _ in range(100):  # a tenth of a second of audio at a time, as the clock goes
            tab.page.clock.run_for(50)
            if tab.finals:
                break
    assert tab.finals
    tab.await_state("reconnecting")
    for _ in range(20):
        tab.page.clock.run_for(3000)
    tab.await_text("#trouble", "did not come back")
    tab.await_state("idle")
    assert tab.finals
    tab.close()


def test_a_token_is_asked_for_and_kept_out_of_addresses(browser: Any, recognizer: Recognizer, wav: bytes) -> None:
    token = "s3cret/(+%)="
    with run_server(recognizer, tokens=(token,), max_speed=100) as guarded:
        tab = Tab(browser)
        asked: list[str] = []
        for happening in ("request", "websocket"):
            tab.page.on(happening, lambda connection: asked.append(connection.url))
        tab.page.goto(f"http://{guarded.address}/")
        drop(tab, wav)
        for told, tried in (("wants a token", "nöt it"), ("does not accept this token", token)):
            tab.await_text("#trouble", told)
            tab.page.locator("#token-form").wait_for()
            tab.page.fill("#token", tried)
            tab.page.press("#token", "Enter")  # and it goes on with what was refused
        tab.page.locator("#finals li").nth(2).wait_for()
        assert tab.page.locator("#token-form").is_hidden()
        assert {f"{scheme}://{guarded.address}/v1/stream" for scheme in ("http", "ws")} <= set(asked)
        assert not any("s3cret" in address for address in asked)
        tab.close()

        tab = Tab(browser)
        tab.page.goto(f"http://{guarded.address}/?{urlencode({'token': token})}")
        drop(tab, wav)
        tab.page.locator("#finals li").nth(2).wait_for()
        assert tab.page.url == f"http://{guarded.address}/"
        assert not tab.complaints
        tab.close()


def test_a_full_server_is_told_before_the_microphone_is_asked_for(browser: Any, recognizer: Recognizer) -> None:
    with run_server(recognizer, max_sessions=1) as full:
        taken = Tab(browser)
        taken.page.goto(f"http://{full.address}/")
        taken.page.click("#start")
        taken.await_state("live")
        tab = Tab(browser)
        tab.page.goto(f"http://{full.address}/")
        tab.page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => { throw new Error('asked'); }; }")
        tab.page.click("#start")
        tab.await_text("#trouble", "The server is full")
        tab.close()
        taken.close()


# --- people ---------------------------------------------------------------------------------------------------


def test_everything_can_be_done_with_a_keyboard(opened: Opened) -> None:
    tab = opened()
    page = tab.page
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("() => document.activeElement.id"))
        assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == ["theme", "stage", "start", "microphone", "open", "pace"]
    page.focus("#start")
    page.keyboard.press("Enter")
    tab.await_state("live")
    assert page.evaluate("() => document.activeElement.id") == "start"
    page.locator("#finals li").first.wait_for()
    page.keyboard.press("Space")
    tab.await_state("idle")
    page.focus("[data-format=txt]")
    with page.expect_download():
        page.keyboard.press("Enter")


def test_light_and_dark(opened: Opened) -> None:
    page = opened(color_scheme="light").page

    def background() -> str:
        colour: str = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        return colour

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
def test_no_width_needs_horizontal_scrolling(opened: Opened, wav: bytes, width: int) -> None:
    tab = opened(viewport={"width": width, "height": 700})
    overflow = "() => document.documentElement.scrollWidth - innerWidth"
    assert tab.page.evaluate(overflow) <= 0
    drop(tab, wav)
    tab.page.locator("#finals li").nth(2).wait_for()
    tab.await_state("idle")
    assert tab.page.evaluate(overflow) <= 0
    outside = (
        "() => [...document.querySelectorAll('button, select, dd')].filter((each) => each.offsetParent && "
        "(each.getBoundingClientRect().right > innerWidth || each.getBoundingClientRect().bottom > innerHeight))"
        ".map((each) => each.outerHTML)"
    )
    assert tab.page.evaluate(outside) == []


# --- modules on their own -------------------------------------------------------------------------------------


def test_subtitles_break_where_the_speaker_pauses(opened: Opened) -> None:
    made = opened().page.evaluate("""async () => {
      const { cues, srt, vtt } = await import("/static/subtitles.js");
      const spoken = (count, start) =>
        Array.from({ length: count }, (_, at) => ({ word: "word", start: start + at / 4, end: start + at / 4 + 0.2 }));
      const long = { text: "", words: [...spoken(10, 3600), ...spoken(12, 3604)] };
      const sign = { text: "", words: [{ word: "<b>&", start: 4000, end: 4000.1 }] };
      return { cues: cues([long, sign, { text: "", words: [] }]), srt: srt([sign]), vtt: vtt([sign]) };
    }""")
    assert [(cue["start"], " ".join(cue["lines"]).count("word")) for cue in made["cues"]] == [
        (3600, 10),
        (3604, 12),
        (4000, 0),
    ]
    assert made["srt"] == "1\n01:06:40,000 --> 01:06:41,000\n<b>&\n"
    assert made["vtt"] == "WEBVTT\n\n01:06:40.000 --> 01:06:41.000\n&lt;b&gt;&amp;\n"


def test_a_second_session_goes_on_where_the_first_ended(opened: Opened) -> None:
    finals = opened().page.evaluate("""async () => {
      const { Transcript } = await import("/static/transcript.js");
      const transcript = new Transcript();
      const final = (text) => ({ text, start: 1, end: 2, words: [{ word: text, start: 1, end: 1.5 }] });
      for (const text of ["one", "two"]) {
        transcript.begin();
        transcript.add(final(text));
        transcript.add(final(""));
      }
      return transcript.finals;
    }""")
    assert [(final["text"], final["start"], final["words"][0]["end"]) for final in finals] == [
        ("one", 1, 1.5),
        ("two", 3, 3.5),
    ]


# --- the overlay, and the client to copy from -----------------------------------------------------------------


def test_the_overlay(opened: Opened, written_down: list[str]) -> None:
    tab = opened("/captions?size=50&color=rgb(255,255,0)&lines=2&hold=1&align=left&shadow=0")
    page = tab.page
    page.locator("#captions p").nth(1).wait_for()
    look = page.evaluate("""() => {
      const box = document.getElementById("captions");
      const { fontSize, color, textAlign, textShadow } = getComputedStyle(box);
      const grounds = [document.documentElement, document.body, box];
      const background = grounds.map((each) => getComputedStyle(each).backgroundColor);
      return { fontSize, color, textAlign, textShadow, background, height: box.clientHeight };
    }""")
    assert look == {
        "fontSize": "50px",
        "color": "rgb(255, 255, 0)",
        "textAlign": "left",
        "textShadow": "none",
        "background": ["rgba(0, 0, 0, 0)"] * 3,
        "height": 130,
    }
    shown = page.locator("#captions")
    page.locator("#captions.gone").wait_for()  # nobody speaks any more
    assert len(shown.locator("p").all()) <= 3
    assert similar([shown.inner_text().replace("\n", " ")], written_down)
    assert page.locator("#trouble").is_hidden()


def test_the_overlay_takes_no_nonsense(opened: Opened) -> None:
    tab = opened("/captions?size=x&color=url(x)&background=}&lines=x&hold=x&align=x&microphone=no%20such")
    tab.await_text("#trouble", "There is no such microphone. There are: Fake")
    assert tab.page.evaluate("() => document.documentElement.style.cssText") == ""


def test_the_overlay_says_which_options_it_cannot_use(opened: Opened) -> None:
    tab = opened("/captions?colour=red&color=nocolor&size=-3&lines=3")
    tab.await_text("#trouble", "Not understood in the address: colour, size, color.")
    assert tab.page.evaluate("() => document.documentElement.style.cssText") == "--lines: 3;"


def test_the_overlay_listens_to_the_microphone_it_was_told(opened: Opened) -> None:
    tab = opened("/captions?microphone=input%202")
    tab.page.locator("#captions p").first.wait_for()


def test_the_client_to_copy_from(browser: Any, recognizer: Recognizer, written_down: list[str]) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(CLIENTS))
    handler.func.log_message = lambda *_: None  # type: ignore[attr-defined]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{pages.server_port}"
        with (
            run_server(recognizer, allow_origins=(origin,)) as served,
            cutting_proxy(served.port) as proxy,
        ):
            tab = Tab(browser)
            tab.page.goto(f"{origin}/browser.html?server=ws://127.0.0.1:{proxy.port}")
            tab.page.click("#button")
            tab.page.locator("#unstable").filter(has_text=re.compile(r"\w")).wait_for()
            proxy.cut()
            wait_until(lambda: served.metric("stream_asr_sessions_resumed_total") == 1)
            tab.page.locator("#finals br").nth(2).wait_for(state="attached")
            tab.page.click("#button")
            tab.page.locator("#button").filter(has_text="Start").wait_for()
            assert similar(tab.page.inner_text("#finals").split("\n"), written_down)
            assert tab.page.inner_text("#trouble") == ""
            tab.close()
        pages.shutdown()
