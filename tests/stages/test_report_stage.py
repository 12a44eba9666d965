"""`report` writes a page that a browser opens from disk: no request, no error, sorting, a phone's width."""

import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pipeline.params import load_params
from pipeline.report.drawing import COLOURS
from stages import report

ROOT = Path(__file__).parents[2]
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def arguments(files):
    data = files.root / "data"
    return [
        *("--metrics", str(data / "metrics")),
        *("--gan", str(data / "gan")),
        *("--synthetic", str(data / "synthetic")),
        *("--prepared", str(data / "prepared")),
        *("--judgements", str(files.root / "judgements.csv")),
        *("--out", str(data / "report")),
        *("--params", str(files.params)),
    ]


def write_page(files):
    """The page of a study, written by the stage."""
    files.params.write_text(files.params.read_text().replace("data/own", str(files.root / "own")))
    app = typer.Typer()
    app.command()(report.main)
    result = CliRunner().invoke(app, arguments(files), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return files.root / "data/report/index.html"


@pytest.fixture(scope="module")
def path(write_shared_study):
    """The page of three budgets and odd names, for a browser."""
    names = (
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "a class of a very long name " * 3,
        "שלום עולם",
        "手書きの数字",
    )
    return write_page(write_shared_study(budgets=(60, 200, "all"), ratios=(0.5,), class_names=names))


@pytest.fixture(scope="module")
def files(write_shared_study):
    """A study whose page was written by the stage."""
    files = write_shared_study(ratios=(0.5,), replicates=2)
    write_page(files)
    return files


def test_the_page_shows_the_parameters_and_no_path_of_the_machine(files):
    text = (files.root / "data/report/index.html").read_text(encoding="utf-8")
    assert "Do synthetic images help?" in text
    total_images = load_params(files.params).gan.total_images
    assert "grid_images_per_class: 4" in text and f"total_images: {total_images}" in text
    assert "tracking:" not in text and "execution:" not in text  # no properties of the result
    assert str(files.root) not in text


def test_a_damaged_input_is_one_line_and_leaves_the_old_page(files):
    path = files.root / "data/report/index.html"
    before, comparison = path.read_bytes(), files.comparison.read_text()
    files.comparison.write_text("{}")
    result = subprocess.run(
        [sys.executable, "-m", "stages.report", *arguments(files)],
        capture_output=True,
        text=True,
        check=False,
    )
    files.comparison.write_text(comparison)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and "comparison.json: no arms" in line
    assert path.read_bytes() == before


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if not executable:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser):
    """A function that opens a page from disk and returns it with its complaints and requests."""
    contexts = []

    def open_(path, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        complaints, requests = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        return page, complaints, requests

    yield open_
    for context in contexts:
        context.close()


def column(page, heading):
    """The texts of the column of this heading in the arms table."""
    return page.evaluate(
        """heading => {
          const table = document.querySelector("#arms table");
          const index = [...table.tHead.rows[0].cells].findIndex(cell => cell.textContent === heading);
          return [...table.tBodies[0].rows].map(row => row.cells[index].textContent);
        }""",
        heading,
    )


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_opens_from_disk_without_an_error_or_a_request(path, open_page, scheme):
    page, complaints, requests = open_page(path, color_scheme=scheme)
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    pictures = page.evaluate("[...document.images].map(image => [image.complete, image.naturalWidth])")
    assert pictures and all(complete and width > 50 for complete, width in pictures)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 384) == (scheme == "dark")
    assert set(inks(page)) == {"rgb(221, 227, 234)" if scheme == "dark" else "rgb(36, 41, 47)"}


CHARTS = 3 * 8 + 2  # of each budget, the answer and the low-data curve


def unfold(page):
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")


def inks(page):
    """The colour of the first text of every chart."""
    return page.evaluate(
        "[...document.querySelectorAll('svg.chart')].map(chart => getComputedStyle(chart.querySelector('text')).fill)"
    )


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_no_text_of_a_chart_is_cut_and_all_can_be_read(path, open_page, width):
    page, complaints, _ = open_page(path, viewport={"width": width, "height": 844})
    unfold(page)
    found = page.evaluate(
        """[...document.querySelectorAll("svg.chart")].map(chart => {
          const paper = chart.getBoundingClientRect();
          const scale = paper.width / chart.viewBox.baseVal.width;
          return [...chart.querySelectorAll("text")].map(text => {
            const box = text.getBoundingClientRect();
            const sides = [paper.x - box.x, box.right - paper.right, paper.y - box.y, box.bottom - paper.bottom];
            const beyond = Math.max(...sides);
            return [text.textContent, beyond, scale * parseFloat(getComputedStyle(text).fontSize)];
          });
        })"""
    )
    assert len(found) == CHARTS and all(len(texts) >= 5 for texts in found)
    for texts in found:
        assert [words for words, beyond, _ in texts if beyond > 1] == []
        assert min(size for _, _, size in texts) > 9.5
    # A name with HTML in it is shown as it was written, and one in Hebrew as it is.
    words = {words for texts in found for words, _, _ in texts}
    assert {"<script>alert(1)</scrip…", "שלום עולם", "a class of a very long …", "手書きの数字"} <= words
    assert complaints == []


@pytest.mark.browser
def test_a_change_of_the_colour_scheme_changes_the_charts(path, open_page):
    page, complaints, _ = open_page(path, color_scheme="light")
    page.emulate_media(color_scheme="dark")
    assert set(inks(page)) == {"rgb(221, 227, 234)"}
    assert complaints == []


