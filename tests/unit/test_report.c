/* SPDX-License-Identifier: MIT */
/*
 * Reports: what a trace says arrives on the page, names are escaped, odd runs are drawn, and every wrong line is refused
 * with its number and the field.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/json.h"
#include "report_rig.h"
#include "tool/page.h"
#include "tool/run.h"

static run *read_text(const char *text, char error[512])
{
    scratch_write(report_rig.trace_path, text, strlen(text));
    return run_read(report_rig.trace_path, error, 512);
}

static run *read_good(const char *text)
{
    char error[512] = "";
    run *r = read_text(text, error);
    ck_assert_msg(r != NULL, "%s", error);
    return r;
}

static char *draw(const run *r)
{
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    report_page(out, r);
    ck_assert_int_eq(fclose(out), 0);
    char *page = strdup(text); /* not text itself: its address escaped, and GCC warns of it in the callers */
    ck_assert_ptr_nonnull(page);
    free(text);
    return page;
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = strstr(text, what); at != NULL; at = strstr(at + 1, what))
        n++;
    return n;
}

/* ---- reading ---- */

START_TEST(a_run_is_read_as_written)
{
    run *r = read_good(report_whole);
    ck_assert_str_eq(r->label, "a <b>");
    ck_assert_int_eq(r->n_modules, 3);
    ck_assert_int_eq(r->n_rounds, 1);
    ck_assert(r->ended);
    ck_assert_int_eq(r->final_total, 5);
    ck_assert_int_eq(r->final_parameters, 48);
    ck_assert_int_eq(r->final_ranks[1], 4);
    const run_round *round = &r->rounds[0];
    ck_assert_int_eq(round->n_scores, 5);
    static const int64_t ascending[] = {5, 2, 4, 3, 1};
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(round->scores[i].identity, ascending[i]);
        ck_assert_int_eq(round->scores[i].dropped, ascending[i] == 2);
    }
    ck_assert(round->scores[1].exact && round->scores[1].below_floor && !round->scores[0].exact);
    ck_assert(isnan(round->scores[0].noise) && round->scores[1].noise == 0.0015);
    ck_assert_int_eq(r->n_lineage, 6);
    ck_assert_int_eq(r->lineage[1].drop_round, 0);
    ck_assert(!r->lineage[1].live && r->lineage[5].live);
    ck_assert_int_eq(r->lineage[5].birth, 60);
    ck_assert_int_eq(r->lineage[5].born_round, 0);
    ck_assert_int_eq(r->n_series, 1);
    ck_assert(r->series[0].values[0] == 3.25 && isnan(r->series[0].values[1]));
    run_free(r);
    run_free(NULL);
}
END_TEST

START_TEST(a_run_that_goes_on_is_read_as_far)
{
    run *r = read_good(START ROUND);
    ck_assert(!r->ended);
    ck_assert_int_eq(r->final_ranks[0], 1);
    ck_assert_int_eq(r->final_parameters, 48);
    run_free(r);
}
END_TEST

START_TEST(the_end_overrules_the_rounds)
{
    run *r = read_good(START ROUND "{\"event\":\"end\",\"ranks\":5,\"parameters\":46,"
                                   "\"modules\":[[[1,0],[2,0]],[[3,0],[4,0],[5,0]],[]]}\n");
    ck_assert_int_eq(r->final_ranks[0], 2);
    ck_assert(r->lineage[1].live && !r->lineage[5].live);
    char *page = draw(r);
    ck_assert_ptr_nonnull(strstr(page, "live again (dropped in round 0)"));
    ck_assert_ptr_nonnull(strstr(page, "gone: the host went back"));
    free(page);
    run_free(r);
}
END_TEST

typedef struct wrong {
    const char *text;
    const char *words;
} wrong;

