/* SPDX-License-Identifier: MIT */
/*
 * Opening a checkpoint: header, table, then every section's checksum, so that an opened file is sound. Lengths are compared
 * with the file before anything is allocated by them. What sections mean is found out when they are restored.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint.h"
#include "checksum.h"
#include "lorank/version.h"

static lrk_status fail_file(const lrk_checkpoint_file *file, const char *what)
{
    return lrki_fail(file->context, LRK_ERR_FORMAT, "%s: %s", file->source.name, what);
}

/* ---- header and table ------------------------------------------------------------------------------------------------------ */

static uint32_t u32_at(const unsigned char *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static uint64_t u64_at(const unsigned char *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

typedef struct header {
    uint64_t sections;
    uint64_t table; /* bytes */
    uint64_t total; /* bytes of the file */
} header;

static lrk_status read_header(lrk_checkpoint_file *file, header *h)
{
    unsigned char bytes[LRKI_CHECKPOINT_HEADER] = {0};
    uint64_t size = file->source.size;
    size_t n = size < sizeof bytes ? (size_t)size : sizeof bytes, magic = n < 8 ? n : 8;
    lrk_status status = lrki_source_read(&file->source, 0, bytes, n);
    if (status != LRK_OK) return status;
    if (n == 0) return fail_file(file, "the file is empty");
    if (memcmp(bytes, LRKI_CHECKPOINT_MAGIC, magic) != 0) return fail_file(file, "no checkpoint of lorank");
    if (n < sizeof bytes) return fail_file(file, "truncated: it ends within the header");
    if (u32_at(bytes + 36) != lrki_checksum(0, bytes, 36)) return fail_file(file, "the header is damaged");
    file->format = u32_at(bytes + 8);
    if (file->format != LRKI_CHECKPOINT_FORMAT)
        return lrki_fail(file->context, LRK_ERR_UNSUPPORTED, "%s: format %" PRIu32 ", this library reads %u",
                         file->source.name, file->format, LRKI_CHECKPOINT_FORMAT);
    *h = (header){u32_at(bytes + 12), u64_at(bytes + 16), u64_at(bytes + 24)};
    if (u32_at(bytes + 32) != 0 || h->table < LRKI_CHECKPOINT_CHECKSUM || h->total > INT64_MAX ||
        h->total < LRKI_CHECKPOINT_HEADER || h->table > h->total - LRKI_CHECKPOINT_HEADER ||
        h->sections > h->table / LRKI_CHECKPOINT_ENTRY)
        return fail_file(file, "the header contradicts itself");
    return size - LRKI_CHECKPOINT_HEADER < h->table ? fail_file(file, "truncated: it ends within the table")
                                                    : LRK_OK;
}

static bool is_twin(const lrk_checkpoint_file *file, const lrki_section *section)
{
    for (int64_t i = 0; i < file->n; i++)
        if (file->sections[i].kind == section->kind && strcmp(file->sections[i].name, section->name) == 0)
            return true;
    return false;
}

/* Reads the entry at `at` of a table whose entries end at `end`; *next is where the following one begins. */
static lrk_status read_entry(lrk_checkpoint_file *file, const unsigned char *table, uint64_t at, uint64_t end,
                             uint64_t *next)
{
    lrki_section *section = &file->sections[file->n];
    const unsigned char *entry = table + at;
    uint32_t length = end - at < LRKI_CHECKPOINT_ENTRY ? UINT32_MAX : u32_at(entry + 12);
    if (length > LRKI_NAME_MOST || length > end - at - LRKI_CHECKPOINT_ENTRY)
        return fail_file(file, "the table contradicts itself");
    if (memchr(entry + LRKI_CHECKPOINT_ENTRY, '\0', length) != NULL || u32_at(entry) > INT32_MAX)
        return fail_file(file, "a section has no proper name or kind");
    *section = (lrki_section){.kind = (int32_t)u32_at(entry),
                              .flags = u32_at(entry + 4),
                              .version = u32_at(entry + 8),
                              .bytes = u64_at(entry + 16)};
    section->name = lrki_alloc_zeroed(file->context, (size_t)length + 1);
    if (section->name == NULL) return lrki_fail_nomem(file->context, file->source.name);
    memcpy(section->name, entry + LRKI_CHECKPOINT_ENTRY, length);
    *next = at + LRKI_CHECKPOINT_ENTRY + length;
    bool twin = is_twin(file, section);
    file->n++;
    return twin ? fail_file(file, "two sections have one name") : LRK_OK;
}

static lrk_status read_table(lrk_checkpoint_file *file, const header *h, const unsigned char *table)
{
    uint64_t end = h->table - LRKI_CHECKPOINT_CHECKSUM, at = 0;
    if (u32_at(table + end) != lrki_checksum(0, table, (size_t)end))
        return fail_file(file, "the table is damaged");
    lrk_status status = LRK_OK;
    for (uint64_t i = 0; i < h->sections && status == LRK_OK; i++)
        status = read_entry(file, table, at, end, &at);
    if (status == LRK_OK && at != end) status = fail_file(file, "the table contradicts itself");
    return status;
}

static lrk_status load_table(lrk_checkpoint_file *file, const header *h)
{
    lrk_context *context = file->context;
    file->n_held = (int64_t)h->sections;
    file->sections = lrki_array(context, file->n_held, sizeof *file->sections);
    unsigned char *table = lrki_alloc(context, (size_t)h->table);
    lrk_status status = file->sections != NULL && table != NULL
                            ? lrki_source_read(&file->source, LRKI_CHECKPOINT_HEADER, table, (size_t)h->table)
                            : lrki_fail_nomem(context, file->source.name);
    if (status == LRK_OK) status = read_table(file, h, table);
    lrki_free(context, table, (size_t)h->table);
    return status;
}

/* Places the sections one after the other; the file must end with the last one. */
static lrk_status place_sections(lrk_checkpoint_file *file, const header *h)
{
    uint64_t at = LRKI_CHECKPOINT_HEADER + h->table;
    char title[LRKI_TITLE_MOST];
    for (int64_t i = 0; i < file->n; i++) {
        lrki_section *section = &file->sections[i];
        section->offset = at;
        if (section->bytes > h->total || h->total - at < section->bytes + LRKI_CHECKPOINT_CHECKSUM)
            return fail_file(file, "the table contradicts the header");
        at += section->bytes + LRKI_CHECKPOINT_CHECKSUM;
        if (at > file->source.size)
            return lrki_fail(file->context, LRK_ERR_FORMAT, "%s: truncated: it ends within %s",
                             file->source.name, lrki_section_title(section->kind, section->name, title));
    }
    if (at != h->total) return fail_file(file, "the table contradicts the header");
    return at == file->source.size ? LRK_OK : fail_file(file, "bytes are left over after the last section");
}

/* ---- origin ------------------------------------------------------------------------------------------------------------------ */

static char *read_text(const lrk_checkpoint_file *file, lrki_state *state)
{
    int64_t n = 0;
    lrki_state_within(state, "the length of a text", &n, 0, LRKI_ORIGIN_MOST);
    char bytes[LRKI_ORIGIN_MOST + 1] = "";
    lrki_state_bytes(state, bytes, (size_t)n);
    if (state->status != LRK_OK) return NULL;
    char *text = lrki_text_copy(file->context, bytes);
    if (text == NULL) (void)lrki_state_fail_nomem(state);
    return text;
}

static lrk_status read_origin(lrk_checkpoint_file *file)
{
    const lrki_section *section = lrki_file_find(file, LRK_SECTION_ORIGIN, "");
    lrki_section_reader reader;
    if (section == NULL) return fail_file(file, "it does not say who made it");
    lrki_state state = lrki_section_begin(file, section, &reader);
    file->made_by = read_text(file, &state);
    file->made_with = read_text(file, &state);
    return section->version > LRKI_SECTION_VERSION ? state.status : lrki_section_end(&state);
}

/* Whether services are described alike, words about memory and the number of threads aside: results never depend on them. */
static const char *next_word(const char *text, size_t *n)
{
    for (;; text += *n) {
        text += strspn(text, " ");
        *n = strcspn(text, " ");
        if (strncmp(text, "memory=", 7) != 0 && strncmp(text, "threads=", 8) != 0) return text;
    }
}

bool lrki_same_services(const lrk_checkpoint_file *file, const lrk_context *context)
{
    char services[LRKI_ORIGIN_MOST];
    (void)lrk_context_describe(context, services, sizeof services);
    const char *then = file->made_with, *now = services;
    size_t n, m;
    for (;; then += n, now += m) {
        then = next_word(then, &n);
        now = next_word(now, &m);
        if (n != m || strncmp(then, now, n) != 0) return false;
        if (n == 0) return true;
    }
}

/* ---- the file ---------------------------------------------------------------------------------------------------------------- */

static lrk_status verify_sections(lrk_checkpoint_file *file, const header *h,
                                  const lrk_checkpoint_options *options)
{
    lrki_meter meter = {{options->user, options->progress}, "opening", 0, h->total};
    file->meter = &meter;
    lrk_status status = lrki_checkpoint_count(file, LRKI_CHECKPOINT_HEADER + h->table);
    for (int64_t i = 0; i < file->n && status == LRK_OK; i++)
        status = lrki_section_verify(file, &file->sections[i]);
    file->meter = NULL;
    return status;
}

static lrk_status read_file(lrk_checkpoint_file *file, const lrk_checkpoint_options *options)
{
    header h = {0};
    file->buffer = lrki_alloc(file->context, LRKI_CHECKPOINT_BUFFER);
    if (file->buffer == NULL) return lrki_fail_nomem(file->context, file->source.name);
    lrk_status status = read_header(file, &h);
    if (status == LRK_OK) status = load_table(file, &h);
    if (status == LRK_OK) status = place_sections(file, &h);
    if (status == LRK_OK) status = verify_sections(file, &h, options);
    return status == LRK_OK ? read_origin(file) : status;
}

static lrk_status open_file(lrk_context *context, const char *path, const lrk_reader *reader,
                            const lrk_checkpoint_options *options, lrk_checkpoint_file **out)
{
    lrk_checkpoint_options known;
    if (out != NULL) *out = NULL;
    if (context == NULL) return LRK_ERR_ARGUMENT;
    if (out == NULL || (path == NULL && reader == NULL))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "opening a checkpoint: path, reader or file is NULL");
    lrk_status status = lrki_checkpoint_options(context, options, 0, &known);
    if (status != LRK_OK) return status;
    lrk_checkpoint_file *file = lrki_alloc_zeroed(context, sizeof *file);
    if (file == NULL) return lrki_fail_nomem(context, "a checkpoint");
    file->context = lrki_context_ref(context);
    status = path != NULL ? lrki_source_open(context, path, &file->source)
                          : lrki_source_reader(context, reader, &file->source);
    if (status == LRK_OK) status = read_file(file, &known);
    if (status == LRK_OK)
        *out = file;
    else
        lrk_checkpoint_close(file);
    return status;
}

lrk_status lrk_checkpoint_open(lrk_context *context, const char *path, const lrk_checkpoint_options *options,
                               lrk_checkpoint_file **file)
{
    return open_file(context, path, NULL, options, file);
}

lrk_status lrk_checkpoint_open_reader(lrk_context *context, const lrk_reader *reader,
                                      const lrk_checkpoint_options *options, lrk_checkpoint_file **file)
{
    return open_file(context, NULL, reader, options, file);
}

void lrk_checkpoint_close(lrk_checkpoint_file *file)
{
    if (file == NULL) return;
    lrk_context *context = file->context;
    for (int64_t i = 0; i < file->n; i++)
        lrki_text_free(context, file->sections[i].name);
    lrki_array_free(context, file->sections, file->n_held, sizeof *file->sections);
    lrki_text_free(context, file->made_by);
    lrki_text_free(context, file->made_with);
    lrki_free(context, file->buffer, LRKI_CHECKPOINT_BUFFER);
    lrki_source_close(&file->source);
    lrki_free(context, file, sizeof *file);
    lrki_context_unref(context);
}

/* ---- questions ---------------------------------------------------------------------------------------------------------------- */

const lrki_section *lrki_file_find(const lrk_checkpoint_file *file, int32_t kind, const char *name)
{
    for (int64_t i = 0; i < file->n; i++)
        if (file->sections[i].kind == kind && strcmp(file->sections[i].name, name) == 0)
            return &file->sections[i];
    return NULL;
}

lrk_status lrk_checkpoint_info_get(const lrk_checkpoint_file *file, lrk_checkpoint_info *info)
{
    if (file == NULL) return LRK_ERR_ARGUMENT;
    const lrk_checkpoint_info filled = {
        .flags = lrki_same_services(file, file->context) ? LRK_CHECKPOINT_SAME_SERVICES : 0,
        .format = file->format,
        .sections = file->n,
        .bytes = file->source.size,
        .made_by = file->made_by,
        .made_with = file->made_with};
    return lrki_struct_write(file->context, info, &filled, sizeof filled, "lrk_checkpoint_info");
}

lrk_status lrk_checkpoint_section_get(const lrk_checkpoint_file *file, int64_t i,
                                      lrk_checkpoint_section *section)
{
    if (file == NULL) return LRK_ERR_ARGUMENT;
    if (i < 0 || i >= file->n)
        return lrki_fail(file->context, LRK_ERR_ARGUMENT, "there is no section %" PRId64 " among %" PRId64, i,
                         file->n);
    const lrki_section *s = &file->sections[i];
    const lrk_checkpoint_section filled = {.flags = s->flags,
                                           .kind = s->kind,
                                           .version = (int32_t)s->version,
                                           .name = s->name,
                                           .offset = s->offset,
                                           .bytes = s->bytes};
    return lrki_struct_write(file->context, section, &filled, sizeof filled, "lrk_checkpoint_section");
}

static lrk_status read_bytes(lrk_checkpoint_file *file, int32_t kind, const char *name, void *data,
                             size_t capacity, size_t *n)
{
    char title[LRKI_TITLE_MOST];
    if (file == NULL) return LRK_ERR_ARGUMENT;
    if (name == NULL || n == NULL || (data == NULL && capacity > 0))
        return lrki_fail(file->context, LRK_ERR_ARGUMENT,
                         "reading from a checkpoint: name, data or n is NULL");
    *n = 0;
    if (file->busy)
        return lrki_fail(file->context, LRK_ERR_BUSY, "%s: it is being restored", file->source.name);
    const lrki_section *section = strlen(name) > LRKI_NAME_MOST ? NULL : lrki_file_find(file, kind, name);
    if (section == NULL)
        return lrki_fail(file->context, LRK_ERR_NOT_FOUND, "%s: there is no %s '%.255s'", file->source.name,
                         kind == LRK_SECTION_BLOB ? "blob" : "section", name);
    *n = (size_t)section->bytes;
    if (data == NULL) return LRK_OK;
    if (capacity < *n)
        return lrki_fail(file->context, LRK_ERR_SHAPE, "%s has %zu bytes, there is room for %zu",
                         lrki_section_title(kind, name, title), *n, capacity);
    lrki_section_reader reader;
    lrki_state state = lrki_section_begin(file, section, &reader);
    lrki_state_bytes(&state, data, *n);
    return lrki_section_end(&state);
}

lrk_status lrk_checkpoint_read_blob(lrk_checkpoint_file *file, const char *name, void *data, size_t capacity,
                                    size_t *n)
{
    return read_bytes(file, LRK_SECTION_BLOB, name, data, capacity, n);
}

lrk_status lrk_checkpoint_read_config(lrk_checkpoint_file *file, void *text, size_t capacity, size_t *n)
{
    return read_bytes(file, LRK_SECTION_CONFIG, "configuration", text, capacity, n);
}
