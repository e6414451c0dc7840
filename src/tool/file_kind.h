/* SPDX-License-Identifier: MIT */
/* Which format a path holds, told by its content. */
#ifndef TOOL_FILE_KIND_H
#define TOOL_FILE_KIND_H

#define FILE_UNKNOWN     0
#define FILE_PEFT        1 /* a directory with adapter_config.json */
#define FILE_GGUF        2
#define FILE_KOHYA       3
#define FILE_CHECKPOINT  4
#define FILE_SAFETENSORS 5 /* any other file of that format */
#define FILE_MODEL       6 /* a directory with model.safetensors, or with the index of its shards */

/*
 * FILE_..., of what is at `path`; FILE_UNKNOWN if it cannot be read or is none of them: opening it then says why. A
 * safetensors file is told by the text of its header, which whoever opens it parses.
 */
int file_kind_of(const char *path);
const char *file_kind_name(int kind);

#endif
