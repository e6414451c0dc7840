# SPDX-License-Identifier: MIT
"""The table of methods. A new one is a line.

name | budgets | controls | settings
  budgets   R: equal ranks, P: equal parameters, -: none of its own (the method's size is part of it)
  controls  m: uniform ranks with the parameters that it ended with; t: trained again from its final ranks
  settings  KEY=VALUE as for finetune --set. {ranks}, {params}: uniform rank 4; {half}, {ranks2}, {ranks3}: parts and multiples;
            what {budget} is in R and P. Words in capitals stand for those of SHORT, and of OF_STEPS for what is counted in steps
A line of budget P gets allocation.budget_unit=parameters, and its name @P. Lines stand in the order of their worth: a seed is run from the top to the bottom.
"""

RANKS, PARAMS = 168, 72192  # of adapters.modules in both tasks' YAML; the driver checks them against the uniform runs
EPOCHS = {"austen": (4, 78), "gloss": (3, 250)}  # host.epochs of the YAML and steps of one; checked against runs that use them

SHORT = {
    "FIXED": "allocation.policy=fixed",
    "PRUNE": "allocation.policy=prune allocation.budget={budget}",
    "LARGE": "allocation.policy=prune allocation.budget={budget} adapters.uniform={ranks3}",
    "GRADIENT": "allocation.policy=prune start.kind=gradient",
    "TRIPLET": "adapters.init=triplet adapters.gates=zero optimizer.train_gates=true optimizer.orthogonality=0.1",
    "SENSITIVITY": "importance.estimator=sensitivity",
    "TWO_POINT": "importance.mode=two_point",
}


def halves(steps):
    """Dense for the first half, a threshold that rises over the second; one round and no look at dev before that is done: until
    then the ranks are all there."""
    dense = steps // 2
    return (f"optimizer.gate_dense_steps={dense} optimizer.gate_rise_steps={steps - dense} host.evaluate_every={steps} "
            f"schedule.unit=steps schedule.warmup={steps - 1} schedule.recovery=1 schedule.rounds=1")


OF_STEPS = {"HALVES": halves}

TABLE = """
uniform          | R  |    | FIXED
random           | RP |    | importance.estimator=random
alora            | RP | mt | importance.mode=screened
two-point        | R  | mt | TWO_POINT
gradient-prune   | RP | mt | GRADIENT SENSITIVITY
large-prune      | RP | mt | LARGE SENSITIVITY
gradient-static  | RP |    | FIXED start.kind=gradient start.multiple=1
gradient-prune-2p| RP |    | GRADIENT TWO_POINT
sensitivity      | R  | m  | SENSITIVITY
gradient2-prune  | P  |    | GRADIENT SENSITIVITY start.multiple=2
gradient5-prune  | P  |    | GRADIENT SENSITIVITY start.multiple=5
gradient-random  | P  |    | GRADIENT importance.estimator=random
large-random     | P  |    | LARGE importance.estimator=random
reversed         | R  |    | TWO_POINT importance.reversed=true
large-prune-2p   | RP |    | LARGE TWO_POINT
eva              | R  | m  | FIXED start.kind=eva
lora-one         | R  |    | FIXED start.kind=lora_one
orthogonal       | R  |    | FIXED start.kind=orthogonal
gelora           | -  |    | FIXED start.kind=gelora
adalora          | R  | m  | allocation.policy=adalora allocation.budget={budget} adapters.uniform={ranks2} TRIPLET SENSITIVITY
output           | R  |    | importance.estimator=output
exact            | R  |    | importance.mode=screened importance.pool=100000
uniform-2        | -  |    | FIXED adapters.uniform={half}
uniform-8        | -  |    | FIXED adapters.uniform={ranks2}
uniform-12       | -  |    | FIXED adapters.uniform={ranks3}
large2-prune     | R  |    | PRUNE adapters.uniform={ranks2} SENSITIVITY
elalora          | R  | m  | allocation.policy=elalora allocation.n_move=5 SENSITIVITY
increlora        | R  | m  | allocation.policy=increlora adapters.uniform={half} allocation.budget={budget} allocation.grow_modules=11 SENSITIVITY
sensitivity-pair | R  |    | SENSITIVITY importance.sensitivity=pair
taylor           | R  |    | importance.estimator=taylor
taylor-signed    | R  |    | importance.estimator=taylor importance.taylor=signed
magnitude        | R  |    | importance.estimator=magnitude
selection        | R  |    | importance.estimator=selection
gora             | -  | m  | FIXED start.kind=gora
autolora         | -  | mt | allocation.policy=threshold allocation.threshold=0.999999 adapters.uniform={ranks2} importance.estimator=selection schedule.rounds=1
salience         | R  | m  | PRUNE adapters.uniform={ranks2} TRIPLET importance.estimator=salience
sora             | -  | m  | allocation.policy=threshold allocation.threshold=0 adapters.uniform={ranks2} adapters.gates=gaussian optimizer.train_gates=true optimizer.gate_threshold=1.6 optimizer.gate_scaled=true importance.estimator=gate
codyra           | -  | m  | allocation.policy=threshold allocation.threshold=0 adapters.uniform={ranks2} adapters.gates=gaussian optimizer.train_gates=true optimizer.gate_threshold=12 optimizer.gate_scaled=true optimizer.gate_stairs=50 HALVES importance.estimator=gate
nested           | R  |    | FIXED adapters.nested=cumulative
nested-frozen    | R  |    | FIXED adapters.nested=frozen
"""

