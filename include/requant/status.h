/* requant/status.h — how every function that can fail says so: a code, and a sentence for the user. */
#ifndef REQUANT_STATUS_H
#define REQUANT_STATUS_H

#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define RQ_API __attribute__((visibility("default")))
#define RQ_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define RQ_API
#define RQ_PRINTF(fmt, args)
#endif

/* Each status once: name and text. The enum and rq_status_text come from here. */
#define RQ_STATUS_MAP(X)                                                                                               \
    X(OK, "ok")                                                                                                        \
    X(BAD_ARG, "an argument is out of its range")                                                                      \
    X(BAD_SHAPE, "tensor shapes do not fit")                                                                           \
    X(BAD_DTYPE, "an element type does not fit")                                                                       \
    X(BAD_FILE, "file is not well formed")                                                                             \
    X(BAD_GRAPH, "graph is not valid")                                                                                 \
    X(BAD_DATA, "data do not fit what takes them")                                                                     \
    X(BAD_RECIPE, "recipe is not valid")                                                                               \
    X(NOT_FOUND, "nothing has that name")                                                                              \
    X(UNSUPPORTED, "not supported")                                                                                    \
    X(IO, "reading or writing failed")                                                                                 \
    X(NO_MEMORY, "out of memory")                                                                                      \
    X(CANCELLED, "cancelled")                                                                                          \
    X(NUMERIC, "a computation has no finite answer")                                                                   \
    X(INTERNAL, "a fault of requant itself")

typedef enum rq_status {
#define RQ_STATUS_ENUM(name, text) RQ_##name,
    RQ_STATUS_MAP(RQ_STATUS_ENUM)
#undef RQ_STATUS_ENUM
} rq_status;

/* A whole sentence for the user: which file, node or byte, what was found, what was expected. */
typedef struct rq_err {
    rq_status code;
    char text[512];
} rq_err;

/* The fixed text of a status; never NULL. */
RQ_API const char *rq_status_text(rq_status s);

/* Write the sentence to err (may be NULL) and return `code`, so that failing is one line at the place
 * that knows why. Text that does not fit is cut. */
RQ_API rq_status rq_fail(rq_err *err, rq_status code, const char *fmt, ...) RQ_PRINTF(3, 4);

/* Put "<what>: " before the sentence already in err, for a caller that knows more; returns err->code
 * (or `code` where err is NULL). */
RQ_API rq_status rq_fail_in(rq_err *err, rq_status code, const char *fmt, ...) RQ_PRINTF(3, 4);

#ifdef __clang_analyzer__ /* it cannot see that both return `code`, so that a failure is one */
#define rq_fail(err, code, ...) ((void)(rq_fail)(err, code, __VA_ARGS__), (code))
#endif

#define RQ_TRY(expr)                                                                                                   \
    do {                                                                                                               \
        rq_status rq_try_ = (expr);                                                                                    \
        if (rq_try_ != RQ_OK)                                                                                          \
            return rq_try_;                                                                                            \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
