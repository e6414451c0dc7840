/* SPDX-License-Identifier: MIT */
/*
 * What a text can choose by a word: an estimator, a policy, a start. Each is described in its own file, with its options by
 * name; src/config derives words, keys and defaults from that. The rest of the description is the layer's (importance.h,
 * allocation.h).
 */
#ifndef LRKI_METHOD_H
#define LRKI_METHOD_H

#include <stddef.h>
#include <stdint.h>

#define LRKI_KEY_INTEGER  0 /* int64_t  */
#define LRKI_KEY_INTEGER4 1 /* int32_t  */
#define LRKI_KEY_UNSIGNED 2 /* uint64_t */
#define LRKI_KEY_REAL     3 /* double   */
#define LRKI_KEY_CHOICE   4 /* int32_t, words only */
#define LRKI_KEY_FLAG     5 /* uint32_t of which true sets a bit */

/* A word that stands for a number, alone (CHOICE) or beside numbers ("initial", "none"). Arrays end with NULL. */
typedef struct lrki_word {
    const char *word;
    double value;
} lrki_word;

/* A member of a struct by name. Tables end with name NULL. */
typedef struct lrki_key {
    const char *section; /* of the text; "" for top level */
    const char *name;
    int32_t type;
    uint32_t bit;  /* FLAG */
    size_t offset; /* in the struct that the table describes */
    const lrki_word *words;
    const char *rival; /* of the same section: an override of one unsets the other */
} lrki_key;

#define LRKI_KEY(owner, section_, name_, type_, member, ...)                                                 \
    {                                                                                                        \
        .section = section_, .name = name_, .type = LRKI_KEY_##type_, .offset = offsetof(owner, member),     \
        __VA_ARGS__                                                                                          \
    }

#define LRKI_METHOD_BYTES 128 /* most of a method's options; they hold no pointers that are owned */

typedef struct lrki_method {
    const char *summary;  /* what it does and what it asks for, in half a line                      */
    const lrki_key *keys; /* over its options, names that no other method of the section has; or NULL */
    size_t size;          /* of its options; 0: none                                                */
    void (*init)(void *options);
    const struct lrki_method *like; /* whose options it has, instead of its own; or NULL */
} lrki_method;

/* .size of a method with options. */
#define LRKI_METHOD_SIZE(type) (sizeof(type) + 0 * sizeof(char[sizeof(type) <= LRKI_METHOD_BYTES ? 1 : -1]))

#endif
