/* base/file.c — mapped reads, and writes that appear whole or not at all: the bytes go to a temporary name in
 * the same folder, which rename(2) puts in place in one step. Open temporaries are listed so that a signal
 * handler can remove them; the list is the one piece of process-wide state this needs. */
#include "base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

/* ---- reading ---- */

static const uint8_t nothing[1];

rq_status rq_file_map(rq_map *out, const char *path, rq_err *err)
{
    *out = (rq_map) { nothing, 0 };
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe nobody writes to would make us wait for ever */
    if (fd < 0)
        return rq_fail(err, RQ_IO, "%s: cannot open: %s", path, strerror(errno));
    struct stat st;
    rq_status s = RQ_OK;
    if (fstat(fd, &st)) {
        s = rq_fail(err, RQ_IO, "%s: cannot read: %s", path, strerror(errno));
    } else if (S_ISDIR(st.st_mode)) {
        s = rq_fail(err, RQ_IO, "%s: is a folder, not a file", path);
    } else if (!S_ISREG(st.st_mode)) {
        s = rq_fail(err, RQ_IO, "%s: is not a regular file", path);
    } else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            s = rq_fail(err, RQ_IO, "%s: cannot map: %s", path, strerror(errno));
        else
            *out = (rq_map) { p, (size_t)st.st_size };
    }
    close(fd);
    return s;
}

void rq_file_unmap(rq_map *m)
{
    if (m->size)
        munmap((void *)m->data, m->size);
    *m = (rq_map) { 0 };
}

void rq_file_forget(const void *data, size_t n)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), skip = (page - (uintptr_t)data % page) % page;
    if (n > skip && (n - skip) / page)
        (void)!madvise((char *)data + skip, (n - skip) / page * page, MADV_DONTNEED);
}

/* ---- temporaries a signal removes ---- */

enum { MAX_OPEN = 64, MAX_DEPTH = 8 };
static char *_Atomic open_tmp[MAX_OPEN];

static void list_tmp(char *tmp)
{
    for (int i = 0; i < MAX_OPEN; i++) {
        char *none = NULL;
        if (atomic_compare_exchange_strong(&open_tmp[i], &none, tmp))
            return;
    } /* more are open than fit: a signal then leaves this one */
}

static void unlist_tmp(char *tmp)
{
    for (int i = 0; i < MAX_OPEN; i++) {
        char *it = tmp;
        if (atomic_compare_exchange_strong(&open_tmp[i], &it, NULL))
            return;
    }
}

void rq_file_guard(char *path, bool on)
{
    (on ? list_tmp : unlist_tmp)(path);
}

static void remove_and_die(int sig)
{
    const int was = errno;
    for (int depth = 0; depth < MAX_DEPTH; depth++) /* a folder goes once it is empty */
        for (int i = 0; i < MAX_OPEN; i++) {
            const char *tmp = atomic_load(&open_tmp[i]);
            if (tmp && unlink(tmp))
                rmdir(tmp);
        }
    errno = was;
    raise(sig); /* SA_RESETHAND: the default action, once this handler returns */
}

