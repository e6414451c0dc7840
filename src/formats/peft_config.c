/* SPDX-License-Identifier: MIT */
/*
 * adapter_config.json. Only fields that PEFT has had since 0.6 are written, because older versions refuse unknown ones.
 *
 * rank_pattern has one entry a module, its key the module's full name. PEFT takes the first key that matches as a
 * regular expression at the end of the name, where a dot matches any character. Longer keys come first, and among
 * equally long ones those with fewer dots: a key can only match a name at least as long, and one equally long only if
 * it has a dot where the name has something else; so every name meets its own key first. (Versions before 0.15 never
 * match a full name and look it up when no other key fits: for them a name must not end in "." and another name.)
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "peft_parts.h"

bool lrki_peft_task_known(const char *task_type)
{
    static const char *const known[] = {"SEQ_CLS",   "SEQ_2_SEQ_LM", "CAUSAL_LM",
                                        "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i], task_type) == 0) return true;
    return false;
}

lrk_status lrki_peft_check_name(lrk_context *context, const char *name)
{
    size_t plain = strcspn(name, "\\^$*+?()[]{}|");
    if (name[plain] == '\0') return LRK_OK;
    return lrki_fail(context, LRK_ERR_UNSUPPORTED,
                     "module '%s': PEFT would take '%c' in its name for a regular expression", name,
                     name[plain]);
}

/* ---- order of patterns ---- */

static int64_t count_dots(const char *name)
{
    int64_t dots = 0;
    for (; *name != '\0'; name++)
        dots += *name == '.';
    return dots;
}

