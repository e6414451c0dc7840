/* SPDX-License-Identifier: MIT */
/*
 * The example trainer as a program, in a folder of one test with rows of train, dev and test and a configuration of three
 * rounds on a model of two small blocks. Everything ck_asserts.
 */
#ifndef TRAINER_RIG_H
#define TRAINER_RIG_H

#include <jansson.h>

#define TRAINER_MODEL "tests/golden/llama-tiny"

/* Arguments of a training run, $D is the folder. */
#define TRAINER_TRAIN                                                                                        \
    "--model " TRAINER_MODEL                                                                                 \
    " --train $D/train.jsonl --dev $D/dev.jsonl --test $D/test.jsonl --config $D/config.yaml "

/* AdaLoRA on that configuration, with its orthogonality term and without. */
#define TRAINER_ADALORA_FORM                                                                                 \
    "--set adapters.init=triplet --set adapters.gates=zero --set optimizer.train_gates=true "                \
    "--set importance.estimator=sensitivity --set allocation.policy=adalora --set allocation.budget=10 "
#define TRAINER_ADALORA TRAINER_ADALORA_FORM "--set optimizer.orthogonality=0.1 "

extern char trainer_folder[64];

void trainer_setup(void);
void trainer_teardown(void);

/* Files of the folder. The text of get() is valid until the next one. */
void trainer_put(const char *name, const char *text);
void trainer_put_rows(const char *name, int n, int first);
char *trainer_get(const char *name);
int trainer_exists(const char *name);

/* Runs the program in the test's folder of names; output goes to FOLDER/stdout and FOLDER/stderr. The exit status. */
int trainer_run(const char *arguments);
/* The same with `before` in front of the program, as in "timeout 1". */
int trainer_run_under(const char *before, const char *arguments);
/* A training run that ends well. */
void trainer_train_ok(const char *arguments);

json_t *trainer_summary_of(const char *out);
/* summary.json without the members that are times; `without` (may be NULL) is taken out too. free() it. */
char *trainer_timeless(const char *out, const char *without);

/* Two output folders hold the same adapter, trace and summary. */
int trainer_same_file(const char *a, const char *b, const char *name);
void trainer_same_results(const char *a, const char *b, const char *without);

#endif
