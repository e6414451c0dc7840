/* SPDX-License-Identifier: MIT */
/*
 * Snapshots: restoring brings parameters and ranks back across changes, and fails with the set untouched.
 */
#include <check.h>
#include <string.h>

#include "adapters/set.h"
#include "sets.h"

static fault host;
static lrk_context *context;
static lrk_adapters *adapters;
static lrk_module_spec specs[3];
static lrk_adapters_options options;
static sets_host owner;
static lrk_storage storage;

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
    sets_three(specs);
    ck_assert_int_eq(lrk_adapters_options_init(&options, sizeof options), LRK_OK);
    storage = sets_host_storage(&owner, specs, 0);
    adapters = NULL;
}

/* where: 0 library memory, 1 host memory without slack, 2 with slack */
static void create(int where)
{
    owner.slack = where == 2 ? 4 : 0;
    options.storage = where == 0 ? NULL : &storage;
    adapters = sets_create(context, specs, 3, &options);
    sets_fill(adapters);
}

static void teardown(void)
{
    lrk_adapters_destroy(adapters);
    lrk_context_destroy(context);
    sets_host_free(&owner);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

/* "a" 2 -> 1, "b" 3 -> 3 with other ranks, "c" 0 -> 3; births 8. */
static void change_ranks(void)
{
    const int64_t second[] = {1};
    const int64_t outer[] = {0, 2};
    const uint64_t ids[] = {6, 7, 8, 9};
    const lrki_module_change parts[] = {{.n_kept = 1, .kept = second},
                                        {.n_kept = 2, .kept = outer, .n_added = 1, .added_ids = ids},
                                        {.n_added = 3, .added_ids = ids + 1}};
    lrki_change *change;
    ck_assert_int_eq(lrki_change_prepare(adapters, parts, 8, LRK_INIT_GAUSSIAN, &change), LRK_OK);
    lrki_change_commit(change);
}

static lrk_snapshot *take(void)
{
    lrk_snapshot *snapshot;
    ck_assert_int_eq(lrk_snapshot_create(adapters, &snapshot), LRK_OK);
    return snapshot;
}

static void expect_initial_ranks(void)
{
    uint64_t expected = 1;
    for (int32_t m = 0; m < 3; m++) {
        const uint64_t *ids;
        const int64_t *births;
        int64_t n;
        ck_assert_int_eq(lrk_adapters_ranks(adapters, m, &ids, &births, &n), LRK_OK);
        ck_assert_int_eq(n, specs[m].rank);
        for (int64_t j = 0; j < n; j++) {
            ck_assert_uint_eq(ids[j], expected++);
            ck_assert_int_eq(births[j], 0);
        }
    }
}

START_TEST(restore_brings_values_back)
{
    create(_i);
    lrk_snapshot *snapshot = take();
    lrk_adapters_info before = sets_info(adapters);
    for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GRAD_GATES; which++)
        sets_tensor(adapters, 1, which).data[1] = 77.0f;
    adapters->modules[1].has_gradient = true;
    ck_assert_int_eq(lrk_snapshot_restore(snapshot, adapters), LRK_OK);
    sets_check_filled(adapters, UINT64_MAX);
    lrk_adapters_info after = sets_info(adapters);
    ck_assert_uint_eq(after.generation, before.generation); /* ranks are the same: masks stay valid */
    ck_assert_uint_gt(after.values_version, before.values_version);
    for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_GATES; which++)
        ck_assert(sets_tensor(adapters, 1, which).data[1] == 0.0f);
    ck_assert(!adapters->modules[1].has_gradient);
    lrk_snapshot_destroy(snapshot);
}
END_TEST

START_TEST(restore_brings_ranks_back)
{
    create(_i);
    size_t memory = sets_info(adapters).memory;
    lrk_snapshot *snapshot = take();
    change_ranks();
    uint64_t generation = sets_info(adapters).generation, next = sets_info(adapters).next_identity;
    for (int repeat = 0; repeat < 2; repeat++) {
        ck_assert_int_eq(lrk_snapshot_restore(snapshot, adapters), LRK_OK);
        expect_initial_ranks();
        sets_check_filled(adapters, UINT64_MAX);
        lrk_adapters_info info = sets_info(adapters);
        ck_assert_int_eq(info.ranks, 5);
        ck_assert_uint_eq(info.generation, generation + 1); /* the second restore changes no rank */
        ck_assert_uint_eq(info.next_identity, next);        /* used identities stay used */
        if (_i == 0) ck_assert_uint_eq(info.memory, memory);
        ck_assert(!adapters->change_pending);
    }
    ck_assert_int_eq(lrki_adapters_module_of(adapters, 2), 1);
    lrk_snapshot_destroy(snapshot);
}
END_TEST

