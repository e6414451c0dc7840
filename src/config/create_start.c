/* SPDX-License-Identifier: MIT */
/*
 * Section start into handles and plans: what a start is made of, and the plan, with budget and limits of section allocation.
 */
#include "config.h"

const char *lrk_config_start(const lrk_config *config)
{
    return config != NULL ? lrk_config_word("start.kind", config->settings.start) : NULL;
}

/* Batches that a start of that material looks at; 0: it is of another. */
static int64_t batches_of(const lrk_config *config, int32_t material)
{
    const lrki_settings *s = &config->settings;
    return lrki_start_chosen(s)->material == material ? s->batches : 0;
}

int64_t lrk_config_start_warmup(const lrk_config *config)
{
    return config != NULL && batches_of(config, LRKI_START_OF_GRADIENTS) > 0 ? config->settings.warmup : 0;
}

/* LRK_ERR_ARGUMENT if the start that was chosen is made of something else. */
static lrk_status check_material(const lrk_config *config, int32_t material, const char *call)
{
    if (lrki_start_chosen(&config->settings)->material == material) return LRK_OK;
    return lrki_fail(config->context, LRK_ERR_ARGUMENT, "%s is not for start.kind %s", call,
                     lrk_config_start(config));
}

/* The plan of the start that was chosen, from what the terms show: they get the rest. */
static lrk_status make_plan(const lrk_config *config, lrki_start_terms *terms, lrk_plan **plan)
{
    const lrki_settings *s = &config->settings;
    const lrki_start_kind *kind = lrki_start_chosen(s);
    lrk_limit *limits = lrki_config_limits(config);
    if (limits == NULL) /* a plan fails on all workers if it does on one, also before its own call is made */
        return lrki_plan_agree(config->context, "lrk_config_plan_start", LRK_ERR_NOMEM, NULL, plan);
    lrki_config_start_terms(s, limits, config->n_limits, terms);
    lrk_status status = kind->plan(terms, lrki_method_options_of(s, &kind->method), plan);
    lrki_array_free(config->context, limits, config->n_limits, sizeof *limits);
    return lrki_config_made_with_limits(config, "start", status);
}

/* ---- from gradients ------------------------------------------------------------------------------------------------ */

lrk_status lrk_config_create_sketch(const lrk_config *config, lrk_adapters *adapters, lrk_sketch **sketch,
                                    int64_t *batches)
{
    if (sketch != NULL) *sketch = NULL;
    lrk_status status = lrki_config_check_call(config, adapters, sketch);
    if (status != LRK_OK) return status;
    if (batches == NULL)
        return lrki_fail(config->context, LRK_ERR_ARGUMENT, "lrk_config_create_sketch: batches is NULL");
    *batches = batches_of(config, LRKI_START_OF_GRADIENTS);
    if (*batches == 0) return LRK_OK;
    lrk_sketch_options options = config->settings.sketch;
    options.seed = config->settings.seed;
    return lrki_config_made(config, "start", lrk_sketch_create(adapters, &options, sketch));
}

static lrk_status plan_gradients(const lrk_config *config, const char *call, lrki_start_terms *terms,
                                 lrk_plan **plan)
{
    if (plan != NULL) *plan = NULL;
    lrk_status status = lrki_config_check_call(config, terms->sketch, plan);
    if (status == LRK_OK) status = check_material(config, LRKI_START_OF_GRADIENTS, call);
    return status == LRK_OK ? make_plan(config, terms, plan) : status;
}

lrk_status lrk_config_plan_start(const lrk_config *config, const lrk_sketch *sketch, int64_t step,
                                 lrk_plan **plan)
{
    lrki_start_terms terms = {.sketch = sketch, .step = step};
    return plan_gradients(config, "lrk_config_plan_start", &terms, plan);
}

lrk_status lrk_config_plan_gradients(const lrk_config *config, const lrk_sketch *sketch,
                                     int32_t (*weight)(void *user, int32_t module, lrk_weight *weight),
                                     void *user, int64_t step, lrk_plan **plan)
{
    lrki_start_terms terms = {.sketch = sketch, .weight = weight, .user = user, .step = step};
    return plan_gradients(config, "lrk_config_plan_gradients", &terms, plan);
}

/* ---- from inputs --------------------------------------------------------------------------------------------------- */

