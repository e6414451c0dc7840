/* SPDX-License-Identifier: MIT */
/*
 * Replay: a recorded run asked of its own policy gives its own plans; another policy gives what it would have answered in
 * the run itself; accounts, identities and facts of the scores go along; and every trace that cannot be replayed is
 * refused with its line.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json_fault.h"
#include "policy_rig.h"
#include "scratch.h"
#include "sets.h"

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
    for (int64_t i = 0; i < facts.n; i++) {
        lrk_score score = {.struct_size = sizeof score};
        ck_assert_int_eq(lrk_scores_get(scores, i, &score), LRK_OK);
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

#define START                                                                                                \
    "{\"event\":\"start\",\"format\":1,\"lorank\":\"0.1.0\",\"label\":null,\"ranks\":3,\"parameters\":15,"   \
    "\"modules\":[{\"name\":\"a\",\"stage\":0,\"n_in\":3,\"n_out\":2,\"rank\":2,\"scale\":0.5,\"ranks\":"    \
    "[[4,0],[7,3]]},{\"name\":\"b\",\"stage\":1,\"n_in\":3,\"n_out\":2,\"rank\":1,\"scale\":1.0,\"ranks\":"  \
    "[[5,0]]}]}\n"
#define FACTS                                                                                                \
    "\"estimator\":\"ablation.exact\",\"loss_all\":3.5,\"loss_none\":4.0,\"noise_floor\":1e-7,"              \
    "\"split_correlation\":null,\"evaluations\":8,\"differentiations\":2,\"n_exact\":3,\"policy\":"          \
    "\"alora\",\"cut\":0.1,\"cut_next\":0.2,\"ranks_before\":3,\"ranks_after\":3,\"parameters_before\":15,"  \
    "\"parameters_after\":15,\"receivers\":[]"
#define SCORES                                                                                               \
    "\"scores\":[[4,0,0.1,0.05,0.05,0.01,0.12,true,true],[7,0,0.2,null,null,null,0.2,false,false],"          \
    "[5,1,0.3,null,null,null,0.3,false,false]]"
#define CHANGES                                                                                              \
    "\"dropped\":[{\"identity\":4,\"module\":0,\"score\":0.1,\"birth\":0}],"                                 \
    "\"added\":[{\"identity\":9,\"module\":1}],\"module_ranks\":[1,2]"
#define ROUND "{\"event\":\"round\",\"round\":0,\"step\":60," FACTS "," CHANGES "," SCORES "}\n"
#define NEXT                                                                                                 \
    "{\"event\":\"round\",\"round\":1,\"step\":90," FACTS ",\"dropped\":[],\"added\":[],\"module_ranks\":"   \
    "[1,2],\"scores\":[[7,0,0.2,null,null,null,null,true,false],[5,1,0.3,null,null,null,null,true,false],"   \
    "[9,1,0.4,null,null,null,null,true,false]]}\n"
#define END "{\"event\":\"end\",\"ranks\":3,\"parameters\":15,\"modules\":[[[7,3]],[[5,0],[9,60]]]}\n"

#define ROUND_OF(facts, changes, scores)                                                                     \
    "{\"event\":\"round\",\"round\":0,\"step\":60," facts "," changes "," scores "}\n"

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

/* ---- refusals -------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    const char *words;
} bad_lines[] = {
    {"", "trace.jsonl: the file is empty"},
    {"{\n", "trace.jsonl:1: not valid JSON"},
    {"[]\n", ":1: not a JSON object"},
    {"{\"even\":1}\n", ":1: field 'event' is missing or not a text"},
    {"{\"event\":\"round\"}\n", ":1: the first event is 'round', not 'start'"},
    {START "{\"event\":\"dance\"}\n", ":2: unknown event 'dance'"},
    {START START, ":2: a second start event"},
    {START END ROUND, ":3: an event after the end"},
    {"{\"event\":\"start\",\"format\":2}\n", ":1: format 2, known here is 1"},
    {"{\"event\":\"start\",\"format\":1,\"label\":7}\n", ":1: field 'label' is missing or not a text"},
    {"{\"event\":\"start\",\"format\":1,\"label\":null}\n", ":1: field 'modules' is missing or not an array"},
    {"{\"event\":\"start\",\"format\":1,\"label\":null,\"modules\":[]}\n", ":1: field 'modules' is empty"},
    {"{\"event\":\"start\",\"format\":1,\"label\":null,\"modules\":[{\"name\":\"a\",\"stage\":-1}]}\n",
     ":1: field 'stage' is missing or not an integer >= 0"},
    {"{\"event\":\"start\",\"format\":1,\"label\":null,\"modules\":[{\"name\":\"a\",\"stage\":0,\"n_in\":1,"
     "\"n_out\":1,\"rank\":2,\"scale\":1,\"ranks\":[[1,0]]}]}\n",
     ":1: module 'a': 'rank' and 'ranks' differ"},
    {"{\"event\":\"start\",\"format\":1,\"label\":null,\"modules\":[{\"name\":\"a\",\"stage\":0,\"n_in\":1,"
     "\"n_out\":1,\"rank\":1,\"scale\":1,\"ranks\":[[0,0]]}]}\n",
     ":1: a rank is not [identity, birth]"},
    {START "{\"event\":\"round\",\"round\":0}\n", ":2: field 'step' is missing or not an integer >= 0"},
    {START ROUND_OF("\"estimator\":\"x\",\"policy\":\"y\",\"cut\":\"z\"", CHANGES, SCORES),
     ":2: field 'cut' is missing or not a number or null"},
    {START ROUND_OF(FACTS, CHANGES, "\"scores\":[[4,0,0.1]]"), ":2: field 'scores': row 0 is not [identity,"},
    {START ROUND_OF(FACTS, CHANGES, "\"scores\":[[4,2,0.1,1,1,1,1,true,true]]"),
     ":2: field 'scores': row 0 is not of module 0 or a later one"},
    {START ROUND_OF(FACTS, CHANGES, "\"scores\":[[4,1,0.1,1,1,1,1,true,true],[5,0,0.1,1,1,1,1,true,true]]"),
     ":2: field 'scores': row 1 is not of module 1 or a later one"},
    {START ROUND_OF(FACTS, "\"dropped\":[{\"identity\":0}]", SCORES),
     ":2: field 'identity' is missing or not an integer >= 1"},
    {START ROUND_OF(FACTS, "\"dropped\":[{\"identity\":4,\"module\":2}]", SCORES),
     ":2: field 'module': there is no module 2"},
    {START ROUND_OF(FACTS, "\"dropped\":[],\"added\":[],\"module_ranks\":[1]", SCORES),
     ":2: field 'module_ranks' has 1 entries for 2 modules"},
    {START ROUND_OF(FACTS, "\"dropped\":[],\"added\":[],\"module_ranks\":[1,-1]", SCORES),
     ":2: field 'module_ranks' holds what is not an integer >= 0"},
    {START "{\"event\":\"end\",\"modules\":[[]]}\n", ":2: field 'modules' has 1 entries for 2 modules"},
    {START "{\"event\":\"end\",\"modules\":[[],7]}\n", ":2: field 'modules' holds what is not an array"},
    {START "{\"event\":\"end\",\"modules\":[[],[[1]]]}\n", ":2: a rank is not [identity, birth]"},
};

START_TEST(a_wrong_line_is_refused_with_its_number)
{
    lrk_replay *replay = (lrk_replay *)&s;
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    write_trace(bad_lines[_i].text);
    small_set_assert_failed(s.context, lrk_replay_open(s.context, path, &replay), LRK_ERR_FORMAT,
                            bad_lines[_i].words);
    ck_assert_ptr_null(replay);
}
END_TEST

static const struct {
    const char *text;
    const char *words;
} bad_rounds[] = {
    {START ROUND ROUND, ":3: its ranks are not those that the rounds before it left"},
    {START ROUND_OF(FACTS, CHANGES, "\"scores\":[]"), ":2: its ranks are not those"},
    {START ROUND_OF(FACTS, "\"dropped\":[{\"identity\":8,\"module\":0}],\"added\":[],\"module_ranks\":[2,1]",
                    SCORES),
     ":2: what was dropped and added does not fit its ranks"},
    {START ROUND_OF(FACTS, "\"dropped\":[],\"added\":[{\"identity\":7,\"module\":0}],\"module_ranks\":[3,1]",
                    SCORES),
     ":2: what was dropped and added does not fit its ranks"},
    {START ROUND_OF(FACTS,
                    "\"dropped\":[],\"added\":[{\"identity\":9,\"module\":0},{\"identity\":11,\"module\":0}],"
                    "\"module_ranks\":[4,1]",
                    SCORES),
     ":2: what was dropped and added does not fit its ranks"},
    {START ROUND_OF(FACTS,
                    "\"dropped\":[],\"added\":[{\"identity\":9,\"module\":1},{\"identity\":10,\"module\":0}],"
                    "\"module_ranks\":[3,2]",
                    SCORES),
     ":2: what was dropped and added does not fit its ranks"},
    {START ROUND_OF(FACTS, "\"dropped\":[],\"added\":[],\"module_ranks\":[2,2]", SCORES),
     ":2: what was dropped and added does not fit its ranks"},
};

static lrk_status run_fixed(lrk_replay *replay)
{
    lrk_adapters *set = NULL;
    lrk_allocator *allocator = NULL;
    int n = 1;
    const lrk_round_observer observer = {.struct_size = sizeof observer, .user = &n, .round = look_closely};
    lrk_status status = lrk_replay_create_adapters(replay, &set);
    if (status == LRK_OK) status = lrk_allocator_create_fixed(set, &allocator);
    if (status == LRK_OK) status = lrk_replay_run(replay, allocator, &observer);
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(set);
    return status;
}

static int32_t pass_over(void *user, const lrk_scores *scores, const lrk_plan *plan)
{
    (void)user, (void)scores, (void)plan;
    return 0;
}

START_TEST(rounds_that_do_not_follow_are_refused)
{
    lrk_adapters *set = NULL;
    lrk_allocator *allocator = NULL;
    const lrk_round_observer observer = {.struct_size = sizeof observer, .round = pass_over};
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    write_trace(bad_rounds[_i].text);
    lrk_replay *replay = open_replay();
    ck_assert_int_eq(lrk_replay_create_adapters(replay, &set), LRK_OK);
    ck_assert_int_eq(lrk_allocator_create_fixed(set, &allocator), LRK_OK);
    small_set_assert_failed(s.context, lrk_replay_run(replay, allocator, &observer), LRK_ERR_FORMAT,
                            bad_rounds[_i].words);
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(set);
    lrk_replay_close(replay);
}
END_TEST

START_TEST(a_set_that_cannot_be_is_refused)
{
    static const char twice[] = "{\"event\":\"start\",\"format\":1,\"label\":null,\"modules\":[{\"name\":"
                                "\"a\",\"stage\":0,\"n_in\":1,"
                                "\"n_out\":1,\"rank\":2,\"scale\":1,\"ranks\":[[3,0],[3,0]]}]}\n";
    static const char flat[] = "{\"event\":\"start\",\"format\":1,\"label\":null,\"modules\":[{\"name\":"
                               "\"a\",\"stage\":0,\"n_in\":0,"
                               "\"n_out\":1,\"rank\":0,\"scale\":1,\"ranks\":[]}]}\n";
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    write_trace(twice);
    lrk_replay *replay = open_replay();
    lrk_adapters *set = (lrk_adapters *)&s;
    small_set_assert_failed(s.context, lrk_replay_create_adapters(replay, &set), LRK_ERR_FORMAT,
                            "identity 3 stands twice");
    ck_assert_ptr_null(set);
    lrk_replay_close(replay);
    write_trace(flat);
    replay = open_replay();
    ck_assert_int_eq(lrk_replay_create_adapters(replay, &set), LRK_ERR_SHAPE);
    ck_assert_int_eq(lrk_replay_create_adapters(replay, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_replay_create_adapters(NULL, &set), LRK_ERR_ARGUMENT);
    lrk_replay_close(replay);
}
END_TEST

START_TEST(wrong_calls_are_refused)
{
    lrk_replay *replay = NULL;
    lrk_adapters *set = NULL;
    lrk_allocator *allocator = NULL;
    lrk_round_observer observer = {.struct_size = sizeof observer, .round = pass_over};
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    ck_assert_int_eq(lrk_replay_open(NULL, path, &replay), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_replay_open(s.context, NULL, &replay), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_replay_open(s.context, path, NULL), LRK_ERR_ARGUMENT);
    small_set_assert_failed(s.context, lrk_replay_open(s.context, path, &replay), LRK_ERR_NOT_FOUND,
                            "trace.jsonl");
    small_set_assert_failed(s.context, lrk_replay_open(s.context, files.dir, &replay), LRK_ERR_IO,
                            "not a regular file");
    write_trace(START ROUND NEXT);
    replay = open_replay();
    ck_assert_int_eq(lrk_replay_create_adapters(replay, &set), LRK_OK);
    ck_assert_int_eq(lrk_allocator_create_fixed(set, &allocator), LRK_OK);
    ck_assert_int_eq(lrk_replay_run(NULL, allocator, &observer), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_replay_run(replay, NULL, &observer), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_replay_run(replay, allocator, NULL), LRK_ERR_ARGUMENT);
    observer.flags = 1;
    ck_assert_int_eq(lrk_replay_run(replay, allocator, &observer), LRK_ERR_ARGUMENT);
    observer.flags = 0;
    observer.round = NULL;
    ck_assert_int_eq(lrk_replay_run(replay, allocator, &observer), LRK_ERR_ARGUMENT);
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(set);
    lrk_replay_close(replay);
}
END_TEST

START_TEST(an_observer_ends_the_run_and_no_plan_is_left)
{
    seen to = {.fail_at = 0};
    lrk_adapters *set = NULL;
    lrk_allocator *allocator = NULL;
    const lrk_round_observer observer = {.struct_size = sizeof observer, .user = &to, .round = look};
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    write_trace(START ROUND NEXT);
    lrk_replay *replay = open_replay();
    ck_assert_int_eq(lrk_replay_create_adapters(replay, &set), LRK_OK);
    ck_assert_int_eq(lrk_allocator_create_fixed(set, &allocator), LRK_OK);
    small_set_assert_failed(s.context, lrk_replay_run(replay, allocator, &observer), LRK_ERR_HOST,
                            "the observer of replayed round 0 returned 5");
    const double values[] = {1, 2, 3};
    lrk_scores *scores = NULL;
    lrk_plan *plan = NULL;
    ck_assert_int_eq(lrk_scores_create(set, values, 3, &scores), LRK_OK);
    ck_assert_int_eq(lrk_allocator_plan(allocator, scores, 0, &plan), LRK_OK);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(set);
    lrk_replay_close(replay);
}
END_TEST

START_TEST(a_run_that_outgrew_the_budget_is_said)
{
    static const char grown[] = START ROUND_OF(
        FACTS, "\"dropped\":[],\"added\":[{\"identity\":8,\"module\":0}],\"module_ranks\":[3,1]",
        SCORES) "{\"event\":\"round\",\"round\":1,\"step\":90," FACTS
                ",\"dropped\":[],\"added\":[],\"module_ranks\":[3,1],\"scores\":"
                "[[4,0,0.1,1,1,1,1,true,true],[7,0,0.2,1,1,1,1,true,true],[8,0,0.3,1,1,1,1,true,"
                "true],[5,1,0.4,1,1,1,1,true,true]]}\n";
    lrk_elalora_options options;
    seen to = {.fail_at = -1};
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    write_trace(grown);
    lrk_replay *replay = open_replay();
    lrk_elalora_options_init(&options, sizeof options);
    options.n_move = 1;
    lrk_adapters *set = NULL;
    lrk_allocator *allocator = NULL;
    const lrk_round_observer observer = {.struct_size = sizeof observer, .user = &to, .round = pass_over};
    ck_assert_int_eq(lrk_replay_create_adapters(replay, &set), LRK_OK);
    ck_assert_int_eq(lrk_allocator_create_elalora(set, &options, &allocator), LRK_OK);
    lrk_status status = lrk_replay_run(replay, allocator, &observer);
    ck_assert_int_eq(status, LRK_OK); /* it drops one and adds none: back to 3 */
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(set);
    lrk_increlora_options grow;
    lrk_increlora_options_init(&grow, sizeof grow);
    grow.grow_modules = 1;
    grow.budget = 3;
    ck_assert_int_eq(lrk_replay_create_adapters(replay, &set), LRK_OK);
    ck_assert_int_eq(lrk_allocator_create_increlora(set, &grow, &allocator), LRK_OK);
    small_set_assert_failed(s.context, lrk_replay_run(replay, allocator, &observer), LRK_ERR_BUDGET,
                            "takes 4 of a budget of 3");
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(set);
    lrk_replay_close(replay);
}
END_TEST

