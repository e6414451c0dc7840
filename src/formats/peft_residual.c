/* SPDX-License-Identifier: MIT */
/*
 * The inverse of the fold, bit for bit. With f the factor and b0 = B' / f rounded to f32, B was b0 or one of its two neighbours:
 * |B' / f - B| is at most 1/|m_f| <= 1 unit in the last place of B, m_f the significand of f in [1, 2), since a unit of B' is
 * at most 2 of f times a unit of B; what doubles round is far below the half unit that is left. Of these three, those that
 * fold to B' are two at most, as they lie m_f > 1 units of B apart and what rounds to B' is no wider than 2. Where it is one,
 * nothing need be kept; where it is two, a bit says which. Where B' is 0 or subnormal (underflow, a gate of 0, B = 0) a bit
 * says whether B is b0; if it is not, its value is kept in a list, an escape. So what is kept is about a third of a bit an
 * element at most, and nothing where f is a power of 2.
 *
 * Restoring folds again and compares, so that damaged metadata gives the delta that PEFT sees, or an error.
 */
#include <string.h>

#include "base64.h"
#include "peft_fold.h"

enum { PIECE = 256 };

#define LEAST_NORMAL 0x00800000u

/* Bits of the elements of one piece: `first` unless `open`, when a bit may choose `second`, or if `tiny` an escape. */
typedef struct choices {
    uint32_t first[PIECE];
    uint32_t second[PIECE];
    uint32_t open[PIECE]; /* 0 or 1 */
    uint32_t tiny[PIECE];
} choices;

static void multiply(const float *values, int64_t n, double factor, uint32_t *bits)
{
    float products[PIECE];
    for (int64_t i = 0; i < n; i++)
        products[i] = (float)((double)values[i] * factor);
    memcpy(bits, products, (size_t)n * sizeof *products);
}

/* is[i] = 1 if the value of bits b0[i] + step folds to that of bits `stored`, else 0. */
static void folds_to(const uint32_t *b0, uint32_t step, int64_t n, double factor, const uint32_t *stored,
                     uint32_t *is)
{
    uint32_t near[PIECE];
    float values[PIECE];
    for (int64_t i = 0; i < n; i++)
        near[i] = b0[i] + step;
    memcpy(values, near, (size_t)n * sizeof *values);
    multiply(values, n, factor, near);
    for (int64_t i = 0; i < n; i++)
        is[i] = near[i] == stored[i];
}

/* Loops of one type and kind each, so that they are vectorised. Neighbours are those of the magnitude. */
static void choices_of(const float *values, int64_t n, double factor, choices *c)
{
    uint32_t stored[PIECE], b0[PIECE], below[PIECE], at[PIECE], above[PIECE];
    memcpy(stored, values, (size_t)n * sizeof *values);
    multiply(values, n, factor == 0 ? 0 : 1 / factor, b0);
    folds_to(b0, UINT32_MAX, n, factor, stored, below);
    folds_to(b0, 0, n, factor, stored, at);
    folds_to(b0, 1, n, factor, stored, above);
    for (int64_t i = 0; i < n; i++) {
        uint32_t tiny = (stored[i] & 0x7fffffffu) < LEAST_NORMAL, not_at = at[i] ^ 1u;
        uint32_t first = b0[i] - (below[i] & ~tiny) + ((below[i] ^ 1u) & not_at & ~tiny);
        uint32_t second = b0[i] + (above[i] & ~tiny) - ((above[i] ^ 1u) & not_at & ~tiny);
        c->first[i] = first;
        c->second[i] = second;
        c->tiny[i] = tiny;
        c->open[i] = tiny | (first != second);
    }
}

/* Bits of a module's elements, rank after rank, the lowest of a byte first. */
typedef struct residual {
    unsigned char *bits; /* room for one an element, and a byte more */
    int64_t n_room;
    int64_t n_bits;
    float *escapes;
    int64_t n_escapes; /* in the list */
    int64_t escape;    /* the next    */
} residual;

static lrk_status residual_new(lrk_context *context, const lrki_peft_module *m, residual *r)
{
    *r = (residual){.n_room = m->rank * m->n_out / 8 + 1};
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
    const float *b;
    residual r; /* its escapes are counted while there is no list */
    uint32_t any;
} describing;

/* Bits that wait for a store, WORD_BYTES of them at a time: a store an element would wait for the one before. */
typedef struct bit_writer {
    unsigned char *at;
    uint64_t word;
    uint32_t n;
} bit_writer;

