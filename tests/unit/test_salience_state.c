/* SPDX-License-Identifier: MIT */
/* Salience: runs that stop in the middle of a window and go on, what is refused, every lack of memory. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "formats/checkpoint.h"
#include "observed.h"
#include "resume.h"
#include "sets.h"

enum { STEPS = 14, RANKS = 6 };

static lrk_salience_options small_windows(void)
{
    lrk_salience_options options;
    ck_assert_int_eq(lrk_salience_options_init(&options, sizeof options), LRK_OK);
    options.window = 2;
    options.window_last = 5;
    options.n_rounds = 3;
    options.correlation = 0.25;
    options.slope = 1.125;
    return options;
}

/* ---- checkpoints ----------------------------------------------------------------------------------------------------- */

typedef struct saved_set {
    small_set s;
    lrk_estimator *estimator;
    lrk_allocator *allocator;
    lrk_checkpoint *list;
} saved_set;

static void open_saved(saved_set *r, const lrk_salience_options *options)
{
    lrk_alora_options alora = small_set_alora(1);
    small_set_open(&r->s, observed_shapes, 3, NULL);
    ck_assert_int_eq(lrk_estimator_create_salience(r->s.adapters, options, &r->estimator), LRK_OK);
    r->allocator = small_set_allocator(&r->s, &alora);
    ck_assert_int_eq(lrk_checkpoint_create(r->s.context, &r->list), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_adapters(r->list, "set", r->s.adapters), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_allocator(r->list, "set", r->allocator), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_estimator(r->list, "main", r->estimator), LRK_OK);
}

static void close_saved(saved_set *r)
{
    lrk_checkpoint_destroy(r->list);
    lrk_estimator_destroy(r->estimator);
    lrk_allocator_destroy(r->allocator);
    small_set_close(&r->s);
}

/* Steps first..last-1: scores after every fourth, by which a rank moves, and one moves besides in the middle of a window. */
static void go(saved_set *r, int first, int last, double out[STEPS][RANKS])
{
    for (int step = first; step < last; step++) {
        uint64_t random = 100 + (uint64_t)step;
        lrk_scores *scores = NULL;
        observed_fill(&r->s, &random);
        ck_assert_int_eq(lrk_adapters_gradients_written(r->s.adapters), LRK_OK);
        ck_assert_int_eq(lrk_estimator_observe(r->estimator), LRK_OK);
        if (step % 4 == 3) {
            ck_assert_int_eq(lrk_estimator_run(r->estimator, (uint64_t)(step / 4), &scores), LRK_OK);
            for (int64_t i = 0; i < RANKS; i++)
                out[step][i] = observed_score(scores, i).score;
        }
        if (step == 5) scores = small_set_scores(&r->s, (const double[RANKS]){4, 3, 0, 5, 1, 2});
        if (scores == NULL) continue;
        lrk_plan *plan = small_set_plan(r->allocator, scores);
        small_set_carry_out(plan, NULL, 0);
        lrk_plan_destroy(plan);
        lrk_scores_destroy(scores);
    }
}

static lrk_status load_saved(void *user, const resume_bytes *kept)
{
    saved_set *r = user;
    lrk_reader reader = {.struct_size = sizeof reader};
    lrk_checkpoint_file *file;
    ck_assert_int_eq(lrk_reader_memory(&reader, kept->data, kept->n), LRK_OK);
    lrk_status status = lrk_checkpoint_open_reader(r->s.context, &reader, NULL, &file);
    if (status != LRK_OK) return status;
    status = lrk_checkpoint_restore(file, r->list, NULL);
    lrk_checkpoint_close(file);
    return status;
}

/* Stopped before step `_i`, in and between windows, and taken up by a fresh process, and by one that was somewhere else. */
START_TEST(a_resumed_run_scores_bit_for_bit_the_same)
{
    for (int before = 0; before < 4; before += 3) {
        double whole[STEPS][RANKS] = {{0}}, parts[STEPS][RANKS] = {{0}}, other[STEPS][RANKS];
        lrk_salience_options options = small_windows();
        saved_set a, b;
        open_saved(&a, &options);
        go(&a, 0, _i, whole);
        resume_bytes kept = resume_save(a.list);
        memcpy(parts, whole, sizeof whole);
        go(&a, _i, STEPS, whole);
        open_saved(&b, &options);
        go(&b, 0, before, other);
        ck_assert_int_eq(load_saved(&b, &kept), LRK_OK);
        resume_bytes again = resume_save(b.list);
        ck_assert(before > 0 ||
                  resume_same(&kept, &again)); /* a set that lived goes on counting its generations */
        go(&b, _i, STEPS, parts);
        ck_assert_mem_eq(whole, parts, sizeof whole);
        resume_bytes end_a = resume_save(a.list), end_b = resume_save(b.list);
        ck_assert(before > 0 || resume_same(&end_a, &end_b));
        free(kept.data);
        free(again.data);
        free(end_a.data);
        free(end_b.data);
        close_saved(&a);
        close_saved(&b);
    }
}
END_TEST

