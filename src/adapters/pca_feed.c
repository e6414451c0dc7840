/* SPDX-License-Identifier: MIT */
/*
 * Feeding principal components (lorank/pca.h has the formula): batches of a call's rows, or another object's components, become M;
 * M M^T = U diag(lambda) U^T gives sigma = sqrt(lambda) and C = diag(1 / sigma) U^T M, all in double. Work is cut by columns
 * and by tiles of rows whose sizes depend on nothing but the shape, and LAPACK runs in a task, so that threads change no bit.
 */
#include "pca.h"

#include <math.h>
#include <string.h>

#include "../kernels/dense.h"
#include "../kernels/kernels.h"

#define COLUMNS 256 /* of a task; at most LRKI_TILE_COLS */
#define TILE    16  /* rows of M in a tile of M M^T      */

/* lambda over the largest at which a direction counts as none: what M M^T keeps of an f32 input ends there. */
#define LEAST 1e-12

/* Part of one batch. */
typedef struct batch {
    lrk_pca *pca;
    const lrki_pca_group *group;
    const lrki_skinny *kernels;
    const lrki_activations *x;
    const double *other; /* state of another object's group, instead of x */
    int64_t held;        /* rows of M of the group's own directions: 0 or k */
    int64_t taken;       /* rows of M of the batch                          */
    int64_t n;           /* rows of M                                       */
    int64_t ld;          /* of M                                            */
    int64_t top;         /* eigenvectors wanted                             */
    double rows;         /* of the batch                                    */
    lrk_status status;   /* of LAPACK                                       */
} batch;

typedef double lanes __attribute__((vector_size(4 * sizeof(double))));

static int64_t parts(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

/* ---- M ------------------------------------------------------------------------------------------------------------- */

/* n rows of M: diag(values) directions, columns col .. col + width - 1. */
static void place_directions(const double *values, const double *directions, int64_t n, int64_t n_in,
                             int64_t col, int64_t width, double *to, int64_t ld)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < width; c++)
            to[i * ld + c] = values[i] * directions[i * n_in + col + c];
}

/* X - m, and m into the last row of M. */
static void place_rows(const batch *b, int64_t col, int64_t width, double *to, double *mean)
{
    const int64_t *rows = b->pca->scratch.rows;
    float values[LRKI_TILE_COLS];
    for (int64_t c = 0; c < width; c++)
        mean[c] = 0.0;
    for (int64_t i = 0; i < b->taken; i++) {
        const lrki_tile tile = {rows[i], 1, col, width};
        lrki_tile_read(b->kernels, b->x, NULL, tile, values, width);
        for (int64_t c = 0; c < width; c++) {
            to[i * b->ld + c] = (double)values[c];
            mean[c] += (double)values[c];
        }
    }
    for (int64_t c = 0; c < width; c++)
        mean[c] /= b->rows;
    for (int64_t i = 0; i < b->taken; i++)
        for (int64_t c = 0; c < width; c++)
            to[i * b->ld + c] -= mean[c];
}

/* Columns of M; the last row becomes sqrt(n T / (n + T)) (mu - m), and mu moves on. */
static void place_columns(void *data, int64_t index)
{
    const batch *b = data;
    const lrki_pca_group *group = b->group;
    int64_t col = index * COLUMNS, width = lrki_smaller(COLUMNS, group->n_in - col);
    double *to = b->pca->scratch.stack + col, *last = to + (b->n - 1) * b->ld, before = group->scalars[0];
    double factor = sqrt(before * b->rows / (before + b->rows)), share = b->rows / (before + b->rows);
    place_directions(group->values, group->components, b->held, group->n_in, col, width, to, b->ld);
    to += b->held * b->ld;
    if (b->other == NULL) {
        place_rows(b, col, width, to, last);
    } else {
        const double *mean = b->other + LRKI_PCA_SCALARS, *values = mean + group->n_in;
        place_directions(values, values + group->k, b->taken, group->n_in, col, width, to, b->ld);
        memcpy(last, mean + col, (size_t)width * sizeof *last);
    }
    for (int64_t c = 0; c < width; c++) {
        double apart = group->mean[col + c] - last[c];
        last[c] = factor * apart;
        group->mean[col + c] -= share * apart;
    }
}

/* ---- M M^T --------------------------------------------------------------------------------------------------------- */

/* out[0..3] = a . b[j], rows of b a stride apart. */
static void dot_four(const double *a, const double *b, int64_t ld, int64_t n, double out[4])
{
    lanes sums[4] = {{0}, {0}, {0}, {0}}, x, y;
    for (int64_t c = 0; c < n; c += 4) {
        memcpy(&x, a + c, sizeof x);
        for (int j = 0; j < 4; j++) {
            memcpy(&y, b + j * ld + c, sizeof y);
            sums[j] += x * y;
        }
    }
    for (int j = 0; j < 4; j++)
        out[j] = sums[j][0] + sums[j][1] + (sums[j][2] + sums[j][3]);
}

