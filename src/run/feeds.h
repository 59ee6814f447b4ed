/* run/feeds.h — what a caller hands in by name, put in the order of the graph; sentences about names that are none. */
#ifndef RQ_RUN_FEEDS_H
#define RQ_RUN_FEEDS_H

#include "graph/graph.h"
#include "requant/session.h"

/* Which input the name of a feed was when it was compared. A name that lies where it lay then, with the bytes it had (by their hash, for the buffer is the
 * caller's), is that one still; so who feeds the same names run after run has them compared once. */
typedef struct rq_feed_name {
    const char *name; /* the caller's, not read through; NULL: none yet */
    uint64_t hash;
    int input;
} rq_feed_name;

/* feeds[n_inputs] = the tensor fed to each input of g; dtype NONE: its default. names[n_inputs], of zeros before the first call: of the first feeds.
 * RQ_BAD_DATA: a name, type or shape does not fit. */
rq_status rq_feeds_match(const rq_graph *g, const rq_feed *in, int n_in, rq_feed_name *names, rq_tensor *feeds,
                         rq_err *err);
/* Does t fit the declared type and shape of v, an input or output (`what`)? RQ_BAD_DATA. */
rq_status rq_feeds_check(const rq_value *v, const char *what, const rq_tensor *t, rq_err *err);
/* RQ_NOT_FOUND, with the nearest name. */
rq_status rq_feeds_no_value(const rq_graph *g, const char *name, rq_err *err);

#endif
