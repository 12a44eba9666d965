"""The page: every published number, ours beside it or said to be missing, and the committed copy up to date."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.literature.page import NOT_RUN, page_text, published, reproduced, write_page
from pipeline.literature.protocol import film_epochs, save_film
from pipeline.literature.run import code_commit, discriminator_scores
from pipeline.literature.systems import systems
from pipeline.maintenance.workspace import PROJECT

NOTHING = pd.DataFrame({"system": [], "length": []})


def page(tmp_path, rows=NOTHING, losses=NOTHING):
    return page_text(rows, losses, tmp_path, "pictures")


def test_every_published_number_stands_on_the_page(tmp_path):
    text = page(tmp_path)
    table = published()
    assert len(table) == 102
    for paper, part in table.groupby("paper"):
        section = text.partition(f"## Paper {paper}:")[2].partition(f"## Paper {int(paper) + 1}:")[0]
        for entry in part.to_dict("records"):
            assert f" {entry['printed']} |" in section, entry


def test_what_is_measured_of_ours_is_of_a_system_that_is_there():
    names = {system.name for system in systems()}
    assert set(published()["system"]) - {""} <= names


def test_what_was_not_run_is_said_to_be_so(tmp_path):
    text = page(tmp_path)
    (said,) = [line for line in text.splitlines() if line.startswith("- Not run yet at the paper length:")]
    for system in systems():
        assert f"{system.title} ({system.paper})" in said
    assert text.count(f"**Reproduced?** At the paper's length: {NOT_RUN}.") == 5


def test_a_row_stands_beside_its_published_numbers(tmp_path):
    row = {
        "system": "proposed",
        "title": "proposed model",
        "length": "paper",
        "fid": 1.234,
        "inception_score": 9.5,
    }
    row |= {"epochs": 50.0, "d_accuracy": 0.7, "d_accuracy_real": 0.61, "d_accuracy_fake": 0.79, "d_f1": 0.67}
    row |= {"d_loss_sum": 1.2, "d_loss_mean": 0.6, "g_loss": 0.9, "commit": "0123456789abcdef"}
    text = page(tmp_path, pd.DataFrame([row]))
    assert f"| Table 2 | Proposed Model: FID | 11.4 | 1.23 (own network) | {NOT_RUN} |" in text
    assert f"| Table 3 | real image accuracy: accuracy | 67.58 % | 61.00% | {NOT_RUN} |" in text
    assert (
        f"| section 7 | the proposed model: Loss | 0.10 | D 1.20 (sum), 0.60 (mean), G 0.90 | {NOT_RUN} |"
        in text
    )
    assert "only proposed has been run" in text
    assert "| 0123456 |" in text


def test_paper_3s_windows_are_ours_as_sum_and_as_mean(tmp_path):
    epochs = np.arange(1.0, 51)
    losses = pd.DataFrame({"system": "balance", "length": "paper", "epoch": epochs})
    losses = losses.assign(d_loss_sum=1.4, d_loss_mean=0.7, g_loss=np.where(epochs > 30, 0.72, 2.0))
    text = page(tmp_path, losses=losses)
    assert "| loss balance, cyclic rate | D, ours (sum) |" + " 1.40 |" * 10 in text
    assert "| loss balance, cyclic rate | D, ours (mean) |" + " 0.70 |" * 10 in text
    assert "| loss balance, cyclic rate | G, ours |" + " 2.00 |" * 6 + " 0.72 |" * 4 in text
    assert reproduced(3, {}, losses) == (
        "A gap that stays at 0.06 or below: with D's loss as sum it does not come and with D's loss as mean it comes in"
        " window 30-34."
    )


@pytest.mark.parametrize(("weights", "nats", "word"), [(81_184, 238.0, "too"), (81_184, 150.0, "not")])
def test_the_sentence_follows_the_numbers(weights, nats, word):
    row = {"generator_weights": weights, "parzen_nats": nats, "parzen_standard_error": 2.0, "d_accuracy": 0.5}
    real = {"parzen_nats": 243.8}
    said = reproduced(0, {("minimal", "paper"): row, ("real", "equal"): real}, NOTHING)
    assert (
        f'"Adversarial nets" are {word}: this generator has {nats:.0f} ± 2 (as many real train images: 244)'
        in said
    )


def test_the_order_of_the_four_rows_is_judged_by_fid():
    rows = {
        (name, "paper"): {"fid": fid}
        for name, fid in zip(("proposed", "wgan", "dcgan", "vanilla"), range(4), strict=True)
    }
    assert "the order of the table's FIDs is reproduced" in reproduced(2, rows, NOTHING)
    rows["vanilla", "paper"] = {"fid": -1}
    assert "by FID the order is vanilla, proposed, wgan, dcgan" in reproduced(2, rows, NOTHING)


def test_table_3s_accuracies_give_the_digests_f1():
    scores = discriminator_scores(d_accuracy_real=0.6758, d_accuracy_fake=0.8125)
    assert scores["d_accuracy"] == pytest.approx(0.744, abs=5e-4)
    assert scores["d_f1"] == pytest.approx(0.725, abs=5e-4)


def test_the_film_has_the_papers_six_epochs_and_twelve_samples(tmp_path):
    assert film_epochs(50) == [1, 10, 20, 30, 40, 50]
    film = np.zeros((51, 20, 1, 4, 4), np.uint8)
    film[30, 11] = 255
    save_film(tmp_path / "film.png", film, film_epochs(50))
    picture = np.asarray(Image.open(tmp_path / "film.png"))
    assert picture.shape == (6 * 8, 12 * 8)  # a row for each epoch
    assert (picture[3 * 8 : 4 * 8, 11 * 8 :] == 255).all() and picture.sum() == 64 * 255


def test_the_committed_page_is_made_from_the_committed_tables(tmp_path):
    write_page(
        tmp_path / "page.md",
        results=PROJECT / "docs/studies/literature",
        pictures="studies/literature/pictures",
    )
    made, committed = (path.read_text() for path in (tmp_path / "page.md", PROJECT / "docs/literature.md"))
    assert made == committed, "python docs/literature_page.py"


def test_the_code_of_a_row_has_a_name():
    assert code_commit() == "unknown" or len(code_commit().removesuffix("+")) == 40
