/* case_bad.c — files that are broken or hostile: refused in a sentence, or accepted where the case says so, never
 * with a crash, and never with more than 64 MiB taken. What is refused only at run time gets made-up inputs. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "golden.h"

enum { MOST_BYTES = 64 << 20 };

/* A feed per input: sizes that are not known become 2, values a small pattern. */
static int make_feeds(rq_feed *feed, int cap, const rq_graph *g)
{
    int n = 0;
    for (int i = 0; i < rq_graph_n_inputs(g) && n < cap; i++) {
        const rq_value_info info = rq_graph_input(g, i);
        rq_shape s = info.shape;
        s.rank = s.rank < 0 ? 0 : s.rank;
        for (int a = 0; a < s.rank; a++)
            s.dim[a] = s.dim[a] < 0 ? 2 : s.dim[a];
        if (rq_tensor_create(&feed[n].tensor, info.dtype == RQ_DTYPE_NONE ? RQ_DTYPE_F32 : info.dtype, &s, true))
            continue;
        if (info.dtype != RQ_DTYPE_STRING)
            for (int64_t k = 0, all = rq_tensor_count(&feed[n].tensor); k < all; k++)
                rq_tensor_set(&feed[n].tensor, k, (double)(k % 7) * 0.25);
        feed[n++].name = info.name;
    }
    return n;
}

golden_verdict golden_run_bad(golden_case *c)
{
    char path[4096];
    const char *expect = golden_str(c->json, "expect"), *when = golden_str(c->json, "when");
    if (!expect || !when || !golden_str(c->json, "model") || (strcmp(when, "load") && strcmp(when, "run"))) {
        golden_fail(c, "the case lacks expect, model or when (load, run)");
        return GOLDEN_FAIL;
    }
    const bool must_refuse = !strcmp(expect, "refuse"), must_accept = !strcmp(expect, "accept");
    if (!must_refuse && !must_accept && strncmp(expect, "refuse, or ", 11)) {
        golden_fail(c, "unknown kind of expectation: %s", expect);
        return GOLDEN_FAIL;
    }
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_session *s = NULL;
    rq_feed feed[16];
    rq_tensor out[16] = { 0 };
    int n = 0;
    const char *stage = "load";
    rq_status status = rq_load(&g, golden_path(path, sizeof path, c, golden_str(c->json, "model")), &err);
    if (!status && (!strcmp(when, "run") || must_accept)) {
        stage = "session";
        status = rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err);
        if (!status && rq_graph_n_outputs(g) <= 16) {
            stage = "run";
            n = make_feeds(feed, 16, g);
            status = rq_session_run(s, feed, n, out, &err);
            for (int i = 0; !status && i < rq_graph_n_outputs(g); i++)
                rq_tensor_release(&out[i]);
        }
    }
    if (status && must_accept)
        golden_fail(c, "%s refused=1 allowed=0: %s", stage, err.text);
    if (!status && must_refuse)
        golden_fail(c, "%s refused=0 allowed=1: %s", stage, golden_str(c->json, "wrong"));
    if (status && strlen(err.text) < 12)
        golden_fail(c, "%s sentence=%zu characters allowed=12: \"%s\"", stage, strlen(err.text), err.text);
    if (status == RQ_INTERNAL)
        golden_fail(c, "%s blames requant itself: %s", stage, err.text);
    if (rq_mem_peak() > MOST_BYTES)
        golden_fail(c, "memory bytes=%zu allowed=%d", rq_mem_peak(), MOST_BYTES);
    for (int i = 0; i < n; i++)
        rq_tensor_release(&feed[i].tensor);
    rq_session_destroy(s);
    rq_graph_destroy(g);
    if (!c->failed && rq_mem_live())
        golden_fail(c, "memory leaked=%zu bytes allowed=0 after %s", rq_mem_live(), stage);
    return GOLDEN_PASS;
}
