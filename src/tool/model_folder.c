/* SPDX-License-Identifier: MIT */
#include "model_folder.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "command.h"

#define ADAPTER "adapter_config.json"
#define SINGLE  "model.safetensors"
#define INDEX   "model.safetensors.index.json"

static char *join(const char *folder, const char *name)
{
    size_t n = strlen(folder) + strlen(name) + 2;
    char *path = malloc(n);
    if (path != NULL) snprintf(path, n, "%s/%s", folder, name);
    return path;
}

static bool has(const char *folder, const char *name)
{
    struct stat facts;
    char *path = join(folder, name);
    bool is_there = path != NULL && stat(path, &facts) == 0 && S_ISREG(facts.st_mode);
    free(path);
    return is_there;
}

bool is_model_folder(const char *path)
{
    return !has(path, ADAPTER) && (has(path, SINGLE) || has(path, INDEX));
}

/* A shard lies beside its index, whatever the index says. */
static bool is_shard(const char *name)
{
    return name != NULL && name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL;
}

static bool add(char **shards, size_t *n, const char *folder, const char *name)
{
    char *path = join(folder, name);
    for (size_t i = *n; path != NULL && i > 0; i--) /* an index names a shard many times in a row */
        if (strcmp(shards[i - 1], path) == 0) {
            free(path);
            return true;
        }
    shards[(*n)++] = path;
    return path != NULL;
}

static bool list(char **shards, const char *command, const char *folder, const json_t *map)
{
    size_t n = 0;
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (!is_shard(name)) {
            (void)command_say(command, "%s/" INDEX ": tensor '%s' is in no file beside it", folder, tensor);
            return false;
        }
        if (!add(shards, &n, folder, name)) {
            (void)command_say(command, "out of memory");
            return false;
        }
    }
    return true;
}

static json_t *read_index(const char *command, const char *folder)
{
    json_error_t error;
    char *path = join(folder, INDEX);
    json_t *index = path != NULL ? json_load_file(path, JSON_REJECT_DUPLICATES, &error) : NULL;
    if (path == NULL)
        (void)command_say(command, "out of memory");
    else if (index == NULL)
        (void)command_say(command, "%s: %s", path, error.text);
    free(path);
    return index;
}

static char **shards_of(const char *command, const char *folder, const json_t *index)
{
    const json_t *map = json_object_get(index, "weight_map");
    if (json_object_size(map) == 0) {
        (void)command_say(command, "%s/" INDEX ": weight_map is missing or empty", folder);
        return NULL;
    }
    char **shards = calloc(json_object_size(map) + 1, sizeof *shards);
    if (shards == NULL) (void)command_say(command, "out of memory");
    if (shards == NULL || list(shards, command, folder, map)) return shards;
    model_shards_free(shards);
    return NULL;
}

char **model_shards(const char *command, const char *folder)
{
    if (has(folder, SINGLE)) {
        size_t n = 0;
        char **shards = calloc(2, sizeof *shards);
        if (shards != NULL && add(shards, &n, folder, SINGLE)) return shards;
        free(shards);
        (void)command_say(command, "out of memory");
        return NULL;
    }
    json_t *index = read_index(command, folder);
    char **shards = index != NULL ? shards_of(command, folder, index) : NULL;
    json_decref(index);
    return shards;
}

void model_shards_free(char **shards)
{
    for (size_t i = 0; shards != NULL && shards[i] != NULL; i++)
        free(shards[i]);
    free(shards);
}
