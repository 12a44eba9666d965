import copy
import hashlib
import io
import itertools
import re
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.augmentation.geometry import DIGITS, ImageFacts
from pipeline.checkpoints import file_sha256
from pipeline.errors import SynthGainError
from pipeline.gan import training
from pipeline.gan.batches import RealBatches
from pipeline.gan.film import save_film_strip
from pipeline.gan.generators import load_generator, save_generator
from pipeline.gan.options import OF_A_STUDY, PaperGan, plateau_step
from pipeline.gan.sampling import synthetic_images
from pipeline.gan.state import load_state, new_state
from pipeline.gan.training import (
    even_steps,
    learning_rate_factor,
    train_gan,
    update_average,
)
from pipeline.images import LabeledImages, images_sha256
from pipeline.params import Gan

CPU = torch.device("cpu")
PLAYERS = ("generator", "discriminator")


@pytest.fixture(scope="module")
def digits():
    """The embedded digits at their own 8×8 pixels, six classes: small enough to train on in seconds."""
    data = load_digits(n_class=6)
    images = (data.images[:, None] * 15.9).astype(np.uint8)
    return LabeledImages(images, data.target.astype(np.int64), tuple("012345"))


@pytest.fixture(scope="module")
def plain(digits):
    """The small GAN as it is without any change, trained: many tests compare theirs with it."""
    return train(digits, make_gan())


SHIPPED = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())["gan"]
MLP = {
    "architecture": "mlp",
    "generator_channels": [32, 32],
    "generator_strides": [],
    "discriminator_channels": [32, 16],
    "discriminator_strides": [],
    "discriminator_features": 0,
}
DCGAN = {
    "architecture": "dcgan",
    "generator_channels": [16, 8],
    "generator_strides": [2, 2],
    "discriminator_channels": [8, 16],
    "discriminator_strides": [2, 2],
    "discriminator_features": 0,
}


def make_gan(**changes):
    small = {
        "z_dim": 16,
        "class_embedding_dim": 8,
        "generator_channels": [16, 8],
        "generator_strides": [2, 2],
        "discriminator_channels": [8, 16, 16],
        "discriminator_strides": [1, 2, 2],
        "discriminator_features": 32,
        "total_images": 320,
        "batch_size": 32,
        "warmup_steps": 2,
        "history_points": 4,
        "film_strip_frames": 3,
    }
    return Gan.model_validate(SHIPPED | small | changes)


def make_paper_gan(**changes):
    """The small GAN with options that only the papers' systems have."""
    values = make_gan(collapse_patience_images=0).model_dump()
    return PaperGan.model_validate(values | OF_A_STUDY | changes)


def first_batch(digits, gan):
    """The first real images of a training, and their labels."""
    batches = RealBatches(digits, gan, seed=0, device=CPU)
    return batches.at(batches.indices(0))


class Killed(Exception):
    pass


def cut_off_after(monkeypatch, last):
    """Stop the training in this step of its generator."""
    real_step, steps = training.generator_loss, itertools.count(1)

    def cut_off(*args, **kwargs):
        if next(steps) == last:
            raise Killed
        return real_step(*args, **kwargs)

    monkeypatch.setattr(training, "generator_loss", cut_off)


def train(digits, gan, seed=0, **more):
    return train_gan(
        digits, gan, seed=seed, device=CPU, label="test", advance=lambda units, note="": None, **more
    )


def weights(run):
    return torch.cat([tensor.flatten() for tensor in run.generator.state_dict().values()])


