/* SPDX-License-Identifier: MIT */
/*
 * Replay: a recorded run asked of its own policy gives its own plans; another policy gives what it would have answered in
 * the run itself; accounts, identities and facts of the scores go along. What is refused is in test_replay_refusals.c.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "policy_rig.h"
#include "scratch.h"
#include "sets.h"
#include "trace_text.h"

enum { ROUNDS = 6, SEEDS = 60 };

static scratch files;
static char path[SCRATCH_PATH];
static small_set s; /* of the recorded run; its context serves the replays */

static void setup(void)
{
    memset(&s, 0, sizeof s);
    scratch_init(&files);
    strcpy(path, scratch_path(&files, "trace.jsonl"));
}

static void teardown(void)
{
    small_set_close(&s);
    scratch_fini(&files);
}

/* ---- recording ------------------------------------------------------------------------------------------------------- */

typedef lrk_status (*make_allocator)(lrk_adapters *adapters, const void *options, lrk_allocator **allocator);

static lrk_status make_alora(lrk_adapters *adapters, const void *options, lrk_allocator **allocator)
{
    return lrk_allocator_create_alora(adapters, options, allocator);
}

static lrk_status make_elalora(lrk_adapters *adapters, const void *options, lrk_allocator **allocator)
{
    return lrk_allocator_create_elalora(adapters, options, allocator);
}

typedef struct recorded {
    uint64_t own[ROUNDS];   /* digests of the run's own plans             */
    uint64_t other[ROUNDS]; /* of another allocator's, asked in the run */
    double scores[ROUNDS];  /* their sum                                  */
} recorded;

static uint64_t digest_of(const lrk_plan *plan)
{
    uint64_t digest = 0;
    ck_assert_int_eq(lrk_plan_digest(plan, &digest), LRK_OK);
    return digest;
}

static uint64_t ask(lrk_allocator *other, const lrk_scores *scores)
{
    if (other == NULL) return 0;
    lrk_plan *plan = small_set_plan(other, scores);
    uint64_t digest = digest_of(plan);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    return digest;
}

static lrk_scores *draw(uint64_t *random, double *sum)
{
    double values[256];
    lrk_adapters_info info = sets_info(s.adapters);
    *sum = 0;
    for (int64_t i = 0; i < info.ranks; i++)
        *sum += values[i] = (double)(small_random_below(random, 32) - 16) / 8;
    return small_set_scores(&s, values);
}

static void open_random_set(uint64_t *random)
{
    small_module modules[5];
    for (int m = 0; m < 5; m++)
        modules[m] = (small_module){.n_in = 1 + small_random_below(random, 4),
                                    .n_out = 1 + small_random_below(random, 4),
                                    .rank = small_random_below(random, 6),
                                    .stage = m};
    small_set_open(&s, modules, 5, NULL);
}

/* A run of ROUNDS rounds with a trace at `path`. */
static void record(lrk_allocator *allocator, lrk_allocator *other, uint64_t *random, recorded *r)
{
    lrk_trace *trace = NULL;
    ck_assert_int_eq(lrk_trace_open(s.adapters, path, "run", &trace), LRK_OK);
    for (int round = 0; round < ROUNDS; round++) {
        lrk_scores *scores = draw(random, &r->scores[round]);
        r->other[round] = ask(other, scores);
        lrk_plan *plan = small_set_plan(allocator, scores);
        r->own[round] = digest_of(plan);
        ck_assert_int_eq(lrk_trace_round(trace, scores, plan), LRK_OK);
        small_set_carry_out(plan, NULL, 0);
        ck_assert_int_eq(lrk_trace_value(trace, "loss", round, 1.5), LRK_OK);
        lrk_plan_destroy(plan);
        lrk_scores_destroy(scores);
    }
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
}

/* ---- replaying ------------------------------------------------------------------------------------------------------- */

typedef struct seen {
    int n;
    uint64_t digests[ROUNDS];
    uint64_t rounds[ROUNDS];
    double scores[ROUNDS];
    int fail_at; /* -1 */
} seen;

