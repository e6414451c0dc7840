/* SPDX-License-Identifier: MIT */
/*
 * Arguments of forward and backward, saved activations and sinks: what is refused, and in which words.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pass_rig.h"

Suite *pass_calls_suite(void);

/* ---- arguments of forward and backward -------------------------------------------------------------------------------------- */

static lrk_pass *pass_of_calls;

static void expect_forward(const int32_t *modules, int32_t n, const lrk_matrix *in, const lrk_matrix_mut *out,
                           lrk_status want, const char *words)
{
    padded before = padded_copy(&rig.y[0]);
    rig_expect_words(lrk_forward(pass_of_calls, modules, n, in, out, NULL, 0), want, words);
    ck_assert(padded_same(&before, &rig.y[0]));
    padded_free(&before);
}

START_TEST(wrong_modules_are_refused)
{
    const int32_t twice[] = {1, 1}, mixed[] = {0, 2}, loners[] = {2, 3}, unknown[] = {0, MODULES},
                  negative[] = {-1};
    lrk_matrix in = padded_view(&rig.x);
    lrk_matrix_mut out[2] = {padded_mut(&rig.y[0]), padded_mut(&rig.y[1])};
    lrk_error_info info = {.struct_size = sizeof info};
    pass_of_calls = pass_open(rig.set, pass_options(ROWS));
    ck_assert_int_eq(lrk_forward(NULL, rig_group, 2, &in, out, NULL, 0), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_backward(NULL, rig_group, 2, &in, NULL, 0, &in, NULL), LRK_ERR_ARGUMENT);
    expect_forward(NULL, 1, &in, out, LRK_ERR_ARGUMENT, "no modules");
    expect_forward(rig_group, 0, &in, out, LRK_ERR_ARGUMENT, "no modules");
    expect_forward(twice, 2, &in, out, LRK_ERR_ARGUMENT, "'m1' is given twice");
    expect_forward(mixed, 2, &in, out, LRK_ERR_ARGUMENT, "input group");
    ck_assert_int_eq(lrk_context_error_info(rig.context, &info), LRK_OK);
    ck_assert_int_eq(info.module, 2);
    expect_forward(loners, 2, &in, out, LRK_ERR_ARGUMENT, "input group");
    expect_forward(unknown, 2, &in, out, LRK_ERR_ARGUMENT, "no module 5");
    expect_forward(negative, 1, &in, out, LRK_ERR_ARGUMENT, "no module -1");
    lrk_pass_end(pass_of_calls);
}
END_TEST

START_TEST(wrong_matrices_are_refused)
{
    lrk_matrix in = padded_view(&rig.x), bad = in;
    lrk_matrix_mut out[2] = {padded_mut(&rig.y[0]), padded_mut(&rig.y[1])}, saved_out = out[1];
    pass_of_calls = pass_open(rig.set, pass_options(ROWS));
    expect_forward(rig_group, 2, NULL, out, LRK_ERR_ARGUMENT, "x is NULL");
    expect_forward(rig_group, 2, &in, NULL, LRK_ERR_ARGUMENT, "y is NULL");
    bad.dtype = LRK_DTYPE_F16 + 1;
    expect_forward(rig_group, 2, &bad, out, LRK_ERR_ARGUMENT, "dtype 3");
    bad.dtype = -1;
    expect_forward(rig_group, 2, &bad, out, LRK_ERR_ARGUMENT, "dtype -1");
    bad = in;
    bad.data = NULL;
    expect_forward(rig_group, 2, &bad, out, LRK_ERR_ARGUMENT, "data");
    bad = in;
    bad.rows = -1;
    expect_forward(rig_group, 2, &bad, out, LRK_ERR_ARGUMENT, "rows");
    bad = in;
    bad.cols = 95;
    expect_forward(rig_group, 2, &bad, out, LRK_ERR_SHAPE, "'m0': x is 160 x 95");
    bad = in;
    bad.ld = 95;
    expect_forward(rig_group, 2, &bad, out, LRK_ERR_SHAPE, "ld 95");
    bad = in;
    bad.ld = INT64_MAX / 2;
    expect_forward(rig_group, 2, &bad, out, LRK_ERR_SHAPE, "ld");
    bad.ld = INT64_MAX / ROWS; /* as many elements, but not as many bytes */
    expect_forward(rig_group, 2, &bad, out, LRK_ERR_SHAPE, "ld");
    bad = in;
    bad.struct_size = 8;
    expect_forward(rig_group, 2, &bad, out, LRK_ERR_ARGUMENT, "struct_size");
    out[1].rows = ROWS - 1;
    expect_forward(rig_group, 2, &in, out, LRK_ERR_SHAPE, "'m1': y is 159 x 80");
    out[1] = saved_out;
    out[1].cols = 81;
    expect_forward(rig_group, 2, &in, out, LRK_ERR_SHAPE, "'m1': y is 160 x 81");
    lrk_pass_end(pass_of_calls);
    pass_of_calls = pass_open(rig.set, pass_options(ROWS - 1));
    out[1] = saved_out;
    expect_forward(rig_group, 2, &in, out, LRK_ERR_SHAPE, "max_rows 159");
    lrk_pass_end(pass_of_calls);
}
END_TEST

