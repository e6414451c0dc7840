/* SPDX-License-Identifier: MIT */
/* What a tokenizer is made of: shared by tokenizer.c, which runs it, and tokenizer_json.c, which reads it. */
#ifndef FT_TOKENIZER_PARTS_H
#define FT_TOKENIZER_PARTS_H

#include "bpe.h"
#include "split.h"
#include "tokenizer.h"

typedef struct ft_added_token {
    char *text;
    size_t bytes;
    int32_t id;
    int special;
    int late; /* "normalized": looked for only between the tokens that are not */
} ft_added_token;

struct ft_tokenizer {
    ft_bpe *bpe;
    ft_splitter *splitter;
    ft_added_token *added;
    size_t n_added;
    ft_tokens before, after; /* what the post-processor's template adds */
    int32_t n_ids;
    int whole_first; /* "ignore_merges" */
};

#endif
