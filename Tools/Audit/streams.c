// stdio reads and writes inside libc, where no wrapper of read and write sees it: what is called on a stream of a shared descriptor counts as its use.

#include "descriptors.h"

#include <errno.h>

static void used(FILE *file, use use, void *caller) {
    if (!audit_on || !file || !audit_descriptors) return;
    int saved = errno, fd = fileno_unlocked(file); // -1: memory
    errno = saved;
    USED(fd, use, caller);
}

#define READS(type, name, parameters, ...) \
    EXPORT type name parameters { \
        used(file, USE_READ, CALLER); \
        return REAL(name)(__VA_ARGS__); \
    }
#define WRITES(type, name, parameters, ...) \
    EXPORT type name parameters { \
        used(file, USE_WRITE, CALLER); \
        return REAL(name)(__VA_ARGS__); \
    }
#define SEEKS(type, name, parameters, ...) \
    EXPORT type name parameters { \
        used(file, USE_SEEK, CALLER); \
        return REAL(name)(__VA_ARGS__); \
    }

READS(size_t, fread, (void *restrict buffer, size_t size, size_t count, FILE *restrict file), buffer, size, count, file)
READS(size_t, fread_unlocked, (void *restrict buffer, size_t size, size_t count, FILE *restrict file), buffer, size, count, file)
READS(size_t, __fread_chk, (void *buffer, size_t room, size_t size, size_t count, FILE *file), buffer, room, size, count, file)
READS(char *, fgets, (char *restrict line, int size, FILE *restrict file), line, size, file)
READS(char *, __fgets_chk, (char *line, size_t room, int size, FILE *file), line, room, size, file)
READS(int, fgetc, (FILE *file), file)
READS(int, getc, (FILE *file), file)
READS(ssize_t, getline, (char **restrict line, size_t *restrict room, FILE *restrict file), line, room, file)
READS(ssize_t, getdelim, (char **restrict line, size_t *restrict room, int delimiter, FILE *restrict file), line, room, delimiter, file)
READS(ssize_t, __getdelim, (char **line, size_t *room, int delimiter, FILE *file), line, room, delimiter, file)

WRITES(size_t, fwrite, (const void *restrict buffer, size_t size, size_t count, FILE *restrict file), buffer, size, count, file)
WRITES(size_t, fwrite_unlocked, (const void *restrict buffer, size_t size, size_t count, FILE *restrict file), buffer, size, count, file)
WRITES(int, fputs, (const char *restrict text, FILE *restrict file), text, file)
WRITES(int, fputc, (int byte, FILE *file), byte, file)
WRITES(int, putc, (int byte, FILE *file), byte, file)
WRITES(int, vfprintf, (FILE *restrict file, const char *restrict format, va_list arguments), file, format, arguments)
WRITES(int, __vfprintf_chk, (FILE *file, int flag, const char *format, va_list arguments), file, flag, format, arguments)

SEEKS(int, fseek, (FILE *file, long offset, int whence), file, offset, whence)
SEEKS(int, fseeko, (FILE *file, off_t offset, int whence), file, offset, whence)

EXPORT void rewind(FILE *file) {
    used(file, USE_SEEK, CALLER);
    REAL(rewind)(file);
}

EXPORT int puts(const char *text) {
    used(stdout, USE_WRITE, CALLER);
    return REAL(puts)(text);
}

EXPORT int putchar(int byte) {
    used(stdout, USE_WRITE, CALLER);
    return REAL(putchar)(byte);
}

#define FORMATTED(file, call) \
    va_list arguments; \
    va_start(arguments, format); \
    used(file, USE_WRITE, CALLER); \
    int result = call; \
    va_end(arguments); \
    return result;

EXPORT int fprintf(FILE *restrict file, const char *restrict format, ...) { FORMATTED(file, REAL(vfprintf)(file, format, arguments)) }
EXPORT int printf(const char *restrict format, ...) { FORMATTED(stdout, REAL(vfprintf)(stdout, format, arguments)) }
EXPORT int __fprintf_chk(FILE *file, int flag, const char *format, ...) { FORMATTED(file, REAL(__vfprintf_chk)(file, flag, format, arguments)) }
EXPORT int __printf_chk(int flag, const char *format, ...) { FORMATTED(stdout, REAL(__vfprintf_chk)(stdout, flag, format, arguments)) }

// Every stream, if NULL: most have nothing to write, and none is named.
EXPORT int fflush(FILE *file) {
    used(file, USE_WRITE, CALLER);
    return REAL(fflush)(file);
}

EXPORT int fclose(FILE *file) {
    if (audit_on && file) {
        int saved = errno, fd = fileno_unlocked(file);
        if (UNLIKELY(descriptor_shared(fd) != NULL)) descriptors_closed(fd, fd);
        errno = saved;
    }
    return REAL(fclose)(file);
}
