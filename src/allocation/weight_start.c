/* SPDX-License-Identifier: MIT */
/*
 * PiSSA, OLoRA and orthogonal starts (lorank/weight_start.h). Leading singular triples come from subspace iteration in double (Halko,
 * Martinsson and Tropp 2011, algorithm 4.4): products are cut into tasks of fixed size, LAPACK runs in a task of its own.
 */
#include "lorank/weight_start.h"

#include <math.h>
#include <string.h>

#include "../kernels/dense.h"
#include "../kernels/kernels.h"
#include "../kernels/lora.h"
#include "start.h"

#define ITERATIONS 8
#define MORE       8  /* directions beyond twice the rank */
#define ROWS       32 /* of a task, on either side        */
#define SHRINK     10 /* of orthogonal rows, as in the peft package */

lrk_status lrk_weight_start_options_init(lrk_weight_start_options *options, size_t struct_size)
{
    const lrk_weight_start_options defaults = {.method = LRK_WEIGHT_START_PISSA, .iterations = ITERATIONS};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static lrk_status check_options(lrk_context *context, const lrk_weight_start_options *options)
{
    const char *wrong = NULL;
    if (options->iterations < 0) wrong = "iterations must be >= 0";
    if (options->method < LRK_WEIGHT_START_PISSA || options->method > LRK_WEIGHT_START_ORTHOGONAL)
        wrong = "method must be one of LRK_WEIGHT_START_...";
    if (options->flags != 0) wrong = "flags must be 0";
    return wrong == NULL ? LRK_OK : lrki_fail(context, LRK_ERR_ARGUMENT, "%s", wrong);
}

/* One module's work: M [rows x cols] as it lies in memory. */
typedef struct work {
    lrk_context *context;
    const lrk_adapters *adapters;
    const lrk_weight_start_options *options;
    const lrki_module *module;
    int32_t index;
    lrk_weight weight;
    int64_t rows;
    int64_t cols;
    int64_t q;     /* directions */
    double *left;  /* [rows x q] */
    double *right; /* [cols x q] */
    double *u;     /* [rows x q] */
    double *s;     /* [q]        */
    double *vt;    /* [q x q]    */
    double *lapack;
    double *memory;
    int64_t doubles;
    double *factored; /* of the LAPACK task: left or right */
    int64_t height;
    lrk_status status;
} work;

static lrk_status fail_of(const lrk_adapters *adapters, int32_t i, lrk_status status, const char *what)
{
    return lrki_fail_at(adapters->context, status, (lrki_place){.module = i}, "module '%s': %s",
                        adapters->modules[i].name, what);
}

static lrk_status fail(const work *w, lrk_status status, const char *what)
{
    return fail_of(w->adapters, w->index, status, what);
}

/* ---- products and factorisations ----------------------------------------------------------------------------------- */

/* Rows of left = M right. */
static void multiply(void *data, int64_t task)
{
    const work *w = data;
    int64_t end = lrki_smaller((task + 1) * ROWS, w->rows), q = w->q;
    for (int64_t i = task * ROWS; i < end; i++) {
        double *to = w->left + i * q;
        memset(to, 0, (size_t)q * sizeof *to);
        for (int64_t c = 0; c < w->cols; c++) {
            double value = (double)w->weight.data[i * w->weight.ld + c];
            for (int64_t j = 0; j < q; j++)
                to[j] += value * w->right[c * q + j];
        }
    }
}

/* Rows of right = M^T left. */
static void multiply_back(void *data, int64_t task)
{
    const work *w = data;
    int64_t first = task * ROWS, end = lrki_smaller(first + ROWS, w->cols), q = w->q;
    memset(w->right + first * q, 0, (size_t)((end - first) * q) * sizeof(double));
    for (int64_t i = 0; i < w->rows; i++)
        for (int64_t c = first; c < end; c++) {
            double value = (double)w->weight.data[i * w->weight.ld + c];
            for (int64_t j = 0; j < q; j++)
                w->right[c * q + j] += value * w->left[i * q + j];
        }
}

static void orthonormalise(void *data, int64_t task)
{
    const work *w = data;
    (void)task;
    lrki_qr_in_task(w->height, w->q, w->factored, NULL, w->lapack);
}

static void decompose(void *data, int64_t task)
{
    work *w = data;
    (void)task;
    w->status = lrki_svd_in_task(w->rows, w->q, w->left, w->u, w->s, w->vt, w->lapack);
}

static lrk_status run(work *w, void (*task)(void *, int64_t), int64_t n)
{
    return lrki_parallel_for(w->context, n, task, w);
}

static lrk_status turn(work *w, bool back)
{
    int64_t n = back ? w->cols : w->rows;
    lrk_status status = run(w, back ? multiply_back : multiply, (n + ROWS - 1) / ROWS);
    w->factored = back ? w->right : w->left;
    w->height = n;
    return status == LRK_OK ? run(w, orthonormalise, 1) : status;
}

/* right: an orthonormal basis that holds the leading right singular vectors; then M right = u diag(s) vt. */
static lrk_status find_triples(work *w)
{
    lrk_status status = LRK_OK;
    for (int64_t c = 0; c < w->cols; c++) {
        lrki_stream stream =
            lrki_stream_make(w->options->seed, LRKI_STREAM_WEIGHT, (uint64_t)w->index, (uint64_t)c);
        for (int64_t j = 0; j < w->q; j++)
            w->right[c * w->q + j] = lrki_stream_uniform(&stream, (uint64_t)j) - 0.5;
    }
    for (int32_t i = 0; i <= w->options->iterations && status == LRK_OK; i++) {
        status = turn(w, false);
        if (status == LRK_OK) status = turn(w, true);
    }
    if (status == LRK_OK) status = run(w, multiply, (w->rows + ROWS - 1) / ROWS);
    if (status == LRK_OK) status = run(w, decompose, 1);
    return status == LRK_OK && w->status != LRK_OK ? fail(w, w->status, "its weight has no decomposition")
                                                   : status;
}

/* ---- rows of A and B ----------------------------------------------------------------------------------------------- */

static bool is_transposed(const work *w)
{
    return w->weight.orientation == LRK_WEIGHT_IN_OUT;
}

static void pissa_rows(const work *w, int64_t n, float *a, float *b)
{
    double sign = w->module->scale < 0 ? -1 : 1;
    float *of_left = is_transposed(w) ? a : b, *of_right = is_transposed(w) ? b : a;
    for (int64_t j = 0; j < n; j++) {
        double root = sqrt(w->s[j] / fabs(w->module->scale));
        for (int64_t i = 0; i < w->rows; i++)
            of_left[j * w->rows + i] = (float)(sign * root * w->u[i * w->q + j]);
        for (int64_t c = 0; c < w->cols; c++) {
            double sum = 0;
            for (int64_t l = 0; l < w->q; l++)
                sum += w->vt[j * w->q + l] * w->right[c * w->q + l];
            of_right[j * w->cols + c] = (float)(root * sum);
        }
    }
}

/* The first n columns of W, orthonormalised, and their products with W. q is n here. */
static lrk_status olora_rows(work *w, float *a, float *b)
{
    bool t = is_transposed(w);
    double *basis = t ? w->right : w->left, *product = t ? w->left : w->right;
    int64_t n_out = w->module->n_out, n_in = w->module->n_in;
    for (int64_t o = 0; o < n_out; o++)
        for (int64_t j = 0; j < w->q; j++)
            basis[o * w->q + j] = (double)w->weight.data[t ? j * w->weight.ld + o : o * w->weight.ld + j];
    w->factored = basis;
    w->height = n_out;
    lrk_status status = run(w, orthonormalise, 1);
    if (status == LRK_OK) status = run(w, t ? multiply : multiply_back, (n_in + ROWS - 1) / ROWS);
    for (int64_t j = 0; j < w->q && status == LRK_OK; j++) {
        for (int64_t o = 0; o < n_out; o++)
            b[j * n_out + o] = (float)basis[o * w->q + j];
        for (int64_t c = 0; c < n_in; c++)
            a[j * n_in + c] = (float)product[c * w->q + j];
    }
    return status;
}

/* ---- memory and weights -------------------------------------------------------------------------------------------- */

static double *cut(double **next, int64_t n)
{
    double *piece = *next;
    *next += n;
    return piece;
}

static lrk_status take_memory(work *w)
{
    int64_t q = w->q, sides, lapack = lrki_qr_scratch(w->rows, q), other = lrki_qr_scratch(w->cols, q),
            svd = lrki_svd_scratch(w->rows, q);
    if (lapack < 0 || other < 0 || svd < 0 || !lrki_mul(2 * w->rows + w->cols + q + 1, q, &sides))
        return fail(w, LRK_ERR_SHAPE, "its weight is too large for LAPACK");
    lapack = lapack > other ? lapack : other;
    lapack = lapack > svd ? lapack : svd;
    w->memory = lrki_array(w->context, sides + lapack, sizeof *w->memory);
    if (w->memory == NULL) return lrki_fail_nomem(w->context, "a start from weights");
    w->doubles = sides + lapack;
    double *next = w->memory;
    w->left = cut(&next, w->rows * q);
    w->right = cut(&next, w->cols * q);
    w->u = cut(&next, w->rows * q);
    w->s = cut(&next, q);
    w->vt = cut(&next, q * q);
    w->lapack = next;
    return LRK_OK;
}

static lrk_status check_weight(const lrk_adapters *adapters, int32_t i, lrk_weight *weight)
{
    const lrki_module *m = &adapters->modules[i];
    bool t = weight->orientation == LRK_WEIGHT_IN_OUT;
    if (weight->orientation != LRK_WEIGHT_OUT_IN && !t)
        return fail_of(adapters, i, LRK_ERR_ARGUMENT, "unknown orientation");
    if (weight->data == NULL) return fail_of(adapters, i, LRK_ERR_ARGUMENT, "its weight is NULL");
    int64_t rows = t ? m->n_in : m->n_out, cols = t ? m->n_out : m->n_in;
    if (weight->ld == 0) weight->ld = cols;
    if (weight->ld < cols) return fail_of(adapters, i, LRK_ERR_SHAPE, "ld of its weight is too small");
    for (int64_t row = 0; row < rows; row++)
        for (int64_t c = 0; c < cols; c++)
            if (!isfinite(weight->data[row * weight->ld + c]))
                return fail_of(adapters, i, LRK_ERR_NONFINITE, "its weight is not finite");
    return LRK_OK;
}

lrk_status lrki_start_weight(const lrk_adapters *adapters, int32_t i,
                             int32_t (*give)(void *user, int32_t module, lrk_weight *weight), void *user,
                             lrk_weight *weight)
{
    *weight = (lrk_weight){.struct_size = sizeof *weight, .orientation = LRK_WEIGHT_OUT_IN};
    uint64_t before = lrki_failures(adapters->context);
    if (give(user, i, weight) != 0)
        return lrki_fail_callback(adapters->context, LRK_ERR_HOST, (lrki_place){.module = i}, before,
                                  "module '%s': the host refused its weight", adapters->modules[i].name);
    return check_weight(adapters, i, weight);
}

static lrk_status begin_of_weight(work *w, int64_t n, float *a, float *b)
{
    bool pissa = w->options->method == LRK_WEIGHT_START_PISSA;
    int64_t least = lrki_smaller(w->module->n_in, w->module->n_out);
    if (pissa && w->module->scale == 0) return fail(w, LRK_ERR_ARGUMENT, "its scale is 0");
    w->q = pissa ? lrki_smaller(least, 2 * n + MORE) : n;
    lrk_status status =
        lrki_start_weight(w->adapters, w->index, w->options->weight, w->options->user, &w->weight);
    w->rows = is_transposed(w) ? w->module->n_in : w->module->n_out;
    w->cols = is_transposed(w) ? w->module->n_out : w->module->n_in;
    if (status == LRK_OK) status = take_memory(w);
    if (status == LRK_OK) status = pissa ? find_triples(w) : olora_rows(w, a, b);
    if (status == LRK_OK && pissa) pissa_rows(w, n, a, b);
    lrki_array_free(w->context, w->memory, w->doubles, sizeof *w->memory);
    return status;
}

/* ---- orthogonal ---------------------------------------------------------------------------------------------------- */

/* rows [n x width] = 1 / SHRINK sum_i basis_i[j] X_i, X_i ~ N(0, 1) of its own stream, i from first to end. */
static lrk_status combine(work *w, const double *basis, int64_t n, int64_t first, int64_t end, int64_t width,
                          float *rows)
{
    float *drawn = lrki_array(w->context, width, sizeof *drawn);
    if (drawn == NULL) return lrki_fail_nomem(w->context, "a start from weights");
    for (int64_t i = first; i < end; i++) {
        lrki_stream stream =
            lrki_stream_make(w->options->seed, LRKI_STREAM_WEIGHT, (uint64_t)w->index, (uint64_t)(n + i));
        lrki_stream_fill_normal(&stream, 1.0f / SHRINK, drawn, width);
        for (int64_t j = 0; j < n; j++)
            for (int64_t c = 0; c < width; c++)
                rows[j * width + c] += (float)(basis[j * n + i] * (double)drawn[c]);
    }
    lrki_array_free(w->context, drawn, width, sizeof *drawn);
    return LRK_OK;
}

static lrk_status begin_orthogonal(work *w, int64_t n, float *a, float *b)
{
    int64_t of_a = (n + 1) / 2;
    w->rows = w->cols = w->q = w->height = n;
    lrk_status status = take_memory(w);
    for (int64_t i = 0; i < n && status == LRK_OK; i++) {
        lrki_stream stream =
            lrki_stream_make(w->options->seed, LRKI_STREAM_WEIGHT, (uint64_t)w->index, (uint64_t)i);
        for (int64_t j = 0; j < n; j++)
            w->left[i * n + j] = lrki_stream_uniform(&stream, (uint64_t)j) - 0.5;
    }
    w->factored = w->left;
    if (status == LRK_OK) status = run(w, orthonormalise, 1);
    if (status == LRK_OK) status = combine(w, w->left, n, 0, of_a, w->module->n_in, a);
    if (status == LRK_OK) status = combine(w, w->left, n, of_a, n, w->module->n_out, b);
    lrki_array_free(w->context, w->memory, w->doubles, sizeof *w->memory);
    return status;
}

/* ---- the plan ------------------------------------------------------------------------------------------------------ */

static lrk_status begin_module(const lrk_adapters *adapters, int32_t i,
                               const lrk_weight_start_options *options, const lrki_start *start,
                               lrk_plan *plan)
{
    const lrki_module *m = &adapters->modules[i];
    work w = {
        .context = adapters->context, .adapters = adapters, .options = options, .module = m, .index = i};
    float *a = plan->rows + (plan->change_parts[i].added_a - plan->rows);
    float *b = plan->rows_b + (plan->change_parts[i].added_b - plan->rows_b);
    int64_t rank = plan->parts[i].n_added, n = lrki_smaller(rank, lrki_smaller(m->n_in, m->n_out));
    if (rank == 0) return LRK_OK;
    if (options->method == LRK_WEIGHT_START_ORTHOGONAL) return begin_orthogonal(&w, rank, a, b);
    for (int64_t j = n; j < rank; j++)
        lrki_start_usual_row(start, i, plan->parts[i].added_ids[j], a + j * m->n_in);
    return begin_of_weight(&w, n, a, b);
}

static lrk_status write_rows(const lrk_adapters *adapters, const lrk_weight_start_options *options,
                             const lrki_start *start, lrk_plan *plan)
{
    if (lrki_plan_rows(plan) == NULL || lrki_plan_rows_b(plan) == NULL) return LRK_ERR_NOMEM;
    lrk_status status = LRK_OK;
    for (int32_t i = 0; i < adapters->n_modules && status == LRK_OK; i++)
        status = begin_module(adapters, i, options, start, plan);
    if (status == LRK_OK) lrki_plan_seal(plan);
    return status;
}

static lrk_status make_plan(lrk_adapters *adapters, const lrk_weight_start_options *given, int64_t step,
                            lrk_plan **out)
{
    lrk_weight_start_options options;
    lrki_start start = {0};
    lrk_plan *plan = NULL;
    const lrki_rules rules = {.name = "weight_start"};
    lrk_context *context = adapters->context;
    if (out == NULL || given == NULL || step < 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "plan and options must not be NULL, and step >= 0");
    lrk_weight_start_options_init(&options, sizeof options);
    lrk_status status = lrki_struct_read(context, &options, sizeof options, given, 2 * sizeof(uint32_t),
                                         "lrk_weight_start_options");
    if (status == LRK_OK) status = check_options(context, &options);
    if (status == LRK_OK && options.weight == NULL && options.method != LRK_WEIGHT_START_ORTHOGONAL)
        status = lrki_fail(context, LRK_ERR_ARGUMENT, "weight must not be NULL");
    if (status == LRK_OK && adapters->n_ranks == 0)
        status = lrki_fail(context, LRK_ERR_BUDGET, "the set has no rank to begin");
    if (status != LRK_OK) return status;
    status = lrki_start_open(adapters, &rules, 0, &start);
    if (status == LRK_OK) lrki_start_keep(&start);
    if (status == LRK_OK) status = lrki_start_plan(&start, step, &plan);
    if (status == LRK_OK) status = write_rows(adapters, &options, &start, plan);
    if (start.allocator != NULL) status = lrki_start_finish(&start, status, plan, out);
    lrki_start_close(&start);
    return status;
}

lrk_status lrk_weight_start_plan(lrk_adapters *adapters, const lrk_weight_start_options *options,
                                 int64_t step, lrk_plan **plan)
{
    if (plan != NULL) *plan = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_weight_start_plan");
    if (status != LRK_OK) return status;
    status = make_plan(adapters, options, step, plan);
    return lrki_plan_agree(adapters->context, "lrk_weight_start_plan", status, NULL, plan);
}

/* ---- in a text ----------------------------------------------------------------------------------------------------- */

#define KEY(...) LRKI_KEY(lrk_weight_start_options, "start", __VA_ARGS__)
static const lrki_key keys[] = {KEY("iterations", INTEGER4, iterations, ), {.name = NULL}};
#undef KEY

static void init_chosen(void *options)
{
    (void)lrk_weight_start_options_init(options, sizeof(lrk_weight_start_options));
}

static lrk_status check_chosen(lrk_context *context, const lrki_start_terms *terms, const void *chosen)
{
    (void)terms;
    return check_options(context, chosen);
}

static lrk_status plan_of(const lrki_start_terms *terms, const void *chosen, int32_t method, lrk_plan **plan)
{
    lrk_weight_start_options options = *(const lrk_weight_start_options *)chosen;
    options.method = method;
    options.seed = terms->seed;
    options.weight = terms->weight;
    options.user = terms->user;
    return lrk_weight_start_plan(terms->adapters, &options, terms->step, plan);
}

static lrk_status plan_pissa(const lrki_start_terms *terms, const void *chosen, lrk_plan **plan)
{
    return plan_of(terms, chosen, LRK_WEIGHT_START_PISSA, plan);
}

static lrk_status plan_olora(const lrki_start_terms *terms, const void *chosen, lrk_plan **plan)
{
    return plan_of(terms, chosen, LRK_WEIGHT_START_OLORA, plan);
}

static lrk_status plan_orthogonal(const lrki_start_terms *terms, const void *chosen, lrk_plan **plan)
{
    return plan_of(terms, chosen, LRK_WEIGHT_START_ORTHOGONAL, plan);
}

const lrki_start_kind lrki_start_pissa = {
    .method = {.summary = "PiSSA: A and B by the leading singular vectors of the weights",
               .keys = keys,
               .size = LRKI_METHOD_SIZE(lrk_weight_start_options),
               .init = init_chosen},
    .material = LRKI_START_OF_WEIGHTS,
    .subtracts = true,
    .check = check_chosen,
    .plan = plan_pissa};

const lrki_start_kind lrki_start_olora = {
    .method = {.summary = "OLoRA: A and B by the QR of the weights", .like = &lrki_start_pissa.method},
    .material = LRKI_START_OF_WEIGHTS,
    .subtracts = true,
    .plan = plan_olora};

const lrki_start_kind lrki_start_orthogonal = {
    .method = {.summary = "A and B random, with a product of 0", .like = &lrki_start_pissa.method},
    .material = LRKI_START_OF_WEIGHTS,
    .plan = plan_orthogonal};
