/* guard.c — one case in a process of its own: what it prints comes through, a crash or a hang is its failure alone;
 * and what every kind of case says and asks. */
#include "golden.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LIMIT_S = 120 }; /* per case: beyond this it hangs */

static void line(golden_case *c, const char *head, const char *fmt, va_list ap)
{
    char text[1600], out[2000];
    vsnprintf(text, sizeof text, fmt, ap);
    for (char *p = text; *p; p++)
        if (*p == '\n' || *p == '\r')
            *p = ' ';
    int n = snprintf(out, sizeof out, "%s %s/%s %s\n", head, c->topic, c->id, text);
    if (n > 0 && write(c->out, out, (size_t)n < sizeof out ? (size_t)n : sizeof out - 1) < 0)
        _exit(1);
}

void golden_fail(golden_case *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    line(c, "FAIL", fmt, ap);
    va_end(ap);
    c->failed = true;
}

golden_verdict golden_skip(golden_case *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    line(c, "SKIP", fmt, ap);
    va_end(ap);
    return GOLDEN_SKIP;
}

const char *golden_path(char *buf, size_t n, const golden_case *c, const char *name)
{
    snprintf(buf, n, "%s/%s", c->dir, name);
    return buf;
}

/* Copy what the child prints; false when it said nothing for LIMIT_S seconds. */
static bool relay(int fd)
{
    char buf[4096];
    struct pollfd p = { .fd = fd, .events = POLLIN };
    for (;;) {
        int ready = poll(&p, 1, LIMIT_S * 1000);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return false;
        ssize_t n = read(fd, buf, sizeof buf);
        if (n <= 0)
            return true;
        fwrite(buf, 1, (size_t)n, stdout);
    }
}

golden_verdict golden_guarded(golden_case *c, golden_verdict (*run)(golden_case *c))
{
    if (getenv("GOLDEN_NO_FORK")) { /* for a debugger */
        c->out = STDOUT_FILENO;
        return run(c);
    }
    int fd[2];
    fflush(stdout);
    if (pipe(fd))
        abort();
    pid_t pid = fork();
    if (pid < 0)
        abort();
    if (pid == 0) {
        close(fd[0]);
        c->out = fd[1];
        int null = open("/dev/null", O_WRONLY);
        if (null >= 0 && !getenv("GOLDEN_STDERR"))
            dup2(null, STDERR_FILENO);
        _exit(10 + (int)run(c));
    }
    close(fd[1]);
    const bool alive = relay(fd[0]);
    close(fd[0]);
    if (!alive)
        kill(pid, SIGKILL);
    int status = 0;
    waitpid(pid, &status, 0);
    if (alive && WIFEXITED(status) && WEXITSTATUS(status) >= 10 && WEXITSTATUS(status) <= 12)
        return (golden_verdict)(WEXITSTATUS(status) - 10);
    c->out = STDOUT_FILENO;
    if (!alive)
        golden_fail(c, "process seconds=%d allowed=%d: it hangs", LIMIT_S, LIMIT_S);
    else if (WIFSIGNALED(status))
        golden_fail(c, "process signal=%d allowed=0: it crashed (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        golden_fail(c, "process exit=%d allowed=0: it ended early (a sanitizer?)", WEXITSTATUS(status));
    return GOLDEN_FAIL;
}