START_TEST(a_checkpoint_of_other_options_is_refused)
{
    double out[STEPS][RANKS];
    lrk_salience_options options = small_windows();
    saved_set a;
    open_saved(&a, &options);
    go(&a, 0, 3, out);
    resume_bytes kept = resume_save(a.list);
    for (int which = 0; which < 5; which++) {
        static const char *const words[] = {"window is", "window_last is", "n_rounds is", "correlation is",
                                            "slope is"};
        lrk_salience_options other = options;
        saved_set b;
        other.window += which == 0;
        other.window_last += which == 1;
        other.n_rounds += which == 2;
        other.correlation += which == 3 ? 0.5 : 0;
        other.slope += which == 4 ? 1 : 0;
        open_saved(&b, &other);
        small_set_assert_failed(b.s.context, load_saved(&b, &kept), LRK_ERR_ARGUMENT, words[which]);
        close_saved(&b);
    }
    free(kept.data);
    close_saved(&a);
}
END_TEST

/* ---- refusals -------------------------------------------------------------------------------------------------------- */

/* The section of the estimator; its steps stand where their number does, before the defects. */
static lrki_section section_of(saved_set *r, const resume_bytes *kept)
{
    lrk_reader reader = {.struct_size = sizeof reader};
    lrk_checkpoint_file *file;
    lrki_section found = {0};
    ck_assert_int_eq(lrk_reader_memory(&reader, kept->data, kept->n), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_open_reader(r->s.context, &reader, NULL, &file), LRK_OK);
    for (int64_t i = 0; i < file->n; i++)
        if (file->sections[i].kind == LRK_SECTION_ESTIMATOR) found = file->sections[i];
    lrk_checkpoint_close(file);
    ck_assert_uint_gt(found.bytes, 0);
    return found;
}

/* How often, with a value put over every place that holds `steps` (and `beyond` bytes further), the words are the answer. */
static int refusals(saved_set *r, const resume_bytes *kept, int64_t steps, size_t beyond, const void *value,
                    const char *words)
{
    lrki_section section = section_of(r, kept);
    int n = 0;
    for (uint64_t at = section.offset; at + 8 + beyond + 8 <= section.offset + section.bytes; at++) {
        unsigned char before[8];
        char text[512];
        if (memcmp(kept->data + at, &steps, 8) != 0) continue;
        memcpy(before, kept->data + at + beyond, 8);
        memcpy(kept->data + at + beyond, value, 8);
        resume_checksum(kept->data, section.offset, section.bytes);
        lrk_status status = load_saved(r, kept);
        lrk_context_error(r->s.context, text, sizeof text);
        n += status == LRK_ERR_FORMAT && strstr(text, words) != NULL;
        memcpy(kept->data + at + beyond, before, 8);
        resume_checksum(kept->data, section.offset, section.bytes);
    }
    return n;
}

START_TEST(a_window_that_cannot_be_is_refused_behind_a_right_checksum)
{
    double out[STEPS][RANKS];
    const int64_t endless = INT64_MAX - 1, none = 0;
    const double below = -1;
    lrk_salience_options options = small_windows();
    saved_set a;
    open_saved(&a, &options);
    go(&a, 0, 3, out);
    resume_bytes kept = resume_save(a.list);
    ck_assert_int_ge(refusals(&a, &kept, 3, 0, &endless, "steps of the window is"), 1);
    ck_assert_int_ge(refusals(&a, &kept, 3, 0, &endless, "a rank was observed"), 1);
    ck_assert_int_eq(refusals(&a, &kept, 3, 0, &none, "more often than there were steps"), 1);
    ck_assert_int_ge(refusals(&a, &kept, 3, 8, &below, "defect is below 0"), 1);
    free(kept.data);
    close_saved(&a);
}
END_TEST

