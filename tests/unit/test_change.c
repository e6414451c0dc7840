/* SPDX-License-Identifier: MIT */
/*
 * Changes of ranks in library memory: which rows stay and begin, what is moved and freed, and that preparing fails with
 * everything as it was. Rows are recognised by sets_value().
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adapters/set.h"
#include "sets.h"

static fault host;
static lrk_context *context;
static lrk_adapters *adapters;

/* "a" 5x3 rank 2 (identities 1, 2), "b" 4x6 rank 3 (3, 4, 5), "c" 7x2 rank 0. */
static void setup(void)
{
    lrk_module_spec specs[3];
    lrk_adapters_options options;
    fault_reset(&host);
    context = fault_context(&host);
    sets_three(specs);
    ck_assert_int_eq(lrk_adapters_options_init(&options, sizeof options), LRK_OK);
    options.seed = 11;
    adapters = sets_create(context, specs, 3, &options);
    sets_fill(adapters);
}

static void teardown(void)
{
    lrk_adapters_destroy(adapters);
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

/* "a" loses its first row, "b" stays, "c" gets two. */
static const int64_t keep_second[] = {1};
static const int64_t keep_three[] = {0, 1, 2};
static const uint64_t new_ids[] = {6, 7};
static const lrki_module_change usual[] = {{.n_kept = 1, .kept = keep_second},
                                           {.n_kept = 3, .kept = keep_three},
                                           {.n_added = 2, .added_ids = new_ids}};

static lrki_change *prepare(const lrki_module_change *parts, int64_t step, int32_t init)
{
    lrki_change *change;
    ck_assert_int_eq(lrki_change_prepare(adapters, parts, step, init, &change), LRK_OK);
    return change;
}

static void expect_ids(int32_t module, int64_t n, const uint64_t *expected)
{
    const uint64_t *ids;
    int64_t rank;
    ck_assert_int_eq(lrk_adapters_ranks(adapters, module, &ids, NULL, &rank), LRK_OK);
    ck_assert_int_eq(rank, n);
    for (int64_t j = 0; j < n; j++)
        ck_assert_uint_eq(ids[j], expected[j]);
}

static void expect_begun(int32_t module, int64_t j, uint64_t identity, int64_t birth, int32_t init)
{
    const uint64_t *ids;
    const int64_t *births;
    int64_t rank;
    ck_assert_int_eq(lrk_adapters_ranks(adapters, module, &ids, &births, &rank), LRK_OK);
    ck_assert(j < rank && ids[j] == identity && births[j] == birth);
    lrk_tensor a = sets_tensor(adapters, module, LRK_TENSOR_A),
               b = sets_tensor(adapters, module, LRK_TENSOR_B);
    float expected[16] = {0}, bound = (float)(1.0 / sqrt((double)a.cols));
    lrki_stream stream = lrki_stream_make(11, LRKI_STREAM_INIT_A, identity, 0);
    if (init == LRK_INIT_KAIMING_UNIFORM) lrki_stream_fill_uniform(&stream, bound, expected, a.cols);
    if (init == LRK_INIT_GAUSSIAN) lrki_stream_fill_normal(&stream, bound, expected, a.cols);
    ck_assert_mem_eq(a.data + j * a.cols, expected, (size_t)a.cols * sizeof(float));
    for (int64_t i = 0; i < b.cols; i++)
        ck_assert(b.data[j * b.cols + i] == 0.0f);
    ck_assert(sets_tensor(adapters, module, LRK_TENSOR_GATES).data[j] == 1.0f);
}

START_TEST(commit_keeps_drops_and_begins_rows)
{
    lrk_adapters_info before = sets_info(adapters);
    lrki_change_commit(prepare(usual, 40, _i));
    lrk_adapters_info after = sets_info(adapters);
    expect_ids(0, 1, (uint64_t[]){2});
    expect_ids(1, 3, (uint64_t[]){3, 4, 5});
    expect_ids(2, 2, new_ids);
    sets_check_filled(adapters, 6);
    expect_begun(2, 0, 6, 40, _i);
    expect_begun(2, 1, 7, 40, _i);
    ck_assert_int_eq(after.ranks, 6);
    ck_assert_int_eq(after.parameters, 8 + 3 * 10 + 2 * 9);
    ck_assert_uint_eq(after.generation, before.generation + 1);
    ck_assert_uint_gt(after.values_version, before.values_version);
    ck_assert_uint_eq(after.next_identity, 8);
    lrk_module_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_module(adapters, 2, &info), LRK_OK);
    ck_assert(info.rank == 2 && info.initial_rank == 0 && info.capacity == 2);
}
END_TEST