@pytest.mark.browser
def test_a_mark_says_its_words_under_the_pointer_at_a_tap_and_with_the_arrows(path, open_page):
    page, complaints, _ = open_page(path, viewport={"width": 390, "height": 844}, has_touch=True)
    unfold(page)
    chart, note = page.locator("#curve svg.chart").first, page.locator(".note")
    assert not note.is_visible() and page.locator("svg.chart title").count() == 0
    mark = chart.locator("[data-words*='mean']").first
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    words = note.inner_text()
    assert words == mark.get_attribute("data-words") and "%, interval" in words
    shown = note.bounding_box()
    assert shown["x"] >= 0 and shown["x"] + shown["width"] <= 390
    page.mouse.move(box["x"] + box["width"] / 2 + 15, box["y"] + box["height"] / 2)  # beside it: the nearest
    assert "%" in note.inner_text()
    page.mouse.move(2, 2)
    assert not note.is_visible()
    chart.focus()
    said = []
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        said.append(note.inner_text())
    assert len(set(said)) == 3
    page.keyboard.press("Escape")
    assert not note.is_visible() and complaints == []


@pytest.mark.browser
def test_a_click_on_a_heading_sorts_and_another_turns_it_round(path, open_page):
    page, complaints, _ = open_page(path)
    unfold(page)
    for heading in ("test accuracy", "arm", "real images"):
        before = column(page, heading)
        button = page.locator("#arms th", has_text=heading).first.locator("button")
        button.click()
        ascending = column(page, heading)
        button.click()
        assert ascending == column(page, heading)[::-1]
        numbers = heading != "arm"
        key = (lambda text: float(text.replace("all", "inf"))) if numbers else str
        assert ascending == sorted(before, key=key)
    assert page.locator("#arms th[aria-sort]").count() == 1
    assert complaints == []


@pytest.mark.browser
def test_a_phone_scrolls_down_only(path, open_page):
    page, _, _ = open_page(path, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("getComputedStyle(document.querySelector('.verdict p')).fontSize") >= "16px"
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.browser
def test_the_page_reads_without_scripts(path, open_page):
    page, complaints, _ = open_page(path, java_script_enabled=False)
    assert page.locator("#arms tbody tr").count() == 3 * (2 + 3)
    assert page.locator("th button").count() == 0
    assert page.locator("svg.chart").count() == CHARTS and page.locator("svg.chart:visible").count() == 1
    page.locator("#arms summary").first.click()
    assert page.locator("#arms table").is_visible()
    assert page.locator("svg.chart title").count() > 200  # which the browser shows under the pointer
    assert complaints == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 390])
def test_the_first_screen_has_the_answer_its_chart_and_the_pictures(path, open_page, width):
    page, _, _ = open_page(path, viewport={"width": width, "height": 844})
    places = [page.locator(one).bounding_box() for one in (".headline >> nth=0", ".answer svg", ".look img")]
    assert all(place["x"] >= 0 and place["x"] + place["width"] <= width for place in places)
    answer, chart, pictures = places
    assert answer["y"] < 400 and answer["y"] < chart["y"]
    if width == 1200:  # side by side; on a phone one follows the other
        assert pictures["x"] > chart["x"] + chart["width"] - 1
    assert page.locator("details[open]").count() == 0


@pytest.mark.browser
def test_a_link_opens_its_part(path, open_page):
    page, complaints, _ = open_page(path)
    assert not page.locator("#quality table").first.is_visible()
    page.locator("nav a[href='#quality']").click()
    assert page.locator("#quality table").first.is_visible() and complaints == []


@pytest.mark.browser
def test_print_is_short_light_and_cuts_no_chart(path, open_page, write_study, tmp_path):
    page, _, _ = open_page(path, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#arms table").is_visible() and not page.locator("#training").is_visible()
    assert set(inks(page)) == {"rgb(36, 41, 47)"}
    # One budget with three ratios, as the shipped study has: at most six pages of paper.
    files = write_study(ratios=(0.5, 1.0, 2.0), replicates=4)
    app = typer.Typer()
    app.command()(report.main)
    CliRunner().invoke(app, arguments(files), catch_exceptions=False)
    page, _, _ = open_page(files.root / "data/report/index.html", viewport={"width": 700, "height": 1000})
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))) <= 6
    page.emulate_media(media="print")
    cut = page.evaluate(
        """[...document.querySelectorAll("svg.chart, table")].filter(one => {
          const box = one.getBoundingClientRect();
          return box.width && box.right > document.documentElement.clientWidth + 1;
        }).map(one => one.getAttribute("aria-label"))"""
    )
    assert cut == []


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_axe_finds_nothing(path, open_page, width, scheme):
    """Rules of WCAG by axe-core, where `npm install --no-save axe-core` has put it."""
    axe = ROOT / "node_modules/axe-core/axe.min.js"
    if not axe.is_file():
        pytest.skip("axe-core is not here: npm install --no-save axe-core")
    page, _, _ = open_page(path, viewport={"width": width, "height": 844}, color_scheme=scheme)
    unfold(page)
    page.evaluate(axe.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] != "minor"] == []


def painted(pdf):
    """The colours that a PDF fills with, as in CSS."""
    found = set()
    for packed in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        try:
            content = zlib.decompressobj().decompress(packed)
        except zlib.error:
            continue  # a font or a picture
        for colour in re.findall(rb"([\d.]+) ([\d.]+) ([\d.]+) rg\b", content):
            found.add("#" + "".join(f"{round(255 * float(part)):02x}" for part in colour))
    return found


@pytest.mark.browser
def test_a_page_printed_from_a_dark_browser_is_light(path, open_page):
    page, _, _ = open_page(path, color_scheme="dark")
    unfold(page)
    colours = painted(page.pdf(print_background=True))
    dark = {dark for _, dark in COLOURS.values()}
    assert {COLOURS[name][0] for name in ("ink", "blue", "orange", "green", "background")} <= colours
    assert not colours & dark and "#0d1117" not in colours
