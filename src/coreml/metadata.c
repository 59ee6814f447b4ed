/* coreml/metadata.c — the state dict of a network that coremltools.optimize.torch compressed: floats and, beside them, buffers that say what they are
 * (docs/coreml-facts.md 10). Each weight is found in the program by its name, or else by its numbers, turned over too. */
#include "coreml/metadata.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/nearest.h"
#include "coreml/element.h"
#include "coreml/raise.h"
#include "requant/state.h"

#define PREFIX "_COREML_"

typedef struct reader {
    const rq_state *state;
    rq_metadata *at;
    int n, cap;
    rq_arena a;
    rq_err *err;
} reader;

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory reading metadata of compression");
}

/* ---- buffers ---- */

static rq_status grid_of(reader *r, rq_metadata_grid *out, const char *name, const rq_tensor *t)
{
    *out = (rq_metadata_grid) { .rank = t->shape.rank, .n = rq_tensor_count(t) };
    if (out->n < 1 || t->dtype == RQ_DTYPE_STRING || t->dtype == RQ_DTYPE_BOOL)
        return rq_fail(r->err, RQ_BAD_DATA, "'%.150s' has no numbers", name);
    memcpy(out->dim, t->shape.dim, (size_t)out->rank * sizeof *out->dim);
    out->v = rq_arena_alloc(&r->a, (size_t)out->n, sizeof *out->v);
    if (!out->v)
        return no_memory(r->err);
    for (int64_t i = 0; i < out->n; i++)
        out->v[i] = (float)rq_tensor_get(t, i);
    return RQ_OK;
}

static rq_status integer_of(reader *r, int *out, const char *name, const rq_tensor *t, int64_t i, int64_t lo,
                            int64_t hi)
{
    const double v = i < rq_tensor_count(t) && t->dtype != RQ_DTYPE_STRING ? rq_tensor_get(t, i) : NAN;
    if (!(v >= (double)lo && v <= (double)hi) || v != floor(v))
        return rq_fail(r->err, RQ_BAD_DATA, "'%.150s': expected an integer from %" PRId64 " to %" PRId64, name, lo, hi);
    *out = (int)v;
    return RQ_OK;
}

static rq_status read_types(reader *r, rq_metadata *d, const char *name, const rq_tensor *t)
{
    const int64_t n = rq_tensor_count(t);
    if (n > RQ_METADATA_TYPES)
        return rq_fail(
            r->err, RQ_BAD_DATA,
            "There are coreml compression related buffers registered in the torch model (with _COREML_ in the "
            "buffer's name) for %s, but the 'compression_type' has too many values. Support at most 3 values.",
            d->param);
    d->n_types = (int)n;
    for (int i = 0; i < d->n_types; i++)
        RQ_TRY(integer_of(r, &d->type[i], name, t, i, RQ_METADATA_PRUNING, RQ_METADATA_QUANTIZATION));
    return RQ_OK;
}

static rq_status read_key(reader *r, rq_metadata *d, const char *key, const char *name, const rq_tensor *t)
{
    static const char *const known[] = {
        "compression_type",    "quantization_n_bits", "quantization_scale", "zero_point", "lut",
        "palettization_scale", "vector_axis"
    };
    rq_metadata_grid *grids[] = { NULL, NULL, &d->scale, &d->zero_point, &d->lut, &d->palette_scale, NULL };
    char hint[RQ_NEAREST_HINT];
    rq_nearest near = rq_nearest_to(key);
    for (int i = 0; i < 7; i++) {
        rq_nearest_try(&near, known[i]);
        if (strcmp(known[i], key) != 0)
            continue;
        if (grids[i])
            return grid_of(r, grids[i], name, t);
        if (i == 0)
            return read_types(r, d, name, t);
        d->has_vector_axis |= i == 6;
        return i == 1 ? integer_of(r, &d->nbits, name, t, 0, 1, 8)
                      : integer_of(r, &d->vector_axis, name, t, 0, -RQ_MAX_RANK, RQ_MAX_RANK);
    }
    return rq_fail(r->err, RQ_BAD_DATA, "'%.150s': there is no buffer '%.60s' of compression%s", name, key,
                   rq_nearest_hint(&near, hint));
}

