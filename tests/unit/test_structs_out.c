/* SPDX-License-Identifier: MIT */
/*
 * Structs that lorank fills: for every call that does, a shorter one gets only what it has room for, a longer one a zero
 * tail, one without room for its head nothing. And what needs no handle: status codes, versions, destroying nothing.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sets.h"
#include "world.h"

#define MOST 256
#define TAIL 16

static world w;
static lrk_safetensors *file; /* opened by the first test that needs it */
static lrk_replay *replay;    /* likewise */

static void setup(void)
{
    file = NULL;
    replay = NULL;
    world_open(&w);
}

static void teardown(void)
{
    lrk_safetensors_close(file);
    lrk_replay_close(replay);
    world_close(&w);
}

/* ---- writing --------------------------------------------------------------------------------------------------------- */

typedef struct writer {
    const char *name;
    size_t size;
    lrk_status (*get)(void *out);
} writer;

static lrk_status get_error_info(void *out)
{
    return lrk_context_error_info(w.context, out);
}

static lrk_status get_module(void *out)
{
    return lrk_adapters_module(w.adapters, 1, out);
}

static void open_replay(void)
{
    lrk_trace *trace = NULL;
    const char *path = scratch_path(&w.files, "replay.jsonl");
    ck_assert_int_eq(lrk_trace_open(w.adapters, path, NULL, &trace), LRK_OK);
    ck_assert_int_eq(lrk_trace_round(trace, w.scores, w.plan), LRK_OK);
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
    ck_assert_int_eq(lrk_replay_open(w.context, scratch_path(&w.files, "replay.jsonl"), &replay), LRK_OK);
}

static lrk_status get_replay_round(void *out)
{
    if (replay == NULL) open_replay();
    return lrk_replay_round_get(replay, 0, out);
}

static lrk_status get_adapters_info(void *out)
{
    return lrk_adapters_info_get(w.adapters, out);
}

static lrk_status get_tensor(void *out)
{
    return lrk_adapters_tensor(w.adapters, 1, LRK_TENSOR_B, out);
}

static lrk_status get_sink_tensor(void *out)
{
    return lrk_sink_tensor(w.sink, 1, LRK_TENSOR_GRAD_A, out);
}

static lrk_status get_moment(void *out)
{
    return lrk_optimizer_moment(w.optimizer, 1, LRK_MOMENT_SECOND_B, out);
}

static lrk_status get_segment(void *out)
{
    int64_t n;
    return lrk_adapters_flat(w.adapters, LRK_FLAT_PARAMETERS, out, out != NULL, &n);
}

static lrk_status get_mask_info(void *out)
{
    return lrk_mask_info_get(w.mask, out);
}

static lrk_status get_pass_mask(void *out)
{
    lrk_pass_options options;
    lrk_pass *pass = NULL;
    lrk_pass_options_init(&options, sizeof options);
    options.max_rows = 1;
    options.mask = w.mask;
    ck_assert_int_eq(lrk_pass_begin(w.adapters, &options, &pass), LRK_OK);
    lrk_status status = lrk_pass_mask_info(pass, out);
    lrk_pass_end(pass);
    return status;
}

static lrk_status get_estimate(void *out)
{
    return lrk_estimator_estimate(w.estimator, out);
}

static lrk_status get_scores_info(void *out)
{
    return lrk_scores_info_get(w.scores, out);
}

static lrk_status get_score(void *out)
{
    return lrk_scores_get(w.scores, 3, out);
}

static lrk_status get_plan_info(void *out)
{
    return lrk_plan_info_get(w.plan, out);
}

static lrk_status get_plan_module(void *out)
{
    return lrk_plan_module_get(w.plan, 1, out);
}

static lrk_status get_participant(void *out)
{
    return lrk_optimizer_participant(w.optimizer, out);
}

static lrk_status get_optimizer_info(void *out)
{
    return lrk_optimizer_info_get(w.optimizer, out);
}

static lrk_status get_event(void *out)
{
    lrk_schedule_options options = world_schedule();
    lrk_schedule *schedule = NULL;
    ck_assert_int_eq(lrk_schedule_create(w.context, &options, &schedule), LRK_OK);
    lrk_status status = lrk_schedule_step(schedule, out);
    lrk_schedule_destroy(schedule);
    return status;
}

static lrk_status get_observer(void *out)
{
    return lrk_trace_observer(w.trace, out);
}

static lrk_status get_learning_rate(void *out)
{
    lrk_config *config = NULL;
    ck_assert_int_eq(lrk_config_parse(w.context, "", 0, NULL, 0, &config), LRK_OK);
    lrk_status status = lrk_config_learning_rate(config, 9, out);
    lrk_config_destroy(config);
    return status;
}

