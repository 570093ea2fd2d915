/* Loaded before the C library (LD_PRELOAD): calls on files below one folder, and allocations of one library, are counted,
   and some of them fail. So what fails is real for SQLite, DuckDB, Arrow and Python alike. Built and told by faulty.py. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The names of these in faulty.py stand in the same order. */
enum { READ = 1, WRITE = 2, SYNC = 4, LOCK = 8, TRUNCATE = 16, OPEN = 32, CREATE = 64, RENAME = 128, UNLINK = 256,
       MKDIR = 512, MAP = 1024, MEMORY = 2048 };
enum { NOT = 0, FAIL = 1, HALF = 2 };

static char root[PATH_MAX];
static size_t root_length;
static atomic_int watched, error_number;
static atomic_long counted, first, last, met;
static atomic_uintptr_t low, high;
static char said[PATH_MAX + 64];

void faults_watch(const char *folder, void *from, void *to) {
    snprintf(root, sizeof root, "%s/", folder);
    root_length = strlen(root);
    low = (uintptr_t)from;
    high = (uintptr_t)to;
}

/* From the first to the last of these calls fail; with error 0 they do half of what was asked. */
void faults_arm(int calls, int error, long from, long to) {
    watched = 0;
    counted = met = 0;
    said[0] = 0;
    error_number = error;
    first = from;
    last = to;
    watched = calls;
}

void faults_disarm(void) { watched = 0; }
long faults_counted(void) { return counted; }
long faults_met(void) { return met; }
const char *faults_said(void) { return said; }

static int decide(const char *name, const char *file) {
    long number = ++counted;
    if (number < first || number > last) return NOT;
    if (!met++) snprintf(said, sizeof said, "%s %s", name, file);
    if (!error_number) return HALF;
    errno = error_number;
    return FAIL;
}

static int of_file(int call, const char *name, int file) {
    char link[64], path[PATH_MAX];
    if (!(watched & call) || file < 0) return NOT;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    long size = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (size < (long)root_length || strncmp(path, root, root_length)) return NOT;
    path[size] = 0;
    return decide(name, path + root_length);
}

