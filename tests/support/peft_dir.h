/* SPDX-License-Identifier: MIT */
/*
 * For tests of PEFT directories: a context that counts, a folder that is not there yet, sets of every sort, and equality
 * of sets bit for bit. Everything ck_asserts on failure.
 */
#ifndef PEFT_DIR_H
#define PEFT_DIR_H

#include "fault.h"
#include "lorank/lorank.h"
#include "scratch.h"

extern fault peft_host;
extern lrk_context *peft_context;
extern scratch peft_files;
extern char peft_dir[2 * SCRATCH_PATH];

void peft_setup(void);
void peft_teardown(void);

const char *peft_path(const char *name); /* in peft_dir; valid until the next call */
lrk_peft_options peft_alpha(double alpha);
void peft_save(const lrk_adapters *adapters, double alpha);
lrk_adapters *peft_load(const lrk_adapters_options *options);

/* Names, stages, groups, flags and scales of every sort, and a module of rank 0. */
lrk_adapters *peft_varied(void);
/* Values of all magnitudes, zeros and tiny ones too; gates as well if asked. */
void peft_fill(lrk_adapters *adapters, uint64_t seed, bool gates);
/* Drops ranks and adds others: identities, births and initial ranks part. */
void peft_move_ranks(lrk_adapters *adapters, int64_t n_move, int64_t step);
/* Everything but the counters of changes is the same. */
void peft_same(const lrk_adapters *a, const lrk_adapters *b);

#endif
