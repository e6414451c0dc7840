/* SPDX-License-Identifier: MIT */
/*
 * Reads and batches rows. A file is read whole or not at all: the first row that does not fit the rules
 * ends with one line that names the file, the line and what is wrong.
 */
#include "data.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"

typedef struct reader {
    const char *path;
    int64_t line;
    const ft_tokenizer *tokenizer;
    int32_t end_token;
    int64_t seq_len;
    ft_tokens tokens;
    int64_t rows_capacity;
    ft_data *data;
} reader;

static int fail_line(const reader *r, ft_error *error, const char *what)
{
    return ft_fail(error, "%s:%lld: %s", r->path, (long long)r->line, what);
}

static int add_row(reader *r, ft_row row, ft_error *error)
{
    ft_data *d = r->data;
    if (d->n_rows == r->rows_capacity) {
        int64_t capacity = r->rows_capacity ? 2 * r->rows_capacity : 256;
        ft_row *grown = realloc(d->rows, (size_t)capacity * sizeof *grown);
        if (!grown) return ft_fail_memory(error, "the rows");
        d->rows = grown;
        r->rows_capacity = capacity;
    }
    d->rows[d->n_rows++] = row;
    d->n_targets += row.n - row.first_target;
    if (row.n - 1 > d->longest) d->longest = row.n - 1;
    return 0;
}

static int encode(reader *r, const json_t *text, ft_error *error)
{
    ft_error inner;
    if (ft_tokenizer_encode(r->tokenizer, json_string_value(text), json_string_length(text), &r->tokens,
                            &inner))
        return fail_line(r, error, inner.text);
    return 0;
}

static int end_row(reader *r, ft_error *error)
{
    return ft_tokens_push(&r->tokens, r->end_token) ? ft_fail_memory(error, "the tokens") : 0;
}

static int add_completion(reader *r, const json_t *prompt, const json_t *completion, ft_error *error)
{
    size_t begin = r->tokens.count;
    if (ft_tokenizer_push_before(r->tokenizer, &r->tokens, error) || encode(r, prompt, error)) return -1;
    size_t first_target = r->tokens.count;
    if (encode(r, completion, error)) return -1;
    if (first_target == begin) return fail_line(r, error, "the prompt is empty");
    if (r->tokens.count == first_target) return fail_line(r, error, "the completion is empty");
    if (end_row(r, error)) return -1;
    ft_row row = {(int64_t)begin, (int64_t)(r->tokens.count - begin), (int64_t)(first_target - begin)};
    if (row.n - 1 > r->seq_len)
        return ft_fail(error, "%s:%lld: the row takes %lld tokens, the sequence length is %lld", r->path,
                       (long long)r->line, (long long)row.n - 1, (long long)r->seq_len);
    return add_row(r, row, error);
}

static int add_text(reader *r, const json_t *text, ft_error *error)
{
    if (ft_tokenizer_push_before(r->tokenizer, &r->tokens, error)) return -1;
    return encode(r, text, error) || end_row(r, error) ? -1 : 0;
}

/* The kind of a row by its keys, or -1. Keys other than those of its kind are refused, not passed over. */
static int kind_of(const reader *r, json_t *row, ft_error *error)
{
    const char *key;
    json_t *value;
    if (!json_is_object(row)) return fail_line(r, error, "the row is not an object");
    int kind = json_object_get(row, "text") ? FT_ROWS_TEXT : FT_ROWS_COMPLETION;
    json_object_foreach(row, key, value)
    {
        int expected = kind == FT_ROWS_TEXT ? strcmp(key, "text") == 0
                                            : strcmp(key, "prompt") == 0 || strcmp(key, "completion") == 0;
        if (!expected)
            return ft_fail(error, "%s:%lld: unexpected key '%s' (rows are {prompt, completion} or {text})",
                           r->path, (long long)r->line, key);
        if (!json_is_string(value))
            return ft_fail(error, "%s:%lld: the value of '%s' is not a string", r->path, (long long)r->line,
                           key);
    }
    if (kind == FT_ROWS_COMPLETION && !json_object_get(row, "prompt"))
        return fail_line(r, error, "the row lacks 'prompt'");
    if (kind == FT_ROWS_COMPLETION && !json_object_get(row, "completion"))
        return fail_line(r, error, "the row lacks 'completion'");
    return kind;
}

static int add_object(reader *r, json_t *row, ft_error *error)
{
    int kind = kind_of(r, row, error);
    if (kind < 0) return -1;
    if (r->data->kind >= 0 && kind != r->data->kind)
        return fail_line(
            r, error,
            "the row is of another kind than those before it ({text} and {prompt, completion} mixed)");
    r->data->kind = kind;
    if (kind == FT_ROWS_TEXT) return add_text(r, json_object_get(row, "text"), error);
    return add_completion(r, json_object_get(row, "prompt"), json_object_get(row, "completion"), error);
}