static double dot(const double *a, const double *b, int64_t n)
{
    lanes sum = {0}, x, y;
    for (int64_t c = 0; c < n; c += 4) {
        memcpy(&x, a + c, sizeof x);
        memcpy(&y, b + c, sizeof y);
        sum += x * y;
    }
    return sum[0] + sum[1] + (sum[2] + sum[3]);
}

/* A tile on or left of the diagonal, and what mirrors it. */
static void multiply_tile(void *data, int64_t index)
{
    const batch *b = data;
    int64_t row = 0, ld = b->ld, n = b->n;
    while (index > row)
        index -= ++row;
    const double *m = b->pca->scratch.stack;
    double *gram = b->pca->scratch.gram, four[4];
    int64_t i_end = lrki_smaller((row + 1) * TILE, n), j_end = lrki_smaller((index + 1) * TILE, n);
    for (int64_t i = row * TILE; i < i_end; i++) {
        int64_t j = index * TILE;
        for (; j + 4 <= j_end; j += 4) {
            dot_four(m + i * ld, m + j * ld, ld, ld, four);
            for (int k = 0; k < 4; k++)
                gram[i * n + j + k] = gram[(j + k) * n + i] = four[k];
        }
        for (; j < j_end; j++)
            gram[i * n + j] = gram[j * n + i] = dot(m + i * ld, m + j * ld, ld);
    }
}

/* ---- its eigenvectors, and back ------------------------------------------------------------------------------------- */

static void decompose(void *data, int64_t index)
{
    batch *b = data;
    const lrki_pca_scratch *s = &b->pca->scratch;
    (void)index;
    b->status = lrki_eigen_in_task(b->n, b->top, s->gram, s->squares, s->vectors, s->lapack);
}

static bool is_direction(const lrki_pca_scratch *s, int64_t top, int64_t i)
{
    return i < top && s->squares[i] > 0 && s->squares[i] > LEAST * s->squares[0];
}

/* Columns of C. */
static void turn_columns(void *data, int64_t index)
{
    const batch *b = data;
    const lrki_pca_group *group = b->group;
    const lrki_pca_scratch *s = &b->pca->scratch;
    int64_t col = index * COLUMNS, width = lrki_smaller(COLUMNS, group->n_in - col);
    for (int64_t i = 0; i < group->k; i++) {
        double *to = group->components + i * group->n_in + col;
        memset(to, 0, (size_t)width * sizeof *to);
        if (!is_direction(s, b->top, i)) continue;
        for (int64_t t = 0; t < b->n; t++) {
            double weight = s->vectors[i * b->n + t] / sqrt(s->squares[i]);
            const double *row = s->stack + t * b->ld + col;
            for (int64_t c = 0; c < width; c++)
                to[c] += weight * row[c];
        }
    }
}

/* The entry of largest magnitude, the first of equals, becomes positive. */
static void fix_sign(double *row, int64_t n)
{
    int64_t at = 0;
    for (int64_t c = 1; c < n; c++)
        if (fabs(row[c]) > fabs(row[at])) at = c;
    double sign = row[at] < 0 ? -1 : 1;
    for (int64_t c = 0; c < n; c++)
        row[c] *= sign;
}

/* ---- a batch ------------------------------------------------------------------------------------------------------- */

/* Rows of zero behind M's columns, so that sums run over whole vectors. */
static void pad_rows(const batch *b)
{
    for (int64_t i = 0; i < b->n; i++)
        for (int64_t c = b->group->n_in; c < b->ld; c++)
            b->pca->scratch.stack[i * b->ld + c] = 0.0;
}

/* What the batch adds to V: the squares of its rows of M, and those of another object that it does not hold any more. */
static double added_variance(const batch *b)
{
    double sum = 0;
    for (int64_t i = b->other == NULL ? b->held : b->n - 1; i < b->n; i++)
        sum += b->pca->scratch.gram[i * b->n + i];
    return b->other == NULL ? sum : sum + b->other[1];
}

static lrk_status absorb(batch *b)
{
    const lrki_pca_group *group = b->group;
    lrk_context *context = b->pca->adapters->context;
    b->held = group->scalars[0] > 0 ? group->k : 0;
    b->n = b->held + b->taken + 1;
    b->ld = lrki_pca_padded(group->n_in);
    b->top = lrki_smaller(group->k, b->n);
    b->kernels = lrki_skinny_in(context);
    int64_t columns = parts(group->n_in, COLUMNS), tiles = parts(b->n, TILE);
    pad_rows(b);
    lrk_status status = lrki_parallel_for(context, columns, place_columns, b);
    if (status == LRK_OK) status = lrki_parallel_for(context, tiles * (tiles + 1) / 2, multiply_tile, b);
    if (status != LRK_OK) return status;
    group->scalars[0] += b->rows;
    group->scalars[1] += added_variance(b);
    if (!isfinite(group->scalars[1])) return LRK_OK; /* refused when it is asked for */
    status = lrki_parallel_for(context, 1, decompose, b);
    if (status == LRK_OK && b->status == LRK_OK)
        status = lrki_parallel_for(context, columns, turn_columns, b);
    if (b->status != LRK_OK) group->scalars[1] = NAN;
    for (int64_t i = 0; i < group->k && status == LRK_OK && b->status == LRK_OK; i++) {
        group->values[i] = is_direction(&b->pca->scratch, b->top, i) ? sqrt(b->pca->scratch.squares[i]) : 0;
        fix_sign(group->components + i * group->n_in, group->n_in);
    }
    return status;
}

