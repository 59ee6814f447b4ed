/* cli/progress.c — one line on the terminal, redrawn ten times a second; without a terminal nothing, unless
 * -v asks for a line every five seconds. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

void cli_progress_init(cli_progress *p, const cli_common *a)
{
    *p = (cli_progress) { .tty = !a->quiet && isatty(STDERR_FILENO) };
    p->lines = !p->tty && a->verbose && !a->quiet;
}

static void print_eta(double s)
{
    if (s < 0)
        return;
    if (s < 90)
        fprintf(stderr, ", %.0f s left", s);
    else
        fprintf(stderr, ", %.0f min left", s / 60);
}

bool cli_progress_step(void *arg, const char *phase, int64_t done, int64_t total, double eta_s)
{
    cli_progress *p = arg;
    if (!p->tty && !p->lines)
        return true;
    double t = now();
    bool new_phase = strncmp(p->phase, phase, sizeof p->phase - 1) != 0, ended = done >= total;
    if (!new_phase && !ended && t - p->last < (p->tty ? 0.1 : 5))
        return true;
    p->last = t;
    snprintf(p->phase, sizeof p->phase, "%s", phase);
    if (p->tty)
        fprintf(stderr, "\r\033[K");
    fprintf(stderr, "%s", phase);
    if (total > 0) {
        fprintf(stderr, " %lld/%lld", (long long)done, (long long)total);
        if (!ended)
            print_eta(eta_s);
    }
    if (p->lines)
        fputc('\n', stderr);
    p->drawn = p->tty;
    fflush(stderr);
    return true;
}

void cli_progress_end(cli_progress *p)
{
    if (p->drawn)
        fprintf(stderr, "\r\033[K");
    p->drawn = false;
}
