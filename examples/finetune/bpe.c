/* SPDX-License-Identifier: MIT */
/*
 * The merge procedure: start from single bytes and join, again and again, the adjacent pair whose
 * merge ranks lowest, the leftmost of equals. Pairs wait in a heap ordered by (rank, position), so a
 * word of n bytes costs O(n log n); entries made stale by a neighbouring merge are recognised when
 * they surface. Spellings are turned into plain bytes once, at load.
 */
#include "bpe.h"

#include <stdlib.h>
#include <string.h>

typedef struct token {
    char *bytes;
    size_t count;
} token;

typedef struct merge {
    int32_t left, right, joined;
    int32_t rank;
} merge;

struct ft_bpe {
    token *tokens; /* indexed by id; bytes == NULL: no token has this id */
    int32_t n_ids;
    int32_t *by_bytes; /* open addressing, FT_NO_TOKEN = free */
    size_t by_bytes_mask;
    merge *merges; /* open addressing, rank < 0 = free */
    size_t merges_mask;
    int32_t n_merges;
    int32_t byte_id[256];
};

/* ---- lists of ids ---- */

int ft_tokens_push(ft_tokens *tokens, int32_t id)
{
    if (tokens->count == tokens->capacity) {
        size_t capacity = tokens->capacity ? 2 * tokens->capacity : 64;
        int32_t *grown = realloc(tokens->id, capacity * sizeof *grown);
        if (!grown) return -1;
        tokens->id = grown;
        tokens->capacity = capacity;
    }
    tokens->id[tokens->count++] = id;
    return 0;
}

void ft_tokens_free(ft_tokens *tokens)
{
    free(tokens->id);
    *tokens = (ft_tokens){0};
}

/* ---- the byte-level alphabet ---- */

/* Bytes that print are their own character; the others take the characters from U+0100 on, in order. */
static int prints(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/* The byte of an alphabet character, or -1. */
static int byte_of(uint32_t character)
{
    if (character < 256) return prints((int)character) ? (int)character : -1;
    uint32_t wanted = character - 256;
    for (int byte = 0; byte < 256; byte++)
        if (!prints(byte) && wanted-- == 0) return byte;
    return -1;
}

/* Every alphabet character takes one or two UTF-8 bytes; 0 where the text is anything longer. */
static size_t next_character(const char *text, size_t left, uint32_t *character)
{
    const unsigned char *u = (const unsigned char *)text;
    if (u[0] < 0x80) {
        *character = u[0];
        return 1;
    }
    if ((u[0] & 0xE0) != 0xC0 || left < 2) return 0;
    *character = (uint32_t)(u[0] & 0x1F) << 6 | (u[1] & 0x3F);
    return 2;
}

/* Turn a spelling into its bytes, never more of them. SIZE_MAX if it leaves the alphabet. */
static size_t unspell(char *out, const char *spelling, size_t bytes)
{
    size_t n = 0;
    for (size_t at = 0; at < bytes;) {
        uint32_t character = 0;
        size_t width = next_character(spelling + at, bytes - at, &character);
        int byte = width ? byte_of(character) : -1;
        if (byte < 0) return SIZE_MAX;
        out[n++] = (char)byte;
        at += width;
    }
    return n;
}

/* ---- hash tables ---- */

static uint64_t hash_bytes(const char *bytes, size_t count)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < count; i++)
        h = (h ^ (unsigned char)bytes[i]) * 1099511628211u;
    return h ^ h >> 29;
}

static uint64_t hash_pair(int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 31;
}

static size_t table_size(size_t entries)
{
    size_t size = 16;
    while (size < 2 * entries)
        size *= 2;
    return size;
}

static int32_t find_bytes(const ft_bpe *bpe, const char *bytes, size_t count)
{
    if (count == SIZE_MAX) return FT_NO_TOKEN;
    for (size_t i = hash_bytes(bytes, count) & bpe->by_bytes_mask;; i = (i + 1) & bpe->by_bytes_mask) {
        int32_t id = bpe->by_bytes[i];
        if (id == FT_NO_TOKEN) return FT_NO_TOKEN;
        const token *t = &bpe->tokens[id];
        if (t->count == count && memcmp(t->bytes, bytes, count) == 0) return id;
    }
}

static merge *find_merge(const ft_bpe *bpe, int32_t left, int32_t right)
{
    for (size_t i = hash_pair(left, right) & bpe->merges_mask;; i = (i + 1) & bpe->merges_mask) {
        merge *m = &bpe->merges[i];
        if (m->rank < 0 || (m->left == left && m->right == right)) return m;
    }
}

