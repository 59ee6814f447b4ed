/* formats/state_file.c — a state (requant/state.h) as a .npz, name for name. */
#include "requant/state.h"

#include "base/mem.h"
#include "requant/dataset.h"

rq_status rq_state_save(const rq_state *s, const char *path, rq_err *err)
{
    const int n = rq_state_count(s);
    rq_feed *arrays = rq_mem_alloc((size_t)n, sizeof *arrays);
    if (!arrays)
        return rq_fail(err, RQ_NO_MEMORY, "%s: not enough memory to write it", path);
    for (int i = 0; i < n; i++)
        arrays[i] = (rq_feed) { rq_state_name(s, i), *rq_state_tensor(s, i) };
    const rq_status st = rq_npz_save(path, arrays, n, err);
    rq_mem_free(arrays);
    return st;
}

static rq_status read_all(rq_state *s, const char *path, char **names, int n, rq_err *err)
{
    for (int i = 0; i < n; i++) {
        rq_tensor t;
        RQ_TRY(rq_npz_load(&t, path, names[i], err));
        const rq_status st = rq_state_set(s, NULL, names[i], &t);
        rq_tensor_release(&t);
        if (st)
            return rq_fail(err, st, "%s: not enough memory for array '%s'", path, names[i]);
    }
    return RQ_OK;
}

rq_status rq_state_load(rq_state **out, const char *path, rq_err *err)
{
    char **names;
    int n;
    rq_state *s = NULL;
    RQ_TRY(rq_npz_names(path, &names, &n, err));
    rq_status st = rq_state_create(&s);
    if (st)
        rq_fail(err, st, "%s: not enough memory to read it", path);
    else
        st = read_all(s, path, names, n, err);
    rq_mem_free(names);
    if (st)
        rq_state_destroy(s);
    else
        *out = s;
    return st;
}
