/* SPDX-License-Identifier: MIT */
/* Directories of models: model.safetensors, or the shards that model.safetensors.index.json names. */
#ifndef TOOL_MODEL_FOLDER_H
#define TOOL_MODEL_FOLDER_H

#include <stdbool.h>

/* Is it one, and no adapter? */
bool is_model_folder(const char *path);

/* Paths of its files, NULL after the last; NULL: said why. Shards come in the order in which the index first names them. */
char **model_shards(const char *command, const char *folder);
void model_shards_free(char **shards); /* NULL is ignored */

#endif
