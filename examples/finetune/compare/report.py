# SPDX-License-Identifier: MIT
"""Tables and plots of the runs that are there: results.json, results.csv, table.md, TASK.svg, TASK-parameters.svg in the
comparison's folder."""
import csv
import os
import re

from runs import write_json
from stats import holm, paired
from svg import Plot

LEAST_PAIRS = 3  # for a probability
METRIC = {"austen": ("test_loss", "test loss", -1), "gloss": ("test_accuracy", "test accuracy", 1)}
POOLS = [1, 1.5, 2, 2.5, 3, 4, 5, 6]
# Differences that a table against uniform and random does not show.
PAIRS = [("alora", "alora/matched"), ("alora/again", "alora"), ("exact", "alora"), ("gradient-prune@P", "large-prune@P"),
         ("gradient2-prune@P", "gradient-prune@P"), ("gradient5-prune@P", "gradient-prune@P"),
         ("gradient-prune@P/again", "gradient-prune@P"), ("gradient-prune/again", "gradient-prune/matched"),
         ("large-prune/again", "large-prune/matched"), ("gradient-static@P", "alora"), ("autolora", "autolora/matched"),
         ("gora", "gora/matched"), ("salience", "salience/matched"), ("salience", "adalora"),
         ("sora", "sora/matched"), ("codyra", "codyra/matched")]
MOVE_SHARE = 0.03  # allocation.move_share of both tasks


def metric(result):
    return result["run"][METRIC[result["task"]][0]]


def of_method(results, task, method):
    return {seed: r for (t, m, seed), r in sorted(results.items()) if (t, m) == (task, method)}


def against(results, task, method, other):
    """Seeds in common, and the paired difference to `other`."""
    mine, its = of_method(results, task, method), of_method(results, task, other)
    seeds = [s for s in mine if s in its]
    if not seeds or method == other:
        return len(seeds), (None, None, None)
    return len(seeds), paired([metric(mine[s]) for s in seeds], [metric(its[s]) for s in seeds])


def row(results, task, method):
    runs = list(of_method(results, task, method).values())
    n, (difference, error, p) = against(results, task, method, "uniform")
    _, (to_random, random_error, _) = against(results, task, method, "random")
    mean = lambda key: sum(key(r) for r in runs) / len(runs)
    return {"task": task, "method": method, "seeds": len(runs), "value": mean(metric), "pairs": n, "difference": difference,
            "error": error, "p": p if n >= LEAST_PAIRS else None, "to_random": to_random, "to_random_error": random_error,
            "final_parameters": mean(lambda r: r["run"]["final_parameters"]),
            "final_ranks": mean(lambda r: r["run"]["final_ranks"]),
            "mean_parameters": mean(lambda r: r["mean_parameters"])}


def rows_of(results, task, names):
    rows = [row(results, task, name) for name in names if of_method(results, task, name)]
    tested = [r for r in rows if r["p"] is not None]
    for r, p in zip(tested, holm([r["p"] for r in tested])):
        r["holm"] = p
    return sorted(rows, key=lambda r: -METRIC[task][2] * r["value"])


def number(value, form):
    return "" if value is None else format(value, form)


