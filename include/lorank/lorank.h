/* SPDX-License-Identifier: MIT */
/*
 * lorank: ALoRA (Allocating Low-Rank Adaptation, Liu et al., NAACL 2024, arXiv:2403.16187) for hosts that own their
 * model, loop, memory and threads. This header includes all others; each begins with what it is about.
 *
 * Rules that hold everywhere:
 *   Structs   that callers fill begin with struct_size = sizeof the struct (arrays are stepped by the first element's);
 *             xxx_init() sets defaults, zero is a value. A shorter struct means defaults for the rest; a longer one is
 *             accepted if its unknown tail is zero, else LRK_ERR_VERSION. Members named reserved are 0.
 *   Handles   xxx_create() gives one reference, xxx_destroy() takes it back, destroy(NULL) does nothing. Handles hold
 *             counted references to what they were made from: any order of destruction is legal.
 *   Failure   leaves every object as it was and output handles NULL, unless a function says otherwise.
 *   Threads   pure: any thread, any time. shared-read: concurrently with other shared-read calls on the handle.
 *             handle-exclusive (the default): one call at a time per handle.
 */
#ifndef LRK_LORANK_H
#define LRK_LORANK_H

#include "adapters.h"
#include "allocation.h"
#include "checkpoint.h"
#include "config.h"
#include "context.h"
#include "eva.h"
#include "export.h"
#include "gelora.h"
#include "gguf.h"
#include "gora.h"
#include "gradient_init.h"
#include "gradient_start.h"
#include "importance.h"
#include "io.h"
#include "kohya.h"
#include "mask.h"
#include "merge.h"
#include "nested.h"
#include "optimizer.h"
#include "pass.h"
#include "pca.h"
#include "peft.h"
#include "rank_list.h"
#include "replay.h"
#include "safetensors.h"
#include "schedule.h"
#include "sketch.h"
#include "spectrum.h"
#include "status.h"
#include "trace.h"
#include "version.h"
#include "weight_start.h"
#include "workers.h"

#endif
