/* SPDX-License-Identifier: MIT */
/*
 * Checkpoints: one file with everything that a run needs to go on, bit for bit, as if it had never stopped. A checkpoint
 * lists who takes part, each under a name of its own: sets, optimizers, estimators (a paused scoring run included),
 * allocators, schedules; snapshots and scores that the host holds; blobs of the host (a data cursor, a head). The same list
 * saves and restores. docs/checkpoint.md has the format, byte by byte.
 *
 *     saving     lrk_checkpoint_save(checkpoint, path, NULL)                  as often as one likes
 *     resuming   create the same handles from the same configuration, list them under the same names, then
 *                lrk_checkpoint_open(context, path, NULL, &file)              every byte is verified here
 *                lrk_checkpoint_restore(file, checkpoint, NULL)               all or nothing
 *                lrk_checkpoint_close(file)
 *                and, once the schedule is bound, lrk_schedule_retry() if lrk_schedule_now() says that a round is due
 *
 * It can be saved between any two calls of the run, and from these callbacks: evaluate, differentiate and progress of an
 * estimator (the run goes on with the first question that was not answered), train_step and event of lrk_schedule_run().
 * An open training pass is not part of it, the gradients that it has added up are.
 *
 * Threads: handle-exclusive, and so are all handles listed while a call runs.
 */
#ifndef LRK_CHECKPOINT_H
#define LRK_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "adapters.h"
#include "allocation.h"
#include "importance.h"
#include "io.h"
#include "optimizer.h"
#include "schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_checkpoint lrk_checkpoint;
typedef struct lrk_checkpoint_file lrk_checkpoint_file;

/* ---- who takes part -------------------------------------------------------------------------------------------------- */

/* An empty list. Errors: LRK_ERR_ARGUMENT, LRK_ERR_NOMEM. Since 0.1 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_create(lrk_context *context, lrk_checkpoint **checkpoint);

/* NULL is ignored. Nothing that is listed is touched. Not while a call with it runs: it must outlive that. Since 0.1 */
LRK_API void lrk_checkpoint_destroy(lrk_checkpoint *checkpoint);

/*
 * Lists a handle under a name of 1 to 255 bytes that no other of its kind has; the name is copied. Sets come before what was
 * made from them. Sets, estimators and allocators are kept alive; optimizers and schedules are borrowed and must outlive
 * the calls of this header that use them.
 * Errors   LRK_ERR_ARGUMENT   NULL, a name that is too long or stands already, a handle of another context
 *          LRK_ERR_NOT_FOUND  the handle's set is not listed
 *          LRK_ERR_BUSY       called from the writer, reader or progress of a call with this checkpoint;  LRK_ERR_NOMEM
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_add_adapters(lrk_checkpoint *checkpoint, const char *name,
                                                               lrk_adapters *adapters);
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_add_optimizer(lrk_checkpoint *checkpoint, const char *name,
                                                                lrk_optimizer *optimizer);
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_add_estimator(lrk_checkpoint *checkpoint, const char *name,
                                                                lrk_estimator *estimator);
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_add_allocator(lrk_checkpoint *checkpoint, const char *name,
                                                                lrk_allocator *allocator);
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_add_schedule(lrk_checkpoint *checkpoint, const char *name,
                                                               lrk_schedule *schedule);

/*
 * What the next saves hold besides handles, under a name; NULL takes the entry out again. Borrowed until it is set anew or
 * the checkpoint is destroyed: a blob is read when it is saved, so that a struct of the host need be given only once.
 * The configuration is any text: what the run was started with, for the host to compare.
 * Errors   as lrk_checkpoint_add_adapters().   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_set_blob(lrk_checkpoint *checkpoint, const char *name,
                                                           const void *data, size_t n);
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_set_snapshot(lrk_checkpoint *checkpoint, const char *name,
                                                               const lrk_snapshot *snapshot);
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_set_scores(lrk_checkpoint *checkpoint, const char *name,
                                                             const lrk_scores *scores);
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_set_config(lrk_checkpoint *checkpoint, const char *text,
                                                             size_t n);

/* ---- options of a call ------------------------------------------------------------------------------------------------ */

#define LRK_RESTORE_PARTIAL 0x1u /* sections whose participant is not listed are left out */

