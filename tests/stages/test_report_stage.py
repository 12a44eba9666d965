"""`report` writes a page that a browser opens from disk: no request, no error, sorting, a phone's width."""

import re
import shutil
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from pipeline.params import load_params
from stages import report

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
        *("--out", str(data / "report")),
        *("--params", str(files.params)),
    ]


@pytest.fixture(scope="module")
def files(write_shared_study):
    """A study whose page was written by the stage."""
    names = (
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "a class of a very long name " * 3,
    )
    files = write_shared_study(budgets=(60, 200, "all"), ratios=(0.5,), class_names=names)
    app = typer.Typer()
    app.command()(report.main)
    result = CliRunner().invoke(app, arguments(files), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return files


@pytest.fixture(scope="module")
def path(files):
    return files.root / "data/report/index.html"


def test_the_page_shows_the_parameters_and_no_path_of_the_machine(files, path):
    text = path.read_text(encoding="utf-8")
    assert "Do synthetic images help?" in text
    total_images = load_params(files.params).gan.total_images
    assert "grid_images_per_class: 4" in text and f"total_images: {total_images}" in text
    assert "tracking:" not in text and "execution:" not in text  # no properties of the result
    assert str(files.root) not in text


def test_a_damaged_input_is_one_line_and_leaves_the_old_page(files, path):
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
        if options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-plots]", state="attached", timeout=120_000)
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
    papers = page.evaluate("[...document.querySelectorAll('.plot')].map(plot => plot.layout.paper_bgcolor)")
    assert set(papers) == {"#161b22" if scheme == "dark" else "#ffffff"}


PLOTS = 3 * 7 + 1  # of each budget, and the low-data curve


@pytest.mark.browser
def test_every_plot_is_drawn_in_the_place_of_its_picture(path, open_page):
    page, complaints, _ = open_page(path)
    sizes = page.evaluate(
        """[...document.querySelectorAll(".plot")].map(plot => {
          const marks = plot.querySelectorAll(".scatterlayer path, .heatmaplayer image, .barlayer path");
          const box = plot.querySelector(".main-svg").getBoundingClientRect();
          return [marks.length, box.width, plot.getBoundingClientRect().width];
        })"""
    )
    assert len(sizes) == PLOTS
    assert all(marks > 0 and 250 < width <= room + 1 for marks, width, room in sizes)
    assert page.locator("figure.drawn .static:visible").count() == 0
    assert page.locator(".drawn > .plot:visible").count() == PLOTS
    # A name with HTML in it is shown as it was written.
    shown = page.locator("#classes .plot").nth(0).locator(".ytick").all_text_contents()
    assert "<script>alert(1)</scrip…" in "".join(shown)
    assert complaints == []


@pytest.mark.browser
def test_a_name_in_the_legend_shows_and_hides_and_no_button_sends_data(path, open_page):
    page, complaints, _ = open_page(path)
    curve = page.locator("#curve .plot").first
    before = curve.locator(".scatterlayer .trace").count()
    curve.locator(".legendtoggle").last.click()  # synthetic only, hidden at first
    page.wait_for_timeout(1000)
    assert curve.locator(".scatterlayer .trace").count() > before
    buttons = page.evaluate(
        "[...document.querySelectorAll('.modebar-btn')].map(button => button.dataset.title)"
    )
    assert buttons and not [
        title for title in buttons if not title or re.search("cloud|share|studio|link", title, re.I)
    ]
    assert complaints == []


@pytest.mark.browser
def test_a_change_of_the_colour_scheme_redraws(path, open_page):
    page, complaints, _ = open_page(path, color_scheme="light")
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector("html[data-plots=dark]", state="attached", timeout=60_000)
    papers = page.evaluate("[...document.querySelectorAll('.plot')].map(plot => plot.layout.paper_bgcolor)")
    assert set(papers) == {"#161b22"}
    assert complaints == []


@pytest.mark.browser
def test_a_click_on_a_heading_sorts_and_another_turns_it_round(path, open_page):
    page, complaints, _ = open_page(path)
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
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.browser
def test_the_page_reads_without_scripts(path, open_page):
    page, complaints, _ = open_page(path, java_script_enabled=False)
    assert page.locator("#arms tbody tr").count() == 3 * (2 + 3)
    assert page.locator("th button").count() == 0
    assert page.locator("#curve .static img:visible").count() == 3 * 2
    assert page.locator(".plot:visible").count() == 0
    assert complaints == []


@pytest.mark.browser
def test_print_hides_the_navigation_and_shows_what_was_folded(path, open_page):
    page, _, _ = open_page(path, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".plot:visible").count() == 0
    assert page.locator("#curve .static img:visible").count() == 3 * 2
