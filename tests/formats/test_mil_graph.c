/* tests/formats/test_mil_graph.c — Core ML packages as graphs: how many nodes of the golden W8A8 packages run on codes, and memory that runs
 * out while one is read. What they compute is compared by tests/golden/case_coreml.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "requant/requant.h"

#define FOLDER "tests/golden/coreml/weights"

/* ---- on codes ---- */

/* What of a graph stays in float, by operator: the ends, and what stands where no edge is quantized. */
typedef struct on_codes {
    const char *package;
    int integer, steps; /* nodes on codes, of all */
} on_codes;

static void quantized_packages_run_on_codes(void **state)
{
    (void)state;
    /* conv, pool, conv, mean, linear; three convolutions; linear, linear, sigmoid in float, linear; conv, conv, add of ratios of scales, conv,
     * pool. Beside them the two ends, and in fp16 a Cast at each. */
    static const on_codes nets[] = {
        { "conv_symmetric_wqint8_aquint8_pc_iOS17_fp32", 5, 7 },
        { "conv_symmetric_wqint8_aquint8_pc_iOS17_fp16", 5, 9 },
        { "conv_affine_wquint8_aquint8_pt_iOS17_fp32", 5, 7 },
        { "conv_symmetric_wqint4_aquint8_pc_iOS18_fp32", 5, 7 },
        { "depthwise_symmetric_wqint8_aquint8_pc_iOS18_fp32", 3, 5 },
        { "depthwise_affine_wqint8_aquint8_pt_iOS17_fp32", 3, 5 },
        { "mlp_symmetric_wqint8_aquint8_pc_iOS17_fp32", 3, 7 },
        { "mlp_affine_wqint8_aquint8_pc_iOS18_fp32", 3, 7 },
        { "residual_symmetric_wqint8_aquint8_pc_iOS18_fp32", 5, 7 },
        { "residual_symmetric_wqint8_aquint8_pc_iOS17_fp16", 5, 9 },
        { "residual_affine_wqint8_aquint8_pc_iOS17_fp32", 5, 7 },
    };
    for (size_t k = 0; k < sizeof nets / sizeof nets[0]; k++) {
        char path[256];
        rq_graph *g = NULL;
        rq_session *s = NULL;
        rq_err err = { 0 };
        rq_feed feed;
        rq_tensor y;
        const rq_layer_info *layer;
        snprintf(path, sizeof path, "tests/golden/coreml/w8a8/%s.mlpackage", nets[k].package);
        if (rq_load(&g, path, &err) || rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err))
            fail_msg("%s", err.text);
        const rq_value_info x = rq_graph_input(g, 0);
        feed.name = x.name;
        assert_int_equal(rq_tensor_create(&feed.tensor, x.dtype, &x.shape, true), RQ_OK);
        if (rq_session_run(s, &feed, 1, &y, &err))
            fail_msg("%s: %s", path, err.text);
        const int n = rq_session_layers(s, &layer);
        int integer = 0;
        for (int i = 0; i < n; i++) {
            integer += layer[i].integer;
            if (!layer[i].integer && (!strcmp(layer[i].op, "Conv") || !strcmp(layer[i].op, "Gemm") ||
                                      !strcmp(layer[i].op, "Add") || strstr(layer[i].op, "Pool")))
                fail_msg("%s: '%s' (%s) is in float", path, layer[i].name, layer[i].op);
        }
        if (integer != nets[k].integer || n != nets[k].steps)
            fail_msg("%s: %d of %d nodes on codes, expected %d of %d", path, integer, n, nets[k].integer,
                     nets[k].steps);
        rq_tensor_release(&feed.tensor);
        rq_tensor_release(&y);
        rq_session_destroy(s);
        rq_graph_destroy(g);
    }
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char *const packages[] = { FOLDER "/linear_iOS17_fp32.mlpackage", FOLDER "/joint_palettize.mlpackage",
                                            FOLDER "/joint_prune.mlpackage",
                                            "tests/golden/coreml/w8a8/conv_ptq_uint4_b4_affine.mlpackage",
                                            "tests/golden/coreml_constexpr/iOS17_fp16.mlpackage" };
    for (size_t k = 0; k < sizeof packages / sizeof packages[0]; k++)
        for (size_t i = 1;; i++) {
            rq_graph *g = NULL;
            rq_err err = { 0 };
            const size_t live = rq_mem_live();
            rq_mem_fail_after(i, true);
            const rq_status st = rq_load(&g, packages[k], &err);
            rq_mem_fail_after(0, false);
            rq_graph_destroy(g);
            assert_int_equal(rq_mem_live(), live);
            if (!st)
                break;
            assert_int_equal(st, RQ_NO_MEMORY);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(quantized_packages_run_on_codes),
                                        cmocka_unit_test(every_allocation_may_fail) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
