/* SPDX-License-Identifier: MIT */
/*
 * Carrying plans out: the order in which participants hear of a plan, what a refusal undoes, what may not happen while
 * a plan is prepared, host storage, and that after any failure the plan is open and the set as it was.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "small_set.h"

static const double VALUES[] = {0.9, 0.1, 0.5, 0.4, 0.6, 0.8, 0.2, 0.7, 0.3};

static small_set s;
static lrk_allocator *allocator;
static lrk_scores *scores;
static lrk_plan *plan;
static char events[256];

/* ---- participants that write down what they hear ------------------------------------------------------------------------ */

typedef struct witness {
    char letter;
    bool refuses;
    bool meddles; /* tries from inside what must be refused */
    int64_t rank_seen;
} witness;

static void note(char what, char letter)
{
    size_t n = strlen(events);
    ck_assert_uint_lt(n + 3, sizeof events);
    events[n] = what;
    events[n + 1] = letter;
    events[n + 2] = ' ';
    events[n + 3] = '\0';
}

/* The caller's own handle is the plan that participants see. */
static void meddle(bool inside_commit)
{
    lrk_snapshot *snapshot = NULL;
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_ERR_STATE);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_ERR_STATE);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_ERR_BUSY);
    ck_assert_int_eq(lrk_snapshot_create(s.adapters, &snapshot), LRK_OK);
    ck_assert_int_eq(lrk_snapshot_restore(snapshot, s.adapters), LRK_ERR_BUSY);
    lrk_snapshot_destroy(snapshot);
    if (!inside_commit) return;
    lrk_plan *other = NULL;
    ck_assert_int_eq(lrk_allocator_plan(allocator, scores, 0, &other), LRK_ERR_BUSY);
}

static int32_t hear_prepare(void *user, const lrk_plan *heard)
{
    witness *w = user;
    ck_assert_ptr_eq(heard, plan);
    note('p', w->letter);
    if (w->meddles) meddle(false);
    return w->refuses ? 42 : 0;
}

static void hear_commit(void *user, const lrk_plan *heard)
{
    witness *w = user;
    ck_assert_ptr_eq(heard, plan);
    w->rank_seen = small_set_rank(&s, 1);
    note('c', w->letter);
    if (w->meddles) meddle(true);
}

static void hear_abandon(void *user, const lrk_plan *heard)
{
    witness *w = user;
    ck_assert_ptr_eq(heard, plan);
    note('a', w->letter);
    if (w->meddles) meddle(false);
}

static witness witnesses[3];
static lrk_participant participants[3];

static void setup_witnesses(void)
{
    static const char *const names[] = {"first", "second", "third"};
    for (int i = 0; i < 3; i++) {
        witnesses[i] = (witness){.letter = (char)('1' + i)};
        ck_assert_int_eq(lrk_participant_init(&participants[i], sizeof participants[i]), LRK_OK);
        participants[i].user = &witnesses[i];
        participants[i].name = names[i];
        participants[i].prepare = hear_prepare;
        participants[i].commit = hear_commit;
        participants[i].abandon = hear_abandon;
    }
    events[0] = '\0';
}

static void setup(void)
{
    small_set_open_ranks(&s, 3, (const int64_t[]){3, 3, 3});
    lrk_alora_options options = small_set_alora(2);
    allocator = small_set_allocator(&s, &options);
    scores = small_set_scores(&s, VALUES);
    plan = small_set_plan(allocator, scores);
    setup_witnesses();
}

static void teardown(void)
{
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    small_set_close(&s);
}

static int32_t state(void)
{
    lrk_plan_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_plan_info_get(plan, &info), LRK_OK);
    return info.state;
}

/* ---- order and refusal ------------------------------------------------------------------------------------------------------- */

