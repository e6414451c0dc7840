/* SPDX-License-Identifier: MIT */
/* The smallest use: one adapted layer, W = 0 [2 x 3], learns y = (x0 - x1, x2) from four samples. */
#include <lorank/lorank.h>
#include <stdio.h>

int main(void)
{
    const float x[4][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 1, 1}};
    const float target[4][2] = {{1, 0}, {-1, 0}, {0, 1}, {0, 1}};
    float y[4][2], dy[4][2], loss = 0;
    char error[256] = "";
    lrk_context *context = NULL;
    lrk_adapters *adapters = NULL;
    lrk_optimizer *optimizer = NULL;
    lrk_status s = lrk_context_create(NULL, &context, error, sizeof error);

    lrk_module_spec spec;
    lrk_module_spec_init(&spec, sizeof spec);
    spec.name = "layer", spec.n_in = 3, spec.n_out = 2, spec.rank = 2;
    if (s == LRK_OK) s = lrk_adapters_create(context, &spec, 1, NULL, &adapters);
    if (s == LRK_OK) s = lrk_optimizer_create_adamw(adapters, NULL, &optimizer);

    lrk_matrix mx = {sizeof mx, LRK_DTYPE_F32, x, 4, 3, 3}, mdy = {sizeof mdy, LRK_DTYPE_F32, dy, 4, 2, 2};
    lrk_matrix_mut my = {sizeof my, LRK_DTYPE_F32, y, 4, 2, 2};
    lrk_pass_options options;
    lrk_pass_options_init(&options, sizeof options);
    options.mode = LRK_PASS_TRAIN, options.max_rows = 4;
    const int32_t layer = 0;
    for (int step = 0; step < 200 && s == LRK_OK; step++) {
        lrk_pass *pass = NULL;
        s = lrk_pass_begin(adapters, &options, &pass);
        for (int i = 0; i < 8; i++)
            y[i / 2][i % 2] = 0; /* your x W^T */
        if (s == LRK_OK) s = lrk_forward(pass, &layer, 1, &mx, &my, NULL, 0);
        loss = 0;
        for (int i = 0; i < 8; i++) {
            float e = y[i / 2][i % 2] - target[i / 2][i % 2];
            dy[i / 2][i % 2] = e, loss += e * e / 2;
        }
        if (s == LRK_OK) s = lrk_backward(pass, &layer, 1, &mx, NULL, 0, &mdy, NULL);
        lrk_pass_end(pass);
        if (s == LRK_OK) s = lrk_optimizer_step(optimizer, 0.05);
    }
    if (s != LRK_OK && context != NULL) lrk_context_error(context, error, sizeof error);
    printf(s == LRK_OK ? "learnt: %s\n" : "failed: %s\n", s == LRK_OK ? loss < 1e-3f ? "yes" : "no" : error);
    lrk_optimizer_destroy(optimizer);
    lrk_adapters_destroy(adapters);
    lrk_context_destroy(context);
    return s != LRK_OK;
}
