#!/bin/sh
# SPDX-License-Identifier: MIT
# control.sh [BUILD] [SEEDS]: fixed ranks, ALoRA and random reallocation on the Austen task with several seeds; one line
# a run. docs/evidence.md holds what it printed. About 30 s a run on two idle cores.
set -eu
build=${1:-build/release}
seeds=${2:-1 2 3}
out=build/control
task=examples/data/austen
for seed in $seeds; do
    for setting in allocation.policy=fixed importance.mode=screened importance.estimator=random; do
        rm -rf "$out"
        "$build/finetune" --model examples/models/gloss-llama --train $task/train.jsonl --dev $task/dev.jsonl \
            --test $task/test.jsonl --config examples/finetune/austen.yaml --set "$setting" --seed "$seed" \
            --out "$out" >build/control.log 2>&1 || { cat build/control.log >&2; exit 1; }
        printf 'seed %s  %-27s %s\n' "$seed" "$setting" "$(grep '^adapted' build/control.log)"
    done
done
