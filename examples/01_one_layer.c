/* SPDX-License-Identifier: MIT */
/*
 * Introduces: one layer trained for real. A frozen weight W, batches split into two micro-batches whose
 * gradients add up, the hidden state kept from forward to backward, and the result merged into W.
 *
 * The data come from W plus a change of rank 2, so an adapter of rank 4 can learn it exactly.
 */
#include <lorank/lorank.h>
#include <math.h>
#include <stdio.h>

enum { IN = 6, OUT = 5, RANK = 4, ROWS = 16, MICRO = 8, STEPS = 600 };

static float w[OUT][IN], wanted[OUT][IN]; /* what the layer is, and what the data were made with */
static float x[ROWS][IN], target[ROWS][OUT];

/* y = x m^T for rows from `first` on. */
static void multiply(int first, int rows, float m[OUT][IN], float y[][OUT])
{
    for (int t = 0; t < rows; t++)
        for (int i = 0; i < OUT; i++) {
            y[t][i] = 0;
            for (int j = 0; j < IN; j++)
                y[t][i] += x[first + t][j] * m[i][j];
        }
}

static void make_data(void)
{
    for (int i = 0; i < OUT; i++)
        for (int j = 0; j < IN; j++) {
            w[i][j] = sinf((float)(3 * i + 7 * j));
            wanted[i][j] = w[i][j] + cosf((float)i) * sinf((float)(2 * j)) -
                           0.5f * sinf((float)(5 * i)) * cosf((float)j);
        }
    for (int t = 0; t < ROWS; t++)
        for (int j = 0; j < IN; j++)
            x[t][j] = sinf((float)((t + 2) * (j + 3) * (j + 3)));
    multiply(0, ROWS, wanted, target);
}

/* Forward and backward of MICRO rows; adds the squared error to *loss. */
static lrk_status micro_batch(lrk_pass *pass, int first, double *loss)
{
    static float y[MICRO][OUT], dy[MICRO][OUT];
    static double saved[64]; /* lrk_saved_size() says how much is needed */
    const int32_t layer = 0;
    lrk_matrix mx = {sizeof mx, LRK_DTYPE_F32, x[first], MICRO, IN, IN};
    lrk_matrix mdy = {sizeof mdy, LRK_DTYPE_F32, dy, MICRO, OUT, OUT};
    lrk_matrix_mut my = {sizeof my, LRK_DTYPE_F32, y, MICRO, OUT, OUT};
    multiply(first, MICRO, w, y); /* the layer itself */
    lrk_status s = lrk_forward(pass, &layer, 1, &mx, &my, saved, sizeof saved);
    if (s != LRK_OK) return s;
    for (int t = 0; t < MICRO; t++)
        for (int i = 0; i < OUT; i++) {
            dy[t][i] = (y[t][i] - target[first + t][i]) / ROWS;
            *loss += 0.5 * (double)dy[t][i] * (double)dy[t][i] * ROWS;
        }
    return lrk_backward(pass, &layer, 1, &mx, saved, sizeof saved, &mdy, NULL);
}

static lrk_status train_step(lrk_adapters *adapters, lrk_optimizer *optimizer, double *loss)
{
    lrk_pass_options options;
    lrk_pass *pass = NULL;
    lrk_status s = lrk_pass_options_init(&options, sizeof options);
    options.mode = LRK_PASS_TRAIN, options.max_rows = MICRO;
    if (s == LRK_OK) s = lrk_pass_begin(adapters, &options, &pass);
    *loss = 0;
    for (int first = 0; first < ROWS && s == LRK_OK; first += MICRO)
        s = micro_batch(pass, first, loss);
    lrk_pass_end(pass);
    return s == LRK_OK ? lrk_optimizer_step(optimizer, 0.02) : s;
}

static lrk_status run(lrk_context *context, lrk_adapters **adapters, lrk_optimizer **optimizer)
{
    lrk_module_spec spec;
    double first = 0, loss = 0, largest = 0;
    lrk_status s = lrk_module_spec_init(&spec, sizeof spec);
    spec.name = "layer", spec.n_in = IN, spec.n_out = OUT, spec.rank = RANK;
    if (s == LRK_OK) s = lrk_adapters_create(context, &spec, 1, NULL, adapters);
    if (s == LRK_OK) s = lrk_optimizer_create_adamw(*adapters, NULL, optimizer);
    for (int step = 0; step < STEPS && s == LRK_OK; step++) {
        s = train_step(*adapters, *optimizer, &loss);
        if (step == 0) first = loss;
    }
    if (s == LRK_OK) s = lrk_adapters_merge(*adapters, 0, 1, LRK_WEIGHT_OUT_IN, &w[0][0], IN);
    for (int i = 0; i < OUT; i++)
        for (int j = 0; j < IN; j++)
            largest = fmax(largest, fabs((double)w[i][j] - (double)wanted[i][j]));
    if (s == LRK_OK)
        printf("loss fell below a millionth of the first: %s\n", loss < 1e-6 * first ? "yes" : "no");
    if (s == LRK_OK) printf("merged weight is the wanted one: %s\n", largest < 0.01 ? "yes" : "no");
    return s;
}

int main(void)
{
    char error[256] = "";
    lrk_context *context = NULL;
    lrk_adapters *adapters = NULL;
    lrk_optimizer *optimizer = NULL;
    make_data();
    lrk_status s = lrk_context_create(NULL, &context, error, sizeof error);
    if (s == LRK_OK) s = run(context, &adapters, &optimizer);
    if (s != LRK_OK && context) lrk_context_error(context, error, sizeof error);
    if (s != LRK_OK) printf("failed: %s\n", error);
    lrk_optimizer_destroy(optimizer);
    lrk_adapters_destroy(adapters);
    lrk_context_destroy(context);
    return s != LRK_OK;
}
