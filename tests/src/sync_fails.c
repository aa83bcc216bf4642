/* Lets one sync of a log file fail, as a disk would: the file that HF_SYNC_FAILS names is taken away, and the
   sync at which that succeeds writes nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_log(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strstr(path, "/log/wal-") != NULL;
}

int fdatasync(int fd) {
    static int (*next)(int);
    const char *armed = getenv("HF_SYNC_FAILS");
    if (armed && is_log(fd) && unlink(armed) == 0) {
        errno = EIO;
        return -1;
    }
    if (!next) next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return next(fd);
}
