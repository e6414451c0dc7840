/* SPDX-License-Identifier: MIT */
/* Core: the context's life and services, error details per thread, the rules of struct_size, checked sizes, status. */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "fault.h"

Suite *core_suite(void);

static fault f;
static lrk_context *context;

static void setup(void)
{
    fault_reset(&f);
    context = fault_context(&f);
}

static void teardown(void)
{
    lrk_context_destroy(context);
    ck_assert_int_eq(f.live, 0);
    ck_assert_uint_eq(f.live_bytes, 0);
    ck_assert(!f.bad_release);
}

/* ---- status and version ------------------------------------------------------------------------------------------- */

START_TEST(every_status_has_a_name_and_a_sentence)
{
    for (lrk_status s = 0; s >= LRK_ERR_WORKERS; s--) {
        ck_assert_str_ne(lrk_status_name(s), "LRK_ERR_?");
        ck_assert_str_ne(lrk_status_text(s), "unknown status");
        for (lrk_status t = 0; t > s; t--)
            ck_assert_str_ne(lrk_status_name(s), lrk_status_name(t));
    }
    ck_assert_str_eq(lrk_status_name(LRK_OK), "LRK_OK");
    ck_assert_str_eq(lrk_status_name(LRK_ERR_NOMEM), "LRK_ERR_NOMEM");
    ck_assert_str_eq(lrk_status_name(LRK_ERR_BUSY), "LRK_ERR_BUSY");
    ck_assert_str_eq(lrk_status_name(LRK_ERR_STATE), "LRK_ERR_STATE");
    ck_assert_str_eq(lrk_status_name(LRK_ERR_IO), "LRK_ERR_IO");
    ck_assert_str_eq(lrk_status_name(LRK_ERR_WORKERS), "LRK_ERR_WORKERS");
}
END_TEST

START_TEST(unknown_statuses_are_answered)
{
    const lrk_status unknown[] = {1, 2000, LRK_ERR_WORKERS - 1, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        ck_assert_str_eq(lrk_status_name(unknown[i]), "LRK_ERR_?");
        ck_assert_str_eq(lrk_status_text(unknown[i]), "unknown status");
    }
}
END_TEST

START_TEST(version_agrees_with_the_header)
{
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", LRK_VERSION_MAJOR, LRK_VERSION_MINOR, LRK_VERSION_PATCH);
    ck_assert_str_eq(lrk_version_text(), text);
    ck_assert_uint_eq(lrk_version(),
                      LRK_VERSION_MAJOR * 1000000 + LRK_VERSION_MINOR * 1000 + LRK_VERSION_PATCH);
    ck_assert_int_eq(lrk_abi_version(), LRK_ABI);
}
END_TEST

/* ---- creating a context ------------------------------------------------------------------------------------------- */

START_TEST(a_context_of_defaults_allocates_aligned_memory)
{
    lrk_context *plain = NULL;
    ck_assert_int_eq(lrk_context_create(NULL, &plain, NULL, 0), LRK_OK);
    void *memory = lrki_alloc(plain, 100);
    ck_assert_uint_eq((uintptr_t)memory % LRKI_ALIGN, 0);
    lrki_free(plain, memory, 100);
    ck_assert_ptr_null(lrki_alloc(plain, SIZE_MAX - 3));
    lrki_log(plain, LRK_LOG_INFO, "nobody listens");
    lrk_context_destroy(plain);
    lrk_context_destroy(NULL);
}
END_TEST

/* AddressSanitizer's, where a compiler builds with it. */
int __asan_address_is_poisoned(const volatile void *address) __attribute__((weak));

/*
 * Linux takes advice about huge pages: a block of their size or more begins on one (decision 18). Not under AddressSanitizer, which
 * sees where such a block ends.
 */
