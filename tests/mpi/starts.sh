#!/bin/sh
# SPDX-License-Identifier: MIT
# starts.sh "MPIRUN" FINETUNE_MPI FINETUNE WORK_FOLDER: every start with 1, 2, 3 and 4 workers. One worker gives the adapter of the
# trainer without MPI; all workers of a run begin with the same bits; what is made of weights or points begins with the same bits whatever
# the number of workers, what is a sum with the same ranks; batches are shared out; and the gradient start is pruned back by shared
# evaluations.
set -eu
. "$(dirname "$0")/common.sh"

# config NAME ALLOCATION ROUNDS: NAME is a kind of start.
config() {
    cat >"$work/$1.yaml" <<END
seed: 7
adapters:
  modules: [{pattern: "*q_proj", rank: 2, scale: 2}, {pattern: "*down_proj", rank: 2, scale: 2}]
start: {kind: $1$4}
importance: {estimator: ablation, mode: exact}
allocation: {policy: $2}
learning_rate: {kind: linear, peak: 0.005}
schedule: {unit: steps, warmup: 1, recovery: 1, rounds: $3}
host: {epochs: 0.29, batch: 12, seq_len: 32, validation_rows: 3}
END
}
digest() { facts "$1" start | awk '{ print $6 }'; }
# The busiest worker's work in the last line of facts.
busiest() { awk '{ m = 0; for (i = 8; i <= NF; i++) if ($i > m) m = $i } END { print m }'; }

# check NAME SHARED EXACT: whether batches are shared out; what is made of a "sum" has the same ranks whatever the number of workers,
# of "states" each their own, of anything else the same bits.
check() {
    train $1 "$work/$1" "$plain"
    for n in 1 2 3 4; do
        out="$work/$1-$n"
        train $1 "$out" $mpirun -n $n "$program"
        [ "$(facts "$out" start | wc -l)" = 1 ] || fail "$1, $n workers: no start"
        for w in $(seq 1 $((n - 1))); do same "$out" "$out.worker$w"; done
        if [ $n = 1 ]; then same "$work/$1" "$out"; fi
        [ $3 = states ] || cmp "$work/$1-1/adapter/adapter_config.json" "$out/adapter/adapter_config.json" || fail "$1, $n workers: other ranks than one"
        ran=$(facts "$out" start | busiest) whole=$(facts "$work/$1-1" start | busiest)
        if [ $2 = shared ]; then
            [ $ran = $(((whole + n - 1) / n)) ] || fail "$1, $n workers: the busiest ran $ran of $whole batches"
        fi
        equal=equal
        [ "$(digest "$out")" = "$(digest "$work/$1-1")" ] || equal="other bits"
        [ $3 = sum ] || [ $3 = states ] || [ "$equal" = equal ] || fail "$1: $n workers begin otherwise than one"
        echo "$1, $n workers: $ran of $whole batches on the busiest; against one worker: $equal"
    done
}

config gradient prune 2 ", batches: 6, multiple: 2, directions: 8, cap: 8"
check gradient shared sum
for n in 1 2 3 4; do
    ran=$(facts "$work/gradient-$n" round | busiest) whole=$(facts "$work/gradient-1" round | busiest)
    # two rounds: in each two baselines on all, and of the rest a share rounded up to whole ranks
    [ $((ran - 4)) -le $(((whole - 4 + n - 1) / n + 4)) ] || fail "gradient, $n workers: $ran of $whole evaluations"
    echo "gradient, $n workers: $ran of $whole evaluations on the busiest"
done
for kind in lora_ga lora_one; do
    config $kind fixed 0 ", batches: 6, directions: 8"
    check $kind shared sum
done
config gelora fixed 0 ", batches: 6"
check gelora shared points
config eva fixed 0 ", batches: 6"
check eva shared states
for kind in pissa olora orthogonal; do
    config $kind fixed 0 ""
    check $kind whole bits
done
echo "mpi starts: good"