static lrk_status get_safetensors(void *out)
{
    char path[SCRATCH_PATH + 32];
    if (file == NULL) {
        ck_assert_int_eq(lrk_peft_save(w.adapters, scratch_path(&w.files, "adapter"), NULL), LRK_OK);
        snprintf(path, sizeof path, "%s/adapter_model.safetensors", scratch_path(&w.files, "adapter"));
        ck_assert_int_eq(lrk_safetensors_open(w.context, path, &file), LRK_OK);
    }
    return lrk_safetensors_get(file, 1, out);
}

#define WRITER(type, get)                                                                                    \
    {                                                                                                        \
#get, sizeof(type), get                                                                              \
    }

static const writer writers[] = {
    WRITER(lrk_error_info, get_error_info),
    WRITER(lrk_module_info, get_module),
    WRITER(lrk_adapters_info, get_adapters_info),
    WRITER(lrk_tensor, get_tensor),
    WRITER(lrk_tensor, get_sink_tensor),
    WRITER(lrk_tensor, get_moment),
    WRITER(lrk_segment, get_segment),
    WRITER(lrk_mask_info, get_mask_info),
    WRITER(lrk_mask_info, get_pass_mask),
    WRITER(lrk_estimate, get_estimate),
    WRITER(lrk_scores_info, get_scores_info),
    WRITER(lrk_score, get_score),
    WRITER(lrk_plan_info, get_plan_info),
    WRITER(lrk_replay_round, get_replay_round),
    WRITER(lrk_plan_module, get_plan_module),
    WRITER(lrk_participant, get_participant),
    WRITER(lrk_optimizer_info, get_optimizer_info),
    WRITER(lrk_schedule_event, get_event),
    WRITER(lrk_round_observer, get_observer),
    WRITER(lrk_lr_options, get_learning_rate),
    WRITER(lrk_safetensors_tensor, get_safetensors),
};

enum { N_WRITERS = sizeof writers / sizeof *writers };

typedef union room {
    unsigned char bytes[MOST];
    uint32_t struct_size;
    double aligned;
} room;

static lrk_status fill(const writer *one, size_t struct_size, room *out)
{
    memset(out, 0xA5, sizeof *out);
    out->struct_size = (uint32_t)struct_size;
    return one->get(out);
}

static void expect_bytes(const room *r, size_t from, size_t to, unsigned char value)
{
    for (size_t i = from; i < to; i++)
        ck_assert_msg(r->bytes[i] == value, "byte %zu is %02x", i, r->bytes[i]);
}

START_TEST(an_output_is_written_as_far_as_it_reaches)
{
    const writer *one = &writers[_i];
    room whole, other;
    ck_assert_uint_le(one->size + TAIL, MOST);
    ck_assert_int_eq(fill(one, one->size, &whole), LRK_OK);
    ck_assert_uint_eq(whole.struct_size, one->size);
    expect_bytes(&whole, one->size, MOST, 0xA5);
    for (size_t size = 8; size <= one->size + TAIL; size += 8) {
        ck_assert_int_eq(fill(one, size, &other), LRK_OK);
        ck_assert_uint_eq(other.struct_size, size);
        size_t both = size < one->size ? size : one->size;
        ck_assert_msg(memcmp(other.bytes + 4, whole.bytes + 4, both - 4) == 0, "%s, size %zu", one->name,
                      size);
        if (size > one->size) expect_bytes(&other, one->size, size, 0);
        expect_bytes(&other, size, MOST, 0xA5);
    }
}
END_TEST

START_TEST(an_output_without_room_for_its_head_is_refused)
{
    const writer *one = &writers[_i];
    room out;
    for (uint32_t size = 0; size < 8; size++) {
        ck_assert_msg(fill(one, size, &out) == LRK_ERR_ARGUMENT, "%s, size %u", one->name, (unsigned)size);
        ck_assert_uint_eq(out.struct_size, size);
        expect_bytes(&out, 4, MOST, 0xA5);
    }
    if (one->get != get_segment) ck_assert_int_eq(one->get(NULL), LRK_ERR_ARGUMENT);
}
END_TEST