void rq_file_guard_signals(void)
{
    static const int sigs[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGXCPU, SIGXFSZ };
    for (size_t i = 0; i < sizeof sigs / sizeof sigs[0]; i++) {
        struct sigaction was, sa = { .sa_handler = remove_and_die, .sa_flags = (int)SA_RESETHAND };
        sigemptyset(&sa.sa_mask);
        if (sigaction(sigs[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN) /* nohup stays nohup */
            sigaction(sigs[i], &sa, NULL);
    }
}

/* ---- writing ---- */

static rq_status fail_write(rq_err *err, const char *path)
{
    return rq_fail(err, RQ_IO, "%s: cannot write: %s", path, strerror(errno));
}

/* Where `path` leads: through symbolic links when it exists. NULL: memory is out. */
static char *target_of(const char *path)
{
    char *real = realpath(path, NULL);
    char *out = rq_mem_strdup(real ? real : path);
    free(real);
    return out;
}

/* The descriptor of ours that `path` names, or -1. Opening the name would start at the file's beginning again. */
static int own_fd(const char *path)
{
    char *end;
    if (strcmp(path, "/dev/stdout") == 0)
        return STDOUT_FILENO;
    if (strcmp(path, "/dev/stderr") == 0)
        return STDERR_FILENO;
    if (strncmp(path, "/dev/fd/", 8) != 0 || path[8] < '0' || path[8] > '9')
        return -1;
    const long fd = strtol(path + 8, &end, 10);
    return *end || fd > INT_MAX ? -1 : (int)fd;
}

rq_status rq_file_create(rq_file *f, const char *path, rq_err *err)
{
    *f = (rq_file) { .fd = -1 };
    /* pipes, devices and our own descriptors cannot be replaced, they are written as they stand */
    struct stat st;
    const int own = own_fd(path);
    bool exists = stat(path, &st) == 0;
    if (exists && S_ISDIR(st.st_mode))
        return rq_fail(err, RQ_IO, "%s: is a folder, cannot write a file there", path);
    if (own < 0 && exists && access(path, W_OK)) /* rename would replace even what its owner made read-only */
        return fail_write(err, path);
    bool direct = own >= 0 || (exists && !S_ISREG(st.st_mode));
    f->path = direct ? rq_mem_strdup(path) : target_of(path);
    size_t room = f->path ? strlen(f->path) + 48 : 1;
    f->tmp = rq_mem_zalloc(room, 1); /* "" when direct */
    f->name = rq_mem_strdup(path);
    if (!f->path || !f->tmp || !f->name) {
        rq_file_abandon(f);
        return rq_fail(err, RQ_NO_MEMORY, "%s: out of memory", path);
    }
    if (direct) {
        if (own == STDOUT_FILENO)
            fflush(stdout); /* what was printed before comes before */
        f->fd = own < 0 ? open(path, O_WRONLY | O_CLOEXEC) : fcntl(own, F_DUPFD_CLOEXEC, 0);
    } else {
        for (int i = 0; i < 1000; i++) {
            snprintf(f->tmp, room, "%s.%ld-%d.tmp", f->path, (long)getpid(), i);
            f->fd = open(f->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
            if (f->fd >= 0 || errno != EEXIST)
                break;
        }
    }
    if (f->fd < 0) {
        rq_status s = fail_write(err, path);
        f->tmp[0] = 0; /* nothing of ours to remove */
        rq_file_abandon(f);
        return s;
    }
    if (!direct) {
        list_tmp(f->tmp);
        if (exists)
            (void)!fchmod(f->fd, st.st_mode & 0777); /* best effort: the new file keeps the old one's rights */
    }
    return RQ_OK;
}

/* rq_file_commit waits until all is on the disk. The system would begin with it only then, so it is told to begin. */
static void begin_writing_out(rq_file *f)
{
#ifdef SYNC_FILE_RANGE_WRITE
    enum { PIECE = 8 << 20 };
    if (f->tmp[0] && f->written - f->begun >= PIECE) {
        (void)!sync_file_range(f->fd, f->begun, f->written - f->begun, SYNC_FILE_RANGE_WRITE);
        f->begun = f->written;
    }
#endif
}

rq_status rq_file_write(rq_file *f, const void *data, size_t n, rq_err *err)
{
    const char *p = data;
    while (n > 0) {
        ssize_t did = write(f->fd, p, n < (size_t)1 << 30 ? n : (size_t)1 << 30);
        if (did < 0 && errno == EINTR)
            continue;
        if (did < 0)
            return fail_write(err, f->name);
        p += did;
        n -= (size_t)did;
        f->written += did;
    }
    begin_writing_out(f);
    return RQ_OK;
}

rq_status rq_file_commit(rq_file *f, rq_err *err)
{
    assert(f->tmp);
    rq_status s = RQ_OK;
    bool direct = !f->tmp[0];
    if (!direct && fsync(f->fd) && errno != EINVAL)
        s = fail_write(err, f->name);
    if (close(f->fd) && s == RQ_OK)
        s = fail_write(err, f->name);
    f->fd = -1;
    if (s == RQ_OK && !direct) {
        if (rename(f->tmp, f->path)) {
            s = fail_write(err, f->name);
        } else {
            unlist_tmp(f->tmp);
            f->tmp[0] = 0;
        }
    }
    rq_file_abandon(f);
    return s;
}

void rq_file_abandon(rq_file *f)
{
    if (!f->tmp && !f->path && !f->name)
        return;
    if (f->fd >= 0)
        close(f->fd);
    if (f->tmp && f->tmp[0]) {
        unlink(f->tmp);
        unlist_tmp(f->tmp);
    }
    rq_mem_free(f->tmp);
    rq_mem_free(f->path);
    rq_mem_free(f->name);
    *f = (rq_file) { .fd = -1 };
}

rq_status rq_file_write_all(const char *path, const void *data, size_t n, rq_err *err)
{
    rq_file f;
    RQ_TRY(rq_file_create(&f, path, err));
    rq_status s = rq_file_write(&f, data, n, err);
    if (s == RQ_OK)
        return rq_file_commit(&f, err);
    rq_file_abandon(&f);
    return s;
}

/* ---- questions ---- */

rq_status rq_file_check_output(const char *path, rq_err *err)
{
    struct stat st;
    if (own_fd(path) >= 0)
        return RQ_OK;
    if (stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return rq_fail(err, RQ_IO, "%s: is a folder, cannot write a file there", path);
        if (access(path, W_OK))
            return fail_write(err, path);
        if (!S_ISREG(st.st_mode))
            return RQ_OK;
    }
    char *folder = target_of(path);
    if (!folder)
        return rq_fail(err, RQ_NO_MEMORY, "%s: out of memory", path);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = 0; /* "/a" is in "/" */
    rq_status s = RQ_OK;
    if (access(slash ? folder : ".", W_OK | X_OK))
        s = fail_write(err, path);
    rq_mem_free(folder);
    return s;
}

bool rq_file_same(const char *a, const char *b)
{
    struct stat sa, sb;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

double rq_file_peak_rss_mb(void)
{
    /* VmHWM is this program's own; ru_maxrss would start at the size of whoever started it */
    double mb = 0;
    FILE *status = fopen("/proc/self/status", "re");
    if (status) {
        char line[128];
        long kib;
        while (mb == 0 && fgets(line, sizeof line, status))
            if (sscanf(line, "VmHWM: %ld", &kib) == 1)
                mb = (double)kib / 1024;
        fclose(status);
    }
    struct rusage use;
    if (mb == 0 && getrusage(RUSAGE_SELF, &use) == 0)
        mb = (double)use.ru_maxrss / 1024;
    return mb;
}
