/* run_golden.c — run_golden [--levels] DIR [PATTERN]: compare requant with every cases.json below DIR; with --levels instead its models with themselves
 * at every level of RQ_CPU (levels.c).
 *
 * Prints a line per failure and skip, then counts per topic and in all. PATTERN (a glob over topic/id)
 * limits it. Exit 0: nothing failed; 1: something did; 2: there was nothing to run. Never writes a file. */
#include <errno.h>
#include <fnmatch.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "golden.h"

const char *golden_str(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

bool golden_array(golden_case *c, rq_tensor *out, const char *key)
{
    char path[4096];
    rq_err err = { 0 };
    const rq_tensor *kept = c->arrays && key ? rq_state_find(c->arrays, key) : NULL;
    if (kept && rq_tensor_copy(out, kept) == RQ_OK)
        return true;
    if (rq_npz_load(out, golden_path(path, sizeof path, c, "data.npz"), key, &err) == RQ_OK)
        return true;
    golden_fail(c, "cannot read array %s: %s", key, err.text);
    return false;
}

/* A topic's arrays, read once for all its cases; NULL: there are none, or they are too large to be kept. */
static rq_state *arrays_of(const char *dir)
{
    enum { MOST = 64 << 20 };
    char path[4200];
    struct stat st;
    rq_state *s = NULL;
    snprintf(path, sizeof path, "%s/data.npz", dir);
    if (stat(path, &st) || st.st_size > MOST || rq_state_load(&s, path, NULL))
        return NULL;
    return s;
}

/* The kinds, in the order their marks are looked for. */
static const struct kind {
    const char *mark;
    golden_verdict (*run)(golden_case *c);
} kinds[] = {
    { "expect", golden_run_bad },
    { "quantized", golden_run_static },
    { "package", golden_run_coreml },
    { "model", golden_run_model },
    { "op", golden_run_op },
    { "op_types", golden_run_coreml }, /* what a Core ML package was quantized into, its numbers only */
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
    const json_t *tolerance = json_object_get(c->json, "tolerance");
    if (tolerance && !json_is_null(tolerance) && !golden_tolerance_known(c, tolerance))
        return GOLDEN_FAIL;
    golden_verdict v = k->run(c);
    return c->failed ? GOLDEN_FAIL : v;
}

static int run_topic(const char *root, const char *file, const char *pattern, bool levels, int count[3])
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
    rq_state *arrays = NULL;
    bool looked = false;
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
        if (!looked)
            arrays = arrays_of(dir);
        looked = true;
        c.arrays = arrays;
        here[golden_guarded(&c, levels ? golden_run_levels : run_case)]++;
    }
    rq_state_destroy(arrays);
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
    const bool levels = argc > 1 && !strcmp(argv[1], "--levels");
    argc -= levels, argv += levels;
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: run_golden [--levels] DIR [PATTERN]\n");
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
        n += run_topic(root, files[i], argc > 2 ? argv[2] : NULL, levels, count);
        free(files[i]);
    }
    if (!n) {
        fprintf(stderr, "run_golden: no cases below %s\n", root);
        return 2;
    }
    printf("total: %d passed, %d failed, %d skipped\n", count[GOLDEN_PASS], count[GOLDEN_FAIL], count[GOLDEN_SKIP]);
    return count[GOLDEN_FAIL] ? 1 : 0;
}