static int add_line(reader *r, const char *line, size_t bytes, ft_error *error)
{
    json_error_t why;
    size_t valid = ft_utf8_valid_prefix(line, bytes);
    if (valid < bytes)
        return ft_fail(error, "%s:%lld:%zu: not UTF-8 (byte 0x%02X)", r->path, (long long)r->line, valid + 1,
                       (unsigned char)line[valid]);
    if (strspn(line, " \t\r\n") == bytes) return 0;
    json_t *row = json_loadb(line, bytes, JSON_REJECT_DUPLICATES, &why);
    if (!row) return ft_fail(error, "%s:%lld:%d: %s", r->path, (long long)r->line, why.column, why.text);
    int failed = add_object(r, row, error);
    json_decref(row);
    return failed;
}

/* Windows overlap by one token: the last target of one is the first input of the next. */
static int cut_windows(reader *r, ft_error *error)
{
    int64_t n = (int64_t)r->tokens.count, at = 0;
    for (; at + r->seq_len < n; at += r->seq_len)
        if (add_row(r, (ft_row){at, r->seq_len + 1, 1}, error)) return -1;
    r->data->dropped = n - at - (at > 0);
    if (r->data->n_rows == 0)
        return ft_fail(error, "%s: %lld tokens do not fill one window of %lld", r->path, (long long)n,
                       (long long)r->seq_len);
    return 0;
}

static int read_lines(reader *r, FILE *file, ft_error *error)
{
    char *line = NULL;
    size_t capacity = 0;
    int failed = 0;
    for (ssize_t bytes; !failed && (bytes = getline(&line, &capacity, file)) >= 0;) {
        r->line++;
        failed = add_line(r, line, (size_t)bytes, error);
    }
    free(line);
    if (!failed && ferror(file)) return ft_fail(error, "%s: %s", r->path, strerror(errno));
    if (!failed && r->data->kind < 0) return ft_fail(error, "%s: it holds no rows", r->path);
    return failed;
}

int ft_data_read(const char *path, const ft_tokenizer *tokenizer, int32_t end_token, int64_t seq_len,
                 ft_data *data, ft_error *error)
{
    *data = (ft_data){.kind = -1};
    reader r = {
        .path = path, .tokenizer = tokenizer, .end_token = end_token, .seq_len = seq_len, .data = data};
    FILE *file = fopen(path, "rb");
    if (!file) return ft_fail(error, "%s: %s", path, strerror(errno));
    int failed = read_lines(&r, file, error);
    fclose(file);
    if (!failed && data->kind == FT_ROWS_TEXT) failed = cut_windows(&r, error);
    data->tokens = r.tokens.id;
    if (failed) ft_data_free(data);
    return failed;
}

void ft_data_free(ft_data *data)
{
    free(data->rows);
    free(data->tokens);
    *data = (ft_data){.kind = -1};
}

/* ---- batches ---- */

static int batch_reserve(ft_batch *batch, int64_t n, ft_error *error)
{
    if (n <= batch->capacity) return 0;
    int32_t *tokens = malloc((size_t)n * sizeof *tokens), *targets = malloc((size_t)n * sizeof *targets);
    if (!tokens || !targets) {
        free(tokens), free(targets);
        return ft_fail_memory(error, "a batch");
    }
    ft_batch_free(batch);
    *batch = (ft_batch){.tokens = tokens, .targets = targets, .capacity = n};
    return 0;
}

static void put_row(ft_batch *batch, int64_t at, int64_t seq_len, const ft_data *data, const ft_row *row)
{
    const int32_t *from = data->tokens + row->begin;
    int32_t *tokens = batch->tokens + at * seq_len, *targets = batch->targets + at * seq_len;
    for (int64_t i = 0; i < seq_len; i++) {
        tokens[i] = i < row->n - 1 ? from[i] : 0;
        targets[i] = i < row->n - 1 && i + 1 >= row->first_target ? from[i + 1] : -1;
    }
}

int ft_batch_fill(ft_batch *batch, const ft_data *data, const int64_t *rows, int64_t n, ft_error *error)
{
    int64_t seq_len = 0;
    for (int64_t i = 0; i < n; i++)
        if (data->rows[rows[i]].n - 1 > seq_len) seq_len = data->rows[rows[i]].n - 1;
    if (batch_reserve(batch, n * seq_len, error)) return -1;
    for (int64_t i = 0; i < n; i++)
        put_row(batch, i, seq_len, data, &data->rows[rows[i]]);
    batch->view = (llama_batch){n, seq_len, batch->tokens, batch->targets};
    return 0;
}

void ft_batch_free(ft_batch *batch)
{
    free(batch->tokens);
    free(batch->targets);
    *batch = (ft_batch){0};
}

/* ---- order ---- */

/* SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* Uniform below n, free of modulo bias. */
static uint64_t random_below(uint64_t *state, uint64_t n)
{
    uint64_t unusable = (UINT64_MAX - n + 1) % n, drawn;
    do
        drawn = next_random(state);
    while (drawn > UINT64_MAX - unusable);
    return drawn % n;
}

void ft_shuffle(int64_t *order, int64_t n, uint64_t seed, uint64_t stream)
{
    uint64_t state = seed;
    state = next_random(&state) ^ stream;
    state = next_random(&state);
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)random_below(&state, (uint64_t)i + 1), held = order[i];
        order[i] = order[j];
        order[j] = held;
    }
}
