# SPDX-License-Identifier: MIT
"""One run: the trainer's command line, its working folder, and the result that is kept as one JSON file; and runs that are
known by their line of results.csv alone."""
import csv
import json
import os
import shutil
import signal
import subprocess
import time

from methods import steps_of

MODEL = "examples/models/gloss-llama"
# The state of a screening study is a round whose ranks all have an exact score and an estimate.
STATE_COLUMNS = {"score": 2, "estimate": 6, "exact": 7}


class Run:
    """Method x task x seed. `done` is set once its JSON file is there."""

    def __init__(self, options, task, method, seed):
        self.options, self.task, self.method, self.seed = options, task, method, seed
        self.key = (task, method.name, seed)
        name = method.name.replace("/", "+")
        self.base = os.path.join(options.out, "runs", task, name, str(seed))
        self.result_path, self.work = self.base + ".json", self.base + ".work"
        self.pattern_path = self.base + ".pattern.json"
        self.process = self.log = None

    def load(self):
        try:
            with open(self.result_path) as file:
                return json.load(file)
        except (OSError, ValueError):
            return None

    def settings(self, source):
        """Those common to all and the method's, which hold, with what the source's result fills in."""
        values = {}
        if source:
            values = {"final_parameters": source["run"]["final_parameters"], "pattern": source.get("pattern")}
        own = [s.format(**values) for s in self.method.settings_for(self.steps())]
        return self.options.common[self.task] + own

    def steps(self):
        return steps_of(self.task, self.options.common[self.task])

    def command(self, source):
        data = f"{self.options.root}/examples/data/{self.task}"
        command = [self.options.trainer, "--threads", "1", "--model", f"{self.options.root}/{MODEL}",
                   "--train", f"{data}/train.jsonl", "--dev", f"{data}/dev.jsonl", "--test", f"{data}/test.jsonl",
                   "--config", f"{self.options.root}/examples/finetune/{self.task}.yaml", "--seed", str(self.seed),
                   "--out", self.work, "--report-command", "true", "--checkpoint-every", "1000000", "--resume"]
        for setting in self.settings(source):
            command += ["--set", setting]
        return command

    def start(self, source):
        """A run that was stopped goes on from its checkpoint; one that was killed begins anew."""
        if os.path.isdir(self.work) and not os.path.exists(f"{self.work}/checkpoint.lrk"):
            shutil.rmtree(self.work)
        os.makedirs(os.path.dirname(self.work), exist_ok=True)
        self.log = open(self.base + ".log", "a")
        environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        self.begun, self.source = time.time(), source
        self.process = subprocess.Popen(self.command(source), stdout=self.log, stderr=self.log, env=environment)

    def stop(self):
        self.process.send_signal(signal.SIGINT)  # saves a checkpoint

    def kill(self):
        self.process.kill()

    def finish(self):
        """None while it runs; else 'done', 'stopped' or 'failed'."""
        status = self.process.poll()
        if status is None:
            return None
        self.log.close()
        if status == 130 or status < 0:
            return "stopped"
        if status != 0:
            return "failed"
        self._keep()
        return "done"

    def _keep(self):
        with open(f"{self.work}/summary.json") as file:
            result = json.load(file)
        if os.path.exists(f"{self.work}/adapter/adapter_config.json"):
            shutil.copyfile(f"{self.work}/adapter/adapter_config.json", self.pattern_path)
        run = result["run"]
        if self.method.of_steps() and run["steps"] != self.steps():
            raise SystemExit(f"compare: {self.method.name} ran {run['steps']} steps of {self.task}, not the {self.steps()} of methods.py's EPOCHS")
        seconds = sum(run[k] for k in ("train_seconds", "scoring_seconds", "evaluation_seconds", "start_seconds"))
        result.update(task=self.task, method=self.method.name, kind=self.method.kind, budget=self.method.budget,
                      source=self.method.source, settings=self.settings(self.source), seconds=seconds,
                      wall_seconds=time.time() - self.begun, pattern=self.pattern_path)
        result.update(read_trace(f"{self.work}/trace.jsonl", run["steps"]))
        write_json(self.result_path, result)
        shutil.rmtree(self.work)
        os.unlink(self.base + ".log")


def read_known(path):
    """Results as the tables need them, by task, method and seed. There is no pattern among them, no digests and no states."""
    known = {}
    with open(path, newline="") as file:
        for line in csv.DictReader(file):
            task, method, seed = line["task"], line["method"], int(line["seed"])
            accuracy = line["test_accuracy"]
            known[task, method, seed] = {
                "task": task, "method": method, "seed": seed, "settings": [], "states": [], "seconds": float(line["seconds"]),
                "mean_parameters": float(line["mean_parameters"]),
                "run": {"test_loss": float(line["test_loss"]), "test_accuracy": float(accuracy) if accuracy else None,
                        "final_ranks": int(line["ranks"]), "final_parameters": int(line["parameters"]),
                        "layer_forwards": int(line["layer_forwards"])}}
    return known


def write_json(path, value):
    """Whole or not at all."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path + ".tmp", "w") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)


def read_trace(path, steps):
    """Mean parameters over the steps, the ranks of modules at the end, and the states for the screening study."""
    states, before, area, parameters, shape, names = [], 0, 0, None, [], []
    with open(path) as file:
        for line in file:
            event = json.loads(line)
            if event["event"] == "start":
                parameters = event["parameters"]
                names = [m["name"] for m in event["modules"]]
            elif event["event"] == "round":
                area += parameters * (event["step"] - before)
                before, parameters = event["step"], event["parameters_after"]
                states += state_of(event)
            elif event["event"] == "end":
                shape = [len(ranks) for ranks in event["modules"]]
    area += parameters * (steps - before)
    return {"mean_parameters": area / max(steps, 1), "states": states, "modules": names, "module_ranks": shape}


def state_of(event):
    rows = event["scores"]
    whole = all(row[STATE_COLUMNS["exact"]] and row[STATE_COLUMNS["estimate"]] is not None for row in rows)
    if not rows or not whole or not event["estimator"].startswith("ablation"):
        return []
    return [{"round": event["round"], "modules": [row[1] for row in rows],
             "scores": [row[STATE_COLUMNS["score"]] for row in rows],
             "estimates": [row[STATE_COLUMNS["estimate"]] for row in rows]}]
