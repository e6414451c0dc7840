/* SPDX-License-Identifier: MIT */
/*
 * The pre-tokenizer: cuts text into the words that BPE then merges within, by a sequence of steps.
 * A step either splits by a pattern, keeping both the matches and what lies between them, or puts a
 * space before a piece that does not begin with one.
 */
#ifndef FT_SPLIT_H
#define FT_SPLIT_H

#include <stddef.h>

#include "failure.h"

/* The pattern of GPT-2, which a ByteLevel pre-tokenizer with use_regex applies. */
extern const char ft_gpt2_pattern[];

typedef struct ft_splitter ft_splitter;

ft_splitter *ft_splitter_create(void);
void ft_splitter_free(ft_splitter *splitter);

int ft_splitter_add_pattern(ft_splitter *splitter, const char *pattern, ft_error *error);
int ft_splitter_add_prefix_space(ft_splitter *splitter, ft_error *error);

/* Called once for each word, in order; a result other than 0 ends the run with an error already set. */
typedef int ft_word_fn(void *user, const char *word, size_t bytes, ft_error *error);

/* text must be valid UTF-8. */
int ft_splitter_run(const ft_splitter *splitter, const char *text, size_t bytes, ft_word_fn *word, void *user,
                    ft_error *error);

#endif