def test_a_run_repeats_to_the_bit_and_seeds_differ(digits, plain):
    runs = [plain, *(train(digits, make_gan(), seed) for seed in (0, 1))]
    assert torch.equal(weights(runs[0]), weights(runs[1]))
    assert np.array_equal(runs[0].film_strip, runs[1].film_strip)
    assert not torch.equal(weights(runs[0]), weights(runs[2]))
    timeless = [
        [{k: v for k, v in row.items() if k != "images_per_second"} for row in run.history] for run in runs
    ]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize(
    "change",
    [
        DCGAN,
        MLP,
        {"generator_leak": 0.0},
        {"generator_noise": 0.5},
        {"upsampling": "nearest"},
        {"upsampling": "pixel_shuffle"},
        {"normalization": "batch"},
        {"dropout": 0.3},
        {"spectral_norm": True},
        {"conditioning": "concatenate"},
        {"loss": "non_saturating"},
        {"loss": "least_squares"},
        {"loss": "hinge"},
        {"loss": "wasserstein"},
        {"penalty": "none", "penalty_weight": 0.0},
        {"penalty": "gradient_penalty"},
        {"penalty": "r1"},
        {"penalty_weight": 3.0},
        {"penalty_interval": 1},
        {"instance_noise": 0.5},
        {"discriminator_steps": 2},
        {"generator_learning_rate": 1e-3},
        {"discriminator_learning_rate": 1e-3},
        {"schedule": "constant"},
        {"schedule": "cyclic"},
        {"warmup_steps": 8},
        {"final_learning_rate_fraction": 0.9},
        {"beta1": 0.5},
        {"beta2": 0.9},
        {"ema_decay": 0.1},
        {"real_augmentation_up_to": 2000},
        {"augment_probability": 0.0},
        {"augment_translation": 0.2},
        {"augment_rotation_degrees": 30.0},
        {"augment_scale": 0.3},
        {"augment_cutout": 0.5},
        {"batch_size": 16, "total_images": 160},
        {"total_images": 640},
    ],
    ids=lambda change: "-".join(map(str, next(iter(change.items())))),
)
def test_every_option_changes_the_result(digits, plain, change):
    """An option that does nothing would be a lie in params.yaml."""
    base, changed = weights(plain), weights(train(digits, make_gan(**change)))
    assert changed.shape != base.shape or not torch.equal(changed, base)
    assert changed.isfinite().all()


# What only the papers' systems have; `cycles_from` needs a plateau to change anything.
PAPER_OPTIONS = [
    {"conditioning": "none"},
    {"conditioning": "none", "noise_grid": True},
    {"latents": "uniform"},
    {"hidden_bias": False},
    {"generator_dropout": 0.3},
    {"discriminator_normalization": "batch"},
    {"discriminator_noise": 0.3},
    {"weight_clipping": 0.01},
    {"fresh_fakes": True},
    {"schedule": "cyclic", "cycles": 3, "cycle_decay": 0.5},
    {"schedule": "cyclic", "cycles": 3, "cycles_from": "plateau"},
    {"loss": "saturating"},
]


@pytest.mark.parametrize("change", PAPER_OPTIONS, ids=lambda change: "-".join(map(str, list(change)[-1:])))
def test_every_option_of_the_papers_changes_the_result_and_is_resumed_to_the_bit(
    digits, plain, tmp_path, monkeypatch, change
):
    gan = make_paper_gan(**DCGAN, z_dim=16, **change) if "noise_grid" in change else make_paper_gan(**change)
    without = {**change, **{name: OF_A_STUDY[name] for name in change if name in OF_A_STUDY}}
    whole = train(digits, gan)
    # At their rest the papers' options change no byte: a test of its own says so.
    other = plain if without == change else train(digits, make_paper_gan(**without))
    assert weights(whole).isfinite().all()
    assert weights(whole).shape != weights(other).shape or not torch.equal(weights(whole), weights(other))
    cut_off_after(monkeypatch, 7)
    with pytest.raises(Killed):
        train(digits, gan, scratch=tmp_path / "scratch")
    monkeypatch.undo()
    torch.rand(5)
    assert torch.equal(weights(train(digits, gan, scratch=tmp_path / "scratch")), weights(whole))


def test_a_studys_gan_is_the_same_with_the_papers_options_at_their_rest(digits, plain):
    """They change no byte of a GAN that does not use them."""
    assert torch.equal(weights(plain), weights(train(digits, make_paper_gan())))


