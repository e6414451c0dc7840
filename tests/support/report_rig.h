/* SPDX-License-Identifier: MIT */
/*
 * The rig of the tests of reports: a context on the counting host, a folder with the places of a trace and its page, and a
 * trace by hand: three modules, a label and a name that HTML must escape, values, a round that moves a rank from the first
 * module to the second, the end.
 */
#ifndef REPORT_RIG_H
#define REPORT_RIG_H

#include "fault.h"
#include "scratch.h"

/* Lines of a trace; names as in trace_text.h, which is another. */
#define START                                                                                                \
    "{\"event\":\"start\",\"format\":1,\"lorank\":\"0.1.0\",\"label\":\"a "                                  \
    "<b>\",\"ranks\":5,\"parameters\":46,\"modules\":["                                                      \
    "{\"name\":\"m.layers.0.q\",\"stage\":0,\"n_in\":5,\"n_out\":3,\"rank\":2,\"scale\":1.0,\"ranks\":[[1,"  \
    "0],[2,0]]},"                                                                                            \
    "{\"name\":\"m.layers.1.q\",\"stage\":1,\"n_in\":4,\"n_out\":6,\"rank\":3,\"scale\":1.0,\"ranks\":[[3,"  \
    "0],[4,0],[5,0]]},"                                                                                      \
    "{\"name\":\"<head>&\\\"\",\"stage\":2,\"n_in\":7,\"n_out\":2,\"rank\":0,\"scale\":1.0,\"ranks\":[]}]}"  \
    "\n"
#define ROUND                                                                                                \
    "{\"event\":\"round\",\"round\":0,\"step\":60,\"estimator\":\"ablation.exact\",\"loss_all\":3.5,\"loss_" \
    "none\":4.0,"                                                                                            \
    "\"noise_floor\":1e-7,\"split_correlation\":0.75,\"evaluations\":12,\"differentiations\":2,\"n_exact\":" \
    "3,"                                                                                                     \
    "\"policy\":\"alora\",\"cut\":0.001,\"cut_next\":0.002,\"ranks_before\":5,\"ranks_after\":5,"            \
    "\"parameters_before\":46,\"parameters_after\":48,"                                                      \
    "\"dropped\":[{\"identity\":2,\"module\":0,\"score\":0.001,\"birth\":0}],"                               \
    "\"added\":[{\"identity\":6,\"module\":1}],\"receivers\":[{\"module\":1,\"n\":1,\"mean\":0.003}],"       \
    "\"module_ranks\":[1,4,0],\"scores\":[[1,0,0.005,0.004,0.001,0.0005,null,true,false],"                   \
    "[2,0,0.001,null,null,0.0015,0.001,true,true],[3,1,0.004,null,null,null,0.004,false,false],"             \
    "[4,1,0.002,null,null,0.0001,null,true,false],[5,1,-0.03,null,null,null,null,false,false]]}\n"
#define VALUE "{\"event\":\"value\",\"name\":\"dev_loss\",\"step\":60,\"value\":3.25}\n"
#define END                                                                                                  \
    "{\"event\":\"end\",\"ranks\":5,\"parameters\":48,\"modules\":[[[1,0]],[[3,0],[4,0],[5,0],[6,60]],[]]}"  \
    "\n"

extern const char report_whole[]; /* a trace of these lines and one value more */

extern struct report_rig {
    fault host;
    lrk_context *context;
    scratch files;
    char trace_path[SCRATCH_PATH];
    char page_path[SCRATCH_PATH];
} report_rig;

void report_rig_open(void);
void report_rig_close(void);

#endif
