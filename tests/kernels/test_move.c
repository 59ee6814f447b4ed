/* tests/kernels/test_move.c — strided copies against one element at a time, over shapes that take each path: runs, tiles,
 * repeats, backwards, merged axes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kernels/move.h"

enum { RANK = 4 };

static void plain(char *dst, const char *src, size_t elem, int rank, const int64_t *dim, const int64_t *ds,
                  const int64_t *ss)
{
    if (rank == 0) {
        memcpy(dst, src, elem);
        return;
    }
    for (int64_t i = 0; i < dim[0]; i++)
        plain(dst + i * ds[0] * (int64_t)elem, src + i * ss[0] * (int64_t)elem, elem, rank - 1, dim + 1, ds + 1,
              ss + 1);
}

static void every_layout_is_copied(void **state)
{
    (void)state;
    static const size_t elems[] = { 1, 2, 3, 4, 8, 16 };
    rq_rng r;
    rq_threads *two;
    assert_int_equal(rq_threads_create(&two, 2), RQ_OK);
    rq_rng_seed(&r, 1);
    for (int turn = 0; turn < 3000; turn++) {
        size_t elem = elems[rq_rng_below(&r, 6)];
        int rank = (int)rq_rng_below(&r, RANK + 1), perm[RANK];
        int64_t dim[RANK], ds[RANK], ss[RANK], order[RANK], n = 1, at = 0, step = 1;
        for (int i = 0; i < rank; i++) {
            dim[i] = rq_rng_below(&r, 20) ? (int64_t)rq_rng_below(&r, i == 1                     ? 70
                                                                      : i == 2 && turn % 50 == 0 ? 900
                                                                                                 : 9) +
                                                1
                                          : 0;
            order[i] = i;
            n *= dim[i];
        }
        rq_rng_shuffle(&r, order, rank);
        for (int i = rank - 1; i >= 0; i--) { /* the destination is dense */
            ds[i] = step;
            step *= dim[i];
        }
        step = 1;
        for (int i = rank - 1; i >= 0;
             i--) { /* the source dense in another order, repeated or turned round in places */
            perm[i] = (int)order[i];
            ss[perm[i]] = step;
            step *= dim[perm[i]];
        }
        for (int i = 0; i < rank; i++) {
            uint64_t kind = rq_rng_below(&r, 8);
            if (kind == 0) {
                ss[i] = 0;
            } else if (kind == 1 && dim[i]) {
                at += ss[i] * (dim[i] - 1);
                ss[i] = -ss[i];
            }
        }
        size_t bytes = (size_t)n * elem;
        char *src = malloc(bytes + 1), *got = malloc(bytes + 1), *want = malloc(bytes + 1);
        for (size_t i = 0; i < bytes; i++)
            src[i] = (char)rq_rng_u64(&r);
        memset(got, 1, bytes + 1);
        memset(want, 1, bytes + 1);
        plain(want, src + at * (int64_t)elem, elem, rank, dim, ds, ss);
        rq_move_nd(got, src + at * (int64_t)elem, elem, rank, dim, ds, ss);
        assert_memory_equal(got, want, bytes + 1);
        memset(got, 1, bytes + 1);
        rq_move_nd_on(two, got, src + at * (int64_t)elem, elem, rank, dim, ds, ss);
        assert_memory_equal(got, want, bytes + 1);
        free(src);
        free(got);
        free(want);
    }
    rq_threads_destroy(two);
}

static void fill_repeats(void **state)
{
    (void)state;
    uint32_t v = 0x01020304, y[5] = { 0 };
    rq_move_fill(y, &v, 4, 4);
    assert_true(y[0] == v && y[3] == v && y[4] == 0);
    v = 0x07070707;
    rq_move_fill(y, &v, 4, 2);
    assert_true(y[1] == v && y[2] == 0x01020304);
    rq_move_fill(y, &v, 4, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_layout_is_copied), cmocka_unit_test(fill_repeats) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
