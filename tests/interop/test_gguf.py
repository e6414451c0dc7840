# SPDX-License-Identifier: MIT
"""GGUF adapters and their real readers: test_gguf.py LIBLORANK.SO FOLDER.

For each architecture a tiny model is made, its base is written with the gguf package, and an adapter of mixed ranks
(rank 0 too), scales and gates is written by lorank. Then
  - the gguf package reads the adapter: keys, shapes and values are the formula's;
  - llama.cpp runs base and adapter: its logits are those of the plain forward with lorank's deltas merged;
  - files with one thing wrong (rows in the wrong order, the wrong number of heads, a scale 2 % off) give logits that are
    wrong by many times the tolerance: the test would have seen it;
  - an adapter written by the gguf package, as llama.cpp's converter does, loads in lorank and gives the same logits.

Tolerance, relative to the largest logit: a logit passes 4 layers + 1 products of inner length at most k, each of which
may err by k 2^-24, in llama.cpp's f32 arithmetic; norms and exponentials between them are counted as as many again. For
gpt2 2^-11 a layer more: ggml looks GELU up in a table of f16. With adapters in f16 or bf16 llama.cpp rounds x before A
and A x before B to that type, by 2^-11 or 2^-8 each, in every one of the 4 layers + 1 products; the values compared with
are those in the file.
"""

import sys

import gguf
import llama_cpp
import numpy as np

import lorank_gguf as lk
import tiny_models as tiny
from llama_logits import Llama, system

ALPHA = 12.0
TOKENS = np.array([3, 17, 42, 42, 9, 61, 0, 79, 23, 5, 33, 8])
TOO_WRONG = 20  # times the tolerance that a control must be off
FAILED = []


def check(holds, what):
    print(("ok   " if holds else "FAIL ") + what)
    if not holds:
        FAILED.append(what)


def tolerance(model):
    k = max(w.shape[1] for w in model.weights.values() if w.ndim == 2)
    bound = 2 * (4 * model.layers + 1) * k * 2.0 ** -24
    return bound + (model.layers * 2.0 ** -11 if model.architecture == "gpt2" else 0)


def half_tolerance(model, unit):
    return tolerance(model) + 2 * (4 * model.layers + 1) * unit


def distance(got, want):
    return np.abs(got - want).max() / np.abs(want).max()


def random_modules(model, rng):
    """A rank from 0 to 7, a scale and gates for every linear module, as (A, B [r x out], gates, scale)."""
    modules = {}
    for i, (name, (n_in, n_out)) in enumerate(model.linear().items()):
        r = (3, 1, 0, 7, 2, 5)[i % 6]
        modules[name] = ((rng.standard_normal((r, n_in)) / np.sqrt(n_in)).astype(np.float32),
                         (rng.standard_normal((r, n_out)) / np.sqrt(max(r, 1))).astype(np.float32),
                         rng.uniform(0.5, 1.5, r).astype(np.float32), float(rng.uniform(0.3, 1.2)))
    return modules


def delta(a, b, gates, scale):
    """scale B^T diag(gates) A in double, from the formula."""
    return scale * (b.astype(np.float64).T * gates.astype(np.float64)) @ a.astype(np.float64)


def stored_b(model, name, module):
    """B' that must be in the file, in double."""
    a, b, gates, scale = module
    folded = (b.astype(np.float64) * gates.astype(np.float64)[:, None] * (scale * len(a) / ALPHA)).T
    heads = tiny.heads_of(model, name)
    return tiny.interleave(folded, heads) if heads else folded


def check_container(model, path, modules):
    reader = gguf.GGUFReader(path)
    keys = {key: reader.fields[key].contents() for key in reader.fields if not key.startswith("GGUF.")}
    check(keys["general.type"] == "adapter" and keys["adapter.type"] == "lora"
          and keys["general.architecture"] == model.architecture and keys["adapter.lora.alpha"] == ALPHA
          and reader.fields["adapter.lora.alpha"].types == [gguf.GGUFValueType.FLOAT32],
          f"{model.architecture}: the gguf package reads the keys")
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    good = True
    live = {name: module for name, module in modules.items() if len(module[0]) > 0}
    for name, module in live.items():
        base = tiny.tensor_name(model, name) + ".weight"
        want = stored_b(model, name, module)
        b = tensors.pop(base + ".lora_b")
        good &= np.array_equal(tensors.pop(base + ".lora_a"), module[0])
        good &= b.shape == want.shape and bool((np.abs(b - want) <= np.abs(want) * 2.0 ** -24 * 1.0001).all())
    check(good and not tensors, f"{model.architecture}: {2 * len(live)} tensors hold A and the folded B, row by row")


