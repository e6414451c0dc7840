/* SPDX-License-Identifier: MIT */
/*
 * Every struct that callers fill (readers.h): a maker, a call and a row each.
 */
#include "readers.h"

#include <check.h>
#include <string.h>

#include "sets.h"

#define HEAD 8 /* struct_size and the member after it */

static world *w;

void readers_open(world *of)
{
    w = of;
}

static void make_host(void *structure)
{
    lrk_host host = fault_host(&w->host);
    memcpy(structure, &host, sizeof host);
}

static lrk_status use_host(const void *structure)
{
    lrk_context *context = NULL;
    lrk_status status = lrk_context_create(structure, &context, NULL, 0);
    lrk_context_destroy(context);
    return status;
}

static void make_spec(void *structure)
{
    lrk_module_spec spec = sets_spec("m", 4, 3, 0);
    memcpy(structure, &spec, sizeof spec);
}

static lrk_status use_spec(const void *structure)
{
    lrk_adapters *adapters = NULL;
    lrk_status status = lrk_adapters_create(w->context, structure, 1, NULL, &adapters);
    lrk_adapters_destroy(adapters);
    return status;
}

static void make_pattern(void *structure)
{
    lrk_module_pattern *pattern = structure;
    lrk_module_pattern_init(pattern, sizeof *pattern);
    pattern->pattern = "*";
}

static lrk_status use_pattern(const void *structure)
{
    lrk_adapters *adapters = NULL;
    lrk_status status = lrk_adapters_create_matching(w->context, w->specs, 3, structure, 1, NULL, &adapters);
    lrk_adapters_destroy(adapters);
    return status;
}

static void make_adapters_options(void *structure)
{
    lrk_adapters_options_init(structure, sizeof(lrk_adapters_options));
}

static lrk_status use_adapters_options(const void *structure)
{
    lrk_adapters *adapters = NULL;
    lrk_status status = lrk_adapters_create(w->context, w->specs, 3, structure, &adapters);
    lrk_adapters_destroy(adapters);
    return status;
}

static sets_host storage_host;

static void make_storage(void *structure)
{
    memset(&storage_host, 0, sizeof storage_host);
    storage_host.refuse = -1;
    lrk_storage storage = sets_host_storage(&storage_host, w->specs, 0);
    memcpy(structure, &storage, sizeof storage);
}

static lrk_status use_storage(const void *structure)
{
    lrk_adapters_options options;
    lrk_adapters_options_init(&options, sizeof options);
    options.storage = structure;
    lrk_status status = use_adapters_options(&options);
    sets_host_free(&storage_host);
    return status;
}

static void make_pass_options(void *structure)
{
    lrk_pass_options *options = structure;
    lrk_pass_options_init(options, sizeof *options);
    options->max_rows = 2;
}

static lrk_status use_pass_options(const void *structure)
{
    lrk_pass *pass = NULL;
    lrk_status status = lrk_pass_begin(w->adapters, structure, &pass);
    lrk_pass_end(pass);
    return status;
}

static float numbers[64];

static void make_x(void *structure)
{
    lrk_matrix x = {sizeof x, LRK_DTYPE_F32, numbers, 2, 5, 5};
    memcpy(structure, &x, sizeof x);
}

static void make_y(void *structure)
{
    lrk_matrix_mut y = {sizeof y, LRK_DTYPE_F32, numbers + 32, 2, 3, 3};
    memcpy(structure, &y, sizeof y);
}

static lrk_status forward(const lrk_matrix *x, const lrk_matrix_mut *y)
{
    lrk_pass_options options;
    lrk_pass *pass = NULL;
    make_pass_options(&options);
    ck_assert_int_eq(lrk_pass_begin(w->adapters, &options, &pass), LRK_OK);
    lrk_status status = lrk_forward(pass, &(int32_t){0}, 1, x, y, NULL, 0);
    lrk_pass_end(pass);
    return status;
}

static lrk_status use_x(const void *structure)
{
    lrk_matrix_mut y;
    make_y(&y);
    return forward(structure, &y);
}

static lrk_status use_y(const void *structure)
{
    lrk_matrix x;
    make_x(&x);
    return forward(&x, structure);
}