START_TEST(a_snapshot_of_changed_ranks_restores_them_too)
{
    create(_i);
    lrk_snapshot *initial = take();
    change_ranks();
    sets_fill(adapters);
    lrk_snapshot *changed = take();
    ck_assert_int_eq(lrk_snapshot_restore(initial, adapters), LRK_OK);
    ck_assert_int_eq(lrk_snapshot_restore(changed, adapters), LRK_OK);
    sets_check_filled(adapters, UINT64_MAX);
    const uint64_t *ids;
    const int64_t *births;
    int64_t n;
    ck_assert_int_eq(lrk_adapters_ranks(adapters, 1, &ids, &births, &n), LRK_OK);
    ck_assert(n == 3 && ids[0] == 3 && ids[1] == 5 && ids[2] == 6);
    ck_assert(births[0] == 0 && births[1] == 0 && births[2] == 8);
    ck_assert_int_eq(sets_rank(adapters, 0), 1);
    ck_assert_int_eq(sets_rank(adapters, 2), 3);
    lrk_snapshot_destroy(initial);
    lrk_snapshot_destroy(changed);
}
END_TEST

START_TEST(equal_counts_with_other_identities_are_a_rank_change)
{
    create(0);
    const int64_t outer[] = {0, 2};
    const uint64_t ids[] = {6};
    const lrki_module_change parts[] = {
        {.n_kept = 2}, {.n_kept = 2, .kept = outer, .n_added = 1, .added_ids = ids}, {0}};
    lrk_snapshot *snapshot = take();
    lrki_change *change;
    ck_assert_int_eq(lrki_change_prepare(adapters, parts, 8, 0, &change), LRK_OK);
    lrki_change_commit(change);
    uint64_t generation = sets_info(adapters).generation;
    ck_assert_int_eq(lrk_snapshot_restore(snapshot, adapters), LRK_OK);
    ck_assert_uint_eq(sets_info(adapters).generation, generation + 1);
    expect_initial_ranks();
    lrk_snapshot_destroy(snapshot);
}
END_TEST

START_TEST(fewer_or_more_ranks_at_the_end_are_a_rank_change)
{
    create(0);
    const int64_t first[] = {0, 1};
    const uint64_t ids[] = {6};
    const lrki_module_change fewer[] = {{.n_kept = 2}, {.n_kept = 2, .kept = first}, {0}};
    const lrki_module_change more[] = {
        {.n_kept = 2, .kept = first, .n_added = 1, .added_ids = ids}, {.n_kept = 3}, {0}};
    lrk_snapshot *snapshot = take();
    lrki_change *change;
    ck_assert_int_eq(lrki_change_prepare(adapters, _i ? more : fewer, 8, 0, &change), LRK_OK);
    lrki_change_commit(change);
    uint64_t generation = sets_info(adapters).generation;
    ck_assert_int_eq(lrk_snapshot_restore(snapshot, adapters), LRK_OK);
    ck_assert_uint_eq(sets_info(adapters).generation, generation + 1);
    expect_initial_ranks();
    sets_check_filled(adapters, UINT64_MAX);
    lrk_snapshot_destroy(snapshot);
}
END_TEST

START_TEST(restore_uses_the_room_that_the_host_gave)
{
    create(1);
    lrk_snapshot *snapshot = take();
    change_ranks();
    owner.log[0] = '\0';
    ck_assert_int_eq(lrk_snapshot_restore(snapshot, adapters), LRK_OK);
    ck_assert_str_eq(owner.log, ""); /* capacities only grow */
    lrk_snapshot_destroy(snapshot);
}
END_TEST

START_TEST(a_snapshot_of_another_set_is_refused)
{
    create(0);
    lrk_snapshot *snapshot = take();
    lrk_adapters *other = sets_create(context, specs, 3, NULL);
    sets_expect(context, lrk_snapshot_restore(snapshot, other), LRK_ERR_ARGUMENT, "of another set");
    lrk_adapters_destroy(other);
    lrk_snapshot_destroy(snapshot);
}
END_TEST

START_TEST(a_refusal_of_the_host_leaves_the_set_untouched)
{
    create(1);
    const lrki_module_change none[] = {{0}, {0}, {0}};
    const uint64_t ids[] = {6, 7, 8, 9};
    const lrki_module_change grown[] = {{.n_added = 4, .added_ids = ids}, {0}, {0}};
    lrki_change *change;
    ck_assert_int_eq(lrki_change_prepare(adapters, grown, 1, 0, &change), LRK_OK);
    lrki_change_commit(change);
    lrk_snapshot *snapshot = take();
    ck_assert_int_eq(lrki_change_prepare(adapters, none, 1, 0, &change), LRK_OK);
    lrki_change_commit(change);
    adapters->modules[0].bank.capacity = 1; /* as if the host had given the room back */
    uint64_t digest = sets_digest(adapters);
    owner.refuse = 0;
    owner.log[0] = '\0';
    sets_expect(context, lrk_snapshot_restore(snapshot, adapters), LRK_ERR_HOST, "rank 4 of module 'a'");
    ck_assert_str_eq(owner.log, "p0:4 ");
    ck_assert_uint_eq(sets_digest(adapters), digest);
    ck_assert(!adapters->change_pending);
    adapters->modules[0].bank.capacity = 4;
    lrk_snapshot_destroy(snapshot);
}
END_TEST

