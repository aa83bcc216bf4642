/* Lets one sync of a log file fail, as a disk would. The file that HF_SYNC_FAILS names is taken away, and the
   sync at which that succeeds writes nothing: what was written last stays in the cache alone, which calls it
   clean from then on. That range is noted in a file of the same name with `.lost`, until it is written again
   and synced; a loss of power before that would take it away. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One thread writes the log. */
static char last[4096];
static long long from, to;
static int again;

static int name(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    path[length > 0 ? length : 0] = 0;
    return strstr(path, "/log/wal-") != NULL;
}

static void note(char *path, size_t size) {
    snprintf(path, size, "%s.lost", getenv("HF_SYNC_FAILS"));
}

static int lost(const char *path, long long begin, long long end) {
    char where[4096], file[4096] = "";
    long long a = 0, b = 0;
    note(where, sizeof where);
    FILE *in = fopen(where, "r");
    if (!in) return 0;
    int read = fscanf(in, "%lld %lld %4095s", &a, &b, file);
    fclose(in);
    return read == 3 && !strcmp(path, file) && begin <= a && b <= end;
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    static ssize_t (*next)(int, const void *, size_t, off64_t);
    char path[4096];
    if (!next) next = (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    if (name(fd, path, sizeof path)) {
        memcpy(last, path, sizeof last);
        from = at;
        to = at + (long long)size;
        again |= lost(path, from, to);
    }
    return next(fd, bytes, size, at);
}

int fdatasync(int fd) {
    static int (*next)(int);
    char path[4096], where[4096];
    if (!next) next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (!name(fd, path, sizeof path)) return next(fd);
    note(where, sizeof where);
    if (!strcmp(path, last) && unlink(getenv("HF_SYNC_FAILS")) == 0) {
        FILE *out = fopen(where, "w");
        if (out) {
            fprintf(out, "%lld %lld %s\n", from, to, path);
            fclose(out);
        }
        errno = EIO;
        return -1;
    }
    int done = next(fd);
    if (done == 0 && again) unlink(where);
    return done;
}