static int32_t look(void *user, const lrk_scores *scores, const lrk_plan *plan)
{
    seen *to = user;
    lrk_plan_info info = {.struct_size = sizeof info};
    lrk_scores_info facts = {.struct_size = sizeof facts};
    if (to->n == to->fail_at) return 5;
    ck_assert_int_lt(to->n, ROUNDS);
    ck_assert_int_eq(lrk_plan_info_get(plan, &info), LRK_OK);
    ck_assert_int_eq(info.state, LRK_PLAN_OPEN);
    ck_assert_int_eq(lrk_scores_info_get(scores, &facts), LRK_OK);
    ck_assert_str_eq(facts.estimator, "host");
    to->digests[to->n] = digest_of(plan);
    to->rounds[to->n] = info.round;
    for (int64_t i = 0, before = -1, index = 0; i < facts.n; i++) {
        lrk_score score = {.struct_size = sizeof score};
        ck_assert_int_eq(lrk_scores_get(scores, i, &score), LRK_OK);
        index = score.module == before ? index + 1 : 0;
        before = score.module;
        ck_assert_int_eq(score.index, index);
        to->scores[to->n] += score.score;
    }
    to->n++;
    return 0;
}

static lrk_replay *open_replay(void)
{
    lrk_replay *replay = NULL;
    char detail[512];
    lrk_status status = lrk_replay_open(s.context, path, &replay);
    lrk_context_error(s.context, detail, sizeof detail);
    ck_assert_msg(status == LRK_OK, "%s", detail);
    return replay;
}

static lrk_status run(lrk_replay *replay, make_allocator make, const void *options, seen *to)
{
    lrk_adapters *set = NULL;
    lrk_allocator *allocator = NULL;
    const lrk_round_observer observer = {.struct_size = sizeof observer, .user = to, .round = look};
    lrk_status status = lrk_replay_create_adapters(replay, &set);
    if (status == LRK_OK) status = make(set, options, &allocator);
    if (status == LRK_OK) status = lrk_replay_run(replay, allocator, &observer);
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(set);
    return status;
}

static void replay_all(make_allocator make, const void *options, seen *to)
{
    lrk_replay *replay = open_replay();
    memset(to, 0, sizeof *to);
    to->fail_at = -1;
    ck_assert_int_eq(run(replay, make, options, to), LRK_OK);
    ck_assert_int_eq(to->n, ROUNDS);
    lrk_replay_close(replay);
}

static void close_run(void)
{
    small_set_close(&s);
    memset(&s, 0, sizeof s);
}

/* ---- what it says ---------------------------------------------------------------------------------------------------- */

START_TEST(the_recorded_policy_gives_the_recorded_plans)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t random = seed;
        recorded r;
        seen to;
        lrk_allocator *allocator = NULL;
        open_random_set(&random);
        lrk_alora_options options = small_set_alora(1 + small_random_below(&random, 4));
        options.protect_rounds = (int32_t)small_random_below(&random, 3);
        options.unpruned = (int32_t)small_random_below(&random, 2);
        options.budget_unit = (int32_t)small_random_below(&random, 2);
        ck_assert_int_eq(lrk_allocator_create_alora(s.adapters, &options, &allocator), LRK_OK);
        record(allocator, NULL, &random, &r);
        replay_all(make_alora, &options, &to);
        for (int i = 0; i < ROUNDS; i++) {
            ck_assert_msg(to.digests[i] == r.own[i], "seed %d round %d", (int)seed, i);
            ck_assert(to.scores[i] == r.scores[i]);
            ck_assert_uint_eq(to.rounds[i], (uint64_t)i);
        }
        lrk_allocator_destroy(allocator);
        close_run();
    }
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
}
END_TEST

START_TEST(an_account_that_counts_rounds_goes_along)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t random = seed;
        recorded r;
        seen to;
        lrk_elalora_options options;
        lrk_allocator *allocator = NULL;
        open_random_set(&random);
        lrk_elalora_options_init(&options, sizeof options);
        options.n_move = 5;
        options.n_move_last = 1;
        options.n_rounds = 4;
        options.nominees = 3;
        options.protect_rounds = 1;
        ck_assert_int_eq(lrk_allocator_create_elalora(s.adapters, &options, &allocator), LRK_OK);
        record(allocator, NULL, &random, &r);
        replay_all(make_elalora, &options, &to);
        for (int i = 0; i < ROUNDS; i++)
            ck_assert_msg(to.digests[i] == r.own[i], "seed %d round %d", (int)seed, i);
        lrk_allocator_destroy(allocator);
        close_run();
    }
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
}
END_TEST

