# SPDX-License-Identifier: MIT
"""lorank's EVA against that of the peft package on the same activations: the batches that it goes through until its components
have converged, the ranks that it gives, and the rows of A that it begins with, plain and whitened."""

import ctypes as c
import itertools
import sys

import numpy as np
import torch
from peft import EvaConfig, LoraConfig, get_peft_model
from peft.tuners.lora.eva import get_eva_state_dict

from lorank_gguf import A, F32, Adapters, Info, Lorank, Spec

RANK, RHO, TAU = 4, 2.0, 0.99


class Matrix(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("dtype", c.c_int32), ("data", c.c_void_p), ("rows", c.c_int64),
                ("cols", c.c_int64), ("ld", c.c_int64)]


class PcaOptions(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("flags", c.c_uint32), ("rho", c.c_double), ("tau", c.c_double),
                ("batch_rows", c.c_int64)]


class EvaOptions(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("flags", c.c_uint32), ("budget", c.c_int64), ("budget_unit", c.c_int32),
                ("reserved", c.c_int32), ("limits", c.c_void_p), ("n_limits", c.c_int64)]


class PassOptions(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("flags", c.c_uint32), ("mode", c.c_int32), ("gradients", c.c_uint32),
                ("nonce", c.c_uint64), ("first_row", c.c_int64), ("max_rows", c.c_int64), ("mask", c.c_void_p),
                ("sink", c.c_void_p), ("workspace", c.c_void_p), ("workspace_bytes", c.c_size_t),
                ("sketch", c.c_void_p), ("outputs", c.c_void_p), ("n_outputs", c.c_int64), ("pca", c.c_void_p)]


class Base(torch.nn.Module):
    """q and k read the same input."""

    def __init__(self):
        super().__init__()
        self.q, self.k = torch.nn.Linear(48, 40), torch.nn.Linear(48, 40)
        self.up, self.down = torch.nn.Linear(40, 64), torch.nn.Linear(64, 48)

    def forward(self, x):
        return self.down(torch.tanh(self.up(torch.sin(self.q(x)) * self.k(x))))


def view(x):
    return Matrix(c.sizeof(Matrix), F32, x.ctypes.data, x.shape[0], x.shape[1], x.shape[1])


def init(lorank, structure, function, **fields):
    lorank.call(function, c.byref(structure), c.c_size_t(c.sizeof(structure)))
    for field, value in fields.items():
        setattr(structure, field, value)
    return structure


class Ours:
    """A set of the model's layers, and the components of their inputs."""

    def __init__(self, lorank, layers, groups):
        self.lorank, self.names = lorank, list(layers)
        specs = (Spec * len(layers))()
        for spec, (name, layer), group in zip(specs, layers.items(), groups):
            init(lorank, spec, "lrk_module_spec_init", name=name.encode(), rank=RANK, n_in=layer.in_features,
                 n_out=layer.out_features, input_group=group)
        self.set, self.pca = c.c_void_p(), c.c_void_p()
        lorank.call("lrk_adapters_create", lorank.context, specs, c.c_int64(len(specs)), None, c.byref(self.set))
        options = init(lorank, PcaOptions(), "lrk_pca_options_init", rho=RHO, tau=TAU, batch_rows=4096)
        lorank.call("lrk_pca_create", self.set, c.byref(options), c.byref(self.pca))

    def feed(self, inputs):
        """Tells whether another batch is wanted."""
        rows = next(iter(inputs.values())).shape[0]
        options = init(self.lorank, PassOptions(), "lrk_pass_options_init", max_rows=rows, pca=self.pca)
        handle = c.c_void_p()
        self.lorank.call("lrk_pass_begin", self.set, c.byref(options), c.byref(handle))
        for i, name in enumerate(self.names):
            info = Info(struct_size=c.sizeof(Info))
            self.lorank.call("lrk_adapters_module", self.set, c.c_int32(i), c.byref(info))
            x, y = inputs[name], np.zeros((rows, info.n_out), np.float32)
            self.lorank.call("lrk_forward", handle, c.byref(c.c_int32(i)), c.c_int32(1), c.byref(view(x)),
                             c.byref(view(y)), None, c.c_size_t(0))
        self.lorank.library.lrk_pass_end(handle)
        still = c.c_int64()
        self.lorank.call("lrk_eva_settle", self.pca, None, c.byref(still))
        return still.value > 0

    def begin(self, whiten):
        """Carries the plan out; {name: rows of A}."""
        options = init(self.lorank, EvaOptions(), "lrk_eva_options_init", flags=int(whiten))
        plan = c.c_void_p()
        self.lorank.call("lrk_eva_plan", self.pca, c.byref(options), c.c_int64(0), c.byref(plan))
        self.lorank.call("lrk_plan_prepare", plan, None, c.c_int64(0))
        self.lorank.call("lrk_plan_commit", plan)
        self.lorank.library.lrk_plan_destroy(plan)
        adapters = Adapters(self.lorank, self.set)
        return {name: adapters.tensor(i, A).copy() for i, name in enumerate(self.names)}

    def close(self):
        self.lorank.library.lrk_pca_destroy(self.pca)


