/* SPDX-License-Identifier: MIT */
/*
 * Checkpoints, internal: the list of who takes part (checkpoint_list.c), the sections of a file and their bytes, and the
 * walk that a section's owner does over its state. The content of sections is their owners' (state.h of each layer);
 * here they are framed, checksummed and found.
 *
 *     header    magic [8], format u32, sections u32, bytes of the table u64, bytes of the file u64, 0 u32, checksum u32
 *     table     a section each: kind u32, flags u32, version u32, length of the name u32, bytes u64, name;  checksum u32
 *     sections  in the table's order: content, checksum u32
 */
#ifndef LRKI_CHECKPOINT_H
#define LRKI_CHECKPOINT_H

#include "../core/state.h"
#include "lorank/checkpoint.h"
#include "stream.h"

#define LRKI_CHECKPOINT_FORMAT   1u
#define LRKI_CHECKPOINT_MAGIC    "\x89LRK\r\n\x1a\n"
#define LRKI_CHECKPOINT_HEADER   40
#define LRKI_CHECKPOINT_ENTRY    24 /* without the name */
#define LRKI_CHECKPOINT_CHECKSUM 4
#define LRKI_CHECKPOINT_BUFFER   65536
#define LRKI_CHECKPOINT_PIECE    1048576 /* bytes read or written at once, between two calls of progress */
#define LRKI_NAME_MOST           255
#define LRKI_ORIGIN_MOST         512 /* bytes of a text that says who made the file */
#define LRKI_SECTION_VERSION     1   /* of every kind so far */

/* ---- the list -------------------------------------------------------------------------------------------------------- */

typedef struct lrki_item {
    int32_t kind; /* LRK_SECTION_... */
    char *name;
    union {
        lrk_adapters *adapters;
        lrk_optimizer *optimizer;
        lrk_estimator *estimator;
        lrk_allocator *allocator;
        lrk_schedule *schedule;
        const lrk_snapshot *snapshot;
        const lrk_scores *scores;
        const void *bytes; /* blob, configuration */
    } of;
    size_t n;      /* bytes */
    bool was_held; /* while it is saved: what its hold was before, see checkpoint_write.c */
} lrki_item;

/* What a restore left for the host to take. */
typedef struct lrki_left {
    int32_t kind; /* SNAPSHOT or SCORES */
    char *name;   /* NULL: taken */
    lrk_snapshot *snapshot;
    lrk_scores *scores;
} lrki_left;

struct lrk_checkpoint {
    lrk_context *context; /* counted */
    lrki_item *items;     /* [held], n of them in use */
    int64_t n;
    int64_t held;
    lrki_left *left; /* [n_left] */
    int64_t n_left;
    bool busy; /* inside a call that may run the host's writer, reader or progress */
};

/* "optimizer 'main'" into text; returns it. */
#define LRKI_TITLE_MOST (LRKI_NAME_MOST + 32)
const char *lrki_section_title(int32_t kind, const char *name, char text[LRKI_TITLE_MOST]);

/* LRK_ERR_ARGUMENT for NULL, LRK_ERR_BUSY inside a call with it. */
lrk_status lrki_checkpoint_enter(const lrk_checkpoint *checkpoint, const char *what);
/* The item, or NULL. */
const lrki_item *lrki_checkpoint_find(const lrk_checkpoint *checkpoint, int32_t kind, const char *name);
/* The listed set of that handle, or NULL. */
const lrki_item *lrki_checkpoint_set_of(const lrk_checkpoint *checkpoint, const lrk_adapters *adapters);
/* The set that an item was made from; NULL for kinds that have none. */
const lrk_adapters *lrki_item_adapters(const lrki_item *item);
void lrki_left_free(lrk_context *context, lrki_left *left, int64_t n);

/* What the caller's options say, over the defaults; flags beyond `flags` are refused. */
lrk_status lrki_checkpoint_options(lrk_context *context, const lrk_checkpoint_options *given, uint32_t flags,
                                   lrk_checkpoint_options *known);

/* ---- files ----------------------------------------------------------------------------------------------------------- */

typedef struct lrki_section {
    int32_t kind;
    uint32_t flags;
    uint32_t version;
    uint32_t checksum; /* saving: of the content, if host code may change it */
    char *name;
    uint64_t offset; /* of the content */
    uint64_t bytes;
} lrki_section;

/* How far a call that reads has come. */
typedef struct lrki_meter {
    lrki_progress progress;
    const char *what; /* "opening" */
    uint64_t done;
    uint64_t total;
} lrki_meter;

struct lrk_checkpoint_file {
    lrk_context *context; /* counted */
    lrki_source source;
    lrki_section *sections; /* [n_held], n of them read */
    int64_t n;
    int64_t n_held;
    uint32_t format;
    char *made_by;
    char *made_with;
    unsigned char *buffer; /* [LRKI_CHECKPOINT_BUFFER] */
    lrki_meter *meter;     /* of the call that reads; NULL: nobody counts */
    bool busy;             /* being restored: the buffer is in use */
};

/* Counts what was read and tells the host; LRK_ERR_CANCELLED if it wants no more. */
lrk_status lrki_checkpoint_count(const lrk_checkpoint_file *file, uint64_t bytes);

/* Reading one section through the file's buffer. */
typedef struct lrki_section_reader {
    const lrk_checkpoint_file *file;
    const lrki_section *section;
    uint64_t at;       /* of the next byte to hand out, from the section's start */
    uint64_t buffered; /* bytes of the section before the end of what the buffer holds */
    size_t in_buffer;
    uint32_t checksum; /* of what was handed out */
    char title[LRKI_TITLE_MOST];
} lrki_section_reader;

/* A state that loads the section. */
lrki_state lrki_section_begin(const lrk_checkpoint_file *file, const lrki_section *section,
                              lrki_section_reader *reader);
/* LRK_ERR_FORMAT unless everything was read and the checksum is right; else the state's own failure. */
lrk_status lrki_section_end(lrki_state *state);

/* Reads a section for its checksum alone. */
lrk_status lrki_section_verify(const lrk_checkpoint_file *file, const lrki_section *section);

const lrki_section *lrki_file_find(const lrk_checkpoint_file *file, int32_t kind, const char *name);
bool lrki_same_services(const lrk_checkpoint_file *file, const lrk_context *context);

#endif
