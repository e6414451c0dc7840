# SPDX-License-Identifier: MIT
"""kohya and diffusers files and their real readers: test_kohya.py LIBLORANK.SO FOLDER.

A tiny UNet of diffusers is made, and an adapter of mixed ranks (rank 0 too), scales and gates over its linear layers is
written by lorank, with alphas of their own and with one alpha. Then
  - the safetensors package reads the file, and kohya's formula, alpha / r up down, over it gives lorank's deltas;
  - diffusers converts the file with one alpha and loads it into the UNet: the deltas of its layers are lorank's, and so is
    the output of the UNet, within what the deltas merged into the weights give. (With alphas that differ, diffusers loses
    those of attention layers: 0.42.1 keeps them under names of its old processors, which it does not find again. Whether
    it still does is printed.)
  - a file with one alpha left out is off by far more than the tolerance;
  - adapters that diffusers and PEFT write (lora_A, lora.down, and kohya names) load in lorank and have their deltas.

Tolerance of a delta, relative to its largest element: r products and sums in f32 on either side, alpha and the gated B
rounded once, the scale multiplied in: 2 (r + 4) units of 2^-24 of the sum of absolute terms, which is at most r times the
largest |alpha / r up| |down|; for f16 and bf16 the values compared with are those in the file. Of the output: 40 layers of
inner length at most 256 in f32, each 256 2^-24, relative to its largest element.
"""

import os
import sys
import tempfile

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_kohya
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch

import lorank_gguf as lk
import lorank_kohya as kohya

FAILED = []
OUTPUT = 40 * 256 * 2.0 ** -24


def check(holds, what):
    print(("ok   " if holds else "FAIL ") + what)
    if not holds:
        FAILED.append(what)


def make_unet():
    torch.manual_seed(3)
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16, attention_head_dim=8, norm_num_groups=8, use_linear_projection=True).eval()


def linear(unet):
    return {name: layer for name, layer in unet.named_modules()
            if isinstance(layer, torch.nn.Linear) and "attentions" in name}


def random_modules(unet, rng):
    modules = {}
    for i, (name, layer) in enumerate(linear(unet).items()):
        r = (3, 1, 0, 7, 2, 5)[i % 6]
        modules[name] = (rng.standard_normal((r, layer.in_features)).astype(np.float32),
                         rng.standard_normal((r, layer.out_features)).astype(np.float32) * 0.1,
                         rng.uniform(0.5, 1.5, r).astype(np.float32), (0.5, -0.25, 1.0, 0.3)[i % 4])
    return modules


def formula(path):
    """{name in the file: (delta, bound)} by kohya's own rule, in double."""
    state = load_file(path)
    deltas = {}
    for key in state:
        if not key.endswith(".lora_down.weight"):
            continue
        base = key[:-len(".lora_down.weight")]
        down, up = state[key].astype(np.float64), state[base + ".lora_up.weight"].astype(np.float64)
        dim = down.shape[0]
        alpha = float(state[base + ".alpha"]) if base + ".alpha" in state else 0.0
        alpha = dim if alpha == 0 else alpha
        bound = 2 * (dim + 4) * 2.0 ** -24 * abs(alpha / dim) * (np.abs(up) @ np.abs(down)).max()
        deltas[base] = (alpha / dim * up @ down, bound)
    return deltas


def mangled(name):
    return "lora_unet_" + name.replace(".", "_")


def run(unet):
    torch.manual_seed(5)
    with torch.no_grad():
        return unet(torch.randn(2, 4, 8, 8), torch.tensor([3, 700]), torch.randn(2, 5, 16)).sample.numpy()


def distance(got, want):
    return np.abs(got - want).max() / np.abs(want).max()


def load_in_diffusers(path):
    """The UNet with the file loaded as diffusers loads a kohya file."""
    unet = make_unet()
    state, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(path)
    StableDiffusionLoraLoaderMixin.load_lora_into_unet(state, network_alphas=alphas, unet=unet, adapter_name="it")
    return unet


def peft_deltas(unet, adapter):
    return {name: layer.get_delta_weight(adapter).detach().numpy() for name, layer in unet.named_modules()
            if hasattr(layer, "get_delta_weight") and adapter in layer.lora_A}


def merged_output(deltas):
    unet = make_unet()
    for name, layer in linear(unet).items():
        if name in deltas:
            layer.weight.data += torch.from_numpy(deltas[name])
    return run(unet)


def worst(got, want, bounds):
    """The largest error as a share of its bound; infinite if the modules differ."""
    if got.keys() != want.keys():
        return np.inf
    return max(np.abs(got[name] - want[name]).max() / bounds[name] for name in got)


def check_reading(lorank, path, what):
    """kohya's formula over the file gives lorank's deltas; returns those with their bounds, by name in the file."""
    by_formula = formula(path)
    with safe_open(path, "np") as file:
        check(file.metadata()["format"] == "pt", f"{what}: the safetensors package reads it")
    loaded = kohya.load(lorank, path, kohya.options(lorank, "lora_unet_"))
    ours = {"lora_unet_" + name: delta for name, delta in loaded.deltas().items()}
    bounds = {name: bound for name, (_, bound) in by_formula.items()}
    want = {name: delta for name, (delta, _) in by_formula.items()}
    share = worst(ours, want, bounds)
    check(share <= 1, f"{what}: kohya's formula gives the deltas ({share:.2f} of the bound)")
    return want, bounds