START_TEST(large_blocks_of_a_context_of_defaults_begin_on_a_huge_page)
{
    const size_t huge = (size_t)2 << 20;
    const size_t sizes[] = {huge - 1, huge, huge + 1, huge + 4096, 3 * huge / 2, 4 * huge - 1, 8 * huge};
    unsigned char *blocks[sizeof sizes / sizeof *sizes];
    lrk_context *plain = NULL;
    const bool watched = __asan_address_is_poisoned != NULL;
    ck_assert_int_eq(lrk_context_create(NULL, &plain, NULL, 0), LRK_OK);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t alignment = LRKI_ALIGN, end = (sizes[i] + LRKI_ALIGN - 1) / LRKI_ALIGN * LRKI_ALIGN;
#if defined(__linux__)
        if (sizes[i] >= huge && !watched) alignment = huge;
#endif
        blocks[i] = lrki_alloc(plain, sizes[i]);
        ck_assert_ptr_nonnull(blocks[i]);
        ck_assert(!watched || __asan_address_is_poisoned(blocks[i] + end));
        ck_assert_uint_eq((uintptr_t)blocks[i] % alignment, 0);
        memset(blocks[i], (int)i + 1, sizes[i]);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        ck_assert_uint_eq(blocks[i][0], i + 1);
        ck_assert_uint_eq(blocks[i][sizes[i] - 1], i + 1);
        lrki_free(plain, blocks[i], sizes[i]);
    }
    lrk_context_destroy(plain);
}
END_TEST

static void refuses(const lrk_host *host, lrk_status status, const char *word)
{
    char error[256];
    lrk_context *made = (lrk_context *)&f;
    ck_assert_int_eq(lrk_context_create(host, &made, error, sizeof error), status);
    ck_assert_ptr_null(made);
    ck_assert_msg(strstr(error, word) != NULL, "'%s' in '%s'", word, error);
}

START_TEST(wrong_hosts_are_refused_with_a_word_about_it)
{
    lrk_host host = fault_host(&f);
    host.release = NULL;
    refuses(&host, LRK_ERR_ARGUMENT, "together");
    host = fault_host(&f);
    host.allocate = NULL;
    refuses(&host, LRK_ERR_ARGUMENT, "together");
    host = fault_host(&f);
    host.flags = 1;
    refuses(&host, LRK_ERR_ARGUMENT, "flags");
    host = fault_host(&f);
    host.kernels = -1;
    refuses(&host, LRK_ERR_ARGUMENT, "kernels");
    host.kernels = LRK_KERNELS_NEON + 1;
    refuses(&host, LRK_ERR_ARGUMENT, "kernels");
#if defined(__aarch64__)
    host.kernels = LRK_KERNELS_AVX2;
#else
    host.kernels = LRK_KERNELS_NEON;
#endif
    refuses(&host, LRK_ERR_UNSUPPORTED, "kernels");
    host = fault_host(&f);
    host.threads = -1;
    refuses(&host, LRK_ERR_ARGUMENT, "threads");
    host = fault_host(&f);
    host.struct_size = 7;
    refuses(&host, LRK_ERR_ARGUMENT, "lrk_host_init()");
    f.alloc.fail_at = f.alloc.calls;
    host = fault_host(&f);
    refuses(&host, LRK_ERR_NOMEM, "memory");
}
END_TEST

START_TEST(creation_without_a_place_for_the_context_is_refused)
{
    char error[8];
    ck_assert_int_eq(lrk_context_create(NULL, NULL, error, sizeof error), LRK_ERR_ARGUMENT);
    ck_assert_str_eq(error, "context"); /* truncated to fit */
    ck_assert_int_eq(lrk_context_create(NULL, NULL, NULL, 0), LRK_ERR_ARGUMENT);
}
END_TEST

typedef struct longer_host {
    lrk_host host;
    uint64_t tail;
} longer_host;

START_TEST(hosts_of_other_sizes_follow_the_rules)
{
    lrk_context *made = NULL;
    longer_host larger = {.host = fault_host(&f)};
    larger.host.struct_size = sizeof larger;
    ck_assert_int_eq(lrk_context_create(&larger.host, &made, NULL, 0), LRK_OK);
    lrk_context_destroy(made);
    larger.tail = (uint64_t)1 << 56; /* the last byte alone */
    refuses(&larger.host, LRK_ERR_VERSION, "larger");

    lrk_host shorter = fault_host(&f);
    shorter.struct_size = (uint32_t)offsetof(lrk_host, gemm_user);
    ck_assert_int_eq(lrk_context_create(&shorter, &made, NULL, 0), LRK_OK);
    ck_assert(made->host.gemm == NULL);
    ck_assert(made->host.allocate == shorter.allocate);
    lrk_context_destroy(made);
}
END_TEST

