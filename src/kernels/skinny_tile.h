/* SPDX-License-Identifier: MIT */
/*
 * The source of all implementations of skinny.h. The including file defines LANES (floats of a vector), REGISTERS (32
 * or 16), the conversions that skinny_vector.h asks for, NAME, INSTRUCTIONS, MANY and MANY_WIDE.
 *
 * Both kernels keep a tile of accumulators in registers, and every loaded vector meets all of them. Loaded operands are
 * pinned (PIN), or the compiler would fold the load into each multiply-add and load it again and again.
 */
#include <string.h>

#include "skinny.h"
#include "skinny_vector.h"

/* ---- fetching ahead ---------------------------------------------------------------------------------------------------- */

/* A line of each of the next rows, if any are left. */
INLINE void fetch_lines(lrki_fetch *f)
{
    const int64_t rows = f->rows < LRKI_FETCH_ROWS ? f->rows : LRKI_FETCH_ROWS;
    const uintptr_t stride = (uintptr_t)f->stride;
    for (int64_t a = 0; a < rows; a++)
        __builtin_prefetch((const void *)(f->next + (uintptr_t)a * stride), 0, 2);
    f->next += LRKI_LINE;
    if (--f->left > 0) return;
    f->next += LRKI_FETCH_ROWS * stride - (uintptr_t)f->lines * LRKI_LINE;
    f->left = f->lines;
    f->rows -= rows;
}

/* Fetches what is due with so many multiply-adds more. */
INLINE void fetch_due(lrki_fetch *f, int64_t multiply_adds)
{
    if (f == NULL) return;
    for (f->done += multiply_adds; f->done >= f->pace; f->done -= f->pace)
        fetch_lines(f);
}

/* What a loop is to fetch: `times` times `each`, before `run` steps. */
typedef struct fetches {
    int64_t times;
    int64_t each;
    int64_t run;
} fetches;

/* What is due with the multiply-adds of a loop of so many steps; fetches at once what does not divide evenly. */
INLINE fetches divide_fetches(lrki_fetch *f, int64_t multiply_adds, int64_t steps)
{
    if (f == NULL || steps == 0) return (fetches){0};
    int64_t done = f->done + multiply_adds, due = done / f->pace;
    f->done = done - due * f->pace;
    if (due == 0) return (fetches){0};
    int64_t each = (due + steps - 1) / steps, times = due / each;
    for (int64_t rest = due - times * each; rest > 0; rest--)
        fetch_lines(f);
    return (fetches){times, each, steps / times};
}

/* ---- dot ------------------------------------------------------------------------------------------------------------- */

INLINE void dot_step(vec acc[8][8], const void *const *rows, const float *const *ranks, const int dtype,
                     const int r, const int j, int64_t k)
{
    if (r < j) { /* the shorter list is held: 3 rows, a rank and 24 (12) sums fit 32 (16) registers */
        vec row[8];
        UNROLL for (int a = 0; a < r; a++)
        {
            row[a] = load(at(rows[a], dtype, k), dtype);
            PIN(row[a]);
        }
        UNROLL for (int b = 0; b < j; b++)
        {
            vec rank = load(ranks[b] + k, F32);
            PIN(rank);
            UNROLL for (int a = 0; a < r; a++) acc[a][b] += row[a] * rank;
        }
        return;
    }
    vec rank[8];
    UNROLL for (int b = 0; b < j; b++)
    {
        rank[b] = load(ranks[b] + k, F32);
        PIN(rank[b]);
    }
    UNROLL for (int a = 0; a < r; a++)
    {
        vec row = load(at(rows[a], dtype, k), dtype);
        PIN(row);
        UNROLL for (int b = 0; b < j; b++) acc[a][b] += row * rank[b];
    }
}

