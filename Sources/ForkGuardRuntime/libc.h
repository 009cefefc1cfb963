// Inside the product: calls of the C library as gated sections.
//
// The functions of the C library that take locks of its own which fork() does not repair (glibc 2.36: malloc's, the streams', the dynamic linker's and the name service
// switch's it does), by what guards them. None takes more than six words, and none a floating-point number.
//
// X(name)

#ifndef FORKGUARD_LIBC_H
#define FORKGUARD_LIBC_H

#include "imports.h"

FORKGUARD_PRIVATE_BEGIN

extern const import libc_imports[];
extern const size_t libc_imports_count;

// resolv/, nss/: the resolver's configuration, the databases' files and buffers
#define LIBC_CALLS(X) \
    X(getaddrinfo) X(gethostbyname) X(gethostbyname2) X(gethostbyaddr) X(getservbyname) X(getservbyport) X(getprotobyname) \
    X(getpwnam) X(getpwuid) X(getgrnam) X(getgrgid) X(getpwent) X(setpwent) X(endpwent) X(getgrent) X(setgrent) X(endgrent) \
    X(getpwnam_r) X(getpwuid_r) X(getgrnam_r) X(getgrgid_r) X(initgroups) X(getgrouplist) X(res_init) X(__res_init) \
    /* locale/setlocale.c: the read-write lock of the locales; iconv/, intl/: of conversions and catalogues */ \
    X(setlocale) X(newlocale) X(freelocale) X(duplocale) X(iconv_open) X(iconv_close) X(bindtextdomain) X(textdomain) X(gettext) X(dgettext) X(dcgettext) \
    /* time/tzset.c: one lock for the time zone */ \
    X(tzset) X(localtime) X(localtime_r) X(mktime) X(timelocal) X(strftime) X(strftime_l) X(ctime) X(ctime_r) X(gmtime) X(gmtime_r) X(timegm) \
    /* stdlib/: one lock for the environment, one for random numbers, one for what runs at exit */ \
    X(setenv) X(unsetenv) X(putenv) X(clearenv) X(random) X(srandom) X(initstate) X(setstate) X(rand) X(srand) X(lrand48) \
    X(atexit) X(__cxa_atexit) \
    /* misc/syslog.c, debug/backtrace.c, nptl/sem_open.c, io/ftw.c */ \
    X(openlog) X(closelog) X(setlogmask) X(vsyslog) X(backtrace) X(sem_open) X(sem_close)
FORKGUARD_PRIVATE_END

#endif
