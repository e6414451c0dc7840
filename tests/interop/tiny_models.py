# SPDX-License-Identifier: MIT
"""Tiny models of three architectures: random weights under Hugging Face names, their forward in double precision by
plain formulas, and the GGUF file of the base model. The forward knows nothing of GGUF: it is the Hugging Face model."""

from dataclasses import dataclass, field

import gguf
import numpy as np

EPS = 1e-5
ROPE_BASE = 10000.0


@dataclass
class Model:
    architecture: str
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    context: int = 64
    weights: dict = field(default_factory=dict)  # Hugging Face orientation [out x in], also for Conv1D

    def linear(self):
        """Modules that can be adapted: {name: (n_in, n_out)}."""
        return {name[:-7]: w.shape[::-1] for name, w in self.weights.items()
                if name.endswith(".weight") and w.ndim == 2 and "embed" not in name and "wte" not in name
                and "wpe" not in name}


def make(architecture, rng, hidden=64, inner=96, layers=2, heads=4, kv_heads=4, vocab=80):
    model = Model(architecture, hidden, inner, layers, heads, kv_heads, vocab)
    w, head = model.weights, hidden // heads

    def matrix(name, n_out, n_in):
        w[name + ".weight"] = (rng.standard_normal((n_out, n_in)) / np.sqrt(n_in)).astype(np.float32)

    def vector(name, n, mean=0.0):
        w[name] = (mean + 0.2 * rng.standard_normal(n)).astype(np.float32)

    if architecture == "gpt2":
        matrix("transformer.wte", vocab, hidden)
        w["transformer.wpe.weight"] = (0.3 * rng.standard_normal((model.context, hidden))).astype(np.float32)
        for i in range(layers):
            block = f"transformer.h.{i}."
            for name, n_out, n_in in (("attn.c_attn", 3 * hidden, hidden), ("attn.c_proj", hidden, hidden),
                                      ("mlp.c_fc", 4 * hidden, hidden), ("mlp.c_proj", hidden, 4 * hidden)):
                matrix(block + name, n_out, n_in)
                vector(block + name + ".bias", n_out)
        norms = [f"transformer.h.{i}.ln_{k}" for i in range(layers) for k in (1, 2)] + ["transformer.ln_f"]
        for norm in norms:
            vector(norm + ".weight", hidden, 1.0)
            vector(norm + ".bias", hidden)
    else:
        matrix("model.embed_tokens", vocab, hidden)
        for i in range(layers):
            block = f"model.layers.{i}."
            for name, n_out, n_in in (("self_attn.q_proj", hidden, hidden),
                                      ("self_attn.k_proj", kv_heads * head, hidden),
                                      ("self_attn.v_proj", kv_heads * head, hidden),
                                      ("self_attn.o_proj", hidden, hidden), ("mlp.gate_proj", inner, hidden),
                                      ("mlp.up_proj", inner, hidden), ("mlp.down_proj", hidden, inner)):
                matrix(block + name, n_out, n_in)
            if architecture == "qwen2":
                for name, n in (("q", hidden), ("k", kv_heads * head), ("v", kv_heads * head)):
                    vector(f"{block}self_attn.{name}_proj.bias", n)
            vector(block + "input_layernorm.weight", hidden, 1.0)
            vector(block + "post_attention_layernorm.weight", hidden, 1.0)
        vector("model.norm.weight", hidden, 1.0)
    matrix("lm_head", vocab, hidden)
    return model