START_TEST(another_policy_gives_what_it_would_have_answered_in_the_run)
{
    int differ = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t random = seed;
        recorded r;
        seen to;
        lrk_elalora_options other;
        lrk_allocator *allocators[2] = {NULL, NULL};
        open_random_set(&random);
        lrk_alora_options options = small_set_alora(2);
        lrk_elalora_options_init(&other, sizeof other);
        other.n_move = 3;
        ck_assert_int_eq(lrk_allocator_create_alora(s.adapters, &options, &allocators[0]), LRK_OK);
        ck_assert_int_eq(lrk_allocator_create_elalora(s.adapters, &other, &allocators[1]), LRK_OK);
        record(allocators[0], allocators[1], &random, &r);
        replay_all(make_elalora, &other, &to);
        for (int i = 0; i < ROUNDS; i++) {
            ck_assert_msg(to.digests[i] == r.other[i], "seed %d round %d", (int)seed, i);
            differ += to.digests[i] != r.own[i];
        }
        lrk_allocator_destroy(allocators[0]);
        lrk_allocator_destroy(allocators[1]);
        close_run();
    }
    ck_assert_int_gt(differ, SEEDS * ROUNDS / 2);
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
}
END_TEST

/* ---- traces by hand -------------------------------------------------------------------------------------------------- */

static void write_trace(const char *text)
{
    scratch_write(path, text, strlen(text));
}

static int32_t look_closely(void *user, const lrk_scores *scores, const lrk_plan *plan)
{
    int *n = user;
    lrk_scores_info facts = {.struct_size = sizeof facts};
    lrk_score score = {.struct_size = sizeof score};
    lrk_plan_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_plan_info_get(plan, &info), LRK_OK);
    ck_assert_int_eq(info.step, *n == 0 ? 60 : 90);
    if ((*n)++ > 0) return 0;
    ck_assert_int_eq(lrk_scores_info_get(scores, &facts), LRK_OK);
    ck_assert(facts.n == 3 && facts.n_exact == 3 && facts.evaluations == 8 && facts.differentiations == 2);
    ck_assert(facts.loss_all == 3.5 && facts.loss_none == 4 && facts.noise_floor == 1e-7);
    ck_assert(isnan(facts.split_correlation));
    ck_assert_str_eq(facts.estimator, "ablation.exact");
    ck_assert_int_eq(lrk_scores_get(scores, 0, &score), LRK_OK);
    ck_assert(score.identity == 4 && score.module == 0 && score.index == 0);
    ck_assert(score.score == 0.1 && score.t1 == 0.05 && score.t2 == 0.05 && score.noise == 0.01);
    ck_assert(score.estimate == 0.12 && score.flags == (LRK_SCORE_EXACT | LRK_SCORE_BELOW_FLOOR));
    ck_assert_int_eq(lrk_scores_get(scores, 1, &score), LRK_OK);
    ck_assert(score.index == 1 && isnan(score.t1) && isnan(score.noise) && score.flags == 0);
    return 0;
}

