/* kernels/float_dnnl_base.h — what the files around oneDNN (2.6 and later, 3.x included) share: one thread per call, memory descriptors
 * of both versions, reorders. Only they include it. Functions are static: every user has the few it needs. */
#ifndef RQ_KERNELS_FLOAT_DNNL_BASE_H
#define RQ_KERNELS_FLOAT_DNNL_BASE_H

#include <dnnl.h>
#include <stdbool.h>
#include <stddef.h>

#include "requant/status.h"

/* ---- one OpenMP thread per call: the pool is ours ---- */

#if DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_OMP
extern int omp_get_max_threads(void);
extern void omp_set_num_threads(int n);

static inline int omp_enter(void)
{
    const int n = omp_get_max_threads();
    if (n != 1)
        omp_set_num_threads(1);
    return n;
}

static inline void omp_leave(int n)
{
    if (n != 1)
        omp_set_num_threads(n);
}
#else
static inline int omp_enter(void)
{
    return 1;
}

static inline void omp_leave(int n)
{
}
#endif

/* ---- what changed between oneDNN 2 and 3: memory descriptors became handles, operation descriptors went ---- */

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t md_ref;
typedef const_dnnl_primitive_desc_t pd_ref;
typedef struct md {
    dnnl_memory_desc_t d;
} md;

static inline md_ref md_get(const md *m)
{
    return m->d;
}

static inline void md_free(md *m)
{
    if (m->d)
        dnnl_memory_desc_destroy(m->d);
    m->d = NULL;
}
#else
typedef const dnnl_memory_desc_t *md_ref;
typedef const_dnnl_primitive_desc_t pd_ref;
typedef struct md {
    dnnl_memory_desc_t d;
} md;

static inline md_ref md_get(const md *m)
{
    return &m->d;
}

static inline void md_free(md *m)
{
}
#endif

static inline dnnl_status_t md_any(md *m, int nd, const dnnl_dim_t *dims)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_tag(&m->d, nd, dims, dnnl_f32, dnnl_format_tag_any);
#else
    return dnnl_memory_desc_init_by_tag(&m->d, nd, dims, dnnl_f32, dnnl_format_tag_any);
#endif
}

static inline dnnl_status_t md_strided(md *m, int nd, const dnnl_dim_t *dims, const dnnl_dim_t *strides)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_strides(&m->d, nd, dims, dnnl_f32, strides);
#else
    return dnnl_memory_desc_init_by_strides(&m->d, nd, dims, dnnl_f32, strides);
#endif
}

/* Row-major. */
static inline dnnl_status_t md_plain(md *m, int nd, const dnnl_dim_t *dims)
{
    dnnl_dims_t strides = { 0 };
    dnnl_dim_t step = 1;
    for (int i = nd - 1; i >= 0; i--) {
        strides[i] = step;
        step *= dims[i];
    }
    return md_strided(m, nd, dims, strides);
}

/* ---- reorders ---- */

static inline dnnl_status_t make_reorder(dnnl_primitive_t *out, md_ref from, md_ref to, dnnl_engine_t engine)
{
    dnnl_primitive_desc_t pd;
    dnnl_status_t s = dnnl_reorder_primitive_desc_create(&pd, from, engine, to, engine, NULL);
    if (s != dnnl_success)
        return s;
    s = dnnl_primitive_create(out, pd);
    dnnl_primitive_desc_destroy(pd);
    return s;
}

/* A memory object over p; checked by the caller with the rest. */
static inline dnnl_memory_t wrap(dnnl_engine_t engine, md_ref d, const void *p)
{
    dnnl_memory_t m = NULL;
    if (dnnl_memory_create(&m, d, engine, (void *)p) != dnnl_success)
        return NULL;
    return m;
}

static inline void unwrap(dnnl_memory_t m)
{
    if (m)
        dnnl_memory_destroy(m);
}

static inline dnnl_status_t reorder(dnnl_engine_t engine, dnnl_stream_t stream, dnnl_primitive_t p, md_ref from_md,
                                    const void *from, md_ref to_md, void *to)
{
    dnnl_exec_arg_t args[2] = { { DNNL_ARG_FROM, wrap(engine, from_md, from) },
                                { DNNL_ARG_TO, wrap(engine, to_md, to) } };
    dnnl_status_t s = args[0].memory && args[1].memory ? dnnl_success : dnnl_out_of_memory;
    if (s == dnnl_success)
        s = dnnl_primitive_execute(p, stream, 2, args);
    if (s == dnnl_success)
        s = dnnl_stream_wait(stream);
    unwrap(args[0].memory);
    unwrap(args[1].memory);
    return s;
}

static inline rq_status status_of(dnnl_status_t s)
{
    return s == dnnl_success ? RQ_OK : s == dnnl_out_of_memory ? RQ_NO_MEMORY : RQ_INTERNAL;
}

#endif