def test_a_gan_without_labels_has_no_label_fidelity_and_reads_no_label(digits):
    gan = make_paper_gan(conditioning="none")
    shuffled = LabeledImages(digits.images, np.roll(digits.labels, 1), digits.class_names)
    runs = [train(data, gan) for data in (digits, shuffled)]
    assert torch.equal(*(weights(run) for run in runs))
    for row in runs[0].history:
        assert "label_fidelity_1nn" not in row and row["diversity"] > 0


def test_clipped_weights_stay_within_their_bound(digits):
    gan = make_paper_gan(loss="wasserstein", penalty="none", penalty_weight=0.0, weight_clipping=0.02)
    state = new_state(digits, gan, seed=0, device=CPU)
    training.set_learning_rates(state, gan, factor=1.0)
    images, labels = first_batch(digits, gan)
    pairs = training.Pairs(images, training.draw_fakes(state, labels, nullcontext), labels)
    training.discriminator_step(state, gan, pairs, False, nullcontext)
    sizes = torch.cat([weight.detach().abs().flatten() for weight in state.discriminator.parameters()])
    assert sizes.max() == pytest.approx(0.02)


def test_batch_norm_of_the_discriminator_never_mixes_real_and_fake_images(digits):
    """A real image's logit depends on the other real ones, and on no fake."""
    gan = make_paper_gan(discriminator_normalization="batch")
    state = new_state(digits, gan, seed=0, device=CPU)
    training.set_learning_rates(state, gan, factor=0.0)
    images, labels = first_batch(digits, gan)

    def real_logits(fakes):
        pairs = training.Pairs(images, fakes, labels)
        return training.discriminator_step(state, gan, pairs, False, nullcontext)[1]

    dark, light = real_logits(-torch.ones_like(images)), real_logits(torch.rand_like(images))
    assert torch.equal(dark, light)
    assert torch.allclose(dark, state.discriminator(images, labels))


def test_fresh_fakes_are_drawn_for_the_generators_step(digits, monkeypatch):
    drawn = []
    draw_fakes = training.draw_fakes
    monkeypatch.setattr(
        training, "draw_fakes", lambda *args: drawn.append(torch.is_grad_enabled()) or draw_fakes(*args)
    )
    train(digits, make_paper_gan(fresh_fakes=True, total_images=64, discriminator_steps=2))
    assert drawn == [False, False, True]  # only the last leads to the generator


def test_uniform_latents_lie_in_their_range(digits):
    gan = make_paper_gan(latents="uniform", conditioning="none")
    state, seen = new_state(digits, gan, seed=0, device=CPU), []
    state.generator.first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    training.draw_fakes(state, torch.zeros(1000, dtype=torch.int64), nullcontext)
    (z,) = seen
    assert z.abs().max() <= 1 and z.var().item() == pytest.approx(1 / 3, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise_grid": True}, "gan.noise_grid: found true"),
        ({"conditioning": "none", "noise_grid": True, "z_dim": 7}, "gan.z_dim: found 7"),
        ({"conditioning": "none", "collapse_patience_images": 100}, "a collapse is seen by labels"),
        ({"cycle_decay": 0.5}, "gan.cycle_decay, gan.cycles_from"),
        ({"discriminator_normalization": "batch", "penalty": "gradient_penalty"}, "mixes images"),
    ],
)
def test_options_of_the_papers_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_paper_gan(**changes)


def test_a_study_needs_labels():
    with pytest.raises(ValueError, match=r"conditioning\n.*'projection' or 'concatenate'"):
        make_gan(conditioning="none")


def test_weight_clipping_is_the_bound_that_a_wasserstein_loss_needs():
    bare = {"loss": "wasserstein", "penalty": "none", "penalty_weight": 0.0}
    with pytest.raises(ValueError, match="needs a bound"):
        make_paper_gan(**bare)
    assert make_paper_gan(**bare, weight_clipping=0.01).weight_clipping == 0.01


def test_the_real_augmentation_changes_a_training_of_few_images(digits):
    few = digits.subset(np.arange(200))
    runs = [train(few, make_gan(real_augmentation=strength)) for strength in (0.0, 0.4, 0.8)]
    assert len({weights(run).sum().item() for run in runs}) == 3


