/* formats/table.c — the formats, in the order in which a file is tried. */
#include "formats/format.h"

#include <stddef.h>

extern const rq_format rq_format_onnx, rq_format_mlpackage; /* onnx_write.c, mil_emit_model.c */

static const rq_format *const formats[] = { &rq_format_onnx, &rq_format_mlpackage };

const rq_format *rq_format_at(int i)
{
    return i >= 0 && i < (int)(sizeof formats / sizeof formats[0]) ? formats[i] : NULL;
}