# Costs several times what the others do: not run unless it is named.
COSTLY = """
gradient-prune-screened | P | | allocation.policy=prune start.kind=gradient importance.mode=screened
gradient-alora          | P | | start.kind=gradient start.multiple=1 importance.mode=screened
"""

QUICK = ["uniform", "random", "alora", "gradient-prune-2p@P"]


class Method:
    def __init__(self, name, budget, settings, source=None, kind="method"):
        self.name, self.budget, self.settings = name, budget, settings
        self.source, self.kind = source, kind  # source: the method whose run of the same seed it needs

    def touches_initial(self):
        return any(s.startswith(("adapters.", "seed")) for s in self.settings)

    def of_steps(self):
        return any(s in OF_STEPS for s in self.settings)

    def settings_for(self, steps):
        """With what depends on the number of steps."""
        return [word for s in self.settings for word in (OF_STEPS[s](steps).split() if s in OF_STEPS else [s])]


def steps_of(task, settings):
    """Of a run with these settings."""
    epochs, each = EPOCHS[task]
    for key, _, value in (s.partition("=") for s in settings):
        if key == "host.epochs":
            epochs = float(value)
    return int(epochs * each + 0.5)


def _fill(settings, budget):
    values = {
        "half": RANKS // 2, "ranks": RANKS, "ranks2": 2 * RANKS, "ranks3": 3 * RANKS, "params": PARAMS,
        "budget": PARAMS if budget == "P" else RANKS,
    }
    words = [SHORT.get(word, word) for word in settings.split()]
    filled = " ".join(words).format(**values).split()
    return filled + (["allocation.budget_unit=parameters"] if budget == "P" else [])


def _row(line):
    name, budgets, controls, settings = (part.strip() for part in line.split("|"))
    for budget in budgets:
        full = name + ("@P" if budget == "P" else "")
        method = Method(full, budget, _fill(settings, budget))
        yield method
        if "m" in controls and budget != "P":  # at equal parameters it is `uniform` itself
            yield Method(full + "/matched", budget, [SHORT["FIXED"], "adapters.uniform_unit=parameters",
                                                     "adapters.uniform={final_parameters}"], full, "matched")
        if "t" in controls:
            yield Method(full + "/again", budget, [SHORT["FIXED"], "adapters.ranks_from={pattern}"], full, "again")


def _read(text):
    return [m for line in text.strip().splitlines() for m in _row(line)]


def methods(names=None, quick=False):
    """All methods, or those named, with the sources that they need, in the table's order."""
    every = _read(TABLE) + _read(COSTLY)
    wanted = QUICK if quick and not names else names or [m.name for m in _read(TABLE)]
    by_name = {m.name: m for m in every}
    unknown = [n for n in wanted if n not in by_name]
    if unknown:
        raise SystemExit(f"compare: no method {', '.join(unknown)} (--list names them)")
    chosen = set(wanted) | {by_name[n].source for n in wanted}
    # Controls come after every method of the table: a stopped comparison has each method first.
    return sorted((m for m in every if m.name in chosen), key=lambda m: m.kind != "method")
