/* tests/ops/test_grad.c — every backward against differences of its forward: runs the cases of tests/ops/grad_*.c, then looks for
 * rows that none of them reached. One argument: only that file's cases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ops/grad_check.h"

#define GRAD(name)                                                                                                     \
    static void test_##name(void **unused)                                                                             \
    {                                                                                                                  \
        (void)unused;                                                                                                  \
        grad_##name();                                                                                                 \
    }
#include "ops/grad_cases.inc"
#undef GRAD

/* Runs last. */
static void every_backward_has_a_case(void **unused)
{
    (void)unused;
    int missing = 0;
    const rq_op *row;
    for (int i = 0; (row = rq_op_at(i)); i++)
        if (row->backward && !grad_has(row)) {
            print_error("%s%s%s has a backward and no case in tests/ops/grad_*.c\n", row->domain,
                        *row->domain ? "." : "", row->name);
            missing++;
        }
    assert_int_equal(missing, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define GRAD(name) { "gradients_of_" #name, test_##name, NULL, NULL, NULL },
#include "ops/grad_cases.inc"
#undef GRAD
        cmocka_unit_test(every_backward_has_a_case),
    };
    char one[80];
    if (argc > 1) {
        snprintf(one, sizeof one, "gradients_of_%s", argv[1]);
        cmocka_set_test_filter(one);
    }
    grad_begin();
    const int failed = cmocka_run_group_tests_name("grad", tests, NULL, NULL);
    grad_end();
    return failed;
}