/* r rows from `first` on with j ranks from `from` on: out[a][b] (+)= sum_k rows[a][k] ranks[b][k] */
INLINE void dot_tile(const lrki_dot_args *args, int32_t first, int32_t from, const int dtype, const int r,
                     const int j)
{
    const void *const *rows_given = args->rows + first;
    float *out = args->out + first * args->ld_out + from;
    const void *rows[8];
    const float *ranks[8];
    vec acc[8][8];
    int64_t k = 0, n = args->n;
    UNROLL for (int a = 0; a < r; a++)
    {
        rows[a] = rows_given[a];
        UNROLL for (int b = 0; b < j; b++) acc[a][b] = (vec){0};
    }
    UNROLL for (int b = 0; b < j; b++) ranks[b] = args->ranks[from + b];
    const int64_t whole = n / LANES * LANES;
    fetches due = divide_fetches(args->fetch, r * j * n, n / LANES);
    for (; due.times > 0; due.times--) {
        for (int64_t i = due.each; i > 0; i--)
            fetch_lines(args->fetch);
        for (int64_t end = k + due.run * LANES; k < end; k += LANES)
            dot_step(acc, rows, ranks, dtype, r, j, k);
    }
    for (; k < whole; k += LANES)
        dot_step(acc, rows, ranks, dtype, r, j, k);
    if (k < n) {
        vec rank[8];
        UNROLL for (int b = 0; b < j; b++) rank[b] = load_part(ranks[b] + k, F32, n - k);
        UNROLL for (int a = 0; a < r; a++)
        {
            vec row = load_part(at(rows[a], dtype, k), dtype, n - k);
            UNROLL for (int b = 0; b < j; b++) acc[a][b] += row * rank[b];
        }
    }
    if (args->add)
        UNROLL for (int a = 0; a < r; a++) give_sums(acc[a], j, true, out + a * args->ld_out);
    else
        UNROLL for (int a = 0; a < r; a++) give_sums(acc[a], j, false, out + a * args->ld_out);
}

/* Rows of a tile beside j ranks: as many as the registers hold. */
#if REGISTERS == 32
#define GROUP       8
#define DOT_ROWS(j) ((j) <= 3 ? 8 : (j) == 4 ? 6 : (j) == 5 ? 5 : (j) == 6 ? 4 : 3)
#else
#define GROUP       4
#define DOT_ROWS(j) ((j) == 1 ? 8 : (j) == 2 ? 4 : (j) == 3 ? 4 : 3)
#endif

typedef void dot_function(const lrki_dot_args *args, int32_t first, int32_t from);

#define DOT(j, dtype)                                                                                        \
    static void dot_##j##_##dtype(const lrki_dot_args *args, int32_t first, int32_t from)                    \
    {                                                                                                        \
        dot_tile(args, first, from, dtype, DOT_ROWS(j), j);                                                  \
    }                                                                                                        \
    static void dot_one_##j##_##dtype(const lrki_dot_args *args, int32_t first, int32_t from)                \
    {                                                                                                        \
        dot_tile(args, first, from, dtype, 1, j);                                                            \
    }
#if GROUP == 8
#define EACH_RANKS(X, t) X(1, t) X(2, t) X(3, t) X(4, t) X(5, t) X(6, t) X(7, t) X(8, t)
#else
#define EACH_RANKS(X, t) X(1, t) X(2, t) X(3, t) X(4, t)
#endif
EACH_RANKS(DOT, F32)
EACH_RANKS(DOT, BF16)
EACH_RANKS(DOT, F16)

#define DOT_ENTRY(j, t)     dot_##j##_##t,
#define DOT_ONE_ENTRY(j, t) dot_one_##j##_##t,
static dot_function *const dot_tiles[3][GROUP] = {
    {EACH_RANKS(DOT_ENTRY, F32)}, {EACH_RANKS(DOT_ENTRY, BF16)}, {EACH_RANKS(DOT_ENTRY, F16)}};
