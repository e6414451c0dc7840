#!/bin/sh
# SPDX-License-Identifier: MIT
# rounds.sh "MPIRUN" FINETUNE_MPI FINETUNE WORK_FOLDER: trains the bundled model with 1, 2, 3 and 4 workers, exact and
# screened. One worker gives the files of the trainer without MPI; all workers of a run give the same adapter; the same
# run twice gives the same; and of the evaluations of a round each worker makes its share and no more.
set -eu
. "$(dirname "$0")/common.sh"

config() {
    cat >"$work/$1.yaml" <<END
seed: 7
adapters:
  dropout: 0.1
  modules: [{pattern: "*q_proj", rank: 2, scale: 2}, {pattern: "*down_proj", rank: 2, scale: 2}]
importance: {estimator: ablation, mode: $1}
allocation: {policy: alora, n_move: 2}
learning_rate: {kind: linear, peak: 0.005}
schedule: {unit: steps, warmup: 3, recovery: 3, rounds: 3}
host: {epochs: 2, batch: 12, seq_len: 32, validation_rows: 3, redraw_validation: true}
END
}

for mode in exact screened; do
    config $mode
    train $mode "$work/$mode" "$plain"
    for n in 1 2 3 4; do
        out="$work/$mode-$n"
        train $mode "$out" $mpirun -n $n "$program"
        [ "$(facts "$out" round | wc -l)" = 3 ] || fail "$mode, $n workers: not three rounds"
        for w in $(seq 1 $((n - 1))); do same "$out" "$out.worker$w"; done
        if [ $n = 1 ]; then same "$work/$mode" "$out"; fi
        facts "$out" round >"$out.facts"
        facts "$work/$mode-1" round | awk -v n=$n -v mode=$mode -v out="$out" '
            BEGIN { while ((getline line < (out ".facts")) > 0) { k++; split(line, f); sum[k] = most[k] = 0
                        for (i = 8; i < 8 + n; i++) { sum[k] += f[i]; if (f[i] > most[k]) most[k] = f[i] } } }
            { one = $8 }
            # the two baselines of a round are everyones; the pool may differ with the numbers of a screen, so sums are of one run
            END { if (mode == "exact" && sum[k] != one + 2 * k * (n - 1)) { print "sum", sum[k], "of", one; exit 1 }
                  ranks = (sum[k] - 2 * k * n) / k
                  if (mode == "exact" && most[k] > k * (2 + 2 * int((ranks / 2 + n - 1) / n))) { print "most", most[k]; exit 1 }
                  printf "%-8s %d workers: evaluations of the busiest %d, of a single one %d\n", mode, n, most[k], one }
            ' || fail "$mode, $n workers: evaluations are not shared out"
    done
    train $mode "$work/$mode-again" $mpirun -n 3 "$program"
    facts "$work/$mode-again" round | cmp - "$work/$mode-3.facts" || fail "$mode: the same run twice differs"
    same "$work/$mode-again" "$work/$mode-3"
    equal=1
    for n in 2 3 4; do
        cmp -s "$work/$mode-1/adapter/adapter_model.safetensors" "$work/$mode-$n/adapter/adapter_model.safetensors" || equal=0
    done
    echo "$mode: adapters of 1, 2, 3 and 4 workers are $([ $equal = 1 ] && echo equal || echo "not equal bit for bit: sums in another grouping")"
done
echo "mpi rounds: good"
