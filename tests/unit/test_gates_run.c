/* SPDX-License-Identifier: MIT */
/*
 * Gates under AdamW over a run: moments through rank changes and checkpoints, and SoRA from gradients to dropped ranks.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "resume.h"
#include "sets.h"
#include "small_set.h"

static small_set s;
static lrk_optimizer *optimizer;
static lrk_adamw_options options;

static void set_usual(void)
{
    ck_assert_int_eq(lrk_adamw_options_init(&options, sizeof options), LRK_OK);
    options.flags = LRK_ADAMW_GATES;
}

static void setup(void)
{
    small_set_open_ranks(&s, 3, (const int64_t[]){5, 0, 3});
    set_usual();
    optimizer = NULL;
}

static void teardown(void)
{
    lrk_optimizer_destroy(optimizer);
    small_set_close(&s);
}

static void create(void)
{
    ck_assert_int_eq(lrk_optimizer_create_adamw(s.adapters, &options, &optimizer), LRK_OK);
}

static float *gates_of(int32_t module)
{
    return small_set_tensor(&s, module, LRK_TENSOR_GATES).data;
}

static void write_gradients(uint64_t *random)
{
    small_set_write_gradients(&s, random);
    for (int32_t m = 0; m < 3; m++) {
        lrk_tensor g = small_set_tensor(&s, m, LRK_TENSOR_GRAD_GATES);
        for (int64_t j = 0; j < g.rows; j++)
            g.data[j] = (float)small_random_real(random);
    }
}

static void step(double lr)
{
    ck_assert_int_eq(lrk_optimizer_step(optimizer, lr), LRK_OK);
}

/* ---- through changes ------------------------------------------------------------------------------------------------- */

START_TEST(moments_of_gates_follow_their_ranks)
{
    uint64_t random = 5;
    const double values[] = {0.1, 0.9, 0.2, 0.8, 0.7, 0.5, 0.6, 0.4};
    create();
    write_gradients(&random);
    step(0.01);
    float u[5], v[5];
    memcpy(u, small_set_moment(optimizer, 0, LRK_MOMENT_FIRST_GATES).data, sizeof u);
    memcpy(v, small_set_moment(optimizer, 0, LRK_MOMENT_SECOND_GATES).data, sizeof v);
    lrk_alora_options alora = small_set_alora(2);
    lrk_allocator *allocator = small_set_allocator(&s, &alora);
    lrk_participant participant = {.struct_size = sizeof participant};
    ck_assert_int_eq(lrk_optimizer_participant(optimizer, &participant), LRK_OK);
    lrk_scores *scores = small_set_scores(&s, values);
    lrk_plan *plan = small_set_plan(allocator, scores);
    small_set_assert_plan(plan, 3, "0,2 .+1 .+1");
    small_set_carry_out(plan, &participant, 1);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    lrk_tensor now = small_set_moment(optimizer, 0, LRK_MOMENT_FIRST_GATES);
    ck_assert(now.rows == 3 && now.data[0] == u[1] && now.data[1] == u[3] && now.data[2] == u[4]);
    now = small_set_moment(optimizer, 0, LRK_MOMENT_SECOND_GATES);
    ck_assert(now.data[0] == v[1] && now.data[1] == v[3] && now.data[2] == v[4]);
    ck_assert(small_set_moment(optimizer, 1, LRK_MOMENT_FIRST_GATES).data[0] == 0);
    ck_assert(small_set_moment(optimizer, 2, LRK_MOMENT_SECOND_GATES).data[3] == 0);
    write_gradients(&random);
    step(0.01);
}
END_TEST

static lrk_checkpoint *list(const small_set *set, lrk_optimizer *of)
{
    lrk_checkpoint *checkpoint = NULL;
    ck_assert_int_eq(lrk_checkpoint_create(set->context, &checkpoint), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_adapters(checkpoint, "set", set->adapters), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_optimizer(checkpoint, "main", of), LRK_OK);
    return checkpoint;
}

static lrk_status load(const resume_bytes *bytes, lrk_checkpoint *into)
{
    lrk_reader reader = {.struct_size = sizeof reader};
    lrk_checkpoint_file *file = NULL;
    ck_assert_int_eq(lrk_reader_memory(&reader, bytes->data, bytes->n), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_open_reader(s.context, &reader, NULL, &file), LRK_OK);
    lrk_status status = lrk_checkpoint_restore(file, into, NULL);
    lrk_checkpoint_close(file);
    return status;
}