START_TEST(participants_prepare_in_order_and_commit_after_the_set)
{
    ck_assert_int_eq(lrk_plan_prepare(plan, participants, 3), LRK_OK);
    ck_assert_int_eq(state(), LRK_PLAN_PREPARED);
    ck_assert_int_eq(small_set_rank(&s, 1), 3);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    ck_assert_str_eq(events, "p1 p2 p3 c1 c2 c3 ");
    ck_assert_int_eq(state(), LRK_PLAN_COMMITTED);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(witnesses[i].rank_seen, 5);
}
END_TEST

START_TEST(abandoning_undoes_in_reverse_order)
{
    ck_assert_int_eq(lrk_plan_prepare(plan, participants, 3), LRK_OK);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    ck_assert_str_eq(events, "p1 p2 p3 a3 a2 a1 ");
    ck_assert_int_eq(state(), LRK_PLAN_ABANDONED);
    ck_assert_int_eq(small_set_rank(&s, 1), 3);
}
END_TEST

START_TEST(a_refusal_abandons_those_before_and_names_the_participant) /* _i: who refuses */
{
    static const char *const heard[] = {"p1 ", "p1 p2 a1 ", "p1 p2 p3 a2 a1 "};
    char words[64];
    witnesses[_i].refuses = true;
    snprintf(words, sizeof words, "participant '%s' refused the plan of round 0 (42)", participants[_i].name);
    small_set_assert_failed(s.context, lrk_plan_prepare(plan, participants, 3), LRK_ERR_REFUSED, words);
    ck_assert_str_eq(events, heard[_i]);
    ck_assert_int_eq(state(), LRK_PLAN_OPEN);
    ck_assert_int_eq(lrk_adapters_values_changed(s.adapters), LRK_OK); /* the set is free again */
    ck_assert_int_eq(small_set_rank(&s, 0), 3);
}
END_TEST

START_TEST(a_refused_plan_can_be_prepared_again)
{
    witnesses[1].refuses = true;
    ck_assert_int_eq(lrk_plan_prepare(plan, participants, 3), LRK_ERR_REFUSED);
    witnesses[1].refuses = false;
    events[0] = '\0';
    small_set_carry_out(plan, participants, 3);
    ck_assert_str_eq(events, "p1 p2 p3 c1 c2 c3 ");
    ck_assert_int_eq(small_set_rank(&s, 1), 5);
}
END_TEST

START_TEST(participants_cannot_meddle_with_the_plan_or_the_set)
{
    for (int i = 0; i < 3; i++)
        witnesses[i].meddles = true;
    ck_assert_int_eq(lrk_plan_prepare(plan, participants, 3), LRK_OK);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    plan = small_set_plan(allocator, scores);
    small_set_carry_out(plan, participants, 3);
    ck_assert_str_eq(events, "p1 p2 p3 a3 a2 a1 p1 p2 p3 c1 c2 c3 ");
}
END_TEST

START_TEST(a_prepared_plan_that_is_destroyed_tells_its_participants)
{
    ck_assert_int_eq(lrk_plan_prepare(plan, participants, 2), LRK_OK);
    lrk_plan *gone = plan;
    lrk_plan_destroy(gone);
    plan = NULL;
    ck_assert_str_eq(events, "p1 p2 a2 a1 ");
    ck_assert_int_eq(lrk_adapters_values_changed(s.adapters), LRK_OK);
}
END_TEST

START_TEST(participants_are_stepped_by_the_first_ones_size)
{
    struct {
        lrk_participant known;
        uint64_t tail;
    } longer[2] = {{participants[0], 0}, {participants[1], 0}};
    longer[0].known.struct_size = longer[1].known.struct_size = sizeof longer[0];
    ck_assert_int_eq(lrk_plan_prepare(plan, &longer[0].known, 2), LRK_OK);
    ck_assert_str_eq(events, "p1 p2 ");
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    longer[1].tail = 1;
    lrk_plan_destroy(plan);
    plan = small_set_plan(allocator, scores);
    ck_assert_int_eq(lrk_plan_prepare(plan, &longer[0].known, 2), LRK_ERR_VERSION);
    ck_assert_int_eq(state(), LRK_PLAN_OPEN);
}
END_TEST

