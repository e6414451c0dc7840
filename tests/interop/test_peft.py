# SPDX-License-Identifier: MIT
"""PEFT adapters and their real reader: test_peft.py LIBLORANK.SO FOLDER.

Tiny random models of transformers (Llama, and GPT-2 with its Conv1D), in f32 and without any download:
  - adapters of mixed ranks (0 too), scales and gates that lorank wrote, plain and uniform, give in peft the logits of the
    base with lorank's deltas merged, and those of the base with lrk_forward() added to each of its linear layers;
  - in f16 and bf16 likewise, with the deltas of the file; these are off from the exact ones by no more than rounding each
    factor by u = 2^-11 or 2^-8 explains: |B'||A'| (2 u + u^2), element by element;
  - adapters that peft made (patterns by suffix and by ^, rsLoRA; AdaLoRA after training with rank masks) load in lorank
    and give peft's logits;
  - files with one thing wrong must be far off, and what lorank does not compute must be refused by name;
  - thousands of random pattern keys and names: lorank's scale is the one that peft's own matcher picks.

Tolerance, relative to the largest logit: 1e-4 (f32 arithmetic on both sides, in other orders).
"""

import copy
import json
import os
import random
import re
import shutil
import sys
import warnings

import numpy as np
import peft
import torch
import transformers
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from peft.utils.other import get_pattern_key
from safetensors.numpy import load_file, save_file

import lorank_gguf as lk
import lorank_peft as lp

BOUND = 1e-4
TOO_WRONG = 10  # times the tolerance that a control must be off
ALPHA = 12.0
TOKENS = torch.tensor([[3, 17, 42, 42, 9, 61, 0, 79, 23, 5, 33, 8]])
FAILED = []


def check(holds, what):
    print(("ok   " if holds else "FAIL ") + what, flush=True)
    if not holds:
        FAILED.append(what)


def distance(got, want):
    return float((got - want).abs().max() / want.abs().max())


# ---- models --------------------------------------------------------------------------------------------------------


def make_llama():
    config = transformers.LlamaConfig(vocab_size=80, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                                      num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                                      tie_word_embeddings=False)
    return transformers.LlamaForCausalLM(config)


def make_gpt2():
    config = transformers.GPT2Config(vocab_size=80, n_embd=64, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0.0,
                                     embd_pdrop=0.0, attn_pdrop=0.0)
    return transformers.GPT2LMHeadModel(config)


def lively(model):
    """The initial weights of transformers are small: nothing would come through."""
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=1 / np.sqrt(parameter.shape[1]))
    return model.eval()


def is_linear(module):
    return isinstance(module, (torch.nn.Linear, transformers.pytorch_utils.Conv1D))


def linears(model):
    """{name: (n_in, n_out)} of the layers that get adapters."""
    found = {}
    for name, module in model.named_modules():
        if is_linear(module) and "lm_head" not in name:
            shape = tuple(module.weight.shape)
            found[name] = shape if isinstance(module, transformers.pytorch_utils.Conv1D) else shape[::-1]
    return found


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=TOKENS).logits[0].double()


def merged_logits(base, deltas):
    model = copy.deepcopy(base)
    with torch.no_grad():
        for name, delta in deltas.items():
            weight = model.get_submodule(name).weight
            delta = torch.from_numpy(np.ascontiguousarray(delta, dtype=np.float32))
            weight += delta if weight.shape == delta.shape and not isinstance(
                model.get_submodule(name), transformers.pytorch_utils.Conv1D) else delta.T
    return logits(model)


def forward_logits(base, adapters):
    """The base with lrk_forward() behind each of its linear layers."""
    model, live = copy.deepcopy(base), lp.Pass(adapters, TOKENS.numel())
    for i, info in enumerate(lp.module_infos(adapters)):
        def add(_module, inputs, output, i=i):
            x, y = (t.detach().reshape(-1, t.shape[-1]).numpy() for t in (inputs[0], output))
            return torch.from_numpy(live.forward(i, x, y)).reshape(output.shape)

        model.get_submodule(info.name.decode()).register_forward_hook(add)
    result = logits(model)
    live.end()
    return result


def peft_logits(base, folder):
    return logits(PeftModel.from_pretrained(copy.deepcopy(base), folder))


# ---- what lorank writes --------------------------------------------------------------------------------------------