START_TEST(segments_step_by_the_first_ones_size)
{
    enum { STEP = sizeof(lrk_segment) + TAIL };
    _Alignas(16) unsigned char array[3 * STEP];
    lrk_segment tight[3] = {{.struct_size = sizeof(lrk_segment)}};
    int64_t n = 0;
    memset(array, 0xA5, sizeof array);
    ((lrk_segment *)array)->struct_size = STEP;
    ck_assert_int_eq(lrk_adapters_flat(w.adapters, LRK_FLAT_PARAMETERS, (lrk_segment *)array, 3, &n), LRK_OK);
    ck_assert_int_ge(n, 2);
    for (int64_t i = 1; i < n; i++)
        tight[i].struct_size = sizeof(lrk_segment);
    ck_assert_int_eq(lrk_adapters_flat(w.adapters, LRK_FLAT_PARAMETERS, tight, 3, &n), LRK_OK);
    for (int64_t i = 0; i < n; i++) {
        const lrk_segment *segment = (const lrk_segment *)(array + i * STEP);
        ck_assert_int_eq(segment->module, tight[i].module);
        ck_assert_ptr_eq(segment->data, tight[i].data);
        ck_assert_int_eq(segment->count, tight[i].count);
    }
}
END_TEST

/* ---- status codes and versions --------------------------------------------------------------------------------------- */

START_TEST(every_status_of_the_header_has_its_name_and_a_text)
{
    size_t size;
    char *header = scratch_read("include/lorank/status.h", &size);
    int n = 0;
    for (char *line = header; (line = strstr(line, "#define LRK_ERR_")) != NULL; n++) {
        char name[64];
        int code;
        line += strlen("#define ");
        ck_assert_int_eq(sscanf(line, "%63s (%d)", name, &code), 2);
        ck_assert_str_eq(lrk_status_name(code), name);
        ck_assert_str_ne(lrk_status_text(code), lrk_status_text(1));
        ck_assert_uint_gt(strlen(lrk_status_text(code)), 5);
    }
    free(header);
    ck_assert_int_eq(n, 19);
    ck_assert_str_eq(lrk_status_name(LRK_OK), "LRK_OK");
    ck_assert_str_eq(lrk_status_text(LRK_OK), "success");
}
END_TEST

START_TEST(texts_of_statuses_differ)
{
    for (int a = 0; a >= -19; a--) {
        for (int b = a - 1; b >= -19; b--)
            ck_assert_str_ne(lrk_status_text(a), lrk_status_text(b));
    }
}
END_TEST

START_TEST(an_unknown_status_is_said_to_be_so)
{
    static const lrk_status unknown[] = {1, 2, 77, -20, -1000, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        ck_assert_str_eq(lrk_status_name(unknown[i]), "LRK_ERR_?");
        ck_assert_str_eq(lrk_status_text(unknown[i]), "unknown status");
    }
}
END_TEST

START_TEST(versions_of_header_and_library_agree)
{
    char text[64];
    snprintf(text, sizeof text, "%d.%d.%d", LRK_VERSION_MAJOR, LRK_VERSION_MINOR, LRK_VERSION_PATCH);
    ck_assert_str_eq(lrk_version_text(), text);
    ck_assert_uint_eq(lrk_version(),
                      LRK_VERSION_MAJOR * 1000000 + LRK_VERSION_MINOR * 1000 + LRK_VERSION_PATCH);
    ck_assert_int_eq(lrk_abi_version(), LRK_ABI);
}
END_TEST

START_TEST(destroying_nothing_does_nothing)
{
    lrk_context_destroy(NULL);
    lrk_adapters_destroy(NULL);
    lrk_snapshot_destroy(NULL);
    lrk_mask_destroy(NULL);
    lrk_pass_end(NULL);
    lrk_sink_destroy(NULL);
    lrk_estimator_destroy(NULL);
    lrk_estimator_reset(NULL);
    lrk_scores_destroy(NULL);
    lrk_allocator_destroy(NULL);
    lrk_plan_destroy(NULL);
    lrk_optimizer_destroy(NULL);
    lrk_schedule_destroy(NULL);
    lrk_config_destroy(NULL);
    lrk_safetensors_close(NULL);
}
END_TEST

Suite *structs_out_suite(void)
{
    Suite *suite = suite_create("structs_out");
    TCase *tests = tcase_create("structs_out");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, an_output_is_written_as_far_as_it_reaches, 0, N_WRITERS);
    tcase_add_loop_test(tests, an_output_without_room_for_its_head_is_refused, 0, N_WRITERS);
    tcase_add_test(tests, segments_step_by_the_first_ones_size);
    tcase_add_test(tests, every_status_of_the_header_has_its_name_and_a_text);
    tcase_add_test(tests, texts_of_statuses_differ);
    tcase_add_test(tests, an_unknown_status_is_said_to_be_so);
    tcase_add_test(tests, versions_of_header_and_library_agree);
    tcase_add_test(tests, destroying_nothing_does_nothing);
    suite_add_tcase(suite, tests);
    return suite;
}