START_TEST(memory_follows_the_ranks_exactly)
{
    size_t before = sets_info(adapters).memory;
    size_t live = host.live_bytes;
    lrki_change_commit(prepare(usual, 1, LRK_INIT_ZERO));
    /* one rank of "a": 2 (5 + 3 + 1) floats, identity and birth; one of "c": 2 (7 + 2 + 1) */
    size_t expected = before - (18 * sizeof(float) + 16) + 2 * (20 * sizeof(float) + 16);
    ck_assert_uint_eq(sets_info(adapters).memory, expected);
    ck_assert_uint_eq(host.live_bytes - live, expected - before);
}
END_TEST

START_TEST(a_module_may_lose_all_its_ranks_and_get_some_again)
{
    const lrki_module_change none[] = {{0}, {0}, {0}};
    const uint64_t ids[] = {6, 7, 8};
    const lrki_module_change again[] = {{.n_added = 3, .added_ids = ids}, {0}, {0}};
    size_t full = host.live_bytes;
    lrki_change_commit(prepare(none, 1, LRK_INIT_ZERO));
    ck_assert_int_eq(sets_info(adapters).ranks, 0);
    ck_assert_uint_eq(sets_info(adapters).next_identity, 6);
    ck_assert_uint_eq(full - host.live_bytes, 2 * (18 * 4 + 16) + 3 * (22 * 4 + 16));
    lrki_change_commit(prepare(again, 9, LRK_INIT_GAUSSIAN));
    expect_ids(0, 3, ids);
    expect_begun(0, 2, 8, 9, LRK_INIT_GAUSSIAN);
}
END_TEST

START_TEST(ranks_can_be_exchanged_within_a_module)
{
    const int64_t keep[] = {1, 2};
    const lrki_module_change parts[] = {{.n_kept = 2, .kept = keep_three},
                                        {.n_kept = 2, .kept = keep, .n_added = 1, .added_ids = new_ids},
                                        {0}};
    lrki_change_commit(prepare(parts, 3, LRK_INIT_KAIMING_UNIFORM));
    expect_ids(1, 3, (uint64_t[]){4, 5, 6});
    sets_check_filled(adapters, 6);
    expect_begun(1, 2, 6, 3, LRK_INIT_KAIMING_UNIFORM);
}
END_TEST

START_TEST(unchanged_modules_are_not_touched)
{
    lrk_tensor before = sets_tensor(adapters, 1, LRK_TENSOR_A);
    lrki_change *change = prepare(usual, 1, LRK_INIT_ZERO);
    ck_assert_int_eq(lrki_change_bytes(change), (5 + 3 + 1) * (int64_t)sizeof(float));
    lrki_change_commit(change);
    lrk_tensor after = sets_tensor(adapters, 1, LRK_TENSOR_A);
    ck_assert_ptr_eq(after.data, before.data);
    const lrki_module_change nothing[] = {{.n_kept = 1}, {.n_kept = 3}, {.n_kept = 2}};
    int64_t calls = host.alloc.calls;
    change = prepare(nothing, 2, LRK_INIT_ZERO);
    ck_assert_int_eq(lrki_change_bytes(change), 0);
    ck_assert_int_eq(host.alloc.calls - calls, 2); /* the change itself */
    lrki_change_commit(change);
    ck_assert_ptr_eq(sets_tensor(adapters, 1, LRK_TENSOR_A).data, before.data);
}
END_TEST

