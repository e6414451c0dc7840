/* SPDX-License-Identifier: MIT */
/* Ctrl-C: the first one asks to stop at the next step, the second one kills. */
#ifndef FT_INTERRUPT_H
#define FT_INTERRUPT_H

#include <signal.h>

extern volatile sig_atomic_t ft_interrupted;

void ft_catch_interrupt(void);

#endif
