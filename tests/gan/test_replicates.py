"""What becomes of a budget when a GAN collapses. The guard is the real one but where a test says which GAN it stops."""

import pickle
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from pipeline.augmentation.geometry import DIGITS, ImageFacts
from pipeline.errors import SynthGainError
from pipeline.gan import replicates, training
from pipeline.gan.monitor import CollapsedTraining, refuse_collapse
from pipeline.gan.replicates import train_replicates
from pipeline.images import LabeledImages
from pipeline.params import load_params
from pipeline.study.trained_gans import Collapse, GanStudy
from tests.test_kills import tiny_params

STEPS, POINTS, SIZE = 12, 4, 8  # of a training: an evaluation point every 3 steps


@pytest.fixture(scope="module")
def train():
    data = load_digits(n_class=4)
    images = (data.images[:, None] * 15.9).astype(np.uint8)
    return LabeledImages(images, data.target.astype(np.int64), tuple("0123"))


@pytest.fixture
def train_all(train, tmp_path, monkeypatch):
    """A function that trains the GANs of a budget: it gives what became of them, and what was trained how far."""
    tiny_params(
        tmp_path,
        total_images=STEPS * SIZE,
        batch_size=SIZE,
        history_points=POINTS,
        warmup_steps=1,
        collapse_patience_images=0,
    )
    params = load_params(tmp_path / "params.yaml")
    started = {}

    def watched(real, gan, *, label, advance, **options):
        def counted(units, note=""):
            started.setdefault(label, []).append(units)
            advance(units, note)

        return training.train_gan(real, gan, label=label, advance=counted, **options)

    watched.__module__ = training.__name__  # part of the store's key
    monkeypatch.setattr(replicates, "train_gan", watched)

    def run(*, count=3, members=1, folder="gan", facts=DIGITS, **gan):
        started.clear()
        study = GanStudy(budget=40, replicates=count, generators_per_replicate=members, imbalance={}, seed=1)
        settings = params.gan.model_copy(update=gan)
        rows, gans = train_replicates(
            train, study, settings, params.execution, folder=tmp_path / folder, facts=facts
        )
        return pd.DataFrame(rows), gans

    run.folder, run.started = tmp_path, started
    return run


@pytest.fixture
def collapses(monkeypatch):
    """A function that has the guard stop these trainings in their second half, unless its patience is 0."""

    def stop(*names):
        def guard(history, gan, *, label, **more):
            seen = history[-1]["images_seen"]
            if gan.collapse_patience_images and seen > gan.total_images / 2 and label in names:
                raise CollapsedTraining(label, f"the generator has collapsed (for {seen} images)", "train on")
            refuse_collapse(
                history, gan.model_copy(update={"collapse_patience_images": 0}), label=label, **more
            )

        for module in (training, replicates):
            monkeypatch.setattr(module, "refuse_collapse", guard)

    return stop


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_the_others_go_on_with_their_numbers_seeds_and_bytes(train_all, collapses, capsys, monkeypatch):
    whole, gans = train_all(folder="whole")
    assert gans.gans == 3 and gans.collapsed == ()
    monkeypatch.setenv("SYNTHGAIN_STORE", str(train_all.folder / "another/store"))  # nothing is found
    collapses("GAN 40, replicate 2 of 3")
    history, gans = train_all(collapse_patience_images=1)
    reason = "the generator has collapsed (for 72 images)"
    assert gans.gans == 3 and gans.collapsed == (Collapse(2, 1, reason),)
    expected = {name: data for name, data in files(train_all.folder / "whole").items() if name[0] != "1"}
    assert files(train_all.folder / "gan") == expected and {name[0] for name in expected} == {"0", "2"}
    timed = ["images_per_second"]
    rest = whole[whole["replicate"] != 2].reset_index(drop=True)
    assert history.drop(columns=timed).equals(rest.drop(columns=timed))
    said = capsys.readouterr()
    assert f"GAN 40, replicate 2 of 3: {reason}; its replicate is left out" in said.err
    assert "GANs of 40 real images: 2 trained, 0 found finished, 1 collapsed" in said.out


