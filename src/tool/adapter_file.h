/* SPDX-License-Identifier: MIT */
/* Adapters in files of any format: reading and writing a set with the options that the commands share. */
#ifndef TOOL_ADAPTER_FILE_H
#define TOOL_ADAPTER_FILE_H

#include "command.h"
#include "file_kind.h"

/* Options of reading and writing, as texts; NULL: not given. */
typedef struct adapter_options {
    const char *to;
    const char *dtype;
    const char *alpha;
    const char *uniform;
    const char *fan_in_fan_out;
    const char *base_model;
    const char *task_type;
    const char *architecture;
    const char *name;
    const char *heads;
    const char *kv_heads;
    const char *prefix;
    const char *dotted;
    const char *quiet;
    bool outline; /* reading takes modules, ranks and scales, and no values */
} adapter_options;

#define ADAPTER_READ_OPTIONS(o)                                                                              \
    COMMAND_VALUE("--heads", &(o).heads), COMMAND_VALUE("--kv-heads", &(o).kv_heads),                        \
        COMMAND_VALUE("--prefix", &(o).prefix)

#define ADAPTER_WRITE_OPTIONS(o)                                                                             \
    COMMAND_VALUE("--to", &(o).to), COMMAND_VALUE("--dtype", &(o).dtype),                                    \
        COMMAND_VALUE("--alpha", &(o).alpha), COMMAND_FLAG("--uniform", &(o).uniform),                       \
        COMMAND_FLAG("--fan-in-fan-out", &(o).fan_in_fan_out),                                               \
        COMMAND_VALUE("--base-model", &(o).base_model), COMMAND_VALUE("--task-type", &(o).task_type),        \
        COMMAND_VALUE("--architecture", &(o).architecture), COMMAND_VALUE("--name", &(o).name),              \
        COMMAND_FLAG("--dotted", &(o).dotted), COMMAND_FLAG("--quiet", &(o).quiet)

#define ADAPTER_READ_HELP                                                                                    \
    "  --heads N --kv-heads N   attention heads of the model: a GGUF file of architecture llama has the\n"   \
    "                           rows of q and k in another order\n"                                          \
    "  --prefix TEXT            of names in kohya files (\"lora_unet_\"); reading one without it keeps\n"    \
    "                           names whole\n"

#define ADAPTER_WRITE_HELP                                                                                   \
    "  --to peft|gguf|kohya     format of OUT (default: that of IN)\n"                                       \
    "  --dtype f32|bf16|f16     of the tensors (default f32)\n"                                              \
    "  --alpha A                lora_alpha of PEFT and GGUF files (default 16)\n"                            \
    "  --uniform                PEFT: one rank for all modules, for readers without rank_pattern\n"          \
    "  --fan-in-fan-out         PEFT: say that the base model's layers are GPT-2's Conv1D\n"                 \
    "  --base-model NAME, --task-type TYPE   PEFT: what adapter_config.json says (default: as in IN)\n"      \
    "  --architecture NAME, --name TEXT      GGUF: llama, qwen2, gpt2, ... (needed); a title\n"              \
    "  --dotted                 kohya: names keep their dots (diffusers' older form)\n"                      \
    "  --quiet                  no progress\n"

/* An adapter that was read, and what its file says beside it. */
typedef struct adapter {
    int kind;
    lrk_adapters *set;
    char *base_model; /* of adapter_config.json, NULL: null */
    char *task_type;
} adapter;

/* False, and said so: an option of reading is no number. Before adapter_read(), unless adapter_options_check() was. */
bool adapter_read_check(const char *command, const adapter_options *options);

/* False: said why. adapter_free() is right at any time for a zeroed adapter. */
bool adapter_read(const command_run *run, const char *path, const adapter_options *options, adapter *read);
void adapter_free(adapter *read);

/*
 * Checks the options of writing before anything is read: false, and said so, for an unknown format or dtype, or an OUT
 * that is IN. adapter_write() then returns the exit status.
 */
bool adapter_options_check(const char *command, const adapter_options *options, const char *in,
                           const char *out);
int adapter_write(const command_run *run, const adapter *a, const lrk_adapters *set, const char *path,
                  const adapter_options *options);

#endif
