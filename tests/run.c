/* SPDX-License-Identifier: MIT */
/*
 * The test runner: every tests/unit/test_NAME.c defines `Suite *NAME_suite(void)`; the Makefile lists the names in
 * suites.def. CK_RUN_SUITE=NAME runs one; CK_FORK=no runs in one process.
 */
#include <check.h>
#include <stdlib.h>

#define SUITE(name) Suite *name##_suite(void);
#include "suites.def"
#undef SUITE

int main(void)
{
    SRunner *runner = srunner_create(NULL);
#define SUITE(name) srunner_add_suite(runner, name##_suite());
#include "suites.def"
#undef SUITE
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
