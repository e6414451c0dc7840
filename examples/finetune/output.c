/* SPDX-License-Identifier: MIT */
/*
 * Writes results so that a crash leaves no half file, and has the lorank command draw the report.
 */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void parent_of(const char *directory, char parent[FT_PATH])
{
    snprintf(parent, FT_PATH, "%s", directory);
    size_t n = strlen(parent);
    while (n > 1 && parent[n - 1] == '/')
        parent[--n] = '\0';
    char *slash = strrchr(parent, '/');
    if (!slash)
        strcpy(parent, ".");
    else
        slash[slash == parent] = '\0';
}

int ft_output_check(const char *directory, ft_error *error)
{
    struct stat found;
    char parent[FT_PATH];
    if (strlen(directory) >= FT_PATH - 64) return ft_fail(error, "--out: the path is too long");
    if (stat(directory, &found) == 0) {
        if (!S_ISDIR(found.st_mode)) return ft_fail(error, "--out: %s is not a directory", directory);
        return access(directory, W_OK | X_OK) ? ft_fail(error, "--out: %s: %s", directory, strerror(errno))
                                              : 0;
    }
    parent_of(directory, parent);
    if (access(parent, W_OK | X_OK)) return ft_fail(error, "--out: %s: %s", parent, strerror(errno));
    return 0;
}

int ft_output_create(const char *directory, ft_error *error)
{
    if (mkdir(directory, 0777) && errno != EEXIST)
        return ft_fail(error, "%s: %s", directory, strerror(errno));
    return 0;
}

int ft_output_path(const char *directory, const char *name, char path[FT_PATH], ft_error *error)
{
    if (snprintf(path, FT_PATH, "%s/%s", directory, name) >= FT_PATH)
        return ft_fail(error, "%s/%s: the path is too long", directory, name);
    return 0;
}

static int write_synced(const char *path, const json_t *value)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (file < 0) return -1;
    int failed = json_dumpfd(value, file, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) ||
                 write(file, "\n", 1) != 1 || fsync(file);
    int saved = errno;
    if (close(file) && !failed) return -1;
    errno = saved;
    return failed ? -1 : 0;
}

int ft_output_json(const char *path, const json_t *value, ft_error *error)
{
    char temporary[FT_PATH + 8];
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    if (write_synced(temporary, value) || rename(temporary, path)) {
        ft_fail(error, "%s: %s", path, strerror(errno));
        unlink(temporary);
        return -1;
    }
    return 0;
}

/* lorank next to this program if it is there, else the bare name, for the PATH. */
static void find_command(char command[FT_PATH])
{
    ssize_t n = readlink("/proc/self/exe", command, FT_PATH - 16);
    command[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(command, '/');
    if (slash) strcpy(slash + 1, "lorank");
    if (!slash || access(command, X_OK)) strcpy(command, "lorank");
}

int ft_output_report(const char *command, const char *trace, const char *html, ft_error *error)
{
    char found[FT_PATH];
    pid_t child;
    int status = 0;
    if (!command) find_command(found);
    const char *program = command ? command : found;
    char *argv[] = {(char *)program, "report", (char *)trace, "-o", (char *)html, NULL};
    int why = posix_spawnp(&child, program, NULL, NULL, argv, environ);
    if (why) return ft_fail(error, "%s: %s", program, strerror(why));
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return ft_fail(error, "%s: %s", program, strerror(errno));
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        return ft_fail(error, "%s report %s: it failed with status %d", program, trace, status);
    return 0;
}

json_t *ft_json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}