/* ---- building ---- */

ft_bpe *ft_bpe_create(int32_t n_ids, size_t n_merges)
{
    ft_bpe *bpe = calloc(1, sizeof *bpe);
    if (!bpe) return NULL;
    size_t by_bytes = table_size((size_t)n_ids), merges = table_size(n_merges);
    bpe->n_ids = n_ids;
    bpe->tokens = calloc((size_t)n_ids + 1, sizeof *bpe->tokens);
    bpe->by_bytes = malloc(by_bytes * sizeof *bpe->by_bytes);
    bpe->merges = malloc(merges * sizeof *bpe->merges);
    if (!bpe->tokens || !bpe->by_bytes || !bpe->merges) {
        ft_bpe_free(bpe);
        return NULL;
    }
    bpe->by_bytes_mask = by_bytes - 1;
    bpe->merges_mask = merges - 1;
    for (size_t i = 0; i < by_bytes; i++)
        bpe->by_bytes[i] = FT_NO_TOKEN;
    for (size_t i = 0; i < merges; i++)
        bpe->merges[i].rank = -1;
    for (int byte = 0; byte < 256; byte++)
        bpe->byte_id[byte] = FT_NO_TOKEN;
    return bpe;
}

void ft_bpe_free(ft_bpe *bpe)
{
    if (!bpe) return;
    for (int32_t id = 0; bpe->tokens && id < bpe->n_ids; id++)
        free(bpe->tokens[id].bytes);
    free(bpe->tokens);
    free(bpe->by_bytes);
    free(bpe->merges);
    free(bpe);
}

int ft_bpe_add_token(ft_bpe *bpe, int32_t id, const char *spelling, size_t bytes, ft_error *error)
{
    if (id < 0 || id >= bpe->n_ids) return ft_fail(error, "token '%s' has the id %d", spelling, id);
    if (bpe->tokens[id].bytes)
        return ft_fail(error, "the id %d is given to two tokens, '%s' is one", id, spelling);
    token t = {malloc(bytes + 1), 0};
    if (!t.bytes) return ft_fail_memory(error, "the vocabulary");
    t.count = unspell(t.bytes, spelling, bytes);
    if (t.count == SIZE_MAX) {
        memcpy(t.bytes, spelling, bytes);
        bpe->tokens[id] = (token){t.bytes, bytes};
        return 0;
    }
    if (find_bytes(bpe, t.bytes, t.count) != FT_NO_TOKEN) {
        free(t.bytes);
        return ft_fail(error, "two tokens are spelled '%s'", spelling);
    }
    bpe->tokens[id] = t;
    size_t i = hash_bytes(t.bytes, t.count) & bpe->by_bytes_mask;
    while (bpe->by_bytes[i] != FT_NO_TOKEN)
        i = (i + 1) & bpe->by_bytes_mask;
    bpe->by_bytes[i] = id;
    if (t.count == 1) bpe->byte_id[(unsigned char)t.bytes[0]] = id;
    return 0;
}

static int32_t find_spelling(const ft_bpe *bpe, const char *spelling, size_t bytes, char *scratch)
{
    return find_bytes(bpe, scratch, unspell(scratch, spelling, bytes));
}

int ft_bpe_add_merge(ft_bpe *bpe, const char *left, size_t left_bytes, const char *right, size_t right_bytes,
                     ft_error *error)
{
    char *both = malloc(left_bytes + right_bytes + 1), *scratch = malloc(left_bytes + right_bytes + 1);
    if (!both || !scratch) {
        free(both), free(scratch);
        return ft_fail_memory(error, "the merges");
    }
    memcpy(both, left, left_bytes);
    memcpy(both + left_bytes, right, right_bytes);
    merge m = {.left = find_spelling(bpe, left, left_bytes, scratch),
               .right = find_spelling(bpe, right, right_bytes, scratch),
               .joined = find_spelling(bpe, both, left_bytes + right_bytes, scratch),
               .rank = bpe->n_merges};
    free(both), free(scratch);
    if (m.left < 0 || m.right < 0 || m.joined < 0)
        return ft_fail(error, "merge '%.*s %.*s' needs a token that the vocabulary lacks", (int)left_bytes,
                       left, (int)right_bytes, right);
    merge *slot = find_merge(bpe, m.left, m.right);
    if (slot->rank >= 0)
        return ft_fail(error, "merge '%.*s %.*s' is listed twice", (int)left_bytes, left, (int)right_bytes,
                       right);
    *slot = m;
    bpe->n_merges++;
    return 0;
}

