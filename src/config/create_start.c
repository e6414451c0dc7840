/* SPDX-License-Identifier: MIT */
/*
 * Section start into handles and plans: what a start is made of, and the plan, with budget and limits of section allocation.
 */
#include "../adapters/pca.h"
#include "../adapters/sketch.h"
#include "../allocation/allocation.h"
#include "config.h"

lrk_status lrki_start_settings_check(const lrk_config *config)
{
    const lrki_settings *s = &config->settings;
    if (s->batches < 1) return lrki_fail(config->context, LRK_ERR_CONFIG, "batches must be >= 1");
    if (s->warmup < 0) return lrki_fail(config->context, LRK_ERR_CONFIG, "warmup must be >= 0");
    lrk_status status = lrki_sketch_options_check(config->context, &s->sketch);
    if (status == LRK_OK) status = lrki_gradient_start_check(config->context, &s->gradient_start);
    if (status == LRK_OK) status = lrki_pca_options_check(config->context, &s->pca);
    if (status == LRK_OK) status = lrki_eva_options_check(config->context, &s->eva);
    if (status == LRK_OK) status = lrki_twonn_options_check(config->context, &s->twonn);
    if (status == LRK_OK) status = lrki_gradient_init_check(config->context, &s->gradient_init);
    return status == LRK_OK ? lrki_weight_start_check(config->context, &s->weight_start) : status;
}

const char *lrk_config_start(const lrk_config *config)
{
    return config != NULL ? lrk_config_word("start.kind", config->settings.start) : NULL;
}

/* A plan fails on all workers if it does on one, also before its own call is made. */
static lrk_status no_limits(lrk_adapters *adapters, const char *call, lrk_plan **plan)
{
    return lrki_plan_agree(adapters->context, call, LRK_ERR_NOMEM, NULL, plan);
}

/* ---- gradients -------------------------------------------------------------------------------------------- */

static bool is_of_gradient(const lrki_settings *s)
{
    return s->start == LRKI_START_GRADIENT || s->start == LRKI_START_LORA_GA ||
           s->start == LRKI_START_LORA_ONE;
}

int64_t lrk_config_start_warmup(const lrk_config *config)
{
    return config != NULL && is_of_gradient(&config->settings) ? config->settings.warmup : 0;
}

lrk_status lrk_config_create_sketch(const lrk_config *config, lrk_adapters *adapters, lrk_sketch **sketch,
                                    int64_t *batches)
{
    if (sketch != NULL) *sketch = NULL;
    lrk_status status = lrki_config_check_call(config, adapters, sketch);
    if (status != LRK_OK) return status;
    if (batches == NULL)
        return lrki_fail(config->context, LRK_ERR_ARGUMENT, "lrk_config_create_sketch: batches is NULL");
    const lrki_settings *s = &config->settings;
    *batches = is_of_gradient(s) ? s->batches : 0;
    if (*batches == 0) return LRK_OK;
    lrk_sketch_options options = s->sketch;
    options.seed = s->seed;
    return lrki_config_made(config, "start", lrk_sketch_create(adapters, &options, sketch));
}

lrk_status lrk_config_plan_start(const lrk_config *config, const lrk_sketch *sketch, int64_t step,
                                 lrk_plan **plan)
{
    if (plan != NULL) *plan = NULL;
    lrk_status status = lrki_config_check_call(config, sketch, plan);
    if (status != LRK_OK) return status;
    const lrki_settings *s = &config->settings;
    if (s->start == LRKI_START_LORA_GA || s->start == LRKI_START_LORA_ONE) {
        lrk_gradient_init_options init = s->gradient_init;
        init.method = s->start == LRKI_START_LORA_GA ? LRK_GRADIENT_INIT_LORA_GA : LRK_GRADIENT_INIT_LORA_ONE;
        return lrki_config_made(config, "start", lrk_gradient_init_plan(sketch, &init, step, plan));
    }
    lrk_gradient_start_options options = s->gradient_start;
    lrk_limit *limits = lrki_config_limits(config);
    if (limits == NULL) return no_limits(sketch->adapters, "lrk_gradient_start_plan", plan);
    options.budget = s->alora.budget;
    options.budget_unit = s->alora.budget_unit;
    options.limits = limits;
    options.n_limits = config->n_limits;
    status = lrk_gradient_start_plan(sketch, &options, step, plan);
    lrki_array_free(config->context, limits, config->n_limits, sizeof *limits);
    return lrki_config_made_with_limits(config, "start", status);
}

/* ---- EVA ----------------------------------------------------------------------------------------------------------- */

