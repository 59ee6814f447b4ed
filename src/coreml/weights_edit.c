/* coreml/weights_edit.c — what makers of compressed weights use: the bytes of a value, names that are free, block sizes, and the replacement of a
 * constant. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "coreml/weights.h"

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "not enough memory to compress weights");
}

/* ---- values ---- */

rq_status rq_coreml_weight_bytes(rq_coreml *m, rq_mil_value *v, const uint8_t **data, uint64_t *bytes, rq_err *err)
{
    *bytes = rq_mil_dtype_bytes(v->type->dtype, v->n);
    if (v->kind == RQ_MIL_IMMEDIATE) {
        *data = v->data;
        return v->bytes == *bytes
                   ? RQ_OK
                   : rq_fail(err, RQ_BAD_FILE, "an immediate value has %" PRIu64 " bytes, expected %" PRIu64, v->bytes,
                             *bytes);
    }
    if (v->kind == RQ_MIL_BLOB && v->produce) {
        uint8_t *own = rq_arena_alloc(&m->program.arena, *bytes ? (size_t)*bytes : 1, 1);
        if (!own)
            return no_memory(err);
        rq_milblob_writer w = { .memory = own, .left = *bytes };
        RQ_TRY(v->produce(v->produce_arg, &w, err));
        RQ_TRY(rq_milblob_end(&w, err));
        v->data = own;
        v->bytes = *bytes;
        v->produce = NULL;
    }
    rq_milblob blob;
    RQ_TRY(rq_coreml_blob(m, &blob, v, err));
    *data = blob.data;
    *bytes = blob.bytes;
    return RQ_OK;
}

rq_mil_value *rq_coreml_value(rq_coreml *m, const char *dtype, int rank, const int64_t *dim, const void *data)
{
    rq_mil_program *p = &m->program;
    rq_mil_type *type = rq_mil_tensor_type(p, rq_mil_dtype_of_name(dtype), rank, dim);
    bool known;
    if (!type)
        return NULL;
    const uint64_t n = rq_mil_type_count(type, &known), bytes = rq_mil_dtype_bytes(type->dtype, n);
    if (n < 10)
        return rq_mil_immediate(p, type, data);
    void *own = rq_arena_alloc(&p->arena, (size_t)bytes, 1);
    if (!own)
        return NULL;
    memcpy(own, data, (size_t)bytes);
    return rq_mil_blob(p, type, own);
}

void rq_coreml_weight_forget(const rq_mil_value *v, const uint8_t *data, uint64_t bytes)
{
    if (v->file)
        rq_file_forget(data, (size_t)bytes);
}

bool rq_coreml_same_bytes(const uint8_t *a, const uint8_t *b, uint64_t n, bool mapped)
{
    const uint64_t piece = (uint64_t)1 << 22;
    bool same = true;
    for (uint64_t at = 0; at < n && same; at += piece) {
        const size_t some = (size_t)(n - at < piece ? n - at : piece);
        same = !memcmp(a + at, b + at, some);
        if (mapped) {
            rq_file_forget(a + at, some);
            rq_file_forget(b + at, some);
        }
    }
    return same;
}

/* ---- names ---- */

typedef struct seeker {
    const char *name;
    bool found;
} seeker;

static rq_status seek(void *arg, const rq_mil_function *f, const rq_mil_op *op, rq_err *err)
{
    seeker *s = arg;
    (void)err;
    s->found |= !strcmp(rq_mil_op_name(op), s->name);
    for (int i = 0; i < op->n_outputs; i++)
        s->found |= !strcmp(op->outputs[i].name, s->name);
    for (int i = 0; i < op->n_blocks; i++)
        for (int k = 0; k < op->blocks[i]->n_inputs; k++)
            s->found |= !strcmp(op->blocks[i]->inputs[k].name, s->name);
    for (int i = 0; i < f->n_inputs; i++)
        s->found |= !strcmp(f->inputs[i].name, s->name);
    return RQ_OK;
}