START_TEST(references_keep_a_context_alive)
{
    lrk_context *other = lrki_context_ref(context);
    lrk_context_destroy(context);
    ck_assert_int_gt(f.live, 0);
    ck_assert_int_eq(lrki_fail(other, LRK_ERR_STATE, "still here"), LRK_ERR_STATE);
    context = other;
}
END_TEST

START_TEST(the_description_names_the_services)
{
    char text[256], cut[8];
    lrk_context *plain = NULL;
    size_t need = lrk_context_describe(context, text, sizeof text);
    ck_assert_str_eq(text, "memory=host gemm=host parallel_for=host threads=1 kernels=blas");
    ck_assert_uint_eq(need, strlen(text) + 1);
    ck_assert_uint_eq(lrk_context_describe(context, cut, sizeof cut), need);
    ck_assert_str_eq(cut, "memory=");
    ck_assert_uint_eq(lrk_context_describe(context, NULL, 0), need);

    ck_assert_int_eq(lrk_context_create(NULL, &plain, NULL, 0), LRK_OK);
    lrk_context_describe(plain, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "memory=libc gemm=OpenBLAS "));
    ck_assert_ptr_nonnull(strstr(text, " threads="));
    lrk_context_destroy(plain);
    ck_assert_uint_eq(lrk_context_describe(NULL, text, sizeof text), 1);
}
END_TEST

START_TEST(log_lines_reach_the_host)
{
    lrki_log(context, LRK_LOG_WARNING, "rank %d of %s", 3, "q");
    ck_assert_str_eq(f.log, "1: rank 3 of q");
}
END_TEST

/* ---- errors ------------------------------------------------------------------------------------------------------- */

START_TEST(a_failure_is_told_with_its_place)
{
    char text[64];
    lrk_error_info info = {.struct_size = sizeof info};
    lrki_place place = {.module = 4, .identity = 77, .line = 3, .column = 9};
    ck_assert_uint_eq(lrk_context_error(context, text, sizeof text), 1);
    ck_assert_str_eq(text, "");
    ck_assert_int_eq(lrk_context_error_info(context, &info), LRK_OK);
    ck_assert_int_eq(info.status, LRK_OK);
    ck_assert_int_eq(info.module, LRKI_NO_MODULE);

    ck_assert_int_eq(lrki_fail_at(context, LRK_ERR_CONFIG, place, "key '%s'", "rank"), LRK_ERR_CONFIG);
    ck_assert_uint_eq(lrk_context_error(context, text, sizeof text), sizeof "key 'rank'");
    ck_assert_str_eq(text, "key 'rank'");
    ck_assert_int_eq(lrk_context_error_info(context, &info), LRK_OK);
    ck_assert_int_eq(info.status, LRK_ERR_CONFIG);
    ck_assert_int_eq(info.module, 4);
    ck_assert_uint_eq(info.identity, 77);
    ck_assert_int_eq(info.line, 3);
    ck_assert_int_eq(info.column, 9);

    ck_assert_int_eq(lrki_fail_nomem(context, "a thing"), LRK_ERR_NOMEM);
    lrk_context_error(context, text, sizeof text);
    ck_assert_str_eq(text, "out of memory for a thing");
    ck_assert_int_eq(lrk_context_error_info(context, &info), LRK_OK);
    ck_assert_int_eq(info.module, LRKI_NO_MODULE);
    ck_assert_uint_eq(info.identity, 0);
}
END_TEST

START_TEST(error_text_is_cut_to_fit_and_says_what_it_needs)
{
    char text[6] = "xxxxx", longest[1000];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    lrki_fail(context, LRK_ERR_STATE, "123456789");
    ck_assert_uint_eq(lrk_context_error(context, text, sizeof text), 10);
    ck_assert_str_eq(text, "12345");
    char fits[10];
    ck_assert_uint_eq(lrk_context_error(context, fits, sizeof fits), 10);
    ck_assert_str_eq(fits, "123456789");
    ck_assert_uint_eq(lrk_context_error(context, text, 1), 10);
    ck_assert_str_eq(text, "");
    ck_assert_uint_eq(lrk_context_error(context, NULL, 0), 10);
    ck_assert_uint_eq(lrk_context_error(NULL, text, sizeof text), 1);
    lrki_fail(context, LRK_ERR_STATE, "%s", longest);
    ck_assert_uint_eq(lrk_context_error(context, NULL, 0), LRKI_ERROR_TEXT);
}
END_TEST

