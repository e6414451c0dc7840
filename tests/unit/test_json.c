/* SPDX-License-Identifier: MIT */
/*
 * JSON with long strings, which are lifted out of what Jansson reads (json_lift.h): what is parsed must be what Jansson alone would
 * have made of it, seen by printing it again, and errors must be told as of the text that was given.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fault.h"
#include "formats/json_lift.h"
#include "json_fault.h"
#include "sets.h"

enum { LONG = LRKI_LIFT_LEAST, ROOM = 16 * LONG };

static fault host;
static lrk_context *context;
static char text[ROOM];

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
}

static void teardown(void)
{
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

/* `form` with every % replaced by n bytes that `unit` repeats. */
static size_t fill(const char *form, const char *unit, size_t n)
{
    size_t at = 0;
    for (; *form != '\0'; form++) {
        if (*form != '%') text[at++] = *form;
        for (size_t i = 0; *form == '%' && i < n; i++)
            text[at++] = unit[i % strlen(unit)];
    }
    ck_assert_uint_lt(at, ROOM);
    text[at] = '\0';
    return at;
}

static bool is_lifted(size_t n)
{
    lrki_bytes lean;
    ck_assert_int_eq(lrki_json_lift(context, text, n, &lean), LRK_OK);
    bool lifted = lean.data != NULL;
    ck_assert(!lifted || lean.n < n);
    lrki_bytes_free(context, &lean);
    return lifted;
}

/* The text parses to a tree that prints as the text. */
static void expect_the_same(size_t n)
{
    lrki_json *json;
    lrki_bytes printed;
    ck_assert_int_eq(lrki_json_parse(context, text, n, "text", &json), LRK_OK);
    ck_assert_int_eq(lrki_json_print(context, json, 0, &printed), LRK_OK);
    ck_assert_str_eq(printed.data, text);
    lrki_bytes_free(context, &printed);
    lrki_json_free(json);
}

static const char *const forms[] = {
    "{\"a\":\"%\"}",
    "[\"%\",\"\",\"%\",\"short\",[\"%\"]]",
    "{\"a\":{\"b\":[1,\"%\",{\"c\":\"%\"}],\"d\":\"%\"},\"e\":\"\\\"\"}",
    "{\"a\":\"\\u0002\",\"b\":\"%\",\"c\":\"\\n\"}",
};
static const char *const units[] = {"A", "abc/+=", "{\\\"bits\\\":\\\"", "\\\\"};

START_TEST(long_strings_come_back)
{
    for (size_t u = 0; u < sizeof units / sizeof *units; u++)
        for (size_t n = LONG - 24; n <= LONG + 24; n += 12) /* whole units, and so whole escapes */
            for (size_t more = 0; more <= 2; more += 2) {
                size_t whole = (n + more * LONG) / 12 * 12, bytes = fill(forms[_i], units[u], whole);
                ck_assert_int_eq(is_lifted(bytes), whole >= LONG);
                expect_the_same(bytes);
            }
}
END_TEST

START_TEST(strings_that_need_a_look_are_left)
{
    static const char *const kept[] = {"\\n", "\\u00e9", "\xc3\xa9", "\\/"};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        ck_assert(!is_lifted(fill("[\"%\"]", kept[i], 2 * LONG / strlen(kept[i]) * strlen(kept[i]))));
    ck_assert(!is_lifted(fill("{\"%\":1}", "A", LONG)));
    expect_the_same(fill("{\"%\":1}", "A", LONG));
    ck_assert(!is_lifted(fill("{\"%\" \n:1}", "A", LONG)));
    ck_assert(!is_lifted(fill("[\"%\",\"\\u000132\"]", "A", LONG)));
    expect_the_same(fill("[\"%\",\"\\u000132\"]", "A", LONG));
    expect_the_same(fill("[\"\\u00012\",\"%\"]", "A", LONG));
}
END_TEST

START_TEST(errors_are_told_as_of_the_text)
{
    static const struct {
        const char *form, *words;
    } rows[] = {
        {"{\"a\":\"%\",\n \"a\":1}", "duplicate"},
        {"{\"a\":\"%\",\n\"b\":}", "line 2"},
        {"[\"%\"", "not valid JSON"},
        {"[\"%\",\"", "not valid JSON"},
        {"[\"%\",\"\\", "not valid JSON"},
        {"[\"%\",\"\1\"]", "control character"},
        {"[\"%\"]x", "end of file expected"},
        {"\"%\"", "'[' or '{' expected"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lrki_json *json;
        char words[512];
        size_t n = fill(rows[i].form, "A", LONG);
        ck_assert_int_eq(lrki_json_parse(context, text, n, "text", &json), LRK_ERR_FORMAT);
        ck_assert_ptr_null(json);
        lrk_context_error(context, words, sizeof words);
        ck_assert_msg(strstr(words, rows[i].words) != NULL, "'%s' in '%s'", rows[i].words, words);
    }
}
END_TEST

/* Texts that end anywhere, before a page that cannot be read. */
START_TEST(nothing_past_the_end_is_read)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (2 * LONG / page + 2) * page;
    size_t n = fill("[\"%\",\"\\\\\\n\\u0001\" , {\"\\\"\":\"\\u0001\"}, \"\"]", "A", LONG);
    char *pages = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(pages != MAP_FAILED && mprotect(pages + room, page, PROT_NONE) == 0);
    for (size_t m = LONG + 1; m <= n; m++) {
        lrki_json *json;
        char *end = pages + room;
        memcpy(end - m, text, m);
        ck_assert_int_eq(lrki_json_parse(context, end - m, m, "text", &json),
                         m < n ? LRK_ERR_FORMAT : LRK_OK);
        lrki_json_free(json);
    }
    ck_assert_int_eq(munmap(pages, room + page), 0);
}
END_TEST

static lrk_status parse(void *user)
{
    return lrki_json_parse(context, text, strlen(text), "text", user);
}

static void release(void *user)
{
    lrki_json_free(*(lrki_json **)user);
}

START_TEST(each_lack_of_memory_is_reported)
{
    lrki_json *json;
    (void)fill(forms[2], units[2], LONG / 12 * 12 + 12);
    sets_each_fault(&host, parse, release, &json);
    json_each_fault(parse, release, &json, true);
}
END_TEST

Suite *json_suite(void);

Suite *json_suite(void)
{
    Suite *suite = suite_create("json");
    TCase *tcase = tcase_create("json");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, long_strings_come_back, 0, (int)(sizeof forms / sizeof *forms));
    tcase_add_test(tcase, strings_that_need_a_look_are_left);
    tcase_add_test(tcase, errors_are_told_as_of_the_text);
    tcase_add_test(tcase, nothing_past_the_end_is_read);
    tcase_add_test(tcase, each_lack_of_memory_is_reported);
    suite_add_tcase(suite, tcase);
    return suite;
}
