/* SPDX-License-Identifier: MIT */
/*
 * Rank lists: ranks from traces and from PEFT's patterns, by the rules of each; specs that keep their scale; refusals that
 * name what is wrong and leave the specs alone.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json_fault.h"
#include "scratch.h"
#include "sets.h"

static fault host;
static lrk_context *context;
static scratch files;

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
    scratch_init(&files);
}

static void teardown(void)
{
    lrk_context_destroy(context);
    scratch_fini(&files);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

static lrk_rank_list *parse(const char *text)
{
    lrk_rank_list *list = NULL;
    char words[256];
    lrk_status status = lrk_rank_list_parse(context, "list", text, strlen(text), &list);
    lrk_context_error(context, words, sizeof words);
    ck_assert_msg(status == LRK_OK, "%s", words);
    return list;
}

/* -1: the list does not say. */
static int64_t rank_of(const lrk_rank_list *list, const char *name)
{
    int64_t rank = -2;
    lrk_status status = lrk_rank_list_rank(list, name, &rank);
    if (status == LRK_OK) return rank;
    sets_expect(context, status, LRK_ERR_NOT_FOUND, "list: no rank for module '");
    return -1;
}

/* ---- traces ---------------------------------------------------------------------------------------------------------- */

#define START                                                                                                \
    "{\"event\":\"start\",\"format\":1,\"lorank\":\"0.1.0\",\"label\":null,\"ranks\":3,\"parameters\":15,"   \
    "\"modules\":[{\"name\":\"a.*\",\"stage\":0,\"n_in\":3,\"n_out\":2,\"rank\":2,\"scale\":0.5,\"ranks\":"  \
    "[[1,0],[2,0]]},{\"name\":\"b\",\"stage\":1,\"n_in\":3,\"n_out\":2,\"rank\":1,\"scale\":1.0,\"ranks\":"  \
    "[[3,0]]}]}\n"
#define VALUE "{\"event\":\"value\",\"name\":\"loss\",\"step\":1,\"value\":2.5}\n"
#define ROUND                                                                                                \
    "{\"event\":\"round\",\"round\":0,\"step\":6,\"estimator\":\"x\",\"loss_all\":1,\"loss_none\":1,"        \
    "\"noise_floor\":1,\"split_correlation\":1,\"evaluations\":1,\"differentiations\":1,\"n_exact\":1,"      \
    "\"policy\":\"y\",\"cut\":1,\"cut_next\":1,\"dropped\":[],\"added\":[],\"module_ranks\":[0,3],"          \
    "\"scores\":[]}\n"
#define END "{\"event\":\"end\",\"ranks\":3,\"parameters\":15,\"modules\":[[[1,0]],[[3,0],[4,6]]]}\n"

