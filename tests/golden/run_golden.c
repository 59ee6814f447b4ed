/* run_golden.c — run_golden DIR [PATTERN]: compare requant with every cases.json below DIR.
 *
 * Prints a line per failure and skip, then counts per topic and in all. PATTERN (a glob over topic/id)
 * limits it. Exit 0: nothing failed; 1: something did; 2: there was nothing to run. Never writes a file. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "golden.h"

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

const char *golden_str(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

const char *golden_path(char *buf, size_t n, const golden_case *c, const char *name)
{
    snprintf(buf, n, "%s/%s", c->dir, name);
    return buf;
}

bool golden_array(golden_case *c, rq_tensor *out, const char *key)
{
    char path[4096];
    rq_err err = { 0 };
    if (rq_npz_load(out, golden_path(path, sizeof path, c, "data.npz"), key, &err) == RQ_OK)
        return true;
    golden_fail(c, "cannot read array %s: %s", key, err.text);
    return false;
}

/* The kinds, in the order their marks are looked for. */
static const struct kind {
    const char *mark;
    golden_verdict (*run)(golden_case *c);
} kinds[] = {
    { "expect", golden_run_bad },
    { "quantized", golden_run_static },
    { "package", NULL }, /* form skips only */
    { "model", golden_run_model },
    { "op", NULL },
    { "op_types", NULL }, /* weights of a Core ML package, by operation */
    { "arrays", golden_run_arrays },
};

static golden_verdict run_case(golden_case *c)
{
    const struct kind *k = NULL;
    for (size_t i = 0; !k && i < sizeof kinds / sizeof kinds[0]; i++)
        if (json_object_get(c->json, kinds[i].mark))
            k = &kinds[i];
    if (!k) {
        golden_fail(c, "unknown kind: none of model, op, package, expect, quantized, arrays is there");
        return GOLDEN_FAIL;
    }
    char path[4096];
    const char *name = golden_str(c->json, !strcmp(k->mark, "quantized") ? "quantized" : "model");
    const char *why =
        k->run == golden_run_bad ? NULL : golden_skip_reason(c, name ? golden_path(path, sizeof path, c, name) : NULL);
    if (why)
        return golden_skip(c, "%s", why);
    const json_t *tolerance = json_object_get(c->json, "tolerance");
    if (tolerance && !json_is_null(tolerance) && !golden_tolerance_known(c, tolerance))
        return GOLDEN_FAIL;
    if (!k->run) {
        golden_fail(c, "kind %s is not compared and no skip says why", k->mark);
        return GOLDEN_FAIL;
    }
    golden_verdict v = k->run(c);
    return c->failed ? GOLDEN_FAIL : v;
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

static golden_verdict run_guarded(golden_case *c)
{
    if (getenv("GOLDEN_NO_FORK")) { /* for a debugger */
        c->out = STDOUT_FILENO;
        return run_case(c);
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
        _exit(10 + (int)run_case(c));
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

static int run_topic(const char *root, const char *file, const char *pattern, int count[3])
{
    char dir[4096], topic[4096];
    snprintf(dir, sizeof dir, "%s", file);
    *strrchr(dir, '/') = 0;
    const char *below = dir + strlen(root);
    snprintf(topic, sizeof topic, "%s", *below == '/' ? below + 1 : *below ? below : ".");
    json_error_t why;
    json_t *all = json_load_file(file, 0, &why);
    json_t *cases = json_is_object(all) ? json_object_get(all, "cases") : all;
    if (!json_is_array(cases)) {
        printf("FAIL %s/cases.json line=%d %s\n", topic, why.line,
               all ? "neither a list nor an object with cases" : why.text);
        json_decref(all);
        count[GOLDEN_FAIL]++;
        return 1;
    }
    int here[3] = { 0 };
    size_t i;
    json_t *one;
    json_array_foreach(cases, i, one)
    {
        golden_case c = { .topic = topic, .dir = dir, .id = golden_str(one, "id"), .json = one, .out = STDOUT_FILENO };
        char full[8192];
        if (!c.id) {
            c.id = "?";
            golden_fail(&c, "case %zu has no id", i);
            here[GOLDEN_FAIL]++;
            continue;
        }
        snprintf(full, sizeof full, "%s/%s", topic, c.id);
        if (pattern && fnmatch(pattern, full, 0))
            continue;
        here[run_guarded(&c)]++;
    }
    json_decref(all);
    const int n = here[0] + here[1] + here[2];
    if (n || !pattern)
        printf("%s: %d passed, %d failed, %d skipped\n", topic, here[GOLDEN_PASS], here[GOLDEN_FAIL],
               here[GOLDEN_SKIP]);
    fflush(stdout);
    for (int v = 0; v < 3; v++)
        count[v] += here[v];
    return n;
}

static char *files[1024];
static int n_files;

static int found(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    if (type == FTW_F && !strcmp(path + at->base, "cases.json") && n_files < (int)(sizeof files / sizeof files[0]))
        files[n_files++] = strdup(path);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: run_golden DIR [PATTERN]\n");
        return 2;
    }
    char root[4000];
    snprintf(root, sizeof root, "%s", argv[1]);
    for (size_t n = strlen(root); n > 1 && root[n - 1] == '/'; n--)
        root[n - 1] = 0;
    if (nftw(root, found, 16, FTW_PHYS)) {
        fprintf(stderr, "run_golden: cannot walk %s: %s\n", root, strerror(errno));
        return 2;
    }
    qsort(files, (size_t)n_files, sizeof files[0], by_name);
    int count[3] = { 0 }, n = 0;
    for (int i = 0; i < n_files; i++) {
        n += run_topic(root, files[i], argc > 2 ? argv[2] : NULL, count);
        free(files[i]);
    }
    if (!n) {
        fprintf(stderr, "run_golden: no cases below %s\n", root);
        return 2;
    }
    const char *stale = golden_stale_skip();
    if (stale) {
        printf("FAIL skips.c skips %s, which has a row: take the entry out\n", stale);
        count[GOLDEN_FAIL]++;
    }
    printf("total: %d passed, %d failed, %d skipped\n", count[GOLDEN_PASS], count[GOLDEN_FAIL], count[GOLDEN_SKIP]);
    return count[GOLDEN_FAIL] ? 1 : 0;
}
