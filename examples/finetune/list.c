/* SPDX-License-Identifier: MIT */
/* --list: what a configuration can choose from, one a line with the key and the word that chooses it. */
#ifdef LORANK
#include <lorank/lorank.h>
#include <stdio.h>

#include "commands.h"

static void list_word(const char *what, const char *key, int64_t i)
{
    const char *word = lrk_config_word(key, i);
    printf("%-10s  %-12s  %s: %s  (%s)\n", what, word, key, word, lrk_config_summary(key, i));
}

static void list_words(const char *what, const char *key)
{
    for (int64_t i = 0; lrk_config_word(key, i); i++)
        list_word(what, key, i);
}

int ft_command_list(void)
{
    list_words("estimator", "importance.estimator");
    printf("%-10s  %-12s  importance.reversed: true, beside any of these\n", "estimator", "reversed");
    list_words("policy", "allocation.policy");
    printf("%-10s  %-12s  adapters.modules: patterns with their ranks\n", "initial", "modules");
    printf("%-10s  %-12s  adapters.uniform: the same rank everywhere, as far as a budget goes\n", "initial",
           "uniform");
    printf("%-10s  %-12s  adapters.ranks_from: a trace or PEFT's rank_pattern\n", "initial", "ranks_from");
    for (int64_t i = 1; lrk_config_word("start.kind", i); i++) /* the first is none of these */
        list_word("initial", "start.kind", i);
    printf("%-10s  %-12s  adapters.nested: cumulative or frozen  (DyLoRA: an adapter at every depth)\n",
           "training", "nested");
    return FT_EXIT_OK;
}
#endif