/* ---- a call -------------------------------------------------------------------------------------------------------- */

static double cosine(const double *a, const double *b, int64_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (int64_t c = 0; c < n; c++)
        ab += a[c] * b[c], aa += a[c] * a[c], bb += b[c] * b[c];
    return ab / sqrt(aa * bb); /* NaN where one is none */
}

static void note_before(const lrk_pca *pca, const lrki_pca_group *group)
{
    memcpy(pca->scratch.before, group->components, (size_t)(group->k * group->n_in) * sizeof(double));
}

/* Of the leading components, those that what came since turned by no more than tau. */
static int64_t count_converged(const lrk_pca *pca, const lrki_pca_group *group)
{
    int64_t i = 0, n = group->n_in;
    while (i < group->k &&
           cosine(group->components + i * n, pca->scratch.before + i * n, n) >= pca->options.tau)
        i++;
    return i;
}

static bool is_taken(const lrk_pca *pca, int64_t row)
{
    return pca->counts == NULL || pca->counts[row] != 0;
}

static int64_t count_rows(const lrk_pca *pca, int64_t rows)
{
    int64_t n = 0;
    for (int64_t row = 0; row < rows; row++)
        n += is_taken(pca, row);
    return n;
}

/* Rows of x in batches of about equal size, in their order. */
static lrk_status feed_rows(lrk_pca *pca, const lrki_pca_group *group, const lrki_call *call, int64_t n_rows)
{
    int64_t batches = parts(n_rows, pca->options.batch_rows), row = 0, done = 0;
    lrk_status status = LRK_OK;
    for (int64_t i = 0; i < batches && status == LRK_OK && isfinite(group->scalars[1]); i++) {
        int64_t end = n_rows / batches * (i + 1) + lrki_smaller(i + 1, n_rows % batches);
        batch b = {.pca = pca,
                   .group = group,
                   .x = &call->lora.x,
                   .taken = end - done,
                   .rows = (double)(end - done)};
        for (int64_t at = 0; at < b.taken; row++)
            if (is_taken(pca, row)) pca->scratch.rows[at++] = row;
        done = end;
        status = absorb(&b);
    }
    return status;
}

static lrk_status feed_group(lrk_pca *pca, const lrki_pca_group *group, const lrki_call *call)
{
    bool is_first = group->scalars[0] == 0;
    int64_t n_rows = count_rows(pca, call->x.rows);
    if (group->k == 0 || n_rows == 0 || group->scalars[2] >= (double)group->wanted) return LRK_OK;
    note_before(pca, group);
    lrk_status status = feed_rows(pca, group, call, n_rows);
    if (status == LRK_OK && !is_first) group->scalars[2] = (double)count_converged(pca, group);
    return status;
}

lrk_status lrki_pca_feed(lrk_pca *pca, const lrki_call *call)
{
    const lrki_pca_group *group = &pca->groups[pca->modules[call->modules[0]].group];
    bool is_feeder = false;
    if (pca->counts != NULL && pca->n_counts != call->x.rows)
        return lrki_fail(pca->adapters->context, LRK_ERR_SHAPE,
                         "lrk_forward: x has %lld rows where lrk_pca_select() told of %lld",
                         (long long)call->x.rows, (long long)pca->n_counts);
    for (int32_t i = 0; i < call->n_modules; i++)
        is_feeder = is_feeder || call->modules[i] == group->feeder;
    return is_feeder ? feed_group(pca, group, call) : LRK_OK;
}

/* ---- another object ------------------------------------------------------------------------------------------------ */

lrk_status lrki_pca_add_group(lrk_pca *pca, const lrki_pca_group *group, const double *other)
{
    bool is_first = group->scalars[0] == 0;
    if (group->k == 0 || other[0] == 0) return LRK_OK;
    note_before(pca, group);
    batch b = {.pca = pca, .group = group, .other = other, .taken = group->k, .rows = other[0]};
    lrk_status status = absorb(&b);
    if (status == LRK_OK) group->scalars[2] = is_first ? other[2] : (double)count_converged(pca, group);
    return status;
}

lrk_status lrk_pca_add(lrk_pca *pca, const double *state, int64_t n)
{
    if (pca == NULL) return LRK_ERR_ARGUMENT;
    lrk_context *context = pca->adapters->context;
    if (state == NULL || state == pca->state)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_pca_add: state is NULL or the object's own");
    if (n != pca->n_state)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_pca_add: a state of %lld doubles, this one has %lld",
                         (long long)n, (long long)pca->n_state);
    lrk_status status = lrki_pca_check_idle(pca, "lrk_pca_add");
    for (int64_t i = 0; i < pca->n_groups && status == LRK_OK; i++)
        status = lrki_pca_add_group(pca, &pca->groups[i], state + (pca->groups[i].scalars - pca->state));
    return status;
}
