/* SPDX-License-Identifier: MIT */
/*
 * Damaged checkpoints: every byte flipped, every length cut, with the checksum wrong (the section is named, nothing is
 * loaded) and with the checksum put right (an error that leaves every handle as it was, or a state that can be saved
 * again). Sections that a later version may add.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/checkpoint.h"
#include "resume.h"

static resume_shape shape;
static resume_bytes file; /* saved within a scoring run */
static resume_run *run;   /* fresh handles */

static void keep_one(resume_run *from, void *user)
{
    int *countdown = user;
    if ((*countdown)-- == 0) file = resume_save(from->checkpoint);
}

static void setup(void)
{
    int countdown = 14;
    shape = resume_default();
    shape.mode = LRK_ABLATION_SCREENED;
    shape.protect_rounds = 1;
    resume_run *first = resume_create(&shape);
    first->point = keep_one;
    first->user = &countdown;
    resume_go(first);
    resume_destroy(first);
    ck_assert_ptr_nonnull(file.data);
    run = resume_create(&shape);
}

static void teardown(void)
{
    resume_destroy(run);
    free(file.data);
    file = (resume_bytes){0};
}

static const char *detail(void)
{
    static char text[512];
    lrk_context_error(run->toy->context, text, sizeof text);
    return text;
}

/* ---- where a byte lies ------------------------------------------------------------------------------------------------ */

static lrk_checkpoint_file *open_whole(void)
{
    static lrk_reader reader;
    lrk_checkpoint_file *opened;
    reader.struct_size = sizeof reader;
    ck_assert_int_eq(lrk_reader_memory(&reader, file.data, file.n), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_open_reader(run->toy->context, &reader, NULL, &opened), LRK_OK);
    return opened;
}

static uint64_t table_bytes(void)
{
    uint64_t n;
    memcpy(&n, file.data + 16, sizeof n);
    return n;
}

/* What the detail must say when the byte at `offset` is wrong. */
static void word_of(const lrk_checkpoint_file *whole, uint64_t offset, char word[LRKI_TITLE_MOST])
{
    strcpy(word, offset < 8 ? "no checkpoint" : offset < LRKI_CHECKPOINT_HEADER ? "header" : "table");
    for (int64_t i = 0; i < whole->n; i++) {
        const lrki_section *s = &whole->sections[i];
        if (offset >= s->offset && offset < s->offset + s->bytes + 4)
            lrki_section_title(s->kind, s->name, word);
    }
}

/* ---- damage ------------------------------------------------------------------------------------------------------------ */

static void expect_named(const char *word, const unsigned char *data, size_t n, uint64_t at)
{
    int64_t live = run->toy->fault.live;
    lrk_status status = resume_load(run, data, n);
    ck_assert_msg(status == LRK_ERR_FORMAT, "byte %llu: status %d", (unsigned long long)at, (int)status);
    ck_assert_msg(strstr(detail(), word) != NULL, "byte %llu: '%s' does not say '%s'", (unsigned long long)at,
                  detail(), word);
    ck_assert_int_eq(run->toy->fault.live, live);
}

START_TEST(a_flipped_byte_is_found_and_its_section_named)
{
    lrk_checkpoint_file *whole = open_whole();
    resume_bytes before = resume_save(run->checkpoint);
    unsigned char *copy = malloc(file.n);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, file.data, file.n);
    for (size_t i = 0; i < file.n; i++) {
        char word[LRKI_TITLE_MOST];
        word_of(whole, i, word);
        const unsigned char flips[] = {0xff, (unsigned char)(1u << i % 8)};
        for (int k = 0; k < 2; k++) {
            copy[i] = file.data[i] ^ flips[k];
            expect_named(word, copy, file.n, i);
        }
        copy[i] = file.data[i];
    }
    resume_bytes after = resume_save(run->checkpoint);
    ck_assert(resume_same(&before, &after));
    free(before.data);
    free(after.data);
    free(copy);
    lrk_checkpoint_close(whole);
}
END_TEST