START_TEST(error_info_follows_the_struct_rules)
{
    lrk_error_info info = {.struct_size = 4};
    ck_assert_int_eq(lrk_context_error_info(context, &info), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_context_error_info(context, NULL), LRK_ERR_ARGUMENT);
    info.struct_size = sizeof info;
    ck_assert_int_eq(lrk_context_error_info(NULL, &info), LRK_ERR_ARGUMENT);
}
END_TEST

typedef struct failing_thread {
    pthread_barrier_t *failed;
    int number;
    char text[32];
} failing_thread;

static void *fail_and_read(void *argument)
{
    failing_thread *t = argument;
    lrki_fail(context, LRK_ERR_STATE, "thread %d", t->number);
    pthread_barrier_wait(t->failed);
    lrk_context_error(context, t->text, sizeof t->text);
    pthread_barrier_wait(t->failed); /* alive until all have read: ids stay distinct */
    return NULL;
}

static void run_failing(failing_thread *threads, int n)
{
    pthread_t ids[LRKI_ERROR_SLOTS + 2];
    pthread_barrier_t failed;
    pthread_barrier_init(&failed, NULL, (unsigned)n);
    for (int i = 0; i < n; i++) {
        threads[i] = (failing_thread){.failed = &failed, .number = i};
        ck_assert_int_eq(pthread_create(&ids[i], NULL, fail_and_read, &threads[i]), 0);
    }
    for (int i = 0; i < n; i++)
        pthread_join(ids[i], NULL);
    pthread_barrier_destroy(&failed);
}

START_TEST(each_thread_reads_its_own_failure)
{
    failing_thread threads[8];
    char expected[32], text[32];
    lrki_fail(context, LRK_ERR_STATE, "the main thread");
    run_failing(threads, 8);
    for (int i = 0; i < 8; i++) {
        snprintf(expected, sizeof expected, "thread %d", i);
        ck_assert_str_eq(threads[i].text, expected);
    }
    lrk_context_error(context, text, sizeof text);
    ck_assert_str_eq(text, "the main thread");
}
END_TEST

START_TEST(the_oldest_failure_makes_room_when_slots_run_out)
{
    failing_thread threads[LRKI_ERROR_SLOTS];
    char text[32];
    lrki_fail(context, LRK_ERR_STATE, "the main thread");
    run_failing(threads, LRKI_ERROR_SLOTS);
    ck_assert_uint_eq(lrk_context_error(context, text, sizeof text), 1);
    lrki_fail(context, LRK_ERR_STATE, "again");
    lrk_context_error(context, text, sizeof text);
    ck_assert_str_eq(text, "again");
    for (int i = 0; i < LRKI_ERROR_SLOTS; i++) /* and is the last to make room now */
        if (strcmp(context->errors[i].text, "again") != 0)
            ck_assert_uint_lt(context->errors[i].used, context->errors_clock);
}
END_TEST

START_TEST(contexts_do_not_share_failures)
{
    char text[32];
    lrk_context *other = fault_context(&f);
    lrki_fail(context, LRK_ERR_STATE, "mine");
    ck_assert_uint_eq(lrk_context_error(other, text, sizeof text), 1);
    lrk_context_destroy(other);
}
END_TEST

/* ---- structs ------------------------------------------------------------------------------------------------------ */

typedef struct sample {
    uint32_t struct_size;
    uint32_t flags;
    int64_t first;
    int64_t second;
} sample;

typedef struct longer_sample {
    sample known;
    int64_t tail;
} longer_sample;

static const sample sample_defaults = {.struct_size = sizeof(sample), .first = 10, .second = 20};

START_TEST(reading_follows_the_rules_of_size)
{
    sample s = sample_defaults;
    ck_assert_int_eq(lrki_struct_read(context, &s, sizeof s, NULL, 8, "sample"), LRK_OK);
    ck_assert_int_eq(s.second, 20);

    longer_sample given = {.known = {.struct_size = 16, .first = 1, .second = 2}, .tail = 3};
    s = sample_defaults;
    ck_assert_int_eq(lrki_struct_read(context, &s, sizeof s, &given, 8, "sample"), LRK_OK);
    ck_assert_int_eq(s.first, 1);
    ck_assert_int_eq(s.second, 20); /* beyond the caller's struct: the default */
    ck_assert_uint_eq(s.struct_size, sizeof s);

    given.known.struct_size = sizeof given;
    ck_assert_int_eq(lrki_struct_read(context, &s, sizeof s, &given, 8, "sample"), LRK_ERR_VERSION);
    ck_assert_int_eq(s.second, 20); /* untouched */
    given.tail = 0;
    ck_assert_int_eq(lrki_struct_read(context, &s, sizeof s, &given, 8, "sample"), LRK_OK);
    ck_assert_int_eq(s.second, 2);

    given.known.struct_size = 12;
    ck_assert_int_eq(lrki_struct_read(context, &s, sizeof s, &given, 16, "sample"), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrki_struct_read(NULL, &s, sizeof s, &given, 16, "sample"), LRK_ERR_ARGUMENT);
}
END_TEST

