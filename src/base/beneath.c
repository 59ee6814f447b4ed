/* base/beneath.c — walk a path one folder at a time with openat and O_NOFOLLOW: the only way that is both portable
 * and free of a race between looking and opening. */
#include "base/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

/* Rewrite path without "", "." and ".."; false when it climbs out or names nothing. */
static bool normalise(char *path)
{
    char *to = path;
    const char *p = path;
    for (bool more = *p != 0; more;) {
        size_t n = strcspn(p, "/");
        more = p[n] == '/'; /* asked before the slash below may stand there */
        if (n == 2 && p[0] == '.' && p[1] == '.') {
            if (to == path)
                return false;
            to--; /* the slash */
            while (to > path && to[-1] != '/')
                to--;
        } else if (n && !(n == 1 && p[0] == '.')) {
            memmove(to, p, n);
            to += n;
            *to++ = '/';
        }
        p += n + 1;
    }
    if (to == path)
        return false;
    to[-1] = 0;
    return true;
}

static rq_status open_below(int *out, const char *folder, char *path, rq_err *err)
{
    int fd = open(*folder ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return rq_fail(err, RQ_IO, "cannot open the folder '%s': %s", folder, strerror(errno));
    for (char *p = path;;) {
        char *slash = strchr(p, '/');
        if (slash)
            *slash = 0;
        /* O_NONBLOCK: a pipe put there must not stop us */
        int next = openat(fd, p, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (slash ? O_DIRECTORY : O_NONBLOCK));
        int why = errno;
        close(fd);
        if (next < 0 && (why == ELOOP || (why == ENOTDIR && slash)))
            return rq_fail(err, RQ_BAD_FILE, "'%s' is a symbolic link or not a folder, which is not followed", p);
        if (next < 0)
            return rq_fail(err, RQ_IO, "cannot open '%s': %s", p, strerror(why));
        fd = next;
        if (!slash)
            break;
        p = slash + 1;
    }
    *out = fd;
    return RQ_OK;
}

rq_status rq_beneath_map(rq_map *out, const char *folder, const char *path, rq_err *err)
{
    *out = (rq_map) { 0 };
    if (!*path)
        return rq_fail(err, RQ_BAD_FILE, "the path is empty");
    if (path[0] == '/' || strchr(path, '\\') || (((path[0] | 32) >= 'a' && (path[0] | 32) <= 'z') && path[1] == ':'))
        return rq_fail(err, RQ_BAD_FILE, "'%s' is absolute or has backslashes; expected a path relative to the folder",
                       path);
    size_t n = strlen(path);
    char *own = rq_mem_alloc(n + 2, 1); /* normalise may append a slash */
    if (!own)
        return RQ_NO_MEMORY;
    memcpy(own, path, n + 1);
    rq_status st = RQ_OK;
    int fd = -1;
    struct stat s;
    if (!normalise(own))
        st = rq_fail(err, RQ_BAD_FILE, "'%s' leaves the folder, or names no file", path);
    else
        st = open_below(&fd, folder, own, err);
    rq_mem_free(own);
    if (st)
        return st;
    if (fstat(fd, &s) || !S_ISREG(s.st_mode)) {
        close(fd);
        return rq_fail(err, RQ_BAD_FILE, "'%s' is not a regular file", path);
    }
    out->size = (size_t)s.st_size;
    out->data = (const uint8_t *)"";
    if (out->size) {
        void *p = mmap(NULL, out->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            st = rq_fail(err, RQ_IO, "cannot map '%s': %s", path, strerror(errno));
            *out = (rq_map) { 0 };
        } else {
            out->data = p;
        }
    }
    close(fd);
    return st;
}
