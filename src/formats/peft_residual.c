/* SPDX-License-Identifier: MIT */
/*
 * The inverse of the fold, bit for bit: what is kept beside B' so that B comes back. Where B' leaves two values (peft_unfold.h), a bit
 * says which. Where it is 0 or subnormal, a bit says whether B is what division gives; if it is not, its value is kept in a list,
 * an escape. So what is kept is about a third of a bit an element at most, and nothing where f is a power of 2.
 *
 * What is restored folds to what was stored, so that damaged metadata gives the delta that PEFT sees, or an error.
 */
#include <string.h>

#include "base64.h"
#include "peft_fold.h"
#include "peft_unfold.h"

enum { PIECE = LRKI_UNFOLD_PIECE, WORDS = LRKI_UNFOLD_WORDS };

/* Bits of a module's elements, rank after rank, the lowest of a byte first. */
typedef struct residual {
    unsigned char *bits; /* room for one an element, and for a word that begins anywhere */
    int64_t n_room;
    int64_t n_bits;
    float *escapes;
    int64_t n_escapes; /* in the list */
    int64_t escape;    /* the next    */
} residual;

enum { WORD_BYTES = 8, WORD_ROOM = WORD_BYTES + 1 };

static lrk_status residual_new(lrk_context *context, const lrki_peft_module *m, residual *r)
{
    *r = (residual){.n_room = m->rank * m->n_out / 8 + WORD_ROOM};
    r->bits = lrki_array(context, r->n_room, 1);
    return r->bits == NULL ? lrki_fail_nomem(context, m->name) : LRK_OK;
}

static void residual_free(lrk_context *context, residual *r)
{
    lrki_array_free(context, r->bits, r->n_room, 1);
    lrki_array_free(context, r->escapes, r->n_escapes, sizeof *r->escapes);
}

static size_t bytes_of_bits(const residual *r)
{
    return (size_t)(r->n_bits + 7) / 8;
}

/*
 * Calls `each` for every piece of a rank's row that the fold changes (not with a factor of 1), elements [at, at + n) of the
 * module's.
 */
typedef void (*piece_call)(void *user, double factor, int64_t at, int64_t n);

static void each_piece(const lrki_peft_module *m, double alpha, piece_call each, void *user)
{
    for (int64_t j = 0; j < m->rank; j++) {
        double factor = lrki_fold_factor(m, alpha, j);
        for (int64_t at = j * m->n_out; factor != 1 && at < (j + 1) * m->n_out; at += PIECE) {
            int64_t left = (j + 1) * m->n_out - at;
            each(user, factor, at, left < PIECE ? left : PIECE);
        }
    }
}

/* ---- describe ---- */

typedef struct describing {
    const lrk_context *context;
    const float *b;
    residual r;   /* its escapes are counted while there is no list */
    uint64_t any; /* bits that are not 0 */
} describing;

/* Those of `bits` that `open` has, lowest first, and how many. */
static uint64_t squeeze(uint64_t bits, uint64_t open, int64_t *n)
{
    uint64_t squeezed = 0;
    *n = 0;
    for (; open != 0; open &= open - 1) {
        uint64_t lowest = open & (0 - open);
        squeezed |= (uint64_t)((bits & lowest) != 0) << *n;
        ++*n;
    }
    return squeezed;
}

/* Nothing is set past the bits that are there. */
static void put_bits(residual *r, uint64_t bits, int64_t n)
{
    unsigned char *at = r->bits + r->n_bits / 8;
    int shift = (int)(r->n_bits % 8);
    uint64_t word = bits << shift | *at;
    for (int i = 0; i < WORD_BYTES; i++)
        at[i] = (unsigned char)(word >> 8 * i);
    at[WORD_BYTES] = (unsigned char)(bits >> 1 >> (63 - shift));
    r->n_bits += n;
}

static void put_escapes(describing *d, uint64_t escapes, const float *b)
{
    for (; escapes != 0; escapes &= escapes - 1) {
        if (d->r.escapes != NULL) d->r.escapes[d->r.escape] = b[__builtin_ctzll(escapes)];
        d->r.escape++;
    }
}

