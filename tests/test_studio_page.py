"""The studio's page in a browser, as a person uses it: with a mouse, with a keyboard, wide and narrow."""

import contextlib
import re
from pathlib import Path

import pytest
from opened import Opened
from PIL import Image

from nsnumpy import read_settings
from nsnumpy.files.weight_sources import DATA
from nsnumpy.studio.works import PAUSED, RUNNING

FILES = DATA / "studio"
WIDTHS = (1280, 390)
TIMES = "\N{MULTIPLICATION SIGN}"


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    opened = Opened(tmp_path_factory.mktemp("studio"))
    yield opened
    opened.close()


@pytest.fixture
def visit(browser, opened):
    """A function that opens the page anew, as wide as is said; nothing may be told to the console, or asked outside."""
    told, requests = [], []
    with contextlib.ExitStack() as contexts:

        def visit(width=1280, wrong="nothing", **options):
            context = browser.new_context(viewport={"width": width, "height": 900}, **options)
            contexts.callback(context.close)
            page = context.new_page()
            page.on("console", lambda message: wrong in message.text or told.append(message.text))
            page.on("pageerror", lambda error: told.append(str(error)))
            page.on("request", lambda request: requests.append(request.url))
            page.goto(opened.server.address)
            page.wait_for_selector("#plan:not(:empty)")
            return page

        yield visit
    for made in opened.get("/api/works")["works"]:  # no page is left that shows them
        opened.studio.remove(made["id"])
    assert told == []
    ours = (f"http://{opened.host}/", "blob:", "data:")
    assert [url for url in requests if not url.startswith(ours)] == []


def set_small(page, iterations="3,3"):
    """Few iterations, at 128 and 256 pixels."""
    page.select_option("#size", "256")
    page.evaluate("document.getElementById('expert').open = true")
    page.fill("#field-iterations", iterations)
    page.keyboard.press("Tab")
    page.evaluate("document.getElementById('expert').open = false")


def slide(page, selector, value):
    page.locator(selector).evaluate(
        "(e, v) => { e.value = v; for (const n of ['input', 'change']) e.dispatchEvent(new Event(n)); }",
        value,
    )


