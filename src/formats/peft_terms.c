/* SPDX-License-Identifier: MIT */
/*
 * What an adapter_config.json of another program says: the terms by which tensors become a delta, or the name of what
 * lorank does not compute. Fields that only concern training, the choice of modules or the base model's place are passed
 * over. A field that is not known here may be a feature of a later PEFT: it must be off (null, false, empty), or a mere
 * number, which is logged.
 */
#include <math.h>
#include <string.h>

#include "peft_parts.h"

#define RANK_DEFAULT         8 /* of PEFT's LoraConfig    */
#define ALPHA_DEFAULT        8
#define INIT_RANK_DEFAULT    12   /* of its AdaLoraConfig    */
#define RANK_NUM_REGULARISER 1e-5 /* its forward divides by ranknum + this */

static const char *const passed_over[] = {
    "task_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "target_modules",
    "exclude_modules",
    "lora_dropout",
    "fan_in_fan_out",
    "layers_to_transform",
    "layers_pattern",
    "megatron_core",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "qalora_group_size",
    "ensure_weight_tying",
    "runtime_config",
    "target_r",
    "tinit",
    "tfinal",
    "deltaT",
    "beta1",
    "beta2",
    "orth_reg_weight",
    "total_step",
};

static const char *const read_here[] = {
    "peft_type",     "r",          "init_r", "lora_alpha",        "rank_pattern",
    "alpha_pattern", "use_rslora", "bias",   "init_lora_weights",
};

/* Each changes what is computed when it is on. */
static const char *const features[] = {
    "use_dora",          "modules_to_save",   "lora_bias",       "trainable_token_indices",
    "target_parameters", "layer_replication", "megatron_config", "alora_invocation_tokens",
    "use_qalora",        "use_bdlora",        "arrow_config",    "velora_config",
    "monteclora_config", "kasa_config",
};