def diffusers_share(path, want, bounds):
    unet = load_in_diffusers(path)
    theirs = {mangled(name): delta for name, delta in peft_deltas(unet, "it").items()}
    return worst(theirs, want, bounds), unet


def in_f32(path):
    """numpy has no bf16: the same values, through torch, in a file of f32."""
    state = {key: value.float().numpy() for key, value in load_torch(path).items()}
    save_file(state, path, {"format": "pt"})


def check_writing(lorank, folder, rng):
    adapters = lorank.adapters(random_modules(make_unet(), rng))
    exact = {mangled(name): delta for name, delta in adapters.deltas().items()}
    for flags, alphas in ((0, "own alphas"), (kohya.ONE_ALPHA, "one alpha")):
        for dtype, name in ((lk.F32, "f32"), (lk.F16, "f16"), (lk.BF16, "bf16")):
            path = os.path.join(folder, f"kohya-{name}-{flags}.safetensors")
            kohya.save(adapters, path, kohya.options(lorank, "lora_unet_", flags, dtype))
            if dtype == lk.BF16:
                in_f32(path)
            what = f"{name}, {alphas}"
            want, bounds = check_reading(lorank, path, what)
            if dtype == lk.F32:
                share = worst(exact, want, bounds)
                check(share <= 1, f"{what}: they are the adapter's own ({share:.2f} of the bound)")
            share, unet = diffusers_share(path, want, bounds)
            if flags == kohya.ONE_ALPHA:
                check(share <= 1, f"{what}: diffusers' layers have the deltas ({share:.2f} of the bound)")
            else:
                print(f"     {what}: diffusers {'keeps' if share <= 1 else 'mixes up'} the alphas")
            if dtype == lk.F32 and flags == kohya.ONE_ALPHA:
                check_output(adapters, run(unet), path, folder)


def check_output(adapters, output, path, folder):
    want = merged_output(adapters.deltas())
    off = distance(output, want)
    check(off <= OUTPUT, f"the UNet's output is that of merged weights (off by {off:.1e}, bound {OUTPUT:.1e})")
    state = load_file(path)
    del state[min(key for key in state if key.endswith(".alpha"))]
    wrong = os.path.join(folder, "kohya-wrong.safetensors")
    save_file(state, wrong, {"format": "pt"})
    off = worst({name: delta for name, (delta, _) in formula(wrong).items()},
                {name: delta for name, (delta, _) in formula(path).items()},
                {name: bound for name, (_, bound) in formula(path).items()})
    check(off > 100, f"control: without one alpha a delta is off by {off:.1e} bounds")
    off = distance(run(make_unet()), want)
    check(off > 20 * OUTPUT, f"control: without the adapter the output is off by {off:.1e}")


def train_in_peft(rng):
    unet = make_unet()
    config = LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_out.0", "ff.net.2"],
                        rank_pattern={"to_k": 2}, alpha_pattern={"to_k": 2})
    unet.add_adapter(config)
    for name, parameter in unet.named_parameters():
        if "lora_" in name:
            parameter.data = torch.from_numpy(rng.standard_normal(parameter.shape).astype(np.float32) * 0.3)
    return unet


def check_loading(lorank, folder, rng):
    unet = train_in_peft(rng)
    want = peft_deltas(unet, "default")
    bounds = {name: 2 * 8 * 2.0 ** -24 * np.abs(delta).max() * 64 for name, delta in want.items()}
    shapes = {name: (layer.in_features, layer.out_features) for name, layer in linear(make_unet()).items()}
    state = get_peft_model_state_dict(unet)
    StableDiffusionLoraLoaderMixin.save_lora_weights(folder, unet_lora_layers=state)
    files = [("lora_A of diffusers", "pytorch_lora_weights.safetensors", "unet.", kohya.DOTTED)]
    old = {"unet." + key: value.numpy() for key, value in convert_state_dict_to_diffusers(dict(state)).items()}
    save_file(old, os.path.join(folder, "old.safetensors"))
    files.append(("lora.down of diffusers", "old.safetensors", "unet.", kohya.DOTTED))
    with_prefix = {"base_model.model." + key: value for key, value in state.items()}
    names = {key.replace("base_model_model_", ""): value.numpy()
             for key, value in convert_state_dict_to_kohya(with_prefix).items()}
    names = {(key if key.startswith("lora_unet_") else "lora_unet_" + key): value for key, value in names.items()}
    save_file(names, os.path.join(folder, "names.safetensors"))
    files.append(("kohya names of diffusers", "names.safetensors", "lora_unet_", 0))
    for what, file, prefix, flags in files:
        adapters = kohya.load(lorank, os.path.join(folder, file), kohya.options(lorank, prefix, flags), shapes)
        share = worst(adapters.deltas(), want, bounds)
        check(share <= 1, f"{what}: lorank has PEFT's deltas ({share:.2f} of the bound)")


def main():
    lorank = lk.Lorank(sys.argv[1])
    rng = np.random.default_rng(11)
    with tempfile.TemporaryDirectory(dir=sys.argv[2]) as folder:
        check_writing(lorank, folder, rng)
        check_loading(lorank, folder, rng)
    print(f"{len(FAILED)} failed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
