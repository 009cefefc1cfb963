// The socket that the audit library talks to, CMD, and the signals between.

#include "CInspect.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

int inspect_listen(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    int descriptor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) return -1;
    // Processes that gave up their user's rights connect, too.
    if (bind(descriptor, (struct sockaddr *)&address, sizeof address) == 0 && chmod(path, 0666) == 0 && listen(descriptor, 128) == 0)
        return descriptor;
    int error = errno;
    close(descriptor);
    errno = error;
    return -1;
}

int inspect_accept(int listening, pid_t *process) {
    int descriptor = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (descriptor < 0) return -1;
    struct ucred maker = {0};
    socklen_t size = sizeof maker;
    *process = getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &maker, &size) == 0 ? maker.pid : 0;
    return descriptor;
}

int inspect_open_process(pid_t process) { return (int)syscall(SYS_pidfd_open, process, 0); }

int inspect_signal_process(int descriptor, int signal) { return (int)syscall(SYS_pidfd_send_signal, descriptor, signal, NULL, 0); }

bool inspect_has_ended(int descriptor) {
    struct pollfd process = {.fd = descriptor, .events = POLLIN};
    return poll(&process, 1, 0) == 1;
}

void inspect_raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static sigset_t before;
static const int handed_on[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH, SIGCONT};

int inspect_block_signals(void) {
    sigset_t wanted;
    sigemptyset(&wanted);
    for (size_t i = 0; i < sizeof handed_on / sizeof *handed_on; i++) sigaddset(&wanted, handed_on[i]);
    sigaddset(&wanted, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &wanted, &before) != 0) return -1;
    return signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
}

int inspect_next_signal(int descriptor, bool *by_terminal) {
    struct signalfd_siginfo event;
    if (read(descriptor, &event, sizeof event) != (ssize_t)sizeof event) return 0;
    *by_terminal = event.ssi_code > 0;
    return (int)event.ssi_signo;
}

int inspect_start(const char *path, char *const arguments[], char *const environment[], pid_t *process) {
    posix_spawnattr_t attributes;
    int error = posix_spawnattr_init(&attributes);
    if (error != 0) return error;
    error = posix_spawnattr_setsigmask(&attributes, &before);
    if (error == 0) error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    if (error == 0) error = posix_spawn(process, path, NULL, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    return error;
}

bool inspect_reap(pid_t process, int *exit_status, int *signal) {
    // waitpid would tell of stops, too, while a thread of the child is traced.
    siginfo_t event = {0};
    if (waitid(P_PID, (id_t)process, &event, WEXITED | WNOHANG) != 0 || event.si_pid != process) return false;
    *exit_status = event.si_code == CLD_EXITED ? event.si_status : 0;
    *signal = event.si_code == CLD_EXITED ? 0 : event.si_status;
    return true;
}

bool inspect_has_capabilities(int descriptor) { return fgetxattr(descriptor, "security.capability", NULL, 0) > 0; }
