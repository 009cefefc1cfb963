// The stack of a thread from a copy of its registers and its memory: libdw, which reads how to unwind from the objects' files.

#include "objects.h"

#include <string.h>
#include <sys/uio.h>

// libdw keeps one argument for a Dwfl's life; the command has one thread, and the objects are those of many processes.
static struct {
    pid_t process;
    const struct inspect_thread *thread;
} current;

static pid_t next_thread(Dwfl *dwfl, void *argument, void **thread_argument) {
    (void)dwfl, (void)argument;
    if (*thread_argument) return 0;
    *thread_argument = &current;
    return current.thread->id;
}

static bool get_thread(Dwfl *dwfl, pid_t id, void *argument, void **thread_argument) {
    (void)dwfl, (void)argument;
    *thread_argument = &current;
    return id == current.thread->id;
}

static bool read_memory(Dwfl *dwfl, Dwarf_Addr address, Dwarf_Word *result, void *argument) {
    (void)dwfl, (void)argument;
    const uint64_t start = current.thread->registers[7];
    if (address >= start && address - start + sizeof *result <= current.thread->stack_size) {
        memcpy(result, current.thread->stack + (address - start), sizeof *result);
        return true;
    }
    struct iovec local = {result, sizeof *result}, remote = {(void *)(uintptr_t)address, sizeof *result};
    return process_vm_readv(current.process, &local, 1, &remote, 1, 0) == (ssize_t)sizeof *result;
}

static bool set_registers(Dwfl_Thread *thread, void *argument) {
    (void)argument;
    return dwfl_thread_state_registers(thread, 0, 17, current.thread->registers);
}

static const Dwfl_Thread_Callbacks callbacks = {
    .next_thread = next_thread,
    .get_thread = get_thread,
    .memory_read = read_memory,
    .set_initial_registers = set_registers,
};

struct walk {
    uint64_t *addresses;
    size_t count, limit;
};

static int visit(Dwfl_Frame *frame, void *argument) {
    struct walk *walk = argument;
    Dwarf_Addr address;
    bool activation;
    if (walk->count == walk->limit || !dwfl_frame_pc(frame, &address, &activation) || address == 0) return DWARF_CB_ABORT;
    walk->addresses[walk->count++] = address - (activation ? 0 : 1);
    return DWARF_CB_OK;
}

size_t inspect_threads_unwind(inspect_objects *objects, pid_t process, const struct inspect_thread *thread, uint64_t *addresses, size_t count) {
    if (thread->outcome != INSPECT_COPIED) return 0;
    current.process = process;
    current.thread = thread;
    if (!objects->attached) {
        if (!dwfl_attach_state(objects->dwfl, NULL, process, &callbacks, NULL)) return 0;
        objects->attached = true;
    }
    struct walk walk = {addresses, 0, count};
    dwfl_getthread_frames(objects->dwfl, thread->id, visit, &walk); // an error ends the stack where it is
    return walk.count;
}