lrk_status lrk_config_create_pca(const lrk_config *config, lrk_adapters *adapters, lrk_pca **pca,
                                 int64_t *batches)
{
    if (pca != NULL) *pca = NULL;
    lrk_status status = lrki_config_check_call(config, adapters, pca);
    if (status != LRK_OK) return status;
    if (batches == NULL)
        return lrki_fail(config->context, LRK_ERR_ARGUMENT, "lrk_config_create_pca: batches is NULL");
    const lrki_settings *s = &config->settings;
    *batches = s->start == LRKI_START_EVA ? s->batches : 0;
    if (*batches == 0) return LRK_OK;
    return lrki_config_made(config, "start", lrk_pca_create(adapters, &s->pca, pca));
}

static lrk_eva_options eva_of(const lrk_config *config, const lrk_limit *limits)
{
    lrk_eva_options options = config->settings.eva;
    options.budget = config->settings.alora.budget;
    options.budget_unit = config->settings.alora.budget_unit;
    options.limits = limits;
    options.n_limits = config->n_limits;
    return options;
}

lrk_status lrk_config_settle_eva(const lrk_config *config, lrk_pca *pca, int64_t *open)
{
    lrk_status status = lrki_config_check_call(config, pca, open);
    if (status != LRK_OK) return status;
    lrk_limit *limits = lrki_config_limits(config);
    if (limits == NULL) return LRK_ERR_NOMEM;
    lrk_eva_options options = eva_of(config, limits);
    status = lrk_eva_settle(pca, &options, open);
    lrki_array_free(config->context, limits, config->n_limits, sizeof *limits);
    return lrki_config_made_with_limits(config, "start", status);
}

lrk_status lrk_config_plan_eva(const lrk_config *config, const lrk_pca *pca, int64_t step, lrk_plan **plan)
{
    if (plan != NULL) *plan = NULL;
    lrk_status status = lrki_config_check_call(config, pca, plan);
    if (status != LRK_OK) return status;
    lrk_limit *limits = lrki_config_limits(config);
    if (limits == NULL) return no_limits(pca->adapters, "lrk_eva_plan", plan);
    lrk_eva_options options = eva_of(config, limits);
    status = lrk_eva_plan(pca, &options, step, plan);
    lrki_array_free(config->context, limits, config->n_limits, sizeof *limits);
    return lrki_config_made_with_limits(config, "start", status);
}

/* ---- GeLoRA -------------------------------------------------------------------------------------------------------- */

lrk_status lrk_config_twonn(const lrk_config *config, lrk_twonn_options *options, int64_t *batches)
{
    lrk_status status = lrki_config_check_call(config, options, batches);
    if (status != LRK_OK) return status;
    const lrki_settings *s = &config->settings;
    *batches = s->start == LRKI_START_GELORA ? s->batches : 0;
    return lrki_struct_write(config->context, options, &s->twonn, sizeof s->twonn, "lrk_twonn_options");
}

lrk_status lrk_config_plan_gelora(const lrk_config *config, lrk_adapters *adapters, const double *dimensions,
                                  int64_t n, int64_t step, lrk_plan **plan)
{
    if (plan != NULL) *plan = NULL;
    lrk_status status = lrki_config_check_call(config, adapters, plan);
    if (status != LRK_OK) return status;
    lrk_limit *limits = lrki_config_limits(config);
    if (limits == NULL) return no_limits(adapters, "lrk_gelora_plan", plan);
    lrk_gelora_options options;
    (void)lrk_gelora_options_init(&options, sizeof options);
    options.limits = limits;
    options.n_limits = config->n_limits;
    status = lrk_gelora_plan(adapters, dimensions, n, &options, step, plan);
    lrki_array_free(config->context, limits, config->n_limits, sizeof *limits);
    return lrki_config_made_with_limits(config, "start", status);
}

/* ---- weights ------------------------------------------------------------------------------------------------------- */

lrk_status lrk_config_plan_weights(const lrk_config *config, lrk_adapters *adapters,
                                   int32_t (*weight)(void *user, int32_t module, lrk_weight *weight),
                                   void *user, int64_t step, lrk_plan **plan)
{
    if (plan != NULL) *plan = NULL;
    lrk_status status = lrki_config_check_call(config, adapters, plan);
    if (status != LRK_OK) return status;
    const lrki_settings *s = &config->settings;
    lrk_weight_start_options options = s->weight_start;
    if (s->start < LRKI_START_PISSA) return LRK_OK;
    options.method = s->start - LRKI_START_PISSA + LRK_WEIGHT_START_PISSA;
    options.seed = s->seed;
    options.weight = weight;
    options.user = user;
    return lrki_config_made(config, "start", lrk_weight_start_plan(adapters, &options, step, plan));
}

int32_t lrk_config_start_subtracts(const lrk_config *config)
{
    if (config == NULL) return 0;
    int32_t start = config->settings.start;
    return start == LRKI_START_LORA_GA || start == LRKI_START_PISSA || start == LRKI_START_OLORA;
}
