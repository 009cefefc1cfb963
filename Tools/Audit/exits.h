#ifndef AUDIT_EXITS_H
#define AUDIT_EXITS_H

// How a process ends or becomes another program, and which exit handlers its children inherit.

void exits_start(void);
void exits_take_over(void);

#endif
