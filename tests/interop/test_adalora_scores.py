# SPDX-License-Identifier: MIT
"""lorank's sensitivity against the allocator of the peft package: the same parameters and gradients for several steps, the
gradients from a real backward of a real AdaLoRA model; then peft's own ipt, and the pattern that its threshold gives."""

import ctypes as c
import sys

import numpy as np
import torch
from peft import AdaLoraConfig, get_peft_model
from peft.tuners.adalora.layer import RankAllocator

from lorank_gguf import A, B, GATES, Lorank

GRAD_A, GRAD_B = 3, 4
STEPS = 7


class Score(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("flags", c.c_uint32), ("identity", c.c_uint64), ("module", c.c_int32),
                ("reserved", c.c_int32), ("index", c.c_int64), ("score", c.c_double), ("t1", c.c_double),
                ("t2", c.c_double), ("noise", c.c_double), ("estimate", c.c_double)]


class Base(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up = torch.nn.Linear(6, 10)
        self.down = torch.nn.Linear(10, 4)

    def forward(self, x):
        return self.down(torch.tanh(self.up(x)))


class Watched(RankAllocator):
    """Keeps the scores that the threshold is taken from, by the name of E."""

    def _combine_ipt(self, ipt_e, ipt_ab):
        combined = super()._combine_ipt(ipt_e, ipt_ab)
        self.combined.append(combined.flatten().tolist())
        return combined


def copy(adapters, layers, gradients):
    for m, (e, a, b) in enumerate(layers):
        pairs = [(GRAD_A, a.grad), (GRAD_B, b.grad.T)] if gradients else [(A, a.data), (B, b.data.T), (GATES, e.data)]
        for which, values in pairs:
            to = adapters.tensor(m, which)
            to[...] = values.numpy().reshape(to.shape)
    adapters.lorank.call("lrk_adapters_gradients_written" if gradients else "lrk_adapters_values_changed",
                         adapters.handle)


def scores(lorank, estimator, n):
    handle = c.c_void_p()
    lorank.call("lrk_estimator_run", estimator, c.c_uint64(0), c.byref(handle))
    values = []
    for i in range(n):
        score = Score(struct_size=c.sizeof(Score))
        lorank.call("lrk_scores_get", handle, c.c_int64(i), c.byref(score))
        values.append(score.score)
    lorank.library.lrk_scores_destroy(handle)
    return np.array(values)


def main(path):
    torch.manual_seed(4)
    config = AdaLoraConfig(init_r=5, target_r=2, target_modules=["up", "down"], total_step=100, tinit=1, tfinal=1)
    model = get_peft_model(Base(), config)
    sides = {n: p for n, p in model.named_parameters() if "lora_" in n}
    for p in sides.values():
        p.data = torch.randn_like(p)
    layers = [[sides[f"base_model.model.{m}.lora_{x}.default"] for x in "EAB"] for m in ("up", "down")]
    allocator = Watched(model, config, "default")
    optimizer = torch.optim.SGD(sides.values(), lr=0.05)

    lorank = Lorank(path)
    adapters = lorank.adapters({m: (a.data.numpy(), b.data.numpy().T, e.data.numpy(), 1.0)
                                for m, (e, a, b) in zip(("up", "down"), layers)})
    estimator = c.c_void_p()
    lorank.call("lrk_estimator_create_sensitivity", adapters.handle, None, c.byref(estimator))
    for step in range(STEPS):
        optimizer.zero_grad()
        x, y = torch.randn(32, 6), torch.randint(0, 4, (32,))
        torch.nn.functional.cross_entropy(model(x), y).backward()
        copy(adapters, layers, False)
        copy(adapters, layers, True)
        lorank.call("lrk_estimator_observe", estimator)
        allocator.update_ipt(model)  # at the same values: before the optimizer's step
        allocator.combined = []
        kept = {n: p.data.clone() for n, p in sides.items()}
        pattern = allocator.mask_to_budget(model, 6)
        for n, p in sides.items():
            p.data = kept[n]
        optimizer.step()
        theirs, ours = np.concatenate(allocator.combined), scores(lorank, estimator, 10)
        # float averages on both sides, and E dL/dE as a sum over A's row here
        assert np.allclose(ours, theirs, rtol=2e-4, atol=1e-12 + 1e-5 * theirs.max()), (step, ours, theirs)
        lowest = set(np.argsort(ours)[:4])
        flat = np.concatenate([pattern[k] for k in pattern])
        assert {i for i, keep in enumerate(flat) if not keep} == lowest, (step, flat, ours)
    print(f"peft's ipt and pattern over {STEPS} steps: {np.abs(ours / theirs - 1).max():.1e} at most apart")
    lorank.library.lrk_estimator_destroy(estimator)


if __name__ == "__main__":
    main(sys.argv[1])