def random_modules(model, rng):
    modules = {}
    for i, (name, (n_in, n_out)) in enumerate(linears(model).items()):
        r = (3, 1, 0, 7, 2, 5)[i % 6]
        modules[name] = ((rng.standard_normal((r, n_in)) / np.sqrt(n_in)).astype(np.float32),
                         (rng.standard_normal((r, n_out)) / np.sqrt(max(r, 1))).astype(np.float32),
                         rng.uniform(0.5, 1.5, r).astype(np.float32), float(rng.uniform(0.3, 1.2)))
    return modules


def edit_config(folder, change):
    path = f"{folder}/adapter_config.json"
    with open(path) as file:
        config = json.load(file)
    change(config)
    with open(path, "w") as file:
        json.dump(config, file)


def check_halves(lorank, base, adapters, title, folder, flags):
    exact = adapters.deltas()
    for dtype, name, unit in ((lk.F16, "f16", 2.0 ** -11), (lk.BF16, "bf16", 2.0 ** -8)):
        lorank.save(adapters, folder, alpha=ALPHA, dtype=dtype, flags=flags)
        loaded = lorank.load(folder)
        rounded, within = loaded.deltas(), True
        for i, info in enumerate(lp.module_infos(loaded)):
            a, b = (np.abs(loaded.tensor(i, which).astype(np.float64)) for which in (lk.A, lk.B))
            allowed = info.scale * (b.T @ a) * (2 * unit + unit ** 2) * 1.02 + 1e-6
            module = info.name.decode()
            within &= bool((np.abs(rounded[module] - exact[module]) <= allowed).all())
        off = distance(peft_logits(base, folder), merged_logits(base, rounded))
        check(within and off <= BOUND, f"{title}: {name}: {off:.1e}; the deltas are off by rounding alone")


def check_written(lorank, base, title, flags, folder):
    adapters = lorank.adapters(random_modules(base, np.random.default_rng(7)))
    deltas = adapters.deltas()
    want, plain = merged_logits(base, deltas), logits(base)
    moved = distance(plain, want)
    off = distance(forward_logits(base, adapters), want)
    check(off <= BOUND and moved > 100 * BOUND, f"{title}: lrk_forward() is the merged base: {off:.1e}, moved {moved:.2f}")
    for uniform in (0, lp.UNIFORM):
        mode = "uniform" if uniform else "plain"
        lorank.save(adapters, folder, alpha=ALPHA, flags=flags | uniform)
        off = distance(peft_logits(base, folder), want)
        check(off <= BOUND, f"{title}: {mode}: peft's logits are the merged base's: {off:.1e}")
        ranks = {t.shape[0] for name, t in load_file(f"{folder}/adapter_model.safetensors").items() if "lora_A" in name}
        check(ranks == ({7} if uniform else {1, 2, 3, 5, 7}), f"{title}: {mode}: ranks {sorted(ranks)} in the file")
        edit_config(folder, lambda config: config.update(lora_alpha=1.02 * ALPHA))
        off = distance(peft_logits(base, folder), want) / BOUND
        check(off > TOO_WRONG, f"{title}: {mode}: control: a scale 2 % off: {off:.0f} times the tolerance")
        check_halves(lorank, base, adapters, f"{title}: {mode}", folder, flags | uniform)


# ---- what peft writes ----------------------------------------------------------------------------------------------


def randomise(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.3 if "lora_E" in name else 1 / np.sqrt(max(parameter.shape)))


def save_peft(model, folder):
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)


def check_loaded(lorank, base, model, title, folder):
    save_peft(model, folder)
    want = logits(model)
    moved = distance(logits(base), want)
    off = distance(merged_logits(base, lorank.load(folder).deltas()), want)
    check(off <= BOUND and moved > 100 * BOUND, f"{title}: lorank's deltas give peft's logits: {off:.1e}, moved {moved:.2f}")
    short = {name.split(".", 1)[1]: shape for name, shape in linears(base).items()}
    loaded = lorank.load(folder, short)
    names = [info.name.decode() for info in lp.module_infos(loaded)]
    full = {name.split(".", 1)[0] + "." + key: delta for key, delta in loaded.deltas().items()
            for name in linears(base) if name.split(".", 1)[1] == key}
    off = distance(merged_logits(base, full), want)
    check(off <= BOUND and names == list(short), f"{title}: and matched to a list of shorter names: {off:.1e}")
    return want