static rq_metadata *metadata_of(reader *r, const char *param)
{
    for (int i = 0; i < r->n; i++)
        if (!strcmp(r->at[i].param, param))
            return &r->at[i];
    if (!rq_mem_grow(&r->at, r->n, &r->cap, sizeof *r->at))
        return NULL;
    r->at[r->n] = (rq_metadata) { .param = param };
    return &r->at[r->n++];
}

/* "layer1.conv._COREML_/weight/zero_point": of "layer1.conv.weight", "zero_point". */
static rq_status read_buffer(reader *r, const char *name, const rq_tensor *t)
{
    const char *prefix = strstr(name, PREFIX);
    if (!prefix || strstr(name, PREFIX "/metadata_version"))
        return RQ_OK;
    const char *key = strrchr(name, '/'), *param = NULL;
    for (const char *c = key; c && c > prefix && !param; c--)
        if (c != key && *c == '/')
            param = c + 1;
    if (!param || param + 1 > key || (prefix != name && prefix[-1] != '.'))
        return rq_fail(r->err, RQ_BAD_DATA, "'%.150s': expected [<module>.]" PREFIX "/<parameter>/<key>", name);
    const size_t module = (size_t)(prefix - name), n = (size_t)(key - param);
    char *full = rq_arena_alloc(&r->a, module + n + 1, 1);
    rq_metadata *d = NULL;
    if (full) {
        memcpy(full, name, module);
        memcpy(full + module, param, n);
        d = metadata_of(r, full);
    }
    return d ? read_key(r, d, key + 1, name, t) : no_memory(r->err);
}

static rq_status read_all(reader *r)
{
    for (int i = 0; i < rq_state_count(r->state); i++)
        RQ_TRY(read_buffer(r, rq_state_name(r->state, i), rq_state_tensor(r->state, i)));
    for (int i = 0; i < r->n; i++)
        if (!r->at[i].n_types)
            return rq_fail(
                r->err, RQ_BAD_DATA,
                "There are coreml compression related buffers registered in the torch model (with _COREML_ in the "
                "buffer's name) for %s, but the 'compression_type' is not set. Please set it to indicate the type "
                "of compression used on the weight.",
                r->at[i].param);
    return RQ_OK;
}

/* ---- the constants of the program ---- */

/* Is `name` what a program calls `param`? */
static bool is_named(const char *name, const char *param)
{
    const bool digit = *param >= '0' && *param <= '9';
    if (digit) {
        if (strncmp(name, "var_", 4) != 0)
            return false;
        name += 4;
    }
    for (; *name && *param; name++, param++) {
        const char c = *param;
        const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
        if (*name != (word ? c : '_'))
            return false;
    }
    return !*name && !*param;
}

static bool same_dims(const rq_mil_type *t, const rq_metadata_grid *w, bool turned)
{
    if (t->kind != RQ_MIL_TENSOR || t->rank != w->rank || (turned && w->rank != 2))
        return false;
    for (int i = 0; i < w->rank; i++)
        if (!t->dim[i].known || t->dim[i].size != (uint64_t)w->dim[turned ? 1 - i : i])
            return false;
    return true;
}

/* The same numbers, but for the rounding of fp16. */
static bool same_numbers(const rq_tensor *t, const rq_metadata_grid *w, bool turned)
{
    for (int64_t i = 0; i < w->n; i++) {
        const int64_t k = turned ? i % w->dim[0] * w->dim[1] + i / w->dim[0] : i;
        const float x = rq_element_round(t->dtype, w->v[k]), y = (float)rq_tensor_get(t, i);
        if (x != y && !(isnan(x) && isnan(y)) && fabsf(x - y) > 1e-6f * fabsf(x))
            return false;
    }
    return true;
}

