/* quant/quant_desc_text.h — pieces of text that descriptors and quantizers share. */
#ifndef RQ_QUANT_QUANT_DESC_TEXT_H
#define RQ_QUANT_QUANT_DESC_TEXT_H

#include "base/buf.h"
#include "requant/quant_desc.h"

/* The shortest text that reads back as v (f32: as that f32), with a point, as Python's repr: "0.9", "1.0", "1e-05". */
void rq_quant_desc_number(rq_buf *b, double v, bool f32);
/* "0", "(0, 1)", "(0,)". */
void rq_quant_desc_axes(rq_buf *b, const rq_quant_desc *d);

#endif