def check(lorank, whiten):
    torch.manual_seed(7)
    base = Base()
    scales = 0.5 ** torch.arange(48)
    batches = [torch.randn(6, 25, 48) * scales + 0.3 for _ in range(5)]
    layers = {n: m for n, m in base.named_modules() if isinstance(m, torch.nn.Linear)}
    seen, passes = {}, []
    hooks = [m.register_forward_hook(lambda module, x, y, n=n: seen.__setitem__(n, x[0])) for n, m in layers.items()]

    ours = Ours(lorank, layers, [0, 0, -1, -1])
    with torch.no_grad():
        for n, batch in enumerate(itertools.cycle(batches)):
            base(batch)
            inputs = {k: np.ascontiguousarray(x.reshape(-1, x.shape[-1]).numpy()) for k, x in seen.items()}
            if not ours.feed(inputs):
                break
    mine = ours.begin(whiten)
    for hook in hooks:
        hook.remove()

    config = LoraConfig(r=RANK, target_modules=list(layers), init_lora_weights="eva",
                        eva_config=EvaConfig(rho=RHO, tau=TAU, whiten=whiten))
    model = get_peft_model(base, config, low_cpu_mem_usage=True)
    theirs = get_eva_state_dict(model, batches, config, prepare_model_inputs_fn=None, prepare_layer_inputs_fn=None,
                                show_progress_bar=False, forward_fn=lambda m, x: (passes.append(1), m(x)))
    theirs = {k.split(".")[-1]: v.numpy() for k, v in theirs.items()}
    assert {k: len(v) for k, v in mine.items()} == {k: len(v) for k, v in theirs.items()}, (mine, theirs)
    assert len(passes) - 1 == n + 1, (len(passes), n)  # its first pass only looks for equal inputs
    worst = 1.0
    for name, rows in theirs.items():
        for a, b in zip(mine[name], rows):
            cosine = abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b)
            worst = min(worst, cosine)
            assert cosine > 1 - 1e-4 and a @ b > 0, (name, cosine)
            if whiten and name in "qk":
                continue  # peft divides in place, once for each layer that shares the components
            assert abs(np.linalg.norm(a) / np.linalg.norm(b) - 1) < 1e-3, (name, a, b)
    ranks = {k: len(v) for k, v in mine.items()}
    print(f"peft's EVA{' whitened' if whiten else ''}: {n + 1} batches, ranks {ranks}, cosines of rows >= {worst:.7f}")
    ours.close()


def main(path):
    lorank = Lorank(path)
    check(lorank, False)
    check(lorank, True)


if __name__ == "__main__":
    main(sys.argv[1])
