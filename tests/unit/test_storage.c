/* SPDX-License-Identifier: MIT */
/*
 * Storage that the host owns: when it is asked and told, what of its buffers is written, what it may refuse, and that
 * it cannot call back. The rows themselves are tested in test_change.c.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "adapters/set.h"
#include "sets.h"

static fault host;
static lrk_context *context;
static lrk_module_spec specs[3];
static sets_host owner;
static lrk_storage storage;
static lrk_adapters_options options;

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
    sets_three(specs);
    storage = sets_host_storage(&owner, specs, 0);
    ck_assert_int_eq(lrk_adapters_options_init(&options, sizeof options), LRK_OK);
    options.storage = &storage;
}

static void teardown(void)
{
    lrk_context_destroy(context);
    sets_host_free(&owner);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

static lrk_adapters *create(int64_t slack)
{
    owner.slack = slack;
    lrk_adapters *adapters = sets_create(context, specs, 3, &options);
    owner.log[0] = '\0';
    return adapters;
}

/* "a" 2 -> 1 (keeps its second), "b" 3 -> 4, "c" 0 -> 1. */
static const int64_t second[] = {1};
static const int64_t three[] = {0, 1, 2};
static const uint64_t ids[] = {6, 7};
static const lrki_module_change usual[] = {{.n_kept = 1, .kept = second},
                                           {.n_kept = 3, .kept = three, .n_added = 1, .added_ids = ids},
                                           {.n_added = 1, .added_ids = ids + 1}};

static lrki_change *prepare(lrk_adapters *adapters, const lrki_module_change *parts)
{
    lrki_change *change;
    ck_assert_int_eq(lrki_change_prepare(adapters, parts, 1, LRK_INIT_ZERO, &change), LRK_OK);
    return change;
}

START_TEST(creation_asks_for_every_module_and_tells_when_it_is_in_use)
{
    owner.slack = 2;
    lrk_adapters *adapters = sets_create(context, specs, 3, &options);
    ck_assert_str_eq(owner.log, "p0:2 p1:3 p2:0 c0 c1 c2 ");
    for (int32_t m = 0; m < 3; m++) {
        lrk_module_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(lrk_adapters_module(adapters, m, &info), LRK_OK);
        ck_assert_int_eq(info.capacity, specs[m].rank + 2);
        ck_assert_ptr_eq(sets_tensor(adapters, m, LRK_TENSOR_A).data, owner.now[m].a);
        ck_assert_ptr_eq(sets_tensor(adapters, m, LRK_TENSOR_GRAD_GATES).data, owner.now[m].grad_gates);
    }
    memset(&storage, 0, sizeof storage); /* copied */
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(values_are_those_of_library_memory)
{
    lrk_adapters *theirs = create(3);
    options.storage = NULL;
    lrk_adapters *ours = sets_create(context, specs, 3, &options);
    ck_assert_uint_eq(sets_digest(theirs), sets_digest(ours));
    ck_assert_uint_lt(sets_info(theirs).memory, sets_info(ours).memory);
    lrk_adapters_destroy(theirs);
    lrk_adapters_destroy(ours);
}
END_TEST

static void expect_untouched(const float *values, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++)
        ck_assert(isnan(values[i]));
}

/* The host's buffers begin as NaN. */
static void expect_rows_past_rank_untouched(const lrk_adapters *adapters)
{
    for (int32_t m = 0; m < 3; m++) {
        const lrk_module_buffers *b = &owner.now[m];
        int64_t rank = sets_rank(adapters, m), n_in = specs[m].n_in, n_out = specs[m].n_out;
        ck_assert_int_gt(b->capacity, rank);
        expect_untouched(b->a, rank * n_in, b->capacity * n_in);
        expect_untouched(b->b, rank * n_out, b->capacity * n_out);
        expect_untouched(b->gates, rank, b->capacity);
        expect_untouched(b->grad_a, rank * n_in, b->capacity * n_in);
        expect_untouched(b->grad_b, rank * n_out, b->capacity * n_out);
        expect_untouched(b->grad_gates, rank, b->capacity);
    }
}

