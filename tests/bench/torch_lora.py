# SPDX-License-Identifier: MIT
"""PyTorch's LoRA branch, y = y0 + F.linear(F.linear(x, A), B) * s, for the benchmark of lorank's kernels.

usage: torch_lora.py THREADS. Prints {"torch": version}, then answers each line of JSON on standard input,
{"op", "tokens", "d_in", "d_out", "rank", "sets", "scale", "budget_ms"}, with {"us", "median_us"}: minimum and median
of at least 20 calls that take one of `sets` operand sets after another. The frozen W is left out.

forward           under no_grad
backward          autograd.grad of y to x, A and B on a kept graph. What autograd would do besides in training, adding
                  dx to the frozen layer's and dA, dB to .grad, is not counted.
forward_backward  forward with its graph, then autograd.grad
"""
import json
import sys
import time

import torch
from torch.nn import functional as F

LEAST, MOST = 20, 400


class Layer:
    """Operand sets and parameters of one shape."""

    def __init__(self, q):
        rows, n_in, n_out = q["tokens"], q["d_in"], q["d_out"]
        uniform = lambda *size: torch.rand(*size) * 2 - 1
        self.shape = (rows, n_in, n_out, q["sets"])
        self.x = [uniform(rows, n_in).requires_grad_() for _ in range(q["sets"])]
        self.y0 = [uniform(rows, n_out) for _ in range(q["sets"])]
        self.dy = [uniform(rows, n_out) for _ in range(q["sets"])]

    def adapt(self, rank, scale):
        _, n_in, n_out, _ = self.shape
        self.scale = scale
        self.a = ((torch.rand(rank, n_in) * 2 - 1) / n_in**0.5).requires_grad_()
        self.b = (torch.rand(n_out, rank) * 2 - 1).requires_grad_()

    def branch(self, i):
        return self.y0[i] + F.linear(F.linear(self.x[i], self.a), self.b) * self.scale

    def derive(self, y, i, keep):
        return torch.autograd.grad(y, (self.x[i], self.a, self.b), self.dy[i], retain_graph=keep)


def calls_of(layer, op):
    """The call to time, with the operand set for argument."""
    if op == "forward":

        def forward(i):
            with torch.no_grad():
                layer.branch(i)

        return forward
    if op == "backward":
        graphs = [layer.branch(i) for i in range(layer.shape[3])]
        return lambda i: layer.derive(graphs[i], i, True)
    return lambda i: layer.derive(layer.branch(i), i, False)


def measure(call, sets, budget_ms):
    """(minimum, median) microseconds of one call."""
    turn, calls = 0, 1

    def sample():
        nonlocal turn
        start = time.perf_counter()
        for _ in range(calls):
            call(turn)
            turn = (turn + 1) % sets
        return (time.perf_counter() - start) * 1e6 / calls

    us = [sample() for _ in range(2)][-1]
    while us * calls < 30 and calls < 1000:
        calls *= 2
        us = sample()
    n = int(min(max(budget_ms * 1e3 / (us * calls), LEAST), MOST))
    times = sorted(sample() for _ in range(n))
    return times[0], times[n // 2]


def main():
    torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(1)
    print(json.dumps({"torch": torch.__version__}), flush=True)
    layer = None
    for line in sys.stdin:
        q = json.loads(line)
        if layer is None or layer.shape != (q["tokens"], q["d_in"], q["d_out"], q["sets"]):
            layer = None
            layer = Layer(q)
        layer.adapt(q["rank"], q["scale"])
        least, median = measure(calls_of(layer, q["op"]), q["sets"], q["budget_ms"])
        print(json.dumps({"us": least, "median_us": median}), flush=True)


if __name__ == "__main__":
    main()
