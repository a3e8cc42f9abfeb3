#include "deploy/init/apply.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CHILD_SECONDS = 60,
    MAX_SAVED = 64 * 1024 * 1024, /* kube-proxy alone can fill several MB */
    MAX_PROGRAM_NAME = 32,
};

/* As in <linux/ipv6.h>, which does not go together with <netinet/in.h>. */
struct in6_ifreq {
    struct in6_addr address;
    uint32_t prefix_len;
    int if_index;
};

bool apply_has_ipv6(void)
{
    struct ifaddrs *all;
    bool found = false;

    if (getifaddrs(&all) < 0)
        return false;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET6 || (i->ifa_flags & IFF_LOOPBACK))
            continue;
        const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)(void *)i->ifa_addr;
        found |= !IN6_IS_ADDR_LINKLOCAL(&sin6->sin6_addr) &&
                 !IN6_IS_ADDR_LOOPBACK(&sin6->sin6_addr);
    }
    freeifaddrs(all);
    return found;
}

/* Starts `argv` with one of its standard descriptors as a pipe, whose other end is returned. */
static int start(const char *const argv[], int which, pid_t *pid)
{
    int ends[2];
    int mine = which == STDIN_FILENO ? 1 : 0;

    if (pipe(ends) < 0) {
        fprintf(stderr, "attache-init: no pipe: %s\n", strerror(errno));
        return -1;
    }
    *pid = fork();
    if (*pid == 0) {
        dup2(ends[1 - mine], which);
        close(ends[0]);
        close(ends[1]);
        signal(SIGPIPE, SIG_DFL);
        alarm(CHILD_SECONDS); /* outlives exec: an iptables that hangs is killed */
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        fprintf(stderr, "attache-init: %s cannot be run: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    close(ends[1 - mine]);
    if (*pid < 0) {
        fprintf(stderr, "attache-init: no process: %s\n", strerror(errno));
        close(ends[mine]);
        return -1;
    }
    return ends[mine];
}

static bool finish(const char *const argv[], pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return false;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (WIFSIGNALED(status))
        fprintf(stderr, "attache-init: %s ended by signal %d\n", argv[0], WTERMSIG(status));
    else
        fprintf(stderr, "attache-init: %s failed with exit code %d\n", argv[0],
                WEXITSTATUS(status));
    return false;
}

/* "iptables-restore", "ip6tables-nft-save", ... */
static void program_name(char *out, const struct options *o, enum rules_family family,
                         const char *verb)
{
    snprintf(out, MAX_PROGRAM_NAME, "%s%s%s-%s", family == RULES_IPV4 ? "iptables" : "ip6tables",
             o->variant ? "-" : "", o->variant ? o->variant : "", verb);
}

bool apply_save(const struct options *o, struct arena *a, enum rules_family family, struct str *out)
{
    char name[MAX_PROGRAM_NAME];
    const char *const argv[] = {name, NULL};
    char *text = NULL;
    size_t len = 0, cap = 0;
    ssize_t n;
    pid_t pid;

    program_name(name, o, family, "save");
    int fd = start(argv, STDOUT_FILENO, &pid);
    if (fd < 0)
        return false;
    do {
        text = mem_grow_array(text, &cap, len + 4096, 1);
        n = read(fd, text + len, cap - len);
        len += n > 0 ? (size_t)n : 0;
    } while ((n > 0 || (n < 0 && errno == EINTR)) && len < MAX_SAVED);
    close(fd);
    bool ok = finish(argv, pid);
    if (ok && len >= MAX_SAVED) {
        fprintf(stderr, "attache-init: %s prints more than %d bytes\n", name, MAX_SAVED);
        ok = false;
    }
    *out = arena_str(a, str_n(text, len));
    mem_free(text);
    return ok;
}

bool apply_restore(const struct options *o, enum rules_family family, struct str text, bool test)
{
    char name[MAX_PROGRAM_NAME];
    const char *const argv[] = {name, "--noflush", "--wait=30", test ? "--test" : NULL, NULL};
    pid_t pid;
    size_t done = 0;

    program_name(name, o, family, "restore");
    int fd = start(argv, STDIN_FILENO, &pid);
    if (fd < 0)
        return false;
    while (done < text.len) {
        ssize_t n = write(fd, text.p + done, text.len - done);
        if (n < 0 && errno != EINTR)
            break; /* it has given up; its exit code says so */
        done += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    return finish(argv, pid) && done == text.len;
}

bool apply_loopback6(bool add)
{
    struct in6_ifreq request = {.prefix_len = 128};
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    request.if_index = (int)if_nametoindex("lo");
    if (fd < 0 || request.if_index == 0 || inet_pton(AF_INET6, "::6", &request.address) != 1) {
        fprintf(stderr, "attache-init: IPv6 on lo cannot be set up: %s\n", strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    int rc = ioctl(fd, add ? SIOCSIFADDR : SIOCDIFADDR, &request);
    int error = errno;
    close(fd);
    if (rc == 0 || (add && error == EEXIST) || (!add && error == EADDRNOTAVAIL))
        return true;
    fprintf(stderr, "attache-init: ::6 cannot be %s lo: %s\n", add ? "added to" : "removed from",
            strerror(error));
    return false;
}