static dot_function *const dot_ones[3][GROUP] = {
    {EACH_RANKS(DOT_ONE_ENTRY, F32)}, {EACH_RANKS(DOT_ONE_ENTRY, BF16)}, {EACH_RANKS(DOT_ONE_ENTRY, F16)}};

/* Ranks are cut into even groups; those of one group stay near while rows pass. */
static void dot(const lrki_dot_args *args)
{
    const int32_t n = args->n_ranks, groups = (n + GROUP - 1) / GROUP;
    for (int32_t g = 0; g < groups; g++) {
        int32_t i = 0, from = n * g / groups, j = n * (g + 1) / groups - from, tile = DOT_ROWS(j);
        for (; i + tile <= args->n_rows; i += tile)
            dot_tiles[args->dtype][j - 1](args, i, from);
        for (; i < args->n_rows; i++)
            dot_ones[args->dtype][j - 1](args, i, from);
    }
}

/* ---- update ---------------------------------------------------------------------------------------------------------- */

/* Source b of a tile: acc += coef src, without acc if it is the first. As in dot_step the shorter list is held. */
INLINE void update_step(vec acc[8][8], const char *p, const float *coef, const int src_dtype, const int r,
                        const int c, const bool first)
{
    vec held[8];
    if (r < c) {
        UNROLL for (int a = 0; a < r; a++)
        {
            held[a] = broadcast(coef[a]);
            PIN(held[a]);
        }
        UNROLL for (int v = 0; v < c; v++)
        {
            vec from = load(at(p, src_dtype, v * LANES), src_dtype);
            PIN(from);
            UNROLL for (int a = 0; a < r; a++) acc[a][v] =
                first ? held[a] * from : acc[a][v] + held[a] * from;
        }
        return;
    }
    UNROLL for (int v = 0; v < c; v++)
    {
        held[v] = load(at(p, src_dtype, v * LANES), src_dtype);
        PIN(held[v]);
    }
    UNROLL for (int a = 0; a < r; a++)
    {
        vec factor = broadcast(coef[a]);
        PIN(factor);
        UNROLL for (int v = 0; v < c; v++) acc[a][v] =
            first ? factor * held[v] : acc[a][v] + factor * held[v];
    }
}

/* Sources of a tile between fetches; with 16 registers all, since one loop more costs as much as it gains. */
#if REGISTERS == 32
#define RUN 4
#else
#define RUN INT32_MAX
#endif

/* r rows of dest, c vectors from column k on: dest += coef src. */
INLINE void update_tile(const lrki_update_args *args, void *const dest[8], const float *coef, int64_t k,
                        const int dest_dtype, const int src_dtype, const int r, const int c)
{
    vec acc[8][8];
    UNROLL for (int a = 0; a < r; a++)
        UNROLL for (int v = 0; v < c; v++) if (v * LANES % (LRKI_LINE / (dest_dtype == F32 ? 4 : 2)) == 0)
            __builtin_prefetch(at(dest[a], dest_dtype, k + v * LANES), 1, 3);
    const int32_t n = args->n_src;
    int32_t b = 1, end = n < RUN ? n : RUN;
    fetch_due(args->fetch, end * r * c * LANES);
    update_step(acc, at(args->src[0], src_dtype, k), coef, src_dtype, r, c, true);
    for (; b < end; b++) {
        coef += args->ld_coef;
        update_step(acc, at(args->src[b], src_dtype, k), coef, src_dtype, r, c, false);
    }
    while (RUN < INT32_MAX && b < n) {
        end = n - b < RUN ? n : b + RUN;
        fetch_due(args->fetch, (end - b) * r * c * LANES);
        for (; b < end; b++) {
            coef += args->ld_coef;
            update_step(acc, at(args->src[b], src_dtype, k), coef, src_dtype, r, c, false);
        }
    }
    UNROLL for (int a = 0; a < r; a++) UNROLL for (int v = 0; v < c; v++)
    {
        void *p = at_mut(dest[a], dest_dtype, k + v * LANES);
        store(p, dest_dtype, load(p, dest_dtype) + acc[a][v]);
    }
}

