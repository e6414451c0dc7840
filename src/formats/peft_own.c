/* SPDX-License-Identifier: MIT */
/*
 * Loading a PEFT adapter with lorank's own metadata, which says what the set is: every bit comes back. The tensors and
 * adapter_config.json must agree with it before anything is allocated by its numbers.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "loaded.h"
#include "lorank/safetensors.h"
#include "peft_parts.h"

#include "../adapters/filling.h"
#include "../kernels/lora.h"

typedef struct peft_reader {
    lrk_context *context;
    const char *name; /* of the model file, for details */
    const lrk_safetensors *file;
    lrki_json *set;
    lrki_json *modules;
    lrki_json *fold;
    int64_t n;
    lrk_module_spec *specs;
    int64_t *initial_ranks;
    lrki_peft_module *live; /* index: in the set */
    int64_t n_live;
    double alpha;
    int64_t next_identity;
} peft_reader;

static lrk_status fail_module(const peft_reader *reader, const char *name, const char *what)
{
    return lrki_fail(reader->context, LRK_ERR_FORMAT, "metadata " LRKI_KEY_MODULES ": module '%s': %s", name,
                     what);
}

/* ---- metadata ---- */

static lrk_status parse_key(const peft_reader *reader, const char *key, lrki_json **json)
{
    const char *text = lrk_safetensors_metadata(reader->file, key);
    if (text == NULL) return lrki_fail(reader->context, LRK_ERR_FORMAT, "metadata %s is missing", key);
    return lrki_json_parse(reader->context, text, strlen(text), key, json);
}

static lrk_status parse_metadata(peft_reader *reader)
{
    const char *format = lrk_safetensors_metadata(reader->file, LRKI_KEY_FORMAT);
    if (format == NULL)
        return lrki_fail(reader->context, LRK_ERR_FORMAT,
                         "%s: metadata " LRKI_KEY_FORMAT " is missing, others of lorank are not",
                         reader->name);
    if (strcmp(format, LRKI_FORMAT) != 0)
        return lrki_fail(reader->context, LRK_ERR_UNSUPPORTED,
                         "%s is of format %s, known here is " LRKI_FORMAT, reader->name, format);
    lrk_status status = parse_key(reader, LRKI_KEY_SET, &reader->set);
    if (status == LRK_OK) status = parse_key(reader, LRKI_KEY_MODULES, &reader->modules);
    if (status != LRK_OK) return status;
    if (!lrki_json_number(lrki_json_get(reader->set, "alpha"), &reader->alpha) || !(reader->alpha > 0) ||
        !lrki_json_integer(lrki_json_get(reader->set, "next_identity"), &reader->next_identity) ||
        reader->next_identity < 1)
        return lrki_fail(reader->context, LRK_ERR_FORMAT,
                         "metadata " LRKI_KEY_SET ": alpha or next_identity is wrong");
    return LRK_OK;
}

/* ---- modules ---- */

static bool integer_in(const lrki_json *object, const char *key, int64_t least, int64_t most, int64_t *value)
{
    return lrki_json_integer(lrki_json_get(object, key), value) && *value >= least && *value <= most;
}

/* The same of what may be left out, being as usual. */
static bool integer_or(const lrki_json *object, const char *key, int64_t least, int64_t most, int64_t usual,
                       int64_t *value)
{
    *value = usual;
    return lrki_json_get(object, key) == NULL || integer_in(object, key, least, most, value);
}

/* A misspelt field would count as left out. */
static bool only_known_fields(const lrki_json *json)
{
    static const char *const known[] = {"name",       "flags",  "kind", "stage",        "input_group",
                                        "n_in",       "n_out",  "rank", "initial_rank", "scale",
                                        "identities", "births", "gates"};
    int64_t n = 0;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        n += lrki_json_get(json, known[i]) != NULL;
    return n == lrki_json_count(json);
}