START_TEST(writing_keeps_the_callers_size)
{
    longer_sample out = {.known = {.struct_size = 16, .second = -1}, .tail = -1};
    ck_assert_int_eq(lrki_struct_write(context, &out, &sample_defaults, sizeof(sample), "sample"), LRK_OK);
    ck_assert_uint_eq(out.known.struct_size, 16);
    ck_assert_int_eq(out.known.first, 10);
    ck_assert_int_eq(out.known.second, -1);
    out.known.struct_size = sizeof out;
    ck_assert_int_eq(lrki_struct_write(context, &out, &sample_defaults, sizeof(sample), "sample"), LRK_OK);
    ck_assert_uint_eq(out.known.struct_size, sizeof out);
    ck_assert_int_eq(out.known.second, 20);
    ck_assert_int_eq(out.tail, 0);
    ck_assert_int_eq(lrki_struct_write(context, NULL, &sample_defaults, sizeof(sample), "sample"),
                     LRK_ERR_ARGUMENT);
    out.known.struct_size = 7;
    ck_assert_int_eq(lrki_struct_write(context, &out, &sample_defaults, sizeof(sample), "sample"),
                     LRK_ERR_ARGUMENT);
}
END_TEST

START_TEST(initialising_writes_as_much_as_asked)
{
    longer_sample out = {.known = {.second = -1}, .tail = -1};
    ck_assert_int_eq(lrki_struct_init(&out, 16, &sample_defaults, sizeof(sample)), LRK_OK);
    ck_assert_uint_eq(out.known.struct_size, 16);
    ck_assert_int_eq(out.known.first, 10);
    ck_assert_int_eq(out.known.second, -1);
    ck_assert_int_eq(lrki_struct_init(&out, sizeof out, &sample_defaults, sizeof(sample)), LRK_OK);
    ck_assert_int_eq(out.tail, 0);
    ck_assert_int_eq(lrki_struct_init(NULL, 16, &sample_defaults, sizeof(sample)), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrki_struct_init(&out, 7, &sample_defaults, sizeof(sample)), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_host_init(NULL, sizeof(lrk_host)), LRK_ERR_ARGUMENT);
    lrk_host host;
    ck_assert_int_eq(lrk_host_init(&host, 4), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_host_init(&host, sizeof host), LRK_OK);
    ck_assert_uint_eq(host.struct_size, sizeof host);
    ck_assert(host.allocate == NULL && host.gemm == NULL && host.parallel_for == NULL && host.log == NULL);
    ck_assert_int_eq(host.threads, 0);
}
END_TEST

START_TEST(arrays_are_stepped_by_their_first_element)
{
    sample known = {0};
    longer_sample array[3] = {{.known.struct_size = sizeof(longer_sample)},
                              {.known.struct_size = sizeof(sample)},
                              {.known = {.struct_size = sizeof(longer_sample), .first = 7}}};
    ck_assert_int_eq(lrki_struct_read_at(context, &known, sizeof known, array, 2, 8, "sample"), LRK_OK);
    ck_assert_int_eq(known.first, 7);
    ck_assert_int_eq(lrki_struct_read_at(context, &known, sizeof known, array, 1, 8, "sample"),
                     LRK_ERR_ARGUMENT);
    char text[128];
    lrk_context_error(context, text, sizeof text);
    ck_assert_str_eq(text, "sample 1: struct_size differs from the first one's");
}
END_TEST