static void make_evaluator(void *structure)
{
    lrk_evaluator evaluator = world_evaluator();
    memcpy(structure, &evaluator, sizeof evaluator);
}

static lrk_status use_evaluator(const void *structure)
{
    lrk_estimator *estimator = NULL;
    lrk_status status = lrk_estimator_create_ablation(w->adapters, structure, NULL, &estimator);
    lrk_estimator_destroy(estimator);
    return status;
}

static void make_ablation(void *structure)
{
    lrk_ablation_options_init(structure, sizeof(lrk_ablation_options));
}

static lrk_status use_ablation(const void *structure)
{
    lrk_evaluator evaluator = world_evaluator();
    lrk_estimator *estimator = NULL;
    lrk_status status = lrk_estimator_create_ablation(w->adapters, &evaluator, structure, &estimator);
    lrk_estimator_destroy(estimator);
    return status;
}

static int32_t no_score(void *user, const uint64_t *identities, double *scores, int64_t n)
{
    (void)user, (void)identities, (void)scores, (void)n;
    return 1;
}

static void make_custom_estimator(void *structure)
{
    lrk_custom_estimator custom = {.struct_size = sizeof custom, .name = "test", .score = no_score};
    memcpy(structure, &custom, sizeof custom);
}

static lrk_status use_custom_estimator(const void *structure)
{
    lrk_estimator *estimator = NULL;
    lrk_status status = lrk_estimator_create_custom(w->adapters, structure, &estimator);
    lrk_estimator_destroy(estimator);
    return status;
}

#define USE_ALLOCATOR(name, policy)                                                                          \
    static lrk_status use_##name(const void *structure)                                                      \
    {                                                                                                        \
        lrk_allocator *allocator = NULL;                                                                     \
        lrk_status status = lrk_allocator_create_##policy(w->adapters, structure, &allocator);               \
        lrk_allocator_destroy(allocator);                                                                    \
        return status;                                                                                       \
    }

static void make_alora(void *structure)
{
    lrk_alora_options *options = structure;
    lrk_alora_options_init(options, sizeof *options);
    options->n_move = 1;
}

USE_ALLOCATOR(alora, alora)

static void make_elalora(void *structure)
{
    lrk_elalora_options *options = structure;
    lrk_elalora_options_init(options, sizeof *options);
    options->n_move = 1;
}

USE_ALLOCATOR(elalora, elalora)

static void make_increlora(void *structure)
{
    lrk_increlora_options *options = structure;
    lrk_increlora_options_init(options, sizeof *options);
    options->grow_modules = 1;
    options->budget = 1000;
}

USE_ALLOCATOR(increlora, increlora)

static void make_threshold(void *structure)
{
    lrk_threshold_options_init(structure, sizeof(lrk_threshold_options));
}

USE_ALLOCATOR(threshold, threshold)

static void make_limit(void *structure)
{
    lrk_limit *limit = structure;
    lrk_limit_init(limit, sizeof *limit);
    limit->pattern = "*";
}

static lrk_status use_limit(const void *structure)
{
    lrk_alora_options options;
    make_alora(&options);
    options.limits = structure;
    options.n_limits = 1;
    return use_alora(&options);
}

static int32_t no_plan(void *user, const lrk_policy_request *request)
{
    (void)user, (void)request;
    return 1;
}

static void make_policy(void *structure)
{
    lrk_custom_policy *policy = structure;
    lrk_custom_policy_init(policy, sizeof *policy);
    policy->name = "test";
    policy->plan = no_plan;
}

USE_ALLOCATOR(policy, custom)

static void make_participant(void *structure)
{
    lrk_participant participant = world_participant();
    memcpy(structure, &participant, sizeof participant);
}

static lrk_status use_participant(const void *structure)
{
    lrk_status status = lrk_plan_prepare(w->plan, structure, 1);
    if (status != LRK_OK) return status;
    ck_assert_int_eq(lrk_plan_abandon(w->plan), LRK_OK);
    lrk_plan_destroy(w->plan);
    ck_assert_int_eq(lrk_allocator_plan(w->allocator, w->scores, 0, &w->plan), LRK_OK);
    return LRK_OK;
}

static void make_adamw(void *structure)
{
    lrk_adamw_options_init(structure, sizeof(lrk_adamw_options));
}

