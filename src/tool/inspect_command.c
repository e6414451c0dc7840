/* SPDX-License-Identifier: MIT */
/* lorank inspect: what is in a file, of whatever format. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "adapter_file.h"
#include "model_folder.h"

static const char help[] =
    "usage: lorank inspect PATH [--norms] [--json]\n"
    "\n"
    "PATH is a PEFT directory, a GGUF adapter, a kohya file, a checkpoint, any safetensors file, or a "
    "model's\n"
    "directory with one or with shards and their index; its content tells which. All bytes of a\n"
    "checkpoint are read, and verified.\n"
    "\n"
    "  --norms   the Frobenius norm of each update, and its effective rank: exp of the entropy of its\n"
    "            singular values over their sum (Roy and Vetterli 2007); values are read for this alone\n"
    "  --json    the same as JSON\n" ADAPTER_READ_HELP;

typedef struct inspection {
    const command_run *run;
    const char *path;
    bool norms;
    bool json;
    FILE *out;
} inspection;

/* A line of words and a text of the file; none if there is no text. */
static void print_named(const inspection *look, const char *words, const char *text)
{
    if (text == NULL) return;
    fputs(words, look->out);
    command_text(look->out, text, 0);
    fputc('\n', look->out);
}

/* ---- adapters ---- */

typedef struct facts {
    lrk_module_info info;
    int64_t rank;
    double norm;
    double effective_rank;
} facts;

typedef struct totals {
    int64_t modules;
    int64_t ranks;
    int64_t parameters;
} totals;

/* No rank lives in an outline. */
static int64_t rank_of(const inspection *look, const lrk_module_info *info)
{
    return look->norms ? info->rank : info->initial_rank;
}

static totals totals_of(const inspection *look, const lrk_adapters *set)
{
    lrk_module_info info = {.struct_size = sizeof info};
    totals all = {0};
    for (; lrk_adapters_module(set, (int32_t)all.modules, &info) == LRK_OK; all.modules++) {
        all.ranks += rank_of(look, &info);
        all.parameters += rank_of(look, &info) * (info.n_in + info.n_out);
    }
    return all;
}

static double effective_rank(const double *values, int64_t n)
{
    double sum = 0, entropy = 0;
    for (int64_t j = 0; j < n; j++)
        sum += values[j];
    for (int64_t j = 0; j < n && sum > 0; j++) {
        double share = values[j] / sum;
        if (share > 0) entropy -= share * log(share);
    }
    return sum > 0 ? exp(entropy) : 0;
}

/* Norm and effective rank, of the singular values. */
static bool add_norms(const inspection *look, const lrk_adapters *set, int32_t module, facts *f)
{
    double *values = calloc((size_t)f->rank + 1, sizeof *values);
    if (values == NULL) {
        (void)command_say(look->run->command, "out of memory");
        return false;
    }
    lrk_status status = lrk_module_spectrum(set, module, values, f->rank);
    for (int64_t j = 0; j < f->rank; j++)
        f->norm = hypot(f->norm, values[j]);
    f->effective_rank = effective_rank(values, f->rank);
    free(values);
    if (status != LRK_OK) (void)command_fail(look->run);
    return status == LRK_OK;
}

static bool facts_of(const inspection *look, const lrk_adapters *set, int32_t module, facts *f)
{
    *f = (facts){.info = {.struct_size = sizeof f->info}};
    if (lrk_adapters_module(set, module, &f->info) != LRK_OK) {
        (void)command_fail(look->run);
        return false;
    }
    f->rank = rank_of(look, &f->info);
    return !look->norms || add_norms(look, set, module, f);
}

static void print_module(const inspection *look, const facts *f)
{
    command_text(look->out, f->info.name, 52);
    fprintf(look->out, " %6" PRId64 " %7" PRId64 " %7" PRId64 " %10.5g", f->rank, f->info.n_in, f->info.n_out,
            f->info.scale);
    if (look->norms) fprintf(look->out, " %12.6g %9.2f", f->norm, f->effective_rank);
    fputc('\n', look->out);
}

static void print_module_json(const inspection *look, const facts *f)
{
    fputs("{\"name\":", look->out);
    command_json_text(look->out, f->info.name);
    fprintf(look->out, ",\"rank\":%" PRId64 ",\"n_in\":%" PRId64 ",\"n_out\":%" PRId64 ",\"scale\":", f->rank,
            f->info.n_in, f->info.n_out);
    command_json_real(look->out, f->info.scale);
    if (look->norms) {
        fputs(",\"norm\":", look->out);
        command_json_real(look->out, f->norm);
        fputs(",\"effective_rank\":", look->out);
        command_json_real(look->out, f->effective_rank);
    }
    fputc('}', look->out);
}

