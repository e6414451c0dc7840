# SPDX-License-Identifier: MIT
# What the tests over MPI share; they source it with: "MPIRUN" FINETUNE_MPI FINETUNE WORK_FOLDER.
mpirun=$1 program=$2 plain=$3 work=$4
rm -rf "$work" && mkdir -p "$work"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
head -n 84 examples/data/austen/train.jsonl >"$work/train.jsonl"
head -n 6 examples/data/austen/dev.jsonl >"$work/dev.jsonl"

fail() { echo "mpi test: $*"; exit 1; }
# arguments NAME OUT: of a run with the configuration NAME.yaml.
arguments() {
    echo "--model examples/models/gloss-llama --train $work/train.jsonl --dev $work/dev.jsonl --config $work/$1.yaml --out $2 --threads 1 --report-command true"
}
# train NAME OUT COMMAND...
train() {
    name=$1 out=$2
    shift 2
    "$@" $(arguments "$name" "$out") >"$out.txt" 2>"$out.err" || { cat "$out.txt" "$out.err"; exit 1; }
}
same() {
    for file in adapter/adapter_model.safetensors adapter/adapter_config.json; do
        cmp "$1/$file" "$2/$file" || exit 1
    done
}
# facts OUT WHAT: lines of the run's starts or rounds, with their digests and, for every worker, its work.
facts() { grep "^workers [0-9]*  $2 " "$1.txt"; }
