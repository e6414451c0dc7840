/* SPDX-License-Identifier: MIT */
/*
 * The run on disk: OUT/checkpoint.lrk and, before it, OUT/checkpoint.previous.lrk. Beside lorank's own state it holds what
 * the loop remembers, the best adapter so far, the configuration, a hash of the rows and the number of workers, so that a run
 * goes on only with what it was begun with. Of several workers the first saves, and all go on from what it saved.
 */
#ifndef FT_CHECKPOINT_H
#define FT_CHECKPOINT_H

#include "args.h"
#include "failure.h"
#include "lorank/lorank.h"
#include "output.h"
#include "trainer.h"

typedef struct ft_checkpoint {
    lrk_checkpoint *list;
    lrk_context *context;
    char path[FT_PATH], previous[FT_PATH], fresh[FT_PATH], damaged[FT_PATH];
    uint64_t rows;   /* hash */
    int64_t workers; /* of the run */
    char *config;
    size_t config_bytes;
    void *memory; /* the loop's; its size tells one layout from another */
    size_t memory_bytes;
} ft_checkpoint;

/* The checkpoint starts as {0} and can be freed whether or not this succeeds. It borrows trainer and memory. */
int ft_checkpoint_create(ft_checkpoint *checkpoint, const ft_trainer *trainer, const ft_args *args,
                         void *memory, size_t memory_bytes, ft_error *error);
void ft_checkpoint_free(ft_checkpoint *checkpoint);

/* best: the best adapter so far, or NULL. */
int ft_checkpoint_save(ft_checkpoint *checkpoint, const lrk_snapshot *best, ft_error *error);

/*
 * Puts trainer, memory and *best into the state that was saved last; a damaged file is named on standard error, and the one
 * before it serves. *found is 0 if there is none.
 */
int ft_checkpoint_restore(ft_checkpoint *checkpoint, lrk_snapshot **best, int *found, ft_error *error);

#endif
