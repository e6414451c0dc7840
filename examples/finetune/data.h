/* SPDX-License-Identifier: MIT */
/*
 * Training rows: JSON lines to token sequences to batches.
 *
 * A file holds rows of one kind, {"prompt": ..., "completion": ...} or {"text": ...}. Prompt and completion
 * are tokenized apart and joined; loss counts on the completion and the end token. Texts are joined with
 * the end token and cut into windows of seq_len inputs, each token a target once; what is left at the end
 * is dropped and counted.
 *
 * Exact match of a row means that every target is the most likely token after the ones before it, which is
 * the same as greedy generation giving exactly the completion.
 */
#ifndef FT_DATA_H
#define FT_DATA_H

#include <stdint.h>

#include "failure.h"
#include "model.h"
#include "tokenizer.h"

#define FT_ROWS_COMPLETION 0
#define FT_ROWS_TEXT       1

/* One sequence: targets are tokens[first_target .. n), each predicted from those before it. */
typedef struct ft_row {
    int64_t begin; /* in ft_data.tokens */
    int64_t n;
    int64_t first_target;
} ft_row;

typedef struct ft_data {
    int32_t kind; /* FT_ROWS_... */
    int64_t n_rows;
    int64_t n_targets;
    int64_t longest; /* most inputs of a row */
    int64_t dropped; /* tokens of the last, unfilled window */
    ft_row *rows;
    int32_t *tokens;
} ft_data;

/*
 * seq_len: most inputs (tokens less one) of a row; a longer completion row is an error that names its line.
 * end_token ends every completion and every text.
 */
int ft_data_read(const char *path, const ft_tokenizer *tokenizer, int32_t end_token, int64_t seq_len,
                 ft_data *data, ft_error *error);
void ft_data_free(ft_data *data);

/* A batch and the memory behind it. Starts as {0}; grows as needed. */
typedef struct ft_batch {
    llama_batch view;
    int32_t *tokens, *targets;
    int64_t capacity;
} ft_batch;

/* Put rows[0..n) side by side, padded on the right to the longest; padding is never a target. */
int ft_batch_fill(ft_batch *batch, const ft_data *data, const int64_t *rows, int64_t n, ft_error *error);
void ft_batch_free(ft_batch *batch);

/* A permutation of 0 .. n-1 that depends on (seed, stream) alone: epochs use streams 0, 1, ... */
void ft_shuffle(int64_t *order, int64_t n, uint64_t seed, uint64_t stream);

#define FT_STREAM_START      (UINT64_C(1) << 33) /* rows of the gradient start */
#define FT_STREAM_VALIDATION (UINT64_C(1) << 32) /* + round, if the batch is drawn anew */

#endif