static void print_adapter_head(const inspection *look, const adapter *a, const totals *all)
{
    if (look->json) {
        fprintf(look->out, "{\"format\":\"%s\",\"modules\":[\n", file_kind_name(a->kind));
        return;
    }
    fprintf(look->out, "%s: %s adapter, %" PRId64 " modules, %" PRId64 " ranks, %" PRId64 " parameters\n",
            look->path, file_kind_name(a->kind), all->modules, all->ranks, all->parameters);
    print_named(look, "base model: ", a->base_model);
    fprintf(look->out, "%-52s %6s %7s %7s %10s%s\n", "module", "rank", "n_in", "n_out", "scale",
            look->norms ? "         norm effective" : "");
}

static void print_adapter_foot(const inspection *look, const adapter *a, const totals *all)
{
    if (!look->json) return;
    fprintf(look->out, "\n],\"ranks\":%" PRId64 ",\"parameters\":%" PRId64 ",\"base_model\":", all->ranks,
            all->parameters);
    if (a->base_model != NULL)
        command_json_text(look->out, a->base_model);
    else
        fputs("null", look->out);
    fputs("}\n", look->out);
}

static bool inspect_adapter(const inspection *look, const adapter *a)
{
    const totals all = totals_of(look, a->set);
    print_adapter_head(look, a, &all);
    for (int32_t m = 0; m < all.modules; m++) {
        facts f;
        if (!facts_of(look, a->set, m, &f)) return false;
        if (look->json && m > 0) fputs(",\n", look->out);
        (look->json ? print_module_json : print_module)(look, &f);
    }
    print_adapter_foot(look, a, &all);
    return true;
}

/* ---- checkpoints ---- */

static void print_section(const inspection *look, const lrk_checkpoint_section *s, int64_t i)
{
    static const char *const kinds[] = {"?",         "origin",    "config",    "adapters",
                                        "optimizer", "estimator", "allocator", "schedule",
                                        "snapshot",  "scores",    "blob"};
    const char *kind = s->kind >= 1 && s->kind <= LRK_SECTION_BLOB ? kinds[s->kind] : kinds[0];
    if (!look->json) {
        fprintf(look->out, "%-12s ", kind);
        command_text(look->out, s->name, 32);
        fprintf(look->out, " %8" PRId32 " %14" PRIu64 "\n", s->version, s->bytes);
        return;
    }
    fprintf(look->out,
            "%s{\"kind\":\"%s\",\"version\":%" PRId32 ",\"bytes\":%" PRIu64 ",\"name\":", i > 0 ? ",\n" : "",
            kind, s->version, s->bytes);
    command_json_text(look->out, s->name);
    fputc('}', look->out);
}

static void print_checkpoint_head(const inspection *look, const lrk_checkpoint_info *info)
{
    if (!look->json) {
        fprintf(look->out, "%s: checkpoint of format %" PRIu32 ", %" PRIu64 " bytes", look->path,
                info->format, info->bytes);
        print_named(look, ", made by ", info->made_by);
        print_named(look, "with ", info->made_with);
        fprintf(look->out, "%-12s %-32s %8s %14s\n", "section", "name", "version", "bytes");
        return;
    }
    fprintf(look->out,
            "{\"format\":\"checkpoint\",\"version\":%" PRIu32 ",\"bytes\":%" PRIu64 ",\"made_by\":",
            info->format, info->bytes);
    command_json_text(look->out, info->made_by);
    fputs(",\"made_with\":", look->out);
    command_json_text(look->out, info->made_with);
    fputs(",\"sections\":[\n", look->out);
}

static bool inspect_checkpoint(const inspection *look)
{
    lrk_checkpoint_file *file;
    lrk_checkpoint_options options;
    command_progress progress = command_progress_new(false, "MB", 1e-6);
    (void)lrk_checkpoint_options_init(&options, sizeof options);
    options.user = &progress;
    options.progress = command_progress_show;
    lrk_checkpoint_info info = {.struct_size = sizeof info};
    lrk_status status = lrk_checkpoint_open(look->run->context, look->path, &options, &file);
    command_progress_end(&progress);
    if (status == LRK_OK) status = lrk_checkpoint_info_get(file, &info);
    if (status == LRK_OK) print_checkpoint_head(look, &info);
    for (int64_t i = 0; i < info.sections && status == LRK_OK; i++) {
        lrk_checkpoint_section section = {.struct_size = sizeof section};
        status = lrk_checkpoint_section_get(file, i, &section);
        if (status == LRK_OK) print_section(look, &section, i);
    }
    if (look->json) fputs("\n]}\n", look->out);
    lrk_checkpoint_close(file);
    if (status != LRK_OK) (void)command_fail(look->run);
    return status == LRK_OK;
}

/* ---- other safetensors files ---- */