static const wrong wrongs[] = {
    {"", ":0: the file is empty"},
    {"x\n", ":1: not valid JSON"},
    {"[]\n", ":1: not a JSON object"},
    {"{}\n", ":1: field 'event' is missing"},
    {"{\"event\":1}\n", ":1: field 'event' is missing or not a text"},
    {VALUE, ":1: the first event is 'value', not 'start'"},
    {START "\n", ":2: not valid JSON"},
    {START START, ":2: a second start event"},
    {START "{\"event\":\"pause\"}\n", ":2: unknown event 'pause'"},
    {START "{\"event\":\"value\",\"event\":\"value\"}\n", ":2: not valid JSON: duplicate"},
    {START END VALUE, ":3: an event after the end"},
    {START VALUE "{\"event\":\"value\",\"name\":\"x\",\"step\":-1,\"value\":1}\n",
     ":3: field 'step' is missing or not an integer >= 0"},
    {START "{\"event\":\"value\",\"name\":7,\"step\":1,\"value\":1}\n",
     ":2: field 'name' is missing or not a text"},
    {START "{\"event\":\"value\",\"name\":\"x\",\"step\":1,\"value\":\"1\"}\n",
     ":2: field 'value' is missing or not a number"},
    {START "{\"event\":\"end\",\"ranks\":5,\"parameters\":48,\"modules\":[]}\n",
     ":2: field 'modules' has 0 entries for 3"},
    {START "{\"event\":\"end\",\"ranks\":5,\"parameters\":48,\"modules\":[[[1]],[],[]]}\n",
     ":2: module 0: a rank is not"},
};

START_TEST(wrong_lines_are_named)
{
    char error[512] = "";
    ck_assert_ptr_null(read_text(wrongs[_i].text, error));
    ck_assert_msg(strstr(error, wrongs[_i].words) != NULL, "'%s' does not say '%s'", error, wrongs[_i].words);
    ck_assert_ptr_eq(strstr(error, report_rig.trace_path), error);
}
END_TEST

/* Text with the first `from` replaced. */
static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    ck_assert_msg(at != NULL, "'%s' is not in the trace", from);
    char *made = malloc(strlen(text) + strlen(to) + 1);
    sprintf(made, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return made;
}

static const char *const swaps[][3] = {
    {"\"format\":1", "\"format\":2", ":1: format 2, known here is 1"},
    {"\"label\":\"a <b>\"", "\"label\":1", ":1: field 'label'"},
    {"\"rank\":2,", "\"rank\":3,", ":1: module 'm.layers.0.q': 'rank' and 'ranks' differ"},
    {"[[1,0],[2,0]]", "[[1,0],2]", ":1: module 0: a rank is not"},
    {"\"module\":0,\"score\"", "\"module\":3,\"score\"", ":3: field 'module': there is no module 3"},
    {"[1,0,0.005", "[1,9,0.005", ":3: field 'scores': there is no module 9"},
    {"[1,0,0.005", "[1,0,null", ":3: field 'scores': a row is not"},
    {"0.0005,null,true,false]", "0.0005,null,true]", ":3: field 'scores': a row is not"},
    {"\"module_ranks\":[1,4,0]", "\"module_ranks\":[1,4]", ":3: field 'module_ranks' has 2 entries"},
    {"\"module_ranks\":[1,4,0]", "\"module_ranks\":[1,4,-1]", ":3: field 'module_ranks' is missing or not"},
    {"\"n\":1,", "\"n\":\"\",", ":3: field 'n'"},
    {"\"evaluations\":12", "\"evaluations\":1000000000001", ":3: field 'evaluations' is missing or not"},
    {"\"module_ranks\":[1,4,0]", "\"module_ranks\":[1,1000000000001,0]", ":3: field 'module_ranks'"},
    {"\"added\":[{\"identity\":6", "\"added\":[{\"identity\":-6", ":3: field 'identity'"},
};

START_TEST(wrong_values_are_named)
{
    char error[512] = "";
    char *text = replaced(report_whole, swaps[_i][0], swaps[_i][1]);
    ck_assert_ptr_null(read_text(text, error));
    ck_assert_msg(strstr(error, swaps[_i][2]) != NULL, "'%s' does not say '%s'", error, swaps[_i][2]);
    free(text);
}
END_TEST