/* Seven steps, saved after the third; then the last four again from the checkpoint, in place or in another optimizer. */
START_TEST(a_run_goes_on_bit_for_bit)
{
    uint64_t random = 9, then = 0, digests[2];
    resume_bytes bytes = {0};
    options.gate_threshold = 0.3;
    options.gate_rise_steps = 6;
    options.gate_stairs = 6;
    create();
    for (int k = 0; k < 7; k++) {
        if (k == 3) {
            lrk_checkpoint *checkpoint = list(&s, optimizer);
            bytes = resume_save(checkpoint);
            lrk_checkpoint_destroy(checkpoint);
            then = random;
        }
        write_gradients(&random);
        step(0.05);
    }
    float gates[5];
    memcpy(gates, gates_of(0), sizeof gates);
    digests[0] = sets_digest(s.adapters);
    lrk_optimizer_destroy(optimizer);
    small_set_close(&s);
    small_set_open_ranks(&s, 3, (const int64_t[]){5, 0, 3});
    create();
    lrk_checkpoint *checkpoint = list(&s, optimizer);
    ck_assert_int_eq(load(&bytes, checkpoint), LRK_OK);
    lrk_checkpoint_destroy(checkpoint);
    random = then;
    for (int k = 3; k < 7; k++) {
        write_gradients(&random);
        step(0.05);
    }
    ck_assert_mem_eq(gates, gates_of(0), sizeof gates);
    digests[1] = sets_digest(s.adapters);
    ck_assert_uint_eq(digests[0], digests[1]);
    free(bytes.data);
}
END_TEST

#define DIFFERENCES(X)                                                                                       \
    X(flags = 0, "flags is 1 in the checkpoint and 0 here")                                                  \
    X(flags |= LRK_ADAMW_GATE_SCALED, "flags is 1 in the checkpoint and 3 here")                             \
    X(gate_rule = LRK_GATE_TWICE, "gate_rule is 0 in the checkpoint and 1 here")                             \
    X(gate_ratio = 2, "gate_ratio is 1 in the checkpoint and 2 here")                                        \
    X(gate_l1 = 1, "gate_l1 is 0 in the checkpoint and 1 here")                                              \
    X(gate_threshold = 1, "gate_threshold is 0 in the checkpoint and 1 here")                                \
    X(gate_dense_steps = 1, "gate_dense_steps is 0 in the checkpoint and 1 here")                            \
    X(gate_rise_steps = 1, "gate_rise_steps is 0 in the checkpoint and 1 here")                              \
    X(gate_stairs = 2, "gate_stairs is 1 in the checkpoint and 2 here")

static void assert_not_restored(const resume_bytes *bytes, const char *words)
{
    lrk_optimizer *other = NULL;
    ck_assert_int_eq(lrk_optimizer_create_adamw(s.adapters, &options, &other), LRK_OK);
    lrk_checkpoint *checkpoint = list(&s, other);
    small_set_assert_failed(s.context, load(bytes, checkpoint), LRK_ERR_ARGUMENT, words);
    lrk_checkpoint_destroy(checkpoint);
    lrk_optimizer_destroy(other);
    set_usual();
}

START_TEST(a_restore_needs_the_same_options)
{
    create();
    lrk_checkpoint *checkpoint = list(&s, optimizer);
    resume_bytes bytes = resume_save(checkpoint);
    lrk_checkpoint_destroy(checkpoint);
#define DIFFERS(change, words)                                                                               \
    options.change;                                                                                          \
    assert_not_restored(&bytes, words);
    DIFFERENCES(DIFFERS)
    free(bytes.data);
}
END_TEST

/* ---- a run ----------------------------------------------------------------------------------------------------------- */

enum { N_IN = 4, N_OUT = 3, ROWS = 8, RANK = 6 };

/* The module's update in double: terms of gates at 0 leave no trace. */
static void delta_of(int32_t module, double delta[N_OUT][N_IN])
{
    lrk_tensor a = small_set_tensor(&s, module, LRK_TENSOR_A), b = small_set_tensor(&s, module, LRK_TENSOR_B);
    memset(delta, 0, sizeof(double) * N_OUT * N_IN);
    for (int64_t j = 0; j < a.rows; j++)
        for (int o = 0; o < N_OUT; o++)
            for (int i = 0; i < N_IN; i++)
                if (gates_of(module)[j] != 0)
                    delta[o][i] += (double)gates_of(module)[j] * (double)b.data[j * N_OUT + o] *
                                   (double)a.data[j * N_IN + i];
}