START_TEST(what_is_out_of_range_is_refused_by_name)
{
    static const struct {
        uint32_t flags;
        int32_t window, window_last, n_rounds;
        double correlation, slope;
        const char *words;
    } wrong[] = {{4, 2, 3, 0, 0.5, 2, "flags has unknown bits: 0x4"},
                 {0, 0, 3, 0, 0.5, 2, "window must be >= 1, is 0"},
                 {0, 4, 3, 0, 0.5, 2, "window_last must be >= window, is 3"},
                 {0, 2, 3, -1, 0.5, 2, "n_rounds must be >= 0, is -1"},
                 {0, 2, 3, 0, -0.5, 2, "correlation must be in [0, 1], is -0.5"},
                 {0, 2, 3, 0, 1.5, 2, "correlation must be in [0, 1], is 1.5"},
                 {0, 2, 3, 0, NAN, 2, "correlation must be in [0, 1]"},
                 {0, 2, 3, 0, 0.5, 1, "slope must be > 1, is 1"},
                 {0, 2, 3, 0, 0.5, NAN, "slope must be > 1"}};
    small_set s;
    small_set_open(&s, observed_shapes, 3, NULL);
    lrk_salience_options options;
    ck_assert_int_eq(lrk_salience_options_init(&options, sizeof options), LRK_OK);
    ck_assert(options.window == 10 && options.window_last == 200 && options.n_rounds == 0);
    ck_assert(options.correlation == 0.9 && options.slope == 2 && options.flags == 0);
    lrk_estimator *e = (lrk_estimator *)&s;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        options.flags = wrong[i].flags;
        options.window = wrong[i].window;
        options.window_last = wrong[i].window_last;
        options.n_rounds = wrong[i].n_rounds;
        options.correlation = wrong[i].correlation;
        options.slope = wrong[i].slope;
        small_set_assert_failed(s.context, lrk_estimator_create_salience(s.adapters, &options, &e),
                                LRK_ERR_ARGUMENT, wrong[i].words);
        ck_assert_ptr_null(e);
    }
    ck_assert_int_eq(lrk_salience_options_init(&options, sizeof options), LRK_OK);
    options.reserved = 7;
    small_set_assert_failed(s.context, lrk_estimator_create_salience(s.adapters, &options, &e),
                            LRK_ERR_ARGUMENT, "reserved must be 0");
    small_set_assert_failed(s.context, lrk_estimator_create_salience(s.adapters, NULL, NULL),
                            LRK_ERR_ARGUMENT, "salience estimator: estimator must not be NULL");
    ck_assert_int_eq(lrk_estimator_create_salience(NULL, NULL, &e), LRK_ERR_ARGUMENT);
    small_set_close(&s);
    lrk_adapters_options inference;
    ck_assert_int_eq(lrk_adapters_options_init(&inference, sizeof inference), LRK_OK);
    inference.flags = LRK_ADAPTERS_INFERENCE;
    small_set_open(&s, observed_shapes, 3, &inference);
    small_set_assert_failed(s.context, lrk_estimator_create_salience(s.adapters, NULL, &e),
                            LRK_ERR_UNSUPPORTED, "salience estimator: an inference-only set");
    small_set_close(&s);
}
END_TEST

static void observe(const small_set *s, lrk_estimator *e)
{
    ck_assert_int_eq(lrk_adapters_gradients_written(s->adapters), LRK_OK);
    ck_assert_int_eq(lrk_estimator_observe(e), LRK_OK);
}

START_TEST(a_window_without_steps_or_with_a_value_that_is_not_finite_has_no_scores)
{
    small_set s;
    uint64_t random = 5;
    lrk_estimator *e;
    lrk_scores *scores = NULL;
    small_set_open(&s, observed_shapes, 3, NULL);
    observed_fill(&s, &random);
    lrk_salience_options options = small_windows();
    ck_assert_int_eq(lrk_estimator_create_salience(s.adapters, &options, &e), LRK_OK);
    small_set_assert_failed(s.context, lrk_estimator_run(e, 0, &scores), LRK_ERR_STATE,
                            "salience estimator: no gradient of a live rank was observed yet");
    float *gates = small_set_tensor(&s, 1, LRK_TENSOR_GATES).data;
    for (int bad = 0; bad < 2; bad++) {
        float kept = gates[2];
        gates[2] = bad == 0 ? NAN : -INFINITY;
        observe(&s, e);
        gates[2] = kept;
        small_set_assert_failed(s.context, lrk_estimator_run(e, 3, &scores), LRK_ERR_NONFINITE,
                                "module 'm1'");
        for (int step = 0; step < 5; step++) /* window_last later it is forgotten */
            observe(&s, e);
        ck_assert_int_eq(lrk_estimator_run(e, 3, &scores), LRK_OK);
        lrk_scores_destroy(scores);
    }
    small_set_tensor(&s, 2, LRK_TENSOR_B).data[1] = NAN;
    observe(&s, e);
    small_set_assert_failed(s.context, lrk_estimator_run(e, 3, &scores), LRK_ERR_NONFINITE,
                            "salience estimator: A or B was not finite at a step of the window");
    ck_assert_ptr_null(scores);
    lrk_estimator_destroy(e);
    small_set_close(&s);
}
END_TEST