START_TEST(commit_leaves_zero_gradients_and_modules_without)
{
    for (int32_t m = 0; m < 2; m++) {
        lrk_tensor t = sets_tensor(adapters, m, LRK_TENSOR_GRAD_A);
        t.data[0] = 3;
        adapters->modules[m].has_gradient = true;
    }
    lrki_change_commit(prepare(usual, 1, LRK_INIT_ZERO));
    for (int32_t m = 0; m < 3; m++) {
        ck_assert(!adapters->modules[m].has_gradient);
        for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_GATES; which++) {
            lrk_tensor t = sets_tensor(adapters, m, which);
            for (int64_t i = 0; i < t.rows * t.cols; i++)
                ck_assert(t.data[i] == 0.0f);
        }
    }
}
END_TEST

START_TEST(flat_positions_follow_the_ranks)
{
    lrki_change_commit(prepare(usual, 1, LRK_INIT_ZERO));
    const int32_t expected[] = {0, 1, 1, 1, 2, 2};
    for (int64_t i = 0; i < 6; i++)
        ck_assert_int_eq(lrki_adapters_module_of(adapters, i), expected[i]);
    const lrki_module_change parts[] = {{0}, {0}, {.n_kept = 1, .kept = keep_second}};
    lrki_change_commit(prepare(parts, 1, LRK_INIT_ZERO));
    ck_assert_int_eq(lrki_adapters_module_of(adapters, 0), 2);
}
END_TEST

START_TEST(values_written_between_prepare_and_commit_count)
{
    lrki_change *change = prepare(usual, 1, LRK_INIT_ZERO);
    lrk_tensor a = sets_tensor(adapters, 0, LRK_TENSOR_A);
    a.data[a.cols] = 123.0f;
    lrki_change_commit(change);
    ck_assert(sets_tensor(adapters, 0, LRK_TENSOR_A).data[0] == 123.0f);
}
END_TEST

START_TEST(abandon_leaves_everything_as_it_was)
{
    uint64_t digest = sets_digest(adapters);
    int64_t live = host.live;
    lrki_change *change = prepare(usual, 1, LRK_INIT_ZERO);
    ck_assert(adapters->change_pending);
    lrki_change_abandon(change);
    ck_assert(!adapters->change_pending);
    ck_assert_uint_eq(sets_digest(adapters), digest);
    ck_assert_int_eq(host.live, live);
    sets_check_filled(adapters, UINT64_MAX);
}
END_TEST

START_TEST(commit_asks_for_no_memory)
{
    lrki_change *change = prepare(usual, 1, LRK_INIT_GAUSSIAN);
    int64_t calls = host.alloc.calls;
    host.alloc.fail_at = calls;
    host.alloc.sticky = true;
    lrki_change_commit(change);
    ck_assert_int_eq(host.alloc.calls, calls);
    host.alloc.fail_at = -1;
    expect_begun(2, 1, 7, 1, LRK_INIT_GAUSSIAN);
}
END_TEST

START_TEST(commit_frees_what_finished_passes_left)
{
    const lrki_module_change nothing[] = {{.n_kept = 2}, {.n_kept = 3}, {0}};
    lrk_pass_options options;
    lrk_pass *pass;
    int64_t live = host.live;
    ck_assert_int_eq(lrk_pass_options_init(&options, sizeof options), LRK_OK);
    options.max_rows = 4;
    ck_assert_int_eq(lrk_pass_begin(adapters, &options, &pass), LRK_OK);
    lrk_pass_end(pass);
    lrki_change_commit(prepare(nothing, 1, LRK_INIT_ZERO));
    ck_assert_int_eq(host.live, live);
}
END_TEST