START_TEST(a_file_cut_at_any_length_is_found)
{
    lrk_checkpoint_file *whole = open_whole();
    for (size_t n = 0; n < file.n; n++) {
        char word[LRKI_TITLE_MOST];
        word_of(whole, n, word);
        expect_named(n == 0                       ? "empty"
                     : n < LRKI_CHECKPOINT_HEADER ? "within the header"
                                                  : word,
                     file.data, n, n);
        if (n > 0) ck_assert_ptr_nonnull(strstr(detail(), "truncated"));
    }
    lrk_checkpoint_close(whole);
    unsigned char *longer = calloc(1, file.n + 1);
    ck_assert_ptr_nonnull(longer);
    memcpy(longer, file.data, file.n);
    expect_named("left over", longer, file.n + 1, file.n);
    free(longer);
}
END_TEST

/* ---- wrong behind a right checksum ------------------------------------------------------------------------------------ */

/* A load of it ends in an error with every handle as it was, or well. */
static bool loads_or_changes_nothing(const unsigned char *data, size_t at)
{
    resume_run *fresh = resume_create(&shape);
    resume_bytes before = resume_save(fresh->checkpoint);
    lrk_reader reader = {.struct_size = sizeof reader};
    lrk_checkpoint_file *opened;
    ck_assert_int_eq(lrk_reader_memory(&reader, data, file.n), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_open_reader(fresh->toy->context, &reader, NULL, &opened), LRK_OK);
    int64_t live = fresh->toy->fault.live;
    lrk_status status = lrk_checkpoint_restore(opened, fresh->checkpoint, NULL);
    bool loaded = status == LRK_OK;
    if (!loaded) {
        ck_assert_msg(status == LRK_ERR_FORMAT || status == LRK_ERR_ARGUMENT, "byte %zu: status %d", at,
                      (int)status);
        ck_assert_int_eq(fresh->toy->fault.live, live);
    }
    resume_bytes after = resume_save(fresh->checkpoint);
    if (!loaded) ck_assert_msg(resume_same(&before, &after), "byte %zu changed a handle", at);
    lrk_checkpoint_close(opened);
    free(before.data);
    free(after.data);
    resume_destroy(fresh);
    return loaded;
}

START_TEST(nonsense_behind_a_right_checksum_is_refused_whole_or_taken_whole)
{
    lrk_checkpoint_file *whole = open_whole();
    unsigned char *copy = malloc(file.n);
    int64_t refused = 0, taken = 0;
    ck_assert_ptr_nonnull(copy);
    for (int64_t i = 1; i < whole->n; i++) {
        const lrki_section *s = &whole->sections[i];
        for (uint64_t at = s->offset; at < s->offset + s->bytes; at++) {
            memcpy(copy, file.data, file.n);
            copy[at] ^= at % 2 ? 0xff : 0x01;
            resume_checksum(copy, s->offset, s->bytes);
            loads_or_changes_nothing(copy, at) ? taken++ : refused++;
        }
    }
    ck_assert_int_gt(refused, 500);
    ck_assert_int_gt(taken, 500); /* values of parameters and moments may be anything */
    free(copy);
    lrk_checkpoint_close(whole);
}
END_TEST

/* ---- what a later version may write ------------------------------------------------------------------------------------ */

/* Offset of the table's entry of a section. */
static uint64_t entry_of(const lrk_checkpoint_file *whole, const char *name, int32_t kind)
{
    uint64_t at = LRKI_CHECKPOINT_HEADER;
    for (int64_t i = 0; i < whole->n; i++) {
        if (whole->sections[i].kind == kind && strcmp(whole->sections[i].name, name) == 0) return at;
        at += LRKI_CHECKPOINT_ENTRY + strlen(whole->sections[i].name);
    }
    ck_abort_msg("no section %s", name);
}

static void change_entry(const char *name, int32_t kind, uint64_t member, uint32_t value)
{
    lrk_checkpoint_file *whole = open_whole();
    memcpy(file.data + entry_of(whole, name, kind) + member, &value, sizeof value);
    lrk_checkpoint_close(whole);
    resume_checksum(file.data, LRKI_CHECKPOINT_HEADER, table_bytes() - 4);
}

static lrk_status restore_only(void)
{
    lrk_checkpoint_file *opened = open_whole();
    lrk_status status = lrk_checkpoint_restore(opened, run->checkpoint, NULL);
    lrk_checkpoint_close(opened);
    return status;
}

