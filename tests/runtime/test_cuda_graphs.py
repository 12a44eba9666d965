"""Steps that a GPU replays do what Python would do, one kernel after another."""

import sys

import pytest
import torch

from pipeline.runtime import cuda_graphs
from pipeline.runtime.cuda_graphs import CudaGraphs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def sums_after(calls, monkeypatch, *, warm_up):
    """A running sum of numbers, tensors and random draws of two generators, in two kinds of steps."""
    monkeypatch.setattr(cuda_graphs, "_WARM_UP", warm_up)
    device = torch.device("cuda")
    generator = torch.Generator(device).manual_seed(3)
    torch.manual_seed(5)
    total, seen = torch.zeros(4, device=device), []

    def step(values, factor, *, twice):
        drawn = torch.rand(4, generator=generator, device=device) + torch.randn(4, device=device)
        total.add_((values + drawn) * factor)
        if twice:
            total.mul_(2)

    recorded = CudaGraphs(step, device=device, generators=[generator])
    for call in range(calls):
        recorded(torch.full((4,), float(call)), 0.1 * call, twice=call % 3 == 0)
        seen.append(total.tolist())
    return seen, generator.get_state(), torch.cuda.get_rng_state()


def test_a_replayed_step_reads_new_inputs_draws_new_numbers_and_keeps_its_switches_apart(monkeypatch):
    replayed, *streams = sums_after(30, monkeypatch, warm_up=3)
    expected, *expected_streams = sums_after(30, monkeypatch, warm_up=sys.maxsize)
    assert replayed == expected
    assert len({str(values) for values in replayed}) == 30
    # What draws from the same streams afterwards goes on where it would without graphs.
    assert all(torch.equal(a, b) for a, b in zip(streams, expected_streams, strict=True))


def test_a_step_that_reads_a_value_from_the_gpu_cannot_be_recorded_and_says_so():
    device = torch.device("cuda")
    recorded = CudaGraphs(lambda values: values.sum().item(), device=device)
    for _ in range(3):
        recorded(torch.ones(2))
    with pytest.raises(RuntimeError, match="captur"):
        recorded(torch.ones(2))