START_TEST(a_set_without_ranks_has_no_scores)
{
    static const int64_t none[2] = {0, 0};
    small_set s;
    lrk_estimator *e;
    lrk_scores *scores;
    lrk_scores_info info = {.struct_size = sizeof info};
    small_set_open_ranks(&s, 2, none);
    ck_assert_int_eq(lrk_estimator_create_salience(s.adapters, NULL, &e), LRK_OK);
    for (int step = 0; step < 2; step++) {
        ck_assert_int_eq(lrk_estimator_run(e, 0, &scores), LRK_OK);
        ck_assert_int_eq(lrk_scores_info_get(scores, &info), LRK_OK);
        ck_assert_int_eq(info.n, 0);
        ck_assert_str_eq(info.estimator, "salience");
        lrk_scores_destroy(scores);
        observe(&s, e);
    }
    lrk_estimator_destroy(e);
    small_set_close(&s);
}
END_TEST

/* ---- lack of memory --------------------------------------------------------------------------------------------------- */

static lrk_status score_once(void *user)
{
    small_set *s = user;
    lrk_estimator *e = NULL;
    lrk_scores *scores;
    lrk_status status = lrk_estimator_create_salience(s->adapters, NULL, &e);
    ck_assert_int_eq(lrk_adapters_gradients_written(s->adapters), LRK_OK);
    for (int step = 0; step < 3 && status == LRK_OK; step++)
        status = lrk_estimator_observe(e);
    if (status == LRK_OK) status = lrk_estimator_run(e, 0, &scores);
    if (status == LRK_OK) lrk_scores_destroy(scores);
    lrk_estimator_destroy(e);
    return status;
}

static void nothing(void *user)
{
    (void)user;
}

static saved_set *into;
static resume_bytes from;

static lrk_status restore_once(void *user)
{
    (void)user;
    return load_saved(into, &from);
}

START_TEST(every_lack_of_memory_is_reported_and_leaks_nothing)
{
    small_set s;
    uint64_t random = 5;
    small_set_open(&s, observed_shapes, 3, NULL);
    observed_fill(&s, &random);
    sets_each_fault(&s.host, score_once, nothing, &s);
    small_set_close(&s);
    saved_set a, b;
    double out[STEPS][RANKS];
    lrk_salience_options options = small_windows();
    open_saved(&a, &options);
    go(&a, 0, 3, out);
    from = resume_save(a.list);
    open_saved(&b, &options);
    go(&b, 0, 2, out);
    into = &b;
    sets_each_fault(&b.s.host, restore_once, nothing, NULL);
    free(from.data);
    close_saved(&a);
    close_saved(&b);
}
END_TEST

Suite *salience_state_suite(void);

Suite *salience_state_suite(void)
{
    Suite *suite = suite_create("salience_state");
    TCase *tests = tcase_create("salience_state");
    tcase_add_loop_test(tests, a_resumed_run_scores_bit_for_bit_the_same, 0, STEPS);
    tcase_add_test(tests, a_checkpoint_of_other_options_is_refused);
    tcase_add_test(tests, a_window_that_cannot_be_is_refused_behind_a_right_checksum);
    tcase_add_test(tests, what_is_out_of_range_is_refused_by_name);
    tcase_add_test(tests, a_window_without_steps_or_with_a_value_that_is_not_finite_has_no_scores);
    tcase_add_test(tests, a_set_without_ranks_has_no_scores);
    tcase_add_test(tests, every_lack_of_memory_is_reported_and_leaks_nothing);
    suite_add_tcase(suite, tests);
    return suite;
}
