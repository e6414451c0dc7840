/* SPDX-License-Identifier: MIT */
#ifndef TOOL_REPLAY_COMMAND_H
#define TOOL_REPLAY_COMMAND_H

/* lorank replay: argv[0..argc) behind the command's name; the exit status. */
int replay_command(int argc, char **argv);

#endif