/* Loss of the module as a linear regression on a target of rank 1, and its derivatives. */
static double regress(const float *x, const float *target)
{
    float y[ROWS * N_OUT] = {0};
    const int32_t module = 0;
    double loss = 0;
    lrk_pass *pass = NULL;
    lrk_pass_options pass_options;
    lrk_matrix mx = {sizeof mx, LRK_DTYPE_F32, x, ROWS, N_IN, N_IN},
               mdy = {sizeof mdy, LRK_DTYPE_F32, y, ROWS, N_OUT, N_OUT};
    lrk_matrix_mut my = {sizeof my, LRK_DTYPE_F32, y, ROWS, N_OUT, N_OUT};
    lrk_pass_options_init(&pass_options, sizeof pass_options);
    pass_options.mode = LRK_PASS_TRAIN;
    pass_options.max_rows = ROWS;
    pass_options.gradients = LRK_GRAD_PARAMETERS | LRK_GRAD_GATES;
    ck_assert_int_eq(lrk_pass_begin(s.adapters, &pass_options, &pass), LRK_OK);
    ck_assert_int_eq(lrk_forward(pass, &module, 1, &mx, &my, NULL, 0), LRK_OK);
    for (int i = 0; i < ROWS * N_OUT; i++) {
        y[i] -= target[i];
        loss += (double)y[i] * (double)y[i] / 2;
    }
    ck_assert_int_eq(lrk_backward(pass, &module, 1, &mx, NULL, 0, &mdy, NULL), LRK_OK);
    lrk_pass_end(pass);
    return loss;
}

START_TEST(a_run_of_sora_ends_with_fewer_ranks_and_the_same_function)
{
    float x[ROWS * N_IN], target[ROWS * N_OUT];
    uint64_t random = 21;
    lrk_adapters_options set;
    const small_module module = {.n_in = N_IN, .n_out = N_OUT, .rank = RANK};
    small_set_close(&s);
    lrk_adapters_options_init(&set, sizeof set);
    set.seed = 2;
    set.gates = LRK_GATES_GAUSSIAN;
    small_set_open(&s, &module, 1, &set);
    for (int i = 0; i < ROWS * N_IN; i++)
        x[i] = (float)small_random_real(&random);
    for (int r = 0; r < ROWS; r++)
        for (int o = 0; o < N_OUT; o++)
            target[r * N_OUT + o] = (x[r * N_IN] - x[r * N_IN + 1]) * (float)(o + 1);
    options.gate_threshold = 4e-3;
    options.gate_dense_steps = 200;
    options.gate_rise_steps = 300;
    options.gate_stairs = 6;
    options.gate_rule = _i;
    create();
    double first = regress(x, target), last = first;
    step(0);
    for (int k = 0; k < 1500; k++) {
        last = regress(x, target);
        step(0.01);
    }
    ck_assert_double_lt(last, first / 20);

    double before[N_OUT][N_IN], after[N_OUT][N_IN], values[RANK];
    int zeros = 0;
    for (int j = 0; j < RANK; j++) {
        values[j] = fabs((double)gates_of(0)[j]);
        zeros += values[j] == 0;
    }
    ck_assert(zeros > 0 && zeros < RANK);
    delta_of(0, before);
    lrk_allocator *allocator = NULL;
    lrk_participant participant = {.struct_size = sizeof participant};
    ck_assert_int_eq(lrk_optimizer_participant(optimizer, &participant), LRK_OK);
    ck_assert_int_eq(lrk_allocator_create_threshold(s.adapters, NULL, &allocator), LRK_OK);
    lrk_scores *scores = small_set_scores(&s, values);
    lrk_plan *plan = small_set_plan(allocator, scores);
    small_set_carry_out(plan, &participant, 1);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    ck_assert_int_eq(small_set_rank(&s, 0), RANK - zeros);
    delta_of(0, after);
    ck_assert_mem_eq(before, after, sizeof before);
    (void)regress(x, target);
    step(0.01);
}
END_TEST

Suite *gates_run_suite(void);
Suite *gates_run_suite(void)
{
    Suite *suite = suite_create("gates_run");
    TCase *tests = tcase_create("gates_run");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, moments_of_gates_follow_their_ranks);
    tcase_add_test(tests, a_run_goes_on_bit_for_bit);
    tcase_add_test(tests, a_restore_needs_the_same_options);
    tcase_add_loop_test(tests, a_run_of_sora_ends_with_fewer_ranks_and_the_same_function, 0, 2);
    suite_add_tcase(suite, tests);
    return suite;
}