static bool read_spec(const lrki_json *json, lrk_module_spec *spec, int64_t *initial_rank)
{
    int64_t flags, kind, stage, group;
    (void)lrk_module_spec_init(spec, sizeof *spec);
    spec->name = lrki_json_text(lrki_json_get(json, "name"));
    if (spec->name == NULL || !only_known_fields(json) ||
        !integer_or(json, "flags", 0, UINT32_MAX, 0, &flags) ||
        !integer_or(json, "kind", 0, INT32_MAX, LRK_KIND_LINEAR, &kind) ||
        !integer_or(json, "stage", 0, INT32_MAX, 0, &stage) ||
        !integer_or(json, "input_group", LRK_NO_GROUP, INT32_MAX, LRK_NO_GROUP, &group) ||
        !integer_in(json, "n_in", 1, INT64_MAX, &spec->n_in) ||
        !integer_in(json, "n_out", 1, INT64_MAX, &spec->n_out) ||
        !integer_in(json, "rank", 0, INT64_MAX, &spec->rank) ||
        !integer_or(json, "initial_rank", 0, INT64_MAX, spec->rank, initial_rank) ||
        !lrki_json_number(lrki_json_get(json, "scale"), &spec->scale))
        return false;
    spec->flags = (uint32_t)flags;
    spec->kind = (int32_t)kind;
    spec->stage = (int32_t)stage;
    spec->input_group = (int32_t)group;
    return true;
}

static bool integers_from(const lrki_json *array, int64_t n, int64_t least, int64_t most)
{
    if (!lrki_json_is_array(array) || lrki_json_count(array) != n) return false;
    for (int64_t i = 0; i < n; i++) {
        int64_t value;
        if (!lrki_json_integer(lrki_json_at(array, i), &value) || value < least || value > most) return false;
    }
    return true;
}

/* Left out: all 0. */
static bool births_fit(const lrki_json *array, int64_t n)
{
    return array == NULL || integers_from(array, n, INT64_MIN, INT64_MAX);
}

/* Left out: all 1. */
static bool gates_fit(const lrki_json *array, int64_t n)
{
    if (array == NULL) return true;
    if (!lrki_json_is_array(array) || lrki_json_count(array) != n) return false;
    for (int64_t i = 0; i < n; i++) {
        double gate;
        if (!lrki_json_number(lrki_json_at(array, i), &gate) || !isfinite((float)gate)) return false;
    }
    return true;
}

static lrk_status read_module(peft_reader *reader, int64_t i)
{
    const lrki_json *json = lrki_json_at(reader->modules, i);
    lrk_module_spec *spec = &reader->specs[i];
    if (!read_spec(json, spec, &reader->initial_ranks[i]))
        return fail_module(reader, spec->name == NULL ? "?" : spec->name,
                           "a field is missing, unknown or out of range");
    if (!integers_from(lrki_json_get(json, "identities"), spec->rank, 1, reader->next_identity - 1) ||
        !births_fit(lrki_json_get(json, "births"), spec->rank) ||
        !gates_fit(lrki_json_get(json, "gates"), spec->rank))
        return fail_module(reader, spec->name, "identities, births or gates do not fit its rank");
    if (spec->rank > 0)
        reader->live[reader->n_live++] = (lrki_peft_module){.name = spec->name,
                                                            .index = (int32_t)i,
                                                            .n_in = spec->n_in,
                                                            .n_out = spec->n_out,
                                                            .rank = spec->rank,
                                                            .width = spec->rank,
                                                            .scale = spec->scale};
    return LRK_OK;
}

static lrk_status read_modules(peft_reader *reader)
{
    if (!lrki_json_is_array(reader->modules) || lrki_json_count(reader->modules) > INT32_MAX)
        return lrki_fail(reader->context, LRK_ERR_FORMAT,
                         "metadata " LRKI_KEY_MODULES " is not an array of modules");
    reader->n = lrki_json_count(reader->modules);
    reader->specs = lrki_array(reader->context, reader->n, sizeof *reader->specs);
    reader->initial_ranks = lrki_array(reader->context, reader->n, sizeof *reader->initial_ranks);
    reader->live = lrki_array(reader->context, reader->n, sizeof *reader->live);
    if (reader->specs == NULL || reader->initial_ranks == NULL || reader->live == NULL)
        return lrki_fail_nomem(reader->context, reader->name);
    lrk_status status = LRK_OK;
    for (int64_t i = 0; i < reader->n && status == LRK_OK; i++)
        status = read_module(reader, i);
    return status;
}

/* ---- agreement of metadata and tensors ---- */