/* Every field of an event is needed. */
static void check_needed(const char *before, const char *line)
{
    lrki_json *event;
    char wanted[64], error[512];
    ck_assert_int_eq(lrki_json_parse(report_rig.context, line, strlen(line), "line", &event), LRK_OK);
    for (lrki_json_cursor c = lrki_json_first(event); c.at != NULL; c = lrki_json_next(event, c)) {
        char from[64], to[64], *text;
        snprintf(from, sizeof from, "\"%s\":", c.key);
        snprintf(to, sizeof to, "\"x%s\":", c.key);
        char *changed = replaced(line, from, to);
        text = malloc(strlen(before) + strlen(changed) + 1);
        sprintf(text, "%s%s", before, changed);
        ck_assert_msg(read_text(text, error) == NULL, "read without %s", c.key);
        snprintf(wanted, sizeof wanted, "field '%s' is missing", c.key);
        ck_assert_msg(strstr(error, wanted) != NULL, "'%s' does not say '%s'", error, wanted);
        free(text);
        free(changed);
    }
    lrki_json_free(event);
}

START_TEST(every_field_is_needed)
{
    check_needed("", START);
    check_needed(START, ROUND);
    check_needed(START, VALUE);
    check_needed(START, END);
}
END_TEST

START_TEST(a_trace_cut_anywhere_is_read_to_a_line_or_refused)
{
    char *text = strdup(report_whole);
    for (size_t n = strlen(report_whole); n > 0; n--) {
        char error[512] = "";
        bool at_line = text[n - 1] == '\n' || (n < strlen(report_whole) && report_whole[n] == '\n');
        text[n] = '\0';
        run *r = read_text(text, error);
        ck_assert_msg((r != NULL) == at_line, "%zu bytes: %s", n, error);
        run_free(r);
    }
    free(text);
}
END_TEST

/* ---- the grid ---- */

START_TEST(kinds_and_layers_come_from_names)
{
    static const char *const names[] = {
        "model.layers.0.attn.q",       "model.layers.10.attn.q", "model.layers.2.mlp", "head",
        "model.layers.2.experts.7.up", "enc.layers.2.mlp",       "blocks.3",           "x2.y"};
    static const char *const labels[] = {"attn.q",       "attn.q",           "model.layers.*.mlp", "head",
                                         "experts.7.up", "enc.layers.*.mlp", "blocks.*",           "x2.y"};
    static const int cols[] = {0, 3, 1, 0, 1, 1, 2, 0};
    run r = {.n_modules = 8, .modules = run_alloc(8, sizeof *r.modules)};
    for (int i = 0; i < 8; i++)
        r.modules[i].name = run_copy(names[i]);
    run_make_grid(&r);
    ck_assert_int_eq(r.n_rows, 7);
    ck_assert_int_eq(r.n_cols, 4);
    ck_assert_int_eq(r.col_layers[3], 10);
    for (int i = 0; i < 8; i++) {
        ck_assert_str_eq(r.row_labels[r.modules[i].row], labels[i]);
        ck_assert_int_eq(r.modules[i].col, cols[i]);
        ck_assert_int_eq(r.modules[i].has_layer, i != 3 && i != 7);
        free(r.modules[i].name);
    }
    for (int i = 0; i < r.n_rows; i++)
        free(r.row_labels[i]);
    free(r.row_labels);
    free(r.col_layers);
    free(r.modules);
}
END_TEST

/* ---- numbers ---- */

START_TEST(numbers_are_written_for_people)
{
    char b[PAGE_NUMBER];
    ck_assert_str_eq(page_count(b, 0), "0");
    ck_assert_str_eq(page_count(b, 999), "999");
    ck_assert_str_eq(page_count(b, 1234567), "1,234,567");
    ck_assert_str_eq(page_count(b, -1000), "\u22121,000");
    ck_assert_str_eq(page_count(b, INT64_MIN), "\u22129,223,372,036,854,775,808");
    ck_assert_str_eq(page_change(b, 3), "+3");
    ck_assert_str_eq(page_change(b, -3), "\u22123");
    ck_assert_str_eq(page_change(b, 0), "\u00b10");
    ck_assert_str_eq(page_real(b, NAN, 3), "\u2013");
    ck_assert_str_eq(page_real(b, -0.0, 3), "0");
    ck_assert_str_eq(page_real(b, -1.5e-7, 3), "\u22121.5e\u22127");
    ck_assert_str_eq(page_real(b, 2e10, 3), "2e+10");
    ck_assert_str_eq(page_real(b, 3.14159, 3), "3.14");
    ck_assert_str_eq(page_real(b, 100.25, 5), "100.25");
}
END_TEST

