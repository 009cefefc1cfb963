// Inside the library: keeping and printing the report.

#ifndef FORKGUARD_REPORT_INTERNAL_H
#define FORKGUARD_REPORT_INTERNAL_H

#include "forkguard/report.h"

FORKGUARD_PRIVATE_BEGIN

/// Text in a buffer of fixed size, cut at its end. No allocation, no lock, no locale.
typedef struct text_buffer {
    char *text;
    size_t size, length;
} text_buffer;

void text_add(text_buffer *buffer, const char *string);
void text_add_number(text_buffer *buffer, uint64_t number);
void text_add_address(text_buffer *buffer, const void *address);
/// Which variable `address` lies in, "name in file", or of one without a name "in file"; nothing where neither is known. Waits while another thread loads a library.
void text_add_symbol(text_buffer *buffer, const void *address);
void text_add_signed(text_buffer *buffer, int64_t number);
/// Microseconds with the unit that fits: "12 us", "3.4 ms".
void text_add_duration(text_buffer *buffer, uint64_t nanoseconds);
/// Copies a string into a field, cut at its end; NULL is "".
void text_copy(char *field, size_t size, const char *string);
/// Writes all of it to standard error with write(2).
/// In the preload: whether standard error is still what one writes text to. A program that knows nothing of us may have closed it, and
/// opened something of its own there.
bool preload_may_write(void);

void text_write_error(const text_buffer *buffer);

/// One line to standard error: "ForkGuard: " and the parts, up to a NULL.
void report_say(const char *const *parts);

/// Whether the environment asks for a report of every fork. Once, at start.
void report_start(void);

/// The report that the forking thread writes. It has its turn, so nobody else does.
extern forkguard_report report_current;

/// Makes `report_current` the last report, and prints it if that was asked for and `print`.
void report_publish(bool print);

/// Whether every fork's report is printed.
bool report_is_printed(void);

/// Makes a report of a fork that took the short way the last one: nothing happened but the copy. `side` is enum forkguard_side.
void report_publish_short(uint32_t side, int32_t other_pid, uint64_t copy_nanoseconds, uint32_t breaches);

/// Forgets everything: a new fork.
void report_clear(void);

/// Goes on with the last report: more was done for that fork.
void report_resume(void);

/// Records a hook that ran.
void report_ran(const char *name, const char *phase, uint64_t nanoseconds);

/// Records a hook that failed or was slow.
void report_hook(const char *name, const char *phase, int32_t code, uint64_t nanoseconds);

/// Why something is torn, as the end of a sentence.
const char *report_mark_text(uint32_t mark);

/// The child's C phase: no other thread is publishing.
void report_child(void);

FORKGUARD_PRIVATE_END

#endif
