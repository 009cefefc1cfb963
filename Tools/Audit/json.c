#include "json.h"

// Kept free for the brackets that close what was opened.
#define RESERVE 64

void json_start(json *json, char *buffer, size_t size) {
    json->begin = json->at = buffer;
    json->end = buffer + size - RESERVE;
    json->full = json->comma = false;
}

static void put(json *json, char byte) {
    if (json->at < json->end) *json->at++ = byte;
    else json->full = true;
}

static void put_all(json *json, const char *text) {
    while (*text) put(json, *text++);
}

// How long the UTF-8 sequence at text is; 0 if it is none.
static size_t sequence(const unsigned char *text, size_t length) {
    size_t more = text[0] < 0x80 ? 0 : text[0] < 0xC2 ? 9 : text[0] < 0xE0 ? 1 : text[0] < 0xF0 ? 2 : text[0] < 0xF5 ? 3 : 9;
    if (more >= length) return 0;
    for (size_t i = 1; i <= more; i++) {
        if ((text[i] & 0xC0) != 0x80) return 0;
    }
    if ((text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xED && text[1] > 0x9F)) return 0;
    if ((text[0] == 0xF0 && text[1] < 0x90) || (text[0] == 0xF4 && text[1] > 0x8F)) return 0;
    return more + 1;
}

static void put_quoted(json *json, const char *text, size_t length) {
    static const char digits[] = "0123456789abcdef";
    const unsigned char *bytes = (const unsigned char *)text;
    put(json, '"');
    for (size_t i = 0; i < length;) {
        size_t size = sequence(bytes + i, length - i);
        if (size == 0) { // names of files and threads may be any bytes
            put_all(json, "\\ufffd");
            i++;
        } else if (size == 1 && (bytes[i] < 0x20 || bytes[i] == 0x7F)) {
            put_all(json, "\\u00");
            put(json, digits[bytes[i] >> 4]);
            put(json, digits[bytes[i] & 15]);
            i++;
        } else {
            if (bytes[i] == '"' || bytes[i] == '\\') put(json, '\\');
            while (size-- > 0) put(json, text[i++]);
        }
    }
    put(json, '"');
}

static size_t length_of(const char *text) {
    size_t length = 0;
    while (text[length]) length++;
    return length;
}

static void key(json *json, const char *key) {
    if (json->comma) put(json, ',');
    json->comma = true;
    if (!key) return;
    put_quoted(json, key, length_of(key));
    put(json, ':');
}

void json_open(json *json, const char *name, char bracket) {
    key(json, name);
    put(json, bracket);
    json->comma = false;
}

void json_close(json *json, char bracket) {
    if (json->at < json->end + RESERVE) *json->at++ = bracket;
    json->comma = true;
}

void json_bytes(json *json, const char *name, const char *text, size_t length) {
    key(json, name);
    put_quoted(json, text, length);
}

void json_text(json *json, const char *name, const char *text) { json_bytes(json, name, text, length_of(text)); }

void json_number(json *json, const char *name, int64_t number) {
    char digits[24];
    *text_number(digits, number) = 0;
    key(json, name);
    put_all(json, digits);
}

void json_flag(json *json, const char *name, bool flag) {
    key(json, name);
    put_all(json, flag ? "true" : "false");
}

void json_address(json *json, const char *name, uintptr_t address) {
    key(json, name);
    put_all(json, "\"0x");
    int shift = 60;
    while (shift > 0 && (address >> shift) == 0) shift -= 4;
    for (; shift >= 0; shift -= 4) put(json, "0123456789abcdef"[address >> shift & 15]);
    put(json, '"');
}

void json_stack(json *json, const char *name, void *const *frames, int count) {
    json_open(json, name, '[');
    for (int i = 0; i < count; i++) json_address(json, NULL, (uintptr_t)frames[i]);
    json_close(json, ']');
}

json_place json_mark(const json *json) { return (json_place){json->at, json->comma}; }

void json_rewind(json *json, json_place place) {
    json->at = place.at;
    json->comma = place.comma;
    json->full = false;
}

char *text_copy(char *at, const char *text) {
    while (*text) *at++ = *text++;
    *at = 0;
    return at;
}

char *text_number(char *at, int64_t number) {
    char digits[20];
    int count = 0;
    uint64_t rest = number < 0 ? -(uint64_t)number : (uint64_t)number;
    do digits[count++] = (char)('0' + rest % 10);
    while ((rest /= 10) != 0);
    if (number < 0) *at++ = '-';
    while (count > 0) *at++ = digits[--count];
    *at = 0;
    return at;
}