static lrk_status use_adamw(const void *structure)
{
    lrk_optimizer *optimizer = NULL;
    lrk_status status = lrk_optimizer_create_adamw(w->adapters, structure, &optimizer);
    lrk_optimizer_destroy(optimizer);
    return status;
}

static void make_lr(void *structure)
{
    lrk_lr_options *options = structure;
    lrk_lr_options_init(options, sizeof *options);
    options->kind = LRK_LR_CONSTANT;
}

static lrk_status use_lr(const void *structure)
{
    double lr = 0;
    lrk_status status = lrk_learning_rate(structure, 3, &lr);
    if (status == LRK_OK) ck_assert(lr == 1e-4);
    return status;
}

static void make_schedule(void *structure)
{
    lrk_schedule_options options = world_schedule();
    memcpy(structure, &options, sizeof options);
}

static lrk_status use_schedule(const void *structure)
{
    lrk_schedule *schedule = NULL;
    lrk_status status = lrk_schedule_create(w->context, structure, &schedule);
    lrk_schedule_destroy(schedule);
    return status;
}

static void make_binding(void *structure)
{
    lrk_round_binding *binding = structure;
    lrk_round_binding_init(binding, sizeof *binding);
    binding->estimator = w->estimator;
    binding->allocator = w->allocator;
}

static lrk_status use_binding(const void *structure)
{
    lrk_schedule_options options = world_schedule();
    lrk_schedule *schedule = NULL;
    ck_assert_int_eq(lrk_schedule_create(w->context, &options, &schedule), LRK_OK);
    lrk_status status = lrk_schedule_bind(schedule, structure);
    lrk_schedule_destroy(schedule);
    return status;
}

static void make_observer(void *structure)
{
    lrk_round_observer observer = {.struct_size = sizeof observer};
    ck_assert_int_eq(lrk_trace_observer(w->trace, &observer), LRK_OK);
    memcpy(structure, &observer, sizeof observer);
}

static lrk_status use_observer(const void *structure)
{
    lrk_round_binding binding;
    make_binding(&binding);
    binding.observers = structure;
    binding.n_observers = 1;
    return use_binding(&binding);
}

static int32_t stop(void *user, int64_t step)
{
    (void)user, (void)step;
    return LRK_RUN_STOP;
}

static void make_callbacks(void *structure)
{
    lrk_run_callbacks callbacks = {.struct_size = sizeof callbacks, .train_step = stop};
    memcpy(structure, &callbacks, sizeof callbacks);
}

static lrk_status use_callbacks(const void *structure)
{
    lrk_schedule_options options = world_schedule();
    lrk_schedule *schedule = NULL;
    options.rounds = 0;
    ck_assert_int_eq(lrk_schedule_create(w->context, &options, &schedule), LRK_OK);
    lrk_status status = lrk_schedule_run(schedule, structure);
    lrk_schedule_destroy(schedule);
    return status;
}

static void make_key(void *structure)
{
    lrk_config_key key = {
        .struct_size = sizeof key, .type = LRK_VALUE_INTEGER, .name = "epochs", .greatest = 9};
    memcpy(structure, &key, sizeof key);
}

static lrk_status use_key(const void *structure)
{
    lrk_config *config = NULL;
    lrk_status status = lrk_config_parse(w->context, "host: {epochs: 3}", 17, structure, 1, &config);
    lrk_config_destroy(config);
    return status;
}

static void make_peft(void *structure)
{
    lrk_peft_options_init(structure, sizeof(lrk_peft_options));
}

static lrk_status use_peft(const void *structure)
{
    return lrk_peft_save(w->adapters, scratch_path(&w->files, "adapter"), structure);
}

static void make_gguf(void *structure)
{
    lrk_gguf_options *options = structure;
    lrk_gguf_options_init(options, sizeof *options);
    options->flags = LRK_GGUF_FILE_NAMES;
    options->architecture = "any";
}

static lrk_status use_gguf(const void *structure)
{
    return lrk_gguf_save(w->adapters, scratch_path(&w->files, "adapter.gguf"), structure);
}