/* The last n < LANES columns. */
INLINE void update_part(const lrki_update_args *args, int32_t first, int64_t k, int64_t n,
                        const int dest_dtype, const int src_dtype, const int r)
{
    vec acc[8];
    void *const *dest = args->dest + first;
    const float *coef = args->coef + first;
    UNROLL for (int a = 0; a < r; a++) acc[a] = load_part(at(dest[a], dest_dtype, k), dest_dtype, n);
    for (int32_t b = 0; b < args->n_src; b++) {
        vec from = load_part(at(args->src[b], src_dtype, k), src_dtype, n);
        UNROLL for (int a = 0; a < r; a++) acc[a] += broadcast(coef[a + b * args->ld_coef]) * from;
    }
    UNROLL for (int a = 0; a < r; a++) store_part(at_mut(dest[a], dest_dtype, k), dest_dtype, acc[a], n);
}

/* Vectors of a tile of r rows. */
#if REGISTERS == 32
#define DEST              8
#define LONG              4
#define UPDATE_VECTORS(r) ((r) <= 2 ? 8 : (r) <= 6 ? 4 : 3)
#else
#define DEST              6
#define LONG              3
#define UPDATE_VECTORS(r) ((r) == 1 ? 8 : (r) <= 3 ? 4 : 2)
#endif

/* The arguments are copied, since the compiler cannot know that rows do not overlap them. */
INLINE void update_rows(const lrki_update_args *given, int32_t first, const int dest_dtype,
                        const int src_dtype, const int r)
{
    const int c = UPDATE_VECTORS(r);
    const lrki_update_args args = *given;
    const float *coef = args.coef + first;
    void *dest[8];
    int64_t k = 0, n = args.n;
    UNROLL for (int a = 0; a < r; a++) dest[a] = args.dest[first + a];
    for (; k + c * LANES <= n; k += c * LANES)
        update_tile(&args, dest, coef, k, dest_dtype, src_dtype, r, c);
    for (; k + LANES <= n; k += LANES)
        update_tile(&args, dest, coef, k, dest_dtype, src_dtype, r, 1);
    if (k < n) update_part(given, first, k, n - k, dest_dtype, src_dtype, r);
}

typedef void update_function(const lrki_update_args *args, int32_t first);

#define UPDATE(r, dest_dtype, src_dtype)                                                                     \
    static void update_##r##_##dest_dtype##_##src_dtype(const lrki_update_args *args, int32_t first)         \
    {                                                                                                        \
        update_rows(args, first, dest_dtype, src_dtype, r);                                                  \
    }
#define EACH_SMALL(X, d, s) X(1, d, s) X(2, d, s) X(3, d, s) X(4, d, s)
#if DEST == 8
#define EACH_DEST(X, d, s) EACH_SMALL(X, d, s) X(5, d, s) X(6, d, s) X(7, d, s) X(8, d, s)
#else
#define EACH_DEST(X, d, s) EACH_SMALL(X, d, s) X(5, d, s) X(6, d, s)
#endif
EACH_DEST(UPDATE, F32, F32)
EACH_DEST(UPDATE, F32, BF16)
EACH_DEST(UPDATE, F32, F16)
EACH_DEST(UPDATE, BF16, F32)
EACH_DEST(UPDATE, F16, F32)

#define UPDATE_ENTRY(r, d, s) update_##r##_##d##_##s,
static update_function *const update_by_src[3][DEST] = {{EACH_DEST(UPDATE_ENTRY, F32, F32)},
                                                        {EACH_DEST(UPDATE_ENTRY, F32, BF16)},
                                                        {EACH_DEST(UPDATE_ENTRY, F32, F16)}};