START_TEST(wrong_matrices_of_backward_are_refused)
{
    lrk_matrix in = padded_view(&rig.x), dy[2] = {padded_view(&rig.y[0]), padded_view(&rig.y[1])},
               saved_dy = dy[1];
    lrk_matrix_mut dx_view = padded_mut(&rig.dx);
    padded before = padded_copy(&rig.dx);
    lrk_pass *pass = pass_open(rig.set, pass_options(ROWS));
    rig_expect_words(lrk_backward(pass, rig_group, 2, &in, NULL, 0, NULL, &dx_view), LRK_ERR_ARGUMENT,
                     "dy is NULL");
    rig_expect_words(lrk_backward(pass, rig_group, 2, NULL, NULL, 0, dy, &dx_view), LRK_ERR_ARGUMENT,
                     "x is NULL");
    dy[1].cols = 1;
    rig_expect_words(lrk_backward(pass, rig_group, 2, &in, NULL, 0, dy, &dx_view), LRK_ERR_SHAPE, "'m1': dy");
    dy[1] = saved_dy;
    dx_view.cols = 95;
    rig_expect_words(lrk_backward(pass, rig_group, 2, &in, NULL, 0, dy, &dx_view), LRK_ERR_SHAPE, "dx");
    dx_view = padded_mut(&rig.dx);
    dx_view.dtype = 9;
    rig_expect_words(lrk_backward(pass, rig_group, 2, &in, NULL, 0, dy, &dx_view), LRK_ERR_ARGUMENT, "dtype");
    ck_assert(padded_same(&before, &rig.dx));
    ck_assert(!rig.set->modules[0].has_gradient && !rig.set->gradients_in_use);
    lrk_pass_end(pass);
    padded_free(&before);
}
END_TEST

typedef struct wide_matrix {
    lrk_matrix_mut known;
    uint64_t tail;
} wide_matrix;

START_TEST(matrices_are_stepped_by_the_first_ones_size)
{
    lrk_matrix in = padded_view(&rig.x);
    wide_matrix out[2] = {{.known = padded_mut(&rig.y[0])}, {.known = padded_mut(&rig.y[1])}};
    padded before = padded_copy(&rig.y[1]);
    out[0].known.struct_size = out[1].known.struct_size = sizeof out[0];
    pass_of_calls = pass_open(rig.set, pass_options(ROWS));
    ck_assert_int_eq(lrk_forward(pass_of_calls, rig_group, 2, &in, &out[0].known, NULL, 0), LRK_OK);
    ck_assert(!padded_same(&before, &rig.y[1]));
    out[1].tail = 1;
    expect_forward(rig_group, 2, &in, &out[0].known, LRK_ERR_VERSION, "tail");
    lrk_pass_end(pass_of_calls);
    padded_free(&before);
}
END_TEST