START_TEST(a_trace_gives_the_ranks_as_far_as_it_goes)
{
    static const struct {
        const char *text;
        int64_t a, b;
    } cases[] = {{START, 2, 1}, {START VALUE ROUND, 0, 3}, {START ROUND VALUE END, 1, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lrk_rank_list *list = parse(cases[i].text);
        ck_assert_int_eq(rank_of(list, "a.*"), cases[i].a);
        ck_assert_int_eq(rank_of(list, "b"), cases[i].b);
        ck_assert_int_eq(rank_of(list, "a.x"), -1); /* names are no patterns */
        ck_assert_int_eq(rank_of(list, "x.b"), -1);
        lrk_rank_list_destroy(list);
    }
}
END_TEST

START_TEST(a_file_is_read_like_a_text)
{
    const char *path = scratch_path(&files, "trace.jsonl");
    lrk_rank_list *list = NULL;
    int64_t rank = 0;
    scratch_write(path, START ROUND, strlen(START ROUND));
    ck_assert_int_eq(lrk_rank_list_load(context, path, &list), LRK_OK);
    ck_assert_int_eq(lrk_rank_list_rank(list, "b", &rank), LRK_OK);
    ck_assert_int_eq(rank, 3);
    lrk_rank_list_destroy(list);
    lrk_rank_list_destroy(NULL);
    sets_expect(context, lrk_rank_list_load(context, scratch_path(&files, "nowhere"), &list),
                LRK_ERR_NOT_FOUND, "nowhere");
    ck_assert_ptr_null(list);
    sets_expect(context, lrk_rank_list_load(context, files.dir, &list), LRK_ERR_IO, "not a regular file");
}
END_TEST

/* ---- PEFT ------------------------------------------------------------------------------------------------------------ */

START_TEST(keys_match_as_peft_matches_them)
{
    lrk_rank_list *list =
        parse("{\"layers.1.q\": 3, \"q\": 5,\n \"model.layers.2.v\": 7, \"laye.s.3.v\": 9, \"v\": 0}");
    ck_assert_int_eq(rank_of(list, "model.layers.1.q"), 3);
    ck_assert_int_eq(rank_of(list, "layers.1.q"), 3);
    ck_assert_int_eq(rank_of(list, "layersx1.q"), 3);  /* '.' is any character    */
    ck_assert_int_eq(rank_of(list, "xlayers.1.q"), 5); /* the first does not start after a '.' */
    ck_assert_int_eq(rank_of(list, "model.layers.0.q"), 5);
    ck_assert_int_eq(rank_of(list, "q"), 5);
    ck_assert_int_eq(rank_of(list, "model.xq"), -1);
    ck_assert_int_eq(rank_of(list, "model.layers.2.v"), 7);
    ck_assert_int_eq(rank_of(list, "layers.2.v"), 0); /* shorter than its key */
    ck_assert_int_eq(rank_of(list, "layers.3.v"), 9);
    ck_assert_int_eq(rank_of(list, "model.o"), -1);
    lrk_rank_list_destroy(list);
}
END_TEST

START_TEST(a_config_says_what_is_adapted_and_how)
{
    lrk_rank_list *list =
        parse("{\n \"peft_type\": \"LORA\", \"r\": 8, \"lora_alpha\": 16, \"exclude_modules\": null,\n"
              " \"layers_to_transform\": null, \"rank_pattern\": {\"layers.1.q\": 3, \"o\": 2},\n"
              " \"target_modules\": [\"q\", \"model.head\"]}");
    ck_assert_int_eq(rank_of(list, "model.layers.0.q"), 8);
    ck_assert_int_eq(rank_of(list, "model.layers.1.q"), 3);
    ck_assert_int_eq(rank_of(list, "model.layers.1.o"), 0); /* no target, whatever the pattern says */
    ck_assert_int_eq(rank_of(list, "model.head"), 8);
    ck_assert_int_eq(rank_of(list, "modelxhead"), 0);
    ck_assert_int_eq(rank_of(list, "head"), 0);
    lrk_rank_list_destroy(list);
    list = parse("{\"peft_type\": \"LORA\", \"r\": 8, \"target_modules\": \"all-linear\"}");
    ck_assert_int_eq(rank_of(list, "any"), 8);
    lrk_rank_list_destroy(list);
    list = parse("{\"peft_type\": \"LORA\", \"r\": 4, \"rank_pattern\": null, \"target_modules\": null}");
    ck_assert_int_eq(rank_of(list, "any"), 4);
    lrk_rank_list_destroy(list);
}
END_TEST

/* What PEFT itself is told by lorank's own export: every module by its whole name, those of rank 0 left out. */
START_TEST(what_lorank_exports_reads_back)
{
    lrk_module_spec specs[3];
    lrk_rank_list *list = NULL;
    char path[SCRATCH_PATH];
    sets_three(specs);
    lrk_adapters *adapters = sets_create(context, specs, 3, NULL);
    strcpy(path, scratch_path(&files, "peft"));
    ck_assert_int_eq(lrk_peft_save(adapters, path, NULL), LRK_OK);
    lrk_adapters_destroy(adapters);
    strcat(path, "/adapter_config.json");
    ck_assert_int_eq(lrk_rank_list_load(context, path, &list), LRK_OK);
    for (int i = 0; i < 3; i++) {
        int64_t rank = -1;
        ck_assert_int_eq(lrk_rank_list_rank(list, specs[i].name, &rank), LRK_OK);
        ck_assert_int_eq(rank, specs[i].rank);
    }
    lrk_rank_list_destroy(list);
}
END_TEST

/* ---- specs ----------------------------------------------------------------------------------------------------------- */

START_TEST(specs_get_ranks_and_keep_their_scale)
{
    lrk_module_spec specs[4];
    const char *names[] = {"l.0.q", "l.1.q", "l.0.v", "l.0.o"};
    for (int i = 0; i < 4; i++)
        specs[i] = sets_spec(names[i], 4, 3, i == 3 ? 0 : 4);
    specs[0].scale_rule = LRK_SCALE_ALPHA;
    specs[0].scale = 16;
    specs[1].scale_rule = LRK_SCALE_ALPHA_SQRT;
    specs[1].scale = 16;
    specs[1].scale_rank = 2;
    specs[2].scale = 0.25;
    specs[3].scale_rule = LRK_SCALE_ALPHA;
    specs[3].scale = 10;
    lrk_rank_list *list = parse("{\"0.q\": 7, \"q\": 1, \"o\": 5}");
    ck_assert_int_eq(lrk_rank_list_apply(list, specs, 4), LRK_OK);
    lrk_rank_list_destroy(list);
    lrk_adapters *adapters = sets_create(context, specs, 4, NULL);
    static const int64_t ranks[] = {7, 1, 4, 5};
    const double scales[] = {16.0 / 4, 16 / sqrt(2.0), 0.25, 10.0 / 5};
    for (int32_t i = 0; i < 4; i++) {
        lrk_module_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(lrk_adapters_module(adapters, i, &info), LRK_OK);
        ck_assert_int_eq(info.rank, ranks[i]);
        ck_assert(info.scale == scales[i]);
    }
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(anchors_and_escapes_match_as_in_peft)
{
    static const struct {
        const char *key;
        int64_t of_q, of_lq; /* ranks of "q" and "l.q", whose own are 4 */
    } keys[] = {{"^q", 9, 4}, {"q$", 9, 9}, {"^l\\\\.q$", 4, 9}, {"^l.q", 4, 9}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char text[64];
        lrk_module_spec specs[2] = {sets_spec("q", 4, 3, 4), sets_spec("l.q", 4, 3, 4)};
        snprintf(text, sizeof text, "{\"%s\": 9}", keys[i].key);
        lrk_rank_list *list = parse(text);
        ck_assert_int_eq(lrk_rank_list_apply(list, specs, 2), LRK_OK);
        ck_assert_int_eq(specs[0].rank, keys[i].of_q);
        ck_assert_int_eq(specs[1].rank, keys[i].of_lq);
        lrk_rank_list_destroy(list);
    }
}
END_TEST

START_TEST(an_array_of_longer_specs_is_stepped_over)
{
    struct {
        lrk_module_spec spec;
        uint64_t tail;
    } specs[2] = {{.tail = 0}, {.tail = 0}};
    for (int i = 0; i < 2; i++) {
        specs[i].spec = sets_spec(i == 0 ? "a" : "b", 4, 3, 1);
        specs[i].spec.struct_size = sizeof specs[i];
    }
    lrk_rank_list *list = parse("{\"a\": 3, \"b\": 2}");
    ck_assert_int_eq(lrk_rank_list_apply(list, &specs[0].spec, 2), LRK_OK);
    ck_assert(specs[0].spec.rank == 3 && specs[1].spec.rank == 2 && specs[0].tail == 0);
    lrk_rank_list_destroy(list);
}
END_TEST

static const struct {
    const char *text;
    const char *words;
} misfits[] = {
    {START, "list: no rank for module 'a'"},
    {"{\"a\": 1, \"x\": 2}", "list: 'x' is of no module"},
    {"{\"peft_type\": \"LORA\", \"r\": 8, \"target_modules\": [\"a\", \"x\"]}", "list: 'x' is of no module"},
};

START_TEST(a_list_that_does_not_fit_is_refused_and_the_specs_stay)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_module_spec before[3];
    memcpy(before, specs, sizeof before);
    lrk_rank_list *list = parse(misfits[_i].text);
    sets_expect(context, lrk_rank_list_apply(list, specs, 3), LRK_ERR_NOT_FOUND, misfits[_i].words);
    ck_assert_mem_eq(before, specs, sizeof before);
    lrk_rank_list_destroy(list);
}
END_TEST

START_TEST(a_module_that_ended_without_ranks_may_be_left_out)
{
    lrk_module_spec spec = sets_spec("b", 3, 2, 9);
    lrk_rank_list *list = parse(START ROUND); /* "a.*" has rank 0 */
    ck_assert_int_eq(lrk_rank_list_apply(list, &spec, 1), LRK_OK);
    ck_assert_int_eq(spec.rank, 3);
    lrk_rank_list_destroy(list);
    list = parse(START); /* and here 2 */
    sets_expect(context, lrk_rank_list_apply(list, &spec, 1), LRK_ERR_NOT_FOUND,
                "list: 'a.*' is of no module");
    lrk_rank_list_destroy(list);
}
END_TEST

/* ---- refusals -------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    lrk_status status;
    const char *words;
} wrong[] = {
    {"", LRK_ERR_FORMAT, "list: not valid JSON"},
    {"{\n", LRK_ERR_FORMAT, "list: not valid JSON"},
    {"[1]", LRK_ERR_FORMAT, "list: neither a trace nor a JSON object"},
    {"{\"event\":\"dance\"}\n", LRK_ERR_FORMAT, "list:1: the first event is 'dance'"},
    {START "{}\n", LRK_ERR_FORMAT, "list:2: field 'event'"},
    {"{\"q\": 1.5}", LRK_ERR_FORMAT, "no rank >= 0 for key 'q'"},
    {"{\"q\": -1}", LRK_ERR_FORMAT, "no rank >= 0 for key 'q'"},
    {"{\"q.*\": 1}", LRK_ERR_UNSUPPORTED, "a key is empty or a regular expression: 'q.*'"},
    {"{\"\": 1}", LRK_ERR_UNSUPPORTED, "a key is empty or a regular expression: ''"},
    {"{\"rank_pattern\": {}}", LRK_ERR_UNSUPPORTED, "peft_type is not LORA"},
    {"{\"peft_type\": \"ADALORA\"}", LRK_ERR_UNSUPPORTED, "peft_type is not LORA"},
    {"{\"peft_type\": \"LORA\"}", LRK_ERR_FORMAT, "r is missing or not an integer >= 0"},
    {"{\"peft_type\": \"LORA\", \"r\": -1}", LRK_ERR_FORMAT, "r is missing or not an integer >= 0"},
    {"{\"peft_type\": \"LORA\", \"r\": 8, \"rank_pattern\": []}", LRK_ERR_FORMAT,
     "rank_pattern is not an object"},
    {"{\"peft_type\": \"LORA\", \"r\": 8, \"target_modules\": \".*q\"}", LRK_ERR_UNSUPPORTED,
     "target_modules is a regular expression: '.*q'"},
    {"{\"peft_type\": \"LORA\", \"r\": 8, \"target_modules\": []}", LRK_ERR_FORMAT,
     "target_modules is not a list"},
    {"{\"peft_type\": \"LORA\", \"r\": 8, \"target_modules\": [7]}", LRK_ERR_FORMAT,
     "target_modules is not a list"},
    {"{\"peft_type\": \"LORA\", \"r\": 8, \"target_modules\": [\"\"]}", LRK_ERR_FORMAT,
     "target_modules is not a list"},
    {"{\"peft_type\": \"LORA\", \"r\": 8, \"layers_to_transform\": [0]}", LRK_ERR_UNSUPPORTED,
     "field is not understood here: 'layers_to_transform'"},
    {"{\"peft_type\": \"LORA\", \"r\": 8, \"exclude_modules\": \"q\"}", LRK_ERR_UNSUPPORTED,
     "field is not understood here: 'exclude_modules'"},
};

START_TEST(a_text_that_is_no_list_is_refused)
{
    lrk_rank_list *list = (lrk_rank_list *)&host;
    sets_expect(context, lrk_rank_list_parse(context, "list", wrong[_i].text, strlen(wrong[_i].text), &list),
                wrong[_i].status, wrong[_i].words);
    ck_assert_ptr_null(list);
}
END_TEST

START_TEST(wrong_calls_are_refused)
{
    lrk_rank_list *list = NULL;
    lrk_module_spec spec = sets_spec("a", 3, 2, 1);
    int64_t rank;
    ck_assert_int_eq(lrk_rank_list_parse(NULL, "l", "{}", 2, &list), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_rank_list_parse(context, NULL, "{}", 2, &list), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_rank_list_parse(context, "l", NULL, 2, &list), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_rank_list_parse(context, "l", "{}", 2, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_rank_list_load(NULL, "l", &list), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_rank_list_load(context, NULL, &list), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_rank_list_load(context, "l", NULL), LRK_ERR_ARGUMENT);
    list = parse("{}");
    ck_assert_int_eq(lrk_rank_list_rank(NULL, "a", &rank), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_rank_list_rank(list, NULL, &rank), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_rank_list_rank(list, "a", NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_rank_list_apply(NULL, &spec, 1), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_rank_list_apply(list, NULL, 1), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_rank_list_apply(list, &spec, 0), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_rank_list_apply(list, &spec, 1), LRK_OK);
    ck_assert_int_eq(spec.rank, 1);
    spec.name = NULL;
    ck_assert_int_eq(lrk_rank_list_apply(list, &spec, 1), LRK_ERR_ARGUMENT);
    spec.name = "a";
    spec.struct_size = 40;
    sets_expect(context, lrk_rank_list_apply(list, &spec, 1), LRK_ERR_ARGUMENT, "struct_size is too small");
    lrk_rank_list_destroy(list);
}
END_TEST

/* ---- faults ---------------------------------------------------------------------------------------------------------- */

static const char *fault_text;

static lrk_status read_and_apply(void *user)
{
    lrk_module_spec specs[2] = {sets_spec("a.*", 3, 2, 1), sets_spec("b", 3, 2, 1)};
    lrk_rank_list **list = user;
    lrk_status status = lrk_rank_list_parse(context, "list", fault_text, strlen(fault_text), list);
    if (status != LRK_OK) return status;
    status = lrk_rank_list_apply(*list, specs, 2);
    if (status != LRK_OK) lrk_rank_list_destroy(*list);
    return status;
}

static void destroy(void *user)
{
    lrk_rank_list_destroy(*(lrk_rank_list **)user);
}

START_TEST(every_failed_request_for_memory_leaves_nothing_behind)
{
    lrk_rank_list *list = NULL;
    fault_text = START ROUND END;
    sets_each_fault(&host, read_and_apply, destroy, &list);
    fault_text =
        "{\"peft_type\": \"LORA\", \"r\": 8, \"rank_pattern\": {\"b\": 2}, \"target_modules\": [\"b\"]}";
    sets_each_fault(&host, read_and_apply, destroy, &list);
    json_each_fault(read_and_apply, destroy, &list, true);
}
END_TEST

Suite *rank_list_suite(void);
Suite *rank_list_suite(void)
{
    Suite *suite = suite_create("rank_list");
    TCase *tests = tcase_create("rank_list");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_trace_gives_the_ranks_as_far_as_it_goes);
    tcase_add_test(tests, a_file_is_read_like_a_text);
    tcase_add_test(tests, keys_match_as_peft_matches_them);
    tcase_add_test(tests, a_config_says_what_is_adapted_and_how);
    tcase_add_test(tests, what_lorank_exports_reads_back);
    tcase_add_test(tests, specs_get_ranks_and_keep_their_scale);
    tcase_add_test(tests, anchors_and_escapes_match_as_in_peft);
    tcase_add_test(tests, an_array_of_longer_specs_is_stepped_over);
    tcase_add_loop_test(tests, a_list_that_does_not_fit_is_refused_and_the_specs_stay, 0,
                        sizeof misfits / sizeof *misfits);
    tcase_add_test(tests, a_module_that_ended_without_ranks_may_be_left_out);
    tcase_add_loop_test(tests, a_text_that_is_no_list_is_refused, 0, sizeof wrong / sizeof *wrong);
    tcase_add_test(tests, wrong_calls_are_refused);
    tcase_add_test(tests, every_failed_request_for_memory_leaves_nothing_behind);
    suite_add_tcase(suite, tests);
    return suite;
}
