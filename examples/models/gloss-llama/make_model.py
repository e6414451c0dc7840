#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Pre-train the bundled model on WordNet glosses and write it in Hugging Face layout.

    ../../data/make_data.py --pretrain TEXT      (text from the package wordnet-base)
    make_model.py --text TEXT [--out DIR] [--lr ...] [--dropout ...] [--epochs ...]

Needs torch, transformers, tokenizers and safetensors.  The defaults are the
recipe of the shipped weights; a GPU run is not reproducible to the bit.
"""
import argparse
import json
import math
import os
import time

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

BOS, EOS, PAD = 0, 1, 2
VOCAB = 2048
WINDOW = 128
# The pattern of the Llama 3 tokenizer: contractions, words with one leading
# mark, numbers of up to three digits, other marks, line breaks, spaces.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ARCHITECTURE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCAB,
    "hidden_size": 192,
    "intermediate_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    # Both spellings: readers before and after transformers 5.
    "rope_theta": 10000.0,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "tie_word_embeddings": True,
    "initializer_range": 0.02,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "pad_token_id": PAD,
    "use_cache": True,
    "torch_dtype": "bfloat16",
    "dtype": "bfloat16",
}


def read_lines(path):
    with open(path, encoding="utf-8") as f:
        return f.read().splitlines()


def train_tokenizer(lines):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    t.decoder = decoders.ByteLevel()
    special = [AddedToken(s, special=True, normalized=False) for s in ("<s>", "</s>", "<pad>")]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    t.train_from_iterator(lines, trainer)
    t.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BOS)]
    )
    assert t.get_vocab_size() == VOCAB
    return t


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=2, ensure_ascii=False)
        f.write("\n")


def write_tokenizer(tokenizer, out):
    tokenizer.save(os.path.join(out, "tokenizer.json"))
    write_json(
        os.path.join(out, "tokenizer_config.json"),
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "pad_token": "<pad>",
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": ARCHITECTURE["max_position_embeddings"],
        },
    )


def encode(tokenizer, lines):
    """One int16 array a gloss: <s> ids </s>."""
    rows = tokenizer.encode_batch(lines, add_special_tokens=False)
    return [np.array([BOS] + r.ids + [EOS], np.int16) for r in rows]


def windows(docs, order, shift):
    stream = np.concatenate([docs[i] for i in order])[shift:]
    n = (len(stream) - 1) // WINDOW * WINDOW
    return torch.from_numpy(stream[: n + 1].astype(np.int64))


def loss_of(model, stream, starts):
    at = starts[:, None] + torch.arange(WINDOW + 1, device=stream.device)
    ids = stream[at]
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())


@torch.no_grad()
def held_out_loss(model, stream, batch):
    """Mean loss a token over full windows, dropout off."""
    model.eval()
    starts = torch.arange(0, len(stream) - 1, WINDOW, device=stream.device)
    parts = starts.split(batch)
    return sum(float(loss_of(model, stream, s)) * len(s) for s in parts) / len(starts)


def add_dropout(model, p):
    """Dropout on what attention and feed-forward add to the residual stream."""

    def drop(module, _, output):
        first = output[0] if isinstance(output, tuple) else output
        first = torch.nn.functional.dropout(first, p, module.training)
        return (first,) + output[1:] if isinstance(output, tuple) else first

    return [m.register_forward_hook(drop) for b in model.model.layers for m in (b.self_attn, b.mlp)]


def make_optimizer(model, a):
    decay = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": decay, "weight_decay": a.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=a.lr, betas=(0.9, 0.98), fused=a.device == "cuda")


def pretrain(model, docs, held, a):
    """Train with a cosine schedule; return the best held-out loss and its weights."""
    rng = np.random.default_rng(a.seed)
    steps = a.epochs * (sum(map(len, docs)) // WINDOW // a.batch)
    optimizer = make_optimizer(model, a)
    warm = max(1, steps // 50)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: min((s + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * min(1.0, s / steps))),
    )
    hooks = add_dropout(model, a.dropout) if a.dropout > 0 else []
    cast = torch.autocast(a.device, torch.bfloat16)
    best, weights, begun = math.inf, None, time.time()
    for epoch in range(a.epochs):
        model.train()
        stream = windows(docs, rng.permutation(len(docs)), int(rng.integers(WINDOW))).to(a.device)
        starts = torch.from_numpy(rng.permutation((len(stream) - 1) // WINDOW) * WINDOW).to(a.device)
        for part in starts.split(a.batch):
            if len(part) < a.batch:
                break
            optimizer.zero_grad(set_to_none=True)
            with cast:
                loss = loss_of(model, stream, part)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        with cast:
            now = held_out_loss(model, held, a.batch)
        if now < best:
            best = now
            weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
        print(f"epoch {epoch + 1} train {float(loss.detach()):.4f} held-out {now:.4f} {time.time() - begun:.0f} s", flush=True)
    for h in hooks:
        h.remove()
    return best, weights


def write_model(weights, out):
    tensors = {k: v.to("cpu", torch.bfloat16).contiguous() for k, v in weights.items() if k != "lm_head.weight"}
    save_file(tensors, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    write_json(os.path.join(out, "config.json"), ARCHITECTURE)
    write_json(
        os.path.join(out, "generation_config.json"),
        {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD, "do_sample": False},
    )


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--text", required=True, help="folder of train.txt and held_out.txt, one gloss a line")
    p.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    p.add_argument("--tokenizer-only", action="store_true")
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--dropout", type=float, default=0.1)
    p.add_argument("--weight-decay", type=float, default=0.1)
    p.add_argument("--epochs", type=int, default=40)
    p.add_argument("--batch", type=int, default=128, help="windows a step")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--limit", type=int, help="use this many training glosses only (a quick trial)")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return p.parse_args()


def main():
    a = parse_args()
    os.makedirs(a.out, exist_ok=True)
    lines = read_lines(os.path.join(a.text, "train.txt"))
    tokenizer = train_tokenizer(lines)
    write_tokenizer(tokenizer, a.out)
    if a.tokenizer_only:
        return
    docs = encode(tokenizer, lines[: a.limit])
    other = encode(tokenizer, read_lines(os.path.join(a.text, "held_out.txt")))
    held = windows(other, range(len(other)), 0).to(a.device)
    torch.manual_seed(a.seed)
    model = LlamaForCausalLM(LlamaConfig(**ARCHITECTURE)).to(a.device, torch.float32)
    print("parameters", sum(p.numel() for p in model.parameters()), "tokens", sum(map(len, docs)), "held out", len(held))
    best, weights = pretrain(model, docs, held, a)
    write_model(weights, a.out)
    shipped = LlamaForCausalLM.from_pretrained(a.out, dtype=torch.float32).to(a.device)
    print(f"best held-out {best:.4f}; as shipped (bf16 weights, f32 arithmetic) {held_out_loss(shipped, held, a.batch):.4f}")


if __name__ == "__main__":
    main()