START_TEST(no_rows_and_no_rank_are_no_work)
{
    const int32_t empty = 4;
    lrk_matrix in = padded_view(&rig.x), dy = padded_view(&rig.y[0]),
               nothing = {.struct_size = sizeof nothing, .cols = 96, .ld = 96};
    lrk_matrix_mut out = padded_mut(&rig.y[0]), none = {.struct_size = sizeof none, .cols = 128, .ld = 128};
    padded before = padded_copy(&rig.y[0]);
    lrk_pass *pass = pass_open(rig.set, pass_options(ROWS));
    dy.cols = out.cols = 64;
    ck_assert_int_eq(lrk_forward(pass, rig_group, 1, &nothing, &none, NULL, 0), LRK_OK);
    in.cols = 48;
    ck_assert_int_eq(lrk_forward(pass, &empty, 1, &in, &out, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_backward(pass, &empty, 1, &in, NULL, 0, &dy, NULL), LRK_OK);
    lrk_matrix none_dy = {.struct_size = sizeof none_dy, .cols = 128, .ld = 128};
    ck_assert_int_eq(lrk_backward(pass, rig_group, 1, &nothing, NULL, 0, &none_dy, NULL), LRK_OK);
    ck_assert(rig.set->modules[4].has_gradient && rig.set->modules[0].has_gradient &&
              !rig.set->modules[1].has_gradient);
    ck_assert(padded_same(&before, &rig.y[0]));
    ck_assert_int_eq(rig.host.gemm.calls, 0);
    lrk_pass_end(pass);
    padded_free(&before);
}
END_TEST

/* ---- saved activations -------------------------------------------------------------------------------------------------------- */

START_TEST(a_saved_buffer_must_fit)
{
    size_t bytes = rig_group_saved_size();
    unsigned char *saved = malloc(bytes + 8);
    lrk_pass *pass = pass_open(rig.set, pass_options(ROWS));
    saved[bytes] = 0x5A;
    ck_assert_int_eq(rig_forward_group(pass, saved, bytes), LRK_OK);
    ck_assert_uint_eq(saved[bytes], 0x5A);
    rig_expect_words(rig_forward_group(pass, saved, bytes - 1), LRK_ERR_SHAPE, "lrk_saved_size");
    rig_expect_words(rig_forward_group(pass, saved + 4, bytes), LRK_ERR_ARGUMENT, "aligned");
    rig_expect_words(rig_forward_group(pass, NULL, bytes), LRK_ERR_ARGUMENT, "saved");
    rig_expect_words(rig_backward_group(pass, saved, bytes - 1), LRK_ERR_SHAPE, "lrk_saved_size");
    rig_expect_words(rig_backward_group(pass, NULL, bytes), LRK_ERR_ARGUMENT, "saved");
    lrk_pass_end(pass);
    free(saved);
}
END_TEST

/* Saves with one pass and reads with another: `differ` says in what. */
static void expect_foreign(void (*differ)(lrk_pass_options *o), lrk_status want, const char *words)
{
    size_t bytes = rig_group_saved_size();
    void *saved = malloc(bytes);
    lrk_pass_options o = pass_options(ROWS);
    o.mode = LRK_PASS_TRAIN;
    lrk_pass *pass = pass_open(rig.set, o);
    ck_assert_int_eq(rig_forward_group(pass, saved, bytes), LRK_OK);
    lrk_pass_end(pass);
    lrk_pass *same = pass_open(rig.set, o);
    ck_assert_int_eq(rig_backward_group(same, saved, bytes),
                     LRK_OK); /* another pass of the same kind may read it */
    lrk_pass_end(same);
    differ(&o);
    pass = pass_open(rig.set, o);
    rig_expect_words(rig_backward_group(pass, saved, rig_group_saved_size()), want, words);
    lrk_pass_end(pass);
    free(saved);
}

static lrk_mask *mask_of_test;
static lrk_sink *sink_of_test;

static void other_mask(lrk_pass_options *o)
{
    ck_assert_int_eq(lrk_mask_create_without(rig.set, 1, &mask_of_test), LRK_OK);
    o->mask = mask_of_test;
}

static void other_values(lrk_pass_options *o)
{
    float values[RANKS];
    for (int i = 0; i < RANKS; i++)
        values[i] = 0.5f;
    ck_assert_int_eq(lrk_mask_create_values(rig.set, values, RANKS, &mask_of_test), LRK_OK);
    o->mask = mask_of_test;
}

static void other_nonce(lrk_pass_options *o)
{
    o->nonce++;
}

static void other_first_row(lrk_pass_options *o)
{
    o->first_row++;
}

static void other_mode(lrk_pass_options *o)
{
    o->mode = LRK_PASS_EVALUATE;
}

static void changed_values(lrk_pass_options *o)
{
    (void)o;
    ck_assert_int_eq(lrk_adapters_values_changed(rig.set), LRK_OK);
}

static void changed_ranks(lrk_pass_options *o)
{
    (void)o;
    rig_change_ranks(); /* of another module */
}

START_TEST(saved_activations_of_another_pass_are_refused)
{
    expect_foreign(other_mask, LRK_ERR_ARGUMENT, "mask");
    lrk_mask_destroy(mask_of_test);
    expect_foreign(other_values, LRK_ERR_ARGUMENT, "mask");
    lrk_mask_destroy(mask_of_test);
    expect_foreign(other_nonce, LRK_ERR_ARGUMENT, "nonce");
    expect_foreign(other_first_row, LRK_ERR_ARGUMENT, "first row");
    expect_foreign(other_mode, LRK_ERR_ARGUMENT, "mode");
    expect_foreign(changed_values, LRK_ERR_STALE, "parameters changed");
    expect_foreign(changed_ranks, LRK_ERR_STALE, "rank change");
}
END_TEST

START_TEST(saved_activations_of_other_calls_are_refused)
{
    const int32_t swapped[2] = {1, 0};
    size_t bytes = rig_group_saved_size();
    unsigned char *saved = calloc(1, bytes);
    lrk_matrix in = padded_view(&rig.x), dy[2] = {padded_view(&rig.y[1]), padded_view(&rig.y[0])};
    lrk_pass *pass = pass_open(rig.set, pass_options(ROWS));
    rig_expect_words(rig_backward_group(pass, saved, bytes), LRK_ERR_ARGUMENT, "not written by lrk_forward");
    ck_assert_int_eq(rig_forward_group(pass, saved, bytes), LRK_OK);
    rig_expect_words(lrk_backward(pass, swapped, 2, &in, saved, bytes, dy, NULL), LRK_ERR_ARGUMENT,
                     "modules");
    rig_expect_words(lrk_backward(pass, rig_group, 1, &in, saved, bytes, dy + 1, NULL), LRK_ERR_ARGUMENT,
                     "modules");
    in.rows = dy[0].rows = dy[1].rows = ROWS - 1;
    dy[0] = padded_view(&rig.y[0]);
    dy[1] = padded_view(&rig.y[1]);
    dy[0].rows = dy[1].rows = ROWS - 1;
    rig_expect_words(lrk_backward(pass, rig_group, 2, &in, saved, bytes, dy, NULL), LRK_ERR_ARGUMENT, "rows");
    ck_assert_int_eq(rig_backward_group(pass, saved, bytes), LRK_OK);
    lrk_pass_end(pass);

    lrk_adapters *mine = rig.set;
    rig.set = set_make(rig.context, rig_shapes, MODULES, 0.1, 0);
    pass = pass_open(rig.set, pass_options(ROWS));
    rig_expect_words(rig_backward_group(pass, saved, bytes), LRK_ERR_ARGUMENT, "of this set");
    lrk_pass_end(pass);
    lrk_adapters_destroy(rig.set);
    rig.set = mine;
    free(saved);
}
END_TEST

/* A pass that derives by the mask keeps H of ranks that a plain one leaves out. */
START_TEST(saved_activations_for_other_derivatives_are_refused)
{
    size_t bytes = rig_group_saved_size();
    void *saved = malloc(bytes);
    lrk_pass_options o = pass_options(ROWS);
    ck_assert_int_eq(lrk_mask_create_only(rig.set, 1, &mask_of_test), LRK_OK);
    sink_of_test = rig_make_sink(LRK_GRAD_MASK);
    o.mask = mask_of_test;
    lrk_pass *plain = pass_open(rig.set, o);
    ck_assert_int_eq(rig_forward_group(plain, saved, bytes), LRK_OK);
    lrk_pass_end(plain);
    o.sink = sink_of_test;
    o.gradients = LRK_GRAD_MASK;
    lrk_pass *deriving = pass_open(rig.set, o);
    rig_expect_words(rig_backward_group(deriving, saved, bytes), LRK_ERR_ARGUMENT, "derivatives");
    lrk_pass_end(deriving);
    lrk_mask_destroy(mask_of_test);
    lrk_sink_destroy(sink_of_test);
    free(saved);
}
END_TEST

/* ---- sinks ------------------------------------------------------------------------------------------------------------------------ */

START_TEST(wrong_sinks_are_refused)
{
    lrk_sink *sink = (lrk_sink *)&rig.host;
    lrk_tensor tensor = {.struct_size = sizeof tensor};
    const double *values;
    int64_t n;
    ck_assert_int_eq(lrk_sink_create(NULL, 1, &sink), LRK_ERR_ARGUMENT);
    ck_assert_ptr_null(sink);
    rig_expect_words(lrk_sink_create(rig.set, 0, &sink), LRK_ERR_ARGUMENT, "kinds");
    rig_expect_words(lrk_sink_create(rig.set, 9, &sink), LRK_ERR_ARGUMENT, "kinds");
    rig_expect_words(lrk_sink_create(rig.set, 1, NULL), LRK_ERR_ARGUMENT, "NULL");
    ck_assert_int_eq(lrk_sink_zero(NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_sink_accumulate(NULL, 1.0), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_sink_tensor(NULL, 0, LRK_TENSOR_GRAD_A, &tensor), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_sink_mask_gradients(NULL, &values, &n), LRK_ERR_ARGUMENT);
    lrk_sink_destroy(NULL);

    sink = rig_make_sink(LRK_GRAD_GATES);
    rig_expect_words(lrk_sink_tensor(sink, -1, LRK_TENSOR_GRAD_GATES, &tensor), LRK_ERR_ARGUMENT,
                     "no module -1");
    rig_expect_words(lrk_sink_tensor(sink, MODULES, LRK_TENSOR_GRAD_GATES, &tensor), LRK_ERR_ARGUMENT,
                     "no module 5");
    rig_expect_words(lrk_sink_tensor(sink, 0, LRK_TENSOR_GRAD_A, &tensor), LRK_ERR_ARGUMENT, "does not hold");
    rig_expect_words(lrk_sink_tensor(sink, 0, LRK_TENSOR_GATES, &tensor), LRK_ERR_ARGUMENT, "does not hold");
    rig_expect_words(lrk_sink_tensor(sink, 0, LRK_TENSOR_GRAD_GATES, NULL), LRK_ERR_ARGUMENT, "lrk_tensor");
    rig_expect_words(lrk_sink_mask_gradients(sink, &values, &n), LRK_ERR_ARGUMENT, "does not hold");
    rig_expect_words(lrk_sink_mask_gradients(sink, NULL, &n), LRK_ERR_ARGUMENT, "NULL");
    rig_expect_words(lrk_sink_mask_gradients(sink, &values, NULL), LRK_ERR_ARGUMENT, "NULL");
    rig_expect_words(lrk_sink_accumulate(sink, NAN), LRK_ERR_ARGUMENT, "finite");
    ck_assert_int_eq(lrk_sink_tensor(sink, 0, LRK_TENSOR_GRAD_GATES, &tensor), LRK_OK);
    ck_assert(tensor.rows == 4 && tensor.cols == 1 && tensor.ld == 1 &&
              tensor.generation == rig.set->generation);
    lrk_sink_destroy(sink);
}
END_TEST

START_TEST(a_zeroed_sink_is_as_new)
{
    const double *values;
    int64_t n;
    lrk_tensor a = {.struct_size = sizeof a};
    lrk_sink *sink = rig_make_sink(LRK_GRAD_PARAMETERS | LRK_GRAD_GATES | LRK_GRAD_MASK);
    lrk_pass *pass = rig_open_mode(LRK_PASS_TRAIN, 7, sink);
    ck_assert_int_eq(rig_backward_group(pass, NULL, 0), LRK_OK);
    lrk_pass_end(pass);
    ck_assert_int_eq(lrk_sink_mask_gradients(sink, &values, &n), LRK_OK);
    ck_assert_int_eq(n, RANKS);
    ck_assert_double_ne(values[0], 0.0);
    ck_assert_int_eq(lrk_sink_zero(sink), LRK_OK);
    ck_assert_int_eq(lrk_sink_tensor(sink, 1, LRK_TENSOR_GRAD_B, &a), LRK_OK);
    for (int64_t i = 0; i < a.rows * a.cols; i++)
        if (a.data[i] != 0.0f) ck_abort_msg("not zeroed");
    for (int64_t i = 0; i < n; i++)
        ck_assert_double_eq(values[i], 0.0);
    ck_assert_int_eq(lrk_sink_accumulate(sink, 1.0), LRK_OK);
    ck_assert(!rig.set->modules[0].has_gradient);
    lrk_sink_destroy(sink);
}
END_TEST

START_TEST(accumulating_adds_a_multiple)
{
    lrk_sink *sink = rig_make_sink(LRK_GRAD_PARAMETERS | LRK_GRAD_GATES);
    lrk_pass *pass = rig_open_mode(LRK_PASS_TRAIN, 3, sink);
    ck_assert_int_eq(rig_backward_group(pass, NULL, 0), LRK_OK);
    lrk_pass_end(pass);
    for (int times = 1; times <= 2; times++) {
        ck_assert_int_eq(lrk_sink_accumulate(sink, -2.0), LRK_OK);
        for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_GATES; which++) {
            lrk_tensor mine = set_tensor(rig.set, 1, which), its = {.struct_size = sizeof its};
            ck_assert_int_eq(lrk_sink_tensor(sink, 1, which, &its), LRK_OK);
            for (int64_t i = 0; i < mine.rows * mine.cols; i++)
                if (mine.data[i] != -2.0f * (float)times * its.data[i]) ck_abort_msg("tensor %d", (int)which);
        }
    }
    ck_assert(rig.set->modules[1].has_gradient && !rig.set->modules[2].has_gradient);
    lrk_sink_destroy(sink);
}
END_TEST

Suite *pass_calls_suite(void)
{
    Suite *suite = suite_create("pass_calls");
    TCase *tc = tcase_create("pass_calls");
    tcase_add_checked_fixture(tc, rig_setup, rig_teardown);
    tcase_add_test(tc, wrong_modules_are_refused);
    tcase_add_test(tc, wrong_matrices_are_refused);
    tcase_add_test(tc, wrong_matrices_of_backward_are_refused);
    tcase_add_test(tc, matrices_are_stepped_by_the_first_ones_size);
    tcase_add_test(tc, no_rows_and_no_rank_are_no_work);
    tcase_add_test(tc, a_saved_buffer_must_fit);
    tcase_add_test(tc, saved_activations_of_another_pass_are_refused);
    tcase_add_test(tc, saved_activations_of_other_calls_are_refused);
    tcase_add_test(tc, saved_activations_for_other_derivatives_are_refused);
    tcase_add_test(tc, wrong_sinks_are_refused);
    tcase_add_test(tc, a_zeroed_sink_is_as_new);
    tcase_add_test(tc, accumulating_adds_a_multiple);
    suite_add_tcase(suite, tc);
    return suite;
}