static void make_rule(void *structure)
{
    lrk_gguf_rule *rule = structure;
    lrk_gguf_rule_init(rule, sizeof *rule);
    rule->module = "model.#.q";
    rule->tensor = "blk.#.attn_q";
}

static lrk_status use_rule(const void *structure)
{
    lrk_gguf_options options;
    make_gguf(&options);
    options.rules = structure;
    options.n_rules = 1;
    return use_gguf(&options);
}

static void make_kohya(void *structure)
{
    lrk_kohya_options_init(structure, sizeof(lrk_kohya_options));
}

static lrk_status use_kohya(const void *structure)
{
    return lrk_kohya_save(w->adapters, scratch_path(&w->files, "kohya.safetensors"), structure);
}

#define READER(type, enough, make, use)                                                                      \
    {                                                                                                        \
#type, sizeof(type), enough, make, use                                                               \
    }
#define HEAD                8
#define UP_TO(type, member) offsetof(type, member)
#define WHOLE(type)         sizeof(type)

const reader readers[] = {
    READER(lrk_host, UP_TO(lrk_host, gemm_user), make_host, use_host),
    READER(lrk_module_spec, UP_TO(lrk_module_spec, rank), make_spec, use_spec),
    READER(lrk_module_pattern, UP_TO(lrk_module_pattern, rank), make_pattern, use_pattern),
    READER(lrk_adapters_options, HEAD, make_adapters_options, use_adapters_options),
    READER(lrk_storage, WHOLE(lrk_storage), make_storage, use_storage),
    READER(lrk_pass_options, UP_TO(lrk_pass_options, mask), make_pass_options, use_pass_options),
    READER(lrk_matrix, WHOLE(lrk_matrix), make_x, use_x),
    READER(lrk_matrix_mut, WHOLE(lrk_matrix_mut), make_y, use_y),
    READER(lrk_evaluator, UP_TO(lrk_evaluator, n_parts), make_evaluator, use_evaluator),
    READER(lrk_ablation_options, HEAD, make_ablation, use_ablation),
    READER(lrk_custom_estimator, WHOLE(lrk_custom_estimator), make_custom_estimator, use_custom_estimator),
    READER(lrk_alora_options, UP_TO(lrk_alora_options, move_share), make_alora, use_alora),
    READER(lrk_elalora_options, UP_TO(lrk_elalora_options, n_move_last), make_elalora, use_elalora),
    READER(lrk_increlora_options, UP_TO(lrk_increlora_options, budget_unit), make_increlora, use_increlora),
    READER(lrk_threshold_options, HEAD, make_threshold, use_threshold),
    READER(lrk_limit, UP_TO(lrk_limit, floor), make_limit, use_limit),
    READER(lrk_custom_policy, UP_TO(lrk_custom_policy, budget), make_policy, use_policy),
    READER(lrk_participant, WHOLE(lrk_participant), make_participant, use_participant),
    READER(lrk_adamw_options, HEAD, make_adamw, use_adamw),
    READER(lrk_lr_options, UP_TO(lrk_lr_options, peak), make_lr, use_lr),
    READER(lrk_schedule_options, WHOLE(lrk_schedule_options), make_schedule, use_schedule),
    READER(lrk_round_binding, UP_TO(lrk_round_binding, participants), make_binding, use_binding),
    READER(lrk_round_observer, WHOLE(lrk_round_observer), make_observer, use_observer),
    READER(lrk_run_callbacks, UP_TO(lrk_run_callbacks, event), make_callbacks, use_callbacks),
    READER(lrk_config_key, UP_TO(lrk_config_key, least), make_key, use_key),
    READER(lrk_peft_options, HEAD, make_peft, use_peft),
    READER(lrk_gguf_options, UP_TO(lrk_gguf_options, name), make_gguf, use_gguf),
    READER(lrk_gguf_rule, UP_TO(lrk_gguf_rule, rows), make_rule, use_rule),
    READER(lrk_kohya_options, HEAD, make_kohya, use_kohya),
};

const int n_readers = sizeof readers / sizeof *readers;

const reader *readers_find(const char *type)
{
    for (int i = 0; i < n_readers; i++) {
        if (strcmp(readers[i].name, type) == 0) return &readers[i];
    }
    ck_abort_msg("no reader of %s", type);
    return NULL;
}