static lrki_change *pending;

static lrk_status do_prepare(void *user)
{
    uint64_t digest = sets_digest(adapters);
    (void)user;
    pending = (lrki_change *)&host;
    lrk_status status = lrki_change_prepare(adapters, usual, 1, LRK_INIT_ZERO, &pending);
    ck_assert_uint_eq(sets_digest(adapters), digest);
    ck_assert((status == LRK_OK) == (pending != NULL));
    ck_assert(adapters->change_pending == (status == LRK_OK));
    return status;
}

static void undo_prepare(void *user)
{
    (void)user;
    lrki_change_abandon(pending);
}

START_TEST(prepare_unwinds_when_any_request_fails)
{
    sets_each_fault(&host, do_prepare, undo_prepare, NULL);
}
END_TEST

START_TEST(prepare_is_refused_while_the_set_is_in_use)
{
    lrki_change *change, *second;
    lrk_pass_options options;
    lrk_pass *pass;
    ck_assert_int_eq(lrk_pass_options_init(&options, sizeof options), LRK_OK);
    options.max_rows = 1;
    ck_assert_int_eq(lrk_pass_begin(adapters, &options, &pass), LRK_OK);
    sets_expect(context, lrki_change_prepare(adapters, usual, 1, 0, &change), LRK_ERR_BUSY, "a pass is open");
    ck_assert_ptr_null(change);
    lrk_pass_end(pass);
    adapters->in_host_callback = true;
    sets_expect(context, lrki_change_prepare(adapters, usual, 1, 0, &change), LRK_ERR_BUSY, "callback");
    adapters->in_host_callback = false;
    change = prepare(usual, 1, 0);
    sets_expect(context, lrki_change_prepare(adapters, usual, 1, 0, &second), LRK_ERR_BUSY, "is prepared");
    lrki_change_abandon(change);
}
END_TEST

START_TEST(a_rank_whose_size_overflows_is_refused)
{
    const lrki_module_change parts[] = {
        {.n_kept = 2}, {.n_kept = 3}, {.n_added = INT64_MAX / 64, .added_ids = new_ids}};
    lrki_change *change;
    uint64_t digest = sets_digest(adapters);
    sets_expect(context, lrki_change_prepare(adapters, parts, 1, 0, &change), LRK_ERR_SHAPE, "module 'c'");
    ck_assert_uint_eq(sets_digest(adapters), digest);
    ck_assert(!adapters->change_pending);
}
END_TEST

/* ---- many changes ------------------------------------------------------------------------------------------------ */

typedef struct draft {
    int64_t kept[64];
    uint64_t ids[8];
    uint64_t expected[72]; /* identities afterwards */
} draft;

/* A random part of one module; *next is the set's next identity. */
static lrki_module_change draw_part(int32_t module, draft *d, uint64_t *next, uint64_t *random)
{
    const uint64_t *ids;
    int64_t rank;
    lrki_module_change part = {.kept = d->kept, .added_ids = d->ids};
    ck_assert_int_eq(lrk_adapters_ranks(adapters, module, &ids, NULL, &rank), LRK_OK);
    bool leave = sets_random(random) % 3 == 0;
    for (int64_t j = 0; j < rank; j++) {
        if (!leave && sets_random(random) % 3 == 0) continue;
        d->expected[part.n_kept] = ids[j];
        d->kept[part.n_kept++] = j;
    }
    for (uint64_t i = leave ? 0 : sets_random(random) % 3; i > 0 && rank < 60; i--) {
        d->expected[part.n_kept + part.n_added] = *next;
        d->ids[part.n_added++] = (*next)++;
    }
    return part;
}

/* Birth steps by identity, of all changes of a test. */
static int64_t born[4096];

