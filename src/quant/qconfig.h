/* quant/qconfig.h — what the files about qconfigs share. */
#ifndef RQ_QUANT_QCONFIG_H
#define RQ_QUANT_QCONFIG_H

#include "requant/qconfig.h"

/* Are the two one type, however they are spelled ("torch.nn.Linear", "Linear")? NULL is none. */
bool rq_qconfig_type_is(const char *type, const char *wanted);
/* Is it one of a list with commas? NULL is not. */
bool rq_qconfig_type_in(const char *type, const char *list);
/* "ConvTranspose2d" ..., and their functions. */
bool rq_qconfig_type_is_transposed(const char *type);
/* The codes an observer uses, reduced where that is asked for. */
rq_qtype rq_qconfig_codes(const rq_observer_cfg *o);
/* Does it watch numbers to find a scale for codes? Placeholder, Noop, ReuseInput and Recording do not. */
bool rq_qconfig_finds_scale(const rq_observer_cfg *o);

#endif