def write_foreign(model, path, modules):
    """As convert_lora_to_gguf.py writes a PEFT adapter, in f16 and f32 by turns, with keys that lorank does not know."""
    writer = gguf.GGUFWriter(path, model.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, ALPHA)
    writer.add_array("lorank.test.words", ["unknown", "keys", ""])
    writer.add_uint64("lorank.test.number", 7)
    for i, (name, module) in enumerate(modules.items()):
        if len(module[0]) == 0:
            continue
        base = tiny.tensor_name(model, name) + ".weight"
        dtype = np.float16 if i % 2 else np.float32
        writer.add_tensor(base + ".lora_a", module[0].astype(dtype))
        writer.add_tensor(base + ".lora_b", stored_b(model, name, module).astype(dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check_controls(model, llama, adapters, options, folder, want):
    """Each wrong file must be far off, or else nothing above proves anything."""
    wrong = {"a scale 2 % off": {}}
    if model.architecture == "llama":
        wrong["rows not permuted"] = {"flags": lk.FILE_ORDER}
        wrong["twice the heads"] = {"n_head": 2 * model.heads, "n_kv_head": 2 * model.kv_heads}
        if model.kv_heads != model.heads:
            wrong["k with the heads of q"] = {"n_kv_head": model.heads}
    for what, fields in wrong.items():
        path = f"{folder}/wrong.gguf"
        adapters.save(path, options(**fields))
        if not fields:
            data = bytearray(open(path, "rb").read())
            at = data.index(b"adapter.lora.alpha") + len("adapter.lora.alpha") + 4
            data[at:at + 4] = np.float32(1.02 * ALPHA).tobytes()
            open(path, "wb").write(data)
        off = distance(llama.logits(TOKENS, model.vocab, path), want) / tolerance(model)
        check(off > TOO_WRONG, f"{model.architecture}: control: {what}: {off:.0f} times the tolerance off")


def check_model(lorank, model, seed, folder):
    rng = np.random.default_rng(seed)
    title = f"{model.architecture} {model.heads}/{model.kv_heads} heads"
    base, path = f"{folder}/base.gguf", f"{folder}/adapter.gguf"
    tiny.write_base(model, base)
    llama, bound = Llama(base), tolerance(model)
    modules = random_modules(model, rng)
    adapters = lorank.adapters(modules)

    def options(**fields):
        return lorank.options(model.architecture, **{"alpha": ALPHA, "n_head": model.heads,
                                                     "n_kv_head": model.kv_heads, **fields})

    plain = tiny.forward(model, {}, TOKENS)
    off = distance(llama.logits(TOKENS, model.vocab), plain)
    check(off <= bound, f"{title}: the base alone: {off:.1e}, tolerance {bound:.1e}")

    deltas = adapters.deltas()
    check(all(np.allclose(deltas[name], delta(*module), rtol=1e-5, atol=1e-6)
              for name, module in modules.items() if len(module[0])), f"{title}: lorank's deltas are the formula's")
    want = tiny.forward(model, deltas, TOKENS)
    adapters.save(path, options())
    check_container(model, path, modules)
    off = distance(llama.logits(TOKENS, model.vocab, path), want)
    moved = distance(plain, want)
    check(off <= bound and moved > 1000 * bound,
          f"{title}: f32 adapter: {off:.1e}, tolerance {bound:.1e}; it moves the logits by {moved:.2f}")
    check_controls(model, llama, adapters, options, folder, want)

    for dtype, name, unit in ((lk.F16, "f16", 2.0 ** -11), (lk.BF16, "bf16", 2.0 ** -8)):
        adapters.save(path, options(dtype=dtype))
        rounded = lorank.load(path, options()).deltas()
        kept = all(np.abs(rounded[n] - deltas[n]).max() <= 8 * unit * np.abs(deltas[n]).max() for n in deltas)
        off = distance(llama.logits(TOKENS, model.vocab, path), tiny.forward(model, rounded, TOKENS))
        check(kept and off <= half_tolerance(model, unit),
              f"{title}: {name} adapter: {off:.1e}, tolerance {half_tolerance(model, unit):.1e}")

    write_foreign(model, path, modules)
    loaded = lorank.load(path, options()).deltas()
    off = distance(tiny.forward(model, loaded, TOKENS), llama.logits(TOKENS, model.vocab, path))
    bound = half_tolerance(model, 2.0 ** -11)
    check(loaded.keys() == deltas.keys() and off <= bound,
          f"{title}: an adapter of the gguf package, f16 and f32 by turns: {off:.1e}, tolerance {bound:.1e}")


def main():
    library, folder = sys.argv[1:]
    lorank = lk.Lorank(library)
    print(f"lorank {lorank.version()}, llama-cpp-python {llama_cpp.__version__} ({system().strip()}), "
          f"numpy {np.__version__}")
    for seed, (architecture, kv_heads) in enumerate((("llama", 4), ("llama", 2), ("qwen2", 2), ("gpt2", 4))):
        model = tiny.make(architecture, np.random.default_rng(100 + seed), kv_heads=kv_heads)
        check_model(lorank, model, seed, folder)
    print(f"{len(FAILED)} failed")
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()
