// Operation queues that a child inherited.
//
// An OperationQueue counts the operations that it has handed out to libdispatch, and hands out no more than so many. What the parent's queue had handed out does not come back in a child: an
// operation that is added there may wait for ever. So the child looks whether there are any, when it adds the first one of its own to a queue. A queue that had none works.
//
// Foundation asks itself nothing of anybody when an operation is added, but it makes a DispatchWorkItem for it, of a block that runs a closure over the queue and the operation
// (swift-corelibs-foundation, Sources/Foundation/Operation.swift, _addOperations). The operation is not in the queue yet then.

#include "operations.h"

#include <dlfcn.h>
#include <stdint.h>

#include "ForkGuardRuntime.h"
#include "forkguard.h"
#include "pointers.h"
#include "queues.h"

#if __has_attribute(swiftcall)

#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context))

static word queue_type;
static SWIFT word (*operation_count)(SELF void *queue);

// Queues to which the child came.
static pointers looked_at = POINTERS_INITIALIZER("ForkGuardRuntime's operation queues");

// What is read here is not ours to know: it may not be what it is taken for.
static word read_word(word address) {
    word found;
    return address && forkguard_read_memory(&found, (const void *)address, sizeof found) ? found : 0;
}

// Or of a class that inherits from it: a class is followed by the one that it inherits from.
static bool is_operation_queue(word object) {
    word type = read_word(object);
    for (unsigned depth = 0; type && type != queue_type && depth < 8; depth++) type = read_word(type + sizeof(word));
    return type && type == queue_type;
}

static void come_to(void *queue) {
    if (pointers_contain(&looked_at, queue)) return;
    if (operation_count(queue) > 0 && !pointers_contain(&looked_at, queue))
        forkguard_trap_misuse(
            NULL, "an operation was added in a child to an OperationQueue that had operations of the parent at the fork, which will not end here",
            "make an OperationQueue of the child's own, or have nothing going on in it when the process forks (ForkSafe's prepare)"
        );
    pointers_insert(&looked_at, queue);
}

// A block that was made of a Swift closure has its function and its context behind the block's own five words, the last of which is two halves less; the context has what the closure is over behind two words.
#define BLOCK_CONTEXT 40
#define CONTEXT_FIRST 16

static SWIFT word (*real_work_item)(word, word, word, word, SELF void *);

static SWIFT word gated_work_item(word quality, word priority, word flags, word block, SELF void *item) {
    if (queues_in_child() && queue_type) {
        word context = read_word(block + BLOCK_CONTEXT);
        for (unsigned i = 0; context && i < 2; i++) {
            word over = read_word(context + CONTEXT_FIRST + i * sizeof(word));
            if (is_operation_queue(over)) come_to((void *)over);
        }
    }
    return real_work_item(quality, priority, flags, block, item);
}

void operations_found(void) {
    if (queue_type) return;
    void *foundation = dlopen(FROM_FOUNDATION, RTLD_LAZY | RTLD_NOLOAD);
    if (!foundation) return;
    *(void **)&operation_count = dlsym(foundation, "$s10Foundation14OperationQueueC14operationCountSivg");
    if (operation_count) queue_type = (word)dlsym(foundation, "$s10Foundation14OperationQueueCN");
}

void operations_become_child(void) {
    pointers_forget(&looked_at);
}

const import operation_imports[] = {
    {"$s8Dispatch0A8WorkItemC3qos5flags5blockAcA0A3QoSV_AA0abC5FlagsVyyXBtcfc", FROM_SWIFT_DISPATCH, (void *)gated_work_item, (void **)&real_work_item,
        FORKGUARD_RUNTIME_CONCURRENCY, 0, true},
};
const size_t operation_imports_count = sizeof operation_imports / sizeof *operation_imports;

#else

void operations_found(void) {}
void operations_become_child(void) {}
const import operation_imports[1];
const size_t operation_imports_count = 0;

#endif