static int by_pattern(const void *left, const void *right)
{
    const lrki_peft_module *a = *(const lrki_peft_module *const *)left,
                           *b = *(const lrki_peft_module *const *)right;
    size_t length_a = strlen(a->name), length_b = strlen(b->name);
    if (length_a != length_b) return length_a > length_b ? -1 : 1;
    int64_t dots = count_dots(a->name) - count_dots(b->name);
    if (dots != 0) return dots < 0 ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

static lrki_json *rank_pattern(lrk_context *context, const lrki_peft_facts *facts)
{
    const lrki_peft_module **order = lrki_array(context, facts->n_live, sizeof *order);
    if (order == NULL) return NULL;
    for (int64_t i = 0; i < facts->n_live; i++)
        order[i] = &facts->live[i];
    qsort(order, (size_t)facts->n_live, sizeof *order, by_pattern);
    lrki_json *pattern = lrki_json_new_object();
    for (int64_t i = 0; i < facts->n_live; i++)
        lrki_json_put(&pattern, order[i]->name, lrki_json_new_integer(order[i]->rank));
    lrki_array_free(context, order, facts->n_live, sizeof *order);
    return pattern;
}

/* ---- writing ---- */

static lrki_json *alpha_json(double alpha)
{
    return alpha == floor(alpha) && alpha < 0x1p53 ? lrki_json_new_integer((int64_t)alpha)
                                                   : lrki_json_new_real(alpha);
}

static lrki_json *target_modules(const lrki_peft_facts *facts)
{
    lrki_json *targets = lrki_json_new_array();
    for (int64_t i = 0; i < facts->n_live; i++)
        lrki_json_append(&targets, lrki_json_new_text(facts->live[i].name));
    return targets;
}

lrk_status lrki_peft_config_print(lrk_context *context, const lrki_peft_facts *facts, lrki_bytes *text)
{
    lrki_json *config = lrki_json_new_object();
    lrki_json_put(&config, "alpha_pattern", lrki_json_new_object());
    lrki_json_put(&config, "auto_mapping", lrki_json_new_text(NULL));
    lrki_json_put(&config, "base_model_name_or_path", lrki_json_new_text(facts->base_model));
    lrki_json_put(&config, "bias", lrki_json_new_text("none"));
    lrki_json_put(&config, "fan_in_fan_out", lrki_json_new_boolean(facts->fan_in_fan_out));
    lrki_json_put(&config, "inference_mode", lrki_json_new_boolean(true));
    lrki_json_put(&config, "init_lora_weights", lrki_json_new_boolean(true));
    lrki_json_put(&config, "layers_pattern", lrki_json_new_text(NULL));
    lrki_json_put(&config, "layers_to_transform", lrki_json_new_text(NULL));
    lrki_json_put(&config, "lora_alpha", alpha_json(facts->alpha));
    lrki_json_put(&config, "lora_dropout", lrki_json_new_real(0));
    lrki_json_put(&config, "modules_to_save", lrki_json_new_text(NULL));
    lrki_json_put(&config, "peft_type", lrki_json_new_text("LORA"));
    lrki_json_put(&config, "r", lrki_json_new_integer(facts->greatest_rank));
    lrki_json_put(&config, "rank_pattern",
                  facts->is_uniform ? lrki_json_new_object() : rank_pattern(context, facts));
    lrki_json_put(&config, "revision", lrki_json_new_text(NULL));
    lrki_json_put(&config, "target_modules", target_modules(facts));
    lrki_json_put(&config, "task_type", lrki_json_new_text(facts->task_type));
    lrk_status status = lrki_json_print(context, config, 2, text);
    lrki_json_free(config);
    if (status == LRK_OK) text->data[text->n++] = '\n';
    return status;
}

/* ---- checking ---- */

static lrk_status fail_config(lrk_context *context, const char *path, const char *field)
{
    return lrki_fail(context, LRK_ERR_FORMAT, "%s: %s contradicts " LRKI_PEFT_MODEL, path, field);
}

static bool ranks_agree(const lrki_json *pattern, const lrki_peft_facts *facts)
{
    if (!lrki_json_is_object(pattern) || lrki_json_count(pattern) != facts->n_live) return false;
    for (int64_t i = 0; i < facts->n_live; i++) {
        int64_t rank;
        if (!lrki_json_integer(lrki_json_get(pattern, facts->live[i].name), &rank) ||
            rank != facts->live[i].rank)
            return false;
    }
    return true;
}

/* The order of the list is PEFT's own affair, so that the names are looked up among the ranks checked before. */
static bool targets_agree(const lrki_json *targets, const lrki_json *pattern)
{
    if (!lrki_json_is_array(targets) || lrki_json_count(targets) != lrki_json_count(pattern)) return false;
    for (int64_t i = 0; i < lrki_json_count(targets); i++) {
        const char *name = lrki_json_text(lrki_json_at(targets, i));
        if (name == NULL || lrki_json_get(pattern, name) == NULL) return false;
    }
    return true;
}

lrk_status lrki_peft_config_check(lrk_context *context, const char *path, const lrki_json *config,
                                  const lrki_peft_facts *facts)
{
    double alpha;
    bool rs_scale = false;
    const char *type = lrki_json_text(lrki_json_get(config, "peft_type"));
    const lrki_json *pattern = lrki_json_get(config, "rank_pattern");
    if (type == NULL || strcmp(type, "LORA") != 0)
        return lrki_fail(context, LRK_ERR_UNSUPPORTED, "%s: peft_type is not LORA", path);
    if (!lrki_json_number(lrki_json_get(config, "lora_alpha"), &alpha) || alpha != facts->alpha)
        return fail_config(context, path, "lora_alpha");
    if (!ranks_agree(pattern, facts)) return fail_config(context, path, "rank_pattern");
    if (!targets_agree(lrki_json_get(config, "target_modules"), pattern))
        return fail_config(context, path, "target_modules");
    if (lrki_json_count(lrki_json_get(config, "alpha_pattern")) != 0)
        return fail_config(context, path, "alpha_pattern");
    (void)lrki_json_boolean(lrki_json_get(config, "use_rslora"), &rs_scale);
    return rs_scale ? fail_config(context, path, "use_rslora") : LRK_OK;
}
