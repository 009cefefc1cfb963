#include "goodbye.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

static bool is_text(const unsigned char *bytes, size_t size, const char *text) {
    return size == strlen(text) && strncasecmp((const char *)bytes, text, size) == 0;
}

static bool is_bytes(const unsigned char *bytes, size_t size, const char *expected, size_t length) {
    return size == length && memcmp(bytes, expected, length) == 0;
}

const char *goodbye_name(const unsigned char *bytes, size_t size) {
    if (size == 0) return NULL;
    if (is_text(bytes, size, "*1\r\n$4\r\nQUIT\r\n")) return "RESP QUIT";
    // Redis, memcached, SMTP, FTP and POP3 say it alike.
    if (is_text(bytes, size, "QUIT\r\n") || is_text(bytes, size, "QUIT\n")) return "QUIT";
    if (is_bytes(bytes, size, "X\0\0\0\4", 5)) return "PostgreSQL Terminate";
    if (is_bytes(bytes, size, "\1\0\0\0\1", 5)) return "MySQL COM_QUIT";
    if (size >= 7 && bytes[0] == 21 && bytes[1] == 3 && bytes[2] <= 4 && (size_t)(bytes[3] << 8 | bytes[4]) + 5 == size) return "TLS alert (close_notify)";
    // TLS 1.3 hides the kind of a record; one as long as an alert is hardly ever anything else.
    if (size == 24 && memcmp(bytes, "\27\3\3\0\23", 5) == 0) return "TLS 1.3 alert (close_notify)";
    if (size >= 17 && bytes[3] == 7 && memcmp(bytes + 4, "\0\0\0\0\0", 5) == 0 && (size_t)(bytes[0] << 16 | bytes[1] << 8 | bytes[2]) + 9 == size)
        return "HTTP/2 GOAWAY";
    if (size >= 2 && bytes[0] == 0x88 && (bytes[1] & 0x7F) < 126 && (size_t)(bytes[1] & 0x7F) + (bytes[1] & 0x80 ? 6 : 2) == size) return "WebSocket close";
    if (size == 24 && bytes[0] == 0x80 && (bytes[1] == 7 || bytes[1] == 0x17)) return "memcached quit";
    return NULL;
}