/* Of saving, opening and restoring; NULL stands for the defaults. */
typedef struct lrk_checkpoint_options {
    uint32_t struct_size;
    uint32_t flags; /* restoring: LRK_RESTORE_... [0] */
    void *user;     /* of progress                    */
    /*
     * Bytes of the file that are written, verified (opening) or read (restoring: sections of what is listed, and of all
     * snapshots and scores). done grows from call to call, with one for every MiB at least; the last has done == total, and
     * comes before the path holds the new file, before the opened file is handed out, before a handle changes. A restore that
     * has nothing to read makes no call. Non-zero: LRK_ERR_CANCELLED, and all is as before [NULL]
     */
    int32_t (*progress)(void *user, uint64_t done, uint64_t total);
} lrk_checkpoint_options;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_checkpoint_options_init(lrk_checkpoint_options *options, size_t struct_size);

/* ---- saving ---------------------------------------------------------------------------------------------------------- */

/*
 * Writes everything listed. save(): under a temporary name in the same folder, synced and renamed, so that after a crash at
 * any moment the path holds the previous file or the new one, whole. write(): to a writer, in order; whether the whole is
 * atomic is the host's business (one that is stopped has been given a part).
 * Errors   LRK_ERR_STALE  an optimizer missed a rank change; scores, or a paused run, of a set that has changed since
 *          LRK_ERR_STATE  an allocator's plan is neither committed nor abandoned
 *          LRK_ERR_BUSY   a plan or restore is prepared; inside a policy's choice, or the observers of a round
 *          LRK_ERR_IO     the detail names path (or writer) and reason
 *          LRK_ERR_HOST   the writer or progress changed what is listed: given either, all of it is looked through once more at
 *                         the end. Not noticed: what is taken back before (the file may then be damaged, as opening it
 *                         finds). Steps, changes of ranks and restores of a listed set, and runs of a listed estimator,
 *                         are LRK_ERR_BUSY there, and a reset does nothing
 *          LRK_ERR_CANCELLED  progress asked to stop
 *          LRK_ERR_ARGUMENT, LRK_ERR_VERSION, LRK_ERR_NOMEM (a buffer of 64 KiB).   The detail names the section. A path
 *                         holds what it held, with one exception: if the folder cannot be synced after the rename
 *                         (LRK_ERR_IO), it holds the new file, whole.
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_save(lrk_checkpoint *checkpoint, const char *path,
                                                       const lrk_checkpoint_options *options);
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_write(lrk_checkpoint *checkpoint, const lrk_writer *writer,
                                                        const lrk_checkpoint_options *options);

/* ---- opening --------------------------------------------------------------------------------------------------------- */

/* Kinds of section. Higher ones may come; readers that do not know a kind pass over it unless it is required. */
#define LRK_SECTION_ORIGIN    1 /* who made the file, and with which services */
#define LRK_SECTION_CONFIG    2
#define LRK_SECTION_ADAPTERS  3
#define LRK_SECTION_OPTIMIZER 4
#define LRK_SECTION_ESTIMATOR 5
#define LRK_SECTION_ALLOCATOR 6
#define LRK_SECTION_SCHEDULE  7
#define LRK_SECTION_SNAPSHOT  8
#define LRK_SECTION_SCORES    9
#define LRK_SECTION_BLOB      10

#define LRK_SECTION_REQUIRED 0x1u /* a reader that does not know its kind or version cannot go on with the run */

typedef struct lrk_checkpoint_section {
    uint32_t struct_size;
    uint32_t flags;    /* LRK_SECTION_REQUIRED or 0                  */
    int32_t kind;      /* LRK_SECTION_...                            */
    int32_t version;   /* of the kind's content                      */
    const char *name;  /* borrowed until the file is closed          */
    uint64_t offset;   /* of its content in the file                 */
    uint64_t bytes;    /* of its content, the checksum not counted   */
} lrk_checkpoint_section;

#define LRK_CHECKPOINT_SAME_SERVICES 0x1u /* kernels, GEMM and parallel loop are described as in this context */

typedef struct lrk_checkpoint_info {
    uint32_t struct_size;
    uint32_t flags;        /* LRK_CHECKPOINT_SAME_SERVICES: without it the run goes on, but bits may differ        */
    uint32_t format;       /* of the file                                                                          */
    uint32_t reserved;
    int64_t sections;
    uint64_t bytes;        /* of the file                                                                          */
    const char *made_by;   /* "lorank 0.1.0"; borrowed until the file is closed                                    */
    const char *made_with; /* lrk_context_describe() of the context that saved it; borrowed likewise               */
} lrk_checkpoint_info;

