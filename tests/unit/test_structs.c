/* SPDX-License-Identifier: MIT */
/*
 * Structs that callers fill: for every one of them the rules of struct_size - initialised at any size, read when shorter
 * (the defaults hold), longer with a zero tail (accepted), longer with a tail that says something (LRK_ERR_VERSION), too
 * small (LRK_ERR_ARGUMENT), and as arrays that step by the first element's size. lrk_module_buffers is no such struct:
 * lorank makes it and the host fills it.
 */
#include <check.h>
#include <string.h>

#include "readers.h"
#include "sets.h"

#define MOST 256 /* bytes of a struct with room for a tail */
#define TAIL 16

static world w;

static void setup(void)
{
    world_open(&w);
    readers_open(&w);
}

static void teardown(void)
{
    world_close(&w);
}

/* ---- initialising ---------------------------------------------------------------------------------------------------- */

typedef lrk_status (*init_function)(void *structure, size_t struct_size);

#define INIT(name)                                                                                           \
    static lrk_status init_##name(void *structure, size_t struct_size)                                       \
    {                                                                                                        \
        return lrk_##name##_init(structure, struct_size);                                                    \
    }

#define EACH_INIT(X)                                                                                         \
    X(host)                                                                                                  \
    X(module_spec)                                                                                           \
    X(module_pattern)                                                                                        \
    X(adapters_options)                                                                                      \
    X(pass_options)                                                                                          \
    X(evaluator)                                                                                             \
    X(ablation_options)                                                                                      \
    X(limit)                                                                                                 \
    X(alora_options)                                                                                         \
    X(elalora_options)                                                                                       \
    X(increlora_options)                                                                                     \
    X(threshold_options)                                                                                     \
    X(custom_policy)                                                                                         \
    X(participant)                                                                                           \
    X(adamw_options)                                                                                         \
    X(lr_options)                                                                                            \
    X(schedule_options)                                                                                      \
    X(round_binding)                                                                                         \
    X(peft_options)                                                                                          \
    X(gguf_options)                                                                                          \
    X(gguf_rule)                                                                                             \
    X(kohya_options)                                                                                         \
    X(merge_options)

EACH_INIT(INIT)

#define INIT_ROW(name) {#name, init_##name, sizeof(lrk_##name)},

static const struct {
    const char *name;
    init_function init;
    size_t size;
} inits[] = {EACH_INIT(INIT_ROW)};

enum { N_INITS = sizeof inits / sizeof *inits };

typedef union room {
    unsigned char bytes[MOST];
    uint32_t struct_size;
    double aligned;
} room;

static void expect_bytes(const room *r, size_t from, size_t to, unsigned char value)
{
    for (size_t i = from; i < to; i++)
        ck_assert_msg(r->bytes[i] == value, "byte %zu is %02x", i, r->bytes[i]);
}

START_TEST(init_writes_exactly_the_size_it_is_given)
{
    size_t size = inits[_i].size;
    room exact, other;
    ck_assert_uint_le(size + TAIL, MOST);
    ck_assert_uint_eq(size % 8, 0);
    memset(&exact, 0xA5, sizeof exact);
    ck_assert_int_eq(inits[_i].init(&exact, size), LRK_OK);
    ck_assert_uint_eq(exact.struct_size, size);
    expect_bytes(&exact, size, MOST, 0xA5);
    for (size_t given = 8; given <= size + TAIL; given += 8) {
        memset(&other, 0xA5, sizeof other);
        ck_assert_int_eq(inits[_i].init(&other, given), LRK_OK);
        ck_assert_uint_eq(other.struct_size, given);
        size_t both = given < size ? given : size;
        ck_assert_mem_eq(other.bytes + 4, exact.bytes + 4, both - 4);
        if (given > size) expect_bytes(&other, size, given, 0);
        expect_bytes(&other, given, MOST, 0xA5);
    }
}
END_TEST