START_TEST(ticks_are_round_and_inside)
{
    double ticks[PAGE_TICKS];
    ck_assert_int_eq(page_ticks(0, 10, 5, ticks), 6);
    ck_assert(ticks[1] == 2 && ticks[5] == 10);
    int n = page_ticks(-0.37, 0.91, 4, ticks);
    ck_assert_int_gt(n, 1);
    for (int i = 0; i < n; i++)
        ck_assert(ticks[i] >= -0.37 && ticks[i] <= 0.91);
    ck_assert_int_eq(page_ticks(5, 5, 4, ticks), 1);
    ck_assert_int_eq(page_ticks(NAN, 5, 4, ticks), 0);
}
END_TEST

/* ---- the page ---- */

START_TEST(the_page_shows_the_run)
{
    static const char *const shown[] = {
        "<!DOCTYPE html>",
        "a &lt;b&gt;",
        "prefers-color-scheme",
        "Ranks by module",
        "Curves",
        "Totals",
        "Scores and the cut",
        "Lineage of ranks",
        "m.layers.1.q: rank 4, before 3 (4 \u00d7 6)",
        "&lt;head&gt;&amp;&quot;",
        ">+1<",
        ">\u22121<",
        "dropped in round 0 at step 60",
        "ablation.exact",
        "dev_loss",
        "round 0 at step 60: 1 dropped, 1 added",
        "rank 2 of m.layers.0.q: 0.001 \u00b1 0.0015, exact, dropped, below the noise floor",
        "estimated, kept",
        "1, up to 0.001",
        "1.q&nbsp;+1",
        "\u03c1 = 0.75"};
    run *r = read_good(report_whole);
    char *page = draw(r);
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++)
        ck_assert_msg(strstr(page, shown[i]) != NULL, "the page does not show '%s'", shown[i]);
    ck_assert_ptr_null(strstr(page, "<head>&"));
    ck_assert_ptr_null(strstr(page, "<script"));
    ck_assert_ptr_null(strstr(page, "http"));
    ck_assert_ptr_null(strstr(page, "nan"));
    ck_assert_ptr_null(strstr(page, "inf"));
    ck_assert_int_eq(count(page, "<svg"), count(page, "</svg>"));
    ck_assert_int_eq(count(page, "<figure"), count(page, "</figure>"));
    ck_assert_int_eq(count(page, "<table"), 3);
    free(page);
    run_free(r);
}
END_TEST

START_TEST(every_round_has_a_small_map)
{
    char *second = replaced(ROUND, "\"round\":0,\"step\":60", "\"round\":1,\"step\":70");
    char *text = malloc(strlen(report_whole) + strlen(second) + 1);
    sprintf(text, "%s%s", START ROUND, second);
    run *r = read_good(text);
    char *page = draw(r);
    ck_assert_ptr_nonnull(strstr(page, "Round by round"));
    ck_assert_int_eq(count(page, "class=\"small\""), 2);
    ck_assert_int_eq(count(page, "ranks after a round"), 2);
    free(page);
    free(text);
    free(second);
    run_free(r);
}
END_TEST

START_TEST(one_cell_a_module_and_map)
{
    run *r = read_good(report_whole);
    char *page = draw(r);
    char *maps = strstr(page, "Before"), *end = strstr(page, "Curves");
    ck_assert(maps != NULL && end != NULL);
    *end = '\0';
    ck_assert_int_eq(count(maps, "<rect"), 3 * 3);
    free(page);
    run_free(r);
}
END_TEST

/*
 * Runs that are odd but right: nothing but a start, no change, no scores, all alike, values that are all null, one far
 * above the rest, the greatest and the smallest of doubles and counts, a rank that nothing told of before.
 */