static void describe_piece(void *user, double factor, int64_t at, int64_t n)
{
    describing *d = user;
    lrki_unfolded u;
    uint64_t differs[WORDS];
    lrki_fold_and_unfold(d->context, d->b + at, n, factor, &u, differs);
    for (int k = 0; k < WORDS; k++) {
        int64_t n_open;
        uint64_t bits = squeeze(differs[k], u.open[k], &n_open);
        d->any |= bits;
        put_bits(&d->r, bits, n_open);
        put_escapes(d, differs[k] & u.tiny[k], d->b + at + 64 * (int64_t)k);
    }
}

/* A second time over the elements, for the values of the list. */
static lrk_status list_escapes(lrk_context *context, const lrki_peft_module *m, double alpha, describing *d)
{
    int64_t n = d->r.escape;
    if (n == 0) return LRK_OK;
    d->r.escapes = lrki_array(context, n, sizeof *d->r.escapes);
    if (d->r.escapes == NULL) return lrki_fail_nomem(context, m->name);
    d->r.n_escapes = n;
    d->r.escape = d->r.n_bits = 0;
    each_piece(m, alpha, describe_piece, d);
    return LRK_OK;
}

static void put_entry(lrk_context *context, const char *name, const residual *r, lrki_json **fold)
{
    lrki_json *entry = lrki_json_new_object();
    lrki_json_put(&entry, "bits", lrki_base64_json(context, r->bits, bytes_of_bits(r)));
    if (r->n_escapes > 0)
        lrki_json_put(&entry, "escapes",
                      lrki_base64_json(context, r->escapes, (size_t)r->n_escapes * sizeof *r->escapes));
    lrki_json_put(fold, name, entry);
}

lrk_status lrki_fold_describe(lrk_context *context, const lrki_peft_module *module, double alpha,
                              lrki_json **fold)
{
    describing d = {.context = context, .b = module->b};
    lrk_status status = residual_new(context, module, &d.r);
    if (status != LRK_OK) return status;
    each_piece(module, alpha, describe_piece, &d);
    if (d.any != 0) {
        status = list_escapes(context, module, alpha, &d);
        if (status == LRK_OK) put_entry(context, module->name, &d.r, fold);
        if (status == LRK_OK && *fold == NULL) status = lrki_fail_nomem(context, module->name);
    }
    residual_free(context, &d.r);
    return status;
}

/* ---- restore ---- */

typedef struct restoring {
    const lrk_context *context;
    residual r;
    float *b;
    uint64_t others; /* not 0: a value does not fold to what was stored, or lacks its escape */
} restoring;

/* The bits that come next, at least as many as a word of a mask has. */
static uint64_t next_bits(const residual *r)
{
    const unsigned char *at = r->bits + r->n_bits / 8;
    int shift = (int)(r->n_bits % 8);
    uint64_t word = 0;
    for (int i = 0; i < WORD_BYTES; i++)
        word |= (uint64_t)at[i] << 8 * i;
    return word >> shift | (uint64_t)at[WORD_BYTES] << 1 << (63 - shift);
}

/* The elements of `open` whose bit, of those that come next, is 1. */
static uint64_t next_chosen(residual *r, uint64_t open)
{
    uint64_t bits = next_bits(r), chosen = 0;
    r->n_bits += __builtin_popcountll(open);
    for (; open != 0; open &= open - 1, bits >>= 1)
        chosen |= open & (0 - open) & (0 - (bits & 1));
    return chosen;
}

static void take_escapes(restoring *s, uint64_t escapes, float *b)
{
    for (; escapes != 0; escapes &= escapes - 1) {
        if (s->r.escape < s->r.n_escapes)
            b[__builtin_ctzll(escapes)] = s->r.escapes[s->r.escape++];
        else
            s->others = 1;
    }
}

/* Bits in which what `values` fold to and `folded` differ. */
static uint32_t unlike_bits(const float *values, const float *folded, int64_t n, double factor)
{
    uint32_t unlike = 0;
    for (int64_t i = 0; i < n; i++)
        unlike |= lrki_bits(lrki_fold(values[i], factor)) ^ lrki_bits(folded[i]);
    return unlike;
}

