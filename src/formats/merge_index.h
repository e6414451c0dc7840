/* SPDX-License-Identifier: MIT */
/*
 * What a model's directory holds: one file, or an index and its shards; and the files beside them.
 */
#ifndef LRKI_MERGE_INDEX_H
#define LRKI_MERGE_INDEX_H

#include "file.h"
#include "lorank/safetensors.h"

#define LRKI_MODEL_FILE  "model.safetensors"
#define LRKI_MODEL_INDEX "model.safetensors.index.json"

typedef struct lrki_model_files {
    lrk_context *context;
    lrki_bytes text; /* of the index, NULL data without one */
    lrki_json *index;
    const lrki_json *map; /* weight_map */
    int64_t n;
    int64_t room;
    const char **names; /* of the files, each once, in the index's order */
} lrki_model_files;

/*
 * model.safetensors if it is there, else the index. LRK_ERR_NOT_FOUND, LRK_ERR_FORMAT. lrki_model_files_free() is right at
 * any time.
 */
lrk_status lrki_model_files_read(lrk_context *context, const char *directory, lrki_model_files *files);
/* LRK_ERR_FORMAT unless file i holds exactly the tensors that the index says. */
lrk_status lrki_model_files_check(const lrki_model_files *files, int64_t i, const lrk_safetensors *file);
void lrki_model_files_free(lrki_model_files *files);

/* Copies the regular files of a directory that are no weights. */
lrk_status lrki_model_copy_others(lrk_context *context, const char *from, const char *to);

#endif