START_TEST(incomplete_participants_are_refused_by_name)
{
    lrk_participant bad[3];
    memcpy(bad, participants, sizeof bad);
    bad[1].abandon = NULL;
    small_set_assert_failed(s.context, lrk_plan_prepare(plan, bad, 3), LRK_ERR_ARGUMENT,
                            "participant 1 'second'");
    memcpy(bad, participants, sizeof bad);
    bad[2].flags = 1;
    bad[2].name = NULL;
    small_set_assert_failed(s.context, lrk_plan_prepare(plan, bad, 3), LRK_ERR_ARGUMENT,
                            "participant 2 '(unnamed)'");
    memcpy(bad, participants, sizeof bad);
    bad[1].struct_size = 8;
    ck_assert_int_eq(lrk_plan_prepare(plan, bad, 3), LRK_ERR_ARGUMENT);
    bad[0].struct_size = 8;
    ck_assert_int_eq(lrk_plan_prepare(plan, bad, 1), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 1), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_plan_prepare(plan, participants, -1), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_participant_init(NULL, sizeof bad[0]), LRK_ERR_ARGUMENT);
    ck_assert_str_eq(events, "");
    ck_assert_int_eq(state(), LRK_PLAN_OPEN);
}
END_TEST

/* ---- order of calls -------------------------------------------------------------------------------------------------------- */

START_TEST(calls_out_of_order_are_refused)
{
    ck_assert_int_eq(lrk_plan_prepare(NULL, NULL, 0), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_plan_commit(NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_plan_abandon(NULL), LRK_ERR_ARGUMENT);
    lrk_plan_destroy(NULL);
    small_set_assert_failed(s.context, lrk_plan_commit(plan), LRK_ERR_STATE, "not prepared");
    small_set_carry_out(plan, NULL, 0);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_ERR_STATE);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_ERR_STATE);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_ERR_STATE);
}
END_TEST

START_TEST(an_abandoned_plan_stays_abandoned)
{
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_ERR_STATE);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_ERR_STATE);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_ERR_STATE);
}
END_TEST

START_TEST(a_plan_of_older_values_is_stale)
{
    ck_assert_int_eq(lrk_adapters_values_changed(s.adapters), LRK_OK);
    small_set_assert_failed(s.context, lrk_plan_prepare(plan, participants, 3), LRK_ERR_STALE,
                            "parameters changed");
    ck_assert_str_eq(events, "");
    ck_assert_int_eq(state(), LRK_PLAN_OPEN);
}
END_TEST

START_TEST(a_plan_of_older_ranks_is_stale_and_two_cannot_be_prepared)
{
    lrk_alora_options options = small_set_alora(1);
    lrk_allocator *other = small_set_allocator(&s, &options);
    lrk_plan *second = small_set_plan(other, scores);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    small_set_assert_failed(s.context, lrk_plan_prepare(second, NULL, 0), LRK_ERR_BUSY, "prepared");
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    small_set_assert_failed(s.context, lrk_plan_prepare(second, NULL, 0), LRK_ERR_STALE, "ranks changed");
    ck_assert_int_eq(lrk_plan_abandon(second), LRK_OK);
    lrk_plan_destroy(second);
    lrk_allocator_destroy(other);
}
END_TEST

START_TEST(an_open_pass_keeps_a_plan_from_being_prepared)
{
    lrk_pass_options options;
    lrk_pass *pass = NULL;
    ck_assert_int_eq(lrk_pass_options_init(&options, sizeof options), LRK_OK);
    options.max_rows = 1;
    ck_assert_int_eq(lrk_pass_begin(s.adapters, &options, &pass), LRK_OK);
    small_set_assert_failed(s.context, lrk_plan_prepare(plan, participants, 3), LRK_ERR_BUSY, "pass");
    lrk_pass_end(pass);
    ck_assert_str_eq(events, "");
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_pass_begin(s.adapters, &options, &pass), LRK_ERR_BUSY);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
}
END_TEST

/* ---- host storage --------------------------------------------------------------------------------------------------------------- */

