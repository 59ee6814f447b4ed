/* base/cursor.c — the one reader that is more than a bounds check. */
#include "base/cursor.h"

rq_status rq_cursor_varint(rq_cursor *c, uint64_t *out)
{
    uint64_t v = 0;
    const uint8_t *p = c->p;
    for (int shift = 0; shift < 70; shift += 7) {
        if (p == c->end)
            return RQ_BAD_FILE;
        uint8_t byte = *p++;
        if (shift == 63 && byte > 1) /* the tenth byte holds bit 63 and nothing else */
            return RQ_BAD_FILE;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *out = v;
            c->p = p;
            return RQ_OK;
        }
    }
    return RQ_BAD_FILE;
}
