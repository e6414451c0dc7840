/* SPDX-License-Identifier: MIT */
/*
 * Byte-level BPE: a vocabulary of byte strings and ranked merges of token pairs.
 *
 * Knows nothing of JSON, of regular expressions or of special tokens; tokenizer.c splits text into
 * the words given here. Once built, a vocabulary is read-only and may be shared between threads.
 */
#ifndef FT_BPE_H
#define FT_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "failure.h"

#define FT_NO_TOKEN (-1)

/* A growing list of token ids. Starts as {0}; ft_tokens_free empties it. */
typedef struct ft_tokens {
    int32_t *id;
    size_t count, capacity;
} ft_tokens;

int ft_tokens_push(ft_tokens *tokens, int32_t id);
void ft_tokens_free(ft_tokens *tokens);

typedef struct ft_bpe ft_bpe;

/* n_ids: one more than the largest id. n_merges: how many ft_bpe_add_merge calls will follow at most. */
ft_bpe *ft_bpe_create(int32_t n_ids, size_t n_merges);
void ft_bpe_free(ft_bpe *bpe);

/*
 * Add token `id` spelled in the byte-level alphabet (one printable character for each byte), UTF-8.
 * A spelling with other characters is kept as it stands: it decodes to itself and no merge makes it.
 */
int ft_bpe_add_token(ft_bpe *bpe, int32_t id, const char *spelling, size_t bytes, ft_error *error);

/* Add the next merge in order of priority. All three tokens must have been added before. */
int ft_bpe_add_merge(ft_bpe *bpe, const char *left, size_t left_bytes, const char *right, size_t right_bytes,
                     ft_error *error);

/* Append the tokens of one word. whole_first: a word that is a token is not split first. */
int ft_bpe_encode(const ft_bpe *bpe, const char *word, size_t bytes, int whole_first, ft_tokens *out,
                  ft_error *error);

/* The bytes a token stands for, or NULL for an id without token. */
const char *ft_bpe_bytes(const ft_bpe *bpe, int32_t id, size_t *bytes);

#endif