static void expect_births(void)
{
    for (int32_t m = 0; m < 3; m++) {
        const uint64_t *ids;
        const int64_t *births;
        int64_t rank;
        ck_assert_int_eq(lrk_adapters_ranks(adapters, m, &ids, &births, &rank), LRK_OK);
        for (int64_t j = 0; j < rank; j++)
            ck_assert_int_eq(births[j], born[ids[j]]);
    }
}

static void change_at_random(int64_t step, uint64_t *random)
{
    lrki_module_change parts[3];
    draft drafts[3];
    int32_t init = (int32_t)(step % 3);
    uint64_t first_new = sets_info(adapters).next_identity, next = first_new;
    for (int32_t m = 0; m < 3; m++)
        parts[m] = draw_part(m, &drafts[m], &next, random);
    lrki_change *change = prepare(parts, step, init);
    if (step % 4 == 0) {
        lrki_change_abandon(change);
        sets_check_filled(adapters, UINT64_MAX);
        return;
    }
    lrki_change_commit(change);
    ck_assert_uint_eq(sets_info(adapters).next_identity, next);
    sets_check_filled(adapters, first_new);
    for (uint64_t id = first_new; id < next; id++)
        born[id] = step;
    expect_births();
    for (int32_t m = 0; m < 3; m++) {
        expect_ids(m, parts[m].n_kept + parts[m].n_added, drafts[m].expected);
        for (int64_t i = 0; i < parts[m].n_added; i++)
            expect_begun(m, parts[m].n_kept + i, drafts[m].ids[i], step, init);
    }
}

static void change_many_times(void)
{
    uint64_t random = 5;
    for (int64_t step = 1; step <= 300; step++) {
        sets_fill(adapters);
        change_at_random(step, &random);
    }
    ck_assert_uint_gt(sets_info(adapters).next_identity, 300); /* the test did something */
}

START_TEST(rows_survive_many_changes)
{
    change_many_times();
}
END_TEST

START_TEST(rows_survive_many_changes_in_host_memory)
{
    lrk_module_spec specs[3];
    sets_host owner;
    lrk_adapters_options options;
    sets_three(specs);
    lrk_storage storage = sets_host_storage(&owner, specs, 0);
    owner.slack = _i;
    ck_assert_int_eq(lrk_adapters_options_init(&options, sizeof options), LRK_OK);
    options.seed = 11;
    options.storage = &storage;
    lrk_adapters_destroy(adapters);
    adapters = sets_create(context, specs, 3, &options);
    change_many_times();
    lrk_adapters_destroy(adapters);
    adapters = NULL;
    sets_host_free(&owner);
}
END_TEST

/* ---- scale: 80 blocks of 7 modules of rank 16, 500 ranks moved --------------------------------------------------- */

enum { BLOCKS = 80, SEVEN = 7, BIG = BLOCKS * SEVEN, RANK = 16, MOVES = 500, WIDTH = 24, RECEIVERS = 100 };

/* Drops MOVES ranks from modules past the first RECEIVERS, which get MOVES / RECEIVERS each. */
static void draw_moves(lrki_module_change *parts, int64_t (*kept)[RANK], uint64_t *ids)
{
    uint64_t random = 3;
    static bool dropped[BIG][RANK];
    for (int n = 0; n < MOVES;) {
        int64_t m = RECEIVERS + (int64_t)(sets_random(&random) % (BIG - RECEIVERS));
        int64_t j = (int64_t)(sets_random(&random) % RANK);
        n += !dropped[m][j];
        dropped[m][j] = true;
    }
    for (int64_t m = 0; m < BIG; m++) {
        parts[m] = (lrki_module_change){.kept = kept[m]};
        for (int64_t j = 0; j < RANK; j++)
            if (!dropped[m][j]) kept[m][parts[m].n_kept++] = j;
        if (m >= RECEIVERS) continue;
        parts[m].n_added = MOVES / RECEIVERS;
        parts[m].added_ids = ids + m * (MOVES / RECEIVERS);
    }
}

