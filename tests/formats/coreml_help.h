/* coreml_help.h — what tests of packages share. */
#ifndef RQ_TESTS_COREML_HELP_H
#define RQ_TESTS_COREML_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "formats/coreml.h"

#define GOLDEN "tests/golden/coreml/"

/* Same files, same bytes. */
static inline void same_package(const char *a, const char *b)
{
    rq_mlpackage *x = NULL, *y = NULL;
    rq_err why = { 0 };
    if (rq_mlpackage_open(&x, a, &why) || rq_mlpackage_open(&y, b, &why))
        fail_msg("%s", why.text);
    assert_int_equal(x->n_entries, y->n_entries);
    for (int i = 0; i < x->n_entries; i++) {
        rq_map p = { 0 }, q = { 0 };
        const rq_mlpackage_entry *e = rq_mlpackage_entry_at(y, x->entries[i].path);
        assert_non_null(e);
        assert_int_equal(e->kind, x->entries[i].kind);
        if (e->kind != RQ_MLPACKAGE_FILE)
            continue;
        if (rq_mlpackage_map(x, &p, e->path, &why) || rq_mlpackage_map(y, &q, e->path, &why))
            fail_msg("%s", why.text);
        if (p.size != q.size || memcmp(p.data, q.data, p.size) != 0)
            fail_msg("%s: %s has other bytes", a, e->path);
        rq_file_unmap(&p);
        rq_file_unmap(&q);
    }
    rq_mlpackage_close(x);
    rq_mlpackage_close(y);
}

#endif
