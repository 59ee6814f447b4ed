/* run_onnx.c — run_onnx DIR... [-k PATTERN] [-v] [--coreml TARGET] [--save FOLDER] [--at-least N]: run every backend test case of ONNX
 * below the folders.
 *
 * --coreml: by way of a Core ML package for that specification (6 to 10; 0: the lowest that can), in memory; those that no package can
 * express are not run, with the sentence that says why. --save: keep the packages. --at-least: fewer that pass are a failure.
 *
 * Prints a line per failure, then per operator what passed, failed and was not run, with the reasons; -v lists operators
 * without failures, too. PATTERN (a glob over kind/name) limits it. Exit 0: nothing failed; 1: something did; 2: there was
 * nothing to run. */
#include <errno.h>
#include <fnmatch.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnx_tests.h"

typedef struct tally {
    char op[64];
    const char *reason; /* of those not run */
    int count[3];
} tally;

static char **found;
static size_t n_found, cap_found;

static int look(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    if (type != FTW_F || strcmp(path + at->base, "model.onnx"))
        return 0;
    if (n_found == cap_found) {
        cap_found = cap_found ? 2 * cap_found : 1024;
        found = realloc(found, cap_found * sizeof *found);
        if (!found)
            abort();
    }
    found[n_found] = strndup(path, (size_t)at->base - 1);
    return found[n_found++] ? 0 : -1;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int by_op(const void *a, const void *b)
{
    return strcmp(((const tally *)a)->op, ((const tally *)b)->op);
}

static golden_verdict (*run_case)(golden_case *) = onnx_case_run;
static tally tallies[1024];
static int n_tallies;

static void count(const onnx_look *l, golden_verdict v)
{
    int i = 0;
    while (i < n_tallies && strcmp(tallies[i].op, l->op))
        i++;
    if (i == (int)(sizeof tallies / sizeof tallies[0]))
        abort();
    if (i == n_tallies) {
        n_tallies++;
        snprintf(tallies[i].op, sizeof tallies[i].op, "%s", l->op);
    }
    tallies[i].count[v]++;
    if (v == GOLDEN_SKIP)
        tallies[i].reason = l->reason;
}

static void run_one(const char *dir, const char *pattern)
{
    char kind[300], full[600], path[4096];
    const char *name = strrchr(dir, '/') + 1, *k = name - 1;
    while (k > dir && k[-1] != '/')
        k--;
    snprintf(kind, sizeof kind, "%.*s", (int)(name - 1 - k), k);
    snprintf(full, sizeof full, "%s/%s", kind, name);
    if (pattern && fnmatch(pattern, full, 0))
        return;
    golden_case c = { .topic = kind, .dir = dir, .id = name };
    onnx_look l = onnx_look_at(golden_path(path, sizeof path, &c, "model.onnx"));
    const golden_verdict v = l.reason ? GOLDEN_SKIP : golden_guarded(&c, run_case);
    if (v == GOLDEN_SKIP && !l.reason)
        l.reason = run_case == onnx_case_run ? "data of onnx 1.12: bfloat16 cut off, called uint16"
                                             : "no package can express it";
    count(&l, v);
}

static int report(bool all, int at_least)
{
    int sum[3] = { 0 };
    qsort(tallies, (size_t)n_tallies, sizeof tallies[0], by_op);
    printf("%-32s %7s %7s %7s\n", "operator", "passed", "failed", "not run");
    for (int i = 0; i < n_tallies; i++) {
        const tally *t = &tallies[i];
        for (int v = 0; v < 3; v++)
            sum[v] += t->count[v];
        if (all || t->count[GOLDEN_FAIL] || t->count[GOLDEN_SKIP])
            printf("%-32s %7d %7d %7d%s%s\n", t->op, t->count[GOLDEN_PASS], t->count[GOLDEN_FAIL],
                   t->count[GOLDEN_SKIP], t->reason ? "  " : "", t->reason ? t->reason : "");
    }
    if (sum[GOLDEN_PASS] < at_least) {
        printf("FAIL passed=%d allowed=%d: cases that passed do no longer\n", sum[GOLDEN_PASS], at_least);
        sum[GOLDEN_FAIL]++;
    }
    const char *stale = onnx_stale_reason();
    if (stale) {
        printf("FAIL not_run.c lists %s, which has a row: take the entry out\n", stale);
        sum[GOLDEN_FAIL]++;
    }
    printf("total: %d passed, %d failed, %d not run\n", sum[GOLDEN_PASS], sum[GOLDEN_FAIL], sum[GOLDEN_SKIP]);
    return sum[0] + sum[1] + sum[2] == 0 ? 2 : sum[GOLDEN_FAIL] ? 1 : 0;
}

int main(int argc, char **argv)
{
    static rq_coreml_cfg cfg;
    const char *pattern = NULL, *folder = NULL;
    int at_least = 0;
    bool all = false, dirs = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-v")) {
            all = true;
        } else if (!strcmp(argv[i], "-k") && i + 1 < argc) {
            pattern = argv[++i];
        } else if (!strcmp(argv[i], "--coreml") && i + 1 < argc) {
            cfg.target = (rq_coreml_target)atoi(argv[++i]);
            run_case = onnx_case_run_package;
        } else if (!strcmp(argv[i], "--save") && i + 1 < argc) {
            folder = argv[++i];
        } else if (!strcmp(argv[i], "--at-least") && i + 1 < argc) {
            at_least = atoi(argv[++i]);
        } else if (nftw(argv[i], look, 16, FTW_PHYS)) {
            fprintf(stderr, "run_onnx: cannot walk %s: %s\n", argv[i], strerror(errno));
            return 2;
        } else {
            dirs = true;
        }
    }
    if (!dirs) {
        fprintf(stderr, "usage: run_onnx DIR... [-k PATTERN] [-v] [--coreml TARGET] [--save FOLDER] [--at-least N]\n");
        return 2;
    }
    onnx_case_packages(&cfg, folder);
    qsort(found, n_found, sizeof *found, by_name);
    for (size_t i = 0; i < n_found; i++) {
        run_one(found[i], pattern);
        free(found[i]);
    }
    free(found);
    int rc = report(all, at_least);
    if (rc == 2)
        fprintf(stderr, "run_onnx: no cases\n");
    return rc;
}