static int of_path(int call, const char *name, int folder, const char *path) {
    if (!(watched & call)) return NOT;
    if (path[0] != '/' && folder != AT_FDCWD) {
        char link[64], base[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        long size = syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 2);
        if (size <= 0) return NOT;
        strcpy(base + size, "/");
        if (strncmp(base, root, root_length)) return NOT;
    } else if (strncmp(path, root, root_length)) return NOT;
    return decide(name, path[0] == '/' ? path + root_length : path);
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* -- bytes -- */

#define MOVES(name, call, arguments, given, half) \
    ssize_t name arguments { \
        REAL(name); \
        int what = of_file(call, #name, file); \
        if (what == FAIL) return -1; \
        if (what == HALF && size > 1) return real half; \
        return real given; \
    }

MOVES(read, READ, (int file, void *bytes, size_t size), (file, bytes, size), (file, bytes, size / 2))
MOVES(pread, READ, (int file, void *bytes, size_t size, off_t at), (file, bytes, size, at), (file, bytes, size / 2, at))
MOVES(pread64, READ, (int file, void *bytes, size_t size, off64_t at), (file, bytes, size, at),
      (file, bytes, size / 2, at))

/* A full disk takes the first half of a piece, as it does in truth; the next piece is refused. */
#define WRITES(name, arguments, given, half) \
    ssize_t name arguments { \
        REAL(name); \
        int what = of_file(WRITE, #name, file); \
        if (what != NOT && size > 1 && (what == HALF || (error_number == ENOSPC && met == 1))) return real half; \
        return what == FAIL ? -1 : real given; \
    }

WRITES(write, (int file, const void *bytes, size_t size), (file, bytes, size), (file, bytes, size / 2))
WRITES(pwrite, (int file, const void *bytes, size_t size, off_t at), (file, bytes, size, at),
       (file, bytes, size / 2, at))
WRITES(pwrite64, (int file, const void *bytes, size_t size, off64_t at), (file, bytes, size, at),
       (file, bytes, size / 2, at))

/* -- calls that do or do not -- */

#define ACTS(name, call, arguments, given) \
    int name arguments { \
        REAL(name); \
        return of_file(call, #name, file) == FAIL ? -1 : real given; \
    }

ACTS(fsync, SYNC, (int file), (file))
ACTS(fdatasync, SYNC, (int file), (file))
ACTS(ftruncate, TRUNCATE, (int file, off_t size), (file, size))
ACTS(ftruncate64, TRUNCATE, (int file, off64_t size), (file, size))
ACTS(posix_fallocate, TRUNCATE, (int file, off_t from, off_t size), (file, from, size))
ACTS(fallocate, TRUNCATE, (int file, int mode, off_t from, off_t size), (file, mode, from, size))

ssize_t sendfile(int file, int from, off_t *at, size_t size) {
    static ssize_t (*real)(int, int, off_t *, size_t);
    if (!real) real = (ssize_t (*)(int, int, off_t *, size_t))dlsym(RTLD_NEXT, "sendfile");
    int what = of_file(WRITE, "sendfile", file);
    return what == FAIL ? -1 : real(file, from, at, what == HALF ? size / 2 + 1 : size);
}

int flock(int file, int how) {
    REAL(flock);
    return !(how & LOCK_UN) && of_file(LOCK, "flock", file) == FAIL ? -1 : real(file, how);
}

static int locks(int command) { return command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK; }

#define CONTROLS(name) \
    int name(int file, int command, ...) { \
        REAL(name); \
        va_list list; \
        va_start(list, command); \
        void *argument = va_arg(list, void *); \
        va_end(list); \
        if (locks(command) && ((struct flock *)argument)->l_type != F_UNLCK && of_file(LOCK, "lock", file) == FAIL) \
            return -1; \
        return real(file, command, argument); \
    }

CONTROLS(fcntl)
CONTROLS(fcntl64)

#define MAPS(name, offset) \
    void *name(void *at, size_t size, int protection, int flags, int file, offset from) { \
        REAL(name); \
        if (!(flags & MAP_ANONYMOUS) && of_file(MAP, #name, file) == FAIL) return MAP_FAILED; \
        return real(at, size, protection, flags, file, from); \
    }

MAPS(mmap, off_t)
MAPS(mmap64, off64_t)

/* -- names -- */

static int opens(const char *name, int folder, const char *path, int flags) {
    int makes = (flags & O_CREAT) && syscall(SYS_faccessat, folder, path, F_OK, 0) != 0;
    return of_path(makes ? CREATE : OPEN, name, folder, path) == FAIL;
}

#define OPENS(name, arguments, given, folder) \
    int name arguments { \
        REAL(name); \
        va_list list; \
        va_start(list, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0; \
        va_end(list); \
        return opens(#name, folder, path, flags) ? -1 : real given; \
    }

OPENS(open, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPENS(open64, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPENS(openat, (int folder, const char *path, int flags, ...), (folder, path, flags, mode), folder)
OPENS(openat64, (int folder, const char *path, int flags, ...), (folder, path, flags, mode), folder)

#define NAMES(name, call, arguments, given, folder) \
    int name arguments { \
        REAL(name); \
        return of_path(call, #name, folder, path) == FAIL ? -1 : real given; \
    }

NAMES(rename, RENAME, (const char *path, const char *to), (path, to), AT_FDCWD)
NAMES(renameat, RENAME, (int folder, const char *path, int at, const char *to), (folder, path, at, to), folder)
NAMES(link, RENAME, (const char *path, const char *to), (path, to), AT_FDCWD)
NAMES(linkat, RENAME, (int folder, const char *path, int at, const char *to, int flags), (folder, path, at, to, flags),
      folder)
NAMES(unlink, UNLINK, (const char *path), (path), AT_FDCWD)
NAMES(unlinkat, UNLINK, (int folder, const char *path, int flags), (folder, path, flags), folder)
NAMES(rmdir, UNLINK, (const char *path), (path), AT_FDCWD)
NAMES(mkdir, MKDIR, (const char *path, mode_t mode), (path, mode), AT_FDCWD)
NAMES(mkdirat, MKDIR, (int folder, const char *path, mode_t mode), (folder, path, mode), folder)

/* -- memory of one library: here, which function asked tells whose it is -- */

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);

static int refused(void *caller) {
    if (!(watched & MEMORY) || (uintptr_t)caller < low || (uintptr_t)caller >= high) return 0;
    return decide("allocation", "") == FAIL;
}

void *malloc(size_t size) { return refused(__builtin_return_address(0)) ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) {
    return refused(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}
void *realloc(void *was, size_t size) {
    return refused(__builtin_return_address(0)) ? NULL : __libc_realloc(was, size);
}
