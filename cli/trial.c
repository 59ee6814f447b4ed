/* cli/trial.c — a model that must be judged before it may take its place: it is written beside it, and goes there (or
 * away) once the verdict is known. Not by renaming: a large model names its file of weights. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

const char *cli_trial_begin(cli_trial *t, const char *out)
{
    const char *dot = strrchr(out, '.'), *slash = strrchr(out, '/');
    const int stem = dot && (!slash || dot > slash) ? (int)(dot - out) : (int)strlen(out);
    const size_t room = strlen(out) + 48;
    t->path = malloc(room);
    t->data = malloc(room);
    if (!t->path || !t->data)
        return NULL;
    snprintf(t->path, room, "%.*s-unjudged-%ld%s", stem, out, (long)getpid(), out + stem);
    snprintf(t->data, room, "%s.data", t->path);
    rq_file_guard(t->path, true);
    rq_file_guard(t->data, true);
    return t->path;
}

void cli_trial_end(cli_trial *t)
{
    if (t->path && t->data) {
        if (remove(t->path) && cli_is_package(t->path))
            rq_coreml_remove(t->path, NULL);
        remove(t->data); /* most have none */
        rq_file_guard(t->path, false);
        rq_file_guard(t->data, false);
    }
    free(t->path);
    free(t->data);
    *t = (cli_trial) { NULL, NULL };
}