def test_label_smoothing_changes_a_loss_that_has_a_target(digits):
    runs = [
        train(digits, make_gan(loss="non_saturating", label_smoothing=smoothing)) for smoothing in (0.0, 0.1)
    ]
    assert not torch.equal(*map(weights, runs))


def test_the_number_of_cycles_changes_a_cyclic_schedule(digits):
    runs = [train(digits, make_gan(schedule="cyclic", cycles=cycles)) for cycles in (1, 3)]
    assert not torch.equal(*map(weights, runs))


def test_each_row_of_the_history_is_of_its_own_steps(digits):
    """Two rows of as many steps have, on average, what one row of all steps has."""
    (whole,) = train(digits, make_gan(history_points=1)).history
    halves = train(digits, make_gan(history_points=2)).history
    assert len(halves) == 2 and halves[0]["d_loss"] != halves[1]["d_loss"]
    for name in ("d_loss", "g_loss", "d_real", "d_fake"):
        assert np.mean([row[name] for row in halves]) == pytest.approx(whole[name], rel=1e-5)


def test_the_history_and_the_film_strip_have_what_they_promise(plain):
    run = plain
    assert [row["step"] for row in run.history] == [3, 5, 8, 10]
    assert [row["images_seen"] for row in run.history] == [96, 160, 256, 320]
    for row in run.history:
        assert all(0 <= row[f"d_accuracy{kind}"] <= 1 for kind in ("", "_real", "_fake"))
        assert row["diversity"] > 0
        assert 0 <= row["label_fidelity_1nn"] <= 1
        assert row["images_per_second"] > 0
    assert run.film_strip.shape == (3, 12, 1, 8, 8)
    assert run.film_strip.dtype == np.uint8
    assert not np.array_equal(run.film_strip[0], run.film_strip[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_learns_which_label_is_which(digits, dtype):
    gan = make_gan(total_images=6400, generator_channels=[32, 16], discriminator_channels=[16, 32, 32])
    run = train(digits, gan, dtype=dtype)
    assert run.history[-1]["label_fidelity_1nn"] > 0.8
    assert run.history[-1]["diversity"] > 0.4


def test_bfloat16_is_used_where_asked_for_and_weights_stay_float32(digits, plain):
    run = train(digits, make_gan(), dtype=torch.bfloat16)
    assert not torch.equal(weights(run), weights(plain))
    assert weights(run).dtype == torch.float32


@pytest.mark.parametrize(
    "change",
    [{}, {"normalization": "batch", "spectral_norm": True, "dropout": 0.2, "generator_noise": 0.1}, MLP],
    ids=["default", "with buffers and noise", "mlp"],
)
def test_a_training_that_was_cut_off_ends_with_the_same_bytes(digits, tmp_path, monkeypatch, change):
    gan = make_gan(**change)
    whole = train(digits, gan)
    cut_off_after(monkeypatch, 7)  # between two saves: what came after the last is done again
    with pytest.raises(Killed):
        train(digits, gan, scratch=tmp_path / "scratch")
    monkeypatch.undo()
    torch.rand(5)  # another process has another stream
    resumed = train(digits, gan, scratch=tmp_path / "scratch")
    assert torch.equal(weights(resumed), weights(whole))
    assert np.array_equal(resumed.film_strip, whole.film_strip)
    assert [row["d_loss"] for row in resumed.history] == [row["d_loss"] for row in whole.history]


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    """A finished training, and the bytes of the state that it kept."""
    folder = tmp_path_factory.mktemp("finished")
    return train(digits, make_gan(), scratch=folder), (folder / "state.pt").read_bytes()


def test_a_finished_training_is_not_repeated(digits, finished, tmp_path, monkeypatch):
    first, kept = finished
    (tmp_path / "state.pt").write_bytes(kept)
    monkeypatch.setattr(training, "generator_loss", None)  # it would fail if a step were taken
    again = train(digits, make_gan(), scratch=tmp_path)
    assert torch.equal(weights(first), weights(again))


@pytest.mark.parametrize("damage", ["of no kind", "cut", "of other networks", "edited"])
def test_a_damaged_state_is_set_aside_and_the_training_starts_anew(
    digits, finished, tmp_path, damage, capsys
):
    """It must not stop every `dvc repro` until somebody removes it, nor leave a trace in the result."""
    whole, kept = finished
    state = tmp_path / "state.pt"
    state.write_bytes(kept)
    if damage in ("of other networks", "edited"):
        content = torch.load(io.BytesIO(state.read_bytes()[32:]), weights_only=True)
        if damage == "edited":  # it would be found after the training, when the strip is drawn
            content["film"] = content["film"].float()
        else:
            content["d_optimizer"] = {}  # found when the networks have the file's weights already
        packed = io.BytesIO()
        torch.save(content, packed)
        digest = b"" if damage == "edited" else hashlib.sha256(packed.getvalue()).digest()
        state.write_bytes((digest or bytes(32)) + packed.getvalue())
    else:
        state.write_bytes(b"nothing" if damage == "of no kind" else state.read_bytes()[:5000])
    damaged = state.read_bytes()
    again = train(digits, make_gan(), scratch=tmp_path)
    assert torch.equal(weights(whole), weights(again))
    assert (tmp_path / "state.pt.damaged").read_bytes() == damaged
    said = capsys.readouterr().err
    assert "state.pt: not a readable state of this training" in said and "starts anew" in said
    assert said.count("\n") == 1


def test_a_state_that_cannot_be_read_here_and_now_is_left_alone(digits, finished, tmp_path, monkeypatch):
    (tmp_path / "state.pt").write_bytes(finished[1])

    def no_memory(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(torch, "load", no_memory)
    with pytest.raises(MemoryError):
        train(digits, make_gan(), scratch=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_divergence_is_named_with_advice_and_the_last_good_state_stays(digits, tmp_path, monkeypatch):
    gan = make_gan(generator_learning_rate=1.0, warmup_steps=0)
    sick = make_gan(generator_learning_rate=1e30, discriminator_learning_rate=1e30, warmup_steps=0)
    factors = iter([0.0] * 3 + [1.0] * 100)  # well at first: the state after three steps is a good one
    monkeypatch.setattr(training, "learning_rate_factor", lambda *_: next(factors))
    with pytest.raises(SynthGainError) as error:
        train(digits, sick, scratch=tmp_path / "scratch")
    monkeypatch.undo()
    assert re.search(r"diverged by step \d+.*lower gan\.generator_learning_rate", str(error.value))
    assert f"the last good state is kept in {tmp_path / 'scratch'}" in str(error.value)
    state = new_state(digits, gan, seed=0, device=CPU)
    load_state(state, tmp_path / "scratch/state.pt")
    assert state.step == 3
    assert all(tensor.isfinite().all() for tensor in state.averaged.state_dict().values())


def test_a_collapse_is_named_with_advice(digits, monkeypatch):
    """A generator that draws one image for all: its labels are right by chance."""
    monkeypatch.setattr(
        training, "generator_loss", lambda *_, real, fake: 0 * (real.sum() + fake.sum())
    )  # it never learns: classes look alike, and hardly vary
    long = {"total_images": 1600, "history_points": 10}
    gan = make_gan(**long, collapse_patience_images=480)
    with pytest.raises(SynthGainError, match=r"the generator has collapsed .* for \d+ images"):
        train(digits, gan)
    train(digits, make_gan(**long, collapse_patience_images=0))
    # Neither a short training nor more evaluation points make it cry wolf.
    train(
        digits, make_gan(total_images=640, history_points=20, collapse_patience_images=480, warmup_steps=10)
    )


@pytest.mark.parametrize("loss", ["relativistic", "hinge"])
def test_a_step_moves_the_network_of_its_player_only(digits, loss):
    gan = make_paper_gan(loss=loss)
    state = new_state(digits, gan, seed=0, device=CPU)
    training.set_learning_rates(state, gan, factor=1.0)
    images, labels = first_batch(digits, gan)
    pairs = training.Pairs(images, training.draw_fakes(state, labels, nullcontext), labels)

    def moved(step):
        before = {name: copy.deepcopy(getattr(state, name).state_dict()) for name in PLAYERS}
        result = step()
        after = {name: getattr(state, name).state_dict() for name in PLAYERS}
        changed = {
            p for p in PLAYERS for name in before[p] if not torch.equal(before[p][name], after[p][name])
        }
        return changed, result

    changed, (_, real_logits, fake_logits) = moved(
        lambda: training.discriminator_step(state, gan, pairs, True, nullcontext)
    )
    assert changed == {"discriminator"}
    assert real_logits.shape == fake_logits.shape == labels.shape
    changed, _ = moved(lambda: training.generator_step(state, gan, pairs, real_logits, nullcontext))
    assert changed == {"generator"}
    assert all(parameter.requires_grad for parameter in state.discriminator.parameters())


def test_each_player_moves_its_own_network_only(digits, monkeypatch):
    """With the other player's loss held at nothing, its network stays as it was."""

    def generator_without_loss(loss, *, real, fake):
        return 0 * (real.sum() + fake.sum())

    monkeypatch.setattr(training, "generator_loss", generator_without_loss)
    before = train(digits, make_gan(total_images=32, history_points=1))
    after = train(digits, make_gan(total_images=320))
    # Adam moves nothing without a gradient: the generator is the freshly drawn one, however long D trains.
    assert torch.equal(weights(before), weights(after))


def test_the_average_follows_the_generator():
    old, new = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    expected = 0.9 * old.weight + 0.1 * new.weight
    update_average(old, new, decay=0.9)
    assert torch.allclose(old.weight, expected)


def test_running_statistics_are_copied_into_the_average():
    old, new = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    new(torch.randn(10, 3))
    update_average(old, new, decay=0.9)
    assert torch.equal(old.running_mean, new.running_mean)


def factors(history=(), **changes):
    gan = make_paper_gan(warmup_steps=10, final_learning_rate_fraction=0.05, **changes)
    return [learning_rate_factor(step, 1000, gan, list(history)) for step in range(1, 1001)]


def test_the_cosine_schedule_rises_and_falls_to_its_floor():
    rates = factors(schedule="cosine")
    assert rates[0] == pytest.approx(0.1, rel=1e-3)
    assert max(rates) == pytest.approx(1, rel=1e-2)
    assert rates[-1] == pytest.approx(0.05)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[10:]))


def test_the_constant_schedule_stays_after_its_warm_up():
    assert factors(schedule="constant")[9:] == [1.0] * 991


def test_the_cyclic_schedule_has_as_many_peaks_as_cycles():
    rates = np.array(factors(schedule="cyclic", cycles=4))
    peaks = np.flatnonzero((rates[1:-1] > rates[:-2]) & (rates[1:-1] > rates[2:])) + 1
    assert [round(step, -1) for step in peaks.tolist()] == [120, 370, 620, 870]
    assert rates[peaks] == pytest.approx(1, rel=1e-2)
    assert rates[[249, 499, 999]] == pytest.approx(0.05, abs=0.01)


def test_the_cycles_decay():
    rates = np.array(factors(schedule="cyclic", cycles=4, cycle_decay=0.5))
    assert rates[[124, 374, 624, 874]] == pytest.approx(
        [0.05 + 0.95 * height for height in (1, 1 / 2, 1 / 4, 1 / 8)], rel=1e-2
    )


def test_cycles_wait_for_a_plateau():
    losses = [3.0, 2.0, 2.5, 2.1, 1.9]
    history = [{"step": 100 * (i + 1), "g_loss": loss} for i, loss in enumerate(losses)]
    cyclic = {"schedule": "cyclic", "cycles": 3, "cycles_from": "plateau", "plateau_points": 2}
    assert plateau_step(history, 2) == 400 and plateau_step(history, 3) is None
    assert plateau_step(history + history, 1) == 300  # the first one stays, whatever comes later
    assert set(factors(history[:3], **cyclic)[9:]) == {1.0}
    rates = np.array(factors(history, **cyclic))
    assert rates[[499, 699, 899]] == pytest.approx(1, rel=1e-2)
    assert rates[[400, 599, 799, 999]] == pytest.approx(0.05, abs=0.02)


def test_even_steps_end_with_the_last():
    assert even_steps(10, 4) == {3, 5, 8, 10}
    assert even_steps(3, 10) == {1, 2, 3}


def test_a_generator_is_read_back_as_it_was(digits, plain, tmp_path):
    run = plain
    path = tmp_path / "generator.safetensors"
    save_generator(path, run.generator, class_names=digits.class_names, provenance={"seed": 3})
    generator, class_names, provenance = load_generator(path, CPU)
    assert (class_names, provenance) == (digits.class_names, {"seed": 3})
    z, labels = torch.randn(4, 16), torch.tensor([0, 1, 2, 3])
    assert torch.equal(generator(z, labels), run.generator(z, labels))


def test_the_film_strip_runs_to_the_right(tmp_path):
    from PIL import Image

    film = np.zeros((3, 2, 1, 4, 4), np.uint8)
    film[2, 1] = 255  # the last frame of the second latent: bottom right
    save_film_strip(tmp_path / "film.png", film)
    picture = np.asarray(Image.open(tmp_path / "film.png"))
    assert picture.shape == (16, 24)
    assert (picture[8:, 16:] == 255).all() and picture.sum() == 64 * 255


@pytest.mark.parametrize("side", [8, 32, 64])
def test_a_colour_gan_is_trained_saved_read_and_draws_the_same_images(side, tmp_path):
    rng = np.random.default_rng(side)
    pixels = rng.integers(0, 256, (12, 3, side, side), dtype=np.uint8)
    real = LabeledImages(pixels, np.arange(12, dtype=np.int64) % 2, ("a", "b"))
    auto = {f"{player}_{part}": "auto" for player in PLAYERS for part in ("channels", "strides")}
    gan = make_gan(**auto, total_images=8, batch_size=4, history_points=1, film_strip_frames=2)
    digests = []
    for name in ("first", "second"):
        run = train(real, gan)
        file = tmp_path / f"{name}.safetensors"
        save_generator(file, run.generator, class_names=real.class_names, provenance={})
        save_film_strip(tmp_path / f"{name}.png", run.film_strip)
        generator, names, _ = load_generator(file, CPU)
        made = synthetic_images(
            generator,
            class_names=names,
            images_per_class=3,
            seed=1,
            provenance={},
            device=CPU,
            advance=lambda n: None,
        )
        assert made.images.shape == (6, 3, side, side)
        assert not np.array_equal(made.images[:, 0], made.images[:, 1])
        digests.append((file_sha256(file), images_sha256(made)))
    assert digests[0] == digests[1]
    with Image.open(tmp_path / "first.png") as strip:
        shown = np.asarray(strip)  # twice as large: a row per latent, a column per frame
    assert shown.shape == (4 * side * 2, 2 * side * 2, 3)
    assert np.array_equal(shown[: 2 * side : 2, 2 * side :: 2], run.film_strip[1, 0].transpose(1, 2, 0))


def test_what_the_data_set_says_of_its_images_reaches_both_augmentations(digits):
    """Flips and what lies outside change what is learned; without augmentation they change no bit."""
    facts = [DIGITS, ImageFacts(fill=255), ImageFacts(flips="horizontal"), ImageFacts(fill="edge")]
    of_real = {"augment_probability": 0.0, "real_augmentation": 1.0, "real_augmentation_up_to": len(digits)}
    steps = {"total_images": 3 * 32}
    for change in ({"augment_probability": 0.5}, of_real):
        gan = make_gan(**steps, **change)
        runs = [weights(train(digits, gan, facts=one)) for one in facts]
        assert torch.equal(runs[0], weights(train(digits, gan)))
        assert not any(torch.equal(runs[0], other) for other in runs[1:])
    without = make_gan(**steps, augment_probability=0.0, real_augmentation=0.0)
    runs = [weights(train(digits, without, facts=one)) for one in facts]
    assert all(torch.equal(runs[0], other) for other in runs[1:])
