/* coreml/pairs.c — pairs of quantize and dequantize as text and as JSON. */
#include "coreml/pairs.h"

#include "base/number.h"
#include "base/quote.h"

void rq_coreml_pairs_release(rq_coreml_pairs *p)
{
    rq_mem_free(p->at);
    rq_arena_release(&p->a);
    *p = (rq_coreml_pairs) { 0 };
}

int rq_coreml_pairs_made(const rq_coreml_pairs *p)
{
    int n = 0;
    for (int i = 0; i < p->n; i++)
        n += !p->at[i].why;
    return n;
}

enum { NUMBER = 32 };

/* Enough digits for the same float again. */
static const char *text_of(float x, char buf[NUMBER])
{
    rq_number_print(buf, NUMBER, "%.9g", (double)x);
    return buf;
}

void rq_coreml_pairs_text(const rq_coreml_pairs *p, bool all, rq_buf *b)
{
    char lo[NUMBER], hi[NUMBER], scale[NUMBER];
    for (int i = 0; i < p->n; i++) {
        const rq_coreml_pair *at = &p->at[i];
        if (at->why)
            rq_buf_addf(b, "  %s '%s' stays float: '%s' %s\n", at->type, at->op, at->tensor, at->why);
        else if (all)
            rq_buf_addf(b, "  %s '%s': '%s' from %s to %s, %s, scale %s, zero point %d\n", at->type, at->op, at->tensor,
                        text_of(at->lo, lo), text_of(at->hi, hi), at->dtype, text_of(at->scale, scale), at->zero_point);
    }
}

static void add_text(rq_buf *b, const char *key, const char *value)
{
    rq_buf_addf(b, ", \"%s\": ", key);
    rq_quote(b, value);
}

void rq_coreml_pairs_json(const rq_coreml_pairs *p, rq_buf *b)
{
    char lo[NUMBER], hi[NUMBER], scale[NUMBER];
    rq_buf_adds(b, "[");
    for (int i = 0; i < p->n; i++) {
        const rq_coreml_pair *at = &p->at[i];
        rq_buf_adds(b, i ? ",\n{\"operation\": " : "\n{\"operation\": ");
        rq_quote(b, at->op);
        add_text(b, "type", at->type);
        add_text(b, "tensor", at->tensor);
        if (at->why) {
            add_text(b, "left", at->why);
        } else {
            add_text(b, "dtype", at->dtype);
            rq_buf_addf(b, ", \"min\": %s, \"max\": %s, \"scale\": %s, \"zero_point\": %d", text_of(at->lo, lo),
                        text_of(at->hi, hi), text_of(at->scale, scale), at->zero_point);
        }
        rq_buf_adds(b, "}");
    }
    rq_buf_adds(b, "]");
}