/* Nothing past the two words is read or written. */
START_TEST(a_struct_size_that_was_never_set_is_refused)
{
    sample known = {0};
    uint32_t garbage[2] = {0xbebebebe, 0};
    ck_assert_int_eq(lrki_struct_read(context, &known, sizeof known, garbage, 8, "sample"), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrki_struct_write(context, garbage, &known, sizeof known, "sample"), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrki_struct_init(garbage, garbage[0], &known, sizeof known), LRK_ERR_ARGUMENT);
    ck_assert_uint_eq(garbage[1], 0);
}
END_TEST

/* ---- memory --------------------------------------------------------------------------------------------------------- */

START_TEST(arrays_are_zeroed_and_checked)
{
    int64_t *array = lrki_array(context, 5, sizeof *array);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(array[i], 0);
    lrki_array_free(context, array, 5, sizeof *array);
    void *empty = lrki_array(context, 0, 8);
    ck_assert_ptr_nonnull(empty);
    lrki_array_free(context, empty, 0, 8);
    ck_assert_ptr_null(lrki_array(context, -1, 8));
    ck_assert_ptr_null(lrki_array(context, INT64_MAX, 8));
    ck_assert_ptr_null(lrki_alloc(context, 0));
    ck_assert_ptr_null(lrki_alloc_zeroed(context, 0));
    lrki_free(context, NULL, 8);
    lrki_array_free(context, NULL, 5, 8);
}
END_TEST

START_TEST(texts_are_copied)
{
    char *copy = lrki_text_copy(context, "blocks.0.q");
    ck_assert_str_eq(copy, "blocks.0.q");
    lrki_text_free(context, copy);
    lrki_text_free(context, NULL);
    f.alloc.fail_at = f.alloc.calls;
    ck_assert_ptr_null(lrki_text_copy(context, "x"));
}
END_TEST

START_TEST(sizes_are_checked)
{
    int64_t out = 0;
    ck_assert(lrki_mul(3, 4, &out) && out == 12);
    ck_assert(lrki_add(3, 4, &out) && out == 7);
    ck_assert(lrki_mul(0, INT64_MAX, &out) && out == 0);
    ck_assert(!lrki_mul(INT64_MAX, 2, &out));
    ck_assert(!lrki_add(INT64_MAX, 1, &out));
    ck_assert(!lrki_mul(-1, 1, &out));
    ck_assert(!lrki_mul(1, -1, &out));
    ck_assert(!lrki_add(-1, 1, &out));
    ck_assert(!lrki_add(1, -1, &out));
}
END_TEST

Suite *core_suite(void)
{
    Suite *suite = suite_create("core");
    TCase *tc = tcase_create("core");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, every_status_has_a_name_and_a_sentence);
    tcase_add_test(tc, unknown_statuses_are_answered);
    tcase_add_test(tc, version_agrees_with_the_header);
    tcase_add_test(tc, a_context_of_defaults_allocates_aligned_memory);
    tcase_add_test(tc, large_blocks_of_a_context_of_defaults_begin_on_a_huge_page);
    tcase_add_test(tc, wrong_hosts_are_refused_with_a_word_about_it);
    tcase_add_test(tc, creation_without_a_place_for_the_context_is_refused);
    tcase_add_test(tc, hosts_of_other_sizes_follow_the_rules);
    tcase_add_test(tc, references_keep_a_context_alive);
    tcase_add_test(tc, the_description_names_the_services);
    tcase_add_test(tc, log_lines_reach_the_host);
    tcase_add_test(tc, a_failure_is_told_with_its_place);
    tcase_add_test(tc, error_text_is_cut_to_fit_and_says_what_it_needs);
    tcase_add_test(tc, error_info_follows_the_struct_rules);
    tcase_add_test(tc, each_thread_reads_its_own_failure);
    tcase_add_test(tc, the_oldest_failure_makes_room_when_slots_run_out);
    tcase_add_test(tc, contexts_do_not_share_failures);
    tcase_add_test(tc, reading_follows_the_rules_of_size);
    tcase_add_test(tc, writing_keeps_the_callers_size);
    tcase_add_test(tc, initialising_writes_as_much_as_asked);
    tcase_add_test(tc, arrays_are_stepped_by_their_first_element);
    tcase_add_test(tc, a_struct_size_that_was_never_set_is_refused);
    tcase_add_test(tc, arrays_are_zeroed_and_checked);
    tcase_add_test(tc, texts_are_copied);
    tcase_add_test(tc, sizes_are_checked);
    suite_add_tcase(suite, tc);
    return suite;
}
