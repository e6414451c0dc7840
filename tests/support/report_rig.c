/* SPDX-License-Identifier: MIT */
/* The rig of the tests of reports (report_rig.h). */
#include "report_rig.h"

#include <check.h>
#include <string.h>

const char report_whole[] =
    START VALUE ROUND "{\"event\":\"value\",\"name\":\"dev_loss\",\"step\":90,\"value\":null}\n" END;

struct report_rig report_rig;

void report_rig_open(void)
{
    fault_reset(&report_rig.host);
    report_rig.context = fault_context(&report_rig.host);
    scratch_init(&report_rig.files);
    strcpy(report_rig.trace_path, scratch_path(&report_rig.files, "trace.jsonl"));
    strcpy(report_rig.page_path, scratch_path(&report_rig.files, "trace.html"));
}

void report_rig_close(void)
{
    lrk_context_destroy(report_rig.context);
    scratch_fini(&report_rig.files);
    ck_assert_int_eq(report_rig.host.live, 0);
}
