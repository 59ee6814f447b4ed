/* formats/state_file.c — a state (requant/state.h) as a file, name for name: .safetensors, else .npz. */
#include "requant/state.h"

#include <string.h>

#include "base/mem.h"
#include "formats/npy.h"
#include "formats/safetensors.h"
#include "requant/dataset.h"

static bool is_safetensors(const char *path)
{
    static const char suffix[] = ".safetensors";
    const size_t n = strlen(path), end = sizeof suffix - 1;
    return n > end && !strcmp(path + n - end, suffix);
}

rq_status rq_state_save(const rq_state *s, const char *path, rq_err *err)
{
    if (is_safetensors(path))
        return rq_safetensors_save(s, path, err);
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

static rq_status keep(void *arg, const char *name, const rq_tensor *t)
{
    return rq_state_set(arg, NULL, name, t);
}

rq_status rq_state_load(rq_state **out, const char *path, rq_err *err)
{
    rq_state *s = NULL;
    if (is_safetensors(path))
        return rq_safetensors_load(out, path, err);
    if (rq_state_create(&s))
        return rq_fail(err, RQ_NO_MEMORY, "%s: not enough memory to read it", path);
    const rq_status st = rq_npz_each(path, keep, s, err);
    if (st)
        rq_state_destroy(s);
    else
        *out = s;
    return st;
}