const char *ft_bpe_bytes(const ft_bpe *bpe, int32_t id, size_t *bytes)
{
    if (id < 0 || id >= bpe->n_ids || !bpe->tokens[id].bytes) return NULL;
    *bytes = bpe->tokens[id].count;
    return bpe->tokens[id].bytes;
}

/* ---- merging one word ---- */

/* Symbols form a list over positions; a symbol swallowed by its left neighbour has id FT_NO_TOKEN. */
typedef struct symbol {
    int32_t id;
    int32_t before, after; /* positions, -1 at the ends */
} symbol;

typedef struct candidate {
    int32_t rank, at;
    int32_t left, right; /* the ids when queued: stale if they no longer stand there */
} candidate;

typedef struct queue {
    candidate *heap;
    size_t count;
} queue;

static int before(candidate a, candidate b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void enqueue(queue *q, candidate c)
{
    size_t i = q->count++;
    for (; i > 0 && before(c, q->heap[(i - 1) / 2]); i = (i - 1) / 2)
        q->heap[i] = q->heap[(i - 1) / 2];
    q->heap[i] = c;
}

static candidate dequeue(queue *q)
{
    candidate top = q->heap[0], last = q->heap[--q->count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < q->count; i = child) {
        if (child + 1 < q->count && before(q->heap[child + 1], q->heap[child])) child++;
        if (!before(q->heap[child], last)) break;
        q->heap[i] = q->heap[child];
    }
    q->heap[i] = last;
    return top;
}

static void consider(const ft_bpe *bpe, queue *q, const symbol *symbols, int32_t at)
{
    if (at < 0 || symbols[at].after < 0) return;
    int32_t left = symbols[at].id, right = symbols[symbols[at].after].id;
    const merge *m = find_merge(bpe, left, right);
    if (m->rank >= 0) enqueue(q, (candidate){m->rank, at, left, right});
}

static void join(const ft_bpe *bpe, queue *q, symbol *symbols, candidate c)
{
    symbol *s = &symbols[c.at];
    if (s->id != c.left || s->after < 0 || symbols[s->after].id != c.right) return;
    symbol *swallowed = &symbols[s->after];
    s->id = find_merge(bpe, c.left, c.right)->joined;
    s->after = swallowed->after;
    swallowed->id = FT_NO_TOKEN;
    if (s->after >= 0) symbols[s->after].before = c.at;
    consider(bpe, q, symbols, s->before);
    consider(bpe, q, symbols, c.at);
}

static int spell_bytes(const ft_bpe *bpe, const char *word, int32_t n, symbol *symbols, ft_error *error)
{
    for (int32_t i = 0; i < n; i++) {
        int32_t id = bpe->byte_id[(unsigned char)word[i]];
        if (id == FT_NO_TOKEN)
            return ft_fail(error, "the vocabulary has no token for the byte 0x%02X", (unsigned char)word[i]);
        symbols[i] = (symbol){id, i - 1, i + 1 < n ? i + 1 : -1};
    }
    return 0;
}

static int merge_word(const ft_bpe *bpe, const char *word, int32_t n, symbol *symbols, queue *q,
                      ft_tokens *out, ft_error *error)
{
    if (spell_bytes(bpe, word, n, symbols, error)) return -1;
    for (int32_t i = 0; i < n; i++)
        consider(bpe, q, symbols, i);
    while (q->count)
        join(bpe, q, symbols, dequeue(q));
    for (int32_t i = 0; i >= 0 && i < n; i = symbols[i].after)
        if (ft_tokens_push(out, symbols[i].id)) return ft_fail_memory(error, "the tokens");
    return 0;
}

int ft_bpe_encode(const ft_bpe *bpe, const char *word, size_t bytes, int whole_first, ft_tokens *out,
                  ft_error *error)
{
    if (bytes == 0) return 0;
    if (bytes > INT32_MAX / 4) return ft_fail(error, "a word of %zu bytes is too long", bytes);
    int32_t whole = whole_first ? find_bytes(bpe, word, bytes) : FT_NO_TOKEN;
    if (whole != FT_NO_TOKEN) return ft_tokens_push(out, whole) ? ft_fail_memory(error, "the tokens") : 0;
    /* n - 1 pairs at first, and each of at most n - 1 joins adds two */
    symbol *symbols = malloc(bytes * sizeof *symbols);
    queue q = {malloc(3 * bytes * sizeof *q.heap), 0};
    int failed = !symbols || !q.heap ? ft_fail_memory(error, "a word")
                                     : merge_word(bpe, word, (int32_t)bytes, symbols, &q, out, error);
    free(symbols), free(q.heap);
    return failed;
}
