/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "secret.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tls_cleanup.h"

int secret_new(struct secret *secret, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t mapped;
    void *data;

    if (size > SIZE_MAX / 2)
        return -ENOMEM;
    mapped = (size / page + 1) * page;
    data = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return -ENOMEM;
    /* Neither is worth failing for: an unprivileged user's limit of locked memory is small. */
    (void)mlock(data, mapped);
    (void)madvise(data, mapped, MADV_DONTDUMP);
    *secret = (struct secret){.data = data, .size = size, .mapped = mapped};
    return 0;
}

void secret_free(struct secret *secret)
{
    if (!secret->data)
        return;
    explicit_bzero(secret->data, secret->mapped);
    munmap(secret->data, secret->mapped);
    *secret = (struct secret){0};
}

static int check_private(const char *path, const struct stat *st, struct tls_reason *reason)
{
    if (st->st_uid != 0 && st->st_uid != geteuid())
        return tls_hint(reason,
                        tls_fail(reason, EACCES,
                                 "%s belongs to another user (uid %u): it is no secret of ours",
                                 tls_shown(path), (unsigned)st->st_uid),
                        "the file must belong to root or to the user who runs this");
    if (st->st_mode & (S_IRWXG | S_IRWXO))
        return tls_hint(reason,
                        tls_fail(reason, EACCES,
                                 "group or others can reach the secret in %s (mode %04o, wanted 0600)",
                                 tls_shown(path), (unsigned)(st->st_mode & 07777)),
                        "chmod 0600 %s", tls_shown(path));
    return 0;
}

/* What is checked is what is open, so that a link (usual in /etc) can be followed. */
static int check_file(const char *path, const struct stat *st, size_t max, bool is_private,
                      struct tls_reason *reason)
{
    if (!S_ISREG(st->st_mode))
        return tls_fail(reason, EINVAL, "%s is not a regular file", tls_shown(path));
    if (is_private) {
        int r = check_private(path, st, reason);

        if (r < 0)
            return r;
    }
    if (st->st_size < 0 || (uint64_t)st->st_size > max)
        return tls_fail(reason, EFBIG, "%s is larger than %zu bytes", tls_shown(path), max);
    return 0;
}

/* Reads until the end or until the buffer is full; 0 or -errno. */
static int read_all(int fd, uint8_t *data, size_t size, size_t *have)
{
    *have = 0;
    while (*have < size) {
        ssize_t n = read(fd, data + *have, size - *have);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        *have += (size_t)n;
    }
    return 0;
}

static int cannot_read(const char *path, int error, struct tls_reason *reason)
{
    return tls_fail(reason, error, "cannot read %s: %s", tls_shown(path), strerror(error));
}

int secret_read_file(struct secret *secret, const char *path, size_t max, bool is_private,
                     struct tls_reason *reason)
{
    /* Not blocking: a pipe must not hold us up before fstat() has told what it is. */
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    _cleanup_secret_ struct secret content = {0};
    struct stat st;
    size_t have;
    int r;

    if (fd < 0 || fstat(fd, &st) < 0)
        return cannot_read(path, errno, reason);
    r = check_file(path, &st, max, is_private, reason);
    if (r < 0)
        return r;
    /* One byte more, to notice a file that grows meanwhile. */
    r = secret_new(&content, (size_t)st.st_size + 1);
    if (r < 0)
        return cannot_read(path, -r, reason);
    r = read_all(fd, content.data, content.size, &have);
    if (r < 0)
        return cannot_read(path, -r, reason);
    if (have == content.size)
        return tls_fail(reason, EAGAIN, "%s changed while it was read", tls_shown(path));
    explicit_bzero(content.data + have, content.size - have);
    *secret = secret_steal(&content);
    secret->size = have;
    return 0;
}
