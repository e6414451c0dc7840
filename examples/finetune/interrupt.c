/* SPDX-License-Identifier: MIT */
/* The handler sets a flag and no more; SA_RESETHAND gives the next signal its deadly default back. */
#include "interrupt.h"

#include <stddef.h>

volatile sig_atomic_t ft_interrupted;

static void note(int signal_number)
{
    (void)signal_number;
    ft_interrupted = 1;
}

void ft_catch_interrupt(void)
{
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESETHAND | SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}