def over_the_edge(page):
    """What stands beyond the window, but for what can be scrolled."""
    return page.evaluate(
        """() => [...document.querySelectorAll("body *")]
                 .filter((e) => e.offsetParent && !e.closest(".mat, .strip, .skip"))
                 .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
                 .map((e) => e.outerHTML.slice(0, 99))"""
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_a_picture_from_the_first_choice_to_the_gallery(visit, opened, tmp_path, width):
    page = visit(width)
    Image.effect_mandelbrot((120, 90), (-2, -1.5, 1, 1.5), 50).convert("RGB").save(tmp_path / "mine.png")
    page.set_input_files("#photos input", tmp_path / "mine.png")
    page.wait_for_selector("#photos [aria-pressed=true][aria-label='mine.png']")
    page.wait_for_selector("#after[alt='The photograph, mine']")
    page.click("#paintings [aria-label=glass]")
    assert page.locator("#mix > div").count() == 2
    slide(page, "#mix input >> nth=1", "20")
    page.click("#mix button >> nth=1")
    box = page.locator("#brush-canvas").bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.3 * box["height"], steps=4)
    page.mouse.up()
    page.click("#brush-save")
    page.wait_for_selector("#mix button:has-text('A part')")
    slide(page, "#strength", "1")
    assert page.text_content("#strength-told") == "more painting (60)"
    slide(page, "#strokes", "0.5")
    page.select_option("#colors", "photo")
    set_small(page)
    page.wait_for_selector(f"#plan:has-text('256 {TIMES} 192 pixels, about')")
    page.click("#paint")
    page.wait_for_selector("#work:not([hidden])", timeout=60000)
    page.wait_for_selector(f"#caption:has-text('256 {TIMES} 192')")
    assert re.match(rf"256 {TIMES} 192 · 6 iterations in \d+ s · loss [\d.]+$", page.text_content("#work-told"))
    assert page.locator("#strip li").count() >= 2
    assert page.locator("#curve").get_attribute("aria-label").startswith("The loss over 6 iterations")
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "result.png")
    record = read_settings(tmp_path / "result.png")
    assert (record["beta"], record["style_size"], record["colors"]) == (60.0, 362, "photo")
    assert record["style_regions"] == {"style 2": "region-2"}
    command = page.text_content("#command")
    assert all(part in command for part in ("nsnumpy transfer", "--mask", "--beta 60", "--colors photo"))

    page.click("#compare")
    page.locator("#split").focus()
    before = page.evaluate("document.getElementById('view').style.getPropertyValue('--split')")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.getElementById('view').style.getPropertyValue('--split')") != before == "50%"
    page.locator("#mat").focus()
    page.keyboard.press("+")
    page.click("#more")
    assert int(page.text_content("#zoom").removesuffix(" %")) in (200, 400, 800)
    page.click("#fit")
    assert over_the_edge(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    page.reload()  # it is still there, and so is the picture that was brought
    page.wait_for_selector("#photos [aria-label='mine.png']")
    page.click("#works button >> nth=0")
    page.wait_for_selector(f"#caption:has-text('256 {TIMES} 192')")
    page.click("#again")
    assert page.locator("#mix button >> nth=1").text_content() == "A part"
    assert page.input_value("#strength") == "1"
    page.click("#larger")
    page.wait_for_selector(f"#plan:has-text('384 {TIMES} 288'):has-text('begins with the picture before')")
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#remove")
    page.wait_for_selector("#work", state="hidden")
    assert opened.get("/api/works")["works"] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_a_run_is_watched_and_steered(visit, opened, width):
    page = visit(width)
    page.click("#paintings [aria-label=glass]")
    set_small(page, "20000")
    page.click("#paint")
    page.wait_for_selector("#after[src*=live]")
    first = page.get_attribute("#after", "src")
    page.wait_for_selector(f"#after[src*=live]:not([src='{first}'])")
    assert re.search(r"iteration \d+ of 40000 · 128 pixels \(1 of 2 sizes\) · loss", page.text_content("#told"))
    page.wait_for_selector("#strip li >> nth=2")
    page.click("#pause")
    page.wait_for_selector("#pause:has-text('Go on')")
    painting = opened.studio.now
    assert painting.work.state == PAUSED

    slide(page, "#strength", "2")
    slide(page, "#mix input >> nth=0", "75")
    slide(page, "#mix input >> nth=1", "25")
    page.click("#change")
    page.wait_for_selector("#steer", state="hidden")
    assert [change.get("beta") for change in painting.run.changes] == [180, None]
    assert painting.run.changes[1]["style_weights"] == {"style": 0.75, "style 2": 0.25}
    frame = int(page.text_content("#strip button >> nth=1"))
    page.click("#strip button >> nth=1")
    page.wait_for_selector("#after[src*=frames]")
    page.click("#back")
    page.wait_for_selector("#after[src*=live]")
    opened.until(lambda: painting.epoch == 1)
    assert painting.run.changes[-1] == {"iteration": painting.run.changes[0]["iteration"], "back_to": frame}

    page.select_option("#size", "384")
    page.wait_for_selector("#plan:has-text('384')")
    page.click("#paint")  # which waits
    page.wait_for_selector("#waiting li")
    other = visit(width)  # a browser that is opened anew finds it where it is
    other.wait_for_selector("#told:has-text('Paused')")
    other.wait_for_selector("#after[src*=live]")
    other.click("#waiting button")
    page.wait_for_selector("#queue", state="hidden")
    other.click("#pause")
    page.wait_for_selector("#pause:has-text('Pause')")
    assert painting.work.state == RUNNING
    page.click("#stop")
    page.wait_for_selector("#work:not([hidden])")
    told = page.text_content("#work-told")
    assert re.search(r"stopped after \d+ of 20000 iterations at 128 pixels · beta 180 from iteration \d+ on", told)
    assert f"back to {frame}" in told


def test_with_the_keyboard_alone(visit, opened):
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#panel"

    def tab_to(selector):
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("(s) => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"{selector} is not reached")

    tab_to("#photos [aria-label=still-life]")
    page.keyboard.press("Space")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    tab_to("#mix button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#brush[open]")
    for key in ("Space", "ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key) if key != "Space" else page.keyboard.down(key)
    page.keyboard.up("Space")
    tab_to("#brush-save")
    page.keyboard.press("Enter")
    page.wait_for_selector("#mix button:has-text('A part')")
    assert page.evaluate("document.activeElement.textContent") == "A part"
    page.keyboard.press("Enter")
    page.wait_for_selector("#brush[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#brush", state="hidden")
    tab_to("#strength")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#strength", "aria-valuetext") == "more painting (26)"
    set_small(page, "1")
    tab_to("#paint")
    page.keyboard.press("Enter")
    page.wait_for_selector("#work:not([hidden])", timeout=60000)


def test_what_is_wrong_is_said_on_the_page(visit, opened, tmp_path):
    page = visit(wrong="Failed to load resource")
    (tmp_path / "text.png").write_text("text")
    page.set_input_files("#photos input", tmp_path / "text.png")
    page.wait_for_selector("#status.error:has-text('text.png: not a picture that can be read')")
    page.evaluate("document.getElementById('expert').open = true")
    page.fill("#field-iterations", "many")
    page.keyboard.press("Tab")
    page.wait_for_selector("#plan.error:has-text('iterations: cannot be')")
    assert page.is_disabled("#paint")
    page.context.clear_cookies()
    page.fill("#field-iterations", "")
    page.keyboard.press("Tab")
    page.wait_for_selector("#plan.error:has-text('open the address that the terminal shows')")


@pytest.fixture(scope="module")
def axe(request):
    """The rules of axe-core, if a file with them is given."""
    path = request.config.getoption("--axe")
    return Path(path).read_text(encoding="utf-8") if path else pytest.skip("no axe.min.js is given: --axe FILE")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_everybody_can_use_it(visit, opened, axe, width, scheme):
    page = visit(width, color_scheme=scheme)
    set_small(page, "1")
    page.click("#paint")
    page.wait_for_selector("#work:not([hidden])", timeout=60000)
    page.click("#expert summary")

    def found():
        page.evaluate(axe)
        result = page.evaluate("axe.run()")
        assert len(result["passes"]) > 15
        each = [(rule["id"], node) for rule in result["violations"] for node in rule["nodes"]]
        return [(name, node["target"], node["failureSummary"]) for name, node in each]

    assert found() == []
    page.click("#mix button")
    page.wait_for_selector("#brush[open]")
    assert found() == []


def test_the_page_is_small_and_refers_to_nothing_outside():
    files = {path.name: path.read_bytes() for path in FILES.iterdir()}
    assert sum(map(len, files.values())) < 80_000
    for name, text in files.items():
        outside = re.sub(rb"http://www\.w3\.org/2000/svg", b"", text)
        assert b"//" not in re.sub(rb"(?m)^\s*//.*|\s// .*", b"", outside), name
    page = files["index.html"].decode()
    assert set(re.findall(r'(?:src|href)="([\w.]+)"', page)) <= files.keys()
    assert not re.search(r"<script>|<style| style=| on\w+=", page)
    used = set(re.findall(r'\bid="([\w-]+)"', page))
    labels = set(re.findall(r'(?:for|aria-labelledby)="([\w-]+)"', page))
    assert labels <= used