static const char *const odd[] = {
    START,
    START VALUE,
    START "{\"event\":\"value\",\"name\":\"loss\",\"step\":0,\"value\":null}\n",
    START
    "{\"event\":\"round\",\"round\":0,\"step\":0,\"estimator\":\"e\",\"loss_all\":null,\"loss_none\":null,"
    "\"noise_floor\":null,\"split_correlation\":null,\"evaluations\":0,\"differentiations\":0,\"n_exact\":0,"
    "\"policy\":\"fixed\",\"cut\":null,\"cut_next\":null,\"ranks_before\":5,\"ranks_after\":5,\"parameters_"
    "before\":46,"
    "\"parameters_after\":46,\"dropped\":[],\"added\":[],\"receivers\":[],\"module_ranks\":[2,3,0],"
    "\"scores\":[]}\n",
    START
    "{\"event\":\"round\",\"round\":0,\"step\":9,\"estimator\":\"e\",\"loss_all\":null,\"loss_none\":null,"
    "\"noise_floor\":null,\"split_correlation\":null,\"evaluations\":0,\"differentiations\":0,\"n_exact\":0,"
    "\"policy\":\"fixed\",\"cut\":0,\"cut_next\":null,\"ranks_before\":5,\"ranks_after\":4,\"parameters_"
    "before\":46,"
    "\"parameters_after\":38,\"dropped\":[{\"identity\":1,\"module\":0,\"score\":0,\"birth\":null}],"
    "\"added\":[],"
    "\"receivers\":[{\"module\":2,\"n\":1,\"mean\":null}],\"module_ranks\":[1,3,0],"
    "\"scores\":[[1,0,0,null,null,null,null,false,false],[2,0,0,null,null,0,null,true,true]]}\n",
    "{\"event\":\"start\",\"format\":1,\"lorank\":\"0.1.0\",\"label\":null,\"ranks\":0,\"parameters\":0,"
    "\"modules\":["
    "{\"name\":\"'only'\",\"stage\":0,\"n_in\":5,\"n_out\":3,\"rank\":0,\"scale\":1.0,\"ranks\":[]}]}\n",
    START
    "{\"event\":\"value\",\"name\":\"loss\",\"step\":0,\"value\":1.7e308}\n"
    "{\"event\":\"value\",\"name\":\"loss\",\"step\":1000000000000,\"value\":-1.7e308}\n"
    "{\"event\":\"round\",\"round\":1000000000000,\"step\":1000000000000,\"estimator\":\"e\",\"loss_all\":1."
    "7e308,"
    "\"loss_none\":-1.7e308,\"noise_floor\":5e-324,\"split_correlation\":1.7e308,\"evaluations\":"
    "1000000000000,"
    "\"differentiations\":1000000000000,\"n_exact\":1000000000000,\"policy\":\"p\",\"cut\":1.7e308,"
    "\"cut_next\":-1.7e308,\"ranks_before\":1000000000000,\"ranks_after\":0,\"parameters_before\":0,"
    "\"parameters_after\":1000000000000,\"dropped\":[{\"identity\":1,\"module\":0,\"score\":0,\"birth\":0}],"
    "\"added\":[],\"receivers\":[{\"module\":2,\"n\":1000000000000,\"mean\":-1.7e308}],"
    "\"module_ranks\":[1000000000000,0,1000000000000],\"scores\":[[1,0,-1.7e308,null,null,1.7e308,null,true,"
    "false],"
    "[2,0,5e-324,null,null,5e-324,null,true,true],[3,1,1.7e308,null,null,null,1.7e308,false,false]]}\n",
    START
    "{\"event\":\"round\",\"round\":0,\"step\":9,\"estimator\":\"e\",\"loss_all\":1,\"loss_none\":1,"
    "\"noise_floor\":null,\"split_correlation\":null,\"evaluations\":0,\"differentiations\":0,\"n_exact\":0,"
    "\"policy\":\"p\",\"cut\":1e308,\"cut_next\":null,\"ranks_before\":5,\"ranks_after\":4,\"parameters_"
    "before\":46,"
    "\"parameters_after\":38,\"dropped\":[{\"identity\":1,\"module\":0,\"score\":0,\"birth\":null}],"
    "\"added\":[],"
    "\"receivers\":[],\"module_ranks\":[1,3,0],\"scores\":[[1,0,5e-324,null,null,null,null,true,false],"
    "[2,0,1e-320,null,null,null,null,true,false]]}\n",
    START
    "{\"event\":\"round\",\"round\":0,\"step\":9,\"estimator\":\"e\",\"loss_all\":1,\"loss_none\":1,"
    "\"noise_floor\":null,\"split_correlation\":null,\"evaluations\":0,\"differentiations\":0,\"n_exact\":0,"
    "\"policy\":\"p\",\"cut\":0.1,\"cut_next\":0.2,\"ranks_before\":5,\"ranks_after\":4,\"parameters_"
    "before\":46,"
    "\"parameters_after\":38,\"dropped\":[{\"identity\":1,\"module\":0,\"score\":0.1,\"birth\":null}],"
    "\"added\":[],"
    "\"receivers\":[],\"module_ranks\":[1,3,0],\"scores\":[[1,0,0.1,null,null,null,null,true,false],"
    "[2,0,0.2,null,null,null,null,true,false],[3,1,0.3,null,null,null,null,true,false],"
    "[4,1,0.4,null,null,null,null,true,false],[5,1,0.5,null,null,null,null,true,false],"
    "[0,1,99,null,null,null,null,true,false]]}\n",
};

