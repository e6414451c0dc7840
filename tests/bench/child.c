/* SPDX-License-Identifier: MIT */
/* A child process (child.h). */
#include "child.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void become(char *const *argv, int threads, const int *in, const int *out)
{
    char number[16];
    snprintf(number, sizeof number, "%d", threads);
    setenv("OMP_NUM_THREADS", number, 1);
    setenv("OPENBLAS_NUM_THREADS", number, 1);
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    close(in[0]), close(in[1]), close(out[0]), close(out[1]);
    execvp(argv[0], argv);
    _exit(127);
}

bool child_start(child *c, char *const *argv, int threads)
{
    int in[2], out[2];
    if (pipe(in) != 0) return false;
    if (pipe(out) != 0) {
        close(in[0]), close(in[1]);
        return false;
    }
    fflush(NULL);
    c->pid = fork();
    if (c->pid == 0) become(argv, threads, in, out);
    close(in[0]), close(out[1]);
    c->to = fdopen(in[1], "w");
    c->from = fdopen(out[0], "r");
    if (c->pid > 0 && c->to != NULL && c->from != NULL) return true;
    child_wait(c);
    return false;
}

int child_wait(child *c)
{
    int status = 0;
    if (c->to != NULL) fclose(c->to);
    if (c->from != NULL) fclose(c->from);
    if (c->pid < 0 || waitpid(c->pid, &status, 0) < 0) return 127;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}