START_TEST(rows_past_the_rank_are_never_touched)
{
    lrk_adapters *adapters = create(5);
    expect_rows_past_rank_untouched(adapters);
    sets_fill(adapters);
    ck_assert_int_eq(lrk_adapters_zero_gradients(adapters), LRK_OK);
    ck_assert_int_eq(lrk_adapters_scale_gradients(adapters, 2, NULL), LRK_OK);
    const lrki_module_change grow[] = {{.n_kept = 2, .kept = three},
                                       {.n_kept = 3, .kept = three, .n_added = 1, .added_ids = ids},
                                       {.n_added = 1, .added_ids = ids + 1}};
    lrki_change_commit(prepare(adapters, grow));
    ck_assert_int_eq(lrk_adapters_zero_gradients(adapters), LRK_OK);
    ck_assert_str_eq(owner.log, "");
    expect_rows_past_rank_untouched(adapters);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(a_module_that_fits_is_compacted_in_place)
{
    lrk_adapters *adapters = create(0);
    const lrki_module_change shrink[] = {
        {.n_kept = 1, .kept = second}, {.n_kept = 1, .kept = second + 0}, {0}};
    sets_fill(adapters);
    const float *a = owner.now[0].a, old = a[5];
    float last = a[9];
    lrki_change *change = prepare(adapters, shrink);
    ck_assert_int_eq(lrki_change_bytes(change), (9 + 11) * (int64_t)sizeof(float));
    lrki_change_commit(change);
    ck_assert_str_eq(owner.log, "");
    ck_assert_ptr_eq(sets_tensor(adapters, 0, LRK_TENSOR_A).data, a);
    ck_assert(a[0] == old && a[9] == last); /* row 1 moved up, its old place was left alone */
    lrk_module_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_module(adapters, 1, &info), LRK_OK);
    ck_assert(info.rank == 1 && info.capacity == 3);
    sets_check_filled(adapters, UINT64_MAX);
    const lrki_module_change same[] = {{.n_kept = 1}, {.n_kept = 1}, {0}};
    change = prepare(adapters, same);
    ck_assert_int_eq(lrki_change_bytes(change), 0);
    lrki_change_abandon(change);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(rows_that_stay_where_they_are_do_not_count_as_moved)
{
    static const int64_t outer[] = {0, 2};
    lrk_adapters *adapters = create(0);
    const lrki_module_change parts[] = {{.n_kept = 2}, {.n_kept = 2, .kept = outer}, {0}};
    sets_fill(adapters);
    lrki_change *change = prepare(adapters, parts);
    ck_assert_int_eq(lrki_change_bytes(change), 11 * (int64_t)sizeof(float));
    lrki_change_commit(change);
    sets_check_filled(adapters, UINT64_MAX);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(growth_asks_the_host_and_uses_the_new_buffers_from_commit_on)
{
    lrk_adapters *adapters = create(0);
    sets_fill(adapters);
    const float *old = owner.now[1].a;
    lrki_change *change = prepare(adapters, usual);
    ck_assert_str_eq(owner.log, "p1:4 p2:1 ");
    ck_assert_ptr_eq(sets_tensor(adapters, 1, LRK_TENSOR_A).data, old);
    ck_assert_int_eq(lrki_change_bytes(change), (9 + 3 * 11) * (int64_t)sizeof(float));
    lrki_change_commit(change);
    ck_assert_str_eq(owner.log, "p1:4 p2:1 c1 c2 ");
    ck_assert_ptr_eq(sets_tensor(adapters, 1, LRK_TENSOR_A).data, owner.now[1].a);
    ck_assert_ptr_ne(owner.now[1].a, old);
    sets_check_filled(adapters, 6);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(abandon_gives_the_new_buffers_back)
{
    lrk_adapters *adapters = create(0);
    sets_fill(adapters);
    uint64_t digest = sets_digest(adapters);
    lrki_change_abandon(prepare(adapters, usual));
    ck_assert_str_eq(owner.log, "p1:4 p2:1 a2 a1 ");
    ck_assert_uint_eq(sets_digest(adapters), digest);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(a_refusal_unwinds_a_change)
{
    lrk_adapters *adapters = create(0);
    lrki_change *change;
    uint64_t digest = sets_digest(adapters);
    int64_t live = host.live;
    owner.refuse = 2;
    sets_expect(context, lrki_change_prepare(adapters, usual, 1, 0, &change), LRK_ERR_HOST, "module 'c' (7)");
    ck_assert_ptr_null(change);
    ck_assert_str_eq(owner.log, "p1:4 p2:1 a1 ");
    ck_assert_uint_eq(sets_digest(adapters), digest);
    ck_assert_int_eq(host.live, live);
    owner.refuse = -1;
    lrki_change_commit(prepare(adapters, usual));
    lrk_adapters_destroy(adapters);
}
END_TEST

static void expect_creation_refused(const char *words, const char *log)
{
    lrk_adapters *adapters = (lrk_adapters *)&host;
    int64_t live = host.live;
    owner.log[0] = '\0';
    sets_expect(context, lrk_adapters_create(context, specs, 3, &options, &adapters), LRK_ERR_HOST, words);
    ck_assert_ptr_null(adapters);
    ck_assert_str_eq(owner.log, log);
    ck_assert_int_eq(host.live, live);
}

START_TEST(a_refusal_unwinds_creation)
{
    owner.refuse = 1;
    expect_creation_refused("refused rank 3 of module 'b' (7)", "p0:2 p1:3 a0 ");
    owner.refuse = 0;
    expect_creation_refused("refused rank 2 of module 'a' (7)", "p0:2 ");
}
END_TEST

START_TEST(buffers_without_room_are_refused)
{
    owner.too_small = true;
    expect_creation_refused("without room for rank 2 of module 'a'", "p0:2 a0 ");
    owner.too_small = false;
    owner.half = true;
    expect_creation_refused("without room for rank 2 of module 'a'", "p0:2 a0 ");
    owner.half = false;
    owner.inference = true;
    expect_creation_refused("without room", "p0:2 a0 ");
    options.flags = LRK_ADAPTERS_INFERENCE; /* that needs no gradients */
    lrk_adapters_destroy(sets_create(context, specs, 3, &options));
}
END_TEST

START_TEST(fixed_capacities_are_never_exceeded)
{
    storage.flags = LRK_STORAGE_FIXED;
    lrk_adapters *adapters = create(1);
    lrki_change *change;
    lrki_change_commit(prepare(adapters, usual));
    const uint64_t more[] = {8};
    const lrki_module_change parts[] = {
        {.n_kept = 1}, {.n_kept = 4}, {.n_kept = 1, .kept = three, .n_added = 1, .added_ids = more}};
    sets_expect(context, lrki_change_prepare(adapters, parts, 1, 0, &change), LRK_ERR_BUDGET,
                "module 'c': rank 2 exceeds the fixed capacity 1");
    ck_assert_str_eq(owner.log, "");
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- failing memory ---------------------------------------------------------------------------------------------- */

static lrk_adapters *made;

static lrk_status make_set(void *user)
{
    (void)user;
    owner.log[0] = '\0';
    return lrk_adapters_create(context, specs, 3, &options, &made);
}

static void drop_set(void *user)
{
    (void)user;
    lrk_adapters_destroy(made);
    for (int m = 0; m < 3; m++) /* every prepare was followed by one commit or abandon */
        ck_assert_ptr_null(owner.next[m].a);
}

START_TEST(creation_unwinds_when_any_request_fails)
{
    sets_each_fault(&host, make_set, drop_set, NULL);
}
END_TEST

static lrki_change *pending;

static lrk_status do_prepare(void *user)
{
    uint64_t digest = sets_digest(made);
    (void)user;
    owner.log[0] = '\0';
    lrk_status status = lrki_change_prepare(made, usual, 1, LRK_INIT_ZERO, &pending);
    ck_assert_uint_eq(sets_digest(made), digest);
    for (int m = 0; m < 3 && status != LRK_OK; m++)
        ck_assert_ptr_null(owner.next[m].a);
    return status;
}

static void undo_prepare(void *user)
{
    (void)user;
    lrki_change_abandon(pending);
}

START_TEST(prepare_unwinds_when_any_request_fails)
{
    made = create(0);
    sets_each_fault(&host, do_prepare, undo_prepare, NULL);
    lrk_adapters_destroy(made);
}
END_TEST

/* ---- calling back ------------------------------------------------------------------------------------------------ */

static lrk_adapters *during_set;
static int during_calls;

#define BUSY(call) sets_expect(context, call, LRK_ERR_BUSY, "")

static void call_back(void *user)
{
    lrk_adapters *set = during_set;
    float values[8] = {0};
    int32_t index;
    int64_t n;
    lrk_mask *mask;
    lrk_snapshot *snapshot;
    lrk_pass *pass;
    lrk_pass_options pass_options;
    ck_assert_int_eq(lrk_pass_options_init(&pass_options, sizeof pass_options), LRK_OK);
    pass_options.max_rows = 1;
    during_calls++;
    BUSY(lrk_adapters_info_get(set, &(lrk_adapters_info){.struct_size = sizeof(lrk_adapters_info)}));
    BUSY(lrk_adapters_module(set, 0, &(lrk_module_info){.struct_size = sizeof(lrk_module_info)}));
    BUSY(lrk_adapters_find(set, "a", &index));
    BUSY(lrk_adapters_tensor(set, 0, 0, &(lrk_tensor){.struct_size = sizeof(lrk_tensor)}));
    BUSY(lrk_adapters_ranks(set, 0, NULL, NULL, &n));
    BUSY(lrk_adapters_find_rank(set, 1, &index, &n));
    BUSY(lrk_adapters_flat(set, 0, NULL, 0, &n));
    BUSY(lrk_adapters_values_changed(set));
    BUSY(lrk_adapters_zero_gradients(set));
    BUSY(lrk_adapters_gradients_written(set));
    BUSY(lrk_adapters_scale_gradients(set, 1, NULL));
    BUSY(lrk_adapters_gradient_norm2(set, &(double){0}));
    BUSY(lrk_adapters_merge(set, 0, 1, LRK_WEIGHT_OUT_IN, values, 5));
    BUSY(lrk_adapters_delta(set, 0, LRK_WEIGHT_OUT_IN, values, 5));
    BUSY(lrk_mask_create_all(set, &mask));
    BUSY(lrk_mask_create_none(set, &mask));
    BUSY(lrk_mask_create_only(set, 1, &mask));
    BUSY(lrk_mask_create_without(set, 1, &mask));
    BUSY(lrk_mask_create_values(set, values, 5, &mask));
    BUSY(lrk_snapshot_create(set, &snapshot));
    BUSY(lrk_snapshot_restore(user, set));
    BUSY(lrk_pass_begin(set, &pass_options, &pass));
}

START_TEST(storage_callbacks_cannot_call_the_set)
{
    lrk_adapters *adapters = create(0);
    lrk_snapshot *snapshot;
    sets_fill(adapters);
    ck_assert_int_eq(lrk_snapshot_create(adapters, &snapshot), LRK_OK);
    during_set = adapters;
    owner.during = call_back;
    owner.during_user = snapshot;
    lrki_change_abandon(prepare(adapters, usual));
    lrki_change_commit(prepare(adapters, usual));
    ck_assert_int_eq(during_calls, 8);
    owner.during = NULL;
    sets_check_filled(adapters, 6);
    ck_assert_int_eq(lrk_snapshot_restore(snapshot, adapters), LRK_OK); /* outside it works */
    lrk_snapshot_destroy(snapshot);
    lrk_adapters_destroy(adapters);
}
END_TEST

Suite *storage_suite(void);

Suite *storage_suite(void)
{
    Suite *suite = suite_create("storage");
    TCase *tcase = tcase_create("host");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, creation_asks_for_every_module_and_tells_when_it_is_in_use);
    tcase_add_test(tcase, values_are_those_of_library_memory);
    tcase_add_test(tcase, rows_past_the_rank_are_never_touched);
    tcase_add_test(tcase, a_module_that_fits_is_compacted_in_place);
    tcase_add_test(tcase, rows_that_stay_where_they_are_do_not_count_as_moved);
    tcase_add_test(tcase, growth_asks_the_host_and_uses_the_new_buffers_from_commit_on);
    tcase_add_test(tcase, abandon_gives_the_new_buffers_back);
    tcase_add_test(tcase, a_refusal_unwinds_a_change);
    tcase_add_test(tcase, a_refusal_unwinds_creation);
    tcase_add_test(tcase, buffers_without_room_are_refused);
    tcase_add_test(tcase, fixed_capacities_are_never_exceeded);
    tcase_add_test(tcase, creation_unwinds_when_any_request_fails);
    tcase_add_test(tcase, prepare_unwinds_when_any_request_fails);
    tcase_add_test(tcase, storage_callbacks_cannot_call_the_set);
    suite_add_tcase(suite, tcase);
    return suite;
}
