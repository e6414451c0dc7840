/* SPDX-License-Identifier: MIT */
/* lorank convert: an adapter into another format, element type or form. */
#include "adapter_file.h"

static const char help[] =
    "usage: lorank convert IN OUT [options]\n"
    "\n"
    "Reads an adapter of any format and writes it again. A rank may differ from module to module in all of\n"
    "them. What a format cannot hold is folded: gates and scales into B.\n"
    "\n" ADAPTER_WRITE_HELP ADAPTER_READ_HELP;

int convert_command(int argc, char **argv)
{
    const char *in = NULL, *out = NULL;
    adapter_options options = {0};
    const command_option table[] = {ADAPTER_WRITE_OPTIONS(options), ADAPTER_READ_OPTIONS(options)};
    const command_line line = {"convert", help, table, sizeof table / sizeof table[0], {&in, &out}, 2};
    command_run run;
    adapter read;
    int status = 2;
    if (!command_parse(&line, argc, argv, &status)) return status;
    if (!adapter_options_check(line.command, &options, in, out)) return 2;
    if (!command_begin(&run, line.command)) return 1;
    if (options.to == NULL) options.to = file_kind_name(file_kind_of(in));
    status = 1;
    if (adapter_read(&run, in, &options, &read)) status = adapter_write(&run, &read, read.set, out, &options);
    adapter_free(&read);
    command_end(&run);
    return status;
}
