"""The page holds what the study declares and nothing else, needs no network, and escapes what users name."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pipeline.comparison.judgement import CODES
from pipeline.comparison.texts import p_value, points, points_interval
from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.params import load_params
from pipeline.report.advice import ANSWERS
from pipeline.report.page import write_report
from pipeline.results import load_results
from pipeline.study.arms import ARMS
from pipeline.study.trained_gans import Collapse, TrainedGans

STUDIED = tuple(
    name
    for name, arm in ARMS.items()
    if not arm.pool
    and (arm.policy == "none" or (arm.policy in ("affine", "affine_elastic") and not arm.remedy))
)
VOID = {"meta", "link", "img", "source", "br", "input", "hr"}


class Page(HTMLParser):
    """The parsed page: text, tables as rows of cell texts, photographs, charts, every address, and open tags."""

    def __init__(self, html):
        super().__init__()
        self.html, self.words, self.tables, self.images, self.addresses, self.open = html, [], [], [], [], []
        self.charts, self.labels, self.marks, self.sections = [], [], [], {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.addresses += [
            attributes[name] for name in ("src", "href", "srcset", "action", "data") if attributes.get(name)
        ]
        if tag == "img":
            self.images.append(attributes)
        if tag == "section":
            self.sections[attributes["id"]] = ""
        if tag == "svg":
            self.labels.append(attributes["aria-label"])
            self.charts.append([])
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            return
        if "svg" in self.open:
            (self.marks if self.open[-1] == "title" else self.charts[-1]).append(data)
            return
        self.words.append(data)
        if "section" in self.open:
            self.sections[list(self.sections)[-1]] += f"{data} "
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def tables_with(self, *columns):
        found = [table for table in self.tables if set(columns) <= set(table[0])]
        assert found
        return [[dict(zip(table[0], row, strict=True)) for row in table[1:]] for table in found]

    def table_with(self, *columns):
        (found,) = self.tables_with(*columns)
        return found


def make(files, out, grid_images_per_class=4):
    params = load_params(files.params)
    results = load_results(files.folders, params.study)
    settings = params.model_dump(exclude={"tracking", "export", "execution"})
    write_report(results, out, settings=settings, grid_images_per_class=grid_images_per_class, times_judged=2)
    return Page((out / "index.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def study(write_shared_study):
    return write_shared_study(budgets=(60, "all"), ratios=(0.5, 2))


@pytest.fixture(scope="module")
def page(study):
    return make(study, study.root / "report")


def read(study):
    return json.loads(study.comparison.read_text())


def test_the_page_is_whole_and_needs_no_network(page):
    assert page.open == []  # every tag is closed
    assert page.html.startswith("<!doctype html>")
    assert page.addresses
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not re.findall(r"https?://|@import|url\((?!#)", page.html)
    assert (
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\""
        in page.html
    )
    photographs = sum(map(len, re.findall(r'"data:[^"]+"', page.html)))
    assert len(page.html) - photographs < 400_000  # with 15 charts, those of two budgets


def test_anchors_lead_somewhere(page):
    anchors = [address[1:] for address in page.addresses if address.startswith("#")]
    assert anchors and all(f'id="{anchor}"' in page.html for anchor in anchors)


def test_the_verdict_comes_first(study, page):
    for row in read(study)["budgets"]:
        assert row["code"].replace("_", " ") in page.text
        assert page.text.index(row["verdict"]) < page.text.index("How much, at which ratio?")
    assert "chosen on validation" in page.text
    assert "These test images were judged 2 times in this workspace" in page.text


def test_the_first_screen_has_answer_chart_and_pictures_and_then_what_to_do(study, page):
    comparison = read(study)
    for row in comparison["budgets"]:
        budget = "All real images" if row["budget"] == "all" else f"{row['budget']} real images"
        assert f"{budget}: {ANSWERS[row['code']]}. {points(row['mean_difference'])} points" in page.text
    assert page.labels[0].startswith("Test accuracy without and with synthetic images. 60 real images: ")
    assert "real images (left) and" in page.images[0]["alt"]
    assert "With 60 real images: train on " in page.sections["do"]
    # What follows is folded, and nothing before it.
    assert page.html.index("<details") > page.html.index('id="do"')
    assert page.html.count('class="part') == len(SECTIONS) - 2


def test_every_code_of_a_verdict_has_its_answer():
    assert set(ANSWERS) == set(CODES)


@pytest.fixture(scope="module")
def study_with_upper_bound(write_shared_study):
    """At its smaller ratio the split has too few other real images."""
    return write_shared_study(arms=STUDIED, ratios=(1.0, 2.0), left_out=[("extra_real", 1.0)])


@pytest.fixture(scope="module")
def page_with_upper_bound(study_with_upper_bound):
    return make(study_with_upper_bound, study_with_upper_bound.root / "report")


def test_more_real_images_are_a_comparison_where_the_study_has_them(
    study_with_upper_bound, page_with_upper_bound
):
    row = next(
        row
        for row in read(study_with_upper_bound)["comparisons"]
        if (row["candidate"], row["synthetic_per_real"], row["metric"])
        == ("extra_real", 2.0, "test_accuracy")
    )
    gave = f"2 other real images per real one gave {points(row['mean_difference'])} points over real only ["
    assert gave in page_with_upper_bound.sections["do"]


def test_every_arm_and_comparison_has_its_row(study, page):
    comparison = read(study)
    arms = page.table_with("arm", "test accuracy")
    assert [(row["real images"], row["per real"], row["test accuracy"]) for row in arms] == [
        (str(row["budget"]), str(row["synthetic_per_real"]), f"{100 * row['test_accuracy']:.2f}")
        for row in comparison["arms"]
    ]
    differences = page.table_with("candidate", "baseline")
    assert len(differences) == len(comparison["comparisons"]) / 2  # one row has both metrics
    # Recommended arms; per budget, floor and copycat, and the four rows of memorisation's anchors.
    assert page.html.count('<tr class="marked">') == 2 + 2 * (2 + 4)


def test_what_was_left_out_and_what_could_have_been_detected_is_told(
    study_with_upper_bound, page_with_upper_bound
):
    page, comparison = page_with_upper_bound, read(study_with_upper_bound)
    arms = page.table_with("arm", "test accuracy")
    assert [row["arm"] for row in arms] == [
        *(ARMS[row["arm"]].words for row in comparison["arms"]),
        "real + extra real",
    ]
    assert arms[-1]["test accuracy"] == "–" and "too few other real images" in page.text
    assert {(row["steps"], row["batch size"]) for row in arms[:-1]} == {("1\N{NO-BREAK SPACE}000", "64")}
    first = comparison["comparisons"][0]
    row = page.table_with("candidate", "P(better)")[0]
    assert row["p (Holm)"] == p_value(first["p_holm"])
    assert row["detectable"] == f"{100 * first['minimum_detectable_effect']:.2f}"
    assert row["P(better)"].startswith(f"{first['probability_of_improvement']:.2f}")


def test_generative_metrics_stand_beside_their_anchors(page):
    for rows in page.tables_with("images", "FID\N{NO-BREAK SPACE}↓"):
        assert [row["images"] for row in rows] == [*(f"replicate {i}" for i in (1, 2, 3)), "floor", "copycat"]
        assert [row["FID\N{NO-BREAK SPACE}↓"] for row in rows] == ["7.00", "8.00", "9.00", "1.25", "2.50"]
    assert "n = 300 images a row" in page.text and "extractor abababababab" in page.text
    assert "the GAN does not beat the copycat (2.50)" in page.text


def test_classes_splits_and_provenance(study, page):
    for columns in (("class", "points"), ("class", "floor FID")):
        tables = page.tables_with(*columns)
        assert len(tables) == 2
        assert all([row["class"] for row in rows] == list(study.class_names) for rows in tables)
    assert [row["split"] for row in page.table_with("split")] == ["train", "validation", "test"]
    provenance = page.table_with("replicate", "generator")
    assert [row["replicate"] for row in provenance] == 2 * ["1", "2", "3"]
    assert [row["generator"] for row in provenance] == 2 * ["0" * 12, "1" * 12, "2" * 12]
    learning_rate = load_params(study.params).gan.generator_learning_rate
    assert f"learning_rate: {learning_rate}" in page.text and "dvc repro" in page.text


DRAWINGS = (
    "ratio_curve_{}",
    "differences_{}",
    "f1_{}",
    "confusion_{}_real_only",
    "confusion_{}_recommended",
    "confusion_{}_difference",
    "gan_{}",
)


def test_pictures_have_words_and_are_files_too(study, page):
    pairs = 2 * 2 * 3
    # The first look; film strips, and a gallery of each class.
    assert len(page.images) == 1 + 2 * (3 + 3 + pairs)
    assert len(page.charts) == len(page.labels) == 2 + 2 * (len(DRAWINGS) + 1)  # samples
    assert all(len(words) > 30 for words in (*page.labels, *(image["alt"] for image in page.images)))
    names = {"answer", "low_data_curve"}
    strips = set()
    for budget in (60, "all"):
        names |= {name.format(budget) for name in (*DRAWINGS, "samples_{}")}
        names |= {f"closest_pairs_{budget}_{space}" for space in ("pixel", "feature")}
        strips |= {f"film_strip_{budget}_{replicate}.png" for replicate in (1, 2, 3)}
    files = {file.name for file in (study.root / "report/figures").iterdir()}
    assert files == strips | {f"{name}.{ending}" for name in names for ending in ("svg", "png")}


def test_a_chart_of_the_page_says_what_its_file_says(study, page):
    charts = page.html.split("<svg ")[1:]
    for name in (*(name.format(60) for name in DRAWINGS), "low_data_curve"):
        file = (study.root / f"report/figures/{name}.svg").read_text(encoding="utf-8")
        (chart,) = [chart.partition("</svg>")[0] for chart in charts if f'id="{name}-' in chart]
        for tag in ("text", "title"):
            said = rf"<{tag}[^>]*>([^<]*)</{tag}>"
            assert re.findall(said, chart) == re.findall(said, file) != []


def test_every_mark_of_a_replicate_has_its_number(study, page):
    for budget in (60, "all"):
        (label,) = [
            words
            for words in page.labels
            if words.startswith("Test accuracy against") and f" {budget} " in words
        ]
        for row in read(study)["arms"]:
            mean = f"{100 * row['test_accuracy']:.2f} %"
            assert row["budget"] != budget or mean in label
            assert any(f"\nmean {mean}, interval" in words for words in page.marks)


def test_colours_are_declared_once_for_light_and_once_for_dark(page):
    declared = re.findall(r"--chart-ink: (#\w+);", page.html)
    assert declared == ["#24292f", "#dde3ea"] and page.html.count("fill:var(--chart-ink)") > 100
    dark = page.html.index("#dde3ea")
    assert (
        page.html.rindex("@media screen and (prefers-color-scheme: dark)", 0, dark)
        > page.html.rindex("@media", 0, dark) - 1
    )


SECTIONS = (
    "verdict",
    "do",
    "basis",
    "curve",
    "low-data",
    "arms",
    "differences",
    "classes",
    "images",
    "quality",
    "memorization",
    "training",
    "limits",
    "data",
    "reproduce",
)


def test_no_section_is_missing_or_empty(page):
    assert tuple(page.sections) == SECTIONS
    assert all(len(words.split()) > 10 for words in page.sections.values())


def test_every_number_of_the_verdict_is_in_the_comparison(study, page):
    comparison = read(study)
    known = set(re.findall(r"\d+(?:\.\d+)?", study.comparison.read_text()))
    known |= {"8", "10"} if comparison["power"] == 0.8 else set()  # "8 times in 10"
    pending = [comparison]
    while pending:
        value = pending.pop()
        if isinstance(value, dict | list):
            pending += value.values() if isinstance(value, dict) else value
        elif isinstance(value, float):
            known |= {f"{abs(100 * value):.2f}", f"{100 * value:.0f}"}
    said = [row["verdict"] for row in comparison["budgets"]]
    found = re.findall(r"\d+(?:\.\d+)?", " ".join([page.sections["basis"], *said]))
    assert len(found) > 40
    assert set(found) <= known
    basis = page.tables[0]
    accuracy = next(
        row["test_accuracy"]
        for row in comparison["arms"]
        if row["budget"] == 60 and row["arm"] == comparison["budgets"][0]["best_classic"]["arm"]
    )
    assert f": {100 * accuracy:.2f} [" in basis[2][1]


def test_the_low_data_curve_has_the_accuracies_of_every_budget(study, page):
    table = page.table_with("real images", "best with synthetic")
    assert [row["real images"] for row in table] == ["60", "all"]
    accuracy = {
        (str(row["budget"]), row["arm"]): f"{100 * row['test_accuracy']:.2f}" for row in read(study)["arms"]
    }
    for row in table:
        assert row["real only"].startswith(accuracy[row["real images"], "real"])
        assert row["real only, affine"].startswith(accuracy[row["real images"], "real_affine"])


def change_metrics(files, change, budget=60):
    path = files.metrics / f"synthetic/{budget}.json"
    summary = json.loads(path.read_text())
    change(summary)
    path.write_text(json.dumps(summary))


def test_memorisation_has_its_gate_its_anchors_and_its_closest_pairs(page):
    for rows in page.tables_with("near copies (%)"):
        assert [row["images"] for row in rows[::2]] == [
            *(f"replicate {i}" for i in (1, 2, 3)),
            "real test images",
            "copycat",
        ]
        assert rows[0]["near copies (%)"] == "0.50" and rows[0]["C_T"] == "−1.50"
        assert rows[-1]["near copies (%)"] == "100.00" and rows[0]["gate"] == "passed"
    assert "3 of 3 replicates pass" in page.text
    alts = [image["alt"] for image in page.images if "nearest training image" in image["alt"]]
    assert len(alts) == 2 * 2 * 6
    assert [alt[-5:-1] for alt in alts[:6]] == ["0.40", "0.41", "0.42", "0.50", "0.51", "0.52"]


HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }} & $x$")


@pytest.fixture(scope="module")
def odd_page(write_shared_study):
    """Names that are no names, a failed gate, weak features, and files that could not be used: each has its words."""
    files = write_shared_study(class_names=HOSTILE, ratios=(0.5,), replicates=2)

    def change(summary):
        summary["replicates"]["1"]["memorization"] |= {"passed": False, "reason": "9% near copies <here>"}
        summary["extractor_test_accuracy"] = 0.58
        summary["floor"]["fid"] = 6.0

    change_metrics(files, change)
    path = files.root / "data/prepared/splits.json"
    left_out = [{"file": f"a/{n}.png", "reason": "empty file"} for n in range(3)]
    published = {"published": {"train": {"conversion": {"left_out": left_out}}}}
    path.write_text(json.dumps(json.loads(path.read_text()) | published))
    return make(files, files.root / "report")


@pytest.fixture(scope="module")
def study_by_another_metric(write_shared_study):
    """It goes by macro-F1; it was measured without the gate and the Inception Score, and with Inception's features."""
    files = write_shared_study(ratios=(0.5,), replicates=2).declare(metric="macro_f1")

    def change(summary):
        del summary["memorization"]
        for row in (summary["floor"], summary["copycat"], *summary["replicates"].values()):
            row |= {"inception_fid": 12.5, "inception_kid": 0.01}
            del row["inception_score"]

    change_metrics(files, change)
    return files