static update_function *const update_by_dest[3][DEST] = {{EACH_DEST(UPDATE_ENTRY, F32, F32)},
                                                         {EACH_DEST(UPDATE_ENTRY, BF16, F32)},
                                                         {EACH_DEST(UPDATE_ENTRY, F16, F32)}};

/* Lists of up to DEST rows are one tile; longer ones are cut into tiles of LONG. */
static void update(const lrki_update_args *args)
{
    int32_t tile = args->n_dest <= DEST ? args->n_dest : LONG;
    for (int32_t i = 0; i < args->n_dest; i += tile) {
        int32_t r = args->n_dest - i < tile ? args->n_dest - i : tile;
        update_function *f = args->dest_dtype == F32 ? update_by_src[args->src_dtype][r - 1]
                                                     : update_by_dest[args->dest_dtype][r - 1];
        f(args, i);
    }
}

/* ---- conversion ------------------------------------------------------------------------------------------------------ */

INLINE void convert(const void *from, const int from_dtype, void *to, const int to_dtype, int64_t n)
{
    int64_t k = 0;
    for (; k + LANES <= n; k += LANES)
        store(at_mut(to, to_dtype, k), to_dtype, load(at(from, from_dtype, k), from_dtype));
    if (k < n)
        store_part(at_mut(to, to_dtype, k), to_dtype, load_part(at(from, from_dtype, k), from_dtype, n - k),
                   n - k);
}

static void widen(const void *from, int32_t dtype, int64_t n, float *to)
{
    if (dtype == F32)
        memcpy(to, from, (size_t)n * sizeof *to);
    else if (dtype == BF16)
        convert(from, BF16, to, F32, n);
    else
        convert(from, F16, to, F32, n);
}

static void narrow(const float *from, int32_t dtype, int64_t n, void *to)
{
    if (dtype == F32)
        memcpy(to, from, (size_t)n * sizeof *from);
    else if (dtype == BF16)
        convert(from, F32, to, BF16, n);
    else
        convert(from, F32, to, F16, n);
}

/*
 * Blocks. With 16 registers a chunk is whole tiles of dot and update, and so small that it and the next one fit a
 * second-level cache of 512 KiB which another thread may share; a row of a block is up to a page of f32.
 */
#if REGISTERS == 32
#define FEW_RANKS_ROWS  32
#define MORE_RANKS_ROWS 64
#define WHOLE           768
#define COLS            512
#define RANK_VALUES     4608
#else
#define FEW_RANKS_ROWS  12
#define MORE_RANKS_ROWS 24
#define WHOLE           1024
#define COLS            1024
#define RANK_VALUES     (1 << 15)
#endif

_Static_assert(FEW_RANKS_ROWS >= LRKI_LEAST_ROWS && FEW_RANKS_ROWS <= MORE_RANKS_ROWS &&
                   MORE_RANKS_ROWS <= LRKI_SKINNY_ROWS,
               "rows of a chunk");
_Static_assert(COLS >= LRKI_LEAST_COLS && COLS <= WHOLE && WHOLE <= LRKI_TILE_COLS, "columns of a block");
_Static_assert(COLS % LRKI_SKEW == 0 && WHOLE % LRKI_SKEW == 0, "rounding keeps to the limits");
_Static_assert(WHOLE <= LRKI_TILE_FLOATS / MORE_RANKS_ROWS, "a lane's tile holds a block");
_Static_assert(GROUP <= 8 && DEST <= 8, "sums are at most 8 x 8");

const lrki_skinny NAME = {.name = INSTRUCTIONS,
                          .group = GROUP,
                          .dest = DEST,
                          .many = MANY,
                          .many_wide = MANY_WIDE,
                          .blocks = {FEW_RANKS_ROWS, MORE_RANKS_ROWS, WHOLE, COLS, RANK_VALUES},
                          .dot = dot,
                          .update = update,
                          .widen = widen,
                          .narrow = narrow};
