#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Train three small tokenizers with Hugging Face `tokenizers` and store what they make of hard texts.

Each covers another shape of tokenizer.json that the example trainer reads; cases.json holds, for each,
the ids of every text and the text decoded from them.  Made with tokenizers 0.23.3:

    make_tokenizer_golden.py [OUT_DIR]
"""
import json
import os
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")

TRAINING = [
    "It is a truth universally acknowledged, that a single man in possession of a good fortune",
    "the the the then there their these those; banana bananas ananas, mississippi",
    "naïve café – déjà vu … «quoted» “curly”", "1234 12345 2024 3.14159 1,000,000",
    "日本語の文章です。 中文字符", "it's we're they've I'll you'd", "    indented\n\n\ttabbed\r\n",
    "🙂🙃🙂 👩‍👩‍👧", "Ελληνικά κείμενα и русский текст",
]

TEXTS = [
    "", " ", "  ", "a", " a", "a ", "  a  b  ", "the then there", "It's WE'RE they'VE i'll 'tis rock'n'roll",
    "banana bananas mississippi", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "anananananananananananananana",
    "1234567890 12 1 1.5e-10 ½ ² Ⅷ ٣٤", "line\nline\r\nline\n\n\nend\n", "\ttab\t\ttab \t x", "x   \n   y",
    "naïve café déjà-vu", "cafe\u0301 combining", "日本語 テスト 中文。", "🙂🙃 👩‍👩‍👧 flag 🇩🇪", "Ελληνικά, русский",
    "non\u00a0breaking\u2003em\u3000ideographic\u0085nel\u2028ls", "zero\u200bwidth \ufeffbom",
    "control \x01\x02\x7f\x1c\x1f", "<s>marked</s> up </s></s><s>", "<s", "a<|x|>b <|x|><|x", "<|xx|><|x|>",
    "pad<pad>pad", "!!! ??? ...--- (a) [b] {c}", "http://example.org/a?b=c&d=%20", "''s's'S",
    "ſ 'ſ K-sign", "long" * 60, "\ud7ff\ue000\uffff\U0010ffff",
]


def train(pre, added, post, **model):
    t = Tokenizer(models.BPE(**model))
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    special = [a for a in added if a.special]
    t.train_from_iterator(TRAINING * 3, trainers.BpeTrainer(
        vocab_size=420, min_frequency=2, show_progress=False, special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_tokens([a for a in added if not a.special])
    if post:
        t.post_processor = post(t)
    return t


def template(t):
    pairs = [(s, t.token_to_id(s)) for s in ("<s>", "</s>")]
    return processors.TemplateProcessing(single="<s> $A </s>", special_tokens=pairs)


def sequence(t):
    pairs = [("<s>", t.token_to_id("<s>"))]
    return processors.Sequence([processors.ByteLevel(trim_offsets=True), processors.TemplateProcessing(
        single="<s> $A", special_tokens=pairs)])


def special(*names):
    return [AddedToken(n, special=True, normalized=False) for n in names]


PLAIN = [AddedToken("<|x|>", normalized=True), AddedToken("<|xx|>", normalized=False), AddedToken("<|x", normalized=True)]

TOKENIZERS = {
    "prefix_space": lambda: train(pre_tokenizers.ByteLevel(add_prefix_space=True), special("<s>", "</s>", "<pad>"),
                                  template),
    "split": lambda: train(
        pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
        special("<s>", "</s>") + PLAIN, sequence, ignore_merges=True),
    "digits": lambda: train(
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                 pre_tokenizers.ByteLevel(add_prefix_space=False)]),
        special("<pad>", "</s>") + PLAIN, None),
}


def main(out):
    cases = {}
    for name, make in TOKENIZERS.items():
        make().save(os.path.join(out, name + ".json"), pretty=False)
        if name == "digits":
            merges_as_text(os.path.join(out, name + ".json"))
        t = Tokenizer.from_file(os.path.join(out, name + ".json"))
        texts = [x for x in TEXTS if not any(0xD800 <= ord(c) < 0xE000 for c in x)]
        cases[name] = [{"text": x, "ids": t.encode(x).ids, "plain_ids": t.encode(x, add_special_tokens=False).ids,
                        "decoded": t.decode(t.encode(x).ids), } for x in texts]
    with open(os.path.join(out, "cases.json"), "w", encoding="utf-8") as f:
        json.dump(cases, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


def merges_as_text(path):
    """Older files list a merge as one string; both forms must read alike."""
    with open(path, encoding="utf-8") as f:
        root = json.load(f)
    root["model"]["merges"] = [" ".join(m) for m in root["model"]["merges"]]
    with open(path, "w", encoding="utf-8") as f:
        json.dump(root, f, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)))