typedef struct finder {
    reader *r;
    rq_coreml *m;
    const rq_metadata *d;
    rq_metadata_place *place;
    bool by_name, found, other; /* other: the name fits, the numbers do not */
} finder;

static rq_status look(finder *f, rq_mil_block *b)
{
    rq_metadata_grid *w = &f->place->weight;
    for (int i = 0; i < b->n_ops && !f->found; i++) {
        rq_mil_op *op = b->ops[i];
        for (int k = 0; k < op->n_blocks; k++)
            RQ_TRY(look(f, op->blocks[k]));
        const rq_mil_value *v = !strcmp(op->type, "const") && op->n_outputs == 1 ? rq_mil_op_attr(op, "val") : NULL;
        const bool reals = v && v->type->kind == RQ_MIL_TENSOR &&
                           (v->type->dtype->dtype == RQ_DTYPE_F32 || v->type->dtype->dtype == RQ_DTYPE_F16);
        if (f->found || !reals || (f->by_name && !is_named(op->outputs[0].name, f->d->param)))
            continue;
        if (f->by_name && !w->v) { /* the file has buffers only */
            rq_tensor t = { 0 };
            RQ_TRY(rq_coreml_tensor(f->m, &t, v, f->r->err));
            const rq_status s = grid_of(f->r, w, f->d->param, &t);
            rq_tensor_release(&t);
            RQ_TRY(s);
        }
        for (int turned = 0; turned < 2 && w->v && !f->found; turned++) {
            rq_tensor t = { 0 };
            if (!same_dims(v->type, w, turned))
                continue;
            RQ_TRY(rq_coreml_tensor(f->m, &t, v, f->r->err));
            f->found = same_numbers(&t, w, turned);
            rq_tensor_release(&t);
            if (!f->found)
                continue;
            f->place->block = b;
            f->place->op = op;
            f->place->turned = turned;
        }
        f->other |= f->by_name && !f->found;
    }
    return RQ_OK;
}

static rq_status name_nearest(rq_coreml *m, const rq_metadata *d, rq_err *err)
{
    char hint[RQ_NEAREST_HINT];
    rq_nearest near = rq_nearest_to(d->param);
    for (int k = 0; k < m->program.n_functions; k++)
        for (int i = 0; i < m->program.functions[k]->block->n_ops; i++) {
            const rq_mil_op *op = m->program.functions[k]->block->ops[i];
            if (!strcmp(op->type, "const") && op->n_outputs && op->outputs[0].type->rank > 1)
                rq_nearest_try(&near, op->outputs[0].name);
        }
    return rq_fail(err, RQ_NOT_FOUND, "%s: the program has no constant of this name or with these numbers%s", d->param,
                   rq_nearest_hint(&near, hint));
}

static rq_status find(reader *r, rq_coreml *m, const rq_metadata *d, rq_metadata_place *place)
{
    finder f = { .r = r, .m = m, .d = d, .place = place, .by_name = true };
    const rq_tensor *t = rq_state_find(r->state, d->param);
    *place = (rq_metadata_place) { .m = m };
    if (t)
        RQ_TRY(grid_of(r, &place->weight, d->param, t));
    for (int k = 0; k < m->program.n_functions; k++)
        RQ_TRY(look(&f, m->program.functions[k]->block));
    if (f.other && !f.found)
        return rq_fail(r->err, RQ_BAD_DATA,
                       "%s: the model's constant has other numbers than the file; are both of the same network?",
                       d->param);
    f.by_name = false;
    for (int k = 0; !f.found && place->weight.v && k < m->program.n_functions; k++)
        RQ_TRY(look(&f, m->program.functions[k]->block));
    return f.found ? RQ_OK : name_nearest(m, d, r->err);
}

/* ---- the whole ---- */

static const char *types_text(const rq_metadata *d)
{
    static const char *const words[] = { "", "pruning", "palettization", "quantization" };
    if (d->n_types == 3)
        return "pruning, palettization, quantization";
    if (d->n_types == 1)
        return words[d->type[0]];
    return d->type[0] == RQ_METADATA_PRUNING
               ? d->type[1] == RQ_METADATA_PALETTIZATION ? "pruning, palettization" : "pruning, quantization"
               : "palettization, quantization";
}