def test_another_patience_trains_no_finished_gan_and_the_collapsed_one_goes_on_from_its_state(
    train_all, collapses, monkeypatch
):
    train_all(folder="whole")
    monkeypatch.setenv("SYNTHGAIN_STORE", str(train_all.folder / "another/store"))
    collapses("GAN 40, replicate 2 of 3")
    train_all(collapse_patience_images=1)
    assert len(train_all.started) == 3
    _, gans = train_all(collapse_patience_images=1)  # as at each `dvc repro`: not from scratch
    assert gans.left_out == [2]
    assert train_all.started == {"GAN 40, replicate 2 of 3": [6 * SIZE, *[SIZE] * 2]}
    _, gans = train_all(collapse_patience_images=0)
    assert train_all.started == {"GAN 40, replicate 2 of 3": [6 * SIZE, *[SIZE] * 6]}
    assert gans.collapsed == ()
    assert files(train_all.folder / "gan") == files(train_all.folder / "whole")
    _, gans = train_all(collapse_patience_images=1)  # what it is does not depend on what was there before
    assert train_all.started == {} and gans.left_out == [2]


def test_a_finished_gan_is_judged_by_the_patience_of_now(train_all, monkeypatch):
    """By its history, with the real guard: what is left out does not depend on what was trained before."""
    train_all()
    monkeypatch.setattr("pipeline.gan.monitor._DIVERSITY_FLOOR", 1e9)  # every generator is called collapsed
    assert train_all(collapse_patience_images=STEPS * SIZE)[1].collapsed == ()  # there are not so many
    with pytest.raises(SynthGainError, match="2 of 3 GANs collapsed"):
        train_all(collapse_patience_images=SIZE)
    assert train_all.started == {}


@pytest.mark.parametrize(("count", "stopped"), [(2, (2,)), (3, (1, 3)), (3, (1, 2, 3))])
def test_with_fewer_than_two_left_the_stage_says_how_many_collapsed_and_why(
    train_all, collapses, count, stopped
):
    collapses(*(f"GAN 40, replicate {number} of {count}" for number in stopped))
    reasons = "; ".join(f"replicate {i}: the generator has collapsed (for 72 images)" for i in stopped[:2])
    words = (
        f"40 real images: {len(stopped[:2])} of {count} GANs collapsed, and a study goes on with 2 replicates"
    )
    with pytest.raises(SynthGainError, match=rf"^{words}.*\({re.escape(reasons)}\); lower the .*$"):
        train_all(count=count, collapse_patience_images=1)


def test_a_study_of_one_replicate_stops_as_a_training_does(train_all, collapses, capsys):
    collapses("GAN 40, replicate 1 of 1")
    with pytest.raises(CollapsedTraining, match=r"^GAN 40, replicate 1 of 1: the generator .*; train on$"):
        train_all(count=1, collapse_patience_images=1)
    assert "left out" not in capsys.readouterr().err


def test_one_of_several_generators_is_enough_and_none_of_the_replicate_is_left_behind(train_all, collapses):
    collapses("GAN 40_1, replicate 1 of 3")
    history, gans = train_all(members=2, collapse_patience_images=1)
    assert (gans.gans, gans.left_out) == (6, [1])
    assert [(one.replicate, one.generator) for one in gans.collapsed] == [(1, 2)]
    assert {name[0] for name in files(train_all.folder / "gan")} == {"1", "2"}
    assert set(history["replicate"]) == {2, 3}


def test_a_training_that_diverges_leaves_its_replicate_out_too(train_all, monkeypatch):
    real, rates = training.set_learning_rates, {"calls": 0}

    def sick(state, gan, *, factor):
        rates["calls"] += 1
        real(state, gan, factor=factor * (1e30 if rates["calls"] <= STEPS // POINTS else 1))

    monkeypatch.setattr(training, "set_learning_rates", sick)  # of the first training alone
    _, gans = train_all()
    assert gans.left_out == [1]
    assert re.fullmatch(
        r"the training diverged by step 3 \(D loss \S+, G loss \S+\)", gans.collapsed[0].reason
    )


def test_a_refusal_comes_back_from_a_worker_as_it_was():
    error = CollapsedTraining("GAN", "it collapsed", "train on")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "GAN: it collapsed; train on" and again.reason == "it collapsed"


def test_other_facts_of_the_images_are_another_generator(train_all):
    train_all()
    assert len(train_all.started) == 3
    train_all(folder="again")
    assert train_all.started == {}
    train_all(folder="mirrored", facts=ImageFacts(flips="horizontal"))
    assert len(train_all.started) == 3