static void print_tensor(const inspection *look, const lrk_safetensors_tensor *t, int64_t i)
{
    bool has_shape = t->n_dims <= LRK_SAFETENSORS_MAX_DIMS;
    if (look->json) {
        fprintf(look->out, "%s{\"name\":", i > 0 ? ",\n" : "");
        command_json_text(look->out, t->name);
        fprintf(look->out, ",\"dtype\":\"%s\",\"bytes\":%zu,\"shape\":[", t->dtype, t->bytes);
    } else {
        command_text(look->out, t->name, 60);
        fprintf(look->out, " %-8s %14zu  [", t->dtype, t->bytes);
    }
    for (int32_t d = 0; d < t->n_dims && has_shape; d++)
        fprintf(look->out, "%s%" PRId64, d > 0 ? "," : "", t->shape[d]);
    fputs(look->json ? "]}" : "]\n", look->out);
}

/* Values can be files of their own: the beginning is enough here. */
static void print_metadata_line(const inspection *look, const char *key, const char *value)
{
    char beginning[201];
    snprintf(beginning, sizeof beginning, "%s", value);
    fputs("metadata ", look->out);
    command_text(look->out, key, 0);
    print_named(look, ": ", beginning);
}

static void print_metadata(const inspection *look, const lrk_safetensors *file, uint64_t bytes)
{
    const char *key, *value;
    int64_t n = lrk_safetensors_metadata_count(file);
    fprintf(look->out,
            look->json ? "\n],\"bytes\":%" PRIu64 ",\"metadata\":{" : "total of tensors: %" PRIu64 " bytes\n",
            bytes);
    for (int64_t i = 0; i < n && lrk_safetensors_metadata_get(file, i, &key, &value) == LRK_OK; i++) {
        if (!look->json) {
            print_metadata_line(look, key, value);
            continue;
        }
        if (i > 0) fputc(',', look->out);
        command_json_text(look->out, key);
        fputc(':', look->out);
        command_json_text(look->out, value);
    }
    if (look->json) fputs("}}\n", look->out);
}

static bool inspect_safetensors(const inspection *look, const char *path)
{
    lrk_safetensors *file;
    if (lrk_safetensors_open(look->run->context, path, &file) != LRK_OK) {
        (void)command_fail(look->run);
        return false;
    }
    uint64_t bytes = 0;
    int64_t n = lrk_safetensors_count(file);
    if (look->json)
        fputs("{\"format\":\"safetensors\",\"tensors\":[\n", look->out);
    else
        fprintf(look->out, "%s: safetensors, %" PRId64 " tensors\n%-60s %-8s %14s  shape\n", path, n,
                "tensor", "dtype", "bytes");
    for (int64_t i = 0; i < n; i++) {
        lrk_safetensors_tensor tensor = {.struct_size = sizeof tensor};
        if (lrk_safetensors_get(file, i, &tensor) != LRK_OK) continue;
        print_tensor(look, &tensor, i);
        bytes += tensor.bytes;
    }
    print_metadata(look, file, bytes);
    lrk_safetensors_close(file);
    return true;
}

/* ---- directories of models ---- */

static bool inspect_model(const inspection *look)
{
    char **shards = model_shards(look->run->command, look->path);
    bool done = shards != NULL;
    if (done && look->json) fputs("{\"format\":\"model\",\"files\":[\n", look->out);
    for (int64_t i = 0; done && shards[i] != NULL; i++) {
        if (look->json && i > 0) fputs(",\n", look->out);
        done = inspect_safetensors(look, shards[i]);
    }
    if (look->json) fputs("]}\n", look->out);
    model_shards_free(shards);
    return done;
}

/* ---- the command ---- */

static bool inspect(const inspection *look, const adapter_options *options)
{
    int kind = file_kind_of(look->path);
    adapter read;
    if (kind == FILE_MODEL) return inspect_model(look);
    if (kind == FILE_CHECKPOINT) return inspect_checkpoint(look);
    if (kind == FILE_SAFETENSORS || kind == FILE_UNKNOWN) return inspect_safetensors(look, look->path);
    bool done = adapter_read(look->run, look->path, options, &read) && inspect_adapter(look, &read);
    adapter_free(&read);
    return done;
}

int inspect_command(int argc, char **argv)
{
    const char *path = NULL, *norms = NULL, *json = NULL;
    char *text = NULL;
    size_t n = 0;
    adapter_options options = {0};
    const command_option table[] = {COMMAND_FLAG("--norms", &norms), COMMAND_FLAG("--json", &json),
                                    ADAPTER_READ_OPTIONS(options)};
    const command_line line = {"inspect", help, table, sizeof table / sizeof table[0], {&path}, 1};
    command_run run;
    int status = 2;
    if (!command_parse(&line, argc, argv, &status)) return status;
    if (!adapter_read_check(line.command, &options)) return 2;
    if (!command_begin(&run, line.command)) return 1;
    inspection look = {&run, path, norms != NULL, json != NULL, open_memstream(&text, &n)};
    options.outline = norms == NULL;
    if (look.out == NULL) {
        status = command_say(line.command, "out of memory");
    } else if (inspect(&look, &options)) {
        status = command_print(line.command, look.out, &text, &n);
    } else {
        status = 1;
        fclose(look.out);
        free(text);
    }
    command_end(&run);
    return status;
}
