#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of the comparison's arithmetic: make check-compare."""
import contextlib
import io
import os
import tempfile
import types
import unittest

from compare import Comparison, parse
from methods import PARAMS, methods
from report import PAIRS, layer_forwards, pair_table, recovery, write_csv, write_report
from runs import Run, read_known
from stats import holm, incomplete_beta, paired, t_two_sided


class Stats(unittest.TestCase):
    def test_student_has_the_tables_quantiles(self):
        # two-sided 5 % and 1 % points of printed tables
        for degrees, at5, at1 in ((1, 12.7062, 63.6567), (2, 4.30265, 9.92484), (4, 2.77645, 4.60409), (30, 2.04227, 2.75)):
            self.assertAlmostEqual(t_two_sided(at5, degrees), 0.05, places=5)
            self.assertAlmostEqual(t_two_sided(-at1, degrees), 0.01, places=5)
        self.assertEqual(t_two_sided(0, 3), 1)

    def test_beta_has_closed_forms(self):
        for x in (0.0, 0.1, 0.5, 0.9, 1.0):
            self.assertAlmostEqual(incomplete_beta(1, 1, x), x)
            self.assertAlmostEqual(incomplete_beta(2, 3, x), x * x * (6 - 8 * x + 3 * x * x))
            self.assertAlmostEqual(incomplete_beta(2.5, 4, x), 1 - incomplete_beta(4, 2.5, 1 - x))

    def test_pairs(self):
        mean, error, p = paired([1, 2, 3], [0, 0, 0])
        self.assertAlmostEqual(mean, 2)
        self.assertAlmostEqual(error, 3 ** -0.5)
        self.assertAlmostEqual(p, t_two_sided(2 * 3 ** 0.5, 2))
        self.assertEqual(paired([1], [3]), (-2, None, None))
        self.assertEqual(paired([1, 1], [1, 1]), (0, 0, 1))

    def test_holm(self):
        for got, want in zip(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02]):
            self.assertAlmostEqual(got, want)
        self.assertEqual(holm([0.9, 0.8]), [1, 1])


