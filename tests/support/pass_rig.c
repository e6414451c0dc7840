/* SPDX-License-Identifier: MIT */
/* The rig of the tests of passes (pass_rig.h). */
#include "pass_rig.h"

#include <check.h>
#include <string.h>

const shape rig_shapes[] = {{96, 128, 4, 0, 0, 1.0},
                            {96, 80, 2, 0, 0, 1.0},
                            {96, 64, 3, LRK_NO_GROUP, 1, 1.0},
                            {48, 64, 3, LRK_NO_GROUP, 2, 1.0},
                            {48, 64, 0, LRK_NO_GROUP, 2, 1.0}};

struct rig rig;
const int32_t rig_group[2] = {0, 1};

void rig_setup(void)
{
    fault_reset(&rig.host);
    rig.context = fault_context(&rig.host);
    rig.set = set_make(rig.context, rig_shapes, MODULES, 0.1, 0);
    set_fill(rig.set, 1);
    rig.x = padded_make(ROWS, 96, 2, 1);
    rig.dx = padded_make(ROWS, 96, 1, 2);
    rig.y[0] = padded_make(ROWS, 128, 3, 3);
    rig.y[1] = padded_make(ROWS, 80, 0, 4);
}

void rig_teardown(void)
{
    padded_free(&rig.x);
    padded_free(&rig.dx);
    padded_free(&rig.y[0]);
    padded_free(&rig.y[1]);
    lrk_adapters_destroy(rig.set);
    lrk_context_destroy(rig.context);
    ck_assert_int_eq(rig.host.live, 0);
    ck_assert(!rig.host.bad_release);
}

void rig_expect_words(lrk_status got, lrk_status want, const char *words)
{
    char text[512];
    lrk_context_error(rig.context, text, sizeof text);
    ck_assert_msg(got == want, "%s instead of %s: %s", lrk_status_name(got), lrk_status_name(want), text);
    ck_assert_msg(strstr(text, words) != NULL, "'%s' is not in '%s'", words, text);
}

void rig_expect_no_pass(lrk_pass_options options, lrk_status want, const char *words)
{
    lrk_pass *pass = (lrk_pass *)&rig.host;
    rig_expect_words(lrk_pass_begin(rig.set, &options, &pass), want, words);
    ck_assert_ptr_null(pass);
}

lrk_pass *rig_open_mode(int32_t mode, uint32_t gradients, lrk_sink *sink)
{
    lrk_pass_options options = pass_options(ROWS);
    options.mode = mode;
    options.gradients = gradients;
    options.sink = sink;
    return pass_open(rig.set, options);
}

lrk_sink *rig_make_sink(uint32_t kinds)
{
    lrk_sink *sink = NULL;
    ck_assert_int_eq(lrk_sink_create(rig.set, kinds, &sink), LRK_OK);
    return sink;
}

lrk_status rig_forward_group(lrk_pass *pass, void *saved, size_t bytes)
{
    lrk_matrix in = padded_view(&rig.x);
    lrk_matrix_mut out[2] = {padded_mut(&rig.y[0]), padded_mut(&rig.y[1])};
    return lrk_forward(pass, rig_group, 2, &in, out, saved, bytes);
}

lrk_status rig_backward_group(lrk_pass *pass, const void *saved, size_t bytes)
{
    lrk_matrix in = padded_view(&rig.x), dy[2] = {padded_view(&rig.y[0]), padded_view(&rig.y[1])};
    lrk_matrix_mut dx_view = padded_mut(&rig.dx);
    return lrk_backward(pass, rig_group, 2, &in, saved, bytes, dy, &dx_view);
}

size_t rig_group_saved_size(void)
{
    size_t bytes = 0;
    ck_assert_int_eq(lrk_saved_size(rig.set, rig_group, 2, ROWS, &bytes), LRK_OK);
    return bytes;
}

/* Drops the first rank of module 2. */
void rig_change_ranks(void)
{
    static const int64_t kept[RANKS] = {0, 1, 2, 3, 4, 5, 6, 7};
    lrki_module_change parts[MODULES] = {{0}};
    lrki_change *change = NULL;
    for (int i = 0; i < MODULES; i++) {
        parts[i].n_kept = rig.set->modules[i].bank.rank - (i == 2);
        parts[i].kept = kept + (i == 2);
    }
    ck_assert_int_eq(lrki_change_prepare(rig.set, parts, 1, LRK_INIT_ZERO, &change), LRK_OK);
    lrki_change_commit(change);
}