START_TEST(odd_runs_are_drawn)
{
    run *r = read_good(odd[_i]);
    char *page = draw(r);
    ck_assert_ptr_nonnull(strstr(page, "</html>"));
    ck_assert_ptr_null(strstr(page, "nan"));
    ck_assert_ptr_null(strstr(page, "inf"));
    free(page);
    run_free(r);
}
END_TEST

/* The last of the odd runs has a score far above the others. */
START_TEST(scores_beyond_the_edge_are_arrows)
{
    char *far_below = replaced(odd[sizeof odd / sizeof odd[0] - 1], "[0,1,99,", "[0,1,-99,");
    run *above = read_good(odd[sizeof odd / sizeof odd[0] - 1]), *below = read_good(far_below);
    char *right = draw(above), *left = draw(below);
    ck_assert_int_eq(count(right, "l-7 -3.5v7z"), 1);
    ck_assert_int_eq(count(right, "l7 -3.5v7z"), 0);
    ck_assert_int_eq(count(left, "l-7 -3.5v7z"), 0);
    ck_assert_int_eq(count(left, "l7 -3.5v7z"), 1);
    free(left);
    free(right);
    run_free(below);
    run_free(above);
    free(far_below);
}
END_TEST

START_TEST(a_long_series_is_thinned_and_averaged)
{
    char *text = malloc(400000);
    int n = sprintf(text, "%s", START);
    for (int i = 0; i < 5000; i++)
        n += sprintf(text + n, "{\"event\":\"value\",\"name\":\"train_loss\",\"step\":%d,\"value\":%g}\n", i,
                     3.0 + i % 7);
    run *r = read_good(text);
    char *page = draw(r);
    ck_assert_ptr_nonnull(strstr(page, "thick: mean of 125"));
    ck_assert_uint_lt(strlen(page), 150000);
    free(page);
    free(text);
    run_free(r);
}
END_TEST

Suite *report_suite(void);

Suite *report_suite(void)
{
    Suite *suite = suite_create("report");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, report_rig_open, report_rig_close);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, a_run_is_read_as_written);
    tcase_add_test(cases, a_run_that_goes_on_is_read_as_far);
    tcase_add_test(cases, the_end_overrules_the_rounds);
    tcase_add_loop_test(cases, wrong_lines_are_named, 0, (int)(sizeof wrongs / sizeof wrongs[0]));
    tcase_add_loop_test(cases, wrong_values_are_named, 0, (int)(sizeof swaps / sizeof swaps[0]));
    tcase_add_test(cases, every_field_is_needed);
    tcase_add_test(cases, a_trace_cut_anywhere_is_read_to_a_line_or_refused);
    tcase_add_test(cases, kinds_and_layers_come_from_names);
    tcase_add_test(cases, numbers_are_written_for_people);
    tcase_add_test(cases, ticks_are_round_and_inside);
    tcase_add_test(cases, the_page_shows_the_run);
    tcase_add_test(cases, every_round_has_a_small_map);
    tcase_add_test(cases, one_cell_a_module_and_map);
    tcase_add_loop_test(cases, odd_runs_are_drawn, 0, (int)(sizeof odd / sizeof odd[0]));
    tcase_add_test(cases, scores_beyond_the_edge_are_arrows);
    tcase_add_test(cases, a_long_series_is_thinned_and_averaged);
    suite_add_tcase(suite, cases);
    return suite;
}