def check_lora(lorank, base, title, targets, layer, folder):
    first, second = targets[0], targets[1]
    config = LoraConfig(r=4, lora_alpha=6, target_modules=targets,
                        rank_pattern={second: 2, rf"^{layer}\.1\.{first}": 5},
                        alpha_pattern={rf"^{layer}\.0\.{first}": 3, first: 9, f"{layer}.1.{second}": 5})
    model = get_peft_model(copy.deepcopy(base), config)
    randomise(model)
    want = check_loaded(lorank, base, model, f"{title}: patterns", folder)
    edit_config(folder, lambda c: c.update(alpha_pattern={f"{k}x": v for k, v in c["alpha_pattern"].items()}))
    off = distance(merged_logits(base, lorank.load(folder).deltas()), want) / BOUND
    check(off > TOO_WRONG, f"{title}: control: wrong keys of alpha_pattern: {off:.0f} times the tolerance")
    config = LoraConfig(r=4, lora_alpha=3, use_rslora=True, target_modules=targets, rank_pattern={second: 2})
    model = get_peft_model(copy.deepcopy(base), config)
    randomise(model)
    check_loaded(lorank, base, model, f"{title}: rsLoRA", folder)


def check_adalora(lorank, base, title, targets, folder):
    config = AdaLoraConfig(init_r=4, target_r=1, lora_alpha=24, tinit=1, tfinal=2, deltaT=1, total_step=8,
                           target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(copy.deepcopy(base), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_E" in name:
                torch.nn.init.normal_(parameter, std=1.0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    model.train()
    for step in range(8):
        optimizer.zero_grad()
        model(input_ids=TOKENS, labels=TOKENS).loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
    check_loaded(lorank, base, model, f"{title}: AdaLoRA", folder)
    kept = [t.shape[0] for name, t in load_file(f"{folder}/adapter_model.safetensors").items() if "lora_E" in name]
    off = distance(merged_logits(base, lorank.load(folder).deltas()), peft_logits(base, folder))
    check(off <= BOUND and len(set(kept)) > 1, f"{title}: AdaLoRA, ranks {kept}, loaded again by peft: {off:.1e}")


# ---- refusals ------------------------------------------------------------------------------------------------------


def refusal(lorank, folder):
    try:
        lorank.load(folder)
    except RuntimeError as error:
        return str(error)
    return ""


def check_refusals(lorank, base, folder):
    q = ["q_proj"]
    cases = {
        "use_dora": dict(target_modules=q, use_dora=True),
        "bias": dict(target_modules=q, bias="all"),
        "modules_to_save": dict(target_modules=q, modules_to_save=["lm_head"]),
        "init_lora_weights": dict(target_modules=q, init_lora_weights="pissa"),
        "lora_bias": dict(target_modules=q, lora_bias=True),
        "trainable_token_indices": dict(target_modules=q, trainable_token_indices=[1, 2]),
        "layer_replication": dict(target_modules=q, layer_replication=[[0, 2], [1, 2]]),
        "alora_invocation_tokens": dict(target_modules=q, alora_invocation_tokens=[3], task_type="CAUSAL_LM"),
        "embedding": dict(target_modules=["embed_tokens"]),
        "target_parameters": dict(target_modules=q, target_parameters=["mlp.up_proj.weight"]),
    }
    for field, arguments in cases.items():
        save_peft(get_peft_model(copy.deepcopy(base), LoraConfig(r=2, **arguments)), folder)
        words = refusal(lorank, folder)
        check("-" in words and field in words, f"refused by name: {field}: {words}")
    save_peft(get_peft_model(copy.deepcopy(base), peft.IA3Config(target_modules=q, feedforward_modules=[])), folder)
    words = refusal(lorank, folder)
    check("peft_type IA3" in words, f"refused by name: {words}")
    regex = LoraConfig(r=2, target_modules=q, rank_pattern={r"layers\.(0|1)\.self_attn.q_proj": 3})
    save_peft(get_peft_model(copy.deepcopy(base), regex), folder)
    words = refusal(lorank, folder)
    check("(0|1)" in words, f"refused by name: {words}")


# ---- patterns ------------------------------------------------------------------------------------------------------


def random_text(rng, alphabet, most):
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(1, most)))


def random_key(rng, names):
    """Often made of a name, so that it matches: a tail of it, with dots as they are, escaped or wild, ^ and $."""
    if rng.random() < 0.2:
        return random_text(rng, ["a", "b", ".", r"\.", "é", "_"], 5)
    name = rng.choice(names)
    tail = name[rng.randrange(len(name)):]
    key = "".join("\\." if c == "." and rng.random() < 0.5 else "." if rng.random() < 0.15 else
                  "\\-" if c == "-" else c for c in tail)
    return ("^" if rng.random() < 0.2 else "") + key + ("$" if rng.random() < 0.1 else "")


def check_patterns(lorank, folder, rounds=400):
    rng, pairs, matched, wrong = random.Random(5), 0, 0, []
    os.makedirs(folder, exist_ok=True)
    for _ in range(rounds):
        names = sorted({random_text(rng, ["a", "b", "c", ".", "-", "é", "\n", "0"], 8) for _ in range(25)})
        keys = list(dict.fromkeys(random_key(rng, names) for _ in range(rng.randint(1, 6))))
        tensors = {}
        for name in names:
            tensors[f"base_model.model.{name}.lora_A.weight"] = np.ones((1, 1), np.float32)
            tensors[f"base_model.model.{name}.lora_B.weight"] = np.ones((1, 1), np.float32)
        save_file(tensors, f"{folder}/adapter_model.safetensors")
        pattern = {key: 2 + i for i, key in enumerate(keys)}
        with open(f"{folder}/adapter_config.json", "w") as file:
            json.dump({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "alpha_pattern": pattern}, file)
        adapters = lorank.load(folder)
        for info in lp.module_infos(adapters):
            want = pattern.get(get_pattern_key(pattern.keys(), info.name.decode()), 1)
            pairs, matched = pairs + len(keys), matched + (want != 1)
            if info.scale != want:
                wrong.append((info.name.decode(), pattern, info.scale, want))
    check(not wrong and matched > pairs / 100, f"{pairs} pairs of keys and names, {matched} names matched: as peft; {wrong[:3]}")


def check_operators(lorank, folder, rounds=1500):
    """What is not refused is read by Python as it is here: keys of any characters, operators too."""
    rng, accepted, wrong = random.Random(6), 0, []
    alphabet = list("ab.^$*+?()[]{}|\\-#& 1") + ["\\.", "\\-", "\\d", "\\["]
    for _ in range(rounds):
        key = random_text(rng, alphabet, 5)
        with open(f"{folder}/adapter_config.json", "w") as file:
            json.dump({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "alpha_pattern": {key: 2}}, file)
        try:
            adapters = lorank.load(folder)
        except RuntimeError as error:
            if key not in str(error) or not re.search(r"[\\^$*+?()\[{|]", key):
                wrong.append((key, str(error)))
            continue
        accepted += 1
        for info in lp.module_infos(adapters):
            name = info.name.decode()
            try:
                want = {key: 2}.get(get_pattern_key([key], name), 1)
            except re.error as error:
                want = str(error)
            if info.scale != want:
                wrong.append((key, name, info.scale, want))
    check(not wrong and 100 < accepted < rounds, f"{rounds} keys with operators, {accepted} accepted: as peft; {wrong[:3]}")


def main():
    library, folder = sys.argv[1], f"{sys.argv[2]}/peft"
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    lorank = lp.Lorank(library)
    print(f"lorank {lorank.version()}, peft {peft.__version__}, transformers {transformers.__version__}, "
          f"torch {torch.__version__}, numpy {np.__version__}")
    os.makedirs(folder, exist_ok=True)
    llama, gpt2 = lively(make_llama()), lively(make_gpt2())
    check_written(lorank, llama, "llama", 0, f"{folder}/written")
    check_written(lorank, gpt2, "gpt2", lp.FAN_IN_FAN_OUT, f"{folder}/written")
    check_lora(lorank, llama, "llama", ["self_attn.q_proj", "mlp.up_proj"], "model.layers", f"{folder}/made")
    check_lora(lorank, gpt2, "gpt2", ["attn.c_attn", "mlp.c_fc"], "transformer.h", f"{folder}/made")
    check_adalora(lorank, llama, "llama", ["q_proj", "up_proj", "down_proj"], f"{folder}/made")
    check_refusals(lorank, llama, f"{folder}/refused")
    check_patterns(lorank, f"{folder}/patterns")
    check_operators(lorank, f"{folder}/patterns")
    print(f"{len(FAILED)} failed")
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()
