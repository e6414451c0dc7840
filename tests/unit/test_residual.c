/* SPDX-License-Identifier: MIT */
/*
 * What the fold of PEFT files keeps beside B': every bit of B comes back whatever the factor, and metadata that does not fit
 * what is stored is told. tests/unit/test_peft.c has the same through files.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "formats/base64.h"
#include "formats/peft_parts.h"
#include "sets.h"

enum { N_OUT = 301, RANK = 4, N = N_OUT * RANK }; /* the factor is 4 times the scale */

static fault host;
static lrk_context *context;
static float b[N], gates[RANK], stored[N], back[N];
static lrki_peft_module module;
static lrki_json *fold;

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
    fold = lrki_json_new_object();
    module = (lrki_peft_module){.name = "m",
                                .n_in = 1,
                                .n_out = N_OUT,
                                .rank = RANK,
                                .width = RANK,
                                .scale = 0.3,
                                .b = b,
                                .gates = gates};
    uint64_t state = 3;
    for (int i = 0; i < N; i++)
        b[i] = ldexpf((float)(sets_random(&state) >> 40) - 0x1p23f, (int)(sets_random(&state) % 40) - 40);
    for (int j = 0; j < RANK; j++)
        gates[j] = 1;
}

static void teardown(void)
{
    lrki_json_free(fold);
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

/* Describes and stores; the entry, or NULL. */
static const lrki_json *describe(void)
{
    ck_assert_int_eq(lrki_fold_describe(context, &module, 1, &fold), LRK_OK);
    lrki_fold_store(&module, 1, stored);
    return lrki_json_get(fold, "m");
}

/* What is stored, back from the file's layout. */
static lrk_status restore(const lrki_json *entry)
{
    lrki_fold_transpose(stored, module.rank, module.n_out, back, module.n_out);
    return lrki_fold_restore(context, &module, 1, entry, back);
}

static void expect(const lrki_json *entry, lrk_status status, const char *words)
{
    sets_expect(context, restore(entry), status, words);
}

START_TEST(every_bit_comes_back_whatever_the_factor)
{
    uint64_t state = (uint64_t)_i;
    for (int round = 0; round < 50; round++) {
        module.scale = ldexp(1 + (double)sets_random(&state) * 0x1p-64, (int)(sets_random(&state) % 60) - 30);
        if (round % 2 == 1) module.scale = -module.scale;
        gates[1] = round % 5 == 0 ? 0 : (float)(1 + round) / 7;
        b[round] = round % 3 == 0 ? -0.0f : 0x1p-140f;
        expect(describe(), LRK_OK, "");
        ck_assert_mem_eq(back, b, sizeof b);
        lrki_json_free(fold);
        fold = lrki_json_new_object();
    }
}
END_TEST

START_TEST(a_factor_that_loses_nothing_keeps_nothing)
{
    static const double exact[] = {1, 0.5, -4};
    module.scale = exact[_i];
    ck_assert_ptr_null(describe());
    expect(NULL, LRK_OK, "");
    ck_assert_mem_eq(back, b, sizeof b);
}
END_TEST

/* ---- what does not fit ----------------------------------------------------------------------------------------------- */

typedef struct entry {
    size_t n;
    unsigned char bits[20000];
    size_t n_escapes;
    float escapes[8];
} entry;

static entry read_entry(const lrki_json *json)
{
    static entry e;
    memset(&e, 0, sizeof e);
    const char *bits = lrki_json_text(lrki_json_get(json, "bits")),
               *escapes = lrki_json_text(lrki_json_get(json, "escapes"));
    e.n = lrki_base64_bytes(bits);
    e.n_escapes = lrki_base64_bytes(escapes) / sizeof(float);
    ck_assert(lrki_base64_decode(bits, e.bits, e.n));
    if (escapes != NULL) ck_assert(lrki_base64_decode(escapes, e.escapes, e.n_escapes * sizeof(float)));
    return e;
}

static void expect_of(const entry *e, lrk_status status, const char *words)
{
    lrki_json *json = lrki_json_new_object();
    lrki_json_put(&json, "bits", lrki_base64_json(context, e->bits, e->n));
    if (e->n_escapes > 0)
        lrki_json_put(&json, "escapes", lrki_base64_json(context, e->escapes, e->n_escapes * sizeof(float)));
    expect(json, status, words);
    lrki_json_free(json);
}

/* Of a module with two escapes, and of a number of bits that leaves some of the last byte. */
static entry with_escapes(void)
{
    b[0] = b[1] = 0x1p-140f;
    module.scale = 1.1e-10;
    return read_entry(describe());
}

START_TEST(bits_and_escapes_must_be_used_up)
{
    entry e = with_escapes();
    ck_assert_uint_eq(e.n_escapes, 2);
    expect_of(&e, LRK_OK, "");
    ck_assert_mem_eq(back, b, sizeof b);
    entry other = e;
    other.bits[other.n - 1] |= 0x80;
    expect_of(&other, LRK_ERR_FORMAT, "do not fit");
    other = e;
    other.n++;
    expect_of(&other, LRK_ERR_FORMAT, "do not fit");
    other.n = sizeof other.bits;
    expect_of(&other, LRK_ERR_FORMAT, "do not fit");
    other = e;
    other.n_escapes++;
    expect_of(&other, LRK_ERR_FORMAT, "do not fit");
    other.n_escapes = 1;
    expect_of(&other, LRK_ERR_FORMAT, "contradict lora_B");
}
END_TEST

START_TEST(a_value_that_no_b_folds_to_is_told)
{
    module.scale = 1.5; /* where products do not double, a third of what could be stored is reached by none */
    const lrki_json *kept = describe();
    uint32_t bits,
        six =
            0x40c00000u; /* six and the next two: one of them lies between what 1 and its neighbour fold to */
    int refused = 0;
    for (uint32_t i = 0; i < 3; i++) {
        bits = six + i;
        memcpy(&stored[0], &bits, sizeof bits);
        char words[256] = "";
        if (restore(kept) == LRK_OK) continue;
        lrk_context_error(context, words, sizeof words);
        refused += strstr(words, "contradict lora_B") != NULL;
    }
    ck_assert_int_ge(refused, 1);
    module.scale *= 1.01;
    lrki_fold_store(&module, 1, stored);
    module.scale /= 1.01;
    expect(kept, LRK_ERR_FORMAT, "contradict lora_B");
}
END_TEST

START_TEST(an_escape_that_does_not_fold_to_its_value_is_told)
{
    module.scale = ldexp(0.3, -150); /* all that is stored is subnormal or 0, most of b an escape */
    const lrki_json *kept = describe();
    ck_assert_ptr_nonnull(lrki_json_get(kept, "escapes"));
    expect(kept, LRK_OK, "");
    for (int i = 0; i < N; i++) {
        uint32_t bits;
        memcpy(&bits, &stored[i], sizeof bits);
        bits ^= 1;
        memcpy(&stored[i], &bits, sizeof bits);
    }
    expect(kept, LRK_ERR_FORMAT, "contradict lora_B");
}
END_TEST

Suite *residual_suite(void);

Suite *residual_suite(void)
{
    Suite *suite = suite_create("residual");
    TCase *tcase = tcase_create("residual");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, every_bit_comes_back_whatever_the_factor, 0, 4);
    tcase_add_loop_test(tcase, a_factor_that_loses_nothing_keeps_nothing, 0, 3);
    tcase_add_test(tcase, bits_and_escapes_must_be_used_up);
    tcase_add_test(tcase, a_value_that_no_b_folds_to_is_told);
    tcase_add_test(tcase, an_escape_that_does_not_fold_to_its_value_is_told);
    suite_add_tcase(suite, tcase);
    return suite;
}