def table(rows, task):
    lines = [f"| {task}: method | seeds | {METRIC[task][1]} | − uniform (s.e.) | p | p, Holm | − random (s.e.) | ranks | parameters | mean over steps |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for r in rows:
        pair = lambda a, b: "" if a is None else f"{a:+.4f}" + ("" if b is None else f" ({b:.4f})")
        lines.append(f"| {r['method']} | {r['seeds']} | {r['value']:.4f} | {pair(r['difference'], r['error'])} | {number(r['p'], '.2g')} "
                     f"| {number(r.get('holm'), '.2g')} | {pair(r['to_random'], r['to_random_error'])} | {r['final_ranks']:.0f} "
                     f"| {r['final_parameters']:.0f} | {r['mean_parameters']:.0f} |")
    return "\n".join(lines) + "\n"


def pair_table(results, tasks):
    lines = ["| pair | task | seeds | difference (s.e.) | p |", "|---|---|---|---|---|"]
    for one, other in PAIRS:
        for task in tasks:
            n, (difference, error, p) = against(results, task, one, other)
            if error is not None:
                lines.append(f"| {one} − {other} | {task} | {n} | {difference:+.4f} ({error:.4f}) | {number(p if n >= LEAST_PAIRS else None, '.2g')} |")
    return "\n".join(lines) + "\n"


def write_csv(results, path):
    """A line a run, for statistics of one's own."""
    with open(path, "w", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["task", "method", "seed", "test_loss", "test_accuracy", "ranks", "parameters", "mean_parameters", "layer_forwards",
                        "seconds"])
        for (task, method, seed), r in sorted(results.items()):
            run = r["run"]
            lines.writerow([task, method, seed, f"{run['test_loss']:.6f}", number(run["test_accuracy"], ".4f"), run["final_ranks"],
                            run["final_parameters"], f"{r['mean_parameters']:.0f}", run["layer_forwards"], f"{r['seconds']:.0f}"])


# ---- the screening study

def recovery(state, n, pool):
    """Share of the n lowest scores that are among the `pool` lowest estimates."""
    by = lambda key: sorted(range(len(state[key])), key=lambda i: (state[key][i], i))
    return len(set(by("scores")[:n]) & set(by("estimates")[:pool])) / n


def block_of(name):
    return int(re.search(r"layers\.(\d+)\.", name).group(1))


def layer_forwards(blocks, n_blocks):
    """Of scoring ranks in these blocks, counted from 0: without and with each alone, from its block on; two baselines; and the two
    passes forward and backward of the estimate, a backward counted twice."""
    return sum(2 * (n_blocks - b) for b in blocks) + 2 * n_blocks + 2 * 3 * n_blocks


def screening(results):
    """For every pool: how many of the exact bottom n_A it holds, and its cost over that of exact scores."""
    states = [(r["task"], r["modules"], s) for r in results.values() if r["method"] == "exact" for s in r["states"]]
    curve = []
    for times in POOLS + ["default"]:
        shares, costs = [], []
        for _, modules, state in states:
            n = max(1, round(MOVE_SHARE * len(state["scores"])))
            pool = max(16, 2 * n) if times == "default" else round(times * n)
            blocks = [block_of(modules[m]) for m in state["modules"]]
            L = max(block_of(m) for m in modules) + 1
            order = sorted(range(len(blocks)), key=lambda i: (state["estimates"][i], i))
            shares.append(recovery(state, n, pool))
            costs.append(layer_forwards([blocks[i] for i in order[:pool]], L) / (layer_forwards(blocks, L) - 6 * L))
        if states:
            curve.append({"pool": times, "states": len(states), "mean_recovery": sum(shares) / len(shares),
                          "states_at_95": sum(s >= 0.95 for s in shares) / len(shares), "least": min(shares),
                          "mean_cost": sum(costs) / len(costs), "most_cost": max(costs)})
    return curve


def screening_table(curve):
    lines = [f"| pool, times n_A | mean share found | states with ≥ 95 % of {curve[0]['states']} | least | layer forwards over exact's: mean, most |",
             "|---|---|---|---|---|"]
    for c in curve:
        lines.append(f"| {c['pool']} | {c['mean_recovery']:.3f} | {c['states_at_95']:.3f} | {c['least']:.2f} | "
                     f"{c['mean_cost']:.3f}, {c['most_cost']:.3f} |")
    return "\n".join(lines) + "\n"


# ---- plots

def plot_task(rows, task, path):
    shown = [r for r in rows if r["difference"] is not None and r["pairs"] >= LEAST_PAIRS]
    Plot(f"{task}: {METRIC[task][1]}, difference to uniform, mean and standard error").dots(
        [(r["method"], r["difference"], r["error"] or 0) for r in shown]).save(path)


def plot_parameters(rows, task, path):
    shown = [r for r in rows if r["seeds"] >= 2]
    Plot(f"{task}: {METRIC[task][1]} against final parameters").scatter(
        [(r["method"], r["final_parameters"], r["value"]) for r in shown], "parameters", METRIC[task][1]).save(path)


def write_report(options, results):
    out = options.out
    os.makedirs(out, exist_ok=True)
    tables, text = {}, []
    for task in options.tasks:
        rows = rows_of(results, task, [m.name for m in options.methods])
        if not rows:
            continue
        tables[task] = rows
        text.append(table(rows, task))
        plot_task(rows, task, os.path.join(out, f"{task}.svg"))
        plot_parameters(rows, task, os.path.join(out, f"{task}-parameters.svg"))
    text.append(pair_table(results, options.tasks))
    write_csv(results, os.path.join(out, "results.csv"))
    curve = screening(results)
    if curve:
        text.append(screening_table(curve))
    seconds = sum(r["seconds"] for r in results.values())
    write_json(os.path.join(out, "results.json"),
               {"runs": list(results.values()), "tables": tables, "screening": curve, "core_seconds": seconds})
    with open(os.path.join(out, "table.md"), "w") as file:
        file.write("\n".join(text))
    print("\n".join(text))
    print(f"{len(results)} runs, {seconds / 3600:.1f} hours of one core; written to {out}/results.json, results.csv, table.md and SVG plots")
