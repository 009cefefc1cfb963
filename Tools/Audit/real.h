#ifndef AUDIT_REAL_H
#define AUDIT_REAL_H

// The functions behind our wrappers: the next ones of these names, as the program would have called them without us.

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>

#include <pty.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef __GLIBC__
#error "forkguard-audit reads glibc's mutexes: it is for glibc only"
#endif

#define EXPORT __attribute__((visibility("default")))
#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#define CALLER __builtin_return_address(0)

// Not in a header, or with other types than the wrapper's.
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object);
int __cxa_atexit(void (*function)(void *), void *argument, void *object);
ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room);
ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *buffer, size_t size, size_t room, int flags, struct sockaddr *from, socklen_t *length);
size_t __fread_chk(void *buffer, size_t room, size_t size, size_t count, FILE *file);
char *__fgets_chk(char *line, size_t room, int size, FILE *file);
int __fprintf_chk(FILE *file, int flag, const char *format, ...);
int __vfprintf_chk(FILE *file, int flag, const char *format, va_list arguments);
int __printf_chk(int flag, const char *format, ...);
ssize_t __getdelim(char **line, size_t *room, int delimiter, FILE *file);

// What is called while functions are still being looked up (an allocator that locks) comes first.
#define AUDIT_REAL_FUNCTIONS(X) \
    X(pthread_mutex_lock) X(pthread_mutex_trylock) X(pthread_mutex_timedlock) X(pthread_mutex_clocklock) X(pthread_mutex_unlock) \
    X(syscall) X(read) X(write) X(close) X(exit) X(_exit) X(fork) X(pthread_create) \
    X(pthread_rwlock_rdlock) X(pthread_rwlock_wrlock) X(pthread_rwlock_tryrdlock) X(pthread_rwlock_trywrlock) \
    X(pthread_rwlock_timedrdlock) X(pthread_rwlock_timedwrlock) X(pthread_rwlock_clockrdlock) X(pthread_rwlock_clockwrlock) \
    X(pthread_rwlock_unlock) X(pthread_cond_wait) X(pthread_cond_signal) X(pthread_cond_broadcast) X(pthread_cond_destroy) \
    X(pthread_join) X(pthread_tryjoin_np) X(pthread_timedjoin_np) X(pthread_clockjoin_np) \
    X(readv) X(writev) X(send) X(sendto) X(sendmsg) X(sendmmsg) X(recv) X(recvfrom) X(recvmsg) X(recvmmsg) X(sendfile) X(sendfile64) \
    X(lseek) X(lseek64) X(shutdown) X(epoll_ctl) X(epoll_wait) X(epoll_pwait) X(epoll_pwait2) \
    X(close_range) X(closefrom) X(dup) X(dup2) X(dup3) X(fcntl) X(fcntl64) \
    X(__read_chk) X(__recv_chk) X(__recvfrom_chk) X(__fread_chk) X(__fgets_chk) X(__vfprintf_chk) \
    X(fread) X(fread_unlocked) X(fgets) X(fgetc) X(getc) X(getline) X(getdelim) X(__getdelim) X(fwrite) X(fwrite_unlocked) X(fputs) X(fputc) X(putc) \
    X(puts) X(putchar) X(vfprintf) X(fflush) X(fclose) X(fseek) X(fseeko) X(rewind) \
    X(_Fork) X(forkpty) X(daemon) X(clone) X(quick_exit) X(_Exit) \
    X(execve) X(execv) X(execvp) X(execvpe) X(fexecve) X(execveat) X(__cxa_atexit) X(__register_atfork) X(dlclose)

#define AUDIT_REAL_MEMBER(name) __typeof__(&name) name;
typedef struct audit_functions { AUDIT_REAL_FUNCTIONS(AUDIT_REAL_MEMBER) } audit_functions;

extern audit_functions audit_real;
extern bool audit_real_known;

void audit_find_real(void);

// Wrappers are called before our constructor, too.
#define REAL(name) (*(LIKELY(audit_real_known) ? audit_real.name : (audit_find_real(), audit_real.name)))

#endif
