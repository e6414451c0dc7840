/* SPDX-License-Identifier: MIT */
/*
 * A Hugging Face tokenizer.json with byte-level BPE: text to token ids and back.
 *
 * Supported: model BPE without dropout, unknown token, prefix or suffix; no normalizer; pre-tokenizers
 * ByteLevel, Split (a Regex, behavior Isolated), Digits, and sequences of them that end in ByteLevel;
 * added tokens matched literally; post-processors ByteLevel and TemplateProcessing. Everything else in
 * a file is refused by name, because ids that differ from what the model was trained on are worse than none.
 */
#ifndef FT_TOKENIZER_H
#define FT_TOKENIZER_H

#include "bpe.h"
#include "failure.h"

typedef struct ft_tokenizer ft_tokenizer;

int ft_tokenizer_load(const char *path, ft_tokenizer **out, ft_error *error);
void ft_tokenizer_free(ft_tokenizer *tokenizer);

/* One more than the largest token id. */
int32_t ft_tokenizer_n_ids(const ft_tokenizer *tokenizer);

/* The id of an added (special) token such as "</s>", or FT_NO_TOKEN. */
int32_t ft_tokenizer_added_id(const ft_tokenizer *tokenizer, const char *text);

/* Append the ids of a text. Added tokens that stand in the text become their ids. */
int ft_tokenizer_encode(const ft_tokenizer *tokenizer, const char *text, size_t bytes, ft_tokens *out,
                        ft_error *error);

/* Append what the post-processor puts before, or after, a single text. Often nothing. */
int ft_tokenizer_push_before(const ft_tokenizer *tokenizer, ft_tokens *out, ft_error *error);
int ft_tokenizer_push_after(const ft_tokenizer *tokenizer, ft_tokens *out, ft_error *error);

/*
 * The text of ids, NUL-terminated, for the caller to free. Tokens can end inside a character, so the
 * result need not be valid UTF-8. skip_special leaves special tokens out.
 */
int ft_tokenizer_decode(const ft_tokenizer *tokenizer, const int32_t *ids, size_t count, int skip_special,
                        char **text, size_t *bytes, ft_error *error);

#endif