static bool is_among(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

#define IS_AMONG(names, name) is_among(names, sizeof(names) / sizeof(names)[0], name)

static lrk_status fail_field(lrk_context *context, lrk_status status, const char *file, const char *field,
                             const char *what)
{
    return lrki_fail(context, status, "%s: %s %s", file, field, what);
}

/* As Python sees it: null, false, 0, "", [] and {} are off. */
static bool is_off(const lrki_json *value)
{
    double number;
    bool on;
    const char *text = lrki_json_text(value);
    if (lrki_json_number(value, &number)) return number == 0;
    if (lrki_json_boolean(value, &on)) return !on;
    if (text != NULL) return text[0] == '\0';
    return lrki_json_is_null(value) || lrki_json_count(value) == 0;
}

/* ---- fields that must be off ---- */

static lrk_status check_field(lrk_context *context, const char *file, const char *field,
                              const lrki_json *value)
{
    double number;
    if (IS_AMONG(read_here, field) || IS_AMONG(passed_over, field) || is_off(value)) return LRK_OK;
    if (IS_AMONG(features, field))
        return fail_field(context, LRK_ERR_UNSUPPORTED, file, field,
                          "is a feature that lorank does not compute");
    if (!lrki_json_number(value, &number))
        return fail_field(context, LRK_ERR_UNSUPPORTED, file, field,
                          "is unknown here and on: it may change what is computed");
    lrki_log(context, LRK_LOG_WARNING, "%s: unknown field %s is not looked at", file, field);
    return LRK_OK;
}

static bool is_harmless_init(const lrki_json *value)
{
    static const char *const known[] = {"gaussian", "orthogonal", "eva"};
    bool on;
    const char *text = lrki_json_text(value);
    if (text != NULL) return IS_AMONG(known, text);
    return value == NULL || lrki_json_is_null(value) || lrki_json_boolean(value, &on);
}

static lrk_status check_features(lrk_context *context, const char *file, const lrki_json *config)
{
    const lrki_json *bias = lrki_json_get(config, "bias");
    const char *text = lrki_json_text(bias);
    if (bias != NULL && (text == NULL || strcmp(text, "none") != 0))
        return fail_field(context, LRK_ERR_UNSUPPORTED, file, "bias", "is not \"none\"");
    if (!is_harmless_init(lrki_json_get(config, "init_lora_weights")))
        return fail_field(context, LRK_ERR_UNSUPPORTED, file, "init_lora_weights",
                          "may change the weights of the base model");
    for (lrki_json_cursor c = lrki_json_first(config); c.at != NULL; c = lrki_json_next(config, c)) {
        lrk_status status = check_field(context, file, c.key, c.value);
        if (status != LRK_OK) return status;
    }
    return LRK_OK;
}

/* ---- values ---- */

static lrk_status read_rank(lrk_context *context, const char *file, const lrki_json *config,
                            const char *field, int64_t *rank)
{
    const lrki_json *value = lrki_json_get(config, field);
    if (value == NULL || (lrki_json_integer(value, rank) && *rank >= 1)) return LRK_OK;
    return fail_field(context, LRK_ERR_FORMAT, file, field, "is not an integer above 0");
}

static lrk_status read_alpha(lrk_context *context, const char *file, const lrki_json *config, double *alpha)
{
    const lrki_json *value = lrki_json_get(config, "lora_alpha");
    if (value == NULL || lrki_json_number(value, alpha)) return LRK_OK;
    return fail_field(context, LRK_ERR_FORMAT, file, "lora_alpha", "is not a number");
}

static lrk_status read_rslora(lrk_context *context, const char *file, const lrki_json *config, bool *on)
{
    const lrki_json *value = lrki_json_get(config, "use_rslora");
    if (value == NULL || lrki_json_is_null(value) || lrki_json_boolean(value, on)) return LRK_OK;
    return fail_field(context, LRK_ERR_FORMAT, file, "use_rslora", "is not a boolean");
}

static bool is_pattern_value(const char *field, const lrki_json *value)
{
    int64_t rank;
    double alpha;
    if (strcmp(field, "rank_pattern") == 0) return lrki_json_integer(value, &rank) && rank >= 1;
    return lrki_json_number(value, &alpha);
}

/* A pattern that is absent or null is empty. */
static lrk_status read_pattern(lrk_context *context, const char *file, const lrki_json *config,
                               const char *field, const lrki_json **pattern)
{
    *pattern = lrki_json_get(config, field);
    if (*pattern == NULL || lrki_json_is_null(*pattern)) return LRK_OK;
    if (!lrki_json_is_object(*pattern))
        return fail_field(context, LRK_ERR_FORMAT, file, field, "is not an object");
    for (lrki_json_cursor c = lrki_json_first(*pattern); c.at != NULL; c = lrki_json_next(*pattern, c)) {
        if (!lrki_peft_pattern_known(c.key))
            return lrki_fail(context, LRK_ERR_UNSUPPORTED,
                             "%s: %s: key '%s' is a regular expression beyond '.', '^', '$' and escapes",
                             file, field, c.key);
        if (!is_pattern_value(field, c.value))
            return lrki_fail(context, LRK_ERR_FORMAT, "%s: %s: the value of '%s' is none", file, field,
                             c.key);
    }
    return LRK_OK;
}

static lrk_status read_lora(lrk_context *context, const char *file, const lrki_json *config,
                            lrki_peft_terms *terms)
{
    terms->rank = RANK_DEFAULT;
    lrk_status status = read_rank(context, file, config, "r", &terms->rank);
    if (status == LRK_OK) status = read_rslora(context, file, config, &terms->is_rslora);
    if (status == LRK_OK)
        status = read_pattern(context, file, config, "alpha_pattern", &terms->alpha_pattern);
    if (status == LRK_OK) status = read_pattern(context, file, config, "rank_pattern", &terms->rank_pattern);
    return status;
}

/* PEFT's AdaLoRA passes over r, use_rslora and alpha_pattern, and takes an alpha of 0 or less for init_r. */
static lrk_status read_adalora(lrk_context *context, const char *file, const lrki_json *config,
                               lrki_peft_terms *terms)
{
    terms->rank = INIT_RANK_DEFAULT;
    lrk_status status = read_rank(context, file, config, "init_r", &terms->rank);
    if (status != LRK_OK) return status;
    const lrki_json *pattern = lrki_json_get(config, "rank_pattern");
    if (pattern != NULL && !lrki_json_is_null(pattern) && !lrki_json_is_object(pattern))
        return fail_field(context, LRK_ERR_FORMAT, file, "rank_pattern", "is not an object");
    terms->rank_pattern = lrki_json_is_object(pattern) ? pattern : NULL;
    if (!(terms->alpha > 0)) terms->alpha = (double)terms->rank;
    return LRK_OK;
}

lrk_status lrki_peft_terms_read(lrk_context *context, const char *file, const lrki_json *config,
                                lrki_peft_terms *terms)
{
    const char *type = lrki_json_text(lrki_json_get(config, "peft_type"));
    *terms = (lrki_peft_terms){.file = file, .alpha = ALPHA_DEFAULT};
    if (!lrki_json_is_object(config)) return lrki_fail(context, LRK_ERR_FORMAT, "%s: not an object", file);
    if (type == NULL)
        return fail_field(context, LRK_ERR_FORMAT, file, "peft_type", "is missing or not a string");
    terms->is_adalora = strcmp(type, "ADALORA") == 0;
    if (!terms->is_adalora && strcmp(type, "LORA") != 0)
        return lrki_fail(context, LRK_ERR_UNSUPPORTED, "%s: peft_type %s is neither LORA nor ADALORA", file,
                         type);
    lrk_status status = check_features(context, file, config);
    if (status == LRK_OK) status = read_alpha(context, file, config, &terms->alpha);
    if (status != LRK_OK) return status;
    return terms->is_adalora ? read_adalora(context, file, config, terms)
                             : read_lora(context, file, config, terms);
}

/* ---- a module's ---- */

static lrk_status fail_rank(lrk_context *context, const lrki_peft_terms *terms, const char *field,
                            const char *module, int64_t rank)
{
    return lrki_fail(context, LRK_ERR_FORMAT, "%s: %s contradicts the tensors of module '%s', of rank %lld",
                     terms->file, field, module, (long long)rank);
}

/* rank_pattern of AdaLoRA: "<module>.lora_E" -> which of the init_r directions were kept. */
static lrk_status check_kept(lrk_context *context, const lrki_peft_terms *terms, const char *module,
                             int64_t rank)
{
    int64_t n_kept = 0;
    size_t n = strlen(module) + sizeof ".lora_E";
    char *key = lrki_alloc(context, n);
    if (key == NULL) return lrki_fail_nomem(context, module);
    strcat(strcpy(key, module), ".lora_E");
    const lrki_json *kept = lrki_json_get(terms->rank_pattern, key);
    lrki_free(context, key, n);
    if (kept == NULL) return rank == terms->rank ? LRK_OK : fail_rank(context, terms, "init_r", module, rank);
    if (!lrki_json_is_array(kept) || lrki_json_count(kept) != terms->rank)
        return fail_rank(context, terms, "rank_pattern", module, rank);
    for (int64_t i = 0; i < terms->rank; i++) {
        bool is_kept;
        if (!lrki_json_boolean(lrki_json_at(kept, i), &is_kept))
            return fail_rank(context, terms, "rank_pattern", module, rank);
        n_kept += is_kept;
    }
    return n_kept == rank ? LRK_OK : fail_rank(context, terms, "rank_pattern", module, rank);
}

static lrk_status check_scale(lrk_context *context, const lrki_peft_terms *terms, const char *module,
                              double scale)
{
    if (isfinite(scale)) return LRK_OK;
    return lrki_fail(context, LRK_ERR_FORMAT, "%s: lora_alpha of module '%s' is out of range", terms->file,
                     module);
}

lrk_status lrki_peft_terms_scale(lrk_context *context, const lrki_peft_terms *terms, const char *module,
                                 int64_t rank, double *scale)
{
    int64_t stated = terms->rank;
    double alpha = terms->alpha;
    if (terms->is_adalora) {
        *scale = alpha / ((double)terms->rank + RANK_NUM_REGULARISER);
        lrk_status status = check_kept(context, terms, module, rank);
        return status == LRK_OK ? check_scale(context, terms, module, *scale) : status;
    }
    const lrki_json *own_rank = lrki_peft_pattern_get(terms->rank_pattern, module);
    (void)lrki_json_integer(own_rank, &stated);
    if (stated != rank)
        return fail_rank(context, terms, own_rank != NULL ? "rank_pattern" : "r", module, rank);
    (void)lrki_json_number(lrki_peft_pattern_get(terms->alpha_pattern, module), &alpha);
    *scale = alpha / (terms->is_rslora ? sqrt((double)rank) : (double)rank);
    return check_scale(context, terms, module, *scale);
}