START_TEST(a_big_change_moves_no_more_than_the_changed_modules_hold)
{
    static lrk_module_spec specs[BIG];
    static char names[BIG][16];
    static lrki_module_change parts[BIG];
    static int64_t kept[BIG][RANK];
    static float *before[BIG];
    uint64_t ids[MOVES];
    for (int m = 0; m < BIG; m++) {
        snprintf(names[m], sizeof names[m], "%d.%d", m / SEVEN, m % SEVEN);
        specs[m] = sets_spec(names[m], WIDTH, WIDTH, RANK);
    }
    lrk_adapters_destroy(adapters);
    adapters = sets_create(context, specs, BIG, NULL);
    sets_fill(adapters);
    for (int i = 0; i < MOVES; i++)
        ids[i] = BIG * RANK + 1 + (uint64_t)i;
    for (int m = 0; m < BIG; m++)
        before[m] = sets_tensor(adapters, m, LRK_TENSOR_A).data;
    draw_moves(parts, kept, ids);
    lrki_change *change = prepare(parts, 1, LRK_INIT_KAIMING_UNIFORM);
    int64_t held = 0, moved = 0, changed = 0;
    for (int m = 0; m < BIG; m++) {
        bool is_changed = parts[m].n_kept < RANK || parts[m].n_added > 0;
        changed += is_changed;
        held += is_changed * RANK * (2 * WIDTH + 1) * (int64_t)sizeof(float);
        moved += is_changed * parts[m].n_kept * (2 * WIDTH + 1) * (int64_t)sizeof(float);
    }
    ck_assert_int_lt(changed, BIG);
    ck_assert_int_eq(lrki_change_bytes(change), moved);
    ck_assert_int_le(lrki_change_bytes(change), held);
    size_t live = host.live_bytes;
    lrki_change_commit(change);
    ck_assert_uint_lt(host.live_bytes, live); /* the old blocks are gone */
    ck_assert_int_eq(sets_info(adapters).ranks, BIG * RANK);
    for (int m = 0; m < BIG; m++) {
        bool same = sets_tensor(adapters, m, LRK_TENSOR_A).data == before[m];
        ck_assert(same == (parts[m].n_kept == RANK && parts[m].n_added == 0));
    }
    sets_check_filled(adapters, ids[0]);
}
END_TEST

Suite *change_suite(void);

Suite *change_suite(void)
{
    Suite *suite = suite_create("change");
    TCase *tcase = tcase_create("changes");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, commit_keeps_drops_and_begins_rows, 0, 3);
    tcase_add_test(tcase, memory_follows_the_ranks_exactly);
    tcase_add_test(tcase, a_module_may_lose_all_its_ranks_and_get_some_again);
    tcase_add_test(tcase, ranks_can_be_exchanged_within_a_module);
    tcase_add_test(tcase, unchanged_modules_are_not_touched);
    tcase_add_test(tcase, commit_leaves_zero_gradients_and_modules_without);
    tcase_add_test(tcase, flat_positions_follow_the_ranks);
    tcase_add_test(tcase, values_written_between_prepare_and_commit_count);
    tcase_add_test(tcase, abandon_leaves_everything_as_it_was);
    tcase_add_test(tcase, commit_asks_for_no_memory);
    tcase_add_test(tcase, commit_frees_what_finished_passes_left);
    tcase_add_test(tcase, prepare_unwinds_when_any_request_fails);
    tcase_add_test(tcase, prepare_is_refused_while_the_set_is_in_use);
    tcase_add_test(tcase, a_rank_whose_size_overflows_is_refused);
    tcase_add_test(tcase, rows_survive_many_changes);
    tcase_add_loop_test(tcase, rows_survive_many_changes_in_host_memory, 0, 4);
    tcase_add_test(tcase, a_big_change_moves_no_more_than_the_changed_modules_hold);
    suite_add_tcase(suite, tcase);
    return suite;
}
