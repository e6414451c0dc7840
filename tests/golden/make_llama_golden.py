#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Make the golden vectors of the example trainer with transformers (f32, CPU).

    make_llama_golden.py [--model ../../examples/models/gloss-llama] [--out DIR]

Writes llama-tiny/ and llama-tiny-sharded/ (random weights, small tokenizer),
llama_tiny.json with llama_tiny_gradients.safetensors, gloss_llama.json and
tokenizer_ids.json.  Needs torch, transformers, tokenizers and safetensors.

Losses are means over the predicted tokens.  Greedy continuations do not stop at
the end marker.  tokenizer_ids.json holds ids without the start marker.
"""
import argparse
import json
import os
import shutil

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

NEW_TOKENS = 16
TINY_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"},
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "torch_dtype": "float32",
    "dtype": "float32",
}
TINY_TEXT = "the cat sat on the mat and the dog lay in the sun; it's warm, isn't it? 1234 567"
TINY_IDS = [[0, 5, 17, 299, 128, 64, 3, 3, 250, 77, 41, 1, 0, 200, 180, 160, 140, 120, 100, 80, 60, 40, 20, 10],
            [0, 33, 44, 55, 66, 77, 88, 99, 111]]
SENTENCES = [
    "a small bird with a long tail",
    "the act of moving from one place to another; \"they travelled by night\"",
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.",
]
TRICKY = [
    "",
    " ",
    "   ",
    "hello world",
    " leading space",
    "trailing space ",
    "two  spaces   three    four",
    "\ttab\tand\nnewline\n\n two newlines \n",
    "carriage\r\nreturn \r\n\r\n",
    "it's we'RE I'LL they'd 'tis o'clock 'S",
    "1 12 123 1234 1234567 3.14 1,000,000 (1756-1791)",
    "camelCase snake_case kebab-case UPPER",
    "punctuation!!! ... --- ?! (a) [b] {c} <d> \"e\" `f'",
    "caf\u00e9 na\u00efve \u00e6sthetic stra\u00dfe",
    "cafe\u0301 decomposed",
    "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u05e2\u05d1\u05e8\u05d9\u05ea \u0939\u093f\u0928\u094d\u0926\u0940",
    "\u4e2d\u6587\u5b57\u7b26 \u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4",
    "emoji \U0001f600\U0001f680 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f",
    "non\u00a0breaking\u00a0 ideographic\u3000space thin\u2009space zero\u200bwidth nel\u0085end",
    "long s: it'\u017f, Kelvin \u212a, digits \u0661\u0662\u0663\u0664 \u00bd \u2163 x\u00b2",
    "math \u2211 \u2260 \u221e \u00b1 \u20ac5 \u00a31 \u00a52 \u201cquoted\u201d \u2018it\u2019s\u2019 \u2013 \u2014 \u2026",
    "a\u0001b control and \u0007 bell \u007f delete",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "a tangible and visible entity; an entity that can cast a shadow; \"it was full of rackets\"",
]
MARKERS = ["a</s>b", "<s>start <pad> </s>", "<s"]


def write_json(path, value, indent=None):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=indent, ensure_ascii=True)
        f.write("\n")


def digits(tensor):
    """Nested lists of numbers that read back to the same float32."""
    if tensor.dim() > 1:
        return [digits(t) for t in tensor]
    return [float(f"{x:.9g}") for x in tensor.tolist()]


def tiny_tokenizer():
    """Byte-level BPE with the built-in GPT-2 split, merges in the older "a b" spelling."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    t.decoder = decoders.ByteLevel()
    special = [AddedToken(s, special=True, normalized=False) for s in ("<s>", "</s>", "<pad>")]
    corpus = [TINY_TEXT] + SENTENCES
    t.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=TINY_CONFIG["vocab_size"],
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    assert t.get_vocab_size() == TINY_CONFIG["vocab_size"]
    spec = json.loads(t.to_str())
    spec["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in spec["model"]["merges"]]
    return spec


def write_tiny(out):
    """The tiny model twice: one f32 file, and f16 in two shards with an index."""
    torch.manual_seed(7)
    model = LlamaForCausalLM(LlamaConfig(**TINY_CONFIG)).float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            # Rounded to f16 so that both folders hold the same numbers.
            scale, shift = (0.2, 1.0) if "norm" in name else (0.25, 0.0)
            p.copy_((torch.randn_like(p) * scale + shift).half().float())
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    whole, sharded = os.path.join(out, "llama-tiny"), os.path.join(out, "llama-tiny-sharded")
    for folder, dtype in ((whole, "float32"), (sharded, "float16")):
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        write_json(os.path.join(folder, "config.json"), dict(TINY_CONFIG, torch_dtype=dtype, dtype=dtype), 2)
        write_json(os.path.join(folder, "tokenizer.json"), tiny_tokenizer(), 1)
        write_json(
            os.path.join(folder, "tokenizer_config.json"),
            {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
             "pad_token": "<pad>", "add_prefix_space": False, "clean_up_tokenization_spaces": False},
            2,
        )
    save_file(state, os.path.join(whole, "model.safetensors"), metadata={"format": "pt"})
    write_shards({k: v.half() for k, v in state.items()}, sharded)
    return whole, sharded


def write_shards(state, folder):
    names = sorted(state)
    half = len(names) // 2
    weight_map = {}
    for i, part in enumerate((names[:half], names[half:])):
        file = f"model-{i + 1:05d}-of-00002.safetensors"
        save_file({k: state[k] for k in part}, os.path.join(folder, file), metadata={"format": "pt"})
        weight_map.update({k: file for k in part})
    total = sum(v.numel() * v.element_size() for v in state.values())
    write_json(
        os.path.join(folder, "model.safetensors.index.json"),
        {"metadata": {"total_size": total}, "weight_map": weight_map},
        2,
    )


def next_token_loss(model, ids):
    logits = model(input_ids=ids[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


@torch.no_grad()
def greedy(model, ids):
    """NEW_TOKENS ids of highest logit, and the smallest lead over the runner-up."""
    ids, lead = torch.tensor([ids]), float("inf")
    start = ids.shape[1]
    for _ in range(NEW_TOKENS):
        top = model(input_ids=ids).logits[0, -1].topk(2)
        lead = min(lead, float(top.values[0] - top.values[1]))
        ids = torch.cat([ids, top.indices[:1][None]], 1)
    return ids[0, start:].tolist(), lead


def tiny_golden(folder, sharded, out):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    other = AutoModelForCausalLM.from_pretrained(sharded, dtype=torch.float32).eval()
    cases = []
    for ids in TINY_IDS:
        t = torch.tensor([ids])
        with torch.no_grad():
            logits = model(input_ids=t).logits[0]
            assert torch.equal(logits, other(input_ids=t).logits[0])
            loss = float(next_token_loss(model, t))
        more, lead = greedy(model, ids[:8])
        cases.append({"ids": ids, "logits": digits(logits), "loss": loss,
                      "greedy_prompt": ids[:8], "greedy": more, "greedy_least_lead": lead})
    next_token_loss(model, torch.tensor([TINY_IDS[0]])).backward()
    grads = {k: p.grad.contiguous() for k, p in model.named_parameters()}
    save_file(grads, os.path.join(out, "llama_tiny_gradients.safetensors"), metadata={"format": "pt"})
    write_json(
        os.path.join(out, "llama_tiny.json"),
        {"about": "logits[t][v] after ids[0..t]; gradients of cases[0].loss are in llama_tiny_gradients.safetensors",
         "model": "llama-tiny", "same_logits": "llama-tiny-sharded", "cases": cases},
    )


def gloss_golden(folder, out):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    cases = []
    for text in SENTENCES:
        ids = [tokenizer.bos_token_id] + tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == tokenizer(text)["input_ids"]
        t = torch.tensor([ids])
        with torch.no_grad():
            last = model(input_ids=t).logits[0, -1]
            loss = float(next_token_loss(model, t))
        more, lead = greedy(model, ids)
        cases.append({"text": text, "ids": ids, "loss": loss, "last_logits": digits(last), "greedy": more,
                      "greedy_text": tokenizer.decode(more), "greedy_least_lead": lead})
    write_json(
        os.path.join(out, "gloss_llama.json"),
        {"about": "bf16 weights read as f32; loss is the mean over ids[1..]", "cases": cases},
    )


def tokenizer_golden(folders, out):
    result = {"about": "ids without start marker; `markers` are texts in which special tokens are spelled out",
              "tokenizers": []}
    for name, folder in folders:
        t = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        rows = {}
        for key, texts in (("texts", TRICKY + SENTENCES), ("markers", MARKERS)):
            rows[key] = [{"text": s, "ids": t.encode(s, add_special_tokens=False).ids} for s in texts]
            for r in rows[key]:
                assert t.decode(r["ids"], skip_special_tokens=False) == r["text"], r
        result["tokenizers"].append({"model": name, **rows})
    write_json(os.path.join(out, "tokenizer_ids.json"), result, 1)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", default=os.path.join(here, "../../examples/models/gloss-llama"))
    p.add_argument("--out", default=here)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    torch.set_num_threads(1)
    whole, sharded = write_tiny(a.out)
    tiny_golden(whole, sharded, a.out)
    gloss_golden(a.model, a.out)
    tokenizer_golden([("llama-tiny", whole), ("gloss-llama", a.model)], a.out)


if __name__ == "__main__":
    main()
