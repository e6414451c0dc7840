#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The comparison of rank allocation methods: runs what is not yet there, then writes the tables and plots.

Every run is one process with one thread and leaves one JSON file, so that the comparison can be stopped, killed and gone on
with, also on another machine. The order is seed by seed over all methods, so that what is there is comparable.
"""
import argparse
import os
import signal
import sys
import time

from methods import PARAMS, RANKS, methods
from report import write_report
from runs import Run, read_known

QUICK_SETTINGS = {"austen": "host.epochs=0.8 schedule.rounds=3 schedule.warmup=0.3 schedule.recovery=0.1".split(),
                  "gloss": "host.epochs=0.3 schedule.rounds=3 schedule.warmup=0.1 schedule.recovery=0.05".split()}
STOP_SECONDS = 30  # a run that is told to stop finishes its step or its evaluation


def parse(arguments=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--trainer", default="build/release/finetune", help="the finetune program")
    p.add_argument("--root", default=".", help="folder that holds examples/")
    p.add_argument("--out", default="build/compare", help="gets runs/, results.json, tables and plots")
    p.add_argument("-j", type=int, default=os.cpu_count(), help="runs at a time")
    p.add_argument("--limit", type=float, help="seconds after which no run goes on; those under way are saved")
    p.add_argument("--seeds", default="1,2,3,4,5", help="as in 1,2,3 or 1-5")
    p.add_argument("--tasks", default="austen,gloss")
    p.add_argument("--methods", help="names, with commas; default: all")
    p.add_argument("--known", metavar="CSV",
                   help="results.csv of an earlier comparison: only its runs whose pattern another needs are made again")
    p.add_argument("--quick", action="store_true", help="2 seeds, 4 methods, shortened training")
    p.add_argument("--set", action="append", default=[], help="KEY=VALUE for every run")
    p.add_argument("--report", action="store_true", help="run nothing, write results, tables and plots")
    p.add_argument("--list", action="store_true", help="print the methods and their settings")
    o = p.parse_args(arguments)
    if o.known and (o.quick or o.set):
        p.error("--known is for runs as the table of methods has them: not with --quick or --set")
    o.tasks = o.tasks.split(",")
    o.seeds = read_seeds("1,2" if o.quick and o.seeds == "1,2,3,4,5" else o.seeds)
    o.methods = methods(o.methods.split(",") if o.methods else None, o.quick)
    o.common = {task: (QUICK_SETTINGS[task] if o.quick else []) + o.set for task in o.tasks}
    return o


def read_seeds(text):
    seeds = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


class Comparison:
    def __init__(self, options):
        self.options = options
        self.runs = [Run(options, task, method, seed)
                     for seed in options.seeds for method in options.methods for task in options.tasks]
        self.results = {run.key: result for run in self.runs if (result := run.load())}
        self.results.update(self.known(read_known(options.known) if options.known else {}))
        self.begun, self.active, self.failed, self.stopping = time.time(), [], [], False

    def known(self, known):
        """Those that are not there; a run that others are to be trained again from is made for its pattern."""
        there = {run.key: known[run.key] for run in self.runs if run.key in known and run.key not in self.results}
        for run in self.runs:
            if run.method.kind == "again" and run.key not in there and run.key not in self.results:
                there.pop((run.task, run.method.source, run.seed), None)
        return there

    def source(self, run):
        return self.results.get((run.task, run.method.source, run.seed)) if run.method.source else None

    def ready(self):
        """The next run that can start: the first whose source is there."""
        busy = {run.key for run in self.active} | {run.key for run in self.failed} | set(self.results)
        for run in self.runs:
            if run.key not in busy and (not run.method.source or self.source(run)):
                return run
        return None

    def left(self):
        return float("inf") if self.options.limit is None else self.begun + self.options.limit - time.time()

    def collect(self):
        for run in list(self.active):
            outcome = run.finish()
            if outcome is None:
                continue
            self.active.remove(run)
            if outcome == "done":
                self.results[run.key] = run.load()
                check_common(self.results, self.results[run.key])
            elif outcome == "failed" or not self.stopping:
                self.failed.append(run)
                print(f"failed: {' '.join(map(str, run.key))}: see {run.base}.log", flush=True)
            if outcome == "done":
                self.say(run)

    def say(self, run):
        r = self.results[run.key]
        accuracy = r["run"]["test_accuracy"]
        print(f"{len(self.results)}/{len(self.runs)} {run.task} {run.method.name} seed {run.seed}: test loss "
              f"{r['run']['test_loss']:.4f}" + (f" accuracy {accuracy:.4f}" if accuracy is not None else "") +
              f" parameters {r['run']['final_parameters']} {r['wall_seconds']:.0f} s", flush=True)

    def stop(self):
        self.stopping = True
        for run in self.active:
            run.stop()
        deadline = time.time() + max(5.0, min(STOP_SECONDS, self.left()))
        while self.active and time.time() < deadline:
            self.collect()
            time.sleep(0.1)
        for run in self.active:
            run.kill()
            run.process.wait()
        self.collect()

    def work(self):
        while not self.stopping:
            self.collect()
            while len(self.active) < self.options.j and (run := self.ready()):
                run.start(self.source(run))
                self.active.append(run)
            if not self.active:
                break
            if self.left() < STOP_SECONDS:
                break
            time.sleep(0.1)
        self.stop()
        return not self.failed


def check_common(results, new):
    """Runs of one task and seed share the order of rows, the validation batch and, where no setting touches them, the
    initial values."""
    def touched(r):
        return any(s.startswith("adapters.") for s in r["settings"])

    for other in results.values():
        if (other["task"], other["seed"]) != (new["task"], new["seed"]):
            continue
        if "digests" not in other["run"] or "digests" not in new["run"]:
            continue  # known by its figures alone
        mine, its = new["run"]["digests"], other["run"]["digests"]
        for what in ("order", "validation") + (() if touched(new) or touched(other) else ("initial",)):
            if mine[what] != its[what]:
                raise SystemExit(f"compare: {new['method']} and {other['method']} of seed {new['seed']} differ in {what}")
    if new["method"] == "uniform" and (new["run"]["final_ranks"], new["run"]["final_parameters"]) != (RANKS, PARAMS):
        raise SystemExit("compare: methods.py has other RANKS and PARAMS than the uniform run")


def main():
    options = parse()
    if options.list:
        for method in options.methods:
            print(f"{method.name:28} {method.kind:8} {' '.join(method.settings)}")
        return 0
    comparison = Comparison(options)
    for result in comparison.results.values():
        check_common(comparison.results, result)
    if not options.report:
        signal.signal(signal.SIGINT, lambda *_: setattr(comparison, "stopping", True))
        signal.signal(signal.SIGTERM, lambda *_: setattr(comparison, "stopping", True))
        comparison.work()
        print(f"{len(comparison.results)} of {len(comparison.runs)} runs are there", flush=True)
    write_report(options, comparison.results)
    return 1 if comparison.failed else 0


if __name__ == "__main__":
    sys.exit(main())
