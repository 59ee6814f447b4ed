/* algo/losers.h — the two halves of rq_ptq_keep_losers: which layers lose, from times; the graph in which they stay in float. */
#ifndef RQ_ALGO_LOSERS_H
#define RQ_ALGO_LOSERS_H

#include "requant/report.h"

/* Layers of b.model that are slower in integers than those of b.against by more than the noise, and are nodes of `original`, worst first. *out is
 * yours: rq_losers_release; on error (RQ_NO_MEMORY) it is empty. */
rq_status rq_losers_pick(rq_losers *out, const rq_bench *b, const rq_graph *original);
/* `original` quantized by cfg with the first n losers in float; *out and notes are yours. */
rq_status rq_losers_quantize(rq_graph **out, rq_notes *notes, const rq_losers *l, int n, const rq_graph *original,
                             rq_dataset *data, const rq_ptq_cfg *cfg, rq_err *err);

/* rq_ptq_keep_losers with so many runs of each model, as rq_bench_cfg.runs. */
rq_status rq_losers_keep(rq_losers *out, rq_graph **g, const rq_graph *original, rq_dataset *data,
                         const rq_ptq_cfg *cfg, int runs, rq_notes *notes, rq_err *err);

#endif