@pytest.fixture(scope="module")
def page_by_another_metric(study_by_another_metric):
    return make(study_by_another_metric, study_by_another_metric.root / "report")


def test_what_the_metrics_lack_is_said_and_what_they_have_more_is_shown(page_by_another_metric):
    assert "hold no memorisation result" in page_by_another_metric.sections["memorization"]
    fid = "FID\N{NO-BREAK SPACE}↓"
    domain, inception = page_by_another_metric.tables_with("images", fid)
    assert [row[fid] for row in domain] == ["7.00", "8.00", "1.25", "2.50"]
    assert [row[fid] for row in inception] == 4 * ["12.50"]
    assert "Inception Score" not in page_by_another_metric.text  # no row has it


def png_of(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.mark.parametrize(("channels", "size"), [(3, 64), (1, 8)])
def test_real_and_synthetic_images_stand_side_by_side_at_their_own_size(
    write_study, tmp_path, channels, size
):
    files = write_study(ratios=(0.5,), replicates=2, channels=channels, size=size)
    page = make(files, tmp_path / "report", grid_images_per_class=3)
    first, *galleries = [image for image in page.images if "real images (left)" in image["alt"]]
    assert int(first["width"]) <= 340  # the first look, on a phone
    assert [image["alt"].split(":")[0] for image in galleries] == ["0", "1", "2"]
    data = files.root / "data"
    train = LabeledImages.load(data / "prepared/train.npz")
    synthetic = LabeledImages.load(data / "synthetic/60/0.npz")
    for label, image in enumerate(galleries):
        picture = png_of(image["src"]).convert("RGB")
        assert int(image["width"]) % picture.width == 0  # a whole number of screen pixels each
        assert int(image["width"]) // picture.width * size >= 56
        found = np.asarray(picture)[:size, :, :3]
        for images, block in (
            (train, found[:, :size]),
            (synthetic, found[:, (found.shape[1] + 12) // 2 :][:, :size]),
        ):
            expected = images.images[images.labels == label][0].transpose(1, 2, 0)
            assert (block == expected).all()
    grid = Image.open(tmp_path / "report/figures/samples_60.png").convert("RGB")
    colours = np.asarray(grid).astype(int)
    assert (np.ptp(colours[60:-20, -60:-20], axis=-1).max() > 50) == (channels == 3)
    pairs = [image for image in page.images if "nearest training image (right)" in image["alt"]]
    assert {int(image["width"]) for image in pairs} == {(2 * size + 2) * -(-56 // size)}


def test_weak_features_are_said_to_be_weak_and_strong_ones_are_not_doubted(page, odd_page):
    assert "Weak features" not in page.text
    quality = " ".join(odd_page.sections["quality"].split())
    assert "recognises only 58 % of the real test images" in quality
    assert "The floor is 80 % of the FID" in quality


def test_the_page_goes_by_the_metric_of_the_study(study_by_another_metric, page_by_another_metric):
    page = page_by_another_metric
    rows = page.table_with("arm", "test macro-F1")
    assert [row["test macro-F1"] for row in rows] == [
        f"{100 * row['test_macro_f1']:.2f}" for row in read(study_by_another_metric)["arms"]
    ]
    assert "Mean test macro-F1 (line)" in page.text and "Mean test accuracy (line)" not in page.text
    assert any("Paired change of test macro-F1" in words for words in page.labels)


def test_a_study_with_rare_classes_has_their_verdict_once_and_its_table(write_study, tmp_path):
    arms = ("real", "synthetic", "fill_synthetic")
    files = write_study(ratios=(0.5,), replicates=2, arms=arms)
    rare = read(files)["imbalance"]
    page = make(files, tmp_path / "report")
    (verdict,) = [row["verdict"] for row in rare["budgets"]]
    assert page.text.count(verdict) == 1 and verdict in page.sections["imbalance"]
    assert page.text.count(read(files)["budgets"][0]["verdict"]) == 1
    (judged,) = rare["budgets"]
    name = next(iter(rare["classes"]))
    parts = [judged, judged["rare_recall"], judged["recall_of_class"][name]]
    rows = page.table_with("best rival", "metric")
    assert [row["metric"] for row in rows] == [
        "macro-F1",
        "recall, mean of rare classes",
        f"recall of {name}",
    ]
    for row, part in zip(rows, parts, strict=True):
        assert (row["best rival"], row["difference"]) == ("real only", points(part["mean_difference"]))
        assert row["interval"] == points_interval(part["low"], part["high"])
    rows = page.table_with("candidate", "metric")
    assert [row["metric"] for row in rows] == [
        f"recall of {next(iter(rare['classes']))}",
        "recall, mean of rare classes",
        "macro-F1",
    ]
    for row, expected in zip(rows, rare["comparisons"], strict=True):
        assert row["difference"] == points(expected["mean_difference"])
        assert row["interval"] == points_interval(expected["low"], expected["high"])
        assert row["each replicate"].split() == [points(value) for value in expected["differences"]]


def test_a_failed_gate_is_seen(page, odd_page):
    assert "gate not passed" not in page.text
    assert "1 of 2 replicates pass" in odd_page.text and "gate not passed" in odd_page.text
    assert "Replicate 1: 9% near copies <here>." in odd_page.text


def test_a_pair_of_another_study_is_refused(write_study, tmp_path):
    files = write_study(ratios=(0.5,), replicates=2)

    def misplace(summary):
        summary["replicates"]["1"]["memorization"]["closest_pairs"][0]["train_index"] = 36

    change_metrics(files, misplace)
    with pytest.raises(SynthGainError, match="closest pairs: image 36 of train split, which has 36"):
        make(files, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_where_real_only_is_recommended_the_best_synthetic_arm_stands_beside_it(write_study, tmp_path):
    files = write_study(ratios=(0.5,), replicates=2, arms=("real", "synthetic"))
    page = make(files, tmp_path / "report")
    names = {file.name for file in (tmp_path / "report/figures").glob("confusion_*.png")}
    assert names == {f"confusion_60_{name}.png" for name in ("real_only", "best_synthetic", "difference")}
    assert "Real only is recommended; beside it stands real + synthetic at 0.5" in page.text
    assert tuple(page.sections) == SECTIONS
    assert "one budget (60 real images)" in page.sections["low-data"]  # a curve needs two
    assert not (tmp_path / "report/figures/low_data_curve.png").exists()


def test_one_replicate_is_no_evidence_and_the_same_bytes_twice(write_study, tmp_path):
    files = write_study(ratios=(0.5,), replicates=1)
    summary = json.loads((files.metrics / "synthetic/60.json").read_text())
    summary["copycat"]["fid"] = 30.0
    (files.metrics / "synthetic/60.json").write_text(json.dumps(summary))
    page = make(files, tmp_path / "first")
    assert "too few replicates" in page.text and "no evidence" in page.text
    assert {row["interval"] for row in page.table_with("arm", "test accuracy")} == {"–"}
    assert "the GAN beats the copycat (30.00)" in page.text

    make(files, tmp_path / "second")
    pairs = [
        (file, tmp_path / "second" / file.relative_to(tmp_path / "first"))
        for file in (tmp_path / "first").rglob("*.*")
    ]
    assert len(pairs) == 24
    assert all(one.read_bytes() == other.read_bytes() for one, other in pairs)


def test_what_is_not_declared_is_in_no_table_and_no_picture(write_study, tmp_path):
    files = write_study(budgets=(60, 91), ratios=(0.5, 0.77))
    files = files.declare(real_images=[60], synthetic_per_real=[0.5], replicates=2)
    shutil.rmtree(files.root / "data/synthetic/91")
    (files.root / "data/synthetic/60/2.npz").unlink()
    page = make(files, tmp_path / "report")
    drawings = "".join(
        word
        for file in (tmp_path / "report/figures").glob("*.svg")
        for word in re.findall(r"<text[^>]*>([^<]*)</text>", file.read_text())
    )
    words = (
        page.text + drawings + "".join((*page.labels, *page.marks, *(image["alt"] for image in page.images)))
    )
    assert "0.5" in drawings
    for gone in ("0.77", "91 real", "replicate 3"):
        assert gone not in words


def test_files_that_were_left_out_are_counted_on_the_page(page, odd_page):
    assert "could not be used" not in page.text
    assert "3 files of the image folder could not be used and were left out" in odd_page.text


def test_a_comparison_of_another_study_is_refused(write_study, tmp_path):
    files = write_study(ratios=(0.5, 1.0))
    before = files.comparison.read_text()
    changed = files.declare(synthetic_per_real=[0.5])
    files.comparison.write_text(before)
    with pytest.raises(SynthGainError, match=r"comparison\.json: compares another study than params\.yaml"):
        make(changed, tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    "name",
    [
        "data/prepared/splits.json",
        "data/metrics/comparison.json",
        "data/metrics/gan/60.csv",
        "data/metrics/synthetic/60.json",
        "data/gan/60/1/film_strip.png",
        "data/synthetic/60/1.npz",
    ],
)
def test_a_missing_or_damaged_file_is_named(write_study, tmp_path, name):
    files = write_study()
    (files.root / name).write_bytes(b"{ damaged")
    with pytest.raises(SynthGainError, match=re.escape(name)):
        make(files, tmp_path / "report")
    (files.root / name).unlink()
    with pytest.raises(SynthGainError, match=re.escape(name)):
        make(files, tmp_path / "report")


def test_names_of_classes_cannot_break_the_page(odd_page):
    assert odd_page.html.count("<script>") == 1  # our own
    assert "<img src=x" not in odd_page.html
    assert all(image["src"].startswith("data:") for image in odd_page.images)
    for columns in (("class", "points"), ("class", "floor FID")):
        assert [row["class"] for row in odd_page.table_with(*columns)] == list(HOSTILE)
    assert any(HOSTILE[0] in words for words in odd_page.labels) and odd_page.open == []
    assert any(f"{HOSTILE[0]} taken for {HOSTILE[1]}" in words for words in odd_page.marks)
    assert [chart for chart in odd_page.charts if HOSTILE[2] in chart]


def test_a_study_without_ratios_has_a_page_with_small_pictures(write_study, tmp_path):
    files = write_study(ratios=(0,), replicates=2)
    noise = Image.effect_noise((1800, 1800), 80)
    for replicate in (0, 1):
        noise.save(files.root / f"data/gan/60/{replicate}/film_strip.png")
    page = make(files, tmp_path / "report", grid_images_per_class=20)
    assert "no arm with real and synthetic images was trained" in page.text
    assert page.open == [] and tuple(page.sections) == SECTIONS

    assert (files.root / "data/gan/60/0/film_strip.png").stat().st_size > 3_000_000
    assert (tmp_path / "report/index.html").stat().st_size < 3_300_000
    (strip,) = [image for image in page.images if "images of replicate 1" in image["alt"]]
    with Image.open(io.BytesIO(base64.b64decode(strip["src"].partition(",")[2]))) as image:
        assert 300 < image.width < 1800
    assert any("12 of each class" in words for words in page.labels)  # there are no 20


def test_a_collapsed_gan_is_told_beside_the_verdict_and_its_replicate_is_nowhere_else(write_study, tmp_path):
    gans = {60: TrainedGans(3, (Collapse(2, 1, "the training diverged by step 9"),))}
    page = make(write_study(ratios=(0.5,), gans=gans), tmp_path / "report")
    verdict = page.text.partition("How much, at which ratio?")[0]
    assert "1 of 3 GANs collapsed" in read_verdict(verdict) and "2 replicates" in verdict
    assert "Replicate 2: the training diverged by step 9." in verdict
    marks = " ".join(page.marks)
    assert "replicate 1" in marks and "replicate 3" in marks and "replicate 2" not in marks
    assert page.text.count("eplicate 2") == 1


def read_verdict(text):
    """The coloured box alone."""
    return text.partition("A collapsed GAN takes")[0]
