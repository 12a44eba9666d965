"""A step of many small kernels on a GPU: recorded once as a CUDA graph, then replayed with one launch.

A step of a small network is some thousand kernels of a few microseconds each, and Python needs longer to start one than
the GPU to compute it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Calls that run as usual before one is recorded: libraries set themselves up, and optimisers make their state.
_WARM_UP = 3


class CudaGraphs:
    """Calls of a function of tensors and numbers, the same way each time: a graph for each combination of switches.

    The function must read no value back from the GPU, must copy nothing to it, and must leave what it computes in
    tensors that stay where they are. It is called as usual a few times first: these calls count, too.

    Args:
        function: what is called; positional arguments are tensors of one shape each, or numbers, and reach it as
            tensors on the device; keyword arguments are switches, and hashable.
        device: a CUDA device.
        generators: of random numbers on the device that the function draws from, besides torch's own.
    """

    def __init__(
        self,
        function: Callable[..., object],
        *,
        device: torch.device,
        generators: Sequence[torch.Generator] = (),
    ) -> None:
        self._function, self._device, self._generators = function, device, generators
        self._inputs: list[Tensor] = []
        self._calls: Counter[tuple[object, ...]] = Counter()
        self._graphs: dict[tuple[object, ...], torch.cuda.CUDAGraph] = {}
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, *inputs: Tensor | float, **switches: object) -> None:
        """Do what the function does."""
        self._set(inputs)
        key = tuple(sorted(switches.items()))
        self._calls[key] += 1
        if key in self._graphs:
            self._graphs[key].replay()
        elif self._calls[key] <= _WARM_UP:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):  # as torch's documentation wants it before a recording
                self._function(*self._inputs, **switches)
            torch.cuda.current_stream().wait_stream(self._stream)
        else:
            self._graphs[key] = self._recorded(switches)
            self._graphs[key].replay()  # recording computes nothing

    def _set(self, inputs: Sequence[Tensor | float]) -> None:
        """Put the inputs where the graphs read them."""
        if not self._inputs:
            self._inputs = [torch.as_tensor(each, device=self._device).clone() for each in inputs]
            return
        for place, value in zip(self._inputs, inputs, strict=True):
            if isinstance(value, Tensor):
                place.copy_(value)
            else:
                place.fill_(value)

    def _recorded(self, switches: dict[str, object]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, stream=self._stream):
            self._function(*self._inputs, **switches)
        return graph