# ---- forward -------------------------------------------------------------------------------------------------------


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def rotate(x):
    """Hugging Face's rotary embedding of [token, head, d]: i is paired with i + d / 2."""
    n, _, d = x.shape
    angle = np.arange(n)[:, None] * ROPE_BASE ** (-2.0 * np.arange(d // 2) / d)[None, :]
    cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
    low, high = x[..., : d // 2], x[..., d // 2:]
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def attention(q, k, v):
    """Causal, [token, head, d] each; k and v have fewer heads when they are shared."""
    n, heads, d = q.shape
    k, v = (np.repeat(t, heads // t.shape[1], axis=1) for t in (k, v))
    scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(d)
    scores[:, np.triu(np.ones((n, n), bool), 1)] = -np.inf
    return np.einsum("hij,jhd->ihd", softmax(scores), v).reshape(n, -1)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))


def forward(model, deltas, tokens):
    """Logits [token x vocab] in double, of weights W + delta."""
    w = {name: t.astype(np.float64) for name, t in model.weights.items()}
    for name, delta in deltas.items():
        w[name + ".weight"] = w[name + ".weight"] + delta.astype(np.float64)

    def linear(x, name):
        y = x @ w[name + ".weight"].T
        return y + w[name + ".bias"] if name + ".bias" in w else y

    n, heads, kv = len(tokens), model.heads, model.kv_heads
    if model.architecture == "gpt2":
        def norm(x, name):
            centred = x - x.mean(axis=-1, keepdims=True)
            scaled = centred / np.sqrt((centred ** 2).mean(axis=-1, keepdims=True) + EPS)
            return scaled * w[name + ".weight"] + w[name + ".bias"]

        x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][:n]
        for i in range(model.layers):
            block = f"transformer.h.{i}."
            q, k, v = np.split(linear(norm(x, block + "ln_1"), block + "attn.c_attn"), 3, axis=-1)
            x = x + linear(attention(*(t.reshape(n, heads, -1) for t in (q, k, v))), block + "attn.c_proj")
            x = x + linear(gelu(linear(norm(x, block + "ln_2"), block + "mlp.c_fc")), block + "mlp.c_proj")
        return linear(norm(x, "transformer.ln_f"), "lm_head")

    def rms(x, name):
        return x / np.sqrt((x ** 2).mean(axis=-1, keepdims=True) + EPS) * w[name + ".weight"]

    x = w["model.embed_tokens.weight"][tokens]
    for i in range(model.layers):
        block = f"model.layers.{i}."
        h = rms(x, block + "input_layernorm")
        q, k, v = (linear(h, f"{block}self_attn.{t}_proj").reshape(n, -1, model.hidden // heads) for t in "qkv")
        assert k.shape[1] == kv
        x = x + linear(attention(rotate(q), rotate(k), v), block + "self_attn.o_proj")
        h = rms(x, block + "post_attention_layernorm")
        gate = linear(h, block + "mlp.gate_proj")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(h, block + "mlp.up_proj"), block + "mlp.down_proj")
    return linear(rms(x, "model.norm"), "lm_head")


# ---- the base model's file -----------------------------------------------------------------------------------------


def interleave(w, heads):
    """What llama.cpp's converter does to q and k of Llama: the halves of each head are interleaved."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


LLAMA = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
GPT2 = {"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
        "ln_1": "attn_norm", "ln_2": "ffn_norm"}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
       "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm"}


def tensor_name(model, module):
    """llama.cpp's name of a module, from tables of its own."""
    if module in TOP:
        return TOP[module]
    rest = module.split(".", 3)[2:] if module.startswith(("model.layers.", "transformer.h.")) else None
    return f"blk.{rest[0]}.{(GPT2 if model.architecture == 'gpt2' else LLAMA)[rest[1]]}"


def heads_of(model, module):
    """Heads in which llama.cpp interleaves a module's rows, 0: none."""
    if model.architecture != "llama":
        return 0
    return model.heads if module.endswith("q_proj") else model.kv_heads if module.endswith("k_proj") else 0


def write_base(model, path):
    writer = gguf.GGUFWriter(path, model.architecture)
    writer.add_context_length(model.context)
    writer.add_embedding_length(model.hidden)
    writer.add_block_count(model.layers)
    writer.add_feed_forward_length(4 * model.hidden if model.architecture == "gpt2" else model.inner)
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.kv_heads)
    writer.add_vocab_size(model.vocab)
    writer.add_tokenizer_model("no_vocab")
    if model.architecture == "gpt2":
        writer.add_layer_norm_eps(EPS)
    else:
        writer.add_layer_norm_rms_eps(EPS)
        writer.add_rope_dimension_count(model.hidden // model.heads)
        writer.add_rope_freq_base(ROPE_BASE)
    for name, w in model.weights.items():
        module, kind = name.rsplit(".", 1)
        heads = heads_of(model, module)
        writer.add_tensor(f"{tensor_name(model, module)}.{kind}", interleave(w, heads) if heads else w)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
