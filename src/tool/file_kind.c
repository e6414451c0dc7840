/* SPDX-License-Identifier: MIT */
#include "file_kind.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "model_folder.h"

#define MAGIC_BYTES      8
#define CHECKPOINT_MAGIC "\x89LRK\r\n\x1a\n"
#define HEADER_MOST      100000000 /* of a safetensors file: the format's limit */

/* Of a file's type; 0: it cannot be told. */
static mode_t type_of(const char *path)
{
    struct stat facts;
    return stat(path, &facts) == 0 ? facts.st_mode & S_IFMT : 0;
}

/* The header's text, freed by the caller; NULL: there is none. */
static char *header_of(FILE *file, const unsigned char *length)
{
    uint64_t n = 0;
    struct stat facts;
    for (int i = MAGIC_BYTES - 1; i >= 0; i--)
        n = n << 8 | length[i];
    if (n == 0 || n > HEADER_MOST || fstat(fileno(file), &facts) != 0 || n > (uint64_t)facts.st_size)
        return NULL;
    char *text = malloc((size_t)n + 1);
    if (text == NULL) return NULL;
    text[fread(text, 1, (size_t)n, file)] = '\0';
    return text;
}

/* Kohya's names, or any file of that format. A '"' ends a string of JSON, so that these are ends of names. */
static int safetensors_kind(FILE *file, const unsigned char *length)
{
    char *text = header_of(file, length);
    if (text == NULL) return FILE_UNKNOWN;
    bool is_kohya =
        strstr(text, ".lora_down.weight\"") != NULL || strstr(text, ".lora.down.weight\"") != NULL;
    int kind = is_kohya ? FILE_KOHYA : text[0] == '{' ? FILE_SAFETENSORS : FILE_UNKNOWN;
    free(text);
    return kind;
}

int file_kind_of(const char *path)
{
    unsigned char magic[MAGIC_BYTES] = "";
    mode_t type = type_of(path);
    if (type == S_IFDIR) return is_model_folder(path) ? FILE_MODEL : FILE_PEFT;
    if (type != S_IFREG) return FILE_UNKNOWN; /* opening a FIFO would wait for its writer */
    FILE *file = fopen(path, "rb");
    if (file == NULL) return FILE_UNKNOWN;
    int kind = FILE_UNKNOWN;
    size_t n = fread(magic, 1, sizeof magic, file);
    if (n >= 4 && memcmp(magic, "GGUF", 4) == 0)
        kind = FILE_GGUF;
    else if (n == MAGIC_BYTES && memcmp(magic, CHECKPOINT_MAGIC, MAGIC_BYTES) == 0)
        kind = FILE_CHECKPOINT;
    else if (n == MAGIC_BYTES)
        kind = safetensors_kind(file, magic);
    fclose(file);
    return kind;
}

const char *file_kind_name(int kind)
{
    static const char *const names[] = {"unknown",    "peft",        "gguf", "kohya",
                                        "checkpoint", "safetensors", "model"};
    return names[kind];
}
