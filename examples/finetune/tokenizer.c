/* SPDX-License-Identifier: MIT */
/*
 * Runs a tokenizer: finds added tokens, hands the text between them to the splitter and each word to
 * BPE. Reading the file is tokenizer_json.c's work.
 */
#include "tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

#include "utf8.h"

typedef struct encoding {
    const ft_tokenizer *tokenizer;
    ft_tokens *out;
} encoding;

void ft_tokenizer_free(ft_tokenizer *tokenizer)
{
    if (!tokenizer) return;
    ft_bpe_free(tokenizer->bpe);
    ft_splitter_free(tokenizer->splitter);
    for (size_t i = 0; i < tokenizer->n_added; i++)
        free(tokenizer->added[i].text);
    free(tokenizer->added);
    ft_tokens_free(&tokenizer->before);
    ft_tokens_free(&tokenizer->after);
    free(tokenizer);
}

int32_t ft_tokenizer_n_ids(const ft_tokenizer *tokenizer)
{
    return tokenizer->n_ids;
}

int32_t ft_tokenizer_added_id(const ft_tokenizer *tokenizer, const char *text)
{
    for (size_t i = 0; i < tokenizer->n_added; i++)
        if (strcmp(tokenizer->added[i].text, text) == 0) return tokenizer->added[i].id;
    return FT_NO_TOKEN;
}

static int push_all(const ft_tokens *from, ft_tokens *out, ft_error *error)
{
    for (size_t i = 0; i < from->count; i++)
        if (ft_tokens_push(out, from->id[i])) return ft_fail_memory(error, "the tokens");
    return 0;
}

int ft_tokenizer_push_before(const ft_tokenizer *tokenizer, ft_tokens *out, ft_error *error)
{
    return push_all(&tokenizer->before, out, error);
}

int ft_tokenizer_push_after(const ft_tokenizer *tokenizer, ft_tokens *out, ft_error *error)
{
    return push_all(&tokenizer->after, out, error);
}

static int encode_word(void *user, const char *word, size_t bytes, ft_error *error)
{
    encoding *e = user;
    return ft_bpe_encode(e->tokenizer->bpe, word, bytes, e->tokenizer->whole_first, e->out, error);
}

/* The longest added token that begins here, of the early or the late ones; NULL if none does. */
static const ft_added_token *added_at(const ft_tokenizer *t, int late, const char *text, size_t bytes)
{
    const ft_added_token *longest = NULL;
    for (size_t i = 0; i < t->n_added; i++) {
        const ft_added_token *a = &t->added[i];
        if (a->late != late || a->bytes > bytes || memcmp(a->text, text, a->bytes) != 0) continue;
        if (!longest || a->bytes > longest->bytes) longest = a;
    }
    return longest;
}

/* late: 0 and 1 look for added tokens, 2 is plain text. */
static int encode_piece(encoding *e, int late, const char *text, size_t bytes, ft_error *error)
{
    if (bytes == 0) return 0;
    if (late == 2) return ft_splitter_run(e->tokenizer->splitter, text, bytes, encode_word, e, error);
    size_t from = 0;
    for (size_t at = 0; at < bytes;) {
        const ft_added_token *a = added_at(e->tokenizer, late, text + at, bytes - at);
        if (!a) {
            at++;
            continue;
        }
        if (encode_piece(e, late + 1, text + from, at - from, error)) return -1;
        if (ft_tokens_push(e->out, a->id)) return ft_fail_memory(error, "the tokens");
        from = at += a->bytes;
    }
    return encode_piece(e, late + 1, text + from, bytes - from, error);
}

int ft_tokenizer_encode(const ft_tokenizer *tokenizer, const char *text, size_t bytes, ft_tokens *out,
                        ft_error *error)
{
    size_t valid = ft_utf8_valid_prefix(text, bytes);
    if (valid < bytes)
        return ft_fail(error, "not UTF-8 at byte %zu (0x%02X)", valid + 1, (unsigned char)text[valid]);
    encoding e = {tokenizer, out};
    return encode_piece(&e, 0, text, bytes, error);
}

static const ft_added_token *added_by_id(const ft_tokenizer *t, int32_t id)
{
    for (size_t i = 0; i < t->n_added; i++)
        if (t->added[i].id == id) return &t->added[i];
    return NULL;
}

/* The bytes of one id; nothing of a special token that is to be skipped; NULL for an unknown id. */
static const char *decode_one(const ft_tokenizer *t, int32_t id, int skip_special, size_t *bytes)
{
    const ft_added_token *a = added_by_id(t, id);
    if (!a) return ft_bpe_bytes(t->bpe, id, bytes);
    *bytes = skip_special && a->special ? 0 : a->bytes;
    return a->text;
}

int ft_tokenizer_decode(const ft_tokenizer *tokenizer, const int32_t *ids, size_t count, int skip_special,
                        char **text, size_t *bytes, ft_error *error)
{
    size_t total = 0, width = 0;
    for (size_t i = 0; i < count; i++) {
        if (!decode_one(tokenizer, ids[i], skip_special, &width))
            return ft_fail(error, "no token has the id %d", ids[i]);
        total += width;
    }
    char *joined = malloc(total + 1);
    if (!joined) return ft_fail_memory(error, "the decoded text");
    *bytes = 0;
    for (size_t i = 0; i < count; i++) {
        const char *piece = decode_one(tokenizer, ids[i], skip_special, &width);
        memcpy(joined + *bytes, piece, width);
        *bytes += width;
    }
    joined[total] = '\0';
    *text = joined;
    return 0;
}