const char *rq_coreml_weight_name(const rq_coreml_weight *w, const char *suffix)
{
    rq_mil_program *p = &w->m->program;
    const size_t n = strlen(w->name) + strlen(suffix) + 16;
    char *name = rq_arena_alloc(&p->arena, n, 1);
    if (!name)
        return NULL;
    snprintf(name, n, "%s%s", w->name, suffix);
    for (int i = 0;; i++) {
        seeker s = { name, false };
        rq_mil_each_op(p, seek, &s, NULL);
        if (!s.found)
            return name;
        snprintf(name, n, "%s%s_%d", w->name, suffix, i);
    }
}

const char *rq_coreml_weight_output(const rq_coreml_weight *w, const char *op_name)
{
    return w->is_output ? w->def->name : op_name;
}

/* ---- replacing ---- */

rq_status rq_coreml_weight_replace(rq_coreml_weight *w, rq_mil_op *op, int i, rq_mil_op *before, rq_err *err)
{
    rq_mil_program *p = &w->m->program;
    const int at = rq_coreml_uses_position(w->block, before ? before : w->op);
    if (at < 0)
        return rq_fail(err, RQ_INTERNAL, "'%s' is not where it was", w->name);
    if (!rq_mil_block_insert(p, w->block, at, op))
        return no_memory(err);
    const char *name = op->outputs[i].name;
    if (w->param) {
        rq_mil_arg *arg = rq_mil_op_arg(w->op, w->param);
        if (!arg || arg->n != 1)
            return rq_fail(err, RQ_INTERNAL, "'%s' is no parameter", w->name);
        arg->binding[0] = (rq_mil_binding) { .name = name };
        return RQ_OK;
    }
    for (const rq_coreml_def *d = w->def; d < w->walk->uses.def + w->walk->uses.n && d->op == w->op; d++)
        rq_coreml_def_rename(d, name, false);
    rq_coreml_uses_remove(w->block, w->op);
    return RQ_OK;
}

/* ---- blocks ---- */

rq_status rq_coreml_weight_blocks(rq_coreml_weight *w, int rank, const int64_t *dim, int64_t block[RQ_MIL_MAX_RANK],
                                  bool *ok, rq_err *err)
{
    const rq_coreml_op_config *op = w->config;
    *ok = true;
    memset(block, 0, RQ_MIL_MAX_RANK * sizeof *block);
    if (op->granularity == RQ_COREML_PER_BLOCK && op->block_size_is_list) {
        if (op->n_block_size != rank)
            return rq_fail(
                err, RQ_BAD_ARG,
                "The block_size in config must has one element for each axis. However, for op '%.100s', there "
                "are %d elements in block_size, but there are %d axes in the weight.",
                w->name, op->n_block_size, rank);
        memcpy(block, op->block_size, (size_t)rank * sizeof *block);
    } else {
        int output = w->output_axis;
        const int input = w->input_axis;
        if (output == RQ_COREML_NO_AXIS || input == RQ_COREML_NO_AXIS) {
            *ok = false;
            return rq_coreml_weight_left(w, true, err,
                                         "its readers have their channels on different axes, so the axis is not known");
        }
        if (op->granularity == RQ_COREML_PER_GROUPED_CHANNEL && op->channel_axis != RQ_COREML_AXIS_OF_OP)
            output = (int)(op->channel_axis < 0 ? op->channel_axis + rank : op->channel_axis);
        if (op->granularity == RQ_COREML_PER_BLOCK && input < rank)
            block[input] = op->block_size[0];
        if (output >= 0 && output < rank)
            block[output] = op->granularity == RQ_COREML_PER_TENSOR            ? 0
                            : op->granularity == RQ_COREML_PER_GROUPED_CHANNEL ? op->group_size
                                                                               : 1;
    }
    for (int i = 0; i < rank && *ok; i++)
        if (block[i] > 0 && dim[i] % block[i] != 0) {
            *ok = false;
            if (op->algorithm == RQ_COREML_PALETTIZER)
                return rq_coreml_weight_left(
                    w, true, err,
                    "Can't perform palettization: The number of channels at %dth axis (%" PRId64
                    ") is not divisible by channel_group_size (%" PRId64 ")",
                    i, dim[i], block[i]);
            return rq_coreml_weight_left(w, true, err,
                                         "Invalid block_sizes; On %dth axis, the dim size %" PRId64
                                         " is not divisible by block size %" PRId64
                                         ". Unable to perform structured quantization.",
                                         i, dim[i], block[i]);
        }
    return RQ_OK;
}