typedef struct own_storage {
    int64_t room[2]; /* capacity that the next prepare gives */
    float *blocks[2];
    float *next[2];
    bool refuses;
    bool meddles;
} own_storage;

static int32_t storage_prepare(void *user, int32_t module, int64_t rank, lrk_module_buffers *buffers)
{
    own_storage *o = user;
    if (o->meddles) {
        ck_assert_int_eq(lrk_plan_abandon(plan), LRK_ERR_STATE);
        ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_ERR_BUSY);
    }
    if (o->refuses) return 1;
    int64_t room = rank > o->room[module] ? rank : o->room[module];
    float *block = calloc((size_t)room * 16, sizeof *block);
    buffers->a = block;
    buffers->b = block + room * 4;
    buffers->grad_a = block + room * 7;
    buffers->grad_b = block + room * 11;
    buffers->gates = block + room * 14;
    buffers->grad_gates = block + room * 15;
    buffers->capacity = room;
    o->next[module] = block;
    return 0;
}

static void storage_commit(void *user, int32_t module)
{
    own_storage *o = user;
    free(o->blocks[module]);
    o->blocks[module] = o->next[module];
    o->next[module] = NULL;
}

static void storage_abandon(void *user, int32_t module)
{
    own_storage *o = user;
    free(o->next[module]);
    o->next[module] = NULL;
}

/* m0 loses its two ranks, m1 must grow from 1 to 3. */
static void with_own_storage(own_storage *o, void (*use)(own_storage *o))
{
    const lrk_storage storage = {.struct_size = sizeof storage,
                                 .user = o,
                                 .prepare = storage_prepare,
                                 .commit = storage_commit,
                                 .abandon = storage_abandon};
    lrk_adapters_options options;
    teardown();
    ck_assert_int_eq(lrk_adapters_options_init(&options, sizeof options), LRK_OK);
    options.storage = &storage;
    small_set_open(&s, (const small_module[]){{4, 3, 2, 0, 0}, {4, 3, 1, 0, 0}}, 2, &options);
    lrk_alora_options alora = small_set_alora(2);
    allocator = small_set_allocator(&s, &alora);
    scores = small_set_scores(&s, (const double[]){0.1, 0.2, 0.9});
    plan = small_set_plan(allocator, scores);
    use(o);
    free(o->blocks[0]);
    free(o->blocks[1]);
    ck_assert_ptr_null(o->next[0]);
    ck_assert_ptr_null(o->next[1]);
}

static void refuse_then_grow(own_storage *o)
{
    o->refuses = true;
    small_set_assert_failed(s.context, lrk_plan_prepare(plan, participants, 3), LRK_ERR_HOST, "'m1'");
    ck_assert_str_eq(events, "");
    ck_assert_int_eq(state(), LRK_PLAN_OPEN);
    o->refuses = false;
    o->meddles = true;
    witnesses[2].refuses = true;
    ck_assert_int_eq(lrk_plan_prepare(plan, participants, 3), LRK_ERR_REFUSED);
    ck_assert_ptr_null(o->next[1]);
    witnesses[2].refuses = false;
    const float kept = o->blocks[1][0];
    small_set_carry_out(plan, participants, 3);
    ck_assert_int_eq(small_set_rank(&s, 0), 0);
    ck_assert_int_eq(small_set_rank(&s, 1), 3);
    ck_assert_float_eq(o->blocks[1][0], kept);
}

START_TEST(host_storage_may_refuse_and_grows_at_commit)
{
    own_storage o = {.room = {2, 1}};
    with_own_storage(&o, refuse_then_grow);
}
END_TEST

static void fit_in_place(own_storage *o)
{
    float *block = o->blocks[1];
    o->refuses = true; /* it is not asked */
    small_set_carry_out(plan, NULL, 0);
    ck_assert_ptr_eq(o->blocks[1], block);
    ck_assert_int_eq(small_set_rank(&s, 1), 3);
}

START_TEST(host_storage_with_room_is_used_in_place)
{
    own_storage o = {.room = {2, 4}};
    with_own_storage(&o, fit_in_place);
}
END_TEST

