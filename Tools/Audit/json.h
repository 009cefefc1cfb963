#ifndef AUDIT_JSON_H
#define AUDIT_JSON_H

// A writer of one JSON object into a buffer that never grows. Async-signal-safe. What does not fit is left out by the caller: json_mark, json_rewind.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct json {
    char *begin, *at, *end;
    bool full, comma;
} json;

typedef struct json_place {
    char *at;
    bool comma;
} json_place;

void json_start(json *json, char *buffer, size_t size);
// A key is NULL in an array, and for the outermost object.
void json_open(json *json, const char *key, char bracket);
void json_close(json *json, char bracket);
void json_text(json *json, const char *key, const char *text);
void json_bytes(json *json, const char *key, const char *text, size_t length);
void json_number(json *json, const char *key, int64_t number);
void json_flag(json *json, const char *key, bool flag);
void json_address(json *json, const char *key, uintptr_t address);
void json_stack(json *json, const char *key, void *const *frames, int count);

json_place json_mark(const json *json);
void json_rewind(json *json, json_place place);

// Text without JSON around it: for names made of numbers.
char *text_number(char *at, int64_t number);
char *text_copy(char *at, const char *text);

#endif
