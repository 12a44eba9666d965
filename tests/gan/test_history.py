"""What an interval of steps has on average."""

import math

import torch

from pipeline.gan.history import Interval


def test_an_interval_has_the_means_of_its_steps():
    interval = Interval(torch.device("cpu"))
    real, fake = torch.tensor([[1.0, 3.0], [-1.0, 1.0]]), torch.tensor([[0.0, 4.0], [-3.0, -1.0]])
    for step in range(2):
        interval.add(
            "hinge",
            d_loss=torch.tensor(float(step)),
            g_loss=torch.tensor(2.0),
            real_logits=real[step],
            fake_logits=fake[step],
        )
    assert interval.means() == {
        "d_loss": 0.5,
        "g_loss": 2.0,
        "d_real": 1.0,
        "d_fake": 0.0,
        "d_accuracy": 0.75,  # in three pairs of four the real image scores higher
        "d_accuracy_real": 0.75,
        "d_accuracy_fake": 0.5,
    }


def test_a_value_that_is_not_finite_stays_in_the_mean():
    interval = Interval(torch.device("cpu"))
    for loss in (1.0, torch.nan):
        loss = torch.tensor(loss)
        interval.add("hinge", d_loss=loss, g_loss=loss, real_logits=loss[None], fake_logits=loss[None])
    assert math.isnan(interval.means()["d_loss"])
    assert interval.steps_per_second() > 0


def test_what_was_before_a_restart_is_in_no_later_mean_and_in_no_speed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("pipeline.gan.history.time.monotonic", lambda: now[0])
    interval = Interval(torch.device("cpu"))
    for value in (1.0, 3.0):
        value = torch.tensor(value)
        interval.add("hinge", d_loss=value, g_loss=value, real_logits=value[None], fake_logits=value[None])
        now[0] += 0.5
        assert interval.means()["d_loss"] == value
        assert interval.steps_per_second() == 2
        now[0] += 100.0  # an evaluation
        interval.restart()
