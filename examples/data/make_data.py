#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Make the two bundled tasks and the pre-training text of the bundled model.

Sources are two Debian packages: wordnet-base (the WordNet 3.0 database files)
and r-cran-janeaustenr (the novels, read through Rscript).  Only the standard
library is used, and the same input gives the same bytes.

    make_data.py [--wordnet DIR] [--rscript PROGRAM] [--out DIR] [--pretrain DIR]

Invariant: no gloss, and no near duplicate of one, lies in two of {train, dev,
test, pre-training text}; no chapter lies in two of the Austen splits.
"""
import argparse
import collections
import json
import os
import random
import re
import subprocess

# File numbers of lexnames(5WN); the database files carry the number only.
LEXNAMES = """adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact
noun.attribute noun.body noun.cognition noun.communication noun.event noun.feeling
noun.food noun.group noun.location noun.motive noun.object noun.person
noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation
noun.shape noun.state noun.substance noun.time verb.body verb.change verb.cognition
verb.communication verb.competition verb.consumption verb.contact verb.creation
verb.emotion verb.motion verb.perception verb.possession verb.social verb.stative
verb.weather adj.ppl""".split()

SEED = 20240617
NEAR_DUPLICATE = 4, 5  # a Jaccard index of 4/5 or more
GLOSS_ROWS = {"train": 4000, "dev": 1000, "test": 2000}
GLOSS_FLOOR = {"train": 4, "dev": 1, "test": 2}  # rows every class gets
GLOSS_WORDS = (3, 28)
GLOSS_CHARS = 105  # keeps prompt, completion and markers within 64 tokens
HELD_OUT_LINES = 2000
AUSTEN_CHAPTERS = {"train": 41, "dev": 8, "test": 12}
AUSTEN_CHARS = {"train": 6200, "dev": 5000, "test": 5600}  # taken of each chapter
AUSTEN_ROW_CHARS = 500


def read_glosses(folder):
    """[(class name, definition, whole gloss)] in database order."""
    out = []
    for part in ("noun", "verb", "adj", "adv"):
        path = os.path.join(folder, "data." + part)
        with open(path, encoding="ascii") as f:
            for line in f:
                if line.startswith("  ") or " | " not in line:
                    continue  # the licence at the head of each file
                fields, gloss = line.split(" | ", 1)
                gloss = " ".join(gloss.split()).strip("; ")
                definition = re.split(r';\s*"', gloss, maxsplit=1)[0].strip("; ")
                if definition:
                    out.append((LEXNAMES[int(fields.split()[1])], definition, gloss))
    return out


def words(text):
    return re.sub(r"[^a-z0-9 ]+", " ", text.lower()).split()


def near_duplicate_groups(token_sets):
    """Group number of each set: Jaccard >= NEAR_DUPLICATE, closed transitively.

    Two sets this similar share one of their rarest tokens (prefix filter), so
    only sets that meet in the index are compared.
    """
    num, den = NEAR_DUPLICATE
    freq = collections.Counter(t for s in token_sets for t in s)
    parent = list(range(len(token_sets)))

    def find(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    index = collections.defaultdict(list)
    for i in sorted(range(len(token_sets)), key=lambda i: (len(token_sets[i]), i)):
        s = token_sets[i]
        least = -(-num * len(s) // den)
        rare = sorted(s, key=lambda t: (freq[t], t))[: len(s) - least + 1]
        seen = set()
        for t in rare:
            for j in index[t]:
                if j in seen or len(token_sets[j]) < least:
                    continue
                seen.add(j)
                both = len(s & token_sets[j])
                if den * both >= num * (len(s) + len(token_sets[j]) - both):
                    parent[find(i)] = find(j)
            index[t].append(i)
    return [find(i) for i in range(len(token_sets))]


def quotas(counts, total, floor):
    """Rows a class: proportional to its size, at least `floor`, `total` in all."""
    size = sum(counts.values())
    q = {c: max(floor, total * n // size) for c, n in counts.items()}
    for c in sorted(counts, key=lambda c: -counts[c]):
        if sum(q.values()) == total:
            break
        q[c] += max(total - sum(q.values()), floor - q[c])
    assert sum(q.values()) == total
    return q


def choose_task_rows(glosses, groups, rng):
    """{split: [(class, definition)]}, one row a near-duplicate group."""
    classes = collections.defaultdict(set)
    for name, definition, _ in glosses:
        classes[" ".join(words(definition))].add(name)
    first = {}
    for i, (name, definition, _) in enumerate(glosses):
        w = words(definition)
        fits = GLOSS_WORDS[0] <= len(w) <= GLOSS_WORDS[1] and len(definition) <= GLOSS_CHARS
        if fits and len(classes[" ".join(w)]) == 1:
            first.setdefault(groups[i], i)
    pool = collections.defaultdict(list)
    for i in first.values():
        pool[glosses[i][0]].append(i)
    for name in sorted(pool):
        rng.shuffle(pool[name])
    counts = {name: len(pool[name]) for name in sorted(pool)}
    rows = {}
    for split, total in GLOSS_ROWS.items():
        q = quotas(counts, total, GLOSS_FLOOR[split])
        picked = [pool[name].pop() for name in sorted(pool) for _ in range(q[name])]
        rng.shuffle(picked)
        rows[split] = picked
    return rows


def write_jsonl(path, rows):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")


def make_gloss(wordnet, out, pretrain):
    rng = random.Random(SEED)
    glosses = read_glosses(wordnet)
    groups = near_duplicate_groups([frozenset(words(d)) for _, d, _ in glosses])
    rows = choose_task_rows(glosses, groups, rng)
    for split, picked in rows.items():
        write_jsonl(
            os.path.join(out, "gloss", split + ".jsonl"),
            [{"prompt": glosses[i][1] + "; class:", "completion": " " + glosses[i][0]} for i in picked],
        )
    print("gloss:", {s: len(r) for s, r in rows.items()},
          {s: len({glosses[i][0] for i in r}) for s, r in rows.items()}, "classes")
    if pretrain:
        make_pretrain(glosses, groups, rows, pretrain, rng)


def make_pretrain(glosses, groups, rows, folder, rng):
    """Whole glosses, examples included, of every group the task does not touch."""
    used = {groups[i] for picked in rows.values() for i in picked}
    free = collections.defaultdict(list)
    for (_, _, gloss), group in zip(glosses, groups):
        if group not in used and gloss not in free[group]:
            free[group].append(gloss)
    order = sorted(g for g in free if free[g])
    rng.shuffle(order)
    held = order[:HELD_OUT_LINES]
    os.makedirs(folder, exist_ok=True)
    for name, ids in (("held_out", held), ("train", order[HELD_OUT_LINES:])):
        lines = [line for g in ids for line in free[g]]
        rng.shuffle(lines)
        with open(os.path.join(folder, name + ".txt"), "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
        print("pre-training", name, len(lines), "glosses", sum(map(len, lines)), "characters")


def read_chapters(rscript):
    """Chapters of Pride and Prejudice as lists of paragraphs."""
    code = 'cat(enc2utf8(janeaustenr::prideprejudice), sep = "\\n")'
    run = subprocess.run([rscript, "-e", code], check=True, capture_output=True)
    chapters = re.split(r"(?m)^Chapter \d+$", run.stdout.decode("utf-8"))[1:]
    out = []
    for chapter in chapters:
        blocks = re.split(r"\n\s*\n", chapter)
        cleaned = [" ".join(b.replace("_", "").split()) for b in blocks]
        out.append([p for p in cleaned if p and not set(p) <= set("* ")])
    return out


def chapter_rows(paragraphs, limit):
    """The opening of a chapter, whole paragraphs, in rows of a few paragraphs."""
    rows, row, total = [], "", 0
    for p in paragraphs:
        if total and total + len(p) > limit:
            break
        total += len(p) + 1
        row = (row + " " + p).strip()
        if len(row) >= AUSTEN_ROW_CHARS:
            rows.append(row)
            row = ""
    return rows + [row] if row else rows


def make_austen(rscript, out):
    chapters = read_chapters(rscript)
    assert len(chapters) == sum(AUSTEN_CHAPTERS.values()), len(chapters)
    order = list(range(len(chapters)))
    random.Random(SEED).shuffle(order)
    for split, count in AUSTEN_CHAPTERS.items():
        mine, order = sorted(order[:count]), order[count:]
        rows = [r for c in mine for r in chapter_rows(chapters[c], AUSTEN_CHARS[split])]
        write_jsonl(os.path.join(out, "austen", split + ".jsonl"), [{"text": r} for r in rows])
        print("austen", split, "chapters", [c + 1 for c in mine], "rows", len(rows),
              "characters", sum(map(len, rows)))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--wordnet", default="/usr/share/wordnet", help="folder of data.noun ... (package wordnet-base)")
    p.add_argument("--rscript", default="Rscript", help="R with the package r-cran-janeaustenr")
    p.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    p.add_argument("--pretrain", help="also write the pre-training text to this folder")
    a = p.parse_args()
    make_gloss(a.wordnet, a.out, a.pretrain)
    make_austen(a.rscript, a.out)


if __name__ == "__main__":
    main()