START_TEST(restore_is_refused_while_the_set_is_in_use)
{
    create(0);
    lrk_snapshot *snapshot = take();
    lrk_pass_options pass_options;
    lrk_pass *pass;
    ck_assert_int_eq(lrk_pass_options_init(&pass_options, sizeof pass_options), LRK_OK);
    pass_options.max_rows = 1;
    ck_assert_int_eq(lrk_pass_begin(adapters, &pass_options, &pass), LRK_OK);
    sets_expect(context, lrk_snapshot_restore(snapshot, adapters), LRK_ERR_BUSY,
                "a pass is open; lrk_pass_end()");
    lrk_pass_end(pass);
    const lrki_module_change same[] = {{.n_kept = 2}, {.n_kept = 3}, {0}};
    lrki_change *change;
    ck_assert_int_eq(lrki_change_prepare(adapters, same, 1, 0, &change), LRK_OK);
    sets_expect(context, lrk_snapshot_restore(snapshot, adapters), LRK_ERR_BUSY, "prepared");
    lrki_change_abandon(change);
    ck_assert_int_eq(lrk_snapshot_restore(NULL, adapters), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_snapshot_restore(snapshot, NULL), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_snapshot_create(adapters, NULL), LRK_ERR_ARGUMENT, "NULL");
    lrk_snapshot *none = snapshot;
    ck_assert_int_eq(lrk_snapshot_create(NULL, &none), LRK_ERR_ARGUMENT);
    ck_assert_ptr_null(none);
    lrk_snapshot_destroy(snapshot);
}
END_TEST

START_TEST(an_inference_only_set_can_be_restored)
{
    options.flags = LRK_ADAPTERS_INFERENCE;
    create(0);
    lrk_snapshot *snapshot = take();
    change_ranks();
    ck_assert_int_eq(lrk_snapshot_restore(snapshot, adapters), LRK_OK);
    sets_check_filled(adapters, UINT64_MAX);
    expect_initial_ranks();
    lrk_snapshot_destroy(snapshot);
}
END_TEST

static lrk_snapshot *made, *before_change;

static lrk_status do_create(void *user)
{
    (void)user;
    made = (lrk_snapshot *)&host;
    lrk_status status = lrk_snapshot_create(adapters, &made);
    ck_assert((status == LRK_OK) == (made != NULL));
    return status;
}

static void undo_create(void *user)
{
    (void)user;
    lrk_snapshot_destroy(made);
}

static lrk_status do_restore(void *user)
{
    (void)user;
    uint64_t digest = sets_digest(adapters);
    lrk_status status = lrk_snapshot_restore(before_change, adapters);
    ck_assert((sets_digest(adapters) == digest) == (status != LRK_OK));
    ck_assert(!adapters->change_pending);
    return status;
}

/* Back to the changed ranks: `made` holds them. */
static void undo_restore(void *user)
{
    (void)user;
    ck_assert_int_eq(lrk_snapshot_restore(made, adapters), LRK_OK);
}

START_TEST(snapshots_unwind_when_any_request_fails)
{
    create(_i);
    sets_each_fault(&host, do_create, undo_create, NULL);
    before_change = take();
    change_ranks();
    ck_assert_int_eq(do_create(NULL), LRK_OK);
    sets_each_fault(&host, do_restore, undo_restore, NULL);
    lrk_snapshot_destroy(before_change);
    lrk_snapshot_destroy(made);
}
END_TEST

Suite *snapshot_suite(void);

Suite *snapshot_suite(void)
{
    Suite *suite = suite_create("snapshot");
    TCase *tcase = tcase_create("snapshots");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, restore_brings_values_back, 0, 3);
    tcase_add_loop_test(tcase, restore_brings_ranks_back, 0, 3);
    tcase_add_loop_test(tcase, a_snapshot_of_changed_ranks_restores_them_too, 0, 3);
    tcase_add_test(tcase, equal_counts_with_other_identities_are_a_rank_change);
    tcase_add_loop_test(tcase, fewer_or_more_ranks_at_the_end_are_a_rank_change, 0, 2);
    tcase_add_test(tcase, restore_uses_the_room_that_the_host_gave);
    tcase_add_test(tcase, a_snapshot_of_another_set_is_refused);
    tcase_add_test(tcase, a_refusal_of_the_host_leaves_the_set_untouched);
    tcase_add_test(tcase, restore_is_refused_while_the_set_is_in_use);
    tcase_add_test(tcase, an_inference_only_set_can_be_restored);
    tcase_add_loop_test(tcase, snapshots_unwind_when_any_request_fails, 0, 3);
    suite_add_tcase(suite, tcase);
    return suite;
}