/*
 * Opens a file and verifies all of it: every section's checksum, and that nothing is missing or left over.
 * Errors   LRK_ERR_FORMAT       torn, truncated, damaged or no checkpoint; the detail names the section
 *          LRK_ERR_UNSUPPORTED  of a later format
 *          LRK_ERR_NOT_FOUND    no such file;  LRK_ERR_CANCELLED  progress asked to stop
 *          LRK_ERR_IO, LRK_ERR_ARGUMENT, LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_open(lrk_context *context, const char *path,
                                                       const lrk_checkpoint_options *options,
                                                       lrk_checkpoint_file **file);
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_open_reader(lrk_context *context, const lrk_reader *reader,
                                                              const lrk_checkpoint_options *options,
                                                              lrk_checkpoint_file **file);

/* NULL is ignored. Not while a call with it runs (a restore, reading a blob): it must outlive that. Since 0.1 */
LRK_API void lrk_checkpoint_close(lrk_checkpoint_file *file);

/* Facts. info->struct_size must be set. Errors: LRK_ERR_ARGUMENT. Since 0.1 */
LRK_API lrk_status lrk_checkpoint_info_get(const lrk_checkpoint_file *file, lrk_checkpoint_info *info);

/* Section i in the file's order. section->struct_size must be set. Errors: LRK_ERR_ARGUMENT (no such). Since 0.1 */
LRK_API lrk_status lrk_checkpoint_section_get(const lrk_checkpoint_file *file, int64_t i,
                                              lrk_checkpoint_section *section);

/*
 * Reads a blob, or the configuration, into data[0..capacity); *n gets its bytes. data may be NULL with capacity 0: the size
 * alone.
 * Errors   LRK_ERR_NOT_FOUND  no such section;  LRK_ERR_SHAPE  capacity is smaller than the blob (*n says what it takes)
 *          LRK_ERR_FORMAT, LRK_ERR_IO  the bytes are no longer those that were verified;  LRK_ERR_ARGUMENT
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_read_blob(lrk_checkpoint_file *file, const char *name, void *data,
                                                            size_t capacity, size_t *n);
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_read_config(lrk_checkpoint_file *file, void *text, size_t capacity,
                                                              size_t *n);

/* ---- restoring ------------------------------------------------------------------------------------------------------- */

/*
 * Puts every listed handle into the state that the file holds. First everything is read, checked and held in memory of its
 * own, then all of it is taken over at once: after a failure no handle has changed. Afterwards gradients are those of the
 * file, and what was made from the sets before (masks, scores, plans, saved buffers, paused runs) is stale. Counters of
 * the set never go back: in freshly created handles they become the file's, bit for bit; in a set with a history of its
 * own, identities used since stay used. Snapshots and scores of the file wait for lrk_checkpoint_take_snapshot() and
 * lrk_checkpoint_take_scores(). A warning is logged if the file was made with other kernels, GEMM or parallel loop.
 * Errors   LRK_ERR_ARGUMENT     a handle does not fit: modules, shapes, or an option that changes results (the detail says
 *                               which, with both values); a section's participant is not listed; unknown flag
 *          LRK_ERR_NOT_FOUND    a listed handle has no section
 *          LRK_ERR_UNSUPPORTED  a required section of a kind or version that this library does not know
 *          LRK_ERR_FORMAT       sections that contradict each other or themselves
 *          LRK_ERR_BUSY         a pass is open, a plan or restore is prepared, or called from a callback of the run
 *          LRK_ERR_STATE        an allocator's plan is neither committed nor abandoned
 *          LRK_ERR_HOST         the set's storage refused;  LRK_ERR_BUDGET: its capacity is fixed and too small
 *          LRK_ERR_CANCELLED    progress asked to stop; the file can be restored later
 *          LRK_ERR_IO, LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_restore(lrk_checkpoint_file *file, lrk_checkpoint *checkpoint,
                                                          const lrk_checkpoint_options *options);

/*
 * Hands over a snapshot (scores) of the file last restored; each can be taken once, and belongs to the caller then.
 * Errors: LRK_ERR_NOT_FOUND (no such, or taken), LRK_ERR_ARGUMENT. Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_take_snapshot(lrk_checkpoint *checkpoint, const char *name,
                                                                lrk_snapshot **snapshot);
LRK_API LRK_WARN_UNUSED lrk_status lrk_checkpoint_take_scores(lrk_checkpoint *checkpoint, const char *name,
                                                              lrk_scores **scores);

#ifdef __cplusplus
}
#endif

#endif
