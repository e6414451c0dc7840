/* SPDX-License-Identifier: MIT */
/*
 * What all formats stand on: UTF-8 and base64 to the last bit, files no larger than asked, files replaced in one step.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"
#include "formats/base64.h"
#include "formats/file.h"
#include "scratch.h"

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
}

static void expect_detail(const char *words)
{
    char detail[512];
    lrk_context_error(context, detail, sizeof detail);
    ck_assert_msg(strstr(detail, words) != NULL, "'%s' does not say '%s'", detail, words);
}

/* ---- texts ---- */

/* First and last code point of each length, and around the surrogates. */
static const char *const utf8[] = {"",
                                   "a\x7F",
                                   "\xC2\x80",
                                   "\xDF\xBF",
                                   "\xE0\xA0\x80",
                                   "\xED\x9F\xBF",
                                   "\xEE\x80\x80",
                                   "\xEF\xBF\xBF",
                                   "\xF0\x90\x80\x80",
                                   "\xF4\x8F\xBF\xBF",
                                   "x\xE2\x82\xACy"};

/* Alone, cut short, not continued, longer than need be, surrogates, beyond the last code point. */
static const char *const not_utf8[] = {"\x80",
                                       "\xBF",
                                       "\xC2",
                                       "\xC2g",
                                       "\xE2\x82",
                                       "\xE2\x82g",
                                       "\xF0\x90\x80",
                                       "\xF0\x90\x80g",
                                       "\xC0\x80",
                                       "\xC1\xBF",
                                       "\xE0\x9F\xBF",
                                       "\xED\xA0\x80",
                                       "\xED\xBF\xBF",
                                       "\xF0\x8F\xBF\xBF",
                                       "\xF4\x90\x80\x80",
                                       "\xF5\x80\x80\x80",
                                       "\xFF",
                                       "ok\xFE"};

START_TEST(utf8_is_checked_to_the_last_byte)
{
    for (size_t i = 0; i < sizeof utf8 / sizeof *utf8; i++)
        ck_assert_msg(lrki_utf8_valid(utf8[i]), "text %zu is refused", i);
    for (size_t i = 0; i < sizeof not_utf8 / sizeof *not_utf8; i++)
        ck_assert_msg(!lrki_utf8_valid(not_utf8[i]), "text %zu passes", i);
}
END_TEST

/* RFC 4648, section 10. */
static const char *const base64[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};

START_TEST(base64_agrees_with_its_standard)
{
    char bytes[8];
    for (size_t n = 0; n < sizeof base64 / sizeof *base64; n++) {
        lrki_json *json = lrki_base64_json(context, "foobar", n);
        ck_assert_str_eq(lrki_json_text(json), base64[n]);
        ck_assert_uint_eq(lrki_base64_bytes(base64[n]), n);
        memset(bytes, '!', sizeof bytes);
        ck_assert(lrki_base64_decode(base64[n], bytes, n));
        ck_assert_mem_eq(bytes, "foobar", n);
        ck_assert_int_eq(bytes[n], '!');
        lrki_json_free(json);
    }
}
END_TEST

/* Of one byte: another length, another alphabet, padding too early, none, and bits in what the padding leaves. */
static const char *const not_base64[] = {"", "Zg=", "Zg==Zg==", "Z-==", "Zg=A", "====", "Zm8=", "Zh=="};

START_TEST(base64_of_something_else_is_refused)
{
    char byte;
    for (size_t i = 0; i < sizeof not_base64 / sizeof *not_base64; i++)
        ck_assert_msg(!lrki_base64_decode(not_base64[i], &byte, 1), "'%s' passes", not_base64[i]);
    ck_assert(!lrki_base64_decode(NULL, &byte, 1));
}
END_TEST

/* ---- files ---- */

START_TEST(a_file_is_loaded_up_to_its_limit)
{
    lrki_bytes bytes;
    const char *path = scratch_path(&files, "five");
    scratch_write(path, "12345", 5);
    ck_assert_int_eq(lrki_file_load(context, path, 5, &bytes), LRK_OK);
    ck_assert_uint_eq(bytes.n, 5);
    ck_assert_str_eq(bytes.data, "12345");
    lrki_bytes_free(context, &bytes);
    ck_assert_int_eq(lrki_file_load(context, path, 4, &bytes), LRK_ERR_FORMAT);
    expect_detail("five: larger than 4 bytes");
    ck_assert_ptr_null(bytes.data);
}
END_TEST

static void replace(const char *path, const char *text)
{
    lrki_replacement file;
    ck_assert_int_eq(lrki_replacement_begin(context, path, &file), LRK_OK);
    ck_assert_int_eq(lrki_replacement_write(&file, text, strlen(text)), LRK_OK);
    ck_assert_int_eq(lrki_replacement_sync(&file), LRK_OK);
    ck_assert_int_eq(lrki_replacement_commit(&file), LRK_OK);
    lrki_replacement_abandon(&file);
}

static void expect_text(const char *path, const char *text)
{
    size_t n;
    char *data = scratch_read(path, &n);
    ck_assert_str_eq(data, text);
    free(data);
}

START_TEST(a_file_in_the_working_folder_is_replaced)
{
    char before[SCRATCH_PATH];
    ck_assert_ptr_nonnull(getcwd(before, sizeof before));
    ck_assert_int_eq(chdir(files.dir), 0);
    replace("here", "old");
    replace("here", "new");
    expect_text("here", "new");
    ck_assert_int_eq(scratch_count("."), 1);
    ck_assert_int_eq(chdir(before), 0);
}
END_TEST

/* Temporary files that earlier processes of the same number left behind are stepped over, not written to. */
START_TEST(temporary_names_that_are_taken_are_stepped_over)
{
    lrki_replacement file;
    char path[SCRATCH_PATH], taken[2 * SCRATCH_PATH];
    strcpy(path, scratch_path(&files, "file"));
    for (int i = 0; i < 100; i++) {
        snprintf(taken, sizeof taken, "%s.tmp-%ld-%d", path, (long)getpid(), i);
        scratch_write(taken, "left", 4);
        if (i == 98) replace(path, "new");
    }
    ck_assert_int_eq(lrki_replacement_begin(context, path, &file), LRK_ERR_IO);
    expect_detail("all names are taken");
    expect_text(path, "new");
    expect_text(taken, "left");
    ck_assert_int_eq(scratch_count(files.dir), 101);
}
END_TEST

Suite *files_suite(void)
{
    Suite *suite = suite_create("files");
    TCase *texts = tcase_create("texts"), *kept = tcase_create("files");
    tcase_add_checked_fixture(texts, setup, teardown);
    tcase_add_test(texts, utf8_is_checked_to_the_last_byte);
    tcase_add_test(texts, base64_agrees_with_its_standard);
    tcase_add_test(texts, base64_of_something_else_is_refused);
    tcase_add_checked_fixture(kept, setup, teardown);
    tcase_add_test(kept, a_file_is_loaded_up_to_its_limit);
    tcase_add_test(kept, a_file_in_the_working_folder_is_replaced);
    tcase_add_test(kept, temporary_names_that_are_taken_are_stepped_over);
    suite_add_tcase(suite, texts);
    suite_add_tcase(suite, kept);
    return suite;
}