static int by_value(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static int64_t gather_identities(const peft_reader *reader, int64_t *all)
{
    int64_t n = 0;
    for (int64_t i = 0; i < reader->n; i++) {
        const lrki_json *list = lrki_json_get(lrki_json_at(reader->modules, i), "identities");
        for (int64_t j = 0; j < lrki_json_count(list); j++)
            (void)lrki_json_integer(lrki_json_at(list, j), &all[n++]);
    }
    return n;
}

static lrk_status check_identities(const peft_reader *reader)
{
    int64_t n = 0;
    for (int64_t i = 0; i < reader->n; i++)
        n += reader->specs[i].rank; /* each is the length of a list in memory */
    int64_t *all = lrki_array(reader->context, n, sizeof *all);
    if (all == NULL) return lrki_fail_nomem(reader->context, "identities");
    qsort(all, (size_t)gather_identities(reader, all), sizeof *all, by_value);
    lrk_status status = LRK_OK;
    for (int64_t i = 1; i < n && status == LRK_OK; i++)
        if (all[i] == all[i - 1])
            status = lrki_fail(reader->context, LRK_ERR_FORMAT,
                               "metadata " LRKI_KEY_MODULES ": identity %" PRId64 " twice", all[i]);
    lrki_array_free(reader->context, all, n, sizeof *all);
    return status;
}

/* Index of the tensor of a module, checked to be rows x cols and convertible. */
static lrk_status find_tensor(const peft_reader *reader, const lrki_peft_module *module, const char *suffix,
                              int64_t rows, int64_t cols, int64_t *index)
{
    lrk_safetensors_tensor facts = {.struct_size = sizeof facts};
    char *name = lrki_peft_tensor_name(reader->context, module->name, suffix);
    if (name == NULL) return LRK_ERR_NOMEM;
    lrk_status status = lrk_safetensors_find(reader->file, name, index);
    if (status == LRK_OK) status = lrk_safetensors_get(reader->file, *index, &facts);
    if (status == LRK_ERR_NOT_FOUND)
        status = lrki_fail(reader->context, LRK_ERR_FORMAT, "%s: tensor '%s' is missing", reader->name, name);
    else if (status == LRK_OK && (facts.n_dims != 2 || facts.shape[0] != rows || facts.shape[1] != cols ||
                                  strcmp(facts.dtype, "F32") != 0))
        status = lrki_fail(reader->context, LRK_ERR_FORMAT,
                           "%s: tensor '%s' is not F32 of %" PRId64 " x %" PRId64 " as the metadata says",
                           reader->name, name, rows, cols);
    lrki_text_free(reader->context, name);
    return status;
}

static lrk_status check_tensors(const peft_reader *reader)
{
    int64_t index;
    for (int64_t i = 0; i < reader->n_live; i++) {
        const lrki_peft_module *m = &reader->live[i];
        lrk_status status = find_tensor(reader, m, LRKI_PEFT_A, m->rank, m->n_in, &index);
        if (status == LRK_OK) status = find_tensor(reader, m, LRKI_PEFT_B, m->n_out, m->rank, &index);
        if (status != LRK_OK) return status;
    }
    if (lrk_safetensors_count(reader->file) == 2 * reader->n_live) return LRK_OK;
    return lrki_fail(reader->context, LRK_ERR_FORMAT, "%s: tensors that the metadata does not know",
                     reader->name);
}

/* ---- values ---- */

static void fill_ranks(const lrki_json *json, lrki_module *module, int64_t initial_rank)
{
    for (int64_t j = 0; j < module->bank.rank; j++) {
        int64_t identity = 0;
        double gate = 1;
        (void)lrki_json_integer(lrki_json_at(lrki_json_get(json, "identities"), j), &identity);
        (void)lrki_json_integer(lrki_json_at(lrki_json_get(json, "births"), j), &module->bank.births[j]);
        (void)lrki_json_number(lrki_json_at(lrki_json_get(json, "gates"), j), &gate);
        module->bank.identities[j] = (uint64_t)identity;
        module->bank.gates[j] = (float)gate;
    }
    module->initial_rank = initial_rank;
}

enum { PIECE = 32768 }; /* values read at a time, so that they are looked at while a near cache has them */

/* Values [begin, begin + n) of a tensor, finite. */
static lrk_status read_piece(const peft_reader *reader, const lrki_peft_module *live, int64_t tensor,
                             int64_t begin, int64_t n, float *values)
{
    lrk_status status = lrk_safetensors_read_bytes(reader->file, tensor, (uint64_t)begin * sizeof *values,
                                                   values, (size_t)n * sizeof *values);
    if (status != LRK_OK || lrki_all_finite(values, n)) return status;
    return lrki_fail(reader->context, LRK_ERR_FORMAT, "%s: " LRKI_PEFT_PREFIX "%s: a value is not finite",
                     reader->name, live->name);
}

static lrk_status fill_a(const peft_reader *reader, const lrki_peft_module *live, float *a)
{
    int64_t tensor, n = live->rank * live->n_in;
    lrk_status status = find_tensor(reader, live, LRKI_PEFT_A, live->rank, live->n_in, &tensor);
    for (int64_t begin = 0; begin < n && status == LRK_OK; begin += PIECE)
        status = read_piece(reader, live, tensor, begin, lrki_smaller(n - begin, PIECE), a + begin);
    return status;
}

/* B' of PEFT, transposed. */
static lrk_status fill_folded(const peft_reader *reader, const lrki_peft_module *live, float *folded)
{
    int64_t tensor, rows = live->rank < PIECE ? PIECE / live->rank : 1, count = rows * live->rank;
    lrk_status status = find_tensor(reader, live, LRKI_PEFT_B, live->n_out, live->rank, &tensor);
    if (status != LRK_OK) return status;
    float *piece = lrki_array(reader->context, count, sizeof *piece);
    if (piece == NULL) return lrki_fail_nomem(reader->context, live->name);
    for (int64_t row = 0; row < live->n_out && status == LRK_OK; row += rows) {
        int64_t n = lrki_smaller(live->n_out - row, rows);
        status = read_piece(reader, live, tensor, row * live->rank, n * live->rank, piece);
        if (status == LRK_OK) lrki_fold_transpose(piece, live->rank, n, folded + row, live->n_out);
    }
    lrki_array_free(reader->context, piece, count, sizeof *piece);
    return status;
}

/* What folds to a finite value is finite. */
static lrk_status fill_values(const peft_reader *reader, lrki_peft_module *live, lrki_bank *bank)
{
    lrk_status status = fill_a(reader, live, bank->a);
    if (status == LRK_OK) status = fill_folded(reader, live, bank->b);
    live->gates = bank->gates;
    if (status != LRK_OK) return status;
    return lrki_fold_restore(reader->context, live, reader->alpha, lrki_json_get(reader->fold, live->name),
                             bank->b);
}

static lrk_status fill_set(peft_reader *reader, const lrk_adapters_options *options, lrk_adapters *adapters)
{
    lrki_filling filling = lrki_filling_begin(adapters, options, "loading");
    lrk_status status = parse_key(reader, LRKI_KEY_FOLD, &reader->fold);
    for (int64_t i = 0; i < reader->n; i++)
        fill_ranks(lrki_json_at(reader->modules, i), &adapters->modules[i], reader->initial_ranks[i]);
    for (int64_t i = 0; i < reader->n_live && status == LRK_OK; i++) {
        int32_t index = reader->live[i].index;
        status = fill_values(reader, &reader->live[i], &adapters->modules[index].bank);
        if (status == LRK_OK) status = lrki_filling_tell(&filling, index);
    }
    adapters->next_identity = (uint64_t)reader->next_identity;
    return status;
}

/* ---- the call ---- */

static lrk_status read_all(peft_reader *reader, const lrki_peft_files *files)
{
    lrk_status status = parse_metadata(reader);
    if (status == LRK_OK) status = read_modules(reader);
    if (status == LRK_OK) status = check_identities(reader);
    if (status == LRK_OK) status = check_tensors(reader);
    lrki_peft_facts facts = {.alpha = reader->alpha, .live = reader->live, .n_live = reader->n_live};
    if (status != LRK_OK) return status;
    return lrki_peft_config_check(reader->context, files->config_name, files->config, &facts);
}

static void reader_free(peft_reader *reader)
{
    lrki_array_free(reader->context, reader->specs, reader->n, sizeof *reader->specs);
    lrki_array_free(reader->context, reader->initial_ranks, reader->n, sizeof *reader->initial_ranks);
    lrki_array_free(reader->context, reader->live, reader->n, sizeof *reader->live);
    lrki_json_free(reader->set);
    lrki_json_free(reader->modules);
    lrki_json_free(reader->fold);
}

bool lrki_peft_is_own(const lrk_safetensors *model)
{
    for (int64_t i = 0; i < lrk_safetensors_metadata_count(model); i++) {
        const char *key, *value;
        (void)lrk_safetensors_metadata_get(model, i, &key, &value);
        if (strncmp(key, LRKI_KEYS, strlen(LRKI_KEYS)) == 0) return true;
    }
    return false;
}

lrk_status lrki_peft_own_load(const lrki_peft_files *files, const lrk_adapters_options *options,
                              lrk_adapters **adapters)
{
    peft_reader reader = {.context = files->context, .file = files->model, .name = files->model_name};
    lrk_status status = read_all(&reader, files);
    if (status == LRK_OK)
        status = lrki_adapters_create_unset(reader.context, reader.specs, reader.n, options, adapters);
    if (status == LRK_OK && lrki_loaded_wants_values(*adapters))
        status = lrki_loaded_end(fill_set(&reader, options, *adapters), adapters);
    reader_free(&reader);
    return status;
}
