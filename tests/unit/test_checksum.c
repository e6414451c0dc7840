/* SPDX-License-Identifier: MIT */
/*
 * Checksums of many pieces at once are those of one pass, for sizes around the pieces' and any beginning.
 */
#include <check.h>
#include <stdlib.h>

#include "fault.h"
#include "formats/checksum.h"

static fault host;
static lrk_context *context;
static unsigned char *bytes;

#define MOST (((size_t)9 << 20) + 11)

static void setup(void)
{
    fault_reset(&host);
    host.threads = 3;
    context = fault_context(&host);
    bytes = malloc(MOST);
    ck_assert_ptr_nonnull(bytes);
    uint32_t state = 1;
    for (size_t i = 0; i < MOST; i++)
        bytes[i] = (unsigned char)((state = state * 1664525u + 1013904223u) >> 24);
}

static void teardown(void)
{
    free(bytes);
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
}

START_TEST(many_pieces_sum_up_to_one_pass)
{
    static const size_t sizes[] = {0,      1,      131071,  131072,  131073,     262143,  262144,
                                   262145, 393215, 1000003, 8388607, (8u << 20), 8388609, MOST};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (uint32_t before = 0; before < 3; before++) {
            uint32_t begun = lrki_checksum(0, "abc", before), sum = begun;
            ck_assert_int_eq(lrki_checksum_wide(context, &sum, bytes, sizes[i]), LRK_OK);
            ck_assert_uint_eq(sum, lrki_checksum(begun, bytes, sizes[i]));
        }
}
END_TEST

START_TEST(pieces_go_through_the_hosts_loop_and_its_failure_is_told)
{
    uint32_t sum = 0;
    ck_assert_int_eq(lrki_checksum_wide(context, &sum, bytes, 131072), LRK_OK);
    ck_assert_int_eq(host.loop.calls, 0);
    ck_assert_int_eq(lrki_checksum_wide(context, &sum, bytes, 131073), LRK_OK);
    ck_assert_int_eq(host.loop.calls, 1);
    host.loop.fail_at = host.loop.calls;
    ck_assert_int_eq(lrki_checksum_wide(context, &sum, bytes, 131073), LRK_ERR_HOST);
}
END_TEST

Suite *checksum_suite(void);

Suite *checksum_suite(void)
{
    Suite *suite = suite_create("checksum");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, many_pieces_sum_up_to_one_pass);
    tcase_add_test(cases, pieces_go_through_the_hosts_loop_and_its_failure_is_told);
    suite_add_tcase(suite, cases);
    return suite;
}