class Table(unittest.TestCase):
    def test_lines_are_filled(self):
        by_name = {m.name: m for m in methods()}
        self.assertIn(f"allocation.budget={PARAMS}", by_name["large-prune@P"].settings)
        self.assertIn("allocation.budget_unit=parameters", by_name["large-prune@P"].settings)
        self.assertEqual(by_name["alora/matched"].source, "alora")
        self.assertEqual(len(by_name), len(methods()))

    def test_a_control_brings_its_source(self):
        self.assertEqual([m.name for m in methods(["alora/again"])], ["alora", "alora/again"])

    def test_a_size_that_is_part_of_the_method_has_its_controls(self):
        by_name = {m.name: m for m in methods()}
        self.assertEqual(by_name["autolora/matched"].source, "autolora")
        self.assertEqual(by_name["autolora/again"].source, "autolora")
        self.assertNotIn("alora@P/matched", by_name)

    def test_selection_and_nested_ranks_have_the_common_budget(self):
        by_name = {m.name: m for m in methods()}
        for name in "selection", "nested", "nested-frozen":
            self.assertEqual(by_name[name].budget, "R")
            self.assertFalse([s for s in by_name[name].settings if s.startswith(("adapters.uniform", "adapters.modules"))])
        self.assertIn("allocation.policy=fixed", by_name["nested"].settings)

    def test_a_methods_own_settings_hold(self):
        options = types.SimpleNamespace(out="", common={"austen": ["schedule.rounds=3"]})
        run = Run(options, "austen", methods(["autolora"])[0], 1)
        rounds = [s for s in run.settings(None) if s.startswith("schedule.rounds=")]
        self.assertEqual(rounds[-1], "schedule.rounds=1")  # the last of a key counts

    def test_what_is_counted_in_steps_follows_the_run(self):
        method = methods(["codyra"])[0]
        for task, common, steps in ("austen", [], 312), ("gloss", [], 750), ("gloss", ["host.epochs=0.3"], 75):
            run = Run(types.SimpleNamespace(out="", common={task: common}), task, method, 1)
            settings = dict(s.split("=") for s in run.settings(None))
            self.assertEqual(int(settings["optimizer.gate_dense_steps"]), steps // 2)
            self.assertEqual(int(settings["optimizer.gate_dense_steps"]) + int(settings["optimizer.gate_rise_steps"]), steps)
            self.assertEqual(int(settings["schedule.warmup"]), steps - 1)


def result(task, method, seed, loss, accuracy):
    return (task, method, seed), {"task": task, "mean_parameters": 7.4, "seconds": 1.6,
                                  "run": {"test_loss": loss, "test_accuracy": accuracy, "final_ranks": 3, "final_parameters": 8,
                                          "layer_forwards": 9}}


class Files(unittest.TestCase):
    one, other = PAIRS[0]
    results = dict([result("austen", one, 1, 3.0, None), result("austen", other, 1, 2.5, None),
                    result("austen", one, 2, 3.0, None), result("austen", other, 2, 2.7, None),
                    result("austen", one, 3, 1.0, None), result("gloss", one, 1, 1.5, 0.25)])

    def test_pairs_have_the_seeds_in_common(self):
        lines = pair_table(self.results, ["austen", "gloss"]).splitlines()
        self.assertEqual(lines[2:], [f"| {self.one} − {self.other} | austen | 2 | +0.4000 (0.1000) |  |"])

    def test_every_run_is_a_line(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "results.csv")
            write_csv(self.results, path)
            with open(path) as file:
                lines = file.read().splitlines()
        self.assertEqual(len(lines), 1 + len(self.results))
        self.assertIn(f"austen,{self.other},2,2.700000,,3,8,7,9,2", lines)
        self.assertEqual(lines[-1], f"gloss,{self.one},1,1.500000,0.2500,3,8,7,9,2")


class Known(unittest.TestCase):
    def comparison(self, folder, names, lines):
        path = os.path.join(folder, "known.csv")
        write_csv(dict(lines), path)
        return Comparison(types.SimpleNamespace(out=folder, known=path, seeds=[1, 2], tasks=["gloss"],
                                                methods=methods(names), limit=None, common={"gloss": []}))

    def test_figures_come_back(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "known.csv")
            write_csv(Files.results, path)
            known = read_known(path)
            write_csv(known, path + "2")
            with open(path) as first, open(path + "2") as second:
                self.assertEqual(first.read(), second.read())
        self.assertEqual(set(known), set(Files.results))
        self.assertIsNone(known["austen", Files.one, 1]["run"]["test_accuracy"])

    def test_a_report_of_known_runs_needs_no_run(self):
        with tempfile.TemporaryDirectory() as folder:
            known = {key: r for key, r in read_known("docs/results.csv").items() if r["method"] in ("uniform", "alora")}
            options = types.SimpleNamespace(out=os.path.join(folder, "new"), tasks=["austen", "gloss"], methods=methods(["uniform", "alora"]))
            with contextlib.redirect_stdout(io.StringIO()):
                write_report(options, known)
            self.assertIn("results.csv", os.listdir(options.out))

    def test_known_runs_are_not_made_again(self):
        with tempfile.TemporaryDirectory() as folder:
            c = self.comparison(folder, ["uniform"], [result("gloss", "uniform", 1, 1.5, 0.25), result("gloss", "other", 2, 1.5, 0.25)])
            self.assertEqual(c.ready().key, ("gloss", "uniform", 2))

    def test_runs_of_other_settings_are_not_known(self):
        self.assertEqual(parse(["--known", "x.csv"]).known, "x.csv")
        for other in ["--quick"], ["--set", "seed=1"]:
            with self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
                parse(["--known", "x.csv"] + other)

    def test_a_pattern_that_is_needed_is_made(self):
        lines = [result("gloss", "alora", 1, 1.5, 0.25), result("gloss", "alora", 2, 1.5, 0.25), result("gloss", "alora/again", 2, 1.5, 0.25)]
        with tempfile.TemporaryDirectory() as folder:
            c = self.comparison(folder, ["alora/again"], lines)
            self.assertEqual(set(c.results), {("gloss", "alora", 2), ("gloss", "alora/again", 2)})
            self.assertEqual(c.ready().key, ("gloss", "alora", 1))
            c = self.comparison(folder, ["alora/matched"], lines)
            self.assertEqual(c.ready().key, ("gloss", "alora/matched", 1))
            self.assertIn("adapters.uniform=8", c.ready().settings(c.source(c.ready())))


class Recovery(unittest.TestCase):
    state = {"scores": [0, 1, 2, 3, 4, 5], "estimates": [0, 5, 1, 2, 3, 4]}

    def test_shares(self):
        self.assertEqual(recovery(self.state, 2, 2), 0.5)
        self.assertEqual(recovery(self.state, 2, 5), 0.5)
        self.assertEqual(recovery(self.state, 2, 6), 1)

    def test_cost_counts_the_blocks_behind_the_rank(self):
        self.assertEqual(layer_forwards([], 6), 48)
        self.assertEqual(layer_forwards([0, 5], 6) - 48, 2 * 6 + 2 * 1)


if __name__ == "__main__":
    unittest.main()