static rq_status apply_one(reader *r, rq_coreml *m, const rq_metadata *d, rq_metadata_place *p,
                           rq_coreml_report *report)
{
    char type[120], config[80];
    const rq_mil_op *reader_of = NULL;
    uint64_t bytes = 0;
    const char *op = NULL;
    const rq_mil_type *t = p->op->outputs[0].type;
    (void)m;
    for (int i = 0; i < p->block->n_ops && !reader_of; i++)
        for (int k = 0; k < p->block->ops[i]->n_args; k++)
            for (int j = 0; j < p->block->ops[i]->args[k].n; j++)
                if (p->block->ops[i]->args[k].binding[j].name &&
                    !strcmp(p->block->ops[i]->args[k].binding[j].name, p->op->outputs[0].name))
                    reader_of = p->block->ops[i];
    snprintf(config, sizeof config, "%s", types_text(d));
    rq_coreml_entry_of e = { .name = d->param,
                             .type = rq_mil_type_text(t, type, sizeof type),
                             .user = reader_of ? rq_mil_op_name(reader_of) : "",
                             .user_type = reader_of ? reader_of->type : "",
                             .why = "",
                             .config = config,
                             .before = rq_mil_dtype_bytes(t->dtype, (uint64_t)p->weight.n) };
    RQ_TRY(rq_metadata_build(d, p, &op, &bytes, r->err));
    e.op = op;
    e.after = bytes;
    return rq_coreml_report_add(report, &e, r->err);
}

static rq_status apply(reader *r, rq_coreml *m, bool may_raise, rq_coreml_report *report)
{
    int32_t spec = m->spec;
    RQ_TRY(read_all(r));
    if (!r->n)
        return rq_fail(r->err, RQ_NOT_FOUND,
                       "the file has no buffers of coremltools.optimize.torch (%s/<parameter>/<key>)", PREFIX);
    rq_metadata_place *place = rq_arena_alloc(&r->a, (size_t)r->n, sizeof *place);
    if (!place)
        return no_memory(r->err);
    for (int i = 0; i < r->n; i++) {
        int32_t need;
        RQ_TRY(find(r, m, &r->at[i], &place[i]));
        RQ_TRY(rq_metadata_check(&r->at[i], &place[i].weight, &need, r->err));
        if (need > m->spec && !may_raise)
            return rq_fail(r->err, RQ_UNSUPPORTED, "%s: %s in this form needs iOS %d, the package is for iOS %d",
                           r->at[i].param, types_text(&r->at[i]), need + 9, (int)m->spec + 9);
        for (int k = 0; k < i; k++)
            if (place[k].op == place[i].op)
                return rq_fail(r->err, RQ_BAD_DATA, "%s and %s are one constant in the program", r->at[k].param,
                               r->at[i].param);
        spec = need > spec ? need : spec;
    }
    RQ_TRY(rq_coreml_raise(m, spec, r->err));
    for (int i = 0; i < r->n; i++)
        RQ_TRY(apply_one(r, m, &r->at[i], &place[i], report));
    return rq_coreml_cleanup(m, r->err);
}

rq_status rq_coreml_apply_metadata(rq_coreml *m, const rq_state *state, bool may_raise, rq_coreml_report **report,
                                   rq_err *err)
{
    reader r = { .state = state, .err = err };
    rq_coreml_report *done;
    RQ_TRY(rq_coreml_one_function(m, "metadata of compression", err));
    RQ_TRY(rq_coreml_report_create(&done, "metadata of compression", err));
    const rq_status s = apply(&r, m, may_raise, done);
    rq_mem_free(r.at);
    rq_arena_release(&r.a);
    if (!s && report)
        *report = done;
    else
        rq_coreml_report_destroy(done);
    return s;
}