START_TEST(init_refuses_what_has_no_room_for_a_head)
{
    room r;
    memset(&r, 0xA5, sizeof r);
    ck_assert_int_eq(inits[_i].init(NULL, inits[_i].size), LRK_ERR_ARGUMENT);
    for (size_t given = 0; given < 8; given++)
        ck_assert_int_eq(inits[_i].init(&r, given), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(inits[_i].init(&r, (size_t)UINT32_MAX + 1), LRK_ERR_ARGUMENT);
    expect_bytes(&r, 0, MOST, 0xA5);
}
END_TEST

/* ---- reading --------------------------------------------------------------------------------------------------------- */

/* The struct at a size: what a shorter one leaves out is garbage, what a longer one adds is zero. */
static void make_sized(const reader *r, size_t struct_size, room *out)
{
    memset(out, 0, sizeof *out);
    r->make(out);
    ck_assert_uint_eq(out->struct_size, r->size);
    out->struct_size = (uint32_t)struct_size;
    if (struct_size < r->size) memset(out->bytes + struct_size, 0xA5, MOST - struct_size);
}

static void expect_use(const reader *r, const room *given, lrk_status want)
{
    char text[512];
    lrk_status status = r->use(given);
    lrk_context_error(w.context, text, sizeof text);
    ck_assert_msg(status == want, "%s, size %u: %s instead of %s: %s", r->name, (unsigned)given->struct_size,
                  lrk_status_name(status), lrk_status_name(want), text);
}

START_TEST(a_shorter_struct_has_defaults_for_the_rest)
{
    const reader *r = &readers[_i];
    room given;
    for (size_t size = r->enough; size <= r->size; size += 8) {
        make_sized(r, size, &given);
        expect_use(r, &given, LRK_OK);
    }
}
END_TEST

START_TEST(a_longer_struct_is_accepted_if_its_tail_is_zero)
{
    const reader *r = &readers[_i];
    room given;
    make_sized(r, r->size + TAIL, &given);
    expect_use(r, &given, LRK_OK);
    for (size_t i = 0; i < TAIL; i++) {
        make_sized(r, r->size + TAIL, &given);
        given.bytes[r->size + i] = 1;
        expect_use(r, &given, LRK_ERR_VERSION);
    }
}
END_TEST

START_TEST(a_struct_without_room_for_its_head_is_refused)
{
    const reader *r = &readers[_i];
    room given;
    for (size_t size = 0; size < 8; size++) {
        make_sized(r, r->size, &given);
        given.struct_size = (uint32_t)size;
        expect_use(r, &given, LRK_ERR_ARGUMENT);
    }
}
END_TEST

START_TEST(a_shorter_struct_gives_the_same_as_the_defaults)
{
    lrk_adapters_options whole, head = {.struct_size = 8, .seed = 99, .dropout = 7};
    lrk_adapters_options_init(&whole, sizeof whole);
    lrk_adapters *a = sets_create(w.context, w.specs, 3, &whole);
    lrk_adapters *b = sets_create(w.context, w.specs, 3, &head);
    ck_assert_uint_eq(sets_digest(a), sets_digest(b));
    lrk_adapters_destroy(a);
    lrk_adapters_destroy(b);
}
END_TEST

/* ---- arrays ---------------------------------------------------------------------------------------------------------- */

/* Two elements of a size larger than known here. */
static void make_pair(const reader *r, unsigned char pair[2 * MOST], size_t struct_size)
{
    room one;
    make_sized(r, struct_size, &one);
    memcpy(pair, one.bytes, struct_size);
    memcpy(pair + struct_size, one.bytes, struct_size);
}

START_TEST(specs_step_by_the_first_ones_size)
{
    _Alignas(16) unsigned char pair[2 * MOST];
    size_t size = sizeof(lrk_module_spec) + TAIL;
    make_pair(readers_find("lrk_module_spec"), pair, size);
    ((lrk_module_spec *)(pair + size))->name = "n";
    ((lrk_module_spec *)(pair + size))->n_in = 7;
    lrk_adapters *adapters = NULL;
    lrk_module_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_create(w.context, (lrk_module_spec *)pair, 2, NULL, &adapters), LRK_OK);
    ck_assert_int_eq(lrk_adapters_module(adapters, 1, &info), LRK_OK);
    ck_assert_str_eq(info.name, "n");
    ck_assert_int_eq(info.n_in, 7);
    lrk_adapters_destroy(adapters);
    ((lrk_module_spec *)(pair + size))->struct_size = sizeof(lrk_module_spec);
    sets_expect(w.context, lrk_adapters_create(w.context, (lrk_module_spec *)pair, 2, NULL, &adapters),
                LRK_ERR_ARGUMENT, "struct_size");
}
END_TEST

