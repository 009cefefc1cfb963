#ifndef AUDIT_MUTEXES_H
#define AUDIT_MUTEXES_H

// Which thread holds which mutex and read-write lock, and since where; and who waits in a child for one whose holder is not there.

// In a child: says what the vanished threads held.
void mutexes_take_over(void);

#endif