START_TEST(facts_scores_identities_and_births_are_the_recorded_ones)
{
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    write_trace(START ROUND NEXT END);
    int n = 0;
    lrk_adapters *set = NULL;
    lrk_allocator *allocator = NULL;
    lrk_replay *replay = open_replay();
    const lrk_round_observer observer = {.struct_size = sizeof observer, .user = &n, .round = look_closely};
    ck_assert_int_eq(lrk_replay_rounds(replay), 2);
    ck_assert_int_eq(lrk_replay_create_adapters(replay, &set), LRK_OK);
    const uint64_t *identities;
    const int64_t *births;
    int64_t rank;
    ck_assert_int_eq(lrk_adapters_ranks(set, 0, &identities, &births, &rank), LRK_OK);
    ck_assert(rank == 2 && identities[0] == 4 && identities[1] == 7 && births[0] == 0 && births[1] == 3);
    ck_assert_uint_eq(sets_info(set).next_identity, 8);
    lrk_module_info module = {.struct_size = sizeof module};
    ck_assert_int_eq(lrk_adapters_module(set, 0, &module), LRK_OK);
    ck_assert(module.scale == 0.5 && module.stage == 0 && module.n_in == 3 && module.n_out == 2);
    ck_assert_int_eq(lrk_allocator_create_fixed(set, &allocator), LRK_OK);
    ck_assert_int_eq(lrk_replay_run(replay, allocator, &observer), LRK_OK);
    ck_assert_int_eq(n, 2);
    ck_assert_int_eq(lrk_adapters_ranks(set, 1, &identities, &births, &rank), LRK_OK);
    ck_assert(rank == 2 && identities[0] == 5 && identities[1] == 9 && births[1] == 60);
    small_set_assert_failed(s.context, lrk_replay_run(replay, allocator, &observer), LRK_ERR_STATE,
                            "not in the state at the start");
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(set);
    lrk_replay_close(replay);
}
END_TEST

START_TEST(a_text_is_read_like_a_file)
{
    static const char text[] = START ROUND;
    lrk_replay *replay = NULL;
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    ck_assert_int_eq(lrk_replay_parse(s.context, "text", text, sizeof text - 1, &replay), LRK_OK);
    ck_assert_int_eq(lrk_replay_rounds(replay), 1);
    lrk_replay_close(replay);
    small_set_assert_failed(s.context, lrk_replay_parse(s.context, "text", text, 9, &replay), LRK_ERR_FORMAT,
                            "text:1: not valid JSON");
    ck_assert_ptr_null(replay);
}
END_TEST

START_TEST(rounds_can_be_looked_up)
{
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    write_trace(START ROUND ROUND_OF(FACTS,
                                     "\"dropped\":[],\"added\":[{\"identity\":10,\"module\":0},{\"identity\":"
                                     "11,\"module\":1}],\"module_ranks\":[2,3]",
                                     SCORES));
    lrk_replay *replay = open_replay();
    lrk_replay_round round = {.struct_size = sizeof round};
    ck_assert_int_eq(lrk_replay_round_get(replay, 0, &round), LRK_OK);
    ck_assert_str_eq(round.policy, "alora");
    ck_assert_str_eq(round.estimator, "ablation.exact");
    ck_assert(round.round == 0 && round.step == 60 && round.n_ranks == 3);
    ck_assert(round.n_dropped == 1 && round.dropped_ids[0] == 4);
    ck_assert(round.n_added == 1 && round.added_ids[0] == 9);
    ck_assert(round.module_ranks[0] == 1 && round.module_ranks[1] == 2);
    ck_assert(round.cut == 0.1 && round.cut_next == 0.2);
    ck_assert_int_eq(lrk_replay_round_get(replay, 1, &round), LRK_OK);
    ck_assert(round.n_dropped == 0 && round.n_added == 2 && round.added_ids[1] == 11);
    small_set_assert_failed(s.context, lrk_replay_round_get(replay, 2, &round), LRK_ERR_ARGUMENT,
                            "has no round 2");
    ck_assert_int_eq(lrk_replay_round_get(replay, -1, &round), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_replay_round_get(NULL, 0, &round), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_replay_rounds(NULL), -1);
    lrk_replay_close(replay);
    lrk_replay_close(NULL);
}
END_TEST

Suite *replay_suite(void);
Suite *replay_suite(void)
{
    Suite *suite = suite_create("replay");
    TCase *tests = tcase_create("replay");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, the_recorded_policy_gives_the_recorded_plans);
    tcase_add_test(tests, an_account_that_counts_rounds_goes_along);
    tcase_add_test(tests, another_policy_gives_what_it_would_have_answered_in_the_run);
    tcase_add_test(tests, facts_scores_identities_and_births_are_the_recorded_ones);
    tcase_add_test(tests, a_text_is_read_like_a_file);
    tcase_add_test(tests, rounds_can_be_looked_up);
    suite_add_tcase(suite, tests);
    return suite;
}