START_TEST(patterns_and_limits_step_by_the_first_ones_size)
{
    _Alignas(16) unsigned char pair[2 * MOST];
    lrk_adapters *adapters = NULL;
    lrk_adapters_info info = {.struct_size = sizeof info};
    size_t size = sizeof(lrk_module_pattern) + TAIL;
    make_pair(readers_find("lrk_module_pattern"), pair, size);
    ((lrk_module_pattern *)pair)->pattern = "a";
    ((lrk_module_pattern *)(pair + size))->rank = 5;
    ck_assert_int_eq(
        lrk_adapters_create_matching(w.context, w.specs, 3, (lrk_module_pattern *)pair, 2, NULL, &adapters),
        LRK_OK);
    ck_assert_int_eq(lrk_adapters_info_get(adapters, &info), LRK_OK);
    ck_assert_int_eq(info.ranks, 10); /* 0 for a, 5 for b and c */
    lrk_adapters_destroy(adapters);
    lrk_alora_options options;
    readers_find("lrk_alora_options")->make(&options);
    size = sizeof(lrk_limit) + TAIL;
    make_pair(readers_find("lrk_limit"), pair, size);
    ((lrk_limit *)pair)->pattern = "a";
    ((lrk_limit *)(pair + size))->floor = -1;
    options.limits = (lrk_limit *)pair;
    options.n_limits = 2;
    lrk_allocator *allocator = NULL;
    sets_expect(w.context, lrk_allocator_create_alora(w.adapters, &options, &allocator), LRK_ERR_ARGUMENT,
                "floor must be >= 0 in limit '*'");
}
END_TEST

static int32_t refuse(void *user, const lrk_plan *plan)
{
    (void)user, (void)plan;
    return 1;
}

START_TEST(participants_step_by_the_first_ones_size)
{
    _Alignas(16) unsigned char pair[2 * MOST];
    size_t size = sizeof(lrk_participant) + TAIL;
    make_pair(readers_find("lrk_participant"), pair, size);
    ck_assert_int_eq(lrk_plan_prepare(w.plan, (lrk_participant *)pair, 2), LRK_OK);
    ck_assert_int_eq(lrk_plan_abandon(w.plan), LRK_OK);
    lrk_plan_destroy(w.plan);
    ck_assert_int_eq(lrk_allocator_plan(w.allocator, w.scores, 0, &w.plan), LRK_OK);
    ((lrk_participant *)(pair + size))->name = "the second";
    ((lrk_participant *)(pair + size))->prepare = refuse;
    sets_expect(w.context, lrk_plan_prepare(w.plan, (lrk_participant *)pair, 2), LRK_ERR_REFUSED,
                "the second");
}
END_TEST

START_TEST(outputs_of_a_group_step_by_the_first_ones_size)
{
    lrk_module_spec specs[2] = {sets_spec("q", 5, 3, 1), sets_spec("k", 5, 4, 1)};
    specs[0].input_group = specs[1].input_group = 0;
    _Alignas(16) unsigned char pair[2 * MOST];
    size_t size = sizeof(lrk_matrix_mut) + TAIL;
    make_pair(readers_find("lrk_matrix_mut"), pair, size);
    lrk_matrix_mut *second = (lrk_matrix_mut *)(pair + size);
    float values[8] = {0};
    lrk_matrix x;
    lrk_pass_options options;
    lrk_pass *pass = NULL;
    lrk_adapters *adapters = sets_create(w.context, specs, 2, NULL);
    readers_find("lrk_matrix")->make(&x);
    readers_find("lrk_pass_options")->make(&options);
    second->data = values;
    second->cols = second->ld = 4;
    ck_assert_int_eq(lrk_pass_begin(adapters, &options, &pass), LRK_OK);
    const int32_t modules[2] = {0, 1};
    ck_assert_int_eq(lrk_forward(pass, modules, 2, &x, (lrk_matrix_mut *)pair, NULL, 0), LRK_OK);
    second->cols = 3;
    ck_assert_int_eq(lrk_forward(pass, modules, 2, &x, (lrk_matrix_mut *)pair, NULL, 0), LRK_ERR_SHAPE);
    lrk_pass_end(pass);
    lrk_adapters_destroy(adapters);
}
END_TEST

Suite *structs_suite(void)
{
    Suite *suite = suite_create("structs");
    TCase *tests = tcase_create("structs");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, init_writes_exactly_the_size_it_is_given, 0, N_INITS);
    tcase_add_loop_test(tests, init_refuses_what_has_no_room_for_a_head, 0, N_INITS);
    tcase_add_loop_test(tests, a_shorter_struct_has_defaults_for_the_rest, 0, n_readers);
    tcase_add_loop_test(tests, a_longer_struct_is_accepted_if_its_tail_is_zero, 0, n_readers);
    tcase_add_loop_test(tests, a_struct_without_room_for_its_head_is_refused, 0, n_readers);
    tcase_add_test(tests, a_shorter_struct_gives_the_same_as_the_defaults);
    tcase_add_test(tests, specs_step_by_the_first_ones_size);
    tcase_add_test(tests, patterns_and_limits_step_by_the_first_ones_size);
    tcase_add_test(tests, participants_step_by_the_first_ones_size);
    tcase_add_test(tests, outputs_of_a_group_step_by_the_first_ones_size);
    suite_add_tcase(suite, tests);
    return suite;
}