START_TEST(an_optional_section_that_is_not_known_is_passed_over)
{
    change_entry("history", LRK_SECTION_BLOB, 0, 77);
    ck_assert_int_eq(restore_only(), LRK_OK);
}
END_TEST

START_TEST(a_required_section_that_is_not_known_is_refused)
{
    change_entry("history", LRK_SECTION_BLOB, 4, LRK_SECTION_REQUIRED);
    change_entry("history", LRK_SECTION_BLOB, 0, 77);
    ck_assert_int_eq(restore_only(), LRK_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(detail(), "section 'history': of kind 77"));
}
END_TEST

START_TEST(a_section_of_a_later_version_is_refused)
{
    change_entry("main", LRK_SECTION_OPTIMIZER, 8, 2);
    ck_assert_int_eq(restore_only(), LRK_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(detail(), "optimizer 'main'"));
}
END_TEST

START_TEST(a_file_of_a_later_format_is_refused)
{
    uint32_t format = 2;
    memcpy(file.data + 8, &format, sizeof format);
    resume_checksum(file.data, 0, LRKI_CHECKPOINT_HEADER - 4);
    ck_assert_int_eq(resume_load(run, file.data, file.n), LRK_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(detail(), "format 2"));
}
END_TEST

START_TEST(two_sections_of_one_name_are_refused)
{
    change_entry("best", LRK_SECTION_SNAPSHOT, 0, LRK_SECTION_BLOB);
    change_entry("history", LRK_SECTION_BLOB, 0, LRK_SECTION_BLOB);
    lrk_checkpoint_file *whole = open_whole();
    uint64_t at = entry_of(whole, "main", LRK_SECTION_ALLOCATOR);
    lrk_checkpoint_close(whole);
    uint32_t kind = LRK_SECTION_SCHEDULE;
    memcpy(file.data + at, &kind, sizeof kind);
    resume_checksum(file.data, LRKI_CHECKPOINT_HEADER, table_bytes() - 4);
    ck_assert_int_eq(resume_load(run, file.data, file.n), LRK_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(detail(), "one name"));
}
END_TEST

/* Header members that contradict the file, checksums right. */
START_TEST(a_header_that_contradicts_itself_is_refused)
{
    static const struct {
        size_t at, bytes;
        uint64_t value;
    } wrong[] = {{12, 4, 0},  {12, 4, 5000},       {16, 8, 0}, {16, 8, UINT64_MAX}, {16, 8, 200},
                 {24, 8, 39}, {24, 8, UINT64_MAX}, {32, 4, 1}, {24, 8, 100000}};
    unsigned char *copy = malloc(file.n);
    ck_assert_ptr_nonnull(copy);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        memcpy(copy, file.data, file.n);
        memcpy(copy + wrong[i].at, &wrong[i].value, wrong[i].bytes);
        resume_checksum(copy, 0, LRKI_CHECKPOINT_HEADER - 4);
        lrk_status status = resume_load(run, copy, file.n);
        ck_assert_msg(status == LRK_ERR_FORMAT, "header %zu: status %d", i, (int)status);
    }
    free(copy);
}
END_TEST

Suite *checkpoint_damage_suite(void)
{
    Suite *suite = suite_create("checkpoint_damage");
    TCase *all = tcase_create("checkpoint_damage");
    tcase_set_timeout(all, 300);
    tcase_add_checked_fixture(all, setup, teardown);
    tcase_add_test(all, a_flipped_byte_is_found_and_its_section_named);
    tcase_add_test(all, a_file_cut_at_any_length_is_found);
    tcase_add_test(all, nonsense_behind_a_right_checksum_is_refused_whole_or_taken_whole);
    tcase_add_test(all, an_optional_section_that_is_not_known_is_passed_over);
    tcase_add_test(all, a_required_section_that_is_not_known_is_refused);
    tcase_add_test(all, a_section_of_a_later_version_is_refused);
    tcase_add_test(all, a_file_of_a_later_format_is_refused);
    tcase_add_test(all, two_sections_of_one_name_are_refused);
    tcase_add_test(all, a_header_that_contradicts_itself_is_refused);
    suite_add_tcase(suite, all);
    return suite;
}