/* ---- faults ---------------------------------------------------------------------------------------------------------- */

static lrk_status whole(void *user)
{
    lrk_replay **replay = user;
    lrk_status status = lrk_replay_open(s.context, path, replay);
    if (status != LRK_OK) return status;
    status = run_fixed(*replay);
    if (status != LRK_OK) lrk_replay_close(*replay);
    return status;
}

static lrk_status only_open(void *user)
{
    return lrk_replay_open(s.context, path, user);
}

static void close_it(void *user)
{
    lrk_replay_close(*(lrk_replay **)user);
}

START_TEST(every_failed_request_for_memory_leaves_nothing_behind)
{
    lrk_replay *replay = NULL;
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    write_trace(START ROUND NEXT END);
    sets_each_fault(&s.host, only_open, close_it, &replay);
    json_each_fault(only_open, close_it, &replay, true);
}
END_TEST

START_TEST(every_failed_request_of_a_run_leaves_nothing_behind)
{
    lrk_replay *replay = NULL;
    static const char one[] =
        START "{\"event\":\"round\",\"round\":0,\"step\":90," FACTS "," CHANGES "," SCORES "}\n";
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    write_trace(one);
    sets_each_fault(&s.host, whole, close_it, &replay);
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
    tcase_add_test(tests, rounds_can_be_looked_up);
    tcase_add_loop_test(tests, a_wrong_line_is_refused_with_its_number, 0,
                        sizeof bad_lines / sizeof *bad_lines);
    tcase_add_loop_test(tests, rounds_that_do_not_follow_are_refused, 0,
                        sizeof bad_rounds / sizeof *bad_rounds);
    tcase_add_test(tests, a_set_that_cannot_be_is_refused);
    tcase_add_test(tests, wrong_calls_are_refused);
    tcase_add_test(tests, an_observer_ends_the_run_and_no_plan_is_left);
    tcase_add_test(tests, a_run_that_outgrew_the_budget_is_said);
    tcase_add_test(tests, every_failed_request_for_memory_leaves_nothing_behind);
    tcase_add_test(tests, every_failed_request_of_a_run_leaves_nothing_behind);
    suite_add_tcase(suite, tests);
    return suite;
}