/* Values that are not tiny were found by folding them. */
static void restore_piece(void *user, double factor, int64_t at, int64_t n)
{
    restoring *s = user;
    float *b = s->b + at, folded[PIECE];
    uint64_t chosen[WORDS], any_tiny = 0;
    lrki_unfolded u;
    memcpy(folded, b, (size_t)n * sizeof *b);
    lrki_unfold(s->context, folded, n, factor, &u);
    for (int k = 0; k < WORDS; k++) {
        chosen[k] = next_chosen(&s->r, u.open[k]);
        any_tiny |= u.tiny[k];
        s->others |= u.lost[k];
    }
    lrki_unfold_choose(s->context, chosen, &u);
    memcpy(b, u.first, (size_t)n * sizeof *b);
    for (int k = 0; k < WORDS && any_tiny != 0; k++)
        take_escapes(s, chosen[k] & u.tiny[k], b + 64 * k);
    if (any_tiny != 0) s->others |= unlike_bits(b, folded, n, factor);
}

static lrk_status fail_entry(lrk_context *context, const lrki_peft_module *m)
{
    return lrki_fail(context, LRK_ERR_FORMAT,
                     "metadata " LRKI_KEY_FOLD ": module '%s': bits and escapes do not fit", m->name);
}

/* What the entry has; it is compared with what the elements used afterwards. */
static lrk_status read_entry(lrk_context *context, const lrki_peft_module *m, const char *bits,
                             const char *escapes, residual *r)
{
    size_t n_bytes = lrki_base64_bytes(bits), n = lrki_base64_bytes(escapes);
    if (n_bytes > (size_t)r->n_room || !lrki_base64_decode(bits, r->bits, n_bytes))
        return fail_entry(context, m);
    if (escapes == NULL) return LRK_OK;
    if (n % sizeof *r->escapes != 0 || n / sizeof *r->escapes > (size_t)(m->rank * m->n_out))
        return fail_entry(context, m);
    r->escapes = lrki_array(context, (int64_t)(n / sizeof *r->escapes), sizeof *r->escapes);
    if (r->escapes == NULL) return lrki_fail_nomem(context, m->name);
    r->n_escapes = (int64_t)(n / sizeof *r->escapes);
    return lrki_base64_decode(escapes, r->escapes, n) ? LRK_OK : fail_entry(context, m);
}

static bool used_up(const residual *r, const char *bits)
{
    bool no_bit_left = r->n_bits % 8 == 0 || r->bits[r->n_bits / 8] >> r->n_bits % 8 == 0;
    return (bits == NULL || lrki_base64_bytes(bits) == bytes_of_bits(r)) && no_bit_left &&
           r->escape == r->n_escapes;
}

static lrk_status restore(lrk_context *context, const lrki_peft_module *m, double alpha,
                          const lrki_json *entry, restoring *s)
{
    const char *bits = lrki_json_text(lrki_json_get(entry, "bits"));
    lrk_status status = LRK_OK;
    if (entry != NULL)
        status = read_entry(context, m, bits, lrki_json_text(lrki_json_get(entry, "escapes")), &s->r);
    if (status != LRK_OK) return status;
    each_piece(m, alpha, restore_piece, s);
    if (s->others != 0)
        return lrki_fail(context, LRK_ERR_FORMAT,
                         "module '%s': scale, gates and " LRKI_KEY_FOLD " of the metadata contradict lora_B",
                         m->name);
    return used_up(&s->r, bits) ? LRK_OK : fail_entry(context, m);
}

lrk_status lrki_fold_restore(lrk_context *context, const lrki_peft_module *module, double alpha,
                             const lrki_json *entry, float *b)
{
    restoring s = {.context = context, .b = b};
    lrk_status status = residual_new(context, module, &s.r);
    if (status == LRK_OK) status = restore(context, module, alpha, entry, &s);
    residual_free(context, &s.r);
    return status;
}
