#!/bin/sh
# SPDX-License-Identifier: MIT
# start_control.sh [BUILD] [SEEDS] [ARMS]: ways to start, and what to do afterwards, on the Austen task at equal parameters, with
# several seeds; one line a run. docs/evidence.md holds what it printed. About 30 s a run on two idle cores.
set -eu
build=${1:-build/release}
seeds=${2:-1 2 3}
arms=${3:-uniform alora static random large ranks_only prune} # also: ranks, sensitivity
task=examples/data/austen
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# Options of an arm. All but `ranks` end with at most the parameters of rank 4 everywhere, or near it (alora).
options() {
    gradient="--set start.kind=gradient --set allocation.budget_unit=parameters"
    prune="$gradient --set allocation.policy=prune"
    case $1 in
    uniform) echo "--set allocation.policy=fixed" ;;
    alora) echo "--set importance.mode=screened" ;;
    static) echo "$gradient --set start.multiple=1 --set allocation.policy=fixed" ;;
    prune) echo "$prune --set importance.mode=two_point" ;;
    sensitivity) echo "$prune --set importance.estimator=sensitivity" ;;
    random) echo "$prune --set importance.estimator=random" ;;
    ranks_only) echo "$prune --set importance.mode=two_point --set start.ranks_only=true" ;;
    large) echo "--set allocation.policy=prune --set allocation.budget_unit=parameters --set allocation.budget=72192 \
--set importance.mode=two_point" ;;
    ranks) echo "--set start.kind=gradient --set allocation.policy=prune --set importance.mode=two_point" ;;
    *) echo "unknown arm $1" >&2 && exit 1 ;;
    esac
}

for seed in $seeds; do
    for arm in $arms; do
        rank=4 && [ "$arm" != large ] || rank=12
        sed "s/rank: 4/rank: $rank/" examples/finetune/austen.yaml >"$out/config.yaml"
        # shellcheck disable=SC2046
        "$build/finetune" --model examples/models/gloss-llama --train $task/train.jsonl --dev $task/dev.jsonl \
            --test $task/test.jsonl --config "$out/config.yaml" $(options "$arm") --seed "$seed" --out "$out/run" \
            >"$out/log" 2>&1 || { cat "$out/log" >&2; exit 1; }
        printf 'seed %s  %-11s %s  %s\n' "$seed" "$arm" "$(grep '^adapted' "$out/log")" "$(grep '^ranks' "$out/log")"
        rm -rf "$out/run"
    done
done