/* ---- memory ------------------------------------------------------------------------------------------------------------------- */

START_TEST(every_allocation_of_prepare_may_fail) /* _i: 0 once, 1 from there on */
{
    int64_t before = s.host.alloc.calls;
    ck_assert_int_eq(lrk_plan_prepare(plan, participants, 3), LRK_OK);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    int64_t total = s.host.alloc.calls - before;
    lrk_plan_destroy(plan);
    plan = small_set_plan(allocator, scores);
    int64_t live = s.host.live;
    ck_assert_int_ge(total, 5);
    for (int64_t i = 0; i < total; i++) {
        s.host.alloc = (fault_counter){.fail_at = i, .sticky = _i == 1};
        ck_assert_int_eq(lrk_plan_prepare(plan, participants, 3), LRK_ERR_NOMEM);
        ck_assert_int_eq(s.host.live, live);
        ck_assert_int_eq(state(), LRK_PLAN_OPEN);
    }
    s.host.alloc = (fault_counter){.fail_at = -1};
    ck_assert_int_eq(lrk_plan_prepare(plan, participants, 3), LRK_OK);
    s.host.alloc = (fault_counter){.fail_at = 0, .sticky = true};
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK); /* takes no memory */
    ck_assert_int_eq(s.host.alloc.calls, 0);
    s.host.alloc.fail_at = -1;
    ck_assert_int_eq(small_set_rank(&s, 1), 5);
}
END_TEST

START_TEST(dropped_ranks_give_their_memory_back)
{
    lrk_alora_options options = small_set_alora(9);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_allocator *all = small_set_allocator(&s, &options);
    lrk_plan *empty = small_set_plan(all, scores);
    size_t before = s.host.live_bytes;
    small_set_carry_out(empty, NULL, 0);
    lrk_adapters_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_info_get(s.adapters, &info), LRK_OK);
    ck_assert_int_eq(info.ranks, 0);
    ck_assert_uint_le(s.host.live_bytes,
                      before - 9 * 2 * 8 * sizeof(float)); /* rows of A, B, gate; and gradients */
    lrk_plan_destroy(empty);
    lrk_allocator_destroy(all);
}
END_TEST

static void add_order(TCase *tests)
{
    tcase_add_test(tests, participants_prepare_in_order_and_commit_after_the_set);
    tcase_add_test(tests, abandoning_undoes_in_reverse_order);
    tcase_add_loop_test(tests, a_refusal_abandons_those_before_and_names_the_participant, 0, 3);
    tcase_add_test(tests, a_refused_plan_can_be_prepared_again);
    tcase_add_test(tests, participants_cannot_meddle_with_the_plan_or_the_set);
    tcase_add_test(tests, a_prepared_plan_that_is_destroyed_tells_its_participants);
    tcase_add_test(tests, participants_are_stepped_by_the_first_ones_size);
    tcase_add_test(tests, incomplete_participants_are_refused_by_name);
    tcase_add_test(tests, calls_out_of_order_are_refused);
    tcase_add_test(tests, an_abandoned_plan_stays_abandoned);
}

Suite *transaction_suite(void);

Suite *transaction_suite(void)
{
    Suite *suite = suite_create("transaction");
    TCase *tests = tcase_create("transaction");
    tcase_add_checked_fixture(tests, setup, teardown);
    add_order(tests);
    tcase_add_test(tests, a_plan_of_older_values_is_stale);
    tcase_add_test(tests, a_plan_of_older_ranks_is_stale_and_two_cannot_be_prepared);
    tcase_add_test(tests, an_open_pass_keeps_a_plan_from_being_prepared);
    tcase_add_test(tests, host_storage_may_refuse_and_grows_at_commit);
    tcase_add_test(tests, host_storage_with_room_is_used_in_place);
    tcase_add_loop_test(tests, every_allocation_of_prepare_may_fail, 0, 2);
    tcase_add_test(tests, dropped_ranks_give_their_memory_back);
    suite_add_tcase(suite, tests);
    return suite;
}
