/* SPDX-License-Identifier: MIT */
/*
 * The metadata of a model file: PEFT's own key, and what PEFT's form cannot hold, under "lorank.".
 */
#include "lorank/version.h"
#include "peft_parts.h"

#include "../adapters/set.h"

static lrki_json *identities_json(const lrki_bank *bank)
{
    lrki_json *array = lrki_json_new_array();
    for (int64_t j = 0; j < bank->rank; j++)
        lrki_json_append(&array, lrki_json_new_integer((int64_t)bank->identities[j]));
    return array;
}

static lrki_json *births_json(const lrki_bank *bank)
{
    lrki_json *array = lrki_json_new_array();
    for (int64_t j = 0; j < bank->rank; j++)
        lrki_json_append(&array, lrki_json_new_integer(bank->births[j]));
    return array;
}

/* 17 digits of a double give a float back exactly. */
static lrki_json *gates_json(const lrki_bank *bank)
{
    lrki_json *array = lrki_json_new_array();
    for (int64_t j = 0; j < bank->rank; j++)
        lrki_json_append(&array, lrki_json_new_real((double)bank->gates[j]));
    return array;
}

static bool all_births_0(const lrki_bank *bank)
{
    for (int64_t j = 0; j < bank->rank; j++)
        if (bank->births[j] != 0) return false;
    return true;
}

static bool all_gates_1(const lrki_bank *bank)
{
    for (int64_t j = 0; j < bank->rank; j++)
        if (bank->gates[j] != 1) return false;
    return true;
}

static void put_unless(lrki_json **json, const char *key, int64_t value, int64_t usual)
{
    if (value != usual) lrki_json_put(json, key, lrki_json_new_integer(value));
}

/* What is as usual is left out: the metadata is parsed whole by whoever opens the file. */
static lrki_json *module_json(const lrki_module *module)
{
    const lrki_bank *bank = &module->bank;
    lrki_json *json = lrki_json_new_object();
    lrki_json_put(&json, "name", lrki_json_new_text(module->name));
    put_unless(&json, "flags", (int64_t)module->flags, 0);
    put_unless(&json, "kind", module->kind, LRK_KIND_LINEAR);
    put_unless(&json, "stage", module->stage, 0);
    put_unless(&json, "input_group", module->input_group, LRK_NO_GROUP);
    lrki_json_put(&json, "n_in", lrki_json_new_integer(module->n_in));
    lrki_json_put(&json, "n_out", lrki_json_new_integer(module->n_out));
    lrki_json_put(&json, "rank", lrki_json_new_integer(bank->rank));
    put_unless(&json, "initial_rank", module->initial_rank, bank->rank);
    lrki_json_put(&json, "scale", lrki_json_new_real(module->scale));
    lrki_json_put(&json, "identities", identities_json(bank));
    if (!all_births_0(bank)) lrki_json_put(&json, "births", births_json(bank));
    if (!all_gates_1(bank)) lrki_json_put(&json, "gates", gates_json(bank));
    return json;
}

/* Puts a tree as JSON text under a key of the metadata; takes the tree. */
static lrk_status put_text(lrk_context *context, lrki_json **metadata, const char *key, lrki_json *tree)
{
    lrki_bytes text;
    lrk_status status = lrki_json_print(context, tree, 0, &text);
    lrki_json_free(tree);
    if (status != LRK_OK) return status;
    lrki_json_put(metadata, key, lrki_json_new_text(text.data));
    lrki_bytes_free(context, &text);
    return LRK_OK;
}

static lrk_status put_folds(lrk_context *context, const lrki_peft_facts *facts, lrki_json **metadata)
{
    lrki_json *fold = lrki_json_new_object();
    for (int64_t i = 0; i < facts->n_live; i++) {
        lrk_status status = lrki_fold_describe(context, &facts->live[i], facts->alpha, &fold);
        if (status != LRK_OK) {
            lrki_json_free(fold);
            return status;
        }
    }
    return put_text(context, metadata, LRKI_KEY_FOLD, fold);
}

static lrk_status put_set(const lrk_adapters *adapters, const lrki_peft_facts *facts, lrki_json **metadata)
{
    lrk_context *context = adapters->context;
    lrki_json *set = lrki_json_new_object(), *modules = lrki_json_new_array();
    lrki_json_put(&set, "alpha", lrki_json_new_real(facts->alpha));
    lrki_json_put(&set, "next_identity", lrki_json_new_integer((int64_t)adapters->next_identity));
    for (int64_t i = 0; i < adapters->n_modules; i++)
        lrki_json_append(&modules, module_json(&adapters->modules[i]));
    lrki_json_put(metadata, LRKI_KEY_FORMAT, lrki_json_new_text(LRKI_FORMAT));
    lrki_json_put(metadata, LRKI_KEY_VERSION, lrki_json_new_text(lrk_version_text()));
    lrk_status set_status = put_text(context, metadata, LRKI_KEY_SET, set);
    lrk_status status = put_text(context, metadata, LRKI_KEY_MODULES, modules);
    if (status == LRK_OK) status = set_status;
    return status == LRK_OK ? put_folds(context, facts, metadata) : status;
}

lrk_status lrki_peft_metadata_make(const lrk_adapters *adapters, const lrki_peft_facts *facts, bool is_exact,
                                   lrki_json **metadata)
{
    *metadata = lrki_json_new_object();
    lrki_json_put(metadata, "format", lrki_json_new_text("pt"));
    lrk_status status = is_exact ? put_set(adapters, facts, metadata) : LRK_OK;
    if (status == LRK_OK) return LRK_OK;
    lrki_json_free(*metadata);
    *metadata = NULL;
    return status;
}