lrk_status lrk_config_create_pca(const lrk_config *config, lrk_adapters *adapters, lrk_pca **pca,
                                 int64_t *batches)
{
    if (pca != NULL) *pca = NULL;
    lrk_status status = lrki_config_check_call(config, adapters, pca);
    if (status != LRK_OK) return status;
    if (batches == NULL)
        return lrki_fail(config->context, LRK_ERR_ARGUMENT, "lrk_config_create_pca: batches is NULL");
    *batches = batches_of(config, LRKI_START_OF_INPUTS);
    if (*batches == 0) return LRK_OK;
    return lrki_config_made(config, "start", lrk_pca_create(adapters, &config->settings.pca, pca));
}

lrk_status lrk_config_settle_eva(const lrk_config *config, lrk_pca *pca, int64_t *open)
{
    lrk_status status = lrki_config_check_call(config, pca, open);
    if (status == LRK_OK) status = check_material(config, LRKI_START_OF_INPUTS, "lrk_config_settle_eva");
    if (status != LRK_OK) return status;
    const lrki_settings *s = &config->settings;
    const lrki_start_kind *kind = lrki_start_chosen(s);
    lrk_limit *limits = lrki_config_limits(config);
    if (limits == NULL) return LRK_ERR_NOMEM;
    lrki_start_terms terms = {.pca = pca};
    lrki_config_start_terms(s, limits, config->n_limits, &terms);
    status = kind->settle(&terms, lrki_method_options_of(s, &kind->method), open);
    lrki_array_free(config->context, limits, config->n_limits, sizeof *limits);
    return lrki_config_made_with_limits(config, "start", status);
}

lrk_status lrk_config_plan_eva(const lrk_config *config, const lrk_pca *pca, int64_t step, lrk_plan **plan)
{
    if (plan != NULL) *plan = NULL;
    lrk_status status = lrki_config_check_call(config, pca, plan);
    if (status == LRK_OK) status = check_material(config, LRKI_START_OF_INPUTS, "lrk_config_plan_eva");
    if (status != LRK_OK) return status;
    lrki_start_terms terms = {.inputs = pca, .step = step};
    return make_plan(config, &terms, plan);
}

/* ---- from hidden states -------------------------------------------------------------------------------------------- */

lrk_status lrk_config_twonn(const lrk_config *config, lrk_twonn_options *options, int64_t *batches)
{
    lrk_status status = lrki_config_check_call(config, options, batches);
    if (status != LRK_OK) return status;
    const void *chosen = lrki_method_options_of(&config->settings, &lrki_start_gelora.method);
    *batches = batches_of(config, LRKI_START_OF_HIDDEN);
    return lrki_struct_write(config->context, options, chosen, sizeof *options, "lrk_twonn_options");
}

lrk_status lrk_config_plan_gelora(const lrk_config *config, lrk_adapters *adapters, const double *dimensions,
                                  int64_t n, int64_t step, lrk_plan **plan)
{
    if (plan != NULL) *plan = NULL;
    lrk_status status = lrki_config_check_call(config, adapters, plan);
    if (status == LRK_OK) status = check_material(config, LRKI_START_OF_HIDDEN, "lrk_config_plan_gelora");
    if (status != LRK_OK) return status;
    lrki_start_terms terms = {
        .adapters = adapters, .dimensions = dimensions, .n_dimensions = n, .step = step};
    return make_plan(config, &terms, plan);
}

/* ---- from weights -------------------------------------------------------------------------------------------------- */

lrk_status lrk_config_plan_weights(const lrk_config *config, lrk_adapters *adapters,
                                   int32_t (*weight)(void *user, int32_t module, lrk_weight *weight),
                                   void *user, int64_t step, lrk_plan **plan)
{
    if (plan != NULL) *plan = NULL;
    lrk_status status = lrki_config_check_call(config, adapters, plan);
    if (status != LRK_OK) return status;
    if (lrki_start_chosen(&config->settings)->material != LRKI_START_OF_WEIGHTS) return LRK_OK;
    lrki_start_terms terms = {.adapters = adapters, .weight = weight, .user = user, .step = step};
    return make_plan(config, &terms, plan);
}

int32_t lrk_config_start_subtracts(const lrk_config *config)
{
    return config != NULL && lrki_start_chosen(&config->settings)->subtracts;
}