#define WORD_BYTES 7

static void write_bytes(bit_writer *w, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        w->at[i] = (unsigned char)(w->word >> 8 * i);
}

static void put_bits(residual *r, const uint32_t *bits, const uint32_t *open, int64_t n)
{
    bit_writer w = {.at = r->bits + r->n_bits / 8, .n = (uint32_t)(r->n_bits % 8)};
    w.word = *w.at;
    for (int64_t i = 0; i < n; i++) {
        w.word |= (uint64_t)bits[i] << w.n;
        w.n += open[i];
        r->n_bits += open[i];
        if (w.n < 8 * WORD_BYTES) continue;
        write_bytes(&w, WORD_BYTES);
        w.at += WORD_BYTES;
        w.word = w.n = 0; /* full to the last bit, as they come one at a time */
    }
    write_bytes(&w, (w.n + 7) / 8);
}

static void put_escapes(describing *d, const uint32_t *escapes, int64_t at, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (escapes[i] == 0) continue;
        if (d->r.escapes != NULL) d->r.escapes[d->r.escape] = d->b[at + i];
        d->r.escape++;
    }
}

static void describe_piece(void *user, double factor, int64_t at, int64_t n)
{
    describing *d = user;
    float folded[PIECE] = {0};
    uint32_t is[PIECE], bits[PIECE], escapes[PIECE], any_escape = 0;
    choices c;
    for (int64_t i = 0; i < n; i++)
        folded[i] = lrki_fold(d->b[at + i], factor);
    choices_of(folded, n, factor, &c);
    memcpy(is, d->b + at, (size_t)n * sizeof *d->b);
    for (int64_t i = 0; i < n; i++) {
        bits[i] = c.open[i] & (uint32_t)(is[i] != c.first[i]);
        escapes[i] = bits[i] & c.tiny[i];
        d->any |= bits[i];
        any_escape |= escapes[i];
    }
    put_bits(&d->r, bits, c.open, n);
    if (any_escape != 0) put_escapes(d, escapes, at, n);
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
    describing d = {.b = module->b};
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
    residual r;
    float *b;
    uint32_t others; /* not 0: a value does not fold to what was stored, or lacks its escape */
} restoring;

/* Bits in which what `values` fold to and `stored` differ. */
static uint32_t unlike_bits(const float *values, const float *stored, int64_t n, double factor)
{
    uint32_t bits[PIECE], wanted[PIECE], unlike = 0;
    multiply(values, n, factor, bits);
    memcpy(wanted, stored, (size_t)n * sizeof *stored);
    for (int64_t i = 0; i < n; i++)
        unlike |= bits[i] ^ wanted[i];
    return unlike;
}

/* In place, once B' is transposed. */
static void restore_piece(void *user, double factor, int64_t at, int64_t n)
{
    restoring *s = user;
    float *b = s->b + at, stored[PIECE];
    uint32_t escapes = 0, bits[PIECE], chosen[PIECE];
    choices c;
    memcpy(stored, b, (size_t)n * sizeof *b);
    choices_of(stored, n, factor, &c);
    for (int64_t i = 0; i < n; i++) {
        bits[i] = s->r.bits[s->r.n_bits >> 3] >> (s->r.n_bits & 7) & c.open[i];
        s->r.n_bits += c.open[i];
    }
    for (int64_t i = 0; i < n; i++) {
        escapes |= bits[i] & c.tiny[i];
        chosen[i] = c.first[i] ^ ((c.first[i] ^ c.second[i]) & (0u - bits[i]));
    }
    memcpy(b, chosen, (size_t)n * sizeof *b);
    for (int64_t i = 0; i < n && escapes != 0; i++) {
        if ((bits[i] & c.tiny[i]) == 0) continue;
        if (s->r.escape < s->r.n_escapes)
            b[i] = s->r.escapes[s->r.escape++];
        else
            s->others = 1;
    }
    s->others |= unlike_bits(b, stored, n, factor);
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
                             const lrki_json *entry, const float *stored, float *b)
{
    restoring s = {.b = b};
    lrk_status status = residual_new(context, module, &s.r);
    lrki_fold_transpose(stored, module->rank, module->n_out, b);
    if (status == LRK_OK) status = restore(context, module, alpha, entry, &s);
    residual_free(context, &s.r);
    return status;
}
